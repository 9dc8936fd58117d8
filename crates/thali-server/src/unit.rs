//! A unit of work: shards locked, commands run, and then everything that is owed, in this order:
//! expired keys and fields removed, waiters served, effects journaled, those told who cache what has changed, shards let
//! go, subscribers notified, waiters' replies sent, memory freed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use thali_commands::{
    Access, Context, ErrorReply, EventClass, Flags, Flow, KeyspaceEvent, Origin, Outcome, Spec, Wait,
};
use thali_journal::{Policy, Seq};
use thali_keyspace::locks::ShardId;
use thali_keyspace::{Extend, Hold, Keyspace, Locked, Patience, WaitKind, Waiter, WaiterState};
use thali_resp::{Protocol, Reply};

use crate::acl::{self, User};
use crate::call::{Call, Core, DurableWait, Engine, Shared, Side};
use crate::latency::event;
use crate::mailbox::Message;
use crate::pubsub::Kind;
use crate::server::unix_ms;
use crate::session::{SessionState, TimeUp, Watched, Watching, borrowed, owned};
use crate::steps::Stepping;
use crate::table::{self, Handler, Row};
use crate::{pause, tracking};

/// Shards that a unit needs.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub shards: SmallVec<[ShardId; 8]>,
    pub all: bool,
    pub hold: Hold,
    /// The script token, too: a script is part of a larger unit.
    pub token: bool,
}

impl Plan {
    /// Adds what one command needs.
    pub fn add(&mut self, keyspace: &Keyspace, spec: &Spec, args: &[&[u8]]) {
        self.all |= spec.needs_all_shards(args);
        spec.keys.each(args, &mut |at, _: Access| self.shards.push(keyspace.shard_of(args[at])));
    }

    /// As [`Plan::add`], for a command that is one of several in a unit: nothing is locked later.
    pub fn add_in_unit(&mut self, keyspace: &Keyspace, spec: &Spec, args: &[&[u8]]) {
        self.add(keyspace, spec, args);
        self.all |= spec.flags.contains(Flags::EACH_SHARD);
    }

    /// Locks what is needed, unless a busy script holds it.
    pub fn lock<'k>(&self, shared: &'k Shared, side: &Side) -> Option<Locked<'k>> {
        self.lock_in(&shared.keyspace, &|| shared.busy.elsewhere(side.event_loop))
    }

    /// As [`Plan::lock`], with the caller's own patience.
    pub fn lock_in<'k>(&self, keyspace: &'k Keyspace, gives_up: Patience<'_>) -> Option<Locked<'k>> {
        match (self.all, self.token) {
            (true, _) => keyspace.lock_all(gives_up),
            (false, true) => keyspace.lock_with_token(&self.shards, gives_up),
            (false, false) => keyspace.hold(&self.shards, self.hold, gives_up),
        }
    }
}

/// A context with the loop's settings over locked shards.
pub(crate) fn context<'a>(
    locked: Locked<'a>,
    db: u32,
    engine: &'a mut Engine,
    side: &Side,
    origin: Origin,
) -> Context<'a> {
    let Engine { random, effects, limits } = engine;
    let mut cx = Context::new(locked, db, side.now_ms, side.uses, limits, random, effects);
    cx.dbs_len = side.settings.databases;
    cx.events_wanted = side.events_wanted();
    if origin == Origin::Client {
        cx.reply_bytes_max = side.settings.output_limit_normal.hard_bytes_or_max();
    }
    cx.trusts_checksums = side.switches.trusts_checksums.load(Relaxed);
    cx.keeps_expired = side.keeps_expired;
    cx.origin = origin;
    cx
}

/// A context for what a session's client asks.
pub(crate) fn client_context<'a>(
    locked: Locked<'a>,
    state: &SessionState,
    engine: &'a mut Engine,
    side: &Side,
    gives_up: Patience<'a>,
) -> Context<'a> {
    let mut cx = context(locked, state.db, engine, side, Origin::Client);
    cx.gives_up = gives_up;
    cx.session = Some(state.info.address);
    cx.reader = state.reader();
    cx.notes_uses = !state.info.no_touch.load(Relaxed);
    cx.sees_expired = side.settings.import_mode && state.info.import_source.load(Relaxed);
    cx
}

