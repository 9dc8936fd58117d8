//! The connections that queues share.
//!
//! Each lane is one multiplexed connection: commands of all callers are written together as they come,
//! so a busy server needs few system calls and no pool. A lane dials again by itself after a failure;
//! a watcher asks it twice a second whether it still lives, so that a store that came back is found
//! before the next caller needs it.

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use thali_client::StoreAddress;

use super::error::QueueError;

/// How long a command may take before its caller gives up.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long dialling may take.
pub const DIAL_WAIT_MAX: Duration = Duration::from_secs(1);
/// Dials in a row before the commands that wait for them fail; the next command starts over.
const DIALS_MAX: usize = 3;
const DIAL_PAUSE_MIN: Duration = Duration::from_millis(20);
const DIAL_PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often the watcher looks after the lanes.
const WATCH_PERIOD: Duration = Duration::from_millis(500);
/// More lanes than this serve nobody.
pub const LANES_MAX: usize = 64;

/// The store as queues see it.
#[derive(Clone)]
pub(crate) struct Store {
    lanes: Arc<Lanes>,
}

struct Lanes {
    connections: Box<[ConnectionManager]>,
    next: AtomicUsize,
    up: AtomicBool,
}

impl Store {
    /// Prepares the lanes; nothing is dialled before the first command. Needs a tokio runtime.
    pub(crate) fn open(address: &StoreAddress, lanes: usize) -> Result<Self, QueueError> {
        let settings = TcpSettings::default().set_nodelay(true);
        let info = address.client().get_connection_info().clone().set_tcp_settings(settings);
        let client = redis::Client::open(info)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(DIALS_MAX)
            .set_min_delay(DIAL_PAUSE_MIN)
            .set_max_delay(DIAL_PAUSE_MAX)
            .set_connection_timeout(Some(DIAL_WAIT_MAX))
            .set_response_timeout(Some(ANSWER_WAIT_MAX));
        let connections = (0..lanes.clamp(1, LANES_MAX))
            .map(|_| ConnectionManager::new_lazy_with_config(client.clone(), config.clone()))
            .collect::<Result<_, _>>()?;
        let lanes = Arc::new(Lanes { connections, next: AtomicUsize::new(0), up: AtomicBool::new(false) });
        tokio::spawn(watch(Arc::downgrade(&lanes)));
        Ok(Self { lanes })
    }

    /// A lane, in turn.
    pub(crate) fn lane(&self) -> ConnectionManager {
        let lanes = &self.lanes.connections;
        let turn = if lanes.len() == 1 { 0 } else { self.lanes.next.fetch_add(1, Ordering::Relaxed) };
        lanes[turn % lanes.len()].clone()
    }

    /// Whether the store answered when the watcher last asked.
    pub(crate) fn is_up(&self) -> bool {
        self.lanes.up.load(Ordering::Relaxed)
    }
}

async fn watch(lanes: Weak<Lanes>) {
    let mut ticks = tokio::time::interval(WATCH_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(lanes) = lanes.upgrade() else { return };
        let mut all_up = true;
        for connection in &lanes.connections {
            let answer = redis::cmd("PING").query_async::<redis::Value>(&mut connection.clone()).await;
            all_up &= answer.is_ok();
        }
        if lanes.up.swap(all_up, Ordering::Relaxed) != all_up {
            if all_up {
                tracing::info!("the store answers");
            } else {
                tracing::warn!("the store does not answer; dialling on");
            }
        }
    }
}
