//! KEYS: all keys that match, collected in steps, so that others are served in between.
//!
//! It looks at one shard after the other, and at a part of it at a time: what changes meanwhile may be found or not,
//! what is there all the time is found, once. In a transaction or a script it is done in one go.

use thali_keyspace::glob;
use thali_keyspace::locks::ShardId;
use thali_resp::{Protocol, Reply};

use crate::{Categories, Context, ErrorReply, Flags, Flow, Origin, Outcome, Spec, Steps};

pub const SPEC: Spec = Spec {
    name: "keys",
    summary: "Returns all key names that match a pattern.",
    syntax: "pattern",
    complexity: "O(N) with N being the number of keys in the database",
    arity: 2,
    flags: Flags::READONLY.union(Flags::EACH_SHARD),
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    ..super::BASE
};

/// Keys that one step looks at: a fraction of a millisecond.
const STEP_KEYS: usize = 512;
/// Room for the reply's header in front of the keys.
const HEADER_ROOM: usize = 32;
/// Where a step has ended amid a bucket, the next one may begin with that bucket's keys. No bucket has more.
const BUCKET_KEYS_MAX: usize = 32;

struct Walk {
    pattern: Box<[u8]>,
    shard: ShardId,
    /// Where the next step begins in the shard; 0 at its start.
    place: u64,
    found: usize,
    /// [`HEADER_ROOM`] and the keys found, as bulk strings.
    bytes: Vec<u8>,
    /// Where the last keys found in this shard begin in `bytes`.
    last: Vec<usize>,
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (pattern, bytes) = (args[1].into(), vec![0; HEADER_ROOM]);
    let mut walk = Walk { pattern, shard: 0, place: 0, found: 0, bytes, last: Vec::new() };
    // A small database takes no more than the first step.
    while !walk.step(cx)? {
        if cx.origin == Origin::Client && walk.is_beyond_first_step() {
            return Ok(Flow::Steps(Box::new(walk)));
        }
    }
    let (bytes, from) = Box::new(walk).reply();
    reply.raw(&bytes[from..]);
    Ok(Flow::Done)
}

impl Walk {
    fn is_beyond_first_step(&self) -> bool {
        self.shard > 0 || self.place > 0
    }

    /// Whether the step before has shown the key already.
    fn was_shown(&self, key: &[u8]) -> bool {
        if self.last.is_empty() {
            return false;
        }
        let mut bulk = Vec::with_capacity(key.len() + HEADER_ROOM);
        Reply::new(&mut bulk, Protocol::Resp2).bulk(key);
        self.last.iter().any(|begin| self.bytes[*begin..].starts_with(&bulk))
    }
}

impl Steps for Walk {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, ErrorReply> {
        let (db, now_ms) = (cx.db, cx.now_ms);
        let mut left = STEP_KEYS;
        while left > 0 && self.shard < cx.shard_ids().end {
            // A shard without keys costs its lock.
            left -= 1;
            self.place = cx.see_shard(self.shard, |shard| {
                let Some(db) = shard.db(db) else { return 0 };
                let (mut shown, mut begins) = (0, Vec::new());
                let next = db.scan(self.place, left.max(1), |key, entry| {
                    shown += 1;
                    let is_again = shown <= BUCKET_KEYS_MAX && self.was_shown(key);
                    if !is_again && !entry.is_expired(now_ms) && glob::matches(&self.pattern, key) {
                        begins.push(self.bytes.len());
                        Reply::new(&mut self.bytes, Protocol::Resp2).bulk(key);
                        self.found += 1;
                    }
                });
                left = left.saturating_sub(shown);
                self.last = begins.split_off(begins.len().saturating_sub(BUCKET_KEYS_MAX));
                next
            })?;
            if self.place == 0 {
                self.shard += 1;
                self.last.clear();
                // All shards are about as full. Growth copies what is there, which takes as long as many steps.
                let wanted = self.bytes.len() / usize::from(self.shard) * cx.shard_ids().len();
                if wanted > self.bytes.capacity() {
                    // With so much to spare that what the next shards teach does not make it grow once more.
                    self.bytes.reserve_exact(wanted + wanted / 8 - self.bytes.len());
                }
            }
        }
        Ok(self.shard == cx.shard_ids().end || self.bytes.len() > cx.reply_bytes_max)
    }

    fn reply(self: Box<Self>) -> (Vec<u8>, usize) {
        let Walk { mut bytes, found, .. } = *self;
        let mut header = Vec::with_capacity(HEADER_ROOM);
        Reply::new(&mut header, Protocol::Resp2).array(found);
        let from = HEADER_ROOM - header.len();
        bytes[from..HEADER_ROOM].copy_from_slice(&header);
        (bytes, from)
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KEYS in shard {}, {} found", self.shard, self.found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::testing::Store;

    #[test]
    fn all_that_match_are_found_once() {
        let mut store = Store::new();
        for n in 0..5_000 {
            store.run(&format!("SET key:{n} v"));
        }
        store.check(&[("SET other v", "+OK"), ("KEYS oth?r", "*1\n$5\nother"), ("KEYS x", "*0")]);
        let reply = store.run("KEYS key:*");
        let keys: Vec<&str> = reply.split("\r\n").filter(|line| line.starts_with("key:")).collect();
        assert_eq!((keys.len(), keys.iter().collect::<BTreeSet<_>>().len()), (5_000, 5_000));
        assert!(reply.starts_with("*5000\r\n"));
    }
}
