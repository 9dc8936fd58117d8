//! Base files: the data at one moment, written aside while the process goes on, and named once it is whole.
//!
//! A base mostly comes with a rewrite of the journal ([`crate::Rewrite`]). One may also be made where there is no
//! journal, because `appendonly` is `no` ([`LoneBase`]):
//!
//! ```text
//! begin    the data folder is locked                                          as before
//! finish   the base is synced, named as history, renamed                      as before
//!          the base is named, alone; all that was there before is history     the base
//!          history is deleted, then forgotten by the manifest
//! ```
//!
//! So the folder then holds the data as it was when that base was asked for, and nothing behind it. A start with
//! `appendonly yes` takes it, as any append-only file, for the data: what was written since, and a dump that is
//! newer, it does not look at. That is what redis-server does, and no worse than before: the files that the base
//! takes the place of were older. Nobody is led to believe more, as no reply ever promised that a write is in the
//! folder while `appendonly` is `no`. A crash on the way leaves one of the two manifests, each naming whole files.
//! SOURCE: redis 7.0 `aof.c`, `backgroundRewriteDoneHandler` with `aof_fd` -1.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::batch::{self, Batches};
use crate::folder::{Folder, aside_name};
use crate::journal::OpenFile;
use crate::manifest::{Entry, Kind};
use crate::{Disk, JournalConfig, JournalError, RewriteReport, recovery, writer};

/// Bytes of a base that are written before they are synced: one sync of all would stall other files' syncs.
/// SOURCE: redis 7.0 `REDIS_AUTOSYNC_BYTES`.
const SYNC_EVERY_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of a base that are gathered for a write.
const WRITE_BYTES: usize = 256 * 1024;

/// The form of a base file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseForm {
    /// `aof-use-rdb-preamble yes`. Bears a checksum of its own.
    Rdb,
    /// Requests, in batches with checksums as an increment's.
    Aof,
}

/// A new base of a folder that nobody appends to, see the module. Dropped, it leaves all as it was.
#[must_use = "dropped, it changes nothing"]
pub struct LoneBase {
    disk: Arc<dyn Disk>,
    folder: Folder,
    keeps_history: bool,
    _lock: Box<dyn Send + Sync>,
    begun: Instant,
}

impl LoneBase {
    /// Locks the data folder and reads the manifest that is there.
    pub fn begin(config: &JournalConfig, disk: Arc<dyn Disk>) -> Result<Self, JournalError> {
        let begun = Instant::now();
        let lock = recovery::lock(config, &*disk)?;
        let folder = Folder::find(config, &*disk)?;
        Ok(LoneBase { disk, folder, keeps_history: config.keeps_history, _lock: lock, begun })
    }

    /// A file for the base, under a name of its own until [`LoneBase::finish`]. Dropped, it is deleted.
    pub fn base_writer(&mut self, form: BaseForm) -> Result<BaseWriter, JournalError> {
        BaseWriter::create(Arc::clone(&self.disk), &self.folder, form)
    }

    /// Makes `base`, which is whole, all that the manifest names, and deletes what it supersedes. Waits for the
    /// disk. An error leaves the files before in force. (A manifest whose folder could not be synced may name
    /// either; both are whole.)
    pub fn finish(mut self, mut base: BaseWriter) -> Result<RewriteReport, JournalError> {
        let disk = &*self.disk;
        base.complete()?;
        base.give_name(&mut self.folder, None)?;
        disk.sync_dir(&self.folder.dir).map_err(JournalError::io("sync", &self.folder.dir))?;
        self.folder.store(disk, self.folder.manifest.superseded_by(base.entry(), None))?;
        let files_deleted = if self.keeps_history { 0 } else { self.folder.delete_history(disk) };
        Ok(RewriteReport { base_bytes: base.len(), files_deleted, took: self.begun.elapsed() })
    }
}

