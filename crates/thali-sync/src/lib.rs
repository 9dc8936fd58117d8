//! What the store's threads wait for: locks and mailboxes.
//!
//! With the feature `shuttle` the same words stand for Shuttle's types, whose threads are run in one order after
//! another by a scheduler. So the protocols that are built from them are tried in orders that no machine would
//! show: `tests/` here for mailboxes, those of `thali-keyspace` for its locks. Without it they are parking_lot's and the
//! standard library's, and cost nothing more.
//!
//! Shuttle's atomics know one order only, the sequential one: what is too weak an `Ordering` it does not find.

mod attendance;
mod mailbox;
#[cfg(feature = "shuttle")]
mod modelled;

pub use attendance::Attendance;
pub use mailbox::{Mailbox, Wake};
#[cfg(feature = "shuttle")]
pub use modelled::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(feature = "shuttle"))]
pub use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
