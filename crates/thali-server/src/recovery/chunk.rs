//! Requests on their way from the one who reads them to the one who applies them, and their application.

use std::ops::Range;

use smallvec::SmallVec;
use thali_commands::{Context, Effects, Flow, Origin, Random, Run};
use thali_keyspace::locks::ShardId;
use thali_keyspace::{ENDLESS, Locked, touch};
use thali_resp::{Protocol, Reply};

use super::CHUNK_BYTES;
use crate::loading::Target;
use crate::loading::workers::{Failure, Place};

/// Requests whose keys are looked for together, so that the waiting for memory overlaps.
const TOUCHED_TOGETHER: usize = 16;

/// Requests for some shards, in the order of the file.
pub(super) struct Chunk {
    /// What its requests may reach.
    pub shards: Range<ShardId>,
    /// Arguments, end to end.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    requests: Vec<Request>,
}

/// What is known of a request beside its arguments.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub at: Place,
    pub db: u32,
    pub name: &'static str,
    pub run: Run,
    /// The first key: its shard and its place among the arguments.
    pub key: Option<(ShardId, usize)>,
}

struct Request {
    known: Known,
    /// Behind its arguments, in `Chunk::ends`.
    ends_end: usize,
}

impl Chunk {
    pub fn new(shards: Range<ShardId>) -> Self {
        Chunk { shards, bytes: Vec::new(), ends: Vec::new(), requests: Vec::new() }
    }

    /// Puts a request behind the others.
    pub fn push(&mut self, known: Known, args: &[&[u8]]) {
        for arg in args {
            self.bytes.extend_from_slice(arg);
            self.ends.push(self.bytes.len());
        }
        self.requests.push(Request { known, ends_end: self.ends.len() });
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Where its first request stands.
    pub fn begins_at(&self) -> Place {
        self.requests.first().map_or((0, 0), |request| request.known.at)
    }

    /// Bytes that it takes in memory.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends) + size_of_val(&*self.requests)
    }

    /// Takes the requests out; others will need about as much room.
    pub fn take(&mut self) -> Self {
        let room = Chunk {
            shards: self.shards.clone(),
            bytes: Vec::with_capacity(self.bytes.len().min(CHUNK_BYTES)),
            ends: Vec::with_capacity(self.ends.len().min(CHUNK_BYTES / size_of::<usize>())),
            requests: Vec::with_capacity(self.requests.len()),
        };
        std::mem::replace(self, room)
    }

    fn arg(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[from..self.ends[at]]
    }
}

/// Applies requests to the keyspace.
pub(super) struct Applier<'a> {
    pub target: &'a Target<'a>,
    pub now_ms: u64,
}

impl Applier<'_> {
    /// Applies all requests of a chunk, or those before the first one that fails. Holds its shards meanwhile.
    pub fn run(&self, chunk: &Chunk) -> Result<(), Failure> {
        self.apply(chunk)?;
        if !self.target.delay.is_zero() {
            std::thread::sleep(self.target.delay);
        }
        Ok(())
    }

    fn apply(&self, chunk: &Chunk) -> Result<(), Failure> {
        // What the file holds asks nothing of chance, and what it brings about is in the file already.
        let (mut random, mut effects) = (Random::new(self.now_ms), Effects::default());
        let shards: SmallVec<[ShardId; 64]> = chunk.shards.clone().collect();
        let locked = self.target.keyspace.lock(&shards, ENDLESS).expect("patience without end");
        let mut cx = Context::new(
            locked,
            0,
            self.now_ms,
            self.target.uses,
            self.target.limits,
            &mut random,
            &mut effects,
        );
        cx.dbs_len = self.target.dbs_len;
        cx.origin = Origin::Replay;
        let mut out = Vec::new();
        let mut args: SmallVec<[&[u8]; 16]> = SmallVec::new();
        let mut at = 0;
        for requests in chunk.requests.chunks(TOUCHED_TOGETHER) {
            touch_keys(chunk, at, requests, &cx.locked);
            for Request { known, ends_end } in requests {
                args.clear();
                args.extend((at..*ends_end).map(|at| chunk.arg(at)));
                at = *ends_end;
                cx.db = known.db;
                out.clear();
                let why = match (known.run)(&mut cx, &args, &mut Reply::new(&mut out, Protocol::Resp2)) {
                    Ok(Flow::Done) => None,
                    Ok(Flow::Park(_) | Flow::Steps(_)) => {
                        Some(format!("'{}' found nothing to take", known.name))
                    }
                    Err(error) => Some(error.to_string()),
                };
                if let Some(why) = why {
                    return Err(Failure { at: known.at, why });
                }
                forget(&mut cx);
            }
        }
        Ok(())
    }
}

/// Brings into the cache what requests will look at, whose arguments begin at `first`.
fn touch_keys(chunk: &Chunk, first: usize, requests: &[Request], locked: &Locked<'_>) {
    let mut begin = first;
    let keys = requests.iter().filter_map(|request| {
        let args_at = std::mem::replace(&mut begin, request.ends_end);
        let (shard, key_at) = request.known.key?;
        Some((locked.by_id(shard)?.db(request.known.db)?, chunk.arg(args_at + key_at), None))
    });
    touch(keys);
}

/// Lets go of what a request leaves for others, none of whom is there yet.
fn forget(cx: &mut Context<'_>) {
    cx.effects.clear();
    cx.garbage.clear();
    cx.dropped_dbs.clear();
    cx.ready.clear();
    cx.notes.clear();
    cx.effects_named = false;
}
