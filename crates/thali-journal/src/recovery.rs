//! Opening a folder and reading it back. Creates what is missing; overwrites and deletes nothing; cuts a
//! torn tail, and only once everything before it was applied.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::journal::{OpenFile, Shared};
use crate::manifest::{Entry, Kind, Manifest};
use crate::reader::{GroupReader, Next};
use crate::{Disk, Effect, Journal, JournalConfig, JournalError};

const LOCK_NAME: &str = "thali.lock";

/// What reading the journal back came to; for the log and INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub files: usize,
    /// Requests applied.
    pub records: u64,
    /// Transactions among them, each applied whole.
    pub groups: u64,
    pub bytes_read: u64,
    /// Bytes of a torn or zero-padded tail that were cut from the last file.
    pub bytes_cut: u64,
    pub took: Duration,
}

/// The files of an opened journal, not read yet.
#[must_use = "the journal writes nothing before it was replayed"]
pub struct Recovery {
    shared: Arc<Shared>,
    dir: PathBuf,
    manifest: Manifest,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

/// Takes the folder's lock and makes sure that there is a manifest with an increment to grow.
pub(crate) fn open(config: JournalConfig, disk: Arc<dyn Disk>) -> Result<(Journal, Recovery), JournalError> {
    let data_dir = config.dir.clone();
    disk.create_dir_all(&data_dir).map_err(JournalError::io("make the folder", &data_dir))?;
    let lock_path = data_dir.join(LOCK_NAME);
    let lock = disk.lock(&lock_path).map_err(JournalError::io("lock", &lock_path))?;
    let lock = lock.ok_or(JournalError::Locked { dir: data_dir })?;
    let (dir, manifest) = open_manifest(&config, &*disk)?;
    let shared = Arc::new(Shared::new(config, disk, lock));
    let journal = Journal::new(Arc::clone(&shared));
    Ok((journal, Recovery { shared, dir, manifest }))
}

fn open_manifest(config: &JournalConfig, disk: &dyn Disk) -> Result<(PathBuf, Manifest), JournalError> {
    let dir = config.dir.join(&config.appenddirname);
    let name = format!("{}.manifest", config.appendfilename);
    let path = dir.join(&name);
    let len = disk.file_len(&path).map_err(JournalError::io("look at", &path))?;
    let old = config.dir.join(&config.appendfilename);
    let mut manifest = match len {
        Some(_) => Manifest::parse(&read_all(disk, &path)?, &path)?,
        None if len_of(disk, &old)? > 0 => return Err(JournalError::OldLayout { path: old }),
        None => {
            refuse_strays(config, disk, &dir)?;
            disk.create_dir_all(&dir).map_err(JournalError::io("make the folder", &dir))?;
            disk.sync_dir(&config.dir).map_err(JournalError::io("sync", &config.dir))?;
            Manifest::default()
        }
    };
    for entry in manifest.live() {
        let file = dir.join(&entry.name);
        if disk.file_len(&file).map_err(JournalError::io("look at", &file))?.is_none() {
            return Err(JournalError::Missing { path: file });
        }
    }
    if manifest.last_increment().is_none() {
        let entry = new_increment(config, disk, &dir, &manifest)?;
        manifest.entries.push(entry);
        manifest.store(disk, &dir, &name)?;
    }
    Ok((dir, manifest))
}

/// Creates the next increment; the caller names it in the manifest.
fn new_increment(
    config: &JournalConfig,
    disk: &dyn Disk,
    dir: &Path,
    manifest: &Manifest,
) -> Result<Entry, JournalError> {
    let increments = manifest.entries.iter().filter(|e| e.kind != Kind::Base);
    let seq = increments.map(|e| e.seq).max().unwrap_or(0) + 1;
    let name = format!("{}.{seq}.incr.aof", config.appendfilename);
    let path = dir.join(&name);
    // An empty one is what a crash between the next two steps leaves.
    if len_of(disk, &path)? > 0 {
        return Err(JournalError::Stray { path });
    }
    let file = disk.open_append(&path).map_err(JournalError::io("create", &path))?;
    file.sync().map_err(JournalError::io("sync", &path))?;
    Ok(Entry { name, seq, kind: Kind::Increment })
}

/// Without a manifest, files with data that bear our name are somebody's journal.
fn refuse_strays(config: &JournalConfig, disk: &dyn Disk, dir: &Path) -> Result<(), JournalError> {
    let prefix = format!("{}.", config.appendfilename);
    for name in disk.list(dir).map_err(JournalError::io("list", dir))? {
        let path = dir.join(&name);
        if name.starts_with(&prefix) && len_of(disk, &path)? > 0 {
            return Err(JournalError::Stray { path });
        }
    }
    Ok(())
}

fn len_of(disk: &dyn Disk, path: &Path) -> Result<u64, JournalError> {
    Ok(disk.file_len(path).map_err(JournalError::io("look at", path))?.unwrap_or(0))
}

fn read_all(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, JournalError> {
    let mut bytes = Vec::new();
    let read = disk.open_read(path).and_then(|mut source| source.read_to_end(&mut bytes));
    read.map_err(JournalError::io("read", path))?;
    Ok(bytes)
}

impl Recovery {
    /// Reads all files in order and hands over their groups: a slice of one request, or all requests of a
    /// transaction, which is to be applied whole. Then the journal begins to write.
    ///
    /// An error leaves the files as they are and the journal unusable. `apply` must not call
    /// [`Journal::close`]; what it appends to the journal is written behind what was read.
    pub fn replay(
        self,
        apply: &mut dyn FnMut(&[Effect<'_>]) -> Result<(), String>,
    ) -> Result<RecoveryReport, JournalError> {
        let begun = Instant::now();
        let mut report = RecoveryReport::default();
        let live: Vec<_> = self.manifest.live().cloned().collect();
        let mut last_len = 0;
        for (index, entry) in live.iter().enumerate() {
            let path = self.dir.join(&entry.name);
            last_len = self.replay_file(&path, index + 1 == live.len(), apply, &mut report)?;
            report.files += 1;
        }
        let last = self.manifest.last_increment().expect("open makes an increment");
        let path = self.dir.join(&last.name);
        let file = self.shared.disk.open_append(&path).map_err(JournalError::io("open", &path))?;
        if report.bytes_cut > 0 {
            file.truncate(last_len).map_err(JournalError::io("cut", &path))?;
        }
        // What was read may have been in the page cache alone.
        file.sync().map_err(JournalError::io("sync", &path))?;
        report.took = begun.elapsed();
        let size_bytes = report.bytes_read;
        Shared::start(&self.shared, OpenFile { file, path }, last_len, size_bytes);
        Ok(report)
    }

    /// Applies one file; returns the length up to which it is good.
    fn replay_file(
        &self,
        path: &Path,
        is_last: bool,
        apply: &mut dyn FnMut(&[Effect<'_>]) -> Result<(), String>,
        report: &mut RecoveryReport,
    ) -> Result<u64, JournalError> {
        let disk = &self.shared.disk;
        let file_len = len_of(&**disk, path)?;
        let source = disk.open_read(path).map_err(JournalError::io("read", path))?;
        let mut reader = GroupReader::new(source, file_len);
        if reader.starts_with(b"REDIS").map_err(JournalError::io("read", path))? {
            return Err(JournalError::RdbBase { path: path.to_owned() });
        }
        loop {
            let next = reader.next_group().map_err(JournalError::io("read", path))?;
            let offset = reader.offset();
            match next {
                Next::Group => {
                    let applied = reader.with_effects(|effects| {
                        report.records += effects.len() as u64;
                        report.groups += u64::from(effects.len() > 1);
                        apply(effects)
                    });
                    applied.map_err(|why| JournalError::Rejected { path: path.to_owned(), offset, why })?;
                }
                Next::End => {
                    report.bytes_read += offset;
                    return Ok(offset);
                }
                Next::Torn => {
                    self.allow_cut(path, is_last, offset, file_len)?;
                    report.bytes_read += offset;
                    report.bytes_cut = file_len - offset;
                    return Ok(offset);
                }
                Next::Hidden(found) => {
                    let why = format!(
                        "the record there stops short, yet whole requests follow it, from offset {found} on \
                         (unless they are part of its value)"
                    );
                    return Err(JournalError::Damaged { path: path.to_owned(), offset, why });
                }
                Next::Damaged(at, why) => {
                    let why = format!("{why} (the record begins at {offset})");
                    return Err(JournalError::Damaged { path: path.to_owned(), offset: at, why });
                }
            }
        }
    }

    fn allow_cut(&self, path: &Path, is_last: bool, offset: u64, file_len: u64) -> Result<(), JournalError> {
        let bytes = file_len - offset;
        let why = if !is_last {
            "further files follow it"
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