/// Runs one command for a session, by itself.
pub(crate) fn run_single(
    core: &mut Core,
    state: &mut SessionState,
    row: &'static Row,
    spec: &'static Spec,
    args: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), ErrorReply> {
    let Core { shared, engine, side } = core;
    let mut plan = Plan::default();
    plan.add(&shared.keyspace, spec, args);
    plan.hold = hold_for([row], state);
    let own = side.event_loop;
    let mut locked = plan.lock(shared, side).ok_or_else(|| shared.busy.refusal(own))?;
    if shared.snapshots.is_waited_for(&mut locked, state.db, spec, args) {
        state.is_postponed = true;
        return Ok(());
    }
    // Once more with the shards held: CLIENT PAUSE may have come meanwhile.
    if shared.pause.is_set() && pause::holds_back(shared, side.now_ms, state, (row, spec), args) {
        state.is_postponed = true;
        return Ok(());
    }
    let gives_up = || shared.busy.elsewhere(own);
    let mut cx = client_context(locked, state, engine, side, &gives_up);
    let mut reply = Reply::new(out, state.protocol);
    let mut call = Call { cx: &mut cx, shared, side, state: Some(state) };
    let outcome = invoke(row, &mut call, args, &mut reply);
    match outcome {
        Ok(Flow::Done) => {}
        Ok(Flow::Park(wait)) => park(&mut cx, side, state, wait),
        Ok(Flow::Steps(steps)) => {
            let nanos = side.lap(side.clock);
            state.stepping = Some(Box::new(Stepping { steps, row, args: owned(args), nanos }));
        }
        Err(_) if std::mem::take(&mut side.postpones) => state.is_postponed = true,
        Err(error) => reply.error(error.text()),
    }
    if state.db != cx.db {
        state.db = cx.db;
        state.info.db.store(cx.db, Relaxed);
    }
    let owed = settle(cx, shared, side);
    core.engine.effects.clear();
    state.owe(owed);
    remove_expired(core);
    serve_deferred(core);
    if state.tracked.is_some() {
        tracking::limit(core, tracking::EVICTED_BY_COMMAND_MAX);
    }
    Ok(())
}

/// Whether a session's commands may share their shards. One that caches what it reads is noted there.
pub(crate) fn hold_for<'r>(rows: impl IntoIterator<Item = &'r Row>, state: &SessionState) -> Hold {
    match state.tracked.is_none() && rows.into_iter().all(|row| row.shares_shards) {
        true => Hold::Shared,
        false => Hold::Alone,
    }
}

/// Removes what was found expired by those who shared its shard, or hold it no more; some at a time, each lot a unit.
/// What a busy script holds stays: it is found again.
pub(crate) fn remove_expired(core: &mut Core) {
    const KEYS_AT_ONCE: usize = 64;
    if core.side.expired.is_empty() {
        return;
    }
    for lot in std::mem::take(&mut core.side.expired).chunks(KEYS_AT_ONCE) {
        let Core { shared, engine, side } = core;
        let mut plan = Plan::default();
        plan.shards.extend(lot.iter().map(|seen| shared.keyspace.shard_of(seen.in_key())));
        let Some(locked) = plan.lock(shared, side) else { return };
        let mut cx = context(locked, 0, engine, side, Origin::Unit);
        lot.iter().for_each(|seen| cx.remove_seen(seen));
        settle(cx, shared, side);
        core.engine.effects.clear();
    }
}

/// Performs a command, and counts that with its time.
pub(crate) fn invoke(row: &Row, call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let begun = call.side.clock;
    let outcome = perform(row, call, args, reply);
    // What was parked counts when it is served, and what goes on in steps at their end.
    if !matches!(outcome, Ok(Flow::Park(_) | Flow::Steps(_))) {
        let nanos = call.side.lap(begun);
        count(row, call, args, nanos, outcome.as_ref().err());
    }
    outcome
}

