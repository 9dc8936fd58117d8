//! From member bytes to member number: a hash table that grows a little at a time.
//!
//! The table is a row of small tables. When the row is too full, one of them is split in two and the row is
//! one longer (linear hashing), so no insertion rehashes more than one small table, however large the set.

use super::members::{MemberId, Members};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Mean members in a segment when the row grows by one.
const SEGMENT_FILL_MAX: usize = 512;

/// The row's length stays within the hash bits that segments may use.
const SEGMENTS_MAX: usize = 1 << 24;

#[derive(Clone)]
pub(super) struct MemberIndex {
    segments: Vec<HashTable<MemberId>>,
    len: usize,
    seeds: RandomState,
}

impl MemberIndex {
    pub fn new() -> Self {
        Self { segments: vec![HashTable::new()], len: 0, seeds: RandomState::default() }
    }

    /// Which segment a hash lives in: the low bits that the row is long enough for.
    ///
    /// Bits 32..56 choose here, because the tables themselves use the lowest and the topmost bits.
    fn segment_no(hash: u64, segments: usize) -> usize {
        let bits = (hash >> 32) as usize & (SEGMENTS_MAX - 1);
        let wide = segments.next_power_of_two();
        let at = bits & (wide - 1);
        if at < segments { at } else { at & (wide / 2 - 1) }
    }

    /// The hash of a member's bytes, and the segment that it lives in.
    fn place_of(&self, member: &[u8]) -> (u64, &HashTable<MemberId>) {
        let hash = self.seeds.hash_one(member);
        (hash, &self.segments[Self::segment_no(hash, self.segments.len())])
    }

    pub fn find(&self, members: &Members, member: &[u8]) -> Option<MemberId> {
        let (hash, segment) = self.place_of(member);
        segment.find(hash, |&id| members.bytes(id) == member).copied()
    }

    /// Asks for the memory of a member, as far as it can be told where that is without a look at it.
    pub fn touch(&self, members: &Members, member: &[u8]) {
        let (hash, segment) = self.place_of(member);
        segment.find(hash, |&id| {
            members.touch(id);
            false
        });
    }

    /// Adds a member that is not there yet.
    pub fn insert(&mut self, members: &Members, id: MemberId) {
        if self.len >= self.segments.len() * SEGMENT_FILL_MAX && self.segments.len() < SEGMENTS_MAX {
            self.split_one(members);
        }
        let seeds = &self.seeds;
        let hash = seeds.hash_one(members.bytes(id));
        let at = Self::segment_no(hash, self.segments.len());
        self.segments[at].insert_unique(hash, id, |&other| seeds.hash_one(members.bytes(other)));
        self.len += 1;
    }

    pub fn remove(&mut self, members: &Members, id: MemberId) {
        let hash = self.seeds.hash_one(members.bytes(id));
        let at = Self::segment_no(hash, self.segments.len());
        let entry = self.segments[at].find_entry(hash, |&other| other == id);
        entry.expect("a live member is indexed").remove();
        self.len -= 1;
    }

    fn split_one(&mut self, members: &Members) {
        let longer = self.segments.len() + 1;
        let new_no = self.segments.len();
        let old_no = new_no - longer.next_power_of_two() / 2;
        let old = std::mem::take(&mut self.segments[old_no]);
        self.segments.push(HashTable::new());
        let seeds = &self.seeds;
        let hash_of = |&id: &MemberId| seeds.hash_one(members.bytes(id));
        for id in old {
            let hash = hash_of(&id);
            let at = Self::segment_no(hash, longer);
            debug_assert!(at == old_no || at == new_no);
            self.segments[at].insert_unique(hash, id, hash_of);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn memory_bytes(&self) -> usize {
        let buckets: usize = self.segments.iter().map(HashTable::allocation_size).sum();
        buckets + self.segments.capacity() * size_of::<HashTable<MemberId>>()
    }
}
