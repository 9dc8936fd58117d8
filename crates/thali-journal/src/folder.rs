//! The folder of the journal's files: names, numbers and the manifest as it was last stored. Creates,
//! renames and, of what the manifest calls history, deletes; never touches anything else.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{self, HEADER_LEN, Header};
use crate::journal::OpenFile;
use crate::manifest::{Entry, Kind, Manifest};
use crate::{Disk, JournalConfig, JournalError, writer};

pub(crate) struct Folder {
    pub dir: PathBuf,
    /// `appendfilename`: what all names begin with.
    pub prefix: String,
    pub manifest: Manifest,
    /// The manifest's last increment, where it was made for a rewrite that has not come to write to it.
    pub spare: Option<Arc<OpenFile>>,
    /// An increment that was made and that the manifest on the disk may name, while `manifest` does not: a
    /// rewrite failed between the two.
    made: Option<(Entry, Arc<OpenFile>)>,
}

const MANIFEST_SUFFIX: &str = ".manifest";

/// The manifest's name in `dir`.
pub(crate) fn manifest_name(prefix: &str) -> String {
    format!("{prefix}{MANIFEST_SUFFIX}")
}

/// What a process holds while it owns the files.
pub(crate) fn lock_name(prefix: &str) -> String {
    format!("{prefix}.lock")
}

/// What the rewritten file is called until it is whole.
pub(crate) fn aside_name(name: &str) -> String {
    format!("temp-{name}")
}

impl Folder {
    /// Of a manifest that is only looked at.
    pub fn look(disk: &dyn Disk, manifest: &Path) -> Result<Self, JournalError> {
        let dir = manifest.parent().unwrap_or(Path::new("")).to_owned();
        let name = manifest.file_name().unwrap_or_default().to_string_lossy();
        let prefix = name.strip_suffix(MANIFEST_SUFFIX).unwrap_or(&name).to_owned();
        let manifest = Manifest::parse(&read_all(disk, manifest)?, manifest)?;
        Ok(Folder { dir, prefix, manifest, spare: None, made: None })
    }

    /// Makes sure that there is a manifest with an increment to grow.
    pub fn open(config: &JournalConfig, disk: &dyn Disk) -> Result<Self, JournalError> {
        let mut folder = Self::find(config, disk)?;
        folder.adopt_single_file(config, disk)?;
        folder.must_be_whole(disk)?;
        if folder.manifest.last_increment().is_none() {
            folder.add_increment(disk)?;
        }
        Ok(folder)
    }

    /// As it is; the folder itself is made where it is missing.
    pub fn find(config: &JournalConfig, disk: &dyn Disk) -> Result<Self, JournalError> {
        let dir = config.dir.join(&config.appenddirname);
        let prefix = config.appendfilename.clone();
        let path = dir.join(manifest_name(&prefix));
        let manifest = match disk.file_len(&path).map_err(JournalError::io("look at", &path))? {
            Some(_) => Manifest::parse(&read_all(disk, &path)?, &path)?,
            None => {
                refuse_strays(disk, &dir, &prefix)?;
                disk.create_dir_all(&dir).map_err(JournalError::io("make the folder", &dir))?;
                disk.sync_dir(&config.dir).map_err(JournalError::io("sync", &config.dir))?;
                Manifest::default()
            }
        };
        Ok(Folder { dir, prefix, manifest, spare: None, made: None })
    }