/// Calls the command's function, undoes the reply of one that failed, and notes its effect.
pub(crate) fn perform(row: &Row, call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (dirty, db, start) = (call.cx.dirty, call.cx.db, reply.len());
    call.cx.effects_named = false;
    let outcome = match row.handler {
        Handler::Data(run) => run(call.cx, args, reply),
        Handler::Server(run) => run(call, args, reply),
        Handler::Session(_) => {
            Err(ErrorReply::new("ERR This command is not allowed inside a script or transaction"))
        }
    };
    let outcome = outcome.map_err(|error| named_refusal(call.shared, call.side, error));
    if outcome.is_err() {
        reply.truncate(start);
    }
    if call.cx.reader.is_some() {
        tracking::note_read(call, row.spec.subcommand(args).unwrap_or(row.spec), args);
    }
    if call.cx.dirty > dirty && !call.cx.effects_named {
        call.cx.effects.push(db, args);
    }
    outcome
}

/// Says what keeps the shard for which a data command has given up: it knows that it did, and not for what.
pub(crate) fn named_refusal(shared: &Shared, side: &Side, error: ErrorReply) -> ErrorReply {
    if error == ErrorReply::BUSY { shared.busy.refusal(side.event_loop) } else { error }
}

/// Counts a run with its time and its end.
pub(crate) fn count(
    row: &Row,
    call: &mut Call<'_, '_>,
    args: &[&[u8]],
    nanos: u64,
    error: Option<&ErrorReply>,
) {
    let spec = row.spec.subcommand(args).unwrap_or(row.spec);
    count_runs(row, spec, call, 1, nanos);
    if let Some(error) = error {
        call.stats().note_failure(row, spec, error);
    }
    if let Some(state) = call.state.as_deref() {
        call.shared.slowlog.note(call.side, state, spec, args, nanos);
    }
}

/// Counts so many runs of a command that took `nanos` each.
pub(crate) fn count_runs(row: &Row, spec: &Spec, call: &mut Call<'_, '_>, runs: u64, nanos: u64) {
    call.side.commands += runs;
    let stats = call.stats();
    stats.by_command.of(row, spec).record(runs, nanos, call.side.settings.latency_tracking);
    stats.command_nanos.add(runs * nanos);
    let is_fast = spec.flags.contains(Flags::FAST);
    let event = if is_fast { event::FAST_COMMAND } else { event::COMMAND };
    call.shared.note_latency(call.side, event, Duration::from_nanos(nanos));
}

/// Puts a session into the queues of the keys that it waits for.
fn park(cx: &mut Context<'_>, side: &mut Side, state: &mut SessionState, wait: Wait) {
    let waiter = Arc::new(Waiter {
        address: state.info.address,
        owner: Arc::clone(&state.user) as _,
        db: cx.db,
        kind: wait.kind,
        keys: wait.keys,
        request: wait.request,
        resp3: state.protocol == Protocol::Resp3,
        is_timed: wait.deadline_ms.is_some(),
        state: parking_lot::Mutex::new(WaiterState::Waiting),
    });
    for key in &waiter.keys {
        cx.locked.shard_mut(key).wait(waiter.db, key, Arc::clone(&waiter));
    }
    if let Some(deadline_ms) = wait.deadline_ms {
        side.deadlines.insert((deadline_ms, state.id));
    }
    *state.info.waiter.lock() = Some(Arc::clone(&waiter));
    state.parked_deadline_ms = wait.deadline_ms;
    state.parked_time_up = if wait.null_array { TimeUp::NullArray } else { TimeUp::Null };
    state.parked = Some(waiter);
}

