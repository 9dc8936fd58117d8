//! A batch: requests that one client sent at once and that run as one unit of work.
//!
//! A command for one key is soon done; what surrounds it costs more: a lock, the wait for the memory at which its key
//! stands, and what a unit owes. A batch locks the shards of its keys together, asks for their memory before the
//! first command needs it, and settles once; where another loop has a shard, it ends in front of that.
//! To clients it is as if each had run by itself: from the first to the last nobody else changed what the shards hold, and
//! where a command has done something for somebody who waits, the unit ends behind it, so that it comes before the next one.
//!
//! [`joins`] says which commands there may be in a batch. All others run by themselves, and so does everything while
//! a client or the server is in a state in which each request needs a look of its own ([`is_allowed`]).

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;
use thali_commands::{ErrorReply, Flags, Flow, Group, Keys, Spec};
use thali_keyspace::Locked;
use thali_keyspace::locks::{Place, ShardId};
use thali_resp::{Args, Parser, Reply};

use crate::call::{Call, Core};
use crate::dispatch::{self, Asked};
use crate::session::{Replies, SessionState};
use crate::table::{self, Handler, Row};
use crate::unit;

/// Requests in one batch; as many keys' memory is waited for at once.
const REQUESTS_MAX: usize = 16;
/// Arguments of a request in a batch: the cost of some commands grows with them.
const ARGS_MAX: usize = 8;
/// Bytes of arguments, and of replies, after which a batch takes no more: nobody else gets at its shards meanwhile.
const BYTES_MAX: usize = 64 << 10;

/// Whether the command may be in a batch: its cost does not grow with its value, it names one key, looks at no other,
/// cannot wait, and changes nothing of its session.
pub(crate) fn joins(spec: &Spec, handler: Handler) -> bool {
    const NOT: Flags = Flags::BLOCKING.union(Flags::ALL_SHARDS).union(Flags::EACH_SHARD);
    let is_quick = spec.flags.contains(Flags::FAST) || spec.complexity == "O(1)";
    let has_one_key = matches!(spec.keys, Keys::Range { first: 1, last: 1, .. } | Keys::Varying { .. });
    matches!(handler, Handler::Data(_))
        && is_quick
        && has_one_key
        && spec.subcommands.is_empty()
        && spec.looks_beyond.is_none()
        && !spec.flags.intersects(NOT)
}

/// Whether requests of this session may run in batches now. What is in a batch does not change it.
pub(crate) fn is_allowed(core: &Core, state: &SessionState) -> bool {
    let shared = &core.shared;
    state.transaction.is_none()
        && state.tracked.is_none()
        && state.replies == Replies::On
        && shared.names.is_empty()
        && !shared.pause.is_set()
        && shared.monitors_len.load(Relaxed) == 0
}

struct Request {
    row: &'static Row,
    args: Range<usize>,
    shard: ShardId,
    /// Of the shard, while the batch runs.
    place: Option<Place>,
    /// Where it begins in the buffer.
    at: usize,
}

/// Requests whose arguments are slices of one buffer.
#[derive(Default)]
pub(crate) struct Batch<'b> {
    requests: SmallVec<[Request; REQUESTS_MAX]>,
    args: SmallVec<[&'b [u8]; 4 * REQUESTS_MAX]>,
    /// Of all arguments.
    bytes: usize,
    /// How many have run.
    ran: usize,
}

impl<'b> Batch<'b> {
    /// Takes the request that the parser has read, which begins at `at` in the buffer, or gives what the gates have
    /// said where it is to run by itself.
    pub fn take(
        &mut self,
        core: &mut Core,
        state: &SessionState,
        parser: &Parser,
        buffer: &'b [u8],
        at: usize,
    ) -> Result<(), Asked> {
        let begin = self.args.len();
        parser.add_args(buffer, &mut self.args);
        let admitted = self.admit(core, state, begin);
        let [_, key, ..] = self.args[begin..] else { return Err(None) };
        match admitted {
            Some(Ok(row)) => {
                let shard = core.shared.keyspace.shard_of(key);
                self.bytes += self.args[begin..].iter().map(|arg| arg.len()).sum::<usize>();
                self.requests.push(Request { row, args: begin..self.args.len(), shard, place: None, at });
                Ok(())
            }
            refused => {
                self.args.truncate(begin);
                Err(refused.map(|refused| refused.map(drop)))
            }
        }
    }

