//! What is saved of a snapshot's point in time and not written yet: by writers before they change it, and by
//! the walk.
//!
//! A large value comes in parts, and nothing may stand between them in the file. While one is begun
//! ([`Pieces::begin_parts`]), everything else that is saved waits behind it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use thali_keyspace::{Access, Entry, Uses};
use thali_rdb::{Encoder, KeyMeta, Place, Version};

use super::requests;

/// Beyond this, writers wait before they begin. One unit of work a loop may come on top.
const WRITERS_BYTES_MAX: usize = 32 << 20;
/// Beyond this, nobody walks on.
const WALKERS_BYTES_MAX: usize = 4 << 20;
/// From here on it is worth the thread's while to write.
const WRITE_BYTES: usize = 256 << 10;

const NO_PARTS: &str = "only values in RDB form have parts";

/// How keys are written.
pub(super) enum KeyForm {
    Rdb {
        encoder: Encoder,
        /// Where uses of keys are saved, too.
        uses: Option<Uses>,
    },
    /// As the requests that make them. Values are not saved in parts then.
    Requests,
}

impl KeyForm {
    /// In RDB form, with long strings compressed or not.
    pub fn rdb(compressed: bool, uses: Option<Uses>) -> Self {
        let encoder = match compressed {
            true => Encoder::new(Version::default()),
            false => Encoder::uncompressed(Version::default()),
        };
        Self::Rdb { encoder, uses }
    }
}

/// Appends keys to a vector, with the number of their database in front where it changes.
pub(super) struct Keys {
    form: KeyForm,
    db: Option<u32>,
    pub bytes: Vec<u8>,
    pub count: u64,
}

impl Keys {
    pub fn new(form: KeyForm) -> Self {
        Self { form, db: None, bytes: Vec::new(), count: 0 }
    }

    pub fn push(&mut self, db: u32, key: &[u8], entry: &Entry, access: Access) {
        let is_other_db = self.db.replace(db) != Some(db);
        match &mut self.form {
            KeyForm::Rdb { encoder, uses } => {
                if is_other_db {
                    encoder.select_db(&mut self.bytes, db);
                }
                encoder.key(&mut self.bytes, key, &entry.value, meta_of(entry, access, *uses));
            }
            KeyForm::Requests => {
                if is_other_db {
                    requests::select(&mut self.bytes, db);
                }
                requests::entry(&mut self.bytes, key, entry);
            }
        }
        self.count += 1;
    }

    /// Begins a large value.
    pub fn begin(&mut self, db: u32, key: &[u8], entry: &Entry, access: Access) -> Place {
        // What stands before it in this vector is written before it.
        self.db = Some(db);
        self.count += 1;
        let KeyForm::Rdb { encoder, uses } = &mut self.form else { unreachable!("{NO_PARTS}") };
        encoder.select_db(&mut self.bytes, db);
        encoder.begin_key(&mut self.bytes, key, &entry.value, meta_of(entry, access, *uses))
    }

    /// Goes on with it.
    pub fn part(&mut self, entry: &Entry, place: Place, elements: usize) -> Option<Place> {
        let KeyForm::Rdb { encoder, .. } = &mut self.form else { unreachable!("{NO_PARTS}") };
        encoder.part(&mut self.bytes, &entry.value, place, elements)
    }

    /// The bytes are going elsewhere: what follows them is not ours to know.
    pub fn forget_db(&mut self) {
        self.db = None;
    }
}

fn meta_of(entry: &Entry, access: Access, uses: Option<Uses>) -> KeyMeta {
    let (counted, timed) = match uses {
        Some(uses) if uses.are_counted() => (Some(uses), None),
        uses => (None, uses),
    };
    KeyMeta {
        expire_at_unix_ms: entry.expire_at(),
        idle_seconds: timed.map(|uses| uses.idle_seconds(access)),
        freq: counted.map(|uses| uses.frequency(access)),
    }
}

struct Saved {
    /// May be written. Ends within a value while one is begun.
    ready: Vec<u8>,
    ready_count: u64,
    /// Waits behind the value that is begun; else empty.
    behind: Keys,
    in_parts: bool,
}

impl Saved {
    fn len(&self) -> usize {
        self.ready.len() + self.behind.bytes.len()
    }

    /// Lets what waits follow.
    fn join(&mut self) {
        self.ready.append(&mut self.behind.bytes);
        self.ready_count += std::mem::take(&mut self.behind.count);
        self.behind.forget_db();
    }
}