/// Parks a session until its writes survive the death of the machine, or for its whole time (WAITAOF).
pub(crate) fn park_until_durable(
    side: &mut Side,
    state: &mut SessionState,
    deadline_ms: Option<u64>,
    wait: DurableWait,
) {
    let waiter = Arc::new(Waiter {
        address: state.info.address,
        owner: Arc::clone(&state.user) as _,
        db: state.db,
        kind: WaitKind::List,
        keys: Vec::new(),
        request: Vec::new(),
        resp3: state.protocol == Protocol::Resp3,
        is_timed: deadline_ms.is_some(),
        state: parking_lot::Mutex::new(WaiterState::Waiting),
    });
    if let Some(deadline_ms) = deadline_ms {
        side.deadlines.insert((deadline_ms, state.id));
    }
    *state.info.waiter.lock() = Some(Arc::clone(&waiter));
    state.parked_deadline_ms = deadline_ms;
    state.parked_time_up = TimeUp::Durable;
    state.parked = Some(waiter);
    side.durable_waits.push(wait);
}

/// What a session has in shards and no longer needs. It does no harm there: a flag that nobody looks
/// at, a waiter that is done.
#[derive(Debug)]
pub(crate) enum Leftover {
    Watching(Box<Watching>),
    Waiter(Arc<Waiter>),
}

/// Takes something out of the shards, later where a busy script holds one. The caller holds none.
pub(crate) fn clear(shared: &Shared, side: &mut Side, leftover: Leftover) {
    let mut plan = Plan::default();
    let keyspace = &shared.keyspace;
    match &leftover {
        Leftover::Watching(watching) => {
            plan.shards.extend(watching.keys.iter().map(|watched| keyspace.shard_of(&watched.key)));
        }
        Leftover::Waiter(waiter) => plan.shards.extend(waiter.keys.iter().map(|key| keyspace.shard_of(key))),
    }
    let Some(mut locked) = plan.lock(shared, side) else { return side.leftovers.push(leftover) };
    match leftover {
        Leftover::Watching(watching) => {
            for Watched { db, key, .. } in &watching.keys {
                locked.shard_mut(key).unwatch(*db, key, &watching.flag);
            }
        }
        Leftover::Waiter(waiter) => {
            for key in &waiter.keys {
                locked.shard_mut(key).stop_waiting(waiter.db, key, &waiter);
            }
        }
    }
}

/// Tries once more what [`clear`] put off.
pub(crate) fn clear_leftovers(core: &mut Core) {
    if !core.shared.busy.any() {
        for leftover in std::mem::take(&mut core.side.leftovers) {
            clear(&core.shared, &mut core.side, leftover);
        }
        let migrated = std::mem::take(&mut core.side.migrated);
        core.side.local.extend(migrated.into_iter().map(|migration| Message::Migrated(Box::new(migration))));
    }
}

struct Served {
    waiter: Arc<Waiter>,
    reply: Vec<u8>,
    nanos: u64,
}

/// Where the journal must be before the reply may leave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owed {
    /// Behind the unit's own effects, where it had any.
    pub written: Option<Seq>,
    /// Under `always`: behind what others wrote and it may have read, so that no reply tells of what the death
    /// of the machine could take back. SOURCE: redis-server syncs before it replies to anybody.
    pub read: Seq,
}

