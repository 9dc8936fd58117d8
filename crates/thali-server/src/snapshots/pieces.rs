//! What writers save of a snapshot's point in time before they change it, until the walk writes it out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use thali_keyspace::{Entry, SnapshotSink};
use thali_rdb::{Encoder, KeyMeta, Version};

/// Saved and not written yet, beyond which writers wait before they begin. One unit of work a loop may
/// come on top.
const WAITING_BYTES_MAX: usize = 32 << 20;

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
    /// The snapshot has failed: what is saved goes nowhere.
    discards: AtomicBool,
    room: Condvar,
}

impl Pieces {
    pub fn new() -> Self {
        Self {
            // Those who save here are clients' commands: they have no time to compress.
            keys: Mutex::new(Keys::new(Encoder::uncompressed(Version::default()))),
            waiting_bytes: AtomicUsize::new(0),
            discards: AtomicBool::new(false),
            room: Condvar::new(),
        }
    }

    /// Moves what was saved to the end of `into`; gives how many keys it is.
    pub fn take(&self, into: &mut Vec<u8>) -> u64 {
        let mut keys = self.keys.lock();
        into.append(&mut keys.bytes);
        keys.forget_db();
        self.waiting_bytes.store(0, Ordering::Release);
        self.room.notify_all();
        std::mem::take(&mut keys.count)
    }

    /// From here on, nothing is kept.
    pub fn discard(&self) {
        self.discards.store(true, Ordering::Release);
        self.take(&mut Vec::new());
    }

    /// Waits while too much is saved and not written. To be called without any shard's lock.
    pub fn admit(&self) {
        if self.waiting_bytes.load(Ordering::Acquire) <= WAITING_BYTES_MAX {
            return;
        }
        let mut keys = self.keys.lock();
        while keys.bytes.len() > WAITING_BYTES_MAX {
            self.room.wait(&mut keys);
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
        self.waiting_bytes.store(keys.bytes.len(), Ordering::Release);
    }
}
