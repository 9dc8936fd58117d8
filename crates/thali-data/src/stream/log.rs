//! The entries of a stream: an append-only log that is trimmed at its front and deleted from anywhere.
//!
//! Entries live in packed nodes, ordered by the ID of each node's first entry. Nodes are the unit of
//! approximate trimming, as in Redis: `~` removes whole nodes only.

use super::id::StreamId;
use super::node::{Entry, Node, NodeWalk};
use crate::Limits;
use std::collections::{BTreeMap, btree_map};

/// What XADD and XTRIM cut away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    pub keep: Keep,
    /// `~`: remove whole nodes only.
    pub approximate: bool,
    /// With `~`: remove at most this many entries; 0 is no bound.
    pub limit: u64,
}

/// What a trim leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// MAXLEN: the newest so many entries.
    Newest(u64),
    /// MINID: the entries from this ID on.
    From(StreamId),
}

/// The entries of a stream and what is known about those that are gone.
#[derive(Clone, Default)]
pub struct Log {
    nodes: BTreeMap<StreamId, Node>,
    len: u64,
    first_id: StreamId,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
}

impl Log {
    /// Live entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ID of the first live entry, 0-0 when there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The greatest ID ever added (or set by XSETID).
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The greatest ID that XDEL removed.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// Entries added in the log's whole life.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// Nodes that hold the entries, XINFO's radix-tree-keys.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// XSETID and loading: the counters that entries alone do not tell.
    pub fn set_last_id(&mut self, id: StreamId) {
        self.last_id = id;
    }

    pub fn set_entries_added(&mut self, count: u64) {
        self.entries_added = count;
    }

    pub fn set_max_deleted_id(&mut self, id: StreamId) {
        self.max_deleted_id = id;
    }

    /// Adds an entry; `fields` are names and values in turn. Panics unless `id` is greater than [`Log::last_id`].
    pub fn append<F: AsRef<[u8]>>(&mut self, id: StreamId, fields: &[F], limits: &Limits) {
        assert!(id > self.last_id, "IDs only grow");
        assert!(fields.len().is_multiple_of(2), "every field has a value");
        let payload_bytes = fields.iter().map(|field| field.as_ref().len()).sum();
        let open = match self.nodes.last_entry() {
            Some(mut last) if !last.get().has_room(payload_bytes, limits) => {
                last.get_mut().seal();
                None
            }
            last => last,
        };
        match open {
            Some(mut last) => {
                let base = *last.key();
                last.get_mut().push(base, id, fields);
            }
            None => {
                let mut node = Node::new(id, fields);
                node.push(id, id, fields);
                self.nodes.insert(id, node);
            }
        }
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    pub fn entry(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    pub fn contains(&self, id: StreamId) -> bool {
        self.entry(id).is_some()
    }

    pub fn first(&self) -> Option<Entry<'_>> {
        self.range(StreamId::MIN, StreamId::MAX).next()
    }

    pub fn last(&self) -> Option<Entry<'_>> {
        self.range_reverse(StreamId::MIN, StreamId::MAX).next()
    }

