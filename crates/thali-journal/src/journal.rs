//! The journal as its callers see it: append, ask what is safe, ask whether writing is possible.
//!
//! Lock order: a caller's shard locks, then `buffer`; without shards, `tail`, `sync_gate`, `buffer`, then
//! `progress` or `health`. No thread of the journal ever takes a shard's lock, and `append` waits for nothing
//! but `buffer`, which is held for a copy at most.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

use crate::batch::Batches;
use crate::buffer::Buffer;
use crate::folder::Folder;
use crate::rewrite::Rewrites;
use crate::{Disk, DiskFile, JournalError, Recovery, Rewrite, recovery, rewrite, writer};

/// A place in the stream of all bytes appended since the journal was opened. Rises with the order of
/// execution; `Seq(0)` is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// When the file is synced: `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// Before anything is acknowledged.
    Always = 0,
    /// Once a second, off the write path.
    Everysec = 1,
    /// When the kernel likes.
    No = 2,
}

#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The data folder; made where missing, and locked.
    pub dir: PathBuf,
    pub appenddirname: String,
    pub appendfilename: String,
    pub policy: Policy,
    /// `aof-load-truncated`: whether a torn tail is cut or stops the start.
    pub load_truncated: bool,
    /// Bytes appended and not written beyond which [`Journal::admit`] holds callers back.
    pub buffer_bytes_max: usize,
    /// How long a failed write rests before it is tried again.
    pub retry_interval: Duration,
    /// The second of `everysec`.
    pub sync_interval: Duration,
    /// `aof-disable-auto-gc`: what a rewrite supersedes stays, and the manifest calls it history.
    pub keeps_history: bool,
    /// Where the stream goes on, so that places of a journal before stay in order with this one's.
    pub at: Seq,
}

impl JournalConfig {
    /// Redis's defaults for the journal of `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        JournalConfig {
            dir: dir.into(),
            appenddirname: "appendonlydir".into(),
            appendfilename: "appendonly.aof".into(),
            policy: Policy::Everysec,
            load_truncated: true,
            buffer_bytes_max: 64 * 1024 * 1024,
            retry_interval: Duration::from_millis(100),
            sync_interval: Duration::from_secs(1),
            keeps_history: false,
            at: Seq::default(),
        }
    }
}

/// Health for INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalState {
    /// Bytes of all files that a restart would read.
    pub size_bytes: u64,
    /// The same after the last start or rewrite.
    pub base_size_bytes: u64,
    /// Appended and not yet written.
    pub pending_bytes: u64,
    /// Written and not yet synced.
    pub unsynced_bytes: u64,
    /// `None`: the last write and the last sync went well.
    pub failure: Option<String>,
    /// The failure is final until new files are made or the process is restarted.
    pub stuck: bool,
    /// Syncs that took longer than the second that `everysec` promises.
    pub delayed_fsync_total: u64,
    pub last_sync_micros: u64,
    pub syncs_total: u64,
    pub writes_total: u64,
}

#[derive(Clone)]
pub(crate) struct OpenFile {
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
}

/// The growing file in the hands of whoever writes. INVARIANT: batches leave the buffer only while this is
/// held, so that they reach the file in their order.
#[derive(Default)]
pub(crate) struct Tail {
    /// `None` until the journal was replayed.
    pub open: Option<Arc<OpenFile>>,
    /// Taken from the buffer and not written in full.
    pub batch: Batches,
    /// The place in the stream behind `batch`.
    pub end: u64,
    /// The file may end in a part of `batch`.
    pub torn: bool,
}

impl Tail {
    /// To be called once there is something to write only.
    pub fn open(&self) -> &OpenFile {
        self.open.as_ref().expect("the writer starts after the file was opened")
    }
}

/// How far the file is written and synced, in stream positions and in bytes of the growing file.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    pub written: u64,
    pub durable: u64,
    pub len: u64,
    pub durable_len: u64,
    /// Nothing was written since a mark, or since the start.
    pub is_marked: bool,
}

#[derive(Default)]
pub(crate) struct Health {
    pub failure: Option<Arc<str>>,
    pub stuck: bool,
    pub base_size_bytes: u64,
    /// Bytes of the files before the growing one.
    pub closed_bytes: u64,
    pub delayed_fsync_total: u64,
    pub last_sync_micros: u64,
    pub syncs_total: u64,
    pub writes_total: u64,
}

type OnSync = Arc<dyn Fn(Seq) + Send + Sync>;

