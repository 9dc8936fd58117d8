//! Which queues there are.
//!
//! BullMQ keeps no list; a queue is known by its `meta` key. Finding these keys means scanning the whole
//! key space, so the scan goes on over many calls, a bounded piece at a time, and remembers what it saw:
//! a queue is listed as soon as the scan has met it or this program has added a job to it, and leaves
//! the list when its `meta` key is gone.

use parking_lot::Mutex;
use redis::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::error::QueueError;
use super::{QueueHandle, Queues};

/// Most queues that are listed.
pub const QUEUES_MAX: usize = 10_000;
/// Keys that the store looks at in one SCAN; it answers others between two of them.
const SCAN_KEYS: usize = 1_000;
/// SCANs of one call: at most half a million keys.
const SCANS_A_CALL_MAX: usize = 500;
/// Within this time a list is not made anew.
const FRESH: Duration = Duration::from_secs(2);

/// The queues that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueNames {
    /// In order, without doubles.
    pub names: Vec<String>,
    /// Whether the scan has seen all keys since this program started and no queue had to be left out.
    pub complete: bool,
}

pub(crate) struct Directory {
    pattern: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: BTreeSet<String>,
    cursor: u64,
    seen_all: bool,
    overfull: bool,
    scanned_at: Option<Instant>,
}

impl Directory {
    pub(crate) fn new(prefix: &str) -> Self {
        let mut pattern = String::with_capacity(prefix.len() + 8);
        for character in prefix.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push_str(":*:meta");
        Self { pattern, state: Mutex::default() }
    }
}

impl State {
    fn insert(&mut self, name: &str) {
        if self.names.contains(name) {
            return;
        }
        if self.names.len() < QUEUES_MAX {
            self.names.insert(name.to_owned());
        } else {
            self.overfull = true;
        }
    }

    fn list(&self) -> QueueNames {
        QueueNames { names: self.names.iter().cloned().collect(), complete: self.seen_all && !self.overfull }
    }
}

impl Queues {
    /// The queues of this store and prefix.
    pub async fn names(&self) -> Result<QueueNames, QueueError> {
        let directory = &self.shared.directory;
        let mut cursor = {
            let state = directory.state.lock();
            if state.scanned_at.is_some_and(|at| at.elapsed() < FRESH) {
                return Ok(state.list());
            }
            state.cursor
        };
        let mut lane = self.store().lane();
        let mut ended = false;
        let head = self.prefix().len() + 1;
        for _ in 0..SCANS_A_CALL_MAX {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&directory.pattern).arg("COUNT").arg(SCAN_KEYS);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut lane).await?;
            let mut state = directory.state.lock();
            for key in keys {
                let name =
                    std::str::from_utf8(&key).ok().and_then(|key| key.get(head..)?.strip_suffix(":meta"));
                // `prefix:queue:x:meta` is a key of a job whose id ends so.
                if let Some(name) = name.filter(|name| super::check_queue_name(name).is_ok()) {
                    state.insert(name);
                }
            }
            cursor = next;
            if cursor == 0 {
                ended = true;
                break;
            }
        }
        self.forget_gone(&mut lane).await?;
        let mut state = directory.state.lock();
        state.cursor = cursor;
        state.seen_all |= ended;
        state.scanned_at = Some(Instant::now());
        Ok(state.list())
    }

    /// Notes a queue that certainly exists.
    pub(super) fn know(&self, queue: &str, handle: &QueueHandle) {
        if !handle.known.swap(true, std::sync::atomic::Ordering::Relaxed) {
            self.shared.directory.state.lock().insert(queue);
        }
    }

    async fn forget_gone(&self, lane: &mut redis::aio::ConnectionManager) -> Result<(), QueueError> {
        let names: Vec<String> = self.shared.directory.state.lock().names.iter().cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::Pipeline::with_capacity(names.len());
        for name in &names {
            pipe.exists([self.prefix(), ":", name, ":meta"].concat());
        }
        let exist: Vec<Value> = pipe.query_async(lane).await?;
        let mut state = self.shared.directory.state.lock();
        for (name, exists) in names.iter().zip(exist) {
            if exists == Value::Int(0) {
                state.names.remove(name);
                state.overfull = false;
                if let Ok(handle) = self.handle(name) {
                    handle.known.store(false, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}
