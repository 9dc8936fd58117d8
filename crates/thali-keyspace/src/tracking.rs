//! Client-side caching: who has read which keys and is to be told when they change.
//!
//! A shard notes the readers of its keys, behind its lock: a reader is noted while the key's shard is held for
//! reading, and taken out by whoever changes the key while it holds the same shard. So no change falls between
//! a reply and the note of it. Keys count for all databases together, as in Redis. How a reader is told is
//! not known here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use smallvec::SmallVec;
use thali_data::{Stored, Table};

use crate::SessionAddress;
use crate::locks::{Keyspace, Locked};

/// What all shards share. Every change of a key looks at the first part, every note of a reading writes the second:
/// each has cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tracking {
    clients: AtomicUsize,
    prefixes: AtomicUsize,
    counts: Counts,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    keys: AtomicUsize,
    items: AtomicUsize,
}

impl Tracking {
    /// Whether anybody is to be told of anything. Asked with the shard of a changed key held: who noted a
    /// reading there had said before that it tracks.
    pub fn is_on(&self) -> bool {
        self.clients.load(Relaxed) > 0
    }

    /// Whether anybody wants to be told of keys that nobody has read.
    pub fn has_prefixes(&self) -> bool {
        self.prefixes.load(Relaxed) > 0
    }

    /// Clients that track.
    pub fn clients_len(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Keys with readers.
    pub fn keys_len(&self) -> usize {
        self.counts.keys.load(Relaxed)
    }

    /// Readers of all keys together.
    pub fn items_len(&self) -> usize {
        self.counts.items.load(Relaxed)
    }

    /// One client more tracks.
    pub fn add_client(&self) {
        self.clients.fetch_add(1, SeqCst);
    }

    /// One client less.
    pub fn remove_client(&self) {
        self.clients.fetch_sub(1, SeqCst);
    }

    /// How many prefixes somebody wants to be told of.
    pub fn set_prefixes_len(&self, len: usize) {
        self.prefixes.store(len, SeqCst);
    }
}

/// How a client tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    pub const NONE: Self = Self(0);
    pub const ON: Self = Self(1);
    /// Is told of all keys with its prefixes, read or not.
    pub const BCAST: Self = Self(1 << 1);
    /// Only what is read after CLIENT CACHING yes is noted.
    pub const OPTIN: Self = Self(1 << 2);
    /// What is read after CLIENT CACHING no is not noted.
    pub const OPTOUT: Self = Self(1 << 3);
    /// Is not told of its own changes.
    pub const NOLOOP: Self = Self(1 << 4);
    /// Who should be told in its place has left.
    pub const BROKEN: Self = Self(1 << 5);
    /// CLIENT CACHING was given for the next command.
    pub const CACHING: Self = Self(1 << 6);

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A client that tracks or did once. Its loop changes it; whoever changes a key looks at it.
#[derive(Debug)]
pub struct Tracker {
    /// CLIENT ID.
    pub client: u64,
    pub address: SessionAddress,
    modes: AtomicU8,
    /// The client that is told in its place; 0: none.
    redirect: AtomicU64,
}

impl Tracker {
    pub fn new(client: u64, address: SessionAddress) -> Self {
        Self { client, address, modes: AtomicU8::new(0), redirect: AtomicU64::new(0) }
    }

    pub fn modes(&self) -> Modes {
        Modes(self.modes.load(Relaxed))
    }

    pub fn has(&self, modes: Modes) -> bool {
        self.modes().contains(modes)
    }

    pub fn set_modes(&self, modes: Modes) {
        self.modes.store(modes.0, Relaxed);
    }

    pub fn add_mode(&self, mode: Modes) {
        self.modes.fetch_or(mode.0, Relaxed);
    }

    pub fn remove_mode(&self, mode: Modes) {
        self.modes.fetch_and(!mode.0, Relaxed);
    }

    /// The client that is told in its place; 0: none.
    pub fn redirect(&self) -> u64 {
        self.redirect.load(Relaxed)
    }

    pub fn set_redirect(&self, client: u64) {
        self.redirect.store(client, Relaxed);
    }

