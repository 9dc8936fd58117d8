//! `maxmemory`: keys go where more is in use than is allowed.
//!
//! Room is made before a command that takes some, at CONFIG SET and ten times a second, by whichever loop notices,
//! one at a time: it holds one shard and waits for none. Each key that goes is a unit of work of its own. Where that
//! takes long, clients go on in between ([`Room::Later`]) and the loop comes back to it after each tick, so that a
//! limit that was lowered by gigabytes keeps nobody waiting. Which key goes is `thali_keyspace::eviction`'s.
//! SOURCE for what is refused when, and for the time limit: Redis 7.2 `evict.c` and `server.c`, processCommand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use thali_commands::Origin;
use thali_keyspace::locks::ShardId;
use thali_keyspace::{Candidate, Lfu, Pool, Preference, Uses};

use crate::call::{Core, Shared};
use crate::counting::freed_by;
use crate::freer::Freer;
use crate::latency::event;
use crate::memory;
use crate::session::SessionState;
use crate::table::{Handler, Row, SessionVerb};
use crate::{client_memory, scripts, unit};

/// Steps between two looks at the clock.
const STEPS_A_LOOK: usize = 16;
/// How long to wait at a time for what is freed elsewhere.
const FREEING: Duration = Duration::from_micros(50);
/// Steps in a row that remove nothing, as others hold the shards or what may go is rare, before clients go on.
const MISSES_MAX: usize = 1024;
/// What was told of evicted keys has so long to leave before the cron evicts for it.
const SETTLING: Duration = Duration::from_millis(100);

/// One loop's part.
pub(crate) struct Evictor {
    pool: Pool,
    /// What the notes in the pool's shards mean.
    lfu: Option<Lfu>,
    /// More is in use than is allowed: the loop comes back to it.
    pub goes_on: bool,
    /// The last command that could take memory was let in or not by this.
    pub is_out_of_memory: bool,
}

impl Evictor {
    pub fn new(shards_len: usize) -> Self {
        Self { pool: Pool::new(shards_len), lfu: None, goes_on: false, is_out_of_memory: false }
    }
}

/// For how long more than `maxmemory` was in use, over all loops; in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Exceeded {
    /// Since when, after the start; 0: it is not.
    since: AtomicU64,
    /// Before that.
    total: AtomicU64,
}

impl Exceeded {
    fn begin(&self, shared: &Shared) {
        if self.since.load(Relaxed) == 0 {
            let _ = self.since.compare_exchange(0, micros(shared), Relaxed, Relaxed);
        }
    }

    fn end(&self, shared: &Shared) {
        if self.since.load(Relaxed) != 0 {
            let since = self.since.swap(0, Relaxed);
            if since != 0 {
                self.total.fetch_add(micros(shared) - since, Relaxed);
            }
        }
    }

    /// In all, and this time; in milliseconds.
    pub fn millis(&self, shared: &Shared) -> (u64, u64) {
        let current = match self.since.load(Relaxed) {
            0 => 0,
            since => micros(shared).saturating_sub(since),
        };
        ((self.total.load(Relaxed) + current) / 1000, current / 1000)
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.since.store(0, Relaxed);
        self.total.store(0, Relaxed);
    }
}

