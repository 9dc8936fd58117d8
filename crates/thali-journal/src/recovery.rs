//! Opening a folder and reading it back. Creates what is missing; cuts a torn tail, and only once everything
//! before it was applied; deletes what the manifest calls history, and only after that.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::batch::HEADER_LEN;
use crate::folder::{self, Folder, NO_END_MARK, is_unused, len_of};
use crate::journal::{OpenFile, Shared};
use crate::manifest::{Entry, Kind};
use crate::reader::{GroupReader, Next};
use crate::{Disk, Effect, Journal, JournalConfig, JournalError};

/// What a file in RDB form begins with, be it all of it or what comes before the requests.
pub(crate) const RDB_MAGIC: &[u8] = b"REDIS";

/// What reading the journal back came to; for the log and INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub files: usize,
    /// Requests applied.
    pub records: u64,
    /// Transactions among them, each applied whole.
    pub groups: u64,
    pub bytes_read: u64,
    /// Bytes in RDB form among them.
    pub rdb_bytes: u64,
    /// Bytes of requests that no checksum vouches for, as redis-server writes none.
    pub unchecked_bytes: u64,
    /// Bytes of a torn or zero-padded tail that were cut from the last file that holds any.
    pub bytes_cut: u64,
    /// Superseded files that were still there.
    pub files_deleted: usize,
    pub took: Duration,
}

/// How far a replay has come, for other threads to look at.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    read: AtomicU64,
    total: AtomicU64,
}

impl RecoveryProgress {
    /// Bytes of the files that were read so far, and of all.
    pub fn bytes(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// Takes a base in RDB form: the stream from its first byte on, the file's length, and its path for messages.
/// Gives the length of that form, its checksum included: what follows in the file is read as requests. It
/// may read beyond.
pub type LoadBase<'a> = dyn FnMut(&mut dyn Read, u64, &Path) -> Result<u64, String> + 'a;

/// Takes a group: a slice of one request, or all requests of a transaction, which is to be applied whole.
pub type ApplyGroup<'a> = dyn FnMut(&[Effect<'_>]) -> Result<(), String> + 'a;

/// A group that cannot be applied: where it begins in its file, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub offset: u64,
    pub why: String,
}