/// What the disk was asked for; see [`Journal::set_on_disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskStep {
    Write,
    /// `awaited`: under `always`, so that replies wait for it.
    Sync {
        awaited: bool,
    },
}

type OnDisk = Arc<dyn Fn(DiskStep, Duration) + Send + Sync>;

pub(crate) struct Shared {
    pub config: JournalConfig,
    pub disk: Arc<dyn Disk>,
    _lock: Box<dyn Send + Sync>,
    pub buffer: Mutex<Buffer>,
    pub tail: Mutex<Tail>,
    /// For the writer: bytes, a poke or the stop.
    pub more: Condvar,
    /// For `admit`: the buffer was taken, or writing failed.
    pub room: Condvar,
    /// For the syncing thread: the stop. The flag says that it came.
    pub sync_stop: (Mutex<bool>, Condvar),
    /// Bytes appended and not written, the batch in the writer's hands included.
    pub pending: AtomicUsize,
    pub progress: Mutex<Progress>,
    /// The growing file for those who sync it. Held for a sync until its outcome is recorded, so that no one
    /// trusts a sync after a failed one, and over the change to the next file.
    pub sync_gate: Mutex<Option<Arc<OpenFile>>>,
    pub synced: AtomicU64,
    pub durable: AtomicU64,
    policy: AtomicU8,
    /// A base stands before what is appended, or the folder's first increment does.
    pub has_base: AtomicBool,
    keeps_history: AtomicBool,
    pub failing: AtomicBool,
    pub health: Mutex<Health>,
    pub rewrites: Mutex<Rewrites>,
    on_sync: RwLock<Option<OnSync>>,
    on_disk: RwLock<Option<OnDisk>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    pub fn new(config: JournalConfig, disk: Arc<dyn Disk>, lock: Box<dyn Send + Sync>) -> Self {
        Shared {
            policy: AtomicU8::new(config.policy as u8),
            has_base: AtomicBool::new(true),
            keeps_history: AtomicBool::new(config.keeps_history),
            config,
            disk,
            _lock: lock,
            buffer: Mutex::default(),
            tail: Mutex::default(),
            more: Condvar::new(),
            room: Condvar::new(),
            sync_stop: (Mutex::new(false), Condvar::new()),
            pending: AtomicUsize::new(0),
            progress: Mutex::default(),
            sync_gate: Mutex::default(),
            synced: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            health: Mutex::default(),
            rewrites: Mutex::default(),
            on_sync: RwLock::new(None),
            on_disk: RwLock::new(None),
            threads: Mutex::default(),
        }
    }

    /// Begins to write behind the `len` good bytes of `open`, the last of the folder's files, which have
    /// `size_bytes`.
    pub fn start(shared: &Arc<Self>, folder: Folder, open: OpenFile, len: u64, size_bytes: u64) {
        let Seq(at) = shared.config.at;
        *shared.progress.lock() =
            Progress { written: at, durable: at, len, durable_len: len, is_marked: true };
        shared.buffer.lock().appended += at;
        shared.synced.store(at, Ordering::Release);
        shared.durable.store(at, Ordering::Release);
        {
            let mut health = shared.health.lock();
            health.base_size_bytes = size_bytes;
            health.closed_bytes = size_bytes.saturating_sub(len);
        }
        shared.rewrites.lock().folder = Some(folder);
        let open = Arc::new(open);
        *shared.sync_gate.lock() = Some(Arc::clone(&open));
        shared.tail.lock().open = Some(open);
        *shared.threads.lock() = writer::start(shared);
    }

    pub fn policy(&self) -> Policy {
        match self.policy.load(Ordering::Acquire) {
            0 => Policy::Always,
            1 => Policy::Everysec,
            _ => Policy::No,
        }
    }

    pub fn keeps_history(&self) -> bool {
        self.keeps_history.load(Ordering::Acquire)
    }

    /// Publishes what the policy lets be acknowledged, and tells the server.
    pub fn publish(&self) {
        let progress = *self.progress.lock();
        let seq = if self.policy() == Policy::Always { progress.durable } else { progress.written };
        self.durable.fetch_max(progress.durable, Ordering::AcqRel);
        let seq = self.synced.fetch_max(seq, Ordering::AcqRel).max(seq);
        let on_sync = self.on_sync.read().clone();
        if let Some(on_sync) = on_sync {
            on_sync(Seq(seq));
        }
    }

