//! A segment: the buckets for one range of hashes.
//!
//! ```text
//! bucket, 64 bytes:  7 tags | next | 7 entry pointers
//! segment:           n home buckets | overflow buckets, numbered from n on
//! ```
//! A segment of depth `d` owns the hashes that begin with its `d` prefix bits. The remaining bits, read
//! as a fraction of one and multiplied by `n`, give the home bucket; so a home bucket owns a contiguous
//! range of hashes whatever `n` is, buckets stand in hash order, and `n` need not be a power of two.
//! An entry that finds its home full goes to an overflow bucket, which `next` leads to (number - n + 1; 0 = none). Several
//! buckets may lead to the same one: few homes have more than they hold, and those one or two more. So a chain may show
//! entries of other homes. INVARIANT: it leads to higher numbers alone, so it ends.
//! Overflow buckets have an allocation of their own, and the large one keeps the size that it was made with: where a
//! table grows evenly its segments change their sizes together, and leave memory behind that nobody else asks for.
//! A tag is eight hash bits that neither prefix nor home use; one 64-bit compare tests all seven.

use super::Stored;
use super::entry::Entry;
use crate::prefetch::prefetch;

pub(super) const SLOTS: usize = 7;
/// `next` is one byte and 0 means none.
const OVERFLOW_MAX: usize = u8::MAX as usize;
/// Home buckets for each overflow bucket that is made room for at once: a full segment needs one for every twelve.
const OVERFLOW_STEP: usize = 32;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
/// High bit of each of the seven tags.
const TAG_HITS: u64 = 0x0080_8080_8080_8080;

#[repr(C, align(64))]
pub(super) struct Bucket<V: Stored, N> {
    tags: [u8; SLOTS],
    next: u8,
    slots: [Option<Entry<V, N>>; SLOTS],
}

const _: () = assert!(size_of::<Bucket<(), ()>>() == 64);

/// 0 marks a free slot.
fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// The lowest slot of [`Bucket::hits`].
fn first_of(hits: u64) -> Option<usize> {
    if hits == 0 { None } else { Some(hits.trailing_zeros() as usize / 8) }
}

impl<V: Stored, N> Bucket<V, N> {
    fn empty() -> Self {
        Bucket { tags: [0; SLOTS], next: 0, slots: [const { None }; SLOTS] }
    }

    /// The high bit of each byte whose slot has this tag. A byte above a true match may be marked as well: the
    /// comparison of keys sorts that out, and the lowest is always a true one.
    fn hits(&self, tag: u8) -> u64 {
        let [a, b, c, d, e, f, g] = self.tags;
        let diff = u64::from_le_bytes([a, b, c, d, e, f, g, 0]) ^ (LOW_BITS * tag as u64);
        // A byte of `diff` is zero where the tag matches; a borrow marks the one above.
        diff.wrapping_sub(LOW_BITS) & !diff & TAG_HITS
    }

    fn find(&self, tag: u8, key: &[u8]) -> Option<usize> {
        let mut hits = self.hits(tag);
        while let Some(slot) = first_of(hits) {
            if self.slots[slot].as_ref().is_some_and(|e| e.key() == key) {
                return Some(slot);
            }
            hits &= hits - 1;
        }
        None
    }

    fn free_slot(&self) -> Option<usize> {
        first_of(self.hits(0))
    }
}

/// Where an entry stands within its segment; valid until the segment changes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub bucket: u32,
    pub slot: u8,
}

pub(super) struct Segment<V: Stored, N> {
    home: Box<[Bucket<V, N>]>,
    overflow: Vec<Bucket<V, N>>,
    pub len: u32,
    /// The first hash of the segment's range.
    pub prefix: u64,
    /// Number of prefix bits.
    pub depth: u8,
}

impl<V: Stored, N> Segment<V, N> {
    pub fn new(prefix: u64, depth: u8, home: usize) -> Self {
        let home = std::iter::repeat_with(Bucket::empty).take(home).collect();
        Segment { home, overflow: Vec::new(), len: 0, prefix, depth }
    }

    pub fn home_buckets(&self) -> usize {
        self.home.len()
    }

    /// Slots of all buckets.
    pub fn slots_len(&self) -> usize {
        (self.home.len() + self.overflow.len()) * SLOTS
    }

    /// What stands in the slot of this number.
    pub fn slot(&self, number: usize) -> Option<&Entry<V, N>> {
        self.bucket(number / SLOTS).slots[number % SLOTS].as_ref()
    }

    pub fn bucket_bytes(&self) -> usize {
        (self.home.len() + self.overflow.capacity()) * size_of::<Bucket<V, N>>()
    }

    fn bucket(&self, at: usize) -> &Bucket<V, N> {
        match self.home.get(at) {
            Some(bucket) => bucket,
            None => &self.overflow[at - self.home.len()],
        }
    }

    fn bucket_mut(&mut self, at: usize) -> &mut Bucket<V, N> {
        let homes = self.home.len();
        match self.home.get_mut(at) {
            Some(bucket) => bucket,
            None => &mut self.overflow[at - homes],
        }
    }

    pub fn home_of(&self, hash: u64) -> usize {
        let fraction = hash << self.depth;
        ((fraction as u128 * self.home.len() as u128) >> 64) as usize
    }

