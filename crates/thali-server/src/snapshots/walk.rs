//! The walk of a snapshot: from the point in time to the last byte of an RDB file.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thali_keyspace::{ENDLESS, Keyspace, SnapshotSink, Walked};
use thali_rdb::{Checksum, Encoder, Version};

use super::pieces::{Keys, Pieces};
use crate::REDIS_VERSION;
use crate::functions::LibrarySet;

/// Keys that are saved between two looks at the clock.
const KEYS_A_STEP: usize = 8;
/// How long a shard is held at a time, but for a value that alone takes longer.
const HOLD: Duration = Duration::from_micros(200);
/// Bytes that a shard is held for at most, but for a value that alone has more.
const HOLD_BYTES: usize = 64 << 10;

/// What the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Dump,
    AofBase,
}

#[derive(Clone, Copy)]
pub(super) struct Form {
    pub purpose: Purpose,
    /// `rdbcompression`.
    pub compressed: bool,
    /// `rdbchecksum`.
    pub checksum: bool,
}

/// What a walk came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub keys: u64,
    pub bytes: u64,
    /// The longest time for which a shard was held.
    pub longest_hold: Duration,
}

/// Fixes the point in time. `at_the_cut` runs while every shard is held.
pub(super) fn begin(keyspace: &Keyspace, at_the_cut: impl FnOnce()) -> Arc<Pieces> {
    let pieces = Arc::new(Pieces::new());
    let sink: Arc<dyn SnapshotSink> = Arc::clone(&pieces) as _;
    let mut locked = keyspace.lock_all(ENDLESS).expect("patience without end");
    locked.shards_mut().for_each(|(_, shard)| shard.begin_snapshot(&sink));
    at_the_cut();
    pieces
}

/// Writes all that was there at the point in time. After an error the walk still runs to its end, as the
/// marks in the keyspace demand; `gives_up` ends it for good, when the process is about to end, too.
pub(super) fn write(
    keyspace: &Keyspace,
    functions: &LibrarySet,
    pieces: &Pieces,
    form: Form,
    file: &mut dyn Write,
    gives_up: &dyn Fn() -> bool,
) -> io::Result<Outcome> {
    let encoder = match form.compressed {
        true => Encoder::new(Version::default()),
        false => Encoder::uncompressed(Version::default()),
    };
    let mut keys = Keys::new(encoder.clone());
    let mut to =
        Output { file, checksum: Checksum::new(), outcome: Outcome::default(), failed: None, pieces };
    header(&mut encoder.clone(), form.purpose, functions, &mut keys.bytes);
    for shard in 0..keyspace.shards_len() as u16 {
        loop {
            let more = hold_once(keyspace, shard, &mut keys, &mut to.outcome, gives_up);
            // Nobody takes what writers save from here on; they are not to wait for that.
            let more = more.inspect_err(|_| pieces.discard())?;
            to.write_out(&mut keys);
            if !more {
                break;
            }
        }
    }
    let Output { file, checksum, mut outcome, failed, .. } = to;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut end = Vec::new();
    encoder.clone().end(&mut end, form.checksum.then_some(checksum));
    file.write_all(&end)?;
    outcome.bytes += end.len() as u64;
    Ok(outcome)
}

fn header(encoder: &mut Encoder, purpose: Purpose, functions: &LibrarySet, out: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    encoder.header(out);
    encoder.aux(out, b"redis-ver", REDIS_VERSION.as_bytes());
    encoder.aux(out, b"redis-bits", usize::BITS.to_string().as_bytes());
    encoder.aux(out, b"ctime", now.to_string().as_bytes());
    encoder.aux(out, b"used-mem", crate::memory::used_bytes().to_string().as_bytes());
    encoder.aux(out, b"aof-base", if purpose == Purpose::AofBase { b"1" } else { b"0" });
    functions.libraries().for_each(|library| encoder.function(out, library.text()));
}

/// Saves keys of one shard for as long as it may be held; false when the shard is through.
fn hold_once(
    keyspace: &Keyspace,
    shard: u16,
    keys: &mut Keys,
    outcome: &mut Outcome,
    gives_up: &dyn Fn() -> bool,
) -> io::Result<bool> {
    let stopped = || io::Error::new(io::ErrorKind::Interrupted, "the server is shutting down");
    if gives_up() {
        return Err(stopped());
    }
    let mut locked = keyspace.lock_one(shard, gives_up).ok_or_else(stopped)?;
    let begun = Instant::now();
    let (_, held) = locked.shards_mut().next().expect("it was locked just now");
    let mut emptied = None;
    let more = loop {
        match held.walk_snapshot(KEYS_A_STEP, &mut |db, key, entry| keys.push(db, key, entry)) {
            Walked::More if keys.bytes.len() < HOLD_BYTES && begun.elapsed() < HOLD => {}
            Walked::More => break true,
            Walked::Retired(db) => {
                emptied = Some(db);
                break true;
            }
            Walked::Done => break false,
        }
    };
    drop(locked);
    outcome.longest_hold = outcome.longest_hold.max(begun.elapsed());
    drop(emptied);
    Ok(more)
}

struct Output<'a> {
    file: &'a mut dyn Write,
    checksum: Checksum,
    outcome: Outcome,
    failed: Option<io::Error>,
    pieces: &'a Pieces,
}

impl Output<'_> {
    /// Writes what the walk and the writers have saved.
    fn write_out(&mut self, keys: &mut Keys) {
        self.outcome.keys += std::mem::take(&mut keys.count);
        self.outcome.keys += self.pieces.take(&mut keys.bytes);
        // What writers saved may end in another database.
        keys.forget_db();
        if self.failed.is_none() {
            self.checksum.update(&keys.bytes);
            self.outcome.bytes += keys.bytes.len() as u64;
            if let Err(error) = self.file.write_all(&keys.bytes) {
                self.failed = Some(error);
                self.pieces.discard();
            }
        }
        keys.bytes.clear();
        keys.bytes.shrink_to(2 * HOLD_BYTES);
    }
}
