//! One gateway node, put together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use thali_client::{PubSub, ReachError, StoreAddress};
use tokio::task::JoinHandle;

use crate::auth::{AuthError, Authority};
use crate::bus::{Bus, Pipe, Requests, SocketControl};
use crate::codes::{ErrorCode, RequestError};
use crate::config::Config;
use crate::hub::{Interest, Namespace, Recovery};
use crate::jobs::{JobFeed, read_events};
use crate::peer::Peers;
use crate::presence::{Presence, Registry};
use crate::transport::{Clock, Server, router};
use crate::vocabulary::Vocabulary;

/// Characters of a node's id, as Node's adapter has them.
const UID_LEN: usize = 6;

/// How often sessions are looked at whose clients are away.
const FORGET_EVERY: Duration = Duration::from_millis(500);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The authentication settings cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The store does not answer.
    #[error(transparent)]
    Unreachable(#[from] ReachError),
    /// It answered once and then no more.
    #[error("the gateway lost the store at {url} while it started ({error}); try again")]
    Store {
        /// The address, without its password.
        url: String,
        /// What the client says.
        error: redis::RedisError,
    },
    /// A namespace's name is not one.
    #[error("'{0}' is no namespace; its name begins with / and contains no comma or #")]
    Namespace(String),
}

/// A gateway node. Dropping it stops its tasks; [`Gateway::shutdown`] does so politely.
pub struct Gateway {
    config: Config,
    app: Arc<Vocabulary>,
    peers: Arc<Peers<Vocabulary>>,
    server: Arc<Server<Peers<Vocabulary>>>,
    namespaces: Vec<Arc<Namespace>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Figures of one moment; counters count since the start.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stats {
    /// Sessions, by polling or WebSocket.
    pub connections: usize,
    /// Clients that dropped off and may come back to their session.
    pub away: usize,
    /// Rooms with members on this node.
    pub rooms: usize,
    /// Packets that clients sent.
    pub packets_in: u64,
    /// Messages pushed to sockets of rooms.
    pub messages_out: u64,
    /// Events published by clients and the API of this node.
    pub published: u64,
    /// Sessions closed because they did not read.
    pub slow_consumers: u64,
    /// Queues whose events this node reads.
    pub queues_watched: usize,
    /// Whether messages of other nodes arrive now.
    pub bus_up: bool,
    /// How often messages of other nodes may have been missed.
    pub bus_gaps: u64,
    /// Messages heard from elsewhere.
    pub bus_heard: u64,
    /// Messages from elsewhere that could not be read.
    pub bus_unreadable: u64,
}

impl Gateway {
    /// Connects to the store and starts the node's tasks.
    pub async fn start(config: Config, store: StoreAddress) -> Result<Self, StartError> {
        let authority = Authority::new(&config.auth)?;
        let broken = |name: &&String| !name.starts_with('/') || name.contains([',', '#']);
        if let Some(name) = config.namespaces.iter().find(broken) {
            return Err(StartError::Namespace(name.clone()));
        }
        store.reach().await?;
        let lost = |error| StartError::Store { url: store.shown(), error };
        let connection = store.connect().await.map_err(lost)?;
        let pipe = Pipe::start(connection.clone());
        let (pubsub, events) = PubSub::open(store.clone());
        let uid = new_uid();
        let bus = Arc::new(Bus::new(uid.clone(), pipe.clone(), pubsub));
        let interest: Arc<dyn Interest> = bus.clone();
        let clock = Clock::start();
        let namespaces: Vec<Arc<Namespace>> = config
            .namespaces
            .iter()
            .map(|name| {
                let recovery = config.window().map(|window| Recovery::new(window, uid.clone(), clock));
                Arc::new(Namespace::new(name, interest.clone(), recovery))
            })
            .collect();
        let jobs = Arc::new(JobFeed::new(config.job_prefix.clone(), connection));
        let presence = Registry::new(uid.clone(), pipe.clone());
        let app = Arc::new(Vocabulary {
            authority,
            bus: bus.clone(),
            jobs: jobs.clone(),
            presence: presence.clone(),
            clock,
            peers: OnceLock::new(),
            published: AtomicU64::new(0),
        });
        let settings = config.transport();
        let peers = Arc::new(Peers::new(app.clone(), namespaces.clone(), uid, settings.payload_bytes_max));
        let _ = app.peers.set(Arc::downgrade(&peers));
        let server = Server::start(settings, clock, peers.clone());
        if let Err(error) = presence.sign_of_life().await {
            tracing::warn!(%error, "this node's sign of life did not reach the store");
        }
        let control: Weak<dyn SocketControl> = {
            let control: Arc<dyn SocketControl> = app.clone();
            Arc::downgrade(&control)
        };
        let requests = Requests::new(pipe, control);
        let tasks = vec![
            tokio::spawn(bus.listen(events, namespaces.clone(), requests)),
            tokio::spawn(presence.run(namespaces.clone())),
            tokio::spawn(read_events(jobs, store)),
            tokio::spawn(forget_sessions(namespaces.clone())),
        ];
        Ok(Self { config, app, peers, server, namespaces, tasks: Mutex::new(tasks) })
    }

