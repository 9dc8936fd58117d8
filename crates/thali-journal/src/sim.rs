//! A disk in memory that tears, pads with zeros, fills up and fails syncs, driven by a seed.
//!
//! A file has the bytes that processes see and the bytes that the platter holds. A sync copies the dirty
//! ones over; a sync that fails marks them clean without copying, as Linux does. [`SimDisk::crashed`]
//! gives the disk after the machine died, [`SimDisk::killed`] the disk after the process died.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::{Disk, DiskFile};

/// A disk shared by all its clones.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    sync_released: Arc<Condvar>,
}

struct State {
    rng: fastrand::Rng,
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    locks: Vec<PathBuf>,
    space_bytes: u64,
    /// Of a thousand syncs this many fail.
    sync_failures_permille: u32,
    syncs_held: bool,
    syncs: u64,
}

#[derive(Clone, Default)]
struct File {
    seen: Vec<u8>,
    platter: Vec<u8>,
    /// `seen` from here on is dirty.
    clean_len: usize,
    /// The platter's file is longer than this until the next sync.
    cut_to: Option<usize>,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            locks: Vec::new(),
            space_bytes: u64::MAX,
            sync_failures_permille: 0,
            syncs_held: false,
            syncs: 0,
        };
        SimDisk { state: Arc::new(Mutex::new(state)), sync_released: Arc::new(Condvar::new()) }
    }

    /// Bytes that may still be written before the disk is full.
    pub fn set_space(&self, bytes: u64) {
        self.state.lock().space_bytes = bytes;
    }

    pub fn set_sync_failures(&self, permille: u32) {
        self.state.lock().sync_failures_permille = permille;
    }

    /// Until the guard drops, syncs do not return. Make it after the journal, whose end waits for them.
    #[must_use]
    pub fn hold_syncs(&self) -> HeldSyncs {
        self.state.lock().syncs_held = true;
        HeldSyncs(self.clone())
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Puts a whole, durable file in place.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let mut state = self.state.lock();
        let file =
            File { seen: bytes.to_vec(), platter: bytes.to_vec(), clean_len: bytes.len(), cut_to: None };
        state.files.push(file);
        let index = state.files.len() - 1;
        state.names.insert(path.as_ref().to_owned(), index);
        state.durable_names.insert(path.as_ref().to_owned(), index);
    }

    /// The bytes that a process sees.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.lock();
        Some(state.files[*state.names.get(path.as_ref())?].seen.clone())
    }

    /// The disk after the process died: all that was written is there, nothing is locked.
    pub fn killed(&self) -> SimDisk {
        let state = self.state.lock();
        let disk = SimDisk::new(0);
        {
            let mut copy = disk.state.lock();
            copy.rng = state.rng.clone();
            copy.files = state.files.clone();
            copy.names = state.names.clone();
            copy.durable_names = state.durable_names.clone();
        }
        disk
    }

    /// The disk after the machine died: of what no sync covered, a part chosen by `seed`.
    pub fn crashed(&self, seed: u64) -> SimDisk {
        let disk = self.killed();
        {
            let mut state = disk.state.lock();
            state.rng = fastrand::Rng::with_seed(seed);
            let mut rng = state.rng.clone();
            if rng.bool() {
                state.names = state.durable_names.clone();
            }
            state.durable_names = state.names.clone();
            for file in &mut state.files {
                file.crash(&mut rng);
            }
            state.rng = rng;
        }
        disk
    }
}

/// See [`SimDisk::hold_syncs`].
pub struct HeldSyncs(SimDisk);

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        self.0.state.lock().syncs_held = false;
        self.0.sync_released.notify_all();
    }
}

impl File {
    fn sync(&mut self) {
        if let Some(len) = self.cut_to.take() {
            self.platter.truncate(len);
        }
        // Dirty bytes lie behind those that a failed sync lost: a hole.
        self.platter.resize(self.clean_len, 0);
        self.platter.extend_from_slice(&self.seen[self.clean_len..]);
        self.clean_len = self.seen.len();
    }

    fn crash(&mut self, rng: &mut fastrand::Rng) {
        if let Some(len) = self.cut_to.take()
            && rng.bool()
        {
            self.platter.truncate(len);
        }
        let dirty = &self.seen[self.clean_len.min(self.seen.len())..];
        if self.platter.len() == self.clean_len && !dirty.is_empty() {
            let kept = rng.usize(..=dirty.len());
            let padding = if rng.bool() { rng.usize(..=dirty.len() - kept) } else { 0 };
            self.platter.extend_from_slice(&dirty[..kept]);
            self.platter.resize(self.platter.len() + padding, 0);
        }
        self.seen = self.platter.clone();
        self.clean_len = self.seen.len();
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

struct SimLock(Arc<Mutex<State>>, PathBuf);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.lock().locks.retain(|path| *path != self.1);
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut state = self.state.lock();
        if state.locks.iter().any(|held| held == path) {
            return Ok(None);
        }
        state.locks.push(path.to_owned());
        Ok(Some(Box::new(SimLock(Arc::clone(&self.state), path.to_owned()))))
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state.lock();
        Ok(state.names.get(path).map(|index| state.files[*index].seen.len() as u64))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn open_read(&self, path: &Path, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.get(path).ok_or_else(missing)?;
        Ok(Box::new(io::Cursor::new(bytes[bytes.len().min(offset as usize)..].to_vec())))
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let next = state.files.len();
        let index = *state.names.entry(path.to_owned()).or_insert(next);
        if index == next {
            state.files.push(File::default());
        }
        Ok(Arc::new(SimFile { disk: self.clone(), index }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let index = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state.lock().names.remove(path).map(drop).ok_or_else(missing)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    index: usize,
}

impl DiskFile for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        if state.space_bytes == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let short = 1 + state.rng.usize(..bytes.len());
        let taken = if state.rng.u8(..) < 32 { short } else { bytes.len() };
        let taken = taken.min(usize::try_from(state.space_bytes).unwrap_or(usize::MAX));
        state.space_bytes = state.space_bytes.saturating_sub(taken as u64);
        state.files[self.index].seen.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let len = len as usize;
        let mut state = self.disk.state.lock();
        let file = &mut state.files[self.index];
        file.seen.truncate(len);
        file.clean_len = file.clean_len.min(len);
        if file.platter.len() > len {
            file.cut_to = Some(file.cut_to.map_or(len, |old| old.min(len)));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        while state.syncs_held {
            self.disk.sync_released.wait(&mut state);
        }
        state.syncs += 1;
        let failed = state.rng.u32(..1000) < state.sync_failures_permille;
        let file = &mut state.files[self.index];
        if failed {
            file.clean_len = file.seen.len();
            return Err(io::Error::from_raw_os_error(5));
        }
        file.sync();
        Ok(())
    }
}
