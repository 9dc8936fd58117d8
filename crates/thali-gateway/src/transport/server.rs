//! The sessions of one node.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::wheel::Wheel;
use super::{Clock, Link, Origins};
use crate::codes::CloseCode;
use crate::engine::{Event, Frame, Packet, Session, Timings, TransportKind};

/// Locks among which sessions are spread.
const SHARDS: usize = 64;
/// How long the end of a polling session waits for the client to come and hear it.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);
/// Sessions that are told to leave in one go when the node goes down.
const DRAIN_BATCH: usize = 256;

/// What the transports need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Heartbeat and first join.
    pub timings: Timings,
    /// Largest message or body, in bytes.
    pub payload_bytes_max: usize,
    /// Bytes that may wait for one client.
    pub queue_bytes_max: usize,
    /// Sessions at one time.
    pub sessions_max: usize,
    /// Web pages that may connect.
    pub origins: Origins,
}

/// What is known of a client when its session opens.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The client's address, if the listener tells.
    pub address: String,
    /// Milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// The layer above.
///
/// The server owes: `open` before anything else of a session, messages in order and never two at a
/// time for one session, `closed` exactly once and last. The handler owes: not to wait, for it runs
/// on the transport's task.
pub trait Handler: Send + Sync + 'static {
    /// What the handler keeps for each session.
    type Peer: Send + Sync + 'static;

    /// A session opens.
    fn open(&self, link: &Arc<Link>, handshake: Handshake) -> Self::Peer;
    /// A text message; an error ends the session.
    fn text(&self, peer: &Self::Peer, text: &str) -> Result<(), CloseCode>;
    /// A binary message; an error ends the session.
    fn binary(&self, peer: &Self::Peer, data: Bytes) -> Result<(), CloseCode>;
    /// The session is over.
    fn closed(&self, peer: &Self::Peer, code: CloseCode);
    /// What to say before a close that asks the client not to come back.
    fn farewell(&self) -> Option<Frame> {
        None
    }
}

/// A session and what the layer above keeps for it.
pub(super) struct Connection<P> {
    pub(super) link: Arc<Link>,
    pub(super) peer: P,
}

type Shard<P> = Mutex<HashMap<String, Arc<Connection<P>>, foldhash::fast::RandomState>>;

/// Sessions by id, their clock and their handler.
pub struct Server<H: Handler> {
    pub(super) settings: Settings,
    pub(super) handler: Arc<H>,
    clock: Clock,
    wheel: Arc<Wheel>,
    wheel_task: tokio::task::AbortHandle,
    hasher: foldhash::fast::RandomState,
    shards: Vec<Shard<H::Peer>>,
    sessions: AtomicUsize,
    slow_consumers: AtomicU64,
    stopping: AtomicBool,
    reaper: mpsc::UnboundedSender<String>,
}

