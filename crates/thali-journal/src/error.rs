//! What can stop a journal from opening, replaying or closing.

use std::io;
use std::path::PathBuf;

/// Each message says what was wrong, where, and what to do. No case changes a file. Where Redis logs the same
/// fault, its words are in the message: who watches logs looks for them.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the append-only file {0} is in use by another process (it holds {0}.lock); \
         stop that one, or give this one another folder with --dir", path.display()
    )]
    Locked { path: PathBuf },

    #[error("the manifest {} cannot be read, line {line}: {why}; correct that line", path.display())]
    Manifest { path: PathBuf, line: usize, why: String },

    #[error("{} is named by its manifest but missing (No such file or directory); put it back from a backup", path.display())]
    Missing { path: PathBuf },

    #[error(
        "{} holds data but no manifest names it; move it elsewhere if it is not wanted, \
         or put its manifest back", path.display()
    )]
    Stray { path: PathBuf },

    #[error("{} is in RDB form, and nothing here was given to read that with", path.display())]
    RdbBase { path: PathBuf },

    #[error(
        "{}: Bad file format reading the append only file: it is damaged at offset {offset}: {why}. Nothing was changed. `thali check` shows what is good; \
         put the file back from a backup, or let `thali check --cut-to` make a copy that ends before the damage", path.display()
    )]
    Damaged { path: PathBuf, offset: u64, why: String },

    #[error(
        "{}: Unexpected end of file reading the append only file: it ends inside a record that begins at offset \
         {offset} ({bytes} bytes), and {why}. Nothing was \
         changed. `thali check --cut-to` makes a copy that ends before it", path.display()
    )]
    Truncated { path: PathBuf, offset: u64, bytes: u64, why: &'static str },

    #[error("the base {} cannot be loaded: {why}", path.display())]
    Base { path: PathBuf, why: String },

    #[error("the record of {} at offset {offset} cannot be applied: {why}", path.display())]
    Rejected { path: PathBuf, offset: u64, why: String },

    #[error("the append-only file is being rewritten; wait for the end of that")]
    RewriteRunning,

    #[error("the journal could not write all that it was given: {0}")]
    Unwritten(String),
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| JournalError::Io { action, path, source }
    }
}
