//! Consumer groups: what was delivered to whom and is not yet acknowledged.
//!
//! A group's pending list maps each delivered ID to its consumer; every consumer also keeps the set of its own
//! IDs, so both views are read in ID order. INVARIANT: an ID is in a consumer's set exactly when the group's
//! list names that consumer for it.

use super::id::StreamId;
use super::log::Log;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A consumer within its group. Numbers of deleted consumers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerNo(u64);

/// A delivered entry that nobody acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub consumer: ConsumerNo,
    pub delivered_at_unix_ms: u64,
    pub deliveries: u64,
}

/// A named reader of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// The last attempt to read or claim.
    pub seen_at_unix_ms: u64,
    /// The last attempt that got something.
    pub active_at_unix_ms: Option<u64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The IDs pending for this consumer, in order.
    pub fn pending_ids(&self, range: RangeInclusive<StreamId>) -> impl Iterator<Item = StreamId> + '_ {
        let valid = range.start() <= range.end();
        valid.then(|| self.pending.range(range)).into_iter().flatten().copied()
    }
}

/// A consumer group of a stream.
#[derive(Clone, Debug)]
pub struct Group {
    /// The last entry that was handed out as new.
    pub last_id: StreamId,
    /// Entries handed out in the group's life, where it can be told.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    names: BTreeMap<Arc<[u8]>, ConsumerNo>,
    consumers: BTreeMap<ConsumerNo, Consumer>,
    next_consumer: u64,
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Self {
            last_id,
            entries_read,
            pending: BTreeMap::new(),
            names: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_consumer: 0,
        }
    }

    pub fn consumer_no(&self, name: &[u8]) -> Option<ConsumerNo> {
        self.names.get(name).copied()
    }

    /// The consumer under a number that this group gave. Panics if it was deleted since.
    pub fn consumer(&self, no: ConsumerNo) -> &Consumer {
        self.consumers.get(&no).expect("the consumer was not deleted")
    }

    pub fn consumer_mut(&mut self, no: ConsumerNo) -> &mut Consumer {
        self.consumers.get_mut(&no).expect("the consumer was not deleted")
    }

    /// The consumers in order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.names.values().map(|no| self.consumer(*no))
    }

    /// Adds a consumer, seen now; `None` if the name is taken.
    pub fn create_consumer(&mut self, name: &[u8], now_unix_ms: u64) -> Option<ConsumerNo> {
        if self.names.contains_key(name) {
            return None;
        }
        let no = ConsumerNo(self.next_consumer);
        self.next_consumer += 1;
        let name: Arc<[u8]> = name.into();
        self.names.insert(name.clone(), no);
        let consumer = Consumer {
            name,
            seen_at_unix_ms: now_unix_ms,
            active_at_unix_ms: None,
            pending: BTreeSet::new(),
        };
        self.consumers.insert(no, consumer);
        Some(no)
    }

    /// Removes a consumer and what is pending for it; gives how many entries that were.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let no = self.names.remove(name)?;
        let consumer = self.consumers.remove(&no).expect("a named consumer exists");
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// Everything pending between two IDs, in order.
    pub fn pending_range(
        &self,
        range: RangeInclusive<StreamId>,
    ) -> impl DoubleEndedIterator<Item = (StreamId, &Pending)> + '_ {
        let valid = range.start() <= range.end();
        let found: Option<btree_map::Range<'_, _, _>> = valid.then(|| self.pending.range(range));
        found.into_iter().flatten().map(|(id, pending)| (*id, pending))
    }

    /// Makes an entry pending for a consumer, taking it from whoever had it.
    pub fn assign(&mut self, id: StreamId, pending: Pending) {
        if let Some(old) = self.pending.insert(id, pending)
            && old.consumer != pending.consumer
        {
            self.consumer_mut(old.consumer).pending.remove(&id);
        }
        self.consumer_mut(pending.consumer).pending.insert(id);
    }

    /// Acknowledges an entry; gives what was known about its delivery.
    pub fn acknowledge(&mut self, id: StreamId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.consumer_mut(pending.consumer).pending.remove(&id);
        Some(pending)
    }

    /// Notes that an entry was handed out as new, which moves the group on if the entry is newer than its last.
    ///
    /// SOURCE: Redis 7.2 `streamReplyWithRange`.
    pub fn advance(&mut self, log: &Log, id: StreamId) {
        if id <= self.last_id {
            return;
        }
        if let Some(read) = self.entries_read
            && !log.has_tombstone_from(id)
        {
            self.entries_read = Some(read + 1);
        } else if log.entries_added() > 0 {
            self.entries_read = log.entries_added_up_to(id);
        }
        self.last_id = id;
    }

    /// How many entries the group has still to read, where it can be told.
    ///
    /// SOURCE: Redis 7.2 `streamReplyWithCGLag`.
    pub fn lag(&self, log: &Log) -> Option<i64> {
        let added = log.entries_added() as i64;
        if added == 0 {
            return Some(0);
        }
        let read = match self.entries_read {
            Some(read) if !log.has_tombstone_from(self.last_id) => read,
            _ => log.entries_added_up_to(self.last_id)?,
        };
        Some(added - read as i64)
    }

    /// Bytes on the heap, estimated for the ordered maps.
    pub fn memory_bytes(&self) -> usize {
        let pending = self.pending.len() * (2 * size_of::<StreamId>() + size_of::<Pending>());
        let names: usize = self.names.keys().map(|name| name.len() + size_of::<Arc<[u8]>>()).sum();
        pending + names + self.consumers.len() * size_of::<Consumer>()
    }
}