impl<H: Handler> Server<H> {
    /// Starts the wheel and the reaper; both end with the runtime or the server.
    pub fn start(settings: Settings, clock: Clock, handler: Arc<H>) -> Arc<Self> {
        let shortest = settings.timings.ping_interval_ms.min(settings.timings.ping_timeout_ms);
        let wheel = Arc::new(Wheel::new(clock, shortest));
        let wheel_task = tokio::spawn(wheel.clone().run()).abort_handle();
        let (reaper, mut dead) = mpsc::unbounded_channel::<String>();
        let hasher = foldhash::fast::RandomState::default();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        let server = Arc::new(Self {
            settings,
            handler,
            clock,
            wheel,
            wheel_task,
            hasher,
            shards,
            sessions: AtomicUsize::new(0),
            slow_consumers: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            reaper,
        });
        let weak = Arc::downgrade(&server);
        tokio::spawn(async move {
            while let Some(id) = dead.recv().await {
                let Some(server) = weak.upgrade() else { return };
                server.reap(&id);
            }
        });
        server
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Sessions that were closed because they did not read, since the start.
    pub fn slow_consumers(&self) -> u64 {
        self.slow_consumers.load(Ordering::Relaxed)
    }

    /// Ends every session with `shutdown`, spread over `spread` so that the clients do not come back
    /// in one herd, and accepts no more.
    pub async fn drain(&self, spread: Duration) {
        self.stopping.store(true, Ordering::Release);
        let links: Vec<Arc<Link>> = self
            .shards
            .iter()
            .flat_map(|shard| shard.lock().values().map(|one| one.link.clone()).collect::<Vec<_>>())
            .collect();
        let batches = u32::try_from(links.len().div_ceil(DRAIN_BATCH).max(1)).unwrap_or(u32::MAX);
        for batch in links.chunks(DRAIN_BATCH) {
            for link in batch {
                link.close(CloseCode::SHUTDOWN);
            }
            tokio::time::sleep(spread / batches).await;
        }
    }

    pub(super) fn full(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.sessions() >= self.settings.sessions_max
    }

    /// Opens a session whose handshake is the first frame in its queue.
    pub(super) fn open(&self, transport: TransportKind, handshake: Handshake) -> Arc<Connection<H::Peer>> {
        let Settings { timings, queue_bytes_max, payload_bytes_max, .. } = self.settings;
        // The id is a bearer secret of polling sessions: 122 bits from the system's generator.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let now_ms = self.clock.now_ms();
        let session = Session::open(transport, timings, now_ms);
        let upgrade = transport == TransportKind::Polling;
        let greeting = crate::engine::open_packet(&id, upgrade, &timings, payload_bytes_max);
        let link = Arc::new(Link::new(
            id.clone(),
            session,
            queue_bytes_max,
            self.wheel.clone(),
            self.reaper.clone(),
        ));
        link.send_frame(greeting);
        let peer = self.handler.open(&link, handshake);
        let connection = Arc::new(Connection { link, peer });
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.shard(&id).lock().insert(id, connection.clone());
        if let Some(next_ms) = connection.link.expire(now_ms) {
            self.wheel.insert(&connection.link, next_ms);
        }
        connection
    }

    /// A session that is still alive at this instant.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Connection<H::Peer>>> {
        let connection = self.shard(id).lock().get(id).cloned()?;
        // The wheel may be a tick behind; whoever asks now gets the answer of now.
        connection.link.expire(self.clock.now_ms())?;
        Some(connection)
    }

    /// Passes a packet through the state machine and up.
    pub(super) fn receive(
        &self,
        connection: &Connection<H::Peer>,
        packet: Packet<'_>,
    ) -> Result<(), CloseCode> {
        match connection.link.receive(packet, self.clock.now_ms())? {
            Event::None => Ok(()),
            Event::Message(text) => self.handler.text(&connection.peer, text),
            Event::Binary(data) => self.handler.binary(&connection.peer, data),
        }
    }

    /// A session that has ended and whose client may hear so, once.
    pub(super) fn find_ended(&self, id: &str) -> Option<Arc<Connection<H::Peer>>> {
        let connection = self.shard(id).lock().get(id).cloned()?;
        connection.link.take_last_words().then_some(connection)
    }

    fn reap(self: &Arc<Self>, id: &str) {
        let Some(connection) = self.shard(id).lock().get(id).cloned() else { return };
        if connection.link.has_last_words() {
            let (server, id) = (Arc::downgrade(self), id.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(LAST_WORDS_WITHIN).await;
                if let Some(server) = server.upgrade() {
                    server.shard(&id).lock().remove(&id);
                }
            });
        } else {
            self.shard(id).lock().remove(id);
        }
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        let code = connection.link.closed().unwrap_or(CloseCode::TRANSPORT_CLOSED);
        if code == CloseCode::SLOW_CONSUMER {
            self.slow_consumers.fetch_add(1, Ordering::Relaxed);
        }
        self.handler.closed(&connection.peer, code);
    }

    fn shard(&self, id: &str) -> &Shard<H::Peer> {
        let hash = usize::try_from(self.hasher.hash_one(id) >> 8).unwrap_or(0);
        &self.shards[hash % SHARDS]
    }
}

impl<H: Handler> Drop for Server<H> {
    fn drop(&mut self) {
        self.wheel_task.abort();
    }
}

impl<H: Handler> std::fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}
