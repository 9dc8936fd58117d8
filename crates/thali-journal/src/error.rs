//! What can stop a journal from opening, replaying or closing.

use std::io;
use std::path::PathBuf;

/// Each message says what was wrong, where, and what to do. No case changes a file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the data folder {} is in use by another process (it holds thali.lock); \
         stop that one, or give this one another folder with --dir", dir.display()
    )]
    Locked { dir: PathBuf },

    #[error("the manifest {} cannot be read, line {line}: {why}; correct that line", path.display())]
    Manifest { path: PathBuf, line: usize, why: String },

    #[error("{} is named by its manifest but missing; put it back from a backup", path.display())]
    Missing { path: PathBuf },

    #[error(
        "{} holds data but no manifest names it; move it elsewhere if it is not wanted, \
         or put its manifest back", path.display()
    )]
    Stray { path: PathBuf },

    #[error(
        "{} is an append-only file of Redis 6 or older; start redis-server 7 on this folder once \
         with --appendonly yes, which moves it into the new layout", path.display()
    )]
    OldLayout { path: PathBuf },

    #[error(
        "the base {} is in RDB form, which cannot be read yet; run redis-server 7 on this folder with \
         --aof-use-rdb-preamble no and BGREWRITEAOF, then start again", path.display()
    )]
    RdbBase { path: PathBuf },

    #[error(
        "{} is damaged at offset {offset}: {why}. Nothing was changed. Copy the folder, then cut the file \
         there with redis-check-aof --fix, or put it back from a backup", path.display()
    )]
    Damaged { path: PathBuf, offset: u64, why: String },

    #[error(
        "{} ends inside a record that begins at offset {offset} ({bytes} bytes), and {why}. Nothing was \
         changed. Copy the folder, then cut the file there with redis-check-aof --fix", path.display()
    )]
    Truncated { path: PathBuf, offset: u64, bytes: u64, why: &'static str },

    #[error("the record of {} at offset {offset} cannot be applied: {why}", path.display())]
    Rejected { path: PathBuf, offset: u64, why: String },

    #[error("the journal could not write all that it was given: {0}")]
    Unwritten(String),
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| JournalError::Io { action, path, source }
    }
}