    /// Whether what it reads now is to be noted.
    pub fn notes_reading(&self) -> bool {
        let modes = self.modes();
        let caching = modes.contains(Modes::CACHING);
        modes.contains(Modes::ON)
            && !modes.contains(Modes::BCAST)
            && (caching || !modes.contains(Modes::OPTIN))
            && !(caching && modes.contains(Modes::OPTOUT))
    }

    /// Whether it is to be told of a key that it has read and that `by` changed. One that has gone over to
    /// broadcasts is told of nothing that it read before.
    pub fn wants(&self, by: Option<SessionAddress>) -> bool {
        let modes = self.modes();
        modes.contains(Modes::ON)
            && !modes.contains(Modes::BCAST)
            && !(modes.contains(Modes::NOLOOP) && by == Some(self.address))
    }
}

/// Readers beyond this count are found by their number, not by looking at each.
const FEW: usize = 8;

/// The readers of one key.
#[derive(Debug)]
pub enum Readers {
    Few(SmallVec<[Arc<Tracker>; 2]>),
    Many(HashMap<u64, Arc<Tracker>, foldhash::fast::RandomState>),
}

impl Stored for Readers {}

impl Readers {
    fn new() -> Self {
        Self::Few(SmallVec::new())
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(map) => map.len(),
        }
    }