/// Does everything that a unit owes, see the module.
pub(crate) fn settle(mut cx: Context<'_>, shared: &Shared, side: &mut Side) -> Owed {
    if cx.locked.is_shared() {
        side.expired.append(cx.expired_seen.get_mut());
    }
    cx.remove_expired_seen();
    side.expired.append(&mut cx.expired_elsewhere);
    let mut served = if cx.ready.is_empty() {
        Vec::new()
    } else {
        // Another command, another time: the unit may have taken long, and a key's time be over.
        cx.now_ms = cx.now_ms.max(unix_ms());
        serve_waiters(&mut cx, shared, side)
    };
    let seq = if cx.effects.is_empty() {
        None
    } else {
        shared.journal.load().as_ref().and_then(|journal| match cx.effects.singles() {
            Some(all) => Some(journal.append([all], true)),
            None => cx.effects.groups().map(|group| journal.append(group, true)).last(),
        })
    };
    side.appended = seq.or(side.appended);
    let owed = Owed { written: seq, read: note_written(&mut cx, side, seq) };
    let stats = shared.stats_of(side.event_loop);
    stats.hits.add(cx.hits.get());
    stats.misses.add(cx.misses.get());
    stats.expired.add(cx.expired);
    stats.evicted.add(cx.evicted);
    stats.expired_fields.add(cx.expired_fields);
    stats.dirty.add(cx.dirty);
    if cx.is_emptied {
        side.local.push(Message::Emptied);
    }
    let Context { locked, garbage, dropped_dbs, events, notes, stale, .. } = cx;
    if let Some(stale) = &stale {
        // With the shards held, see there; behind the replies to those who waited, which may be stale already.
        send_served(shared, side, std::mem::take(&mut served), seq.unwrap_or_default().max(owed.read));
        tracking::tell(shared, side, stale);
    }
    drop(locked);
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    if !events.is_empty() {
        notify(shared, side, &events);
    }
    send_served(shared, side, served, seq.unwrap_or_default().max(owed.read));
    if !garbage.is_empty() || !dropped_dbs.is_empty() {
        shared.freer.free(garbage, dropped_dbs);
    }
    owed
}

/// Marks the held shards as written up to `seq`; gives what readers of them wait for.
fn note_written(cx: &mut Context<'_>, side: &Side, seq: Option<Seq>) -> Seq {
    if side.settings.appendfsync != Policy::Always {
        return Seq::default();
    }
    if let Some(Seq(at)) = seq {
        cx.locked.shards_mut().for_each(|(_, shard)| shard.written_at = at);
    }
    Seq(cx.locked.shards().map(|(_, shard)| shard.written_at).max().unwrap_or(0))
}

fn send_served(shared: &Shared, side: &mut Side, served: Vec<Served>, seq: Seq) {
    for Served { waiter, reply, nanos } in served {
        let (event_loop, session) = (waiter.address.event_loop, waiter.address.session);
        let message = Message::Served { session, reply, seq, nanos };
        side.send(shared, event_loop, message);
    }
}

/// Runs the requests of those who wait for keys that have changed, first come first served.
fn serve_waiters(cx: &mut Context<'_>, shared: &Shared, side: &mut Side) -> Vec<Served> {
    let mut served = Vec::new();
    let (db, origin, session, reader) = (cx.db, cx.origin, cx.session, cx.reader.take());
    let commands = side.commands;
    let mut at = 0;
    // Serving one may change further keys (BLMOVE), which join the list.
    while at < cx.ready.len() {
        let (ready_db, key) = cx.ready[at].clone();
        at += 1;
        let waiters = cx.locked.shard(&key).waiters(ready_db, &key);
        for waiter in waiters {
            cx.db = ready_db;
            let type_name = cx.peek(&key).map(|entry| entry.value.type_name());
            if !waiter.kind.accepts(type_name) {
                continue;
            }
            let begun = side.clock;
            if let Some(reply) = serve(cx, shared, side, &waiter, &key) {
                let nanos = u64::try_from((side.clock - begun).as_nanos()).unwrap_or(u64::MAX);
                served.push(Served { waiter, reply, nanos });
            }
        }
    }
    cx.ready.clear();
    (cx.db, cx.origin, cx.session, cx.reader) = (db, origin, session, reader);
    // They count for those who waited.
    side.commands = commands;
    served
}