    /// Whether there is anything to open: a manifest, or the one file of Redis 6 and older.
    pub fn is_begun(config: &JournalConfig, disk: &dyn Disk) -> Result<bool, JournalError> {
        let manifest = config.dir.join(&config.appenddirname).join(manifest_name(&config.appendfilename));
        for path in [manifest, config.dir.join(&config.appendfilename)] {
            if disk.file_len(&path).map_err(JournalError::io("look at", &path))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Each file that is to be read must be there.
    pub fn must_be_whole(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        for entry in self.manifest.live() {
            let path = self.path(entry);
            if disk.file_len(&path).map_err(JournalError::io("look at", &path))?.is_none() {
                return Err(JournalError::Missing { path });
            }
        }
        Ok(())
    }

    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.dir.join(&entry.name)
    }

    /// Whether the first of `files` may end in a tear: it is the one that grew. What a rewrite made and did not
    /// come to use may follow. A base was whole before it was named, unless it was the one file of old.
    pub fn may_tear(&self, disk: &dyn Disk, files: &[Entry]) -> Result<bool, JournalError> {
        for entry in &files[1..] {
            if !is_unused(disk, &self.path(entry))? {
                return Ok(false);
            }
        }
        Ok(files[0].kind != Kind::Base || files[0].name == self.prefix)
    }

    /// Whether the first of `files` must end with a mark: a base of ours, or an increment behind which we began
    /// another one. (Where redis-server goes on, it writes no marks, and in another file none of our batches
    /// comes first.)
    pub fn wants_end_mark(&self, disk: &dyn Disk, files: &[Entry]) -> bool {
        match files[0].kind {
            Kind::Base => batch_at(disk, &self.path(&files[0]), 0),
            _ => files.get(1).is_some_and(|next| batch_at(disk, &self.path(next), HEADER_LEN as u64)),
        }
    }

    /// Makes `manifest` the one that the next start reads. An error leaves open which one that is.
    pub fn store(&mut self, disk: &dyn Disk, manifest: Manifest) -> Result<(), JournalError> {
        manifest.store(disk, &self.dir, &manifest_name(&self.prefix))?;
        self.manifest = manifest;
        Ok(())
    }

    /// Creates the next increment, durably, and names it in the manifest.
    pub fn add_increment(&mut self, disk: &dyn Disk) -> Result<Arc<OpenFile>, JournalError> {
        let (entry, open) = match self.made.take() {
            Some(made) => made,
            None => self.create_increment(disk)?,
        };
        let mut manifest = self.manifest.clone();
        manifest.entries.push(entry.clone());
        match self.store(disk, manifest) {
            Ok(()) => Ok(open),
            Err(error) => {
                self.made = Some((entry, open));
                Err(error)
            }
        }
    }

    fn create_increment(&self, disk: &dyn Disk) -> Result<(Entry, Arc<OpenFile>), JournalError> {
        let entry = self.next(disk, Kind::Increment, "incr.aof")?;
        let path = self.path(&entry);
        Ok((entry, Arc::new(self.begin_increment(disk, path)?)))
    }

    /// Creates the file of an increment, durably.
    pub fn begin_increment(&self, disk: &dyn Disk, path: PathBuf) -> Result<OpenFile, JournalError> {
        let file = disk.open_append(&path).map_err(JournalError::io("create", &path))?;
        let made = (|| {
            file.truncate(0).map_err(JournalError::io("cut", &path))?;
            writer::write_all(&*file, &batch::mark(0)).map_err(JournalError::io("write", &path))?;
            file.sync().map_err(JournalError::io("sync", &path))?;
            disk.sync_dir(&self.dir).map_err(JournalError::io("sync", &self.dir))
        })();
        if let Err(error) = made {
            // No manifest names it yet. If it stays, its number is not used again.
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(OpenFile { file, path })
    }

    /// A name that is in no use: above all numbers of the manifest, and of files that it does not name, which a
    /// rewrite may have left that died.
    pub fn next(&self, disk: &dyn Disk, kind: Kind, suffix: &str) -> Result<Entry, JournalError> {
        let is_base = |entry: &Entry| match entry.kind {
            Kind::Base => true,
            Kind::Increment => false,
            // The one file of old was a base.
            Kind::History => entry.name.contains(".base.") || entry.name == self.prefix,
        };
        let named = self.manifest.entries.iter().filter(|entry| is_base(entry) == (kind == Kind::Base));
        let mut seq = named.map(|e| e.seq).max().unwrap_or(0) + 1;
        loop {
            let name = format!("{}.{seq}.{suffix}", self.prefix);
            let path = self.dir.join(&name);
            let is_free = match disk.file_len(&path).map_err(JournalError::io("look at", &path))? {
                None => true,
                // What a crash leaves of an increment that was about to be named.
                Some(_) => is_unused(disk, &path)?,
            };
            if is_free {
                return Ok(Entry { name, seq, kind });
            }
            seq += 1;
        }
    }

    /// Deletes what the manifest calls history, then forgets it. What cannot be deleted stays named, and the
    /// next start tries again. Gives the number of deleted files.
    pub fn delete_history(&mut self, disk: &dyn Disk) -> usize {
        let mut manifest = Manifest::default();
        let mut deleted = 0;
        for entry in &self.manifest.entries {
            if entry.kind != Kind::History {
                manifest.entries.push(entry.clone());
                continue;
            }
            let path = self.path(entry);
            match disk.remove(&path) {
                Ok(()) => deleted += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "cannot delete a superseded append-only file");
                    manifest.entries.push(entry.clone());
                }
            }
        }
        if manifest != self.manifest
            && let Err(error) = self.store(disk, manifest)
        {
            tracing::warn!(%error, "the manifest goes on naming superseded append-only files");
        }
        deleted
    }

