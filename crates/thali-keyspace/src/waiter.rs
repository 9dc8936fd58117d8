//! Parked commands: who waits for which keys.
//!
//! A waiter stands in the queue of each of its keys, possibly in several shards. Whoever changes a
//! key serves its waiters while it still holds the key's shard, by running their request again.
//!
//! Lock order: shard, then waiter. The holder of a waiter's lock never waits for a shard (it tries),
//! so a second server may wait for a waiter while it holds shards.

use std::any::Any;
use std::sync::Arc;

use thali_sync::Mutex;

/// Where a session lives: its event loop and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionAddress {
    pub event_loop: u16,
    /// Never used twice in one loop.
    pub session: u64,
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    List,
    SortedSet,
    Stream,
    /// XREADGROUP: also woken when the key goes or changes its type, to reply the error.
    StreamGroup,
}

impl WaitKind {
    /// Whether a key of this type (as TYPE names it; `None` = no key) is worth another try.
    pub fn accepts(self, type_name: Option<&str>) -> bool {
        match self {
            Self::List => type_name == Some("list"),
            Self::SortedSet => type_name == Some("zset"),
            Self::Stream => type_name == Some("stream"),
            Self::StreamGroup => true,
        }
    }
}

/// Whether a waiter still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaiterState {
    Waiting,
    /// Served, timed out, unblocked or disconnected: whoever finds it in a queue drops it.
    Done,
}

/// One parked command.
#[derive(Debug)]
pub struct Waiter {
    pub address: SessionAddress,
    /// Whose rights the request has: something of the server's, which knows what.
    pub owner: Arc<dyn Any + Send + Sync>,
    pub db: u32,
    pub kind: WaitKind,
    pub keys: Vec<Box<[u8]>>,
    /// The request to run again, its name first.
    pub request: Vec<Vec<u8>>,
    /// Whether the client speaks RESP3.
    pub resp3: bool,
    /// Whether it gives up at some time.
    pub is_timed: bool,
    pub state: Mutex<WaiterState>,
}

impl Waiter {
    /// Marks the waiter as done; false where somebody else did before.
    pub fn finish(&self) -> bool {
        let mut state = self.state.lock();
        std::mem::replace(&mut *state, WaiterState::Done) == WaiterState::Waiting
    }
}