/// Runs one waiter's request; its reply, unless it still has to wait.
fn serve(
    cx: &mut Context<'_>,
    shared: &Shared,
    side: &mut Side,
    waiter: &Arc<Waiter>,
    key: &[u8],
) -> Option<Vec<u8>> {
    let args = borrowed(&waiter.request);
    let row = table::find(args[0])?;
    let mut wanted: SmallVec<[ShardId; 4]> = SmallVec::new();
    row.spec.keys.each(&args, &mut |at, _| wanted.push(shared.keyspace.shard_of(args[at])));
    if wanted.iter().any(|shard| cx.locked.try_extend(*shard) != Extend::Held) {
        // Somebody has a shard that this one needs, too: once all is let go, from the start.
        side.deferred.push((waiter.db, key.into()));
        return None;
    }
    let mut state = waiter.state.lock();
    if *state == WaiterState::Done {
        drop(state);
        cx.locked.shard_mut(key).stop_waiting(waiter.db, key, waiter);
        return None;
    }
    let mut bytes = Vec::new();
    let protocol = if waiter.resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
    let mut reply = Reply::new(&mut bytes, protocol);
    cx.origin = Origin::Waiter;
    cx.db = waiter.db;
    cx.session = Some(waiter.address);
    if let Err(error) = may_still(shared, side, waiter, row, &args) {
        reply.error(error.text());
    } else {
        let mut call = Call { cx, shared, side, state: None };
        match invoke(row, &mut call, &args, &mut reply) {
            Ok(Flow::Park(_) | Flow::Steps(_)) => return None,
            Ok(Flow::Done) => {}
            Err(error) => reply.error(error.text()),
        }
    }
    *state = WaiterState::Done;
    drop(state);
    cx.locked.shard_mut(key).stop_waiting(waiter.db, key, waiter);
    Some(bytes)
}

/// The gate of a waiter: its user may have lost the right while it waited.
fn may_still(
    shared: &Shared,
    side: &Side,
    waiter: &Waiter,
    row: &Row,
    args: &[&[u8]],
) -> Result<(), ErrorReply> {
    let Some(user) = waiter.owner.downcast_ref::<User>().filter(|user| !user.may_all()) else {
        return Ok(());
    };
    let spec = row.spec.subcommand(args).unwrap_or(row.spec);
    if user.rules().check(row, spec, args).is_ok() {
        return Ok(());
    }
    // Only a refusal, for the log, is worth a look at all clients.
    let info = shared.clients.all().into_iter().find(|info| info.address == waiter.address);
    acl::gate_waiter(shared, side, (user, info.as_deref()), (row, spec, args)).inspect_err(|error| {
        let stats = shared.stats_of(side.event_loop);
        stats.note_error(error.text());
        stats.by_command.of(row, spec).rejected.add(1);
    })
}

/// Serves waiters that could not be served while other shards were held.
pub(crate) fn serve_deferred(core: &mut Core) {
    while let Some((db, key)) = core.side.deferred.pop() {
        core.side.clock = Instant::now();
        let Core { shared, engine, side } = core;
        let mut plan = Plan::default();
        plan.shards.push(shared.keyspace.shard_of(&key));
        let Some(locked) = plan.lock(shared, side) else { return side.deferred.push((db, key)) };
        let waiters = locked.shard(&key).waiters(db, &key);
        drop(locked);
        for waiter in waiters {
            let args = borrowed(&waiter.request);
            if let Some(row) = table::find(args[0]) {
                plan.add(&shared.keyspace, row.spec, &args);
            }
        }
        let Some(locked) = plan.lock(shared, side) else { return side.deferred.push((db, key)) };
        let mut cx = context(locked, db, engine, side, Origin::Waiter);
        cx.ready.push((db, key));
        settle(cx, shared, side);
        core.engine.effects.clear();
    }
}

/// Publishes keyspace notifications.
fn notify(shared: &Shared, side: &mut Side, events: &[KeyspaceEvent]) {
    let wanted = side.events_wanted();
    for KeyspaceEvent { event, db, key, .. } in events {
        if wanted.contains(EventClass::KEYSPACE) {
            let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
            side.publish(shared, Kind::Channel, &channel, event.as_bytes());
        }
        if wanted.contains(EventClass::KEYEVENT) {
            let channel = format!("__keyevent@{db}__:{event}");
            side.publish(shared, Kind::Channel, channel.as_bytes(), key);
        }
    }
}
