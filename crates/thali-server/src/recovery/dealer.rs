//! Dealing what the journal hands over to those who apply it; [`super`] says why that is right.

use std::cell::RefCell;

use thali_commands::{Flags, Spec};
use thali_journal::{Apply, Effect, Rejection};
use thali_keyspace::locks::ShardId;

use super::chunk::{Chunk, Known};
use super::{CHUNK_BYTES, Parts};
use crate::functions::Loader;
use crate::loading::workers::{Failure, Place, Workers};
use crate::loading::{GIVEN_UP, Target};
use crate::table::{self, Handler};

/// Groups between two questions whether to give up.
const GROUPS_A_LOOK: u32 = 1024;

/// After a request for shards of several parts, so many others are applied by one thread before they are dealt
/// again: waiting for all takes as long as some hundred requests, and such a request is seldom alone. The number
/// doubles, up to the second one, whenever the next such request comes within `STRETCH_GAP`. So a file full of
/// them takes hardly longer than with one thread, and a few cost little.
const STRETCH_MIN: u32 = 64;
const STRETCH_MAX: u32 = 16 << 10;
const STRETCH_GAP: u32 = 8 << 10;

pub(super) struct Dealer<'a, 'f, 'w> {
    target: &'a Target<'a>,
    parts: Parts,
    workers: &'a Workers<'w, Chunk>,
    functions: &'a RefCell<&'f mut Loader>,
    /// What each part is to get next. In a stretch the first one takes all.
    chunks: Vec<Chunk>,
    stretch: Stretch,
    groups: u32,
}

/// Why dealing stops: what is said of the request that is dealt, or what settling will say.
enum Stop {
    Here(String),
    Failed,
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Stop::Here(why)
    }
}

impl<'a, 'f, 'w> Dealer<'a, 'f, 'w> {
    pub fn new(
        target: &'a Target<'a>,
        parts: Parts,
        workers: &'a Workers<'w, Chunk>,
        functions: &'a RefCell<&'f mut Loader>,
    ) -> Self {
        let chunks = (0..parts.len).map(|part| Chunk::new(parts.shards(part))).collect();
        Dealer { target, parts, workers, functions, chunks, stretch: Stretch::default(), groups: 0 }
    }