    /// Entries from `start` to `end`, both included, oldest first.
    pub fn range(&self, start: StreamId, end: StreamId) -> Entries<'_> {
        Entries { nodes: self.nodes_between(start, end), walk: None, start, end }
    }

    /// The nodes from the one that begins at `base` on, each with its ID and its live entries, of which it has
    /// at least one.
    pub fn nodes_from(
        &self,
        base: StreamId,
    ) -> impl Iterator<Item = (StreamId, impl Iterator<Item = Entry<'_>>)> {
        self.nodes.range(base..).map(|(base, node)| (*base, node.walk(*base)))
    }

    /// Entries from `start` to `end`, both included, newest first.
    pub fn range_reverse(&self, start: StreamId, end: StreamId) -> EntriesReverse<'_> {
        EntriesReverse { nodes: self.nodes_between(start, end), loaded: Vec::new(), start, end }
    }

    /// The nodes that may hold entries of a range.
    fn nodes_between(&self, start: StreamId, end: StreamId) -> btree_map::Range<'_, StreamId, Node> {
        if start > end {
            return self.nodes.range(StreamId::MIN..StreamId::MIN);
        }
        let first = self.nodes.range(..=start).next_back().map_or(start, |(base, _)| *base);
        self.nodes.range(first..=end)
    }

    /// Removes an entry as XDEL does: the log remembers the greatest ID so removed.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some((&base, node)) = self.nodes.range_mut(..=id).next_back() else { return false };
        if !node.delete(base, id) {
            return false;
        }
        if node.live() == 0 {
            self.nodes.remove(&base);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id || self.len == 0 {
            self.refresh_first_id();
        }
        true
    }

    /// Cuts entries away at the front; gives their number.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut removed = 0;
        while let Some(mut first) = self.nodes.first_entry() {
            let (base, live, last) = (*first.key(), first.get().live(), first.get().last());
            let excess = match trim.keep {
                Keep::Newest(keep) if self.len <= keep => break,
                Keep::Newest(keep) => self.len - keep,
                Keep::From(_) => u64::MAX,
            };
            if trim.limit > 0 && removed + live > trim.limit {
                break;
            }
            let whole_node = match trim.keep {
                Keep::Newest(_) => live <= excess,
                Keep::From(min_id) => last < min_id,
            };
            if whole_node {
                first.remove();
                self.len -= live;
                removed += live;
                continue;
            }
            if trim.approximate {
                break;
            }
            let gone = match trim.keep {
                Keep::Newest(_) => first.get_mut().delete_front(base, excess, |_| true),
                Keep::From(min_id) => first.get_mut().delete_front(base, excess, |id| id < min_id),
            };
            if first.get().live() == 0 {
                first.remove();
            }
            self.len -= gone;
            removed += gone;
            break;
        }
        if removed > 0 {
            self.refresh_first_id();
        }
        removed
    }

    fn refresh_first_id(&mut self) {
        self.first_id = self.first().map_or(StreamId::MIN, |entry| entry.id);
    }

    /// Whether entries from `start` on may have been removed from the middle.
    pub fn has_tombstone_from(&self, start: StreamId) -> bool {
        if self.len == 0 || self.max_deleted_id.is_zero() || self.first_id > self.max_deleted_id {
            return false;
        }
        start <= self.max_deleted_id
    }

    /// How many entries had been added up to and including this ID, where that can be told.
    ///
    /// SOURCE: Redis 7.2 `streamEstimateDistanceFromFirstEverEntry`.
    pub fn entries_added_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if (self.len == 0 && id <= self.last_id) || id == self.last_id {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        let unfragmented = self.max_deleted_id.is_zero() || self.max_deleted_id < self.first_id;
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less if unfragmented => Some(self.entries_added.saturating_sub(self.len)),
            std::cmp::Ordering::Equal if unfragmented => {
                Some(self.entries_added.saturating_sub(self.len) + 1)
            }
            _ => None,
        }
    }

    /// Bytes on the heap, as far as the log knows them.
    pub fn memory_bytes(&self) -> usize {
        let node_bytes = size_of::<StreamId>() + size_of::<Node>();
        self.nodes.values().map(|node| node.memory_bytes() + node_bytes).sum()
    }
}

/// Entries of a range, oldest first.
pub struct Entries<'a> {
    nodes: btree_map::Range<'a, StreamId, Node>,
    walk: Option<NodeWalk<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(walk) = &mut self.walk {
                match walk.next() {
                    Some(entry) if entry.id < self.start => continue,
                    Some(entry) if entry.id > self.end => return None,
                    Some(entry) => return Some(entry),
                    None => {}
                }
            }
            let (&base, node) = self.nodes.next()?;
            self.walk = Some(node.walk(base));
        }
    }
}

/// Entries of a range, newest first.
pub struct EntriesReverse<'a> {
    nodes: btree_map::Range<'a, StreamId, Node>,
    /// What is left of the node in hand, newest last.
    loaded: Vec<Entry<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Iterator for EntriesReverse<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.loaded.pop() {
                return Some(entry);
            }
            let (&base, node) = self.nodes.next_back()?;
            let (start, end) = (self.start, self.end);
            self.loaded.extend(node.walk(base).filter(|entry| start <= entry.id && entry.id <= end));
        }
    }
}