    /// Asks the gates about the request whose arguments begin at `begin`; `None` where it does not join.
    fn admit(
        &self,
        core: &mut Core,
        state: &SessionState,
        begin: usize,
    ) -> Option<Result<&'static Row, ErrorReply>> {
        let args = &self.args[begin..];
        if !(2..=ARGS_MAX).contains(&args.len()) {
            return None;
        }
        // Mostly it is the command of the request before.
        let before = self.requests.last().filter(|before| self.args[before.args.start] == args[0]);
        let row = before.map_or_else(|| table::find(args[0]), |before| Some(before.row))?;
        let may_join = row.joins_batches && row.spec.arity_fits(args.len());
        may_join.then(|| dispatch::gates(core, state, row, row.spec, args).map(|()| row))
    }

    pub fn is_full(&self) -> bool {
        self.requests.len() == REQUESTS_MAX || self.bytes > BYTES_MAX
    }

    /// Where the first request that has not run begins in the buffer.
    pub fn begin(&self) -> Option<usize> {
        self.requests.get(self.ran).map(|request| request.at)
    }

    /// Takes the first request that has not run out, to be run by itself.
    pub fn take_out(&mut self) -> Args<'b> {
        let args = self.requests[self.ran].args.clone();
        self.ran += 1;
        self.args[args].into()
    }

    /// Runs the next requests, as many as one unit may hold. False where the first of them must run by itself: a
    /// script, a snapshot or a pause is in its way.
    pub fn run(&mut self, core: &mut Core, state: &mut SessionState, out: &mut Vec<u8>) -> bool {
        let Core { shared, engine, side } = core;
        let own = side.event_loop;
        let gives_up = || shared.busy.elsewhere(own);
        let wanted = &mut self.requests[self.ran..];
        let hold = unit::hold_for(wanted.iter().map(|request| request.row), state);
        let shards = wanted.iter().map(|request| request.shard);
        let Some((mut locked, places)) = shared.keyspace.lock_first(shards, hold, &gives_up) else {
            return false;
        };
        // Once more with the shards held, see `unit::run_single`.
        if shared.pause.is_set() {
            return false;
        }
        wanted.iter_mut().zip(&places).for_each(|(request, place)| request.place = Some(*place));
        let requests = &self.requests[self.ran..][..places.len()];
        if requests.len() > 1 {
            self.touch(requests, &locked, state.db);
        }
        let mut is_free = |request: &&Request| {
            let args = &self.args[request.args.clone()];
            !shared.snapshots.is_waited_for(&mut locked, state.db, request.row.spec, args)
        };
        let free = match shared.snapshots.is_walking() {
            true => requests.iter().take_while(&mut is_free).count(),
            false => requests.len(),
        };
        if free == 0 {
            return false;
        }
        let (begun, commands, protocol) = (out.len(), side.commands, state.protocol);
        let mut cx = unit::client_context(locked, state, engine, side, &gives_up);
        let mut call = Call { cx: &mut cx, shared, side, state: Some(state) };
        let clock = call.side.clock;
        let (mut ran, mut errors) = (0, Vec::<(&Row, ErrorReply)>::new());
        for request in &requests[..free] {
            call.cx.locked.focus(request.place);
            let mut reply = Reply::new(out, protocol);
            match unit::perform(request.row, &mut call, &self.args[request.args.clone()], &mut reply) {
                Ok(Flow::Done) => {}
                Ok(Flow::Park(_) | Flow::Steps(_)) => unreachable!("no command that waits joins a batch"),
                Err(error) => {
                    reply.error(error.text());
                    errors.push((request.row, error));
                }
            }
            ran += 1;
            call.cx.effects.end_group();
            if !call.cx.ready.is_empty() || out.len() - begun > BYTES_MAX {
                break;
            }
        }
        // Equal parts of their time: a look at the clock for each takes as long as what the quickest do.
        let nanos = call.side.lap(clock) / ran as u64;
        self.count(&requests[..ran], &errors, nanos, &mut call);
        let last = requests[ran - 1].row;
        state.note_command(last, last.spec);
        self.ran += ran;
        cx.locked.focus(None);
        let owed = unit::settle(cx, shared, side);
        let ran = side.commands - commands;
        shared.stats_of(own).commands.add(ran);
        crate::clients::add(&state.info.commands, ran);
        state.owe(owed);
        core.engine.effects.clear();
        unit::remove_expired(core);
        unit::serve_deferred(core);
        true
    }

    /// Counts what has run, each with `nanos` of time, and what of it has failed.
    fn count(&self, ran: &[Request], errors: &[(&Row, ErrorReply)], nanos: u64, call: &mut Call<'_, '_>) {
        for alike in ran.chunk_by(|a, b| std::ptr::eq(a.row, b.row)) {
            let row = alike[0].row;
            unit::count_runs(row, row.spec, call, alike.len() as u64, nanos);
        }
        for (row, error) in errors {
            call.stats().note_failure(row, row.spec, error);
        }
        let Some(state) = call.state.as_deref() else { return };
        if call.shared.slowlog.is_slow(call.side, nanos) {
            for Request { row, args, .. } in ran {
                call.shared.slowlog.note(call.side, state, row.spec, &self.args[args.clone()], nanos);
            }
        }
    }

    fn touch(&self, requests: &[Request], locked: &Locked<'_>, db: u32) {
        thali_keyspace::touch(requests.iter().filter_map(|request| {
            let [_, key, ref rest @ ..] = self.args[request.args.clone()] else { return None };
            // Where a field or a member stands, where there is any.
            let element = match request.row.spec.group {
                Group::Hash | Group::Set => rest.first(),
                Group::SortedSet => rest.last(),
                _ => None,
            };
            Some((locked.at(request.place?).db(db)?, key, element.copied()))
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_commands_for_one_key_join() {
        let joins = |name: &str| table::find(name.as_bytes()).unwrap().joins_batches;
        for name in
            ["get", "set", "incr", "hset", "hget", "lpush", "rpop", "sadd", "zadd", "zscore", "expire"]
        {
            assert!(joins(name), "{name}");
        }
        for name in
            ["mget", "del", "blpop", "lrange", "keys", "eval", "select", "multi", "publish", "sort", "xread"]
        {
            assert!(!joins(name), "{name}");
        }
    }
}