/// Takes what the files hold, group by group, in their order, and may put it off.
///
/// Owed: of all groups that were taken and cannot be applied, the first one is told, by whichever of the two
/// is called next; and what stands behind it counts for nothing.
pub trait Apply {
    /// Takes a group, which begins at `offset` of the file being read.
    fn apply(&mut self, offset: u64, group: &[Effect<'_>]) -> Result<(), Rejection>;
    /// Returns when all that was taken is applied. Called at the end of each file, and before anything is said
    /// about how that ended.
    fn settle(&mut self) -> Result<(), Rejection>;
}

/// Applies each group when it is taken.
pub struct AtOnce<'a, 'f>(pub &'a mut ApplyGroup<'f>);

impl Apply for AtOnce<'_, '_> {
    fn apply(&mut self, offset: u64, group: &[Effect<'_>]) -> Result<(), Rejection> {
        (self.0)(group).map_err(|why| Rejection { offset, why })
    }

    fn settle(&mut self) -> Result<(), Rejection> {
        Ok(())
    }
}

/// The files of an opened journal, not read yet.
#[must_use = "the journal writes nothing before it was replayed"]
pub struct Recovery {
    shared: Arc<Shared>,
    folder: Folder,
    progress: Arc<RecoveryProgress>,
    /// The journal begins to write behind what was read.
    goes_on: bool,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("manifest", &self.folder.manifest).finish_non_exhaustive()
    }
}

/// Takes the lock and makes sure that there is a manifest with an increment to grow.
pub(crate) fn open(config: JournalConfig, disk: Arc<dyn Disk>) -> Result<(Journal, Recovery), JournalError> {
    let lock = lock(&config, &*disk)?;
    let folder = Folder::open(&config, &*disk)?;
    let shared = Arc::new(Shared::new(config, disk, lock));
    let journal = Journal::new(Arc::clone(&shared));
    Ok((journal, Recovery { shared, folder, progress: Arc::default(), goes_on: true }))
}

/// See [`Recovery::look`].
fn look(config: JournalConfig, disk: Arc<dyn Disk>) -> Result<Option<Recovery>, JournalError> {
    let lock = lock(&config, &*disk)?;
    let folder = Folder::find(&config, &*disk)?;
    if folder.manifest.live().next().is_none() {
        return Ok(None);
    }
    folder.must_be_whole(&*disk)?;
    let shared = Arc::new(Shared::new(config, disk, lock));
    Ok(Some(Recovery { shared, folder, progress: Arc::default(), goes_on: false }))
}

/// Makes the files of the journal this process's own, for as long as the lock is kept. Others may have theirs in
/// the same folder, under another `appendfilename`.
pub(crate) fn lock(config: &JournalConfig, disk: &dyn Disk) -> Result<Box<dyn Send + Sync>, JournalError> {
    let dir = config.dir.join(&config.appenddirname);
    disk.create_dir_all(&dir).map_err(JournalError::io("make the folder", &dir))?;
    let path = dir.join(folder::lock_name(&config.appendfilename));
    let lock = disk.lock(&path).map_err(JournalError::io("lock", &path))?;
    lock.ok_or_else(|| JournalError::Locked { path: dir.join(&config.appendfilename) })
}

/// How a file ended.
#[derive(Default)]
struct Ending {
    /// From here on it is to be cut.
    torn_at: Option<u64>,
    has_mark: bool,
    /// Up to here it was synced at least.
    synced_len: u64,
}

/// Bytes at a file's end that are written once more at the start. What a failed sync lost lies there: it was
/// written not long before.
const REFRESH_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl Recovery {
    /// The files of a folder to which nobody appends, to be read and left as they are; `None` where it names none.
    /// The folder is locked up to the end of the replay.
    pub fn look(config: JournalConfig, disk: Arc<dyn Disk>) -> Result<Option<Recovery>, JournalError> {
        look(config, disk)
    }

    /// For the log and INFO, while [`Recovery::replay`] runs.
    pub fn progress(&self) -> Arc<RecoveryProgress> {
        Arc::clone(&self.progress)
    }

    /// As [`Recovery::replay_with_base`], where no base is in RDB form.
    pub fn replay(self, apply: &mut ApplyGroup<'_>) -> Result<RecoveryReport, JournalError> {
        let mut refused = None;
        let mut refuse = |_: &mut dyn Read, _: u64, path: &Path| {
            refused = Some(path.to_owned());
            Err(String::new())
        };
        let report = self.replay_with_base(&mut AtOnce(apply), &mut refuse);
        match refused {
            Some(path) => Err(JournalError::RdbBase { path }),
            None => report,
        }
    }

    /// Reads all files in order and hands over what they hold. Then the journal begins to write, unless the files
    /// were only to be looked at.
    ///
    /// An error leaves the files as they are and the journal unusable. `apply` must not call
    /// [`Journal::close`]; what it appends to the journal is written behind what was read.
    pub fn replay_with_base(
        mut self,
        apply: &mut dyn Apply,
        load_base: &mut LoadBase<'_>,
    ) -> Result<RecoveryReport, JournalError> {
        let begun = Instant::now();
        let mut report = RecoveryReport::default();
        let disk = Arc::clone(&self.shared.disk);
        let live: Vec<_> = self.folder.manifest.live().cloned().collect();
        let lens = live.iter().map(|entry| len_of(&*disk, &self.folder.path(entry)));
        let lens = lens.collect::<Result<Vec<_>, _>>()?;
        self.progress.total.store(lens.iter().sum(), Ordering::Relaxed);
        let mut endings = Vec::new();
        for (index, entry) in live.iter().enumerate() {
            let path = self.folder.path(entry);
            let may_tear = self.folder.may_tear(&*disk, &live[index..])?;
            let mut from = 0;
            if entry.kind == Kind::Base {
                from = self.load_base(&path, lens[index], load_base, &mut report)?;
            }
            let ending = self.replay_file(&path, from, may_tear, apply, &mut report)?;
            if !ending.has_mark && self.folder.wants_end_mark(&*disk, &live[index..]) {
                return Err(JournalError::Damaged { path, offset: lens[index], why: NO_END_MARK.into() });
            }
            endings.push(ending);
            report.files += 1;
        }
        if !self.goes_on {
            report.took = begun.elapsed();
            return Ok(report);
        }
        let (open, len) = self.choose_growing(&live, &endings)?;
        disk.sync_dir(&self.folder.dir).map_err(JournalError::io("sync", &self.folder.dir))?;
        if !self.shared.keeps_history() {
            report.files_deleted = self.folder.delete_history(&*disk);
        }
        report.took = begun.elapsed();
        let size_bytes = report.bytes_read;
        Shared::start(&self.shared, self.folder, open, len, size_bytes);
        Ok(report)
    }

    /// Opens the increment that grows, with its length. It is the last one, unless that was made for a rewrite
    /// which died before it came to use it: then it waits for the next. Cuts what is torn, and makes durable
    /// what was read: it may have been in the page cache alone.
    fn choose_growing(
        &mut self,
        live: &[Entry],
        endings: &[Ending],
    ) -> Result<(OpenFile, u64), JournalError> {
        let disk = Arc::clone(&self.shared.disk);
        let mut opened = Vec::new();
        for (entry, ending) in live.iter().zip(endings) {
            let path = self.folder.path(entry);
            if entry.kind == Kind::Base && ending.torn_at.is_none() {
                continue;
            }
            let file = disk.open_append(&path).map_err(JournalError::io("open", &path))?;
            if let Some(offset) = ending.torn_at {
                file.truncate(offset).map_err(JournalError::io("cut", &path))?;
            }
            if entry.kind == Kind::Increment {
                // The process before may have died between a sync that failed and the cut that follows.
                let len = len_of(&*disk, &path)?;
                let from = ending.synced_len.max(len.saturating_sub(REFRESH_BYTES_MAX));
                disk.refresh(&path, from).map_err(JournalError::io("refresh", &path))?;
            }
            file.sync().map_err(JournalError::io("sync", &path))?;
            if entry.kind == Kind::Increment {
                opened.push(OpenFile { file, path });
            }
        }
        let mut growing = opened.pop().expect("open makes an increment");
        let len = len_of(&*disk, &growing.path)?;
        let is_mark = len == HEADER_LEN as u64 && is_unused(&*disk, &growing.path)?;
        if is_mark && let Some(before) = opened.pop() {
            self.folder.spare = Some(Arc::new(std::mem::replace(&mut growing, before)));
        }
        let len = len_of(&*disk, &growing.path)?;
        Ok((growing, len))
    }

    /// Hands over a base in RDB form; gives the offset at which requests begin.
    fn load_base(
        &self,
        path: &Path,
        len: u64,
        load_base: &mut LoadBase<'_>,
        report: &mut RecoveryReport,
    ) -> Result<u64, JournalError> {
        let mut magic = [0; RDB_MAGIC.len()];
        let disk = &*self.shared.disk;
        let mut source = disk.open_read(path, 0).map_err(JournalError::io("read", path))?;
        let is_rdb =
            len >= magic.len() as u64 && source.read_exact(&mut magic).is_ok() && magic == *RDB_MAGIC;
        if !is_rdb {
            return Ok(0);
        }
        let source = disk.open_read(path, 0).map_err(JournalError::io("read", path))?;
        let before = self.progress.read.load(Ordering::Relaxed);
        let mut source = Counted { source, progress: Arc::clone(&self.progress) };
        let loaded = load_base(&mut source, len, path);
        let rdb_len = loaded.map_err(|why| JournalError::Base { path: path.to_owned(), why })?;
        if rdb_len > len {
            let why = format!("its reader says that it has {rdb_len} bytes, the file has {len}");
            return Err(JournalError::Base { path: path.to_owned(), why });
        }
        self.progress.read.store(before + rdb_len, Ordering::Relaxed);
        report.bytes_read += rdb_len;
        report.rdb_bytes += rdb_len;
        Ok(rdb_len)
    }

    /// Applies the requests of one file from an offset on; gives the tear at its end.
    fn replay_file(
        &self,
        path: &Path,
        from: u64,
        may_tear: bool,
        apply: &mut dyn Apply,
        report: &mut RecoveryReport,
    ) -> Result<Ending, JournalError> {
        let disk = &self.shared.disk;
        let file_len = len_of(&**disk, path)?;
        let source = disk.open_read(path, from).map_err(JournalError::io("read", path))?;
        let source = Counted { source, progress: Arc::clone(&self.progress) };
        let mut reader = GroupReader::new(Box::new(source), from, file_len);
        let ended = self.replay_groups(&mut reader, path, file_len, may_tear, apply, report);
        // What was put off stands before the place where the reading ended, so it is heard first.
        apply.settle().map_err(rejected(path))?;
        let torn_at = ended?;
        let unchecked = reader.offset() - from - reader.checked_bytes();
        report.bytes_read += reader.offset() - from;
        report.unchecked_bytes += unchecked;
        if unchecked > 0 {
            tracing::info!(file = %path.display(), bytes = unchecked, "read {unchecked} bytes that bear no checksum");
        }
        Ok(Ending { torn_at, has_mark: reader.has_end_mark(), synced_len: reader.synced_len() })
    }

    /// Hands over the groups of one file; gives the place from which on it is torn.
    fn replay_groups(
        &self,
        reader: &mut GroupReader,
        path: &Path,
        file_len: u64,
        may_tear: bool,
        apply: &mut dyn Apply,
        report: &mut RecoveryReport,
    ) -> Result<Option<u64>, JournalError> {
        loop {
            let next = reader.next_group().map_err(JournalError::io("read", path))?;
            let offset = reader.offset();
            match next {
                Next::Group => {
                    let applied = reader.with_effects(|effects| {
                        report.records += effects.len() as u64;
                        report.groups += u64::from(effects.len() > 1);
                        apply.apply(offset, effects)
                    });
                    applied.map_err(rejected(path))?;
                }
                Next::End => return Ok(None),
                Next::Torn => {
                    self.allow_cut(path, may_tear, offset, file_len)?;
                    report.bytes_cut = file_len - offset;
                    return Ok(Some(offset));
                }
                Next::Damaged(at, why) => {
                    return Err(JournalError::Damaged { path: path.to_owned(), offset: at, why });
                }
            }
        }
    }

    fn allow_cut(&self, path: &Path, may_tear: bool, offset: u64, file_len: u64) -> Result<(), JournalError> {
        let bytes = file_len - offset;
        let why = if !may_tear {
            "it is not the file that was being written to"
        } else if !self.shared.config.load_truncated {
            "aof-load-truncated is no"
        } else {
            tracing::warn!(
                file = %path.display(), offset, bytes,
                "the append-only file ends inside a record; its last {bytes} bytes are cut"
            );
            return Ok(());
        };
        Err(JournalError::Truncated { path: path.to_owned(), offset, bytes, why })
    }
}

fn rejected(path: &Path) -> impl FnOnce(Rejection) -> JournalError {
    move |Rejection { offset, why }| JournalError::Rejected { path: path.to_owned(), offset, why }
}

/// Counts what is read.
struct Counted {
    source: Box<dyn Read + Send>,
    progress: Arc<RecoveryProgress>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buf)?;
        self.progress.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
