//! The disk as the journal sees it: append, cut, sync, rename, delete. The only place that touches files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A folder of files. Implementers owe: a rename replaces its target in one step, and a name that
/// `sync_dir` covered survives a crash.
pub trait Disk: Send + Sync + 'static {
    /// Makes the folder and its parents; one that exists is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Takes the lock file, which frees itself when the guard drops or the process dies. `None`: another holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>>;
    /// Length in bytes; `None` where there is no such file.
    fn file_len(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Names in a folder; none where the folder is missing.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Reads from `offset` on.
    fn open_read(&self, path: &Path, offset: u64) -> io::Result<Box<dyn Read + Send>>;
    /// Opens for appending; makes the file where it is missing.
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Writes the bytes from `offset` on over themselves. A sync that succeeds afterwards covers them, even if
    /// one failed before and the kernel took them for written.
    fn refresh(&self, path: &Path, offset: u64) -> io::Result<()>;
    /// Gives `from` the name `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file. Who has it open goes on with it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and deletions in the folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file open for appending. Shared by the thread that writes and the one that syncs.
pub trait DiskFile: Send + Sync {
    /// Writes at the end; like `write(2)` it may take fewer bytes, or some and then fail on the next call.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// `fdatasync`: all bytes appended before the call survive a crash after it returns `Ok`.
    fn sync(&self) -> io::Result<()>;
}

const REFRESH_CHUNK_BYTES: usize = 1024 * 1024;

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open_read(&self, path: &Path, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    fn refresh(&self, path: &Path, mut offset: u64) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut chunk = vec![0; REFRESH_CHUNK_BYTES];
        loop {
            let len = file.read_at(&mut chunk, offset)?;
            if len == 0 {
                return Ok(());
            }
            file.write_all_at(&chunk[..len], offset)?;
            offset += len as u64;
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir)?.sync_all()
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