/// The sink of the running snapshot.
pub(super) struct Pieces {
    saved: Mutex<Saved>,
    waiting_bytes: AtomicUsize,
    /// Those of them that may be written now.
    ready_bytes: AtomicUsize,
    /// Keys saved so far.
    count: AtomicU64,
    /// The snapshot has failed: what is saved goes nowhere.
    discards: AtomicBool,
    /// There is room again.
    room: Condvar,
    /// There is enough to write.
    filled: Condvar,
}

impl Pieces {
    /// `form`: of what writers save.
    pub fn new(form: KeyForm) -> Self {
        Self {
            saved: Mutex::new(Saved {
                ready: Vec::new(),
                ready_count: 0,
                behind: Keys::new(form),
                in_parts: false,
            }),
            waiting_bytes: AtomicUsize::new(0),
            ready_bytes: AtomicUsize::new(0),
            count: AtomicU64::new(0),
            discards: AtomicBool::new(false),
            room: Condvar::new(),
            filled: Condvar::new(),
        }
    }

    /// Makes all others wait until [`Pieces::append`] says that the value is through; false where another one
    /// is begun.
    pub fn begin_parts(&self) -> bool {
        let mut saved = self.saved.lock();
        // What writers save from here on stands behind the value, and behind the database that it names.
        saved.behind.forget_db();
        !std::mem::replace(&mut saved.in_parts, true)
    }

    /// Adds what a walker has saved, at the end of which a large value is under way or not. `has_parts`: some
    /// of it is the value's that is begun.
    pub fn append(&self, keys: &mut Keys, has_parts: bool, goes_on: bool) {
        let mut saved = self.saved.lock();
        let waits = saved.in_parts && !has_parts;
        if self.discards.load(Ordering::Relaxed) {
            keys.bytes.clear();
        }
        let (bytes, count) = (std::mem::take(&mut keys.bytes), std::mem::take(&mut keys.count));
        if waits {
            saved.behind.bytes.extend_from_slice(&bytes);
            saved.behind.count += count;
        } else {
            saved.ready.extend_from_slice(&bytes);
            saved.ready_count += count;
        }
        saved.behind.forget_db();
        if has_parts && !goes_on {
            saved.in_parts = false;
            saved.join();
        }
        self.note_len(&saved);
        drop(saved);
        keys.bytes = bytes;
        keys.bytes.clear();
        keys.forget_db();
    }

    /// What a writer saves before it changes it.
    pub fn save(&self, db: u32, key: &[u8], entry: &Entry, access: Access) {
        if self.discards.load(Ordering::Acquire) {
            return;
        }
        let saved = &mut *self.saved.lock();
        saved.behind.push(db, key, entry, access);
        if !saved.in_parts {
            saved.ready.append(&mut saved.behind.bytes);
            saved.ready_count += std::mem::take(&mut saved.behind.count);
        }
        self.note_len(saved);
    }

    /// What a writer saves of a value that is begun.
    pub fn save_rest(&self, entry: &Entry, place: Place) {
        let mut rest = Vec::new();
        if !self.discards.load(Ordering::Acquire) {
            let mut encoder = Encoder::uncompressed(Version::default());
            let mut place = Some(place);
            while let Some(from) = place {
                place = encoder.part(&mut rest, &entry.value, from, usize::MAX >> 8);
            }
        }
        let mut saved = self.saved.lock();
        assert!(saved.in_parts, "a value is begun");
        saved.ready.append(&mut rest);
        saved.in_parts = false;
        saved.join();
        self.note_len(&saved);
    }

    /// Moves what may be written to the end of `into`, as soon as there is enough or `patience` has passed.
    pub fn take(&self, into: &mut Vec<u8>, patience: Duration) {
        let mut saved = self.saved.lock();
        if saved.ready.len() < WRITE_BYTES && !patience.is_zero() {
            self.filled.wait_for(&mut saved, patience);
        }
        into.append(&mut saved.ready);
        saved.behind.forget_db();
        self.count.fetch_add(std::mem::take(&mut saved.ready_count), Ordering::Relaxed);
        self.note_len(&saved);
        self.room.notify_all();
    }

    /// Wakes who waits in [`Pieces::take`].
    pub fn notify(&self) {
        // With the lock, so that nobody is between the look and the wait.
        drop(self.saved.lock());
        self.filled.notify_all();
    }

    /// From here on, nothing is kept.
    pub fn discard(&self) {
        self.discards.store(true, Ordering::Release);
        let mut saved = self.saved.lock();
        saved.behind.bytes.clear();
        drop(saved);
        self.take(&mut Vec::new(), Duration::ZERO);
    }

    /// Bytes that are saved and not written.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Whether what is saved goes nowhere.
    pub fn discards(&self) -> bool {
        self.discards.load(Ordering::Relaxed)
    }

