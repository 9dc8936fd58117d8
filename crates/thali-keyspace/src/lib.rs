//! The keyspace: slots folded into shards, each behind its lock; expiry, watches, waiters and readers.
//!
//! A command locks the shards of its keys through [`Locked`], works in place and lets go. Nothing
//! here does I/O, reads a clock or knows a command. [`locks`] states the lock protocol.

pub mod access;
pub mod eviction;
mod field_times;
pub mod glob;
pub mod locks;
pub mod shard;
pub mod slot;
pub mod snapshot;
mod stored;
pub mod tracking;
mod value;
mod waiter;

pub use access::{Access, AccessNote, Lfu, Uses};
pub use eviction::{By, Candidate, Pool, Preference};
pub use field_times::HashMut;
pub use locks::{ENDLESS, Extend, Hold, Keyspace, Locked, Patience, ScriptToken};
pub use shard::{Db, Shard, WatchFlag, touch};
pub use snapshot::{Part, Saver, SnapshotSink, Walked};
pub use tracking::{Forgotten, Modes, Readers, Tracker, Tracking};
pub use value::{Entry, Plain, Typed, Value};
pub use waiter::{SessionAddress, WaitKind, Waiter, WaiterState};
