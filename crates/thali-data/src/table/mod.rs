//! `Table<V>`: the hash table behind keyspaces, large hashes and large sets. Keys are bytes.
//!
//! # Shape
//! Extendible hashing: a directory over the first `depth` bits of the hash leads to segments of at
//! most [`HOME_BUCKETS_MAX`] home buckets ([`segment`] draws them). A segment grows by half until it
//! has that many, then splits in two; the directory doubles when a segment needs one more bit. So the
//! longest pause of an insert is the rebuild of a few hundred entries, or the copy of a directory of
//! four bytes a segment. Removal shrinks segments and merges neighbours the same way.
//! An entry is one allocation of value and key ([`entry`]) and 8 of the 64 bytes of a bucket. A table may keep a
//! note with each value, a few bytes that are changed while the value is only looked at. A value may have bytes of its
//! own in the same allocation ([`Stored`]): so a short string costs no second one, and no second wait for memory.
//!
//! # Cursors
//! Everything stands in hash order, and a key's hash never changes. A cursor is the first
//! [`CURSOR_BITS`] bits of the hash up to which all has been visited; it means the same whatever the
//! table has become since. So a full iteration returns every element that is present throughout, across
//! any growth, shrinking and removal. An element may come twice only where two buckets meet within one
//! cursor step (one in about 2^20 at ten million keys).
//!
//! # Not here
//! No locks, no expiry, no order. Flooding is met by the random seed of [`KeyHasher`].

mod entry;
mod segment;
mod stored;

use std::hash::{BuildHasher, Hasher};

use entry::Entry;
pub use entry::{Removed, StringOf};
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use segment::{Place, SLOTS, Segment};
pub use stored::{BESIDE_BYTES_MAX, Before, New, Stored, Tail};

const HOME_BUCKETS_MAX: usize = 64;
/// Slots of a segment: more, in overflow buckets, only where hashes are far from uniform.
const SEGMENT_SLOTS_MAX: usize = HOME_BUCKETS_MAX * SLOTS * 5 / 4;
/// Cursors stay below 2^40, so that a keyspace can put its shard in front and still give clients
/// numbers that a double holds exactly (2^53).
pub const CURSOR_BITS: u32 = 40;
const CURSOR_SHIFT: u32 = 64 - CURSOR_BITS;
/// A table never has more directory entries than this for each segment: past it, an overfull segment
/// gets more buckets instead of a split. Reached only by hashes that are far from uniform.
const DIRECTORY_ENTRIES_PER_SEGMENT_MAX: usize = 16;
/// `scan` gives up after this many buckets for each element asked for, as SCAN does in Redis.
const BUCKETS_PER_ELEMENT_MAX: usize = 10;
/// Random draws before `random` takes the next element at hand.
const RANDOM_TRIES_MAX: usize = 64;

/// The seeded hash of keys. Tables that share one can be addressed with one computed hash.
#[derive(Clone)]
pub struct KeyHasher(SeedableRandomState);

impl KeyHasher {
    /// A seed that no client can guess.
    pub fn random() -> Self {
        KeyHasher(SeedableRandomState::random())
    }

    /// The same hashes in every run: for tests and reproductions.
    pub fn fixed(seed: u64) -> Self {
        KeyHasher(SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()))
    }

    pub fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(key);
        hasher.finish()
    }
}

pub struct Table<V: Stored, N = ()> {
    hasher: KeyHasher,
    /// 2^depth entries, each the number of the segment for hashes with that prefix. Empty until the
    /// first insert.
    directory: Vec<u32>,
    segments: Vec<Segment<V, N>>,
    depth: u8,
    len: usize,
    entry_bytes: usize,
    bucket_bytes: usize,
}

/// Where an entry stands; valid until the table changes.
#[derive(Clone, Copy)]
struct Spot {
    segment: u32,
    place: Place,
}

/// Entries at which a segment of `home` buckets grows: with 6 a bucket, one entry in ten or fewer stands in a
/// second one, and one look-up in four or fewer of what is not there needs it.
fn len_max(home: usize) -> usize {
    if home == 1 { SLOTS } else { home * 6 }
}