    fn deal_group(&mut self, offset: u64, group: &[Effect<'_>]) -> Result<(), Stop> {
        self.groups = self.groups.wrapping_add(1);
        let is_slow = !self.target.delay.is_zero();
        if (self.groups.is_multiple_of(GROUPS_A_LOOK) || is_slow) && (self.target.gives_up)() {
            return Err(Stop::Here(GIVEN_UP.into()));
        }
        group.iter().enumerate().try_for_each(|(number, effect)| self.deal((offset, number), effect))
    }

    fn deal(&mut self, at: Place, effect: &Effect<'_>) -> Result<(), Stop> {
        let Effect { db, args } = *effect;
        let Some(row) = table::find(args[0]) else {
            let name = String::from_utf8_lossy(args[0]);
            return Err(format!("Unknown command '{name}' reading the append only file").into());
        };
        if row.spec.name == "function" && args.len() > 1 {
            return Ok(self.functions.borrow_mut().replay(args)?);
        }
        let Handler::Data(run) = row.handler else {
            return Err(format!("'{}' does not belong into a journal", row.spec.name).into());
        };
        let spec = row.spec.subcommand(args).unwrap_or(row.spec);
        if !spec.arity_fits(args.len()) {
            return Err(format!("wrong number of arguments for '{}' command", row.spec.name).into());
        }
        let dbs_len = self.target.dbs_len;
        if db >= dbs_len {
            let why = format!("a request for database {db}, and 'databases' is {dbs_len}: raise it");
            return Err(why.into());
        }
        let (part, key) = self.place(spec, args);
        let part = match self.stretch.step(part.is_none()) {
            Step::Dealt => part.unwrap_or(0),
            Step::Alone => 0,
            Step::Begin => {
                self.settle_all()?;
                self.chunks[0].shards = self.parts.all();
                0
            }
            Step::End => {
                self.settle_all()?;
                self.chunks[0].shards = self.parts.shards(0);
                part.unwrap_or(0)
            }
        };
        let chunk = &mut self.chunks[part];
        chunk.push(Known { at, db, name: row.spec.name, run, key }, args);
        if chunk.bytes_len() >= CHUNK_BYTES || !self.target.delay.is_zero() {
            self.give(part)?;
        }
        Ok(())
    }

    /// The part that a request belongs to, if it is a single one, and its first key.
    fn place(&self, spec: &Spec, args: &[&[u8]]) -> (Option<usize>, Option<(ShardId, usize)>) {
        let (mut part, mut first_key) = (None, None);
        let mut is_one = !spec.needs_all_shards(args) && !spec.flags.contains(Flags::EACH_SHARD);
        spec.keys.each(args, &mut |at, _| {
            let shard = self.target.keyspace.shard_of(args[at]);
            let of_key = self.parts.part_of(shard);
            first_key.get_or_insert((shard, at));
            is_one &= *part.get_or_insert(of_key) == of_key;
        });
        // Without a key there is nothing that it could meet.
        (is_one.then_some(part.unwrap_or(0)), first_key)
    }

    /// Gives away what is there for a part.
    fn give(&mut self, part: usize) -> Result<(), Stop> {
        let chunk = &mut self.chunks[part];
        if chunk.is_empty() {
            return Ok(());
        }
        let full = chunk.take();
        match self.workers.give(part, full.begins_at(), full.bytes_len(), full) {
            true => Ok(()),
            false => Err(Stop::Failed),
        }
    }

    /// Waits until all that was dealt is applied.
    fn settle_all(&mut self) -> Result<(), Stop> {
        (0..self.chunks.len()).try_for_each(|part| self.give(part))?;
        self.workers.settle().map_err(|_| Stop::Failed)
    }
}

impl Apply for Dealer<'_, '_, '_> {
    fn apply(&mut self, offset: u64, group: &[Effect<'_>]) -> Result<(), Rejection> {
        let Err(stop) = self.deal_group(offset, group) else { return Ok(()) };
        // Whatever was dealt stands before.
        self.settle()?;
        match stop {
            Stop::Here(why) => Err(Rejection { offset, why }),
            Stop::Failed => unreachable!("a failure is told when all is settled"),
        }
    }

    fn settle(&mut self) -> Result<(), Rejection> {
        // After a failure the rest is given all the same: an earlier one may be in it.
        for part in 0..self.chunks.len() {
            let _ = self.give(part);
        }
        self.workers.settle().map_err(|Failure { at: (offset, _), why }| Rejection { offset, why })
    }
}

/// Where requests that touch several parts stand close to each other, one thread applies all.
#[derive(Default)]
struct Stretch {
    /// Requests until its end; 0: there is none.
    left: u32,
    len: u32,
    /// Requests since the last one ended.
    gap: u32,
}

enum Step {
    /// To the part it belongs to.
    Dealt,
    /// After all before it.
    Begin,
    /// Behind the one before it.
    Alone,
    /// To the part it belongs to, after all before it.
    End,
}

impl Stretch {
    fn step(&mut self, is_for_several: bool) -> Step {
        match (is_for_several, self.left) {
            (true, 0) => {
                let is_near = self.gap < STRETCH_GAP;
                self.len = if is_near { (self.len * 2).clamp(STRETCH_MIN, STRETCH_MAX) } else { STRETCH_MIN };
                (self.left, self.gap) = (self.len, 0);
                Step::Begin
            }
            (true, _) => {
                self.left = self.len;
                Step::Alone
            }
            (false, 0) => {
                self.gap = self.gap.saturating_add(1);
                Step::Dealt
            }
            (false, 1) => {
                self.left = 0;
                Step::End
            }
            (false, _) => {
                self.left -= 1;
                Step::Alone
            }
        }
    }
}