/// Microseconds since the start, at least 1.
fn micros(shared: &Shared) -> u64 {
    u64::try_from(shared.started.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    /// It is being made.
    Later,
    /// Nothing may go.
    Nowhere,
}

/// Makes room for a command that takes memory; true where there is none and the command is to be refused.
pub(crate) fn refuses(core: &mut Core, state: &SessionState, row: &Row, takes_memory: bool) -> bool {
    let in_transaction = state.transaction.is_some();
    if !takes_memory && !in_transaction && !scripts::runs_scripts(row.spec.name) {
        return false;
    }
    let is_out = make_room(core) == Room::Nowhere;
    core.side.evictor.is_out_of_memory = is_out;
    // What it takes is made good before its reply leaves, so that whoever asks next meets no more than is allowed.
    core.side.evictor.goes_on |= takes_memory && !is_out && core.side.settings.maxmemory > 0;
    // What is queued takes memory, too, and must be let go.
    let is_queued = in_transaction && !ends_transaction(row);
    is_out && (takes_memory || is_queued)
}

fn ends_transaction(row: &Row) -> bool {
    use SessionVerb::{Discard, Exec, Quit, Reset};
    matches!(row.handler, Handler::Session(Exec | Discard | Quit | Reset))
}

/// Removes keys until no more than `maxmemory` is in use, or for as long as `maxmemory-eviction-tenacity` allows.
/// The caller holds no shard.
pub(crate) fn make_room(core: &mut Core) -> Room {
    let room = if core.side.settings.maxmemory == 0 { Room::Enough } else { remove_keys(core) };
    core.side.evictor.goes_on = room == Room::Later;
    match room {
        Room::Enough => core.shared.exceeded.end(&core.shared),
        Room::Later | Room::Nowhere => core.shared.exceeded.begin(&core.shared),
    }
    room
}

/// As [`make_room`], for what took memory without being asked: buffers of clients. Where they may take so much only,
/// clients go first.
pub(crate) fn cron(core: &mut Core) {
    client_memory::evict(core, false);
    let shared = &core.shared;
    let has_settled = |ended: &Option<Instant>| ended.is_none_or(|ended| ended.elapsed() >= SETTLING);
    let is_settled = shared.evicting.try_lock().is_some_and(|ended| has_settled(&ended));
    let leaving = match client_memory::limit(&core.side.settings) {
        Some(_) => client_memory::leaving_bytes(shared),
        None => 0,
    };
    if is_settled
        && (leaving == 0
            || memory::counted_bytes(shared).saturating_sub(leaving) > core.side.settings.maxmemory)
    {
        make_room(core);
    }
}

fn remove_keys(core: &mut Core) -> Room {
    let max = core.side.settings.maxmemory;
    if memory::counted_bytes(&core.shared) <= max || core.shared.loading.is_on() {
        return Room::Enough;
    }
    let Some(preference) = core.side.settings.maxmemory_policy.preference() else { return Room::Nowhere };
    let shared = Arc::clone(&core.shared);
    let Some(mut ended) = shared.evicting.try_lock() else { return Room::Later };
    // What cannot be journaled must stay; the command that would write will hear why.
    if shared.admit_write().is_err() {
        return Room::Enough;
    }
    let lfu = core.side.settings.lfu();
    core.side.evictor.pool.prefer(preference);
    if core.side.evictor.lfu.is_some() != lfu.is_some() {
        core.side.evictor.pool.forget();
    }
    core.side.evictor.lfu = lfu;
    let uses = core.side.settings.uses(core.side.now_ms);
    let limit = time_limit(core.side.settings.maxmemory_eviction_tenacity);
    let begun = Instant::now();
    // Whoever is told of evicted keys is told with memory, which must not evict more.
    let mut left = memory::counted_bytes(&shared).saturating_sub(max);
    let mut room = Room::Later;
    let mut misses = 0;
    for step in 1.. {
        let is_late = |every: usize| step % every == 0 && limit.is_some_and(|limit| begun.elapsed() > limit);
        if left == 0 || memory::counted_bytes(&shared) <= max {
            room = Room::Enough;
            break;
        }
        // What is on its way to be freed counts until it is.
        if shared.freer.pending() > 0 {
            if is_late(1) {
                break;
            }
            std::thread::sleep(FREEING);
            continue;
        }
        match remove_one(core, preference, &uses) {
            Step::Removed { freed } => {
                left = left.saturating_sub(freed as u64);
                misses = 0;
            }
            Step::Missed => misses += 1,
            Step::Forbidden => {
                room = Room::Enough;
                break;
            }
            Step::Exhausted => {
                room = Room::Nowhere;
                break;
            }
        }
        if is_late(STEPS_A_LOOK) || misses == MISSES_MAX {
            break;
        }
    }
    *ended = Some(Instant::now());
    shared.note_latency(&core.side, event::EVICTION_CYCLE, begun.elapsed());
    unit::serve_deferred(core);
    core.side.clock = Instant::now();
    room
}

/// How long clients wait for it at a time; `None`: as long as it takes.
fn time_limit(tenacity: u32) -> Option<Duration> {
    let micros = match tenacity {
        0..=10 => 50.0 * f64::from(tenacity),
        11..=99 => 500.0 * 1.15f64.powi(tenacity as i32 - 10),
        _ => return None,
    };
    Some(Duration::from_micros(micros as u64))
}

enum Step {
    Removed {
        /// Bytes that are free at once.
        freed: usize,
    },
    /// Somebody else has the shard, or the key has changed meanwhile.
    Missed,
    /// There is nothing that may go.
    Exhausted,
    /// CLIENT PAUSE.
    Forbidden,
}

/// Looks at some keys of one shard, and removes the best of all that were looked at.
fn remove_one(core: &mut Core, preference: Preference, uses: &Uses) -> Step {
    let Core { shared, engine, side } = core;
    let samples = side.settings.maxmemory_samples;
    let mut random = || engine.random.next_u64();
    let pool = &mut side.evictor.pool;
    let id = pool.next_shard(&mut random);
    let Some(first) = shared.keyspace.try_lock_one(id) else { return Step::Missed };
    let (_, shard) = first.shards().next().expect("it was locked just now");
    let is_here = pool.look(id, shard, uses, samples, &mut random) > 0;
    let held = is_here.then_some(first);
    // Where what may go is rare, one of the other shards has it.
    if held.is_none() && !look_around(shared, id, pool, uses, &mut random) {
        return Step::Exhausted;
    }
    let Some(candidate) = pool.take() else { return Step::Missed };
    let of_candidate = shared.keyspace.shard_of(&candidate.key);
    let held = held.filter(|_| of_candidate == id);
    let Some(locked) = held.or_else(|| shared.keyspace.try_lock_one(of_candidate)) else {
        return Step::Missed;
    };
    // Asked with the shard held: nothing is written once CLIENT PAUSE is acknowledged.
    if shared.pause.is_set() {
        return Step::Forbidden;
    }
    if !locked.shard(&candidate.key).is_still(&candidate, preference, uses) {
        return Step::Missed;
    }
    let Candidate { db, key, .. } = candidate;
    let lazily = side.settings.lazyfree_lazy_eviction;
    let mut cx = unit::context(locked, db, engine, side, Origin::Unit);
    let (entry, freed_entry) = freed_by(|| cx.locked.shard_mut(&key).db_mut(db).remove(&key));
    let Some(entry) = entry else { return Step::Missed };
    cx.note_evicted(db, &key, lazily);
    let freed_here = if lazily && Freer::is_large(&entry.value) {
        cx.garbage.push(entry.into_value().value);
        None
    } else {
        Some(entry)
    };
    unit::settle(cx, shared, side);
    engine.effects.clear();
    let ((), freed_value) = freed_by(|| drop(freed_here));
    Step::Removed { freed: freed_entry + freed_value }
}

/// Looks at one shard after the other, from the one behind `from` up to the first with a key that may go; false where
/// none has one. What is taken counts as full. `from` is chance's, so that no shard's keys go before all others.
fn look_around(
    shared: &Shared,
    from: ShardId,
    pool: &mut Pool,
    uses: &Uses,
    random: &mut impl FnMut() -> u64,
) -> bool {
    let shards_len = shared.keyspace.shards_len();
    (1..=shards_len).any(|step| {
        let id = ((usize::from(from) + step) % shards_len) as ShardId;
        shared.keyspace.try_lock_one(id).is_none_or(|locked| {
            let (_, shard) = locked.shards().next().expect("it was locked just now");
            pool.look(id, shard, uses, 1, random) > 0
        })
    })
}