    /// Waits while too much is saved and not written. To be called without any shard's lock.
    pub fn admit(&self) {
        if self.waiting_bytes.load(Ordering::Acquire) <= WRITERS_BYTES_MAX {
            return;
        }
        let mut saved = self.saved.lock();
        while saved.len() > WRITERS_BYTES_MAX {
            self.room.wait(&mut saved);
        }
    }

    /// Whether the walk is to wait until more is written.
    pub fn is_full(&self) -> bool {
        self.ready_bytes.load(Ordering::Relaxed) > WALKERS_BYTES_MAX
    }

    /// Keys that were handed to the writing thread so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn note_len(&self, saved: &Saved) {
        self.waiting_bytes.store(saved.len(), Ordering::Release);
        self.ready_bytes.store(saved.ready.len(), Ordering::Relaxed);
        if saved.ready.len() >= WRITE_BYTES {
            self.filled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thali_data::{Limits, List, Str};
    use thali_keyspace::{Typed, Value};
    use thali_rdb::{Reader, Record};

    use super::*;

    fn small() -> Entry {
        Entry::new(Str::from_bytes(b"v").into_value())
    }

    fn large() -> Entry {
        let (mut list, limits) = (List::default(), Limits::default());
        (0..5000).for_each(|n: u32| list.push_back(n.to_string().as_bytes(), &limits));
        Entry::new(list.into_value())
    }

    /// Which key stands in which database of the file that `pieces` make.
    fn dbs(pieces: &Pieces, parts: Vec<u8>) -> BTreeMap<Vec<u8>, u32> {
        let mut encoder = Encoder::uncompressed(Version::default());
        let mut file = Vec::new();
        encoder.header(&mut file);
        file.extend_from_slice(&parts);
        pieces.take(&mut file, Duration::ZERO);
        encoder.end(&mut file, None);
        let mut source = &file[..];
        let mut reader = Reader::new(&mut source).unwrap();
        let mut found = BTreeMap::new();
        loop {
            match reader.next().unwrap() {
                Record::Key(record) => drop(found.insert(record.key.to_vec(), record.db)),
                Record::End { .. } => return found,
                _ => {}
            }
        }
    }

    /// Seeded turns of writers and walkers over several databases, with large values begun, gone on with and
    /// finished by either: every key stands in its own.
    #[test]
    fn every_key_stands_in_its_database_whoever_saved_it_beside_a_large_value() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let pieces = Pieces::new(KeyForm::rdb(false, None));
            let mut walker = Keys::new(KeyForm::rdb(false, None));
            let mut expected = BTreeMap::new();
            let mut written = Vec::new();
            let value = large();
            let mut begun: Option<Place> = None;
            let key = |db: u32, expected: &mut BTreeMap<Vec<u8>, u32>| {
                let key = format!("key{}", expected.len()).into_bytes();
                expected.insert(key.clone(), db);
                key
            };
            for _ in 0..60 {
                let db = rng.u32(..3);
                match (rng.u8(..7), begun) {
                    (0 | 1, _) => pieces.save(db, &key(db, &mut expected), &small(), Access::default()),
                    (2, _) => {
                        // Another walker's hold.
                        let mut other = Keys::new(KeyForm::rdb(false, None));
                        other.push(db, &key(db, &mut expected), &small(), Access::default());
                        pieces.append(&mut other, false, false);
                    }
                    (3, _) => pieces.take(&mut written, Duration::ZERO),
                    (4, None) => {
                        walker.push(db, &key(db, &mut expected), &small(), Access::default());
                        assert!(pieces.begin_parts());
                        // Before the walker has handed over what it has.
                        let other = rng.u32(..3);
                        pieces.save(other, &key(other, &mut expected), &small(), Access::default());
                        let place = walker.begin(db, &key(db, &mut expected), &value, Access::default());
                        begun = walker.part(&value, place, 100);
                        pieces.append(&mut walker, true, begun.is_some());
                    }
                    (4 | 5, Some(place)) => {
                        begun = walker.part(&value, place, 2000);
                        if begun.is_none() {
                            walker.push(db, &key(db, &mut expected), &small(), Access::default());
                        }
                        pieces.append(&mut walker, true, begun.is_some());
                    }
                    (6, Some(place)) => {
                        pieces.save_rest(&value, place);
                        begun = None;
                    }
                    _ => {}
                }
            }
            if let Some(place) = begun {
                pieces.save_rest(&value, place);
            }
            assert_eq!(dbs(&pieces, written), expected, "seed {seed}");
        }
    }

    #[test]
    fn values_of_the_test_are_large() {
        assert!(matches!(&large().value, value @ Value::List(_) if thali_rdb::is_large(value)));
    }
}
