//! Rewriting the journal: a new base made from memory, while the stream goes on in a new increment.
//!
//! ```text
//! begin    the next increment is created and synced, the manifest names it            old base, old, next
//! cut      all shards locked: what is appended from here on is for the next increment
//!          the writer syncs the old increment, then goes over
//! finish   the new base is synced, named as history, renamed                          old base, old, next
//!          the new base is named; all before the cut is history                        new base, next
//!          history is deleted, then forgotten by the manifest
//! ```
//!
//! A crash at any moment leaves a manifest of one of the two forms in the right column, and both stand for
//! the same data: the old base and the old increments give the data at the cut, and so does the new base.
//! The next increment gets its first byte only after the old one is synced to its end, or after the new base
//! is durable; so what is left is always a prefix of the stream.
//!
//! The first base of a journal that began while the process ran ([`Journal::create`]) has no old files that
//! count, so its increment bears a name of its own up to `finish`, and the manifest of before stays in force:
//!
//! ```text
//! create   the increment is created as temp-*; what is appended goes there            as before
//! finish   base and increment are synced, named as history, renamed                   as before
//!          both are named; what was there before is history                           new base, increment
//! ```
//!
//! A failed sync leaves the old increment without a good end, and then only `finish` opens the next one: the
//! base holds all that was appended before the cut, written or not, synced or not. That is also when it
//! counts as durable, and not before. Until then nothing is written, and what was appended behind the cut
//! waits in memory; as writers are refused meanwhile, that is little. Where the rewrite fails, the cut is
//! undone, and all is as it was.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::{BaseForm, BaseWriter};
use crate::batch::HEADER_LEN;
use crate::folder::{Folder, aside_name};
use crate::journal::{OpenFile, Shared};
use crate::manifest::{Entry, Kind};
use crate::{Disk, Journal, JournalConfig, JournalError, Seq, recovery, writer};

/// After this many failures in a row, automatic rewrites rest. SOURCE: redis 7.0 `aofRewriteLimited`.
const FAILURES_FREE: u32 = 3;
const REST_MIN: Duration = Duration::from_secs(60);
const REST_MAX: Duration = Duration::from_secs(60 * 60);
/// A stuck journal tries sooner: nothing can be written before a rewrite succeeds.
const STUCK_REST_MIN: Duration = Duration::from_secs(1);
const STUCK_REST_MAX: Duration = Duration::from_secs(60);

/// How long to wait for the writer before looking whether it has gone over to the next file.
const TAIL_WAIT: Duration = Duration::from_millis(1);

/// What rewrites leave for the next one.
#[derive(Default)]
pub(crate) struct Rewrites {
    /// `None` before the replay and while a rewrite has it.
    pub folder: Option<Folder>,
    failures: u32,
    last_failure: Option<Instant>,
}

/// What a rewrite came to; for the log and INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewriteReport {
    pub base_bytes: u64,
    /// Superseded files that are gone.
    pub files_deleted: usize,
    pub took: Duration,
}

impl Journal {
    /// Prepares the next increment, on the calling thread, which may wait for the disk and holds no shard. An
    /// error leaves all as it was. Only one rewrite runs at a time.
    pub fn begin_rewrite(&self) -> Result<Rewrite, JournalError> {
        let shared = Arc::clone(self.shared());
        let folder = shared.rewrites.lock().folder.take().ok_or(JournalError::RewriteRunning)?;
        let begun = Instant::now();
        let cut = CutState::None;
        let mut rewrite = Rewrite { shared, folder: Some(folder), next: None, cut, first: None, begun };
        rewrite.prepare()?;
        Ok(rewrite)
    }

    /// Whether it is time for an automatic rewrite: the files have grown by `percentage` since the last one
    /// (0: never) and are larger than `min_bytes`, or the journal is stuck and a rewrite would heal it. Rests
    /// after failures.
    pub fn wants_rewrite(&self, percentage: u32, min_bytes: u64, now: Instant) -> bool {
        let is_stuck = self.is_stuck();
        {
            let rewrites = self.shared().rewrites.lock();
            if rewrites.folder.is_none() || rewrites.is_resting(is_stuck, now) {
                return false;
            }
        }
        let state = self.state();
        let growth = u128::from(state.size_bytes.saturating_sub(state.base_size_bytes));
        let base = u128::from(state.base_size_bytes.max(1));
        let has_grown =
            percentage > 0 && state.size_bytes > min_bytes && growth * 100 >= base * u128::from(percentage);
        is_stuck || has_grown
    }
}

