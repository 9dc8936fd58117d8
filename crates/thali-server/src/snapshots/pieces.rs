//! What is saved of a snapshot's point in time and not written yet: by writers before they change it, and by
//! the walk.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use thali_keyspace::{Entry, SnapshotSink};
use thali_rdb::{Encoder, KeyMeta, Version};

/// Beyond this, writers wait before they begin. One unit of work a loop may come on top.
const WRITERS_BYTES_MAX: usize = 32 << 20;
/// Beyond this, nobody walks on.
const WALKERS_BYTES_MAX: usize = 4 << 20;
/// From here on it is worth the thread's while to write.
const WRITE_BYTES: usize = 256 << 10;

/// Appends keys to a vector, with the number of their database in front where it changes.
pub(super) struct Keys {
    encoder: Encoder,
    db: Option<u32>,
    pub bytes: Vec<u8>,
    pub count: u64,
}

impl Keys {
    pub fn new(encoder: Encoder) -> Self {
        Self { encoder, db: None, bytes: Vec::new(), count: 0 }
    }

    pub fn push(&mut self, db: u32, key: &[u8], entry: &Entry) {
        if self.db != Some(db) {
            self.encoder.select_db(&mut self.bytes, db);
            self.db = Some(db);
        }
        let meta = KeyMeta { expire_at_unix_ms: entry.expire_at(), ..KeyMeta::default() };
        self.encoder.key(&mut self.bytes, key, &entry.value, meta);
        self.count += 1;
    }

    /// The bytes are going elsewhere: what follows them is not ours to know.
    pub fn forget_db(&mut self) {
        self.db = None;
    }
}

/// The sink of the running snapshot.
pub(super) struct Pieces {
    keys: Mutex<Keys>,
    waiting_bytes: AtomicUsize,
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
    pub fn new() -> Self {
        Self {
            // Those who save here are clients' commands: they have no time to compress.
            keys: Mutex::new(Keys::new(Encoder::uncompressed(Version::default()))),
            waiting_bytes: AtomicUsize::new(0),
            count: AtomicU64::new(0),
            discards: AtomicBool::new(false),
            room: Condvar::new(),
            filled: Condvar::new(),
        }
    }

    /// Adds what a walker has saved.
    pub fn append(&self, saved: &mut Keys) {
        let mut keys = self.keys.lock();
        if !self.discards.load(Ordering::Relaxed) {
            keys.bytes.extend_from_slice(&saved.bytes);
            keys.count += saved.count;
        }
        keys.forget_db();
        self.note_len(&keys);
        drop(keys);
        saved.bytes.clear();
        saved.count = 0;
        saved.forget_db();
    }

    /// Moves what was saved to the end of `into`, as soon as there is enough or `patience` has passed.
    pub fn take(&self, into: &mut Vec<u8>, patience: Duration) {
        let mut keys = self.keys.lock();
        if keys.bytes.len() < WRITE_BYTES && !patience.is_zero() {
            self.filled.wait_for(&mut keys, patience);
        }
        into.append(&mut keys.bytes);
        keys.forget_db();
        self.count.fetch_add(std::mem::take(&mut keys.count), Ordering::Relaxed);
        self.note_len(&keys);
        self.room.notify_all();
    }

    /// Wakes who waits in [`Pieces::take`].
    pub fn notify(&self) {
        // With the lock, so that nobody is between the look and the wait.
        drop(self.keys.lock());
        self.filled.notify_all();
    }

    /// From here on, nothing is kept.
    pub fn discard(&self) {
        self.discards.store(true, Ordering::Release);
        self.take(&mut Vec::new(), Duration::ZERO);
    }

    /// Waits while too much is saved and not written. To be called without any shard's lock.
    pub fn admit(&self) {
        if self.waiting_bytes.load(Ordering::Acquire) <= WRITERS_BYTES_MAX {
            return;
        }
        let mut keys = self.keys.lock();
        while keys.bytes.len() > WRITERS_BYTES_MAX {
            self.room.wait(&mut keys);
        }
    }

    /// Whether the walk is to wait until more is written.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) > WALKERS_BYTES_MAX
    }

    /// Keys that were handed to the writing thread so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn note_len(&self, keys: &Keys) {
        self.waiting_bytes.store(keys.bytes.len(), Ordering::Release);
        if keys.bytes.len() >= WRITE_BYTES {
            self.filled.notify_one();
        }
    }
}

impl SnapshotSink for Pieces {
    fn save(&self, db: u32, key: &[u8], entry: &Entry) {
        if self.discards.load(Ordering::Acquire) {
            return;
        }
        let mut keys = self.keys.lock();
        keys.push(db, key, entry);
        self.note_len(&keys);
    }
}