    /// False where it was there already.
    fn add(&mut self, reader: &Arc<Tracker>) -> bool {
        match self {
            Self::Few(list) if list.iter().any(|known| known.client == reader.client) => false,
            Self::Few(list) if list.len() < FEW => {
                list.push(Arc::clone(reader));
                true
            }
            Self::Few(list) => {
                let known = list.drain(..).chain([Arc::clone(reader)]);
                *self = Self::Many(known.map(|reader| (reader.client, reader)).collect());
                true
            }
            Self::Many(map) => map.insert(reader.client, Arc::clone(reader)).is_none(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tracker>> {
        let (list, map) = match self {
            Self::Few(list) => (Some(list.iter()), None),
            Self::Many(map) => (None, Some(map.values())),
        };
        list.into_iter().flatten().chain(map.into_iter().flatten())
    }
}

/// One shard's keys with their readers.
pub(crate) type ReadKeys = Table<Readers>;

impl Keyspace {
    /// Who tracks, over all shards.
    pub fn tracking(&self) -> &Tracking {
        &self.tracking
    }
}

impl Locked<'_> {
    /// Notes who has read a key, whose shard is held.
    pub fn note_reader(&mut self, key: &[u8], reader: &Arc<Tracker>) {
        let (readers, is_new_key) = self.shard_mut(key).read_keys.get_or_insert_with(key, Readers::new);
        let is_new_reader = readers.add(reader);
        let tracking = self.keyspace().tracking();
        tracking.counts.keys.fetch_add(usize::from(is_new_key), Relaxed);
        tracking.counts.items.fetch_add(usize::from(is_new_reader), Relaxed);
    }

    /// Takes out the readers of a key, whose shard is held: the caller tells them.
    pub fn take_readers(&mut self, key: &[u8]) -> Option<Readers> {
        let table = &mut self.shard_mut(key).read_keys;
        let readers = if table.is_empty() { None } else { table.remove(key) }?.into_value();
        self.keyspace().tracking().took(1, readers.len());
        Some(readers)
    }

    /// Takes out up to `max` keys chosen by chance from the held shards, with their readers.
    pub fn take_read_keys(
        &mut self,
        max: usize,
        mut random: impl FnMut() -> u64,
    ) -> Vec<(Box<[u8]>, Readers)> {
        let mut taken = Vec::new();
        for (_, shard) in self.shards_mut() {
            while taken.len() < max
                && let Some(key) = shard.read_keys.random(&mut random).map(|(key, _)| Box::<[u8]>::from(key))
            {
                let readers = shard.read_keys.remove(&key).expect("it was found just now").into_value();
                taken.push((key, readers));
            }
        }
        let items = taken.iter().map(|(_, readers)| readers.len()).sum();
        self.keyspace().tracking().took(taken.len(), items);
        taken
    }

    /// Forgets the readers of all keys; every shard is held. What it gives takes time to free: to be dropped
    /// after the shards are let go.
    pub fn forget_readers(&mut self) -> Forgotten {
        let tracking = self.keyspace().tracking();
        tracking.counts.keys.store(0, Relaxed);
        tracking.counts.items.store(0, Relaxed);
        let full = self.shards_mut().filter(|(_, shard)| !shard.read_keys.is_empty());
        Forgotten { _tables: full.map(|(_, shard)| std::mem::take(&mut shard.read_keys)).collect() }
    }

    /// As [`Locked::forget_readers`] for the held shards alone.
    pub fn forget_held_readers(&mut self) -> Forgotten {
        let full = self.shards_mut().filter(|(_, shard)| !shard.read_keys.is_empty());
        let tables: Vec<ReadKeys> = full.map(|(_, shard)| std::mem::take(&mut shard.read_keys)).collect();
        let items = tables.iter().flat_map(|table| table.iter()).map(|(_, readers)| readers.len()).sum();
        self.keyspace().tracking().took(tables.iter().map(Table::len).sum(), items);
        Forgotten { _tables: tables }
    }
}

/// The notes of who has read what, to be freed.
#[derive(Debug)]
pub struct Forgotten {
    _tables: Vec<ReadKeys>,
}

impl Tracking {
    fn took(&self, keys: usize, items: usize) {
        self.counts.keys.fetch_sub(keys, Relaxed);
        self.counts.items.fetch_sub(items, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(client: u64) -> Arc<Tracker> {
        let tracker = Tracker::new(client, SessionAddress { event_loop: 0, session: client });
        tracker.set_modes(Modes::ON);
        Arc::new(tracker)
    }

    #[test]
    fn a_reader_is_noted_once_and_taken_once_however_many_there_are() {
        let keyspace = Keyspace::new(4);
        let mut locked = keyspace.lock_all(crate::ENDLESS).unwrap();
        let readers: Vec<_> = (1..=50).map(tracker).collect();
        for _ in 0..2 {
            readers.iter().for_each(|reader| locked.note_reader(b"k", reader));
        }
        locked.note_reader(b"other", &readers[0]);
        let tracking = keyspace.tracking();
        assert_eq!((tracking.keys_len(), tracking.items_len()), (2, 51));
        let taken = locked.take_readers(b"k").unwrap();
        let mut clients: Vec<u64> = taken.iter().map(|reader| reader.client).collect();
        clients.sort_unstable();
        assert_eq!(clients, (1..=50).collect::<Vec<_>>());
        assert!(locked.take_readers(b"k").is_none());
        assert_eq!((tracking.keys_len(), tracking.items_len()), (1, 1));
        locked.forget_readers();
        assert_eq!((tracking.keys_len(), tracking.items_len()), (0, 0));
    }

    #[test]
    fn as_many_keys_are_taken_as_asked_for() {
        let keyspace = Keyspace::new(4);
        let mut locked = keyspace.lock_all(crate::ENDLESS).unwrap();
        let reader = tracker(1);
        (0..100).for_each(|i| locked.note_reader(format!("k{i}").as_bytes(), &reader));
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed
        };
        assert_eq!(locked.take_read_keys(30, &mut random).len(), 30);
        assert_eq!(keyspace.tracking().keys_len(), 70);
        assert_eq!(locked.take_read_keys(1_000, &mut random).len(), 70);
        assert_eq!(keyspace.tracking().items_len(), 0);
    }

    #[test]
    fn caching_turns_the_default_of_opt_in_and_opt_out_around() {
        let tracker = tracker(1);
        for (modes, plain, caching) in [
            (Modes::ON, true, true),
            (Modes::ON.with(Modes::OPTIN), false, true),
            (Modes::ON.with(Modes::OPTOUT), true, false),
            (Modes::ON.with(Modes::BCAST), false, false),
            (Modes::NONE, false, false),
        ] {
            tracker.set_modes(modes);
            assert_eq!(tracker.notes_reading(), plain, "{modes:?}");
            tracker.add_mode(Modes::CACHING);
            assert_eq!(tracker.notes_reading(), caching, "{modes:?}");
        }
    }

    #[test]
    fn only_who_asked_for_it_is_spared_its_own_changes() {
        let tracker = tracker(1);
        assert!(tracker.wants(Some(tracker.address)) && tracker.wants(None));
        tracker.add_mode(Modes::NOLOOP);
        assert!(!tracker.wants(Some(tracker.address)) && tracker.wants(None));
        tracker.add_mode(Modes::BCAST);
        assert!(!tracker.wants(None));
    }
}