    /// First hash that home bucket `bucket` owns; for `bucket == home_buckets()`, the first hash after
    /// the segment. `None` past the last hash of all.
    pub fn first_hash(&self, bucket: usize) -> Option<u64> {
        let home = self.home.len() as u128;
        let fraction = ((bucket as u128) << 64).div_ceil(home);
        let offset = fraction.div_ceil(1 << self.depth);
        u64::try_from(self.prefix as u128 + offset).ok()
    }

    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let tag = tag_of(hash);
        let mut at = self.home_of(hash);
        loop {
            let bucket = self.bucket(at);
            if let Some(slot) = bucket.find(tag, key) {
                return Some(Place { bucket: at as u32, slot: slot as u8 });
            }
            if bucket.next == 0 {
                return None;
            }
            at = self.home.len() + usize::from(bucket.next) - 1;
        }
    }

    /// The first entry among those of the hash's home that has its tag.
    pub fn likely(&self, hash: u64) -> Option<&Entry<V, N>> {
        let tag = tag_of(hash);
        let mut at = self.home_of(hash);
        loop {
            let bucket = self.bucket(at);
            match first_of(bucket.hits(tag)) {
                Some(slot) => return bucket.slots[slot].as_ref(),
                None => at = self.next(at)?,
            }
        }
    }

    /// Asks for a hash's home bucket.
    pub fn touch(&self, hash: u64) {
        prefetch(&raw const self.home[self.home_of(hash)]);
    }

    fn next(&self, at: usize) -> Option<usize> {
        match self.bucket(at).next {
            0 => None,
            n => Some(self.home.len() + n as usize - 1),
        }
    }

    pub fn entry(&self, place: Place) -> &Entry<V, N> {
        self.bucket(place.bucket as usize).slots[place.slot as usize].as_ref().expect("place of a live entry")
    }

    pub fn entry_mut(&mut self, place: Place) -> &mut Entry<V, N> {
        self.bucket_mut(place.bucket as usize).slots[place.slot as usize]
            .as_mut()
            .expect("place of a live entry")
    }

    /// Puts in an entry whose key is not there yet. Gives it back when all overflow buckets are taken.
    pub fn place(&mut self, hash: u64, entry: Entry<V, N>) -> Result<Place, Entry<V, N>> {
        let mut at = self.home_of(hash);
        loop {
            let bucket = self.bucket_mut(at);
            if let Some(slot) = bucket.free_slot() {
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

    /// Lets bucket `at` lead to an overflow bucket that has room.
    fn chain_bucket(&mut self, at: usize) -> Option<usize> {
        let behind = (at + 1).saturating_sub(self.home.len());
        let with_room = self.overflow[behind..].iter().position(|bucket| bucket.free_slot().is_some());
        let number = match with_room {
            Some(further) => behind + further,
            None if self.overflow.len() == OVERFLOW_MAX => return None,
            None => {
                if self.overflow.len() == self.overflow.capacity() {
                    self.overflow.reserve_exact(1 + self.home.len() / OVERFLOW_STEP);
                }
                self.overflow.push(Bucket::empty());
                self.overflow.len() - 1
            }
        };
        self.bucket_mut(at).next = (number + 1) as u8;
        self.next(at)
    }

    /// Takes out the entry at `place`, which must come from `find` with a key of hash `hash`; `hash_of` tells that of others.
    pub fn remove(&mut self, hash: u64, place: Place, hash_of: impl Fn(&[u8]) -> u64) -> Entry<V, N> {
        let entry = self.take(place);
        let home = self.home_of(hash);
        if place.bucket as usize >= self.home.len() && self.overflow_of(home, hash_of).next().is_none() {
            self.home[home].next = 0;
        }
        entry
    }

    fn take(&mut self, place: Place) -> Entry<V, N> {
        self.len -= 1;
        let bucket = self.bucket_mut(place.bucket as usize);
        bucket.tags[place.slot as usize] = 0;
        bucket.slots[place.slot as usize].take().expect("place of a live entry")
    }

    /// The entries whose home is bucket `home`; `hash_of` tells the hash of a key.
    pub fn of_home(&self, home: usize, hash_of: impl Fn(&[u8]) -> u64) -> impl Iterator<Item = &Entry<V, N>> {
        self.home[home].slots.iter().flatten().chain(self.overflow_of(home, hash_of))
    }

    /// Those of [`Segment::of_home`] that found no room there.
    fn overflow_of(&self, home: usize, hash_of: impl Fn(&[u8]) -> u64) -> impl Iterator<Item = &Entry<V, N>> {
        std::iter::successors(self.next(home), |&at| self.next(at))
            .flat_map(|at| self.bucket(at).slots.iter().flatten())
            .filter(move |entry| self.home_of(hash_of(entry.key())) == home)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry<V, N>> {
        self.home.iter().chain(&self.overflow).flat_map(|b| b.slots.iter().flatten())
    }

    pub fn into_entries(self) -> impl Iterator<Item = Entry<V, N>> {
        self.home.into_iter().chain(self.overflow).flat_map(|b| b.slots.into_iter().flatten())
    }
}
