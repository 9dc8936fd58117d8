//! A disk in memory that tears, pads with zeros, reorders, fills up, fails and lies, driven by a seed.
//!
//! A file has the bytes that processes see and the bytes that the platter holds. A sync copies the dirty
//! ones over; a sync that fails marks them clean without copying, as Linux does; one that lies does nothing.
//! Names change in the order of the calls, and a crash forgets some of the last ones that no sync of the
//! folder covered. [`SimDisk::crashed`] gives the disk after the machine died, [`SimDisk::killed`] the disk
//! after the process died.

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
    /// The names as the last sync of a folder left them, and after each change since.
    past_names: Vec<BTreeMap<PathBuf, usize>>,
    locks: Vec<PathBuf>,
    space_bytes: u64,
    /// Of a thousand syncs this many fail.
    sync_failures_permille: u32,
    /// Of a thousand creations, renames, deletions and syncs of folders this many fail.
    name_failures_permille: u32,
    removals_fail: bool,
    /// Of a thousand syncs this many only say that they went well.
    lies_permille: u32,
    lies: u64,
    /// The operation that fails, counted down.
    fails_at: Option<u64>,
    /// From that operation on all fail.
    dies: bool,
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
            past_names: vec![BTreeMap::new()],
            locks: Vec::new(),
            space_bytes: u64::MAX,
            sync_failures_permille: 0,
            name_failures_permille: 0,
            removals_fail: false,
            lies_permille: 0,
            lies: 0,
            fails_at: None,
            dies: false,
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

    /// Creating, renaming, deleting and syncing folders.
    pub fn set_name_failures(&self, permille: u32) {
        self.state.lock().name_failures_permille = permille;
    }

    pub fn set_removal_failures(&self, on: bool) {
        self.state.lock().removals_fail = on;
    }

    pub fn set_lies(&self, permille: u32) {
        self.state.lock().lies_permille = permille;
    }

    /// Syncs that did nothing and said nothing of it.
    pub fn lies(&self) -> u64 {
        self.state.lock().lies
    }

    /// The operation fails that comes after `n` others, of whatever kind, and no further one. `None`: none.
    pub fn fail_after(&self, n: Option<u64>) {
        let mut state = self.state.lock();
        (state.fails_at, state.dies) = (n, false);
    }

    /// As `fail_after`, and all that follow fail, too: what is left is the disk of that moment.
    pub fn die_after(&self, n: u64) {
        let mut state = self.state.lock();
        (state.fails_at, state.dies) = (Some(n), true);
    }

    /// Whether the failure asked of `fail_after` is still to come.
    pub fn has_failure_ahead(&self) -> bool {
        self.state.lock().fails_at.is_some()
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
        state.past_names = vec![state.names.clone()];
    }

    /// The bytes that a process sees.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.lock();
        Some(state.files[*state.names.get(path.as_ref())?].seen.clone())
    }

    /// All files, for messages.
    pub fn dump(&self) -> String {
        let state = self.state.lock();
        let lines = state.names.iter().map(|(path, index)| {
            let file = &state.files[*index];
            let text = file.seen.escape_ascii().to_string();
            format!("{} (platter {}, clean {}): {text}\n", path.display(), file.platter.len(), file.clean_len)
        });
        lines.collect()
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
            copy.past_names = state.past_names.clone();
            copy.lies = state.lies;
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
                state.names = state.past_names[rng.usize(..state.past_names.len())].clone();
            }
            state.past_names = vec![state.names.clone()];
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
        // Dirty bytes lie behind those that a failed sync lost, a hole, or over some that are there.
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
            let begin = self.platter.len();
            self.platter.extend_from_slice(&dirty[..kept]);
            if rng.bool() {
                // Sectors reach the platter in any order; what did not come reads as zeros.
                let lost_of_ten = rng.usize(..10);
                for at in begin..self.platter.len() {
                    if at == begin || at % SECTOR_BYTES == 0 {
                        let end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                        let end = end.min(self.platter.len());
                        if rng.usize(..10) < lost_of_ten {
                            self.platter[at..end].fill(0);
                        }
                    }
                }
            }
            let padding = if rng.bool() { rng.usize(..=dirty.len() - kept) } else { 0 };
            self.platter.resize(self.platter.len() + padding, 0);
        }
        self.seen = self.platter.clone();
        self.clean_len = self.seen.len();
    }
}

/// What the platter takes whole or not at all.
const SECTOR_BYTES: usize = 512;

impl State {
    /// The failure that this operation meets, if any.
    fn fault(&mut self, is_of_names: bool) -> io::Result<()> {
        let broken = || Err(io::Error::from_raw_os_error(5));
        match &mut self.fails_at {
            Some(0) => {
                self.fails_at = self.fails_at.filter(|_| self.dies);
                return broken();
            }
            Some(n) => *n -= 1,
            None => {}
        }
        if is_of_names && self.rng.u32(..1000) < self.name_failures_permille { broken() } else { Ok(()) }
    }

    fn note_names(&mut self) {
        let names = self.names.clone();
        self.past_names.push(names);
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

    fn refresh(&self, path: &Path, offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.fault(false)?;
        let index = *state.names.get(path).ok_or_else(missing)?;
        let file = &mut state.files[index];
        file.clean_len = file.clean_len.min(offset as usize);
        Ok(())
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let known = state.names.get(path).copied();
        state.fault(known.is_none())?;
        let index = known.unwrap_or(state.files.len());
        if known.is_none() {
            state.files.push(File::default());
            state.names.insert(path.to_owned(), index);
            state.note_names();
        }
        Ok(Arc::new(SimFile { disk: self.clone(), index }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.fault(true)?;
        let index = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), index);
        state.note_names();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.fault(true)?;
        if state.removals_fail {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        state.names.remove(path).ok_or_else(missing)?;
        state.note_names();
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.fault(true)?;
        state.past_names = vec![state.names.clone()];
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
        state.fault(false)?;
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
        state.fault(false)?;
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
        let failed = state.fault(false).is_err() || state.rng.u32(..1000) < state.sync_failures_permille;
        if !failed && state.lies_permille > 0 && state.rng.u32(..1000) < state.lies_permille {
            state.lies += 1;
            return Ok(());
        }
        let file = &mut state.files[self.index];
        if failed {
            file.clean_len = file.seen.len();
            return Err(io::Error::from_raw_os_error(5));
        }
        file.sync();
        Ok(())
    }
}
