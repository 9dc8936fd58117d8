//! Scratch directories: made for one sandbox, gone with it, and swept up after a caller that was killed.
//!
//! Each is locked (`flock`) by its maker for as long as it is used. A directory whose lock is free
//! belongs to nobody any more, and the next process that makes one removes it.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{During, Error};

const PREFIX: &str = "thali-box-";

pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one with these permissions, owned by `uid` where given.
    pub fn make(uid: Option<u32>, mode: u32) -> Result<Self, Error> {
        const MAKING: &str = "making a scratch directory";
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        let base = std::env::temp_dir();
        SWEEP.call_once(|| sweep(&base));
        loop {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos());
            let path = base.join(format!("{PREFIX}{}-{serial}-{nanos:08x}", std::process::id()));
            match fs::DirBuilder::new().mode(mode).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).during(MAKING),
            }
            // Another process may be sweeping at this very moment; then the next name is ours.
            let Some(lock) = File::open(&path).ok().filter(|folder| folder.try_lock().is_ok()) else {
                continue;
            };
            if !path.exists() {
                continue;
            }
            let scratch = Self { path, _lock: lock };
            if let Some(uid) = uid {
                chown(&scratch.path, Some(uid), Some(uid)).during(MAKING)?;
            }
            return Ok(scratch);
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes what killed processes left behind. Other users' directories refuse, and are left.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
        {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    if fs::remove_dir_all(folder).is_err() {
        // Folders that the command made unreadable for their owner.
        open_folders(folder);
        let _ = fs::remove_dir_all(folder);
    }
}

/// Gives their owner access to all folders below. Everything that could race is dead by now.
fn open_folders(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}