/// Takes the bytes of a new base.
pub struct BaseWriter {
    disk: Arc<dyn Disk>,
    open: OpenFile,
    entry: Entry,
    form: BaseForm,
    /// Gathered and not written yet.
    batches: Batches,
    in_group: bool,
    len: u64,
    synced_len: u64,
    failed: Option<(io::ErrorKind, String)>,
    is_renamed: bool,
}

impl BaseWriter {
    /// One that bears a name of its own until [`BaseWriter::give_name`].
    pub(crate) fn create(disk: Arc<dyn Disk>, folder: &Folder, form: BaseForm) -> Result<Self, JournalError> {
        let suffix = if form == BaseForm::Rdb { "base.rdb" } else { "base.aof" };
        let entry = folder.next(&*disk, Kind::Base, suffix)?;
        let path = folder.dir.join(aside_name(&entry.name));
        let file = disk.open_append(&path).map_err(JournalError::io("create", &path))?;
        let open = OpenFile { file, path };
        // A rewrite that died may have left one.
        open.file.truncate(0).map_err(JournalError::io("cut", &open.path))?;
        Ok(BaseWriter {
            disk,
            open,
            entry,
            form,
            batches: Batches::default(),
            in_group: false,
            len: 0,
            synced_len: 0,
            failed: None,
            is_renamed: false,
        })
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Lets the whole file bear its name, which the manifest calls history so far, as it does `also`, which the
    /// caller then renames. The folder is still to be synced.
    pub(crate) fn give_name(
        &mut self,
        folder: &mut Folder,
        also: Option<&Entry>,
    ) -> Result<(), JournalError> {
        folder.store(&*self.disk, folder.manifest.announcing([&self.entry].into_iter().chain(also)))?;
        let path = folder.path(&self.entry);
        self.disk.rename(&self.open.path, &path).map_err(JournalError::io("rename", &self.open.path))?;
        self.is_renamed = true;
        Ok(())
    }

    /// Says that a group ends here. Due after each request, or transaction, of a base in AOF form, which is
    /// held in memory up to then; the other form doesn't need it.
    pub fn end_group(&mut self) -> io::Result<()> {
        self.in_group = false;
        if self.batches.len() >= WRITE_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len + self.batches.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let Some((kind, text)) = &self.failed {
            return Err(io::Error::new(*kind, text.clone()));
        }
        let written = self.try_write_out();
        if let Err(error) = &written {
            // After a failed sync a later one proves nothing.
            self.failed = Some((error.kind(), error.to_string()));
        }
        written
    }

    fn try_write_out(&mut self) -> io::Result<()> {
        self.batches.seal(self.len, self.synced_len);
        writer::write_all(&*self.open.file, &self.batches.bytes)?;
        self.len += self.batches.len() as u64;
        self.batches.clear(2 * WRITE_BYTES);
        if self.len - self.synced_len >= SYNC_EVERY_BYTES {
            self.open.file.sync()?;
            self.synced_len = self.len;
        }
        Ok(())
    }

    /// Writes and syncs what is left.
    pub(crate) fn complete(&mut self) -> Result<(), JournalError> {
        self.write_out().map_err(JournalError::io("write", &self.open.path))?;
        if self.form == BaseForm::Aof {
            let mark = batch::mark(self.len);
            writer::write_all(&*self.open.file, &mark).map_err(JournalError::io("write", &self.open.path))?;
            self.len += mark.len() as u64;
        }
        self.open.file.sync().map_err(JournalError::io("sync", &self.open.path))
    }
}

impl Write for BaseWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.form == BaseForm::Aof && !self.in_group && !bytes.is_empty() {
            self.in_group = true;
            self.batches.begin_group();
        }
        self.batches.bytes.extend_from_slice(bytes);
        if self.form == BaseForm::Rdb && self.batches.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        Ok(bytes.len())
    }

    /// Does nothing: what counts is [`Rewrite::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BaseWriter {
    fn drop(&mut self) {
        if !self.is_renamed
            && let Err(error) = self.disk.remove(&self.open.path)
        {
            tracing::warn!(file = %self.open.path.display(), %error, "cannot delete the unfinished base");
        }
    }
}
