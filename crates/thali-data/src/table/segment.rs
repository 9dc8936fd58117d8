//! A segment: the buckets for one range of hashes.
//!
//! ```text
//! bucket, 64 bytes:  7 tags | next | 7 entry pointers
//! segment:           n home buckets, then overflow buckets
//! ```
//! A segment of depth `d` owns the hashes that begin with its `d` prefix bits. The remaining bits, read
//! as a fraction of one and multiplied by `n`, give the home bucket; so a home bucket owns a contiguous
//! range of hashes whatever `n` is, buckets stand in hash order, and `n` need not be a power of two.
//! An entry that finds its home full goes to an overflow bucket chained by `next` (number + 1; 0 = none).
//! A tag is eight hash bits that neither prefix nor home use; one 64-bit compare tests all seven.

use super::Stored;
use super::entry::Entry;
use crate::prefetch::prefetch;

pub(super) const SLOTS: usize = 7;
/// `next` is one byte and 0 means none.
const OVERFLOW_MAX: usize = 255;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
/// High bit of each of the seven tags.
const TAG_HITS: u64 = 0x0080_8080_8080_8080;

#[repr(C, align(64))]
pub(super) struct Bucket<V: Stored, N: Copy> {
    tags: [u8; SLOTS],
    next: u8,
    slots: [Option<Entry<V, N>>; SLOTS],
}

const _: () = assert!(size_of::<Bucket<(), ()>>() == 64);

/// 0 marks a free slot.
fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

impl<V: Stored, N: Copy> Bucket<V, N> {
    fn empty() -> Self {
        Bucket { tags: [0; SLOTS], next: 0, slots: [const { None }; SLOTS] }
    }

    /// The high bit of each byte whose slot has this tag. A byte above a true match may be marked as well: the
    /// comparison of keys sorts that out.
    fn hits(&self, tag: u8) -> u64 {
        let [a, b, c, d, e, f, g] = self.tags;
        let diff = u64::from_le_bytes([a, b, c, d, e, f, g, 0]) ^ (LOW_BITS * tag as u64);
        // A byte of `diff` is zero where the tag matches; a borrow marks the one above.
        diff.wrapping_sub(LOW_BITS) & !diff & TAG_HITS
    }

    fn find(&self, tag: u8, key: &[u8]) -> Option<usize> {
        let mut hits = self.hits(tag);
        while hits != 0 {
            let slot = hits.trailing_zeros() as usize / 8;
            if self.slots[slot].as_ref().is_some_and(|e| e.key() == key) {
                return Some(slot);
            }
            hits &= hits - 1;
        }
        None
    }

    fn free_slot(&self) -> Option<usize> {
        self.tags.iter().position(|&t| t == 0)
    }

    fn is_empty(&self) -> bool {
        self.tags == [0; SLOTS]
    }
}

/// Where an entry stands within its segment; valid until the segment changes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub bucket: u32,
    pub slot: u8,
}

pub(super) struct Segment<V: Stored, N: Copy> {
    /// `home` home buckets, then overflow buckets.
    buckets: Vec<Bucket<V, N>>,
    home: u32,
    pub len: u32,
    /// The first hash of the segment's range.
    pub prefix: u64,
    /// Number of prefix bits.
    pub depth: u8,
    /// First of the empty overflow buckets, chained by `next`.
    free: u8,
}

impl<V: Stored, N: Copy> Segment<V, N> {
    pub fn new(prefix: u64, depth: u8, home: usize) -> Self {
        let mut buckets = Vec::new();
        buckets.reserve_exact(home);
        buckets.resize_with(home, Bucket::empty);
        Segment { buckets, home: home as u32, len: 0, prefix, depth, free: 0 }
    }

    pub fn home_buckets(&self) -> usize {
        self.home as usize
    }