impl Rewrites {
    fn is_resting(&self, is_stuck: bool, now: Instant) -> bool {
        let Some(last) = self.last_failure else { return false };
        let rest = |free: u32, min: Duration, max: Duration| match self.failures.checked_sub(free) {
            Some(doublings) => max.min(min * (1 << doublings.min(16))),
            None => Duration::ZERO,
        };
        let rest = match is_stuck {
            true => rest(1, STUCK_REST_MIN, STUCK_REST_MAX),
            false => rest(FAILURES_FREE, REST_MIN, REST_MAX),
        };
        now.saturating_duration_since(last) < rest
    }
}

/// A running rewrite; dropping it aborts it: the old base and both increments stay.
#[must_use = "dropped, it is aborted"]
pub struct Rewrite {
    shared: Arc<Shared>,
    /// Taken from [`Rewrites`] until the end.
    folder: Option<Folder>,
    next: Option<Arc<OpenFile>>,
    cut: CutState,
    /// The increment of a journal that has no base yet: what it will be called, and the file until then.
    first: Option<(Entry, OpenFile)>,
    begun: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CutState {
    None,
    Made,
    /// A manifest that calls everything before the cut history may be on the disk: the stream must go on in
    /// the next increment.
    Final,
    Finished,
}

impl Rewrite {
    fn folder(&mut self) -> &mut Folder {
        self.folder.as_mut().expect("held until the end")
    }

    fn prepare(&mut self) -> Result<(), JournalError> {
        let shared = Arc::clone(&self.shared);
        let disk = &*shared.disk;
        let folder = self.folder();
        release_cut(&shared, folder)?;
        let next = match &folder.spare {
            Some(spare) => Arc::clone(spare),
            None => {
                let next = folder.add_increment(disk)?;
                folder.spare = Some(Arc::clone(&next));
                next
            }
        };
        self.next = Some(next);
        // So that little is left to be synced at the cut, while replies wait.
        writer::sync(&shared);
        Ok(())
    }

    /// Fixes the point in time: to be called once, while all shards are locked, by who then writes the base
    /// as of now. Costs no I/O. Gives the place in the stream that the base stands for.
    pub fn cut(&mut self) -> Seq {
        assert!(self.cut == CutState::None, "a rewrite is cut once");
        self.cut = CutState::Made;
        let next = Arc::clone(self.next.as_ref().expect("prepared"));
        let mut buffer = self.shared.buffer.lock();
        let added = buffer.cut(next);
        let at = Seq(buffer.appended);
        self.shared.pending.fetch_add(added, Ordering::AcqRel);
        drop(buffer);
        self.shared.more.notify_one();
        at
    }

    /// A file for the new base, under a name of its own until [`Rewrite::finish`]. Dropped, it is deleted.
    pub fn base_writer(&mut self, form: BaseForm) -> Result<BaseWriter, JournalError> {
        let disk = Arc::clone(&self.shared.disk);
        BaseWriter::create(disk, self.folder(), form)
    }

    /// Makes `base` the base and deletes what it supersedes. `base` is whole: it holds what the keyspace
    /// held at [`Rewrite::cut`]. Waits for the disk.
    ///
    /// An error leaves the old base and both increments in force. (A manifest whose folder could not be
    /// synced may name either set; both are whole.)
    pub fn finish(mut self, mut base: BaseWriter) -> Result<RewriteReport, JournalError> {
        assert!(self.cut == CutState::Made, "a base without a cut stands for no point in time");
        let shared = Arc::clone(&self.shared);
        let disk = &*shared.disk;
        base.complete()?;
        self.sync_first()?;
        let first = self.first.as_ref().map(|(entry, _)| entry.clone());
        base.give_name(self.folder(), first.as_ref())?;
        self.rename_first()?;
        let folder = self.folder();
        disk.sync_dir(&folder.dir).map_err(JournalError::io("sync", &folder.dir))?;
        let last = first.as_ref().or(folder.manifest.last_increment()).expect("a rewrite has prepared it");
        let manifest = folder.manifest.superseded_by(base.entry(), Some(last));
        self.cut = CutState::Final;
        self.folder().store(disk, manifest)?;
        self.cut = CutState::Finished;
        shared.has_base.store(true, Ordering::Release);
        self.take_over(base.len());
        let files_deleted = if shared.keeps_history() { 0 } else { self.folder().delete_history(disk) };
        Ok(RewriteReport { base_bytes: base.len(), files_deleted, took: self.begun.elapsed() })
    }

    /// Ends without a new base.
    pub fn abort(self) {}

    /// What the first increment has so far must not be lost while it is named.
    fn sync_first(&mut self) -> Result<(), JournalError> {
        let Some((_, open)) = &self.first else { return Ok(()) };
        writer::sync(&self.shared);
        match self.shared.is_stuck() {
            true => Err(JournalError::io("sync", &open.path)(io::Error::other("a sync has failed"))),
            false => Ok(()),
        }
    }

