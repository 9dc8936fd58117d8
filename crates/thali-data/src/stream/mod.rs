//! Streams: a log of entries with growing IDs ([`log`]), read by consumer groups ([`group`]).
//!
//! The two halves are fields of their own, so that a reader may borrow the log while it moves a group on.
//! Time comes from the caller. Refuses: waiting, argument parsing beyond IDs, replies.

pub mod group;
pub mod id;
pub mod log;
mod node;

pub use group::{Consumer, ConsumerNo, Group, Pending};
pub use id::{NewId, RangeBoundError, StreamId};
pub use log::{Keep, Log, Trim};
pub use node::{Entry, Fields};

use std::collections::BTreeMap;

/// A stream. One without entries or groups is still a stream: only DEL removes it.
#[derive(Clone, Default)]
pub struct Stream {
    pub log: Log,
    /// In order of their names.
    pub groups: BTreeMap<Box<[u8]>, Group>,
}

impl Stream {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a group; false if the name is taken.
    pub fn create_group(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<u64>) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.groups.insert(name.into(), Group::new(last_id, entries_read));
        true
    }

    /// The log to read from and the group to move on.
    pub fn log_and_group(&mut self, name: &[u8]) -> Option<(&Log, &mut Group)> {
        Some((&self.log, self.groups.get_mut(name)?))
    }

    /// Bytes on the heap, as far as the structures know them.
    pub fn memory_bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(|(name, group)| name.len() + group.memory_bytes()).sum();
        self.log.memory_bytes() + groups
    }
}

#[cfg(test)]
mod tests;