    pub fn bucket_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket<V, N>>()
    }

    pub fn home_of(&self, hash: u64) -> usize {
        let fraction = hash << self.depth;
        ((fraction as u128 * self.home as u128) >> 64) as usize
    }

    /// First hash that home bucket `bucket` owns; for `bucket == home_buckets()`, the first hash after
    /// the segment. `None` past the last hash of all.
    pub fn first_hash(&self, bucket: usize) -> Option<u64> {
        let home = self.home as u128;
        let fraction = ((bucket as u128) << 64).div_ceil(home);
        let offset = fraction.div_ceil(1 << self.depth);
        u64::try_from(self.prefix as u128 + offset).ok()
    }

    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let tag = tag_of(hash);
        let mut at = self.home_of(hash);
        loop {
            let bucket = &self.buckets[at];
            if let Some(slot) = bucket.find(tag, key) {
                return Some(Place { bucket: at as u32, slot: slot as u8 });
            }
            at = self.next(at)?;
        }
    }

    /// The first entry among those of the hash's home that has its tag.
    pub fn likely(&self, hash: u64) -> Option<&Entry<V, N>> {
        let tag = tag_of(hash);
        let mut at = self.home_of(hash);
        loop {
            let bucket = &self.buckets[at];
            match bucket.hits(tag) {
                0 => at = self.next(at)?,
                hits => return bucket.slots[hits.trailing_zeros() as usize / 8].as_ref(),
            }
        }
    }

    /// Asks for a hash's home bucket.
    pub fn touch(&self, hash: u64) {
        prefetch(&raw const self.buckets[self.home_of(hash)]);
    }

    fn next(&self, at: usize) -> Option<usize> {
        match self.buckets[at].next {
            0 => None,
            n => Some(self.home as usize + n as usize - 1),
        }
    }

    pub fn entry(&self, place: Place) -> &Entry<V, N> {
        self.buckets[place.bucket as usize].slots[place.slot as usize]
            .as_ref()
            .expect("place of a live entry")
    }

    pub fn entry_mut(&mut self, place: Place) -> &mut Entry<V, N> {
        self.buckets[place.bucket as usize].slots[place.slot as usize]
            .as_mut()
            .expect("place of a live entry")
    }

    /// Puts in an entry whose key is not there yet. Gives it back when all overflow buckets are taken.
    pub fn place(&mut self, hash: u64, entry: Entry<V, N>) -> Result<Place, Entry<V, N>> {
        let mut at = self.home_of(hash);
        loop {
            if let Some(slot) = self.buckets[at].free_slot() {
                let bucket = &mut self.buckets[at];
                bucket.tags[slot] = tag_of(hash);
                bucket.slots[slot] = Some(entry);
                self.len += 1;
                return Ok(Place { bucket: at as u32, slot: slot as u8 });
            }
            at = match self.next(at) {
                Some(next) => next,
                None => match self.chain_bucket(at) {
                    Some(next) => next,
                    None => return Err(entry),
                },
            };
        }
    }

    /// Hangs an empty overflow bucket behind bucket `at`.
    fn chain_bucket(&mut self, at: usize) -> Option<usize> {
        let home = self.home as usize;
        let number = if self.free != 0 {
            let number = self.free as usize;
            self.free = std::mem::take(&mut self.buckets[home + number - 1].next);
            number
        } else {
            let number = self.buckets.len() - home + 1;
            if number > OVERFLOW_MAX {
                return None;
            }
            if self.buckets.len() == self.buckets.capacity() {
                self.buckets.reserve_exact(1 + home / 8);
            }
            self.buckets.push(Bucket::empty());
            number
        };
        self.buckets[at].next = number as u8;
        Some(home + number - 1)
    }

    /// Takes out the entry at `place`, which must come from `find` with a key of hash `hash`.
    pub fn remove(&mut self, hash: u64, place: Place) -> Entry<V, N> {
        let entry = self.take(place);
        if place.bucket >= self.home && self.buckets[place.bucket as usize].is_empty() {
            self.unchain_empty(self.home_of(hash));
        }
        entry
    }

    fn take(&mut self, place: Place) -> Entry<V, N> {
        let bucket = &mut self.buckets[place.bucket as usize];
        bucket.tags[place.slot as usize] = 0;
        self.len -= 1;
        bucket.slots[place.slot as usize].take().expect("place of a live entry")
    }

    /// Frees the empty overflow buckets of the chain that begins at home bucket `at`.
    fn unchain_empty(&mut self, mut at: usize) {
        while let Some(next) = self.next(at) {
            if self.buckets[next].is_empty() {
                let number = self.buckets[at].next;
                self.buckets[at].next = self.buckets[next].next;
                self.buckets[next].next = self.free;
                self.free = number;
            } else {
                at = next;
            }
        }
    }

    /// The entries whose home is bucket `home`.
    pub fn chain(&self, home: usize) -> impl Iterator<Item = &Entry<V, N>> {
        std::iter::successors(Some(home), |&at| self.next(at))
            .flat_map(|at| self.buckets[at].slots.iter().flatten())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry<V, N>> {
        self.buckets.iter().flat_map(|b| b.slots.iter().flatten())
    }

    pub fn into_entries(self) -> impl Iterator<Item = Entry<V, N>> {
        self.buckets.into_iter().flat_map(|b| b.slots.into_iter().flatten())
    }
}