/// Home buckets for a rebuilt segment: two thirds of the most that it may hold.
fn home_for(len: usize) -> usize {
    if len <= SLOTS - 2 { 1 } else { len.div_ceil(4).clamp(1, HOME_BUCKETS_MAX) }
}

impl<V: Stored> Table<V> {
    /// An empty table with a random seed; allocates nothing.
    pub fn new() -> Self {
        Self::empty(KeyHasher::random())
    }

    pub fn with_hasher(hasher: KeyHasher) -> Self {
        Self::empty(hasher)
    }
}

impl<V: Stored, N: Default> Table<V, N> {
    fn empty(hasher: KeyHasher) -> Self {
        let (directory, segments) = (Vec::new(), Vec::new());
        Table { hasher, directory, segments, depth: 0, len: 0, entry_bytes: 0, bucket_bytes: 0 }
    }

    /// Makes room in an empty table for about `len` elements, so that it does not grow on the way there.
    pub fn reserve(&mut self, len: usize) {
        if !self.is_empty() || len == 0 {
            return;
        }
        let fill = len_max(HOME_BUCKETS_MAX) * 2 / 3;
        let depth = len.div_ceil(fill).next_power_of_two().trailing_zeros() as u8;
        let home = home_for(len >> depth);
        *self = Self::empty(self.hasher.clone());
        self.depth = depth;
        self.directory = (0..1 << depth).collect();
        self.segments.reserve_exact(1 << depth);
        for number in 0..1u64 << depth {
            self.push_segment(Segment::new(number << 1 << (63 - depth), depth, home));
        }
    }

    /// Asks for the memory at which an element of this hash would stand. To be called for several elements
    /// before they are inserted, so that the waiting for memory overlaps.
    pub fn touch(&self, hash: u64) {
        if !self.directory.is_empty() {
            self.segments[self.segment_of(hash)].touch(hash);
        }
    }