    /// Gives the first increment its name; what is under way to it goes on. Fails where nothing gets there: who
    /// tries again and again to write holds `tail` meanwhile, and a base without its increment is worth nothing.
    fn rename_first(&mut self) -> Result<(), JournalError> {
        let Some((entry, open)) = self.first.take() else { return Ok(()) };
        let path = self.folder().path(&entry);
        self.shared.disk.rename(&open.path, &path).map_err(JournalError::io("rename", &open.path))?;
        let renamed = Arc::new(OpenFile { file: open.file, path });
        let mut tail = loop {
            if let Some(tail) = self.shared.tail.try_lock_for(TAIL_WAIT) {
                break tail;
            }
            if self.shared.failing.load(Ordering::Acquire) {
                let error = io::Error::other("the file cannot be written");
                return Err(JournalError::io("begin", &renamed.path)(error));
            }
        };
        tail.open = Some(Arc::clone(&renamed));
        drop(tail);
        *self.shared.sync_gate.lock() = Some(renamed);
        Ok(())
    }

    /// From here on the base stands for all before the cut.
    fn take_over(&mut self, base_len: u64) {
        let shared = Arc::clone(&self.shared);
        self.folder().spare = None;
        {
            let mut buffer = shared.buffer.lock();
            match &mut buffer.cut {
                Some(cut) => cut.covered_by = Some(base_len),
                None => shared.health.lock().closed_bytes = base_len,
            }
        }
        // A writer that tries in vain to write to the old file gives up now. It may then do the same with the
        // next one, holding `tail`, so that is not waited for without looking at what it did.
        shared.more.notify_one();
        while shared.buffer.lock().cut.is_some() {
            if let Some(mut tail) = shared.tail.try_lock_for(TAIL_WAIT) {
                writer::move_on(&shared, &mut tail);
            }
        }
        let len = shared.progress.lock().len;
        shared.health.lock().base_size_bytes = base_len + len;
        shared.publish();
        shared.buffer.lock().poked = true;
        shared.more.notify_one();
        writer::wake_admission(&shared);
    }
}

impl Drop for Rewrite {
    fn drop(&mut self) {
        if let Some(folder) = &mut self.folder
            && self.cut == CutState::Made
        {
            folder.spare = self.shared.buffer.lock().undo_cut();
            self.shared.more.notify_one();
        }
        if let Some(folder) = &mut self.folder
            && self.cut == CutState::Final
        {
            folder.spare = None;
        }
        if let Some((_, open)) = &self.first
            && let Err(error) = self.shared.disk.remove(&open.path)
        {
            tracing::warn!(file = %open.path.display(), %error, "cannot delete the unfinished increment");
        }
        let mut rewrites = self.shared.rewrites.lock();
        rewrites.folder = self.folder.take();
        if self.cut == CutState::Finished {
            (rewrites.failures, rewrites.last_failure) = (0, None);
        } else {
            rewrites.failures += 1;
            rewrites.last_failure = Some(Instant::now());
        }
    }
}

/// See [`Journal::create`].
pub(crate) fn create(config: JournalConfig, disk: Arc<dyn Disk>) -> Result<(Journal, Rewrite), JournalError> {
    let begun = Instant::now();
    let lock = recovery::lock(&config, &*disk)?;
    let folder = Folder::find(&config, &*disk)?;
    let entry = folder.next(&*disk, Kind::Increment, "incr.aof")?;
    let open = folder.begin_increment(&*disk, folder.dir.join(aside_name(&entry.name)))?;
    let shared = Arc::new(Shared::new(config, disk, lock));
    shared.has_base.store(false, Ordering::Release);
    let len = HEADER_LEN as u64;
    Shared::start(&shared, folder, open.clone(), len, len);
    let folder = shared.rewrites.lock().folder.take();
    let first = Some((entry, open));
    let rewrite =
        Rewrite { shared: Arc::clone(&shared), folder, next: None, cut: CutState::Made, first, begun };
    Ok((Journal::new(shared), rewrite))
}

/// Makes sure that the writer has no cut of an earlier rewrite before it.
fn release_cut(shared: &Shared, folder: &mut Folder) -> Result<(), JournalError> {
    let is_stuck = shared.is_stuck();
    let mut buffer = shared.buffer.lock();
    match &buffer.cut {
        None => Ok(()),
        // Nothing is written to either file before a rewrite succeeds.
        Some(_) if is_stuck => {
            folder.spare = buffer.undo_cut();
            Ok(())
        }
        Some(_) => Err(JournalError::RewriteRunning),
    }
}
