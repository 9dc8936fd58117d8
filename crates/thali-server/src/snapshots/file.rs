//! A dump on the disk: written aside, synced, renamed. What killed processes left aside is deleted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thali_journal::{Disk, DiskFile};

/// Bytes that are written before they are synced, so that no sync has gigabytes to do.
/// SOURCE: redis 7.0 `REDIS_AUTOSYNC_BYTES`.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// A file that bears another name until it is whole; dropped before, it is deleted.
pub(super) struct AsideFile<'a> {
    disk: &'a dyn Disk,
    file: Arc<dyn DiskFile>,
    dir: PathBuf,
    path: PathBuf,
    unsynced: u64,
    incremental_sync: bool,
    is_done: bool,
}

impl<'a> AsideFile<'a> {
    /// `temp-PID.rdb` in `dir`, as Redis names it.
    pub fn create(disk: &'a dyn Disk, dir: &Path, incremental_sync: bool) -> io::Result<Self> {
        disk.create_dir_all(dir)?;
        remove_leftovers(disk, dir)?;
        let path = dir.join(aside_name(std::process::id()));
        let file = disk.open_append(&path)?;
        // A process of the same number may have left one.
        file.truncate(0)?;
        Ok(Self { disk, file, dir: dir.to_owned(), path, unsynced: 0, incremental_sync, is_done: false })
    }

    /// Makes it durable under its name.
    pub fn finish(mut self, name: &str) -> io::Result<()> {
        self.file.sync()?;
        self.disk.rename(&self.path, &self.dir.join(name))?;
        self.is_done = true;
        self.disk.sync_dir(&self.dir)
    }
}

fn aside_name(process: u32) -> String {
    format!("temp-{process}.rdb")
}

/// Deletes what processes that are gone did not bring to an end: each may be as large as the data, and their
/// numbers do not come back. What a living process writes is left to it.
fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for name in disk.list(dir)? {
        let process =
            name.strip_prefix("temp-").and_then(|rest| rest.strip_suffix(".rdb")?.parse::<u32>().ok());
        let Some(process) = process.filter(|process| aside_name(*process) == name) else { continue };
        if process == std::process::id() || Path::new(&format!("/proc/{process}")).exists() {
            continue;
        }
        let path = dir.join(name);
        tracing::info!(file = %path.display(), "deleting a dump that a killed process did not end");
        if let Err(error) = disk.remove(&path) {
            tracing::warn!(file = %path.display(), %error, "cannot delete it");
        }
    }
    Ok(())
}

impl Write for AsideFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.append(bytes)?;
        self.unsynced += n as u64;
        if self.incremental_sync && self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for AsideFile<'_> {
    fn drop(&mut self) {
        if !self.is_done
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "cannot delete the unfinished dump");
        }
    }
}
