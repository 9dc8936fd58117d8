//! Bringing the keyspace back from the journal, while clients get LOADING.
//!
//! One thread reads, checks and cuts into requests, and deals each one to the worker that has the shards of its
//! keys: shards are parted among the workers. Requests go in chunks of [`CHUNK_BYTES`], and what is under way is
//! bounded (`loading/workers.rs`). With one core the reader applies the chunks itself.
//!
//! # Why the data is what one thread would make of it
//!
//! - A request reads and changes the shards of the keys that its `Spec` names and no others, as it holds no
//!   others when it runs for a client. What it does depends on them and on its arguments: time stands still,
//!   nothing expires, and effects hold nothing of chance.
//! - Requests on one shard are applied in the order of the file: they all go into one lane, by one thread.
//! - A request for shards of several workers, or for all (FLUSHALL, SWAPDB), waits until all before it is
//!   applied, and all behind it waits for it.
//! - Libraries of functions are the reader's own: they neither read nor change keys.
//!
//! So each request finds its shards as it would have found them, and fails only if it would have failed. The
//! first failure in the file is therefore the same: each worker tells the first one of its own, all before it
//! having been given to the workers already, and the first one of these counts.
//!
//! The requests of a transaction are dealt one by one. That it is applied whole is a claim about what is left
//! after the loading, when nobody can have seen a part of it: the journal hands over no group before it was
//! read and checked to its end, and where any request fails the process ends.

mod chunk;
mod dealer;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use thali_journal::{JournalError, Recovery, RecoveryReport};
use thali_keyspace::Keyspace;
use thali_keyspace::locks::ShardId;

use self::chunk::Applier;
use self::dealer::Dealer;
use crate::config::Settings;
use crate::functions::Loader;
use crate::loading::workers::{Shape, with_workers};
use crate::loading::{self, Target};

/// Bytes of requests that are handed to another thread at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Replays every record; gives their count.
pub(crate) fn replay(
    recovery: Recovery,
    keyspace: &Keyspace,
    settings: &Settings,
    now_ms: u64,
    functions: &mut Loader,
    gives_up: &(dyn Fn() -> bool + Sync),
) -> Result<RecoveryReport, JournalError> {
    // A delay is one between a request and the next.
    let threads = if settings.key_load_delay.is_zero() { loading::threads() } else { 1 };
    let target = Target {
        keyspace,
        limits: &settings.limits,
        uses: settings.uses(now_ms),
        dbs_len: settings.databases,
        expired_before_ms: None,
        source_len: 0,
        replaces: false,
        delay: settings.key_load_delay,
        gives_up,
        // The journal counts what it hands out.
        read: &AtomicU64::new(0),
    };
    replay_by(threads, recovery, &target, now_ms, functions)
}

/// As [`replay`], by so many threads that apply.
fn replay_by(
    threads: usize,
    recovery: Recovery,
    target: &Target<'_>,
    now_ms: u64,
    functions: &mut Loader,
) -> Result<RecoveryReport, JournalError> {
    let parts = Parts { len: threads.min(target.keyspace.shards_len()), of: target.keyspace.shards_len() };
    let applier = Applier { target, now_ms };
    // The base and the requests behind it bring libraries.
    let functions = RefCell::new(functions);
    let lanes = if parts.len == 1 { 0 } else { parts.len };
    with_workers(Shape { lanes, threads_each: 1 }, &|chunk| applier.run(&chunk), |workers| {
        recovery.replay_with_base(
            &mut Dealer::new(target, parts, workers, &functions),
            &mut |source, source_len, _| {
                let target = Target { source_len, ..*target };
                loading::load(source, &target, &mut functions.borrow_mut()).map(|loaded| loaded.bytes)
            },
        )
    })
}

/// The shards, parted among those who apply: neighbours stay together.
#[derive(Clone, Copy, Debug)]
struct Parts {
    len: usize,
    /// Shards.
    of: usize,
}

impl Parts {
    fn part_of(self, shard: ShardId) -> usize {
        usize::from(shard) * self.len / self.of
    }

    fn shards(self, part: usize) -> Range<ShardId> {
        let first = |part: usize| (part * self.of).div_ceil(self.len) as ShardId;
        first(part)..first(part + 1)
    }

    fn all(self) -> Range<ShardId> {
        0..self.of as ShardId
    }
}