    /// Asks for the memory of the element that has this hash, as far as a look at a few bits of it tells: mostly the right
    /// one, where there is one.
    pub fn touch_likely(&self, hash: u64) -> Option<&V> {
        if self.is_empty() {
            return None;
        }
        let entry = self.segments[self.segment_of(hash)].likely(hash)?;
        entry.touch();
        Some(entry.value())
    }

    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of buckets, directory, keys and values, without what values own on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.entry_bytes
            + self.bucket_bytes
            + self.directory.capacity() * size_of::<u32>()
            + self.segments.capacity() * size_of::<Segment<V, N>>()
    }

    /// The part of [`Table::memory_bytes`] that is neither key nor value.
    pub fn overhead_bytes(&self) -> usize {
        self.memory_bytes() - self.entry_bytes
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.find(self.hash(key), key).is_some()
    }

    pub fn contains_hashed(&self, hash: u64, key: &[u8]) -> bool {
        self.find(hash, key).is_some()
    }

    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.get_hashed(self.hash(key), key)
    }

    /// `hash` must be this table's hash of `key`, here and in all `_hashed` methods.
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<&V> {
        self.entry(hash, key).map(Entry::value)
    }

    /// The bytes of [`Tail::Bytes`] of a key.
    pub fn tail_hashed(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        self.entry(hash, key).map(Entry::tail)
    }

    /// The elements with this hash: more than one where hashes of 64 bits are the same by chance.
    pub fn with_hash(&self, hash: u64) -> impl Iterator<Item = (&[u8], &V)> {
        let segment = (!self.is_empty()).then(|| &self.segments[self.segment_of(hash)]);
        let near = segment.into_iter().flat_map(move |s| s.of_home(s.home_of(hash), |key| self.hash(key)));
        near.filter(move |e| self.hash(e.key()) == hash).map(|e| (e.key(), e.value()))
    }

    /// As [`Table::get`], with the note.
    pub fn get_noted(&self, key: &[u8]) -> Option<(&V, &N)> {
        self.entry(self.hash(key), key).map(|entry| (entry.value(), entry.note()))
    }

    /// As [`Table::get_mut`], with the note.
    pub fn get_mut_noted(&mut self, key: &[u8]) -> Option<(&mut V, &N)> {
        let spot = self.find(self.hash(key), key)?;
        let (value, note) = self.parts_mut(spot);
        Some((value, note))
    }

    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.get_mut_hashed(self.hash(key), key)
    }

    pub fn get_mut_hashed(&mut self, hash: u64, key: &[u8]) -> Option<&mut V> {
        self.find(hash, key).map(|s| self.value_mut(s))
    }

    /// Sets the value and returns the old one.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        self.insert_hashed(self.hash(key), key, value)
    }

    pub fn insert_hashed(&mut self, hash: u64, key: &[u8], value: V) -> Option<V> {
        match self.find(hash, key) {
            Some(spot) => {
                let (old, note) = self.parts_mut(spot);
                *note = N::default();
                Some(std::mem::replace(old, value))
            }
            None => {
                self.insert_new(hash, Entry::new(key, value.into(), N::default()));
                None
            }
        }
    }

    /// Puts a value and its note, which `note` makes of what is there before. That takes one look-up, and no allocation
    /// where the tail is about as long as the one before.
    pub fn put<'b>(
        &mut self,
        hash: u64,
        key: &[u8],
        new: impl Into<New<'b, V>>,
        note: impl FnOnce(Option<(&V, &N)>) -> N,
    ) -> Before<V>
    where
        V: 'b,
    {
        let new = new.into();
        let Some(spot) = self.find(hash, key) else {
            self.insert_new(hash, Entry::new(key, new, note(None)));
            return Before::Nothing;
        };
        let entry = self.segments[spot.segment as usize].entry_mut(spot.place);
        let note = note(Some((entry.value(), entry.note())));
        entry.replace(new, note, &mut self.entry_bytes).map_or(Before::Gone, Before::Value)
    }

    /// The value of `key`, made by `make` if there is none, and whether it was made.
    pub fn get_or_insert_with(&mut self, key: &[u8], make: impl FnOnce() -> V) -> (&mut V, bool) {
        self.get_or_insert_with_hashed(self.hash(key), key, make)
    }

    pub fn get_or_insert_with_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        make: impl FnOnce() -> V,
    ) -> (&mut V, bool) {
        match self.find(hash, key) {
            Some(spot) => (self.value_mut(spot), false),
            None => {
                let spot = self.insert_new(hash, Entry::bare(key, make(), N::default()));
                (self.value_mut(spot), true)
            }
        }
    }

    /// As [`Table::get_or_insert_with`], with the note, which `make` gives, too.
    pub fn get_or_insert_noted(&mut self, key: &[u8], make: impl FnOnce() -> (V, N)) -> (&mut V, &N, bool) {
        let hash = self.hash(key);
        let (spot, is_new) = match self.find(hash, key) {
            Some(spot) => (spot, false),
            None => {
                let (value, note) = make();
                (self.insert_new(hash, Entry::bare(key, value, note)), true)
            }
        };
        let (value, note) = self.parts_mut(spot);
        (value, note, is_new)
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Removed<V, N>> {
        self.remove_hashed(self.hash(key), key)
    }

    pub fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> Option<Removed<V, N>> {
        let spot = self.find(hash, key)?;
        let segment = &mut self.segments[spot.segment as usize];
        let entry = segment.remove(hash, spot.place, |key| self.hasher.hash(key));
        self.len -= 1;
        self.entry_bytes -= entry.memory_bytes();
        self.after_removal(spot.segment as usize);
        Some(Removed::new(entry))
    }

    pub fn clear(&mut self) {
        *self = Self::empty(self.hasher.clone());
    }

    /// All elements, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.entries().map(|e| (e.key(), e.value()))
    }

    /// As [`Table::iter`], with the bytes of [`Tail::Bytes`].
    pub fn iter_tails(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries().map(|e| (e.key(), e.tail()))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<V, N>> {
        self.segments.iter().flat_map(|s| s.iter())
    }

    /// Shows elements to `f` until at least `budget` were shown or too many buckets were empty, and
    /// returns the cursor to go on with: 0 at the start, 0 when done.
    pub fn scan(&self, cursor: u64, budget: usize, mut f: impl FnMut(&[u8], &V)) -> u64 {
        self.scan_entries(cursor, budget, |e| f(e.key(), e.value()))
    }

    /// As [`Table::scan`], with the notes.
    pub fn scan_noted(&self, cursor: u64, budget: usize, mut f: impl FnMut(&[u8], &V, &N)) -> u64 {
        self.scan_entries(cursor, budget, |e| f(e.key(), e.value(), e.note()))
    }

    /// As [`Table::scan`], with the bytes of [`Tail::Bytes`].
    pub fn scan_tails(&self, cursor: u64, budget: usize, mut f: impl FnMut(&[u8], &[u8])) -> u64 {
        self.scan_entries(cursor, budget, |e| f(e.key(), e.tail()))
    }

    fn scan_entries(&self, cursor: u64, budget: usize, mut f: impl FnMut(&Entry<V, N>)) -> u64 {
        let mut walk = Walk::new(cursor, budget);
        while let Some((segment, bucket)) = walk.bucket(self) {
            for entry in self.segments[segment].of_home(bucket.home, |key| self.hash(key)) {
                if bucket.from == 0 || self.hash(entry.key()) >= bucket.from {
                    f(entry);
                    walk.shown += 1;
                }
            }
            if walk.advance(bucket.end) {
                break;
            }
        }
        walk.cursor()
    }

    /// An element drawn at random, every one about equally likely.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<(&[u8], &V)> {
        self.random_entry(rng).map(|e| (e.key(), e.value()))
    }

    /// As [`Table::random`], with the bytes of [`Tail::Bytes`].
    pub fn random_tail(&self, rng: &mut impl FnMut() -> u64) -> Option<(&[u8], &[u8])> {
        self.random_entry(rng).map(|e| (e.key(), e.tail()))
    }

    fn random_entry(&self, rng: &mut impl FnMut() -> u64) -> Option<&Entry<V, N>> {
        if self.is_empty() {
            return None;
        }
        // Draw a segment and one of its slots; refuse what is not there. A segment that covers 2^k directory entries is
        // drawn 2^k times as often as its slots deserve.
        for _ in 0..RANDOM_TRIES_MAX {
            let segment = &self.segments[self.segment_of(rng())];
            let slots = segment.slots_len() as u64;
            if self.segments.len() > 1 {
                let share = (SEGMENT_SLOTS_MAX << (self.depth - segment.depth)) as u64;
                if rng() % share >= slots {
                    continue;
                }
            }
            if let Some(entry) = segment.slot((rng() % slots) as usize) {
                return Some(entry);
            }
        }
        let start = (rng() % self.segments.len() as u64) as usize;
        let segment = (0..self.segments.len())
            .map(|i| &self.segments[(start + i) % self.segments.len()])
            .find(|s| s.len > 0)?;
        segment.iter().nth((rng() % segment.len as u64) as usize)
    }

    fn segment_of(&self, hash: u64) -> usize {
        // A shift by 64 would be one too far for depth 0; two shifts are not.
        self.directory[(hash >> 1 >> (63 - self.depth)) as usize] as usize
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<Spot> {
        if self.len == 0 {
            return None;
        }
        let segment = self.segment_of(hash);
        let place = self.segments[segment].find(hash, key)?;
        Some(Spot { segment: segment as u32, place })
    }

    fn entry(&self, hash: u64, key: &[u8]) -> Option<&Entry<V, N>> {
        let spot = self.find(hash, key)?;
        Some(self.segments[spot.segment as usize].entry(spot.place))
    }

    fn value_mut(&mut self, spot: Spot) -> &mut V {
        self.parts_mut(spot).0
    }

    fn parts_mut(&mut self, spot: Spot) -> (&mut V, &mut N) {
        self.segments[spot.segment as usize].entry_mut(spot.place).parts_mut(&mut self.entry_bytes)
    }

    fn insert_new(&mut self, hash: u64, mut entry: Entry<V, N>) -> Spot {
        if self.directory.is_empty() {
            self.directory.push(0);
            // Most tables that are small stay so.
            self.segments.reserve_exact(1);
            self.push_segment(Segment::new(0, 0, 1));
        }
        self.len += 1;
        self.entry_bytes += entry.memory_bytes();
        loop {
            let number = self.segment_of(hash);
            let segment = &mut self.segments[number];
            if (segment.len as usize) < len_max(segment.home_buckets()) {
                let before = segment.bucket_bytes();
                let placed = segment.place(hash, entry);
                self.bucket_bytes += segment.bucket_bytes() - before;
                match placed {
                    Ok(place) => return Spot { segment: number as u32, place },
                    Err(back) => entry = back,
                }
            }
            self.grow(number);
        }
    }

    fn push_segment(&mut self, segment: Segment<V, N>) {
        self.bucket_bytes += segment.bucket_bytes();
        self.segments.push(segment);
    }

    fn replace_segment(&mut self, number: usize, segment: Segment<V, N>) -> Segment<V, N> {
        self.bucket_bytes += segment.bucket_bytes();
        let old = std::mem::replace(&mut self.segments[number], segment);
        self.bucket_bytes -= old.bucket_bytes();
        old
    }

    fn grow(&mut self, number: usize) {
        let segment = &self.segments[number];
        let home = segment.home_buckets();
        if home < HOME_BUCKETS_MAX {
            self.rebuild(number, (home + home.div_ceil(2)).min(HOME_BUCKETS_MAX));
        } else if segment.depth < self.depth
            || self.directory.len() * 2 <= self.segments.len() * DIRECTORY_ENTRIES_PER_SEGMENT_MAX
        {
            self.split(number);
        } else {
            assert!(home < 1 << 20, "table segment cannot grow: keys collide in a seeded 64-bit hash");
            self.rebuild(number, home * 2);
        }
    }

    fn rebuild(&mut self, number: usize, home: usize) {
        let (prefix, depth) = (self.segments[number].prefix, self.segments[number].depth);
        let old = self.replace_segment(number, Segment::new(prefix, depth, home));
        self.refill(old);
    }

    /// Puts the entries of a segment that was taken out into the segments that own them now.
    fn refill(&mut self, old: Segment<V, N>) {
        // Their keys lie all over memory: asking for all of them first overlaps the waiting.
        old.iter().for_each(Entry::touch);
        for entry in old.into_entries() {
            let hash = self.hasher.hash(entry.key());
            let number = self.segment_of(hash);
            let segment = &mut self.segments[number];
            let before = segment.bucket_bytes();
            let placed = segment.place(hash, entry);
            self.bucket_bytes += segment.bucket_bytes() - before;
            assert!(placed.is_ok(), "a rebuilt segment has room for what it held");
        }
    }

    fn split(&mut self, number: usize) {
        let (prefix, depth) = (self.segments[number].prefix, self.segments[number].depth);
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&n| [n, n]).collect();
            self.depth += 1;
        }
        let child_depth = depth + 1;
        let half = 1u64 << (64 - child_depth);
        let home = home_for(self.segments[number].len as usize / 2);
        let upper_number = self.segments.len() as u32;
        self.push_segment(Segment::new(prefix | half, child_depth, home));
        let old = self.replace_segment(number, Segment::new(prefix, child_depth, home));
        let (from, count) = self.directory_range(prefix | half, child_depth);
        self.directory[from..from + count].fill(upper_number);
        self.refill(old);
    }

    /// The directory entries of a prefix: the first and how many.
    fn directory_range(&self, prefix: u64, depth: u8) -> (usize, usize) {
        ((prefix >> 1 >> (63 - self.depth)) as usize, 1 << (self.depth - depth))
    }

    fn after_removal(&mut self, number: usize) {
        let segment = &self.segments[number];
        let (len, home) = (segment.len as usize, segment.home_buckets());
        // Merge when both halves together would be half of what one may hold.
        if segment.depth > 0 && len <= len_max(HOME_BUCKETS_MAX) / 4 {
            let buddy_prefix = segment.prefix ^ 1 << (64 - segment.depth);
            let buddy = self.segment_of(buddy_prefix);
            let same_depth = self.segments[buddy].depth == segment.depth;
            if same_depth && len + self.segments[buddy].len as usize <= len_max(HOME_BUCKETS_MAX) / 2 {
                self.merge(number, buddy);
                return;
            }
        }
        if home > 1 && len < len_max(home) / 4 {
            self.rebuild(number, home_for(len));
        }
    }

    fn merge(&mut self, a: usize, b: usize) {
        let depth = self.segments[a].depth - 1;
        let prefix = self.segments[a].prefix.min(self.segments[b].prefix);
        let len = (self.segments[a].len + self.segments[b].len) as usize;
        let (into, gone) = (a.min(b), a.max(b));
        let old_a = self.replace_segment(into, Segment::new(prefix, depth, home_for(len)));
        let old_b = self.segments.swap_remove(gone);
        self.bucket_bytes -= old_b.bucket_bytes();
        let (from, count) = self.directory_range(prefix, depth);
        self.directory[from..from + count].fill(into as u32);
        if let Some(moved) = self.segments.get(gone) {
            let (from, count) = self.directory_range(moved.prefix, moved.depth);
            self.directory[from..from + count].fill(gone as u32);
        }
        self.refill(old_a);
        self.refill(old_b);
        self.shrink_directory();
    }

    fn shrink_directory(&mut self) {
        if self.segments.len() * 4 > self.directory.len() {
            return;
        }
        let deepest = self.segments.iter().map(|s| s.depth).max().unwrap_or(0);
        if deepest < self.depth {
            let step = 1 << (self.depth - deepest);
            self.directory = self.directory.iter().step_by(step).copied().collect();
            self.depth = deepest;
        }
        if self.segments.capacity() > self.segments.len() * 4 {
            self.segments.shrink_to(self.segments.len() * 2);
        }
    }
}