    /// Takes over the one file of Redis 6 and older as the base, as redis-server 7 does: the manifest names
    /// it first, then it moves; a crash between the two is seen by the name that is missing here.
    /// SOURCE: redis 7.0 `aof.c`, `aofUpgradePrepare`.
    fn adopt_single_file(&mut self, config: &JournalConfig, disk: &dyn Disk) -> Result<(), JournalError> {
        let (old, new) = (config.dir.join(&self.prefix), self.dir.join(&self.prefix));
        if disk.file_len(&old).map_err(JournalError::io("look at", &old))?.is_none() {
            return Ok(());
        }
        let there = disk.file_len(&new).map_err(JournalError::io("look at", &new))?;
        if self.manifest.entries.is_empty() {
            if there.is_some() {
                return Err(JournalError::Stray { path: new });
            }
            let entry = Entry { name: self.prefix.clone(), seq: 1, kind: Kind::Base };
            self.store(disk, Manifest { entries: vec![entry] })?;
        } else if there.is_some() || self.manifest.base().is_none_or(|base| base.name != self.prefix) {
            // A folder of its own was used since; the old file is nothing to it.
            return Ok(());
        }
        disk.rename(&old, &new).map_err(JournalError::io("rename", &old))?;
        disk.sync_dir(&self.dir).map_err(JournalError::io("sync", &self.dir))?;
        disk.sync_dir(&config.dir).map_err(JournalError::io("sync", &config.dir))?;
        tracing::info!(from = %old.display(), to = %new.display(), "the append-only file moved into its folder");
        Ok(())
    }
}

/// Without a manifest, files with data that bear our name are somebody's journal.
fn refuse_strays(disk: &dyn Disk, dir: &Path, prefix: &str) -> Result<(), JournalError> {
    let prefix = format!("{prefix}.");
    for name in disk.list(dir).map_err(JournalError::io("list", dir))? {
        let path = dir.join(&name);
        if name.starts_with(&prefix) && !is_unused(disk, &path)? {
            return Err(JournalError::Stray { path });
        }
    }
    Ok(())
}

/// What is said of a file that [`Folder::wants_end_mark`] says more of.
pub(crate) const NO_END_MARK: &str = "the mark is missing that ends a file before the next one is begun";

/// Whether a batch of ours begins at `offset`.
fn batch_at(disk: &dyn Disk, path: &Path, offset: u64) -> bool {
    let mut line = [0; HEADER_LEN];
    let read = disk.open_read(path, offset).and_then(|mut source| source.read_exact(&mut line));
    read.is_ok() && Header::parse(&line, offset).is_some()
}

/// The manifests in a folder.
pub(crate) fn manifest_files(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let names = disk.list(dir).map_err(JournalError::io("list", dir))?;
    let is_it = |name: &String| name.ends_with(MANIFEST_SUFFIX) && !name.starts_with(&aside_name(""));
    Ok(names.into_iter().filter(is_it).map(|name| dir.join(name)).collect())
}

/// Whether a file is missing, or holds no data.
pub(crate) fn is_unused(disk: &dyn Disk, path: &Path) -> Result<bool, JournalError> {
    match len_of(disk, path)? {
        0 => Ok(true),
        len if len <= HEADER_LEN as u64 => Ok(batch::is_unused(&read_all(disk, path)?)),
        _ => Ok(false),
    }
}

pub(crate) fn len_of(disk: &dyn Disk, path: &Path) -> Result<u64, JournalError> {
    Ok(disk.file_len(path).map_err(JournalError::io("look at", path))?.unwrap_or(0))
}

pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, JournalError> {
    let mut bytes = Vec::new();
    let read = disk.open_read(path, 0).and_then(|mut source| source.read_to_end(&mut bytes));
    read.map_err(JournalError::io("read", path))?;
    Ok(bytes)
}