    /// The HTTP face, to be merged into a server's router.
    ///
    /// The listener must set TCP_NODELAY (axum's `ListenerExt::tap_io` does it): otherwise an answer
    /// that follows another waits up to 40 ms for the client's delayed acknowledgement.
    pub fn router(&self) -> axum::Router {
        router(self.server.clone(), &self.config.path)
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sends an event to a room of `/` on every node. Returns when the store has it.
    pub async fn publish(&self, room: &str, event: &str, data: &RawValue) -> Result<(), RequestError> {
        self.app.publish(self.root()?, room, event, data.get(), Vec::new())?.await
    }

    /// Who is in a room of `/`, over all nodes.
    pub async fn presence(&self, room: &str) -> Result<Presence, RequestError> {
        Ok(self.app.presence.members(self.root()?.name(), room).await?)
    }

    fn root(&self) -> Result<&Arc<Namespace>, RequestError> {
        let missing = || RequestError::new(ErrorCode::BAD_REQUEST, "this gateway has no namespace /");
        self.namespaces.iter().find(|one| one.name() == "/").ok_or_else(missing)
    }

    /// The node's figures now.
    pub fn stats(&self) -> Stats {
        let bus = self.app.bus.state();
        Stats {
            connections: self.server.sessions(),
            away: self.namespaces.iter().filter_map(|one| one.recovery()).map(|memory| memory.away()).sum(),
            rooms: self.namespaces.iter().map(|one| one.room_count()).sum(),
            packets_in: self.peers.received(),
            messages_out: self.namespaces.iter().map(|one| one.delivered()).sum::<u64>()
                + self.app.jobs.sent(),
            published: self.app.published.load(Ordering::Relaxed),
            slow_consumers: self.server.slow_consumers(),
            queues_watched: self.app.jobs.watched(),
            bus_up: bus.up,
            bus_gaps: bus.gaps,
            bus_heard: bus.heard,
            bus_unreadable: bus.unreadable,
        }
    }

    /// Sends every client away to come back elsewhere, then stops.
    pub async fn shutdown(&self) {
        self.server.drain(self.config.drain).await;
        self.app.presence.farewell().await;
        self.stop();
    }

    fn stop(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Lets sessions go whose clients did not come back in time.
async fn forget_sessions(namespaces: Vec<Arc<Namespace>>) {
    let mut ticks = tokio::time::interval(FORGET_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for namespace in &namespaces {
            if let Some(recovery) = namespace.recovery() {
                namespace.let_go(&recovery.expire());
            }
        }
    }
}

/// Letters and digits alone: it is part of a pattern.
fn new_uid() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..UID_LEN].to_owned()
}