    pub fn is_stuck(&self) -> bool {
        self.failing.load(Ordering::Acquire) && self.health.lock().stuck
    }

    /// Tells how long the disk took.
    pub fn note_disk(&self, step: DiskStep, took: Duration) {
        if let Some(on_disk) = &*self.on_disk.read() {
            on_disk(step, took);
        }
    }
}

/// The growing end of the append-only file. Shared by reference between all threads.
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Opens or makes the journal of `config.dir`. Nothing is written before [`Recovery::replay`] succeeded.
    pub fn open(config: JournalConfig, disk: Arc<dyn Disk>) -> Result<(Journal, Recovery), JournalError> {
        recovery::open(config, disk)
    }

    /// A journal for data that is in memory already and in no journal: all that is appended from now on is
    /// kept, and counts once a first base stands before it, see [`Rewrite`]. The moment for which the base
    /// stands is the one at which the caller, holding all shards, begins to append; [`Rewrite::cut`] is not
    /// called. Until [`Rewrite::finish`], the folder holds what it held before.
    pub fn create(config: JournalConfig, disk: Arc<dyn Disk>) -> Result<(Journal, Rewrite), JournalError> {
        rewrite::create(config, disk)
    }

    /// Whether the folder holds a journal for [`Journal::open`], were it an empty one.
    pub fn is_begun(config: &JournalConfig, disk: &dyn Disk) -> Result<bool, JournalError> {
        Folder::is_begun(config, disk)
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Journal { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Appends encoded requests in the order of their execution: to be called while the shards that they
    /// changed are still locked. `atomic`: a restart applies all of them or none.
    ///
    /// Never waits for the disk: who produces effects asks [`Journal::admit`] first, holding no shard. That
    /// bounds the buffer at `buffer_bytes_max` plus one command, transaction or script a thread. Under
    /// other policies than `always` the caller owes a [`Journal::flush`] once it holds no shard.
    pub fn append<'a>(&self, effects: impl IntoIterator<Item = (u32, &'a [u8])>, atomic: bool) -> Seq {
        let shared = &*self.shared;
        let mut effects = effects.into_iter().peekable();
        let mut buffer = shared.buffer.lock();
        let Some(first) = effects.next() else { return Seq(buffer.appended) };
        let is_group = atomic && effects.peek().is_some();
        let (added, is_first) = buffer.append(first, effects, is_group);
        let seq = Seq(buffer.appended);
        shared.pending.fetch_add(added, Ordering::AcqRel);
        // The first bytes of a batch wake the writer; later ones find it awake or on its way.
        if is_first && shared.policy() == Policy::Always {
            drop(buffer);
            shared.more.notify_one();
        }
        seq
    }

    /// Gets everything up to `seq` on its way into the file, without waiting for a sync: written on the
    /// calling thread where nobody else writes or syncs, else by the writer. A write into the page cache
    /// costs less than waking a thread for it and being woken again. To be called without any shard's lock.
    pub fn flush(&self, seq: Seq) {
        let shared = &*self.shared;
        // While writing fails, the writer tries again by itself.
        if self.synced() >= seq || shared.failing.load(Ordering::Acquire) {
            return;
        }
        if !writer::write_here(shared) {
            shared.more.notify_one();
        }
    }

    /// Everything up to here may be acknowledged: under `always` it is synced, else written. Replies to
    /// writes wait for it under every policy.
    pub fn synced(&self) -> Seq {
        Seq(self.shared.synced.load(Ordering::Acquire))
    }

    /// Everything up to here survives the death of the machine, whatever the policy. For WAITAOF.
    pub fn durable(&self) -> Seq {
        Seq(self.shared.durable.load(Ordering::Acquire))
    }

    /// The end of what was appended.
    pub fn appended(&self) -> Seq {
        Seq(self.shared.buffer.lock().appended)
    }

    /// `on_sync` is called by the journal's threads after each write, sync and failure with the place that
    /// [`Journal::synced`] then gives. It should only wake others.
    pub fn set_on_sync(&self, on_sync: Box<dyn Fn(Seq) + Send + Sync>) {
        *self.shared.on_sync.write() = Some(Arc::from(on_sync));
    }

    /// `on_disk` is told how long each write and each sync took, by whoever did it and with the journal's locks
    /// held: it should note that and ask the journal nothing.
    pub fn set_on_disk(&self, on_disk: Box<dyn Fn(DiskStep, Duration) + Send + Sync>) {
        *self.shared.on_disk.write() = Some(Arc::from(on_disk));
    }

    /// The gate before anything that will append: returns at once while the disk keeps up, waits while
    /// too much is unwritten, and gives the error reply while writing fails. To be called without any
    /// shard's lock, also before expiry and eviction.
    pub fn admit(&self) -> Result<(), Arc<str>> {
        let shared = &*self.shared;
        let max = shared.config.buffer_bytes_max;
        if !shared.failing.load(Ordering::Acquire) && shared.pending.load(Ordering::Acquire) <= max {
            return Ok(());
        }
        let mut buffer = shared.buffer.lock();
        loop {
            if let Some(text) = self.refusal() {
                return Err(text);
            }
            if shared.pending.load(Ordering::Acquire) <= max || buffer.stopping {
                return Ok(());
            }
            // Whoever owes a flush may be the one that waits here.
            shared.more.notify_one();
            shared.room.wait(&mut buffer);
        }
    }

    /// The error reply for writes while the journal cannot write; `None` while it can. Never waits.
    pub fn refusal(&self) -> Option<Arc<str>> {
        if !self.shared.failing.load(Ordering::Acquire) {
            return None;
        }
        self.shared.health.lock().failure.clone()
    }

    /// What was appended and is not in [`Journal::synced`] will never be: replies that wait for it are to
    /// end with their connections, as their outcome is unknown.
    pub fn is_stuck(&self) -> bool {
        self.shared.is_stuck()
    }

    /// Whether a restart would read what is appended: not before the first base of one that began with
    /// [`Journal::create`] is named.
    pub fn has_base(&self) -> bool {
        self.shared.has_base.load(Ordering::Acquire)
    }

    pub fn policy(&self) -> Policy {
        self.shared.policy()
    }

    /// Changes `appendfsync`. A change to `always` syncs what is written so far.
    pub fn set_policy(&self, policy: Policy) {
        self.shared.policy.store(policy as u8, Ordering::Release);
        self.shared.buffer.lock().poked = true;
        self.shared.more.notify_one();
    }

    /// Appended and not yet written.
    pub fn pending_bytes(&self) -> usize {
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// Changes `aof-disable-auto-gc`. What was kept goes with the next rewrite, or [`Journal::delete_history`].
    pub fn set_keeps_history(&self, keeps: bool) {
        self.shared.keeps_history.store(keeps, Ordering::Release);
    }

    /// Deletes what the manifest calls history, or leaves it to the rewrite that runs. Waits for the disk; the caller
    /// holds no shard.
    pub fn delete_history(&self) {
        let shared = &*self.shared;
        let folder = shared.rewrites.lock().folder.take();
        if let Some(mut folder) = folder {
            folder.delete_history(&*shared.disk);
            shared.rewrites.lock().folder = Some(folder);
        }
    }

    pub fn state(&self) -> JournalState {
        let progress = *self.shared.progress.lock();
        let health = self.shared.health.lock();
        JournalState {
            size_bytes: health.closed_bytes + progress.len,
            base_size_bytes: health.base_size_bytes,
            pending_bytes: self.shared.pending.load(Ordering::Acquire) as u64,
            unsynced_bytes: progress.written - progress.durable,
            failure: health.failure.as_deref().map(str::to_owned),
            stuck: health.stuck,
            delayed_fsync_total: health.delayed_fsync_total,
            last_sync_micros: health.last_sync_micros,
            syncs_total: health.syncs_total,
            writes_total: health.writes_total,
        }
    }

    /// Writes and syncs all under any policy and stops the journal; for shutdown. An error says that
    /// something appended is not safe; it was never acknowledged under `always`. A second call does nothing.
    pub fn close(&self) -> Result<(), JournalError> {
        let shared = &*self.shared;
        shared.buffer.lock().stopping = true;
        shared.more.notify_one();
        shared.room.notify_all();
        *shared.sync_stop.0.lock() = true;
        shared.sync_stop.1.notify_all();
        for thread in shared.threads.lock().drain(..) {
            thread.join().expect("the journal's threads abort the process when they panic");
        }
        match self.refusal() {
            Some(text) => Err(JournalError::Unwritten(text.to_string())),
            None if shared.pending.load(Ordering::Acquire) > 0 => {
                Err(JournalError::Unwritten("it was not replayed before".into()))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "journal closed with unwritten effects");
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("state", &self.state()).finish_non_exhaustive()
    }
}