impl<V: Stored, N: Default> Default for Table<V, N> {
    fn default() -> Self {
        Self::empty(KeyHasher::random())
    }
}

impl<V: Stored + Clone> Clone for Table<V> {
    fn clone(&self) -> Self {
        let mut copy = Self::empty(self.hasher.clone());
        for entry in self.entries() {
            copy.insert_new(copy.hash(entry.key()), entry.copy());
        }
        copy
    }
}

impl<V: Stored + std::fmt::Debug> std::fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(k, v)| (k.escape_ascii().to_string(), v))).finish()
    }
}

/// A walk through the hash space, bucket by bucket.
struct Walk {
    start: u64,
    /// All hashes below are done. `None`: all are.
    done: Option<u64>,
    budget: usize,
    buckets_left: usize,
    shown: usize,
}

/// The home bucket at which a walk stands.
struct BucketRange {
    home: usize,
    /// Entries with smaller hashes were visited before; 0 when all of the bucket is new.
    from: u64,
    /// First hash after the bucket.
    end: Option<u64>,
}

impl Walk {
    fn new(cursor: u64, budget: usize) -> Self {
        let start = cursor << CURSOR_SHIFT;
        let budget = budget.max(1);
        let buckets_left = budget.saturating_mul(BUCKETS_PER_ELEMENT_MAX);
        Walk { start, done: Some(start), budget, buckets_left, shown: 0 }
    }

    fn bucket<V: Stored, N: Default>(&self, table: &Table<V, N>) -> Option<(usize, BucketRange)> {
        let done = self.done?;
        if table.is_empty() {
            return None;
        }
        let number = table.segment_of(done);
        let segment = &table.segments[number];
        let home = segment.home_of(done);
        let fresh = segment.first_hash(home) == Some(done);
        let end = segment.first_hash(home + 1);
        Some((number, BucketRange { home, from: if fresh { 0 } else { done }, end }))
    }

    /// Whether to stop here.
    fn advance(&mut self, end: Option<u64>) -> bool {
        self.done = end;
        self.buckets_left = self.buckets_left.saturating_sub(1);
        let enough = self.shown >= self.budget || self.buckets_left == 0;
        // A cursor has fewer bits than a hash: stop only where it can say that something was done.
        end.is_none_or(|e| enough && e >> CURSOR_SHIFT > self.start >> CURSOR_SHIFT)
    }

    fn cursor(&self) -> u64 {
        match self.done {
            Some(hash) if hash > self.start => hash >> CURSOR_SHIFT,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
