//! The append-only file: order, group commit, rewrites, recovery.
//!
//! Owns the files of `appendfilename` in the folder `appenddirname`, and the lock on them; refuses to know commands, keys or
//! clients. Effects enter through [`Journal::append`] as encoded requests and leave, after a restart,
//! through [`Recovery::replay`] as argument lists, in the order in which they were appended.
//!
//! # Bytes
//!
//! ```text
//! DIR/appendonlydir/appendonly.aof.lock           held by flock while a process owns the files of that name
//! DIR/appendonlydir/appendonly.aof.manifest       which files, in which order
//! DIR/appendonlydir/appendonly.aof.N.base.rdb     the data at one moment (or .base.aof, as requests)
//! DIR/appendonlydir/appendonly.aof.N.incr.aof     increments since; the last one grows
//! DIR/appendonlydir/temp-*                        a manifest or a base on its way; nobody reads it
//!
//! manifest   = 1*( "file" name "seq" N "type" ("b" | "i" | "h") LF )    base, increment, history
//! increment  = mark *( batch | group | select | annotation | mark ) [ mark ]
//! batch      = header 1*( group | select | annotation )                 see batch.rs
//! mark       = header                                                   of an empty batch
//! group      = request | multi 1*( request | select | annotation ) exec
//! request    = "*" count CRLF count*( "$" length CRLF bytes CRLF )
//! annotation = "#" text LF                        skipped, as Redis does
//! ```
//!
//! `SELECT n` precedes a request of another database than the one before it; every file starts at
//! database 0, and every process that appends begins with a SELECT. SOURCE: redis 7.0 `aof.c`.
//!
//! All that is written here stands in batches, whose header bears a checksum and is a comment to Redis. Groups
//! outside of any batch are redis-server's; they are read as well, and the log says how many bytes of them
//! there are.
//!
//! # Why nothing acknowledged is lost
//!
//! - The order of the file is the order in which `append` took the buffer's mutex. Callers hold the
//!   shards that they changed, so effects on one key stand in the order of their execution.
//! - A batch that goes to the disk ends at the end of a group. What a crash leaves is a prefix of the
//!   stream, behind it perhaps batches that are not whole; recovery cuts it back to the last whole one.
//! - Under `always`, [`Journal::synced`] moves past a group only after a `fdatasync` that began when
//!   the whole group was written; under `everysec` and `no`, after the write, so that the death of
//!   the process loses nothing that was answered. The death of the machine loses under `everysec`
//!   what was written in the last second, plus the time that the running sync takes.
//! - The file grows from a length that is known to be good. A write that fails half-way is cut back
//!   to that length before it is tried again, so nothing follows a partial record.
//! - A `fdatasync` that fails is final for this file. The kernel may have marked the lost pages clean,
//!   and a second sync would then succeed without them (Rebello et al., "Can Applications Recover from
//!   fsync Failures?", ATC '20). So nothing more is written or acknowledged until a rewrite makes a new set
//!   of files from memory ([`Journal::wants_rewrite`] asks for one) or the process is restarted. Under
//!   `always` the file is cut back to its last synced length, so that a restarted process does not build on
//!   bytes that only the page cache still has; all of them were unacknowledged. Under the other policies they
//!   stay: they may have been answered, and may be good. A start writes over themselves the last bytes of
//!   which no batch says that they were synced, as the process before may have died before that cut.
//! - A new file is created and synced before the manifest names it; the manifest is written aside,
//!   synced, renamed, and its folder synced. Nothing is overwritten. Deleted is only what a durable manifest
//!   calls history, and the unfinished base of a rewrite. `rewrite.rs` argues for each step of a rewrite.
//!
//! # What recovery cuts and what it refuses
//!
//! Cut is the end of the one file that was growing, and the report and the log name the bytes:
//!
//! - A batch that stops short of the length in its header, with or without zeros in place of the rest.
//! - A batch with a wrong checksum that lacks whole sectors (they read as zeros), and all behind it, unless a
//!   header behind it says that a sync had covered it: every header bears the length that was synced when it
//!   was written. That is what the death of a machine leaves of batches that were not synced yet, in whatever
//!   order the disk took them.
//! - A group outside of any batch that stops short, or zeros to the end of the file.
//!
//! Anything else stops the start with file and offset: a wrong checksum of a batch or of a header, also in
//! the last batch; bytes that are no record; a file that lacks the mark at its end although the next one was
//! begun; a base that is not whole. Outside of batches a damaged length can make the rest of the file look
//! like the inside of one value that stops short: therefore whole requests behind the cut are a reason to
//! stop as well.
//!
//! What cannot be told from a good file: one that ends earlier, exactly between two batches, and was the last;
//! and changed values that redis-server wrote, as they bear no checksum.

mod base;
mod batch;
mod buffer;
mod check;
mod disk;
mod error;
mod folder;
mod journal;
mod manifest;
mod reader;
mod recovery;
mod rewrite;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(test)]
mod tests;
mod writer;

pub use base::{BaseForm, BaseWriter, LoneBase};
pub use buffer::encode_request;
pub use check::{Damage, FileKind, FileReport, check_file, check_manifest, copy_good_part, find_manifests};
pub use disk::{Disk, DiskFile, RealDisk};
pub use error::JournalError;
pub use journal::{DiskStep, Journal, JournalConfig, JournalState, Policy, Seq};
pub use reader::Effect;
pub use recovery::{
    Apply, ApplyGroup, AtOnce, LoadBase, Recovery, RecoveryProgress, RecoveryReport, Rejection,
};
pub use rewrite::{Rewrite, RewriteReport};
