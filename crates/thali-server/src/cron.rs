//! What a loop does ten times a second: expired keys and fields of its share of the shards go, and others where
//! memory has run out. Where many have expired at once, the loop goes on with them a little in each tick, and serves
//! its clients in between.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thali_commands::Origin;

use crate::call::Core;
use crate::latency::event;
use crate::{eviction, memory, snapshots, tracking, unit};

/// Keys looked at in one database of one shard before the lock is let go.
const EXPIRY_SCAN_KEYS: usize = 512;
/// Keys removed before the lock is let go.
const EXPIRY_REMOVED_MAX: usize = 128;
/// Turns for one database of one shard in one run, while most of what is found has expired.
const EXPIRY_TURNS_MAX: usize = 16;
/// Hashes looked at, of which fields have expired, before the lock is let go.
const EXPIRY_HASHES_MAX: usize = 64;
/// Fields removed before the lock is let go: in a hash of a million, each costs about 2 µs.
const EXPIRY_FIELDS_MAX: usize = 128;
/// Beyond this, keys and fields wait for the next tick, and so for clients.
const EXPIRY_TIME_MAX: Duration = Duration::from_micros(500);

/// State between runs.
#[derive(Debug, Default)]
pub(crate) struct Cron {
    /// Where the removal of expired keys goes on: the shard, counted among the loop's own, and turns that it has had.
    keys: Option<(usize, usize)>,
    /// Expired fields are being removed.
    has_fields: bool,
    /// When the removal may go on.
    next_removal: Option<Instant>,
    /// The first of the loop's shards whose fields have their turn, counted among them.
    next_of_fields: usize,
}

impl Cron {
    pub fn run(&mut self, core: &mut Core) {
        if core.shared.switches.pauses_cron.load(Ordering::Relaxed) {
            return;
        }
        if core.side.event_loop == 0 {
            // Notes the peak.
            memory::used_bytes();
            eviction::cron(core);
            core.shared.rates.look(&core.shared.stats, core.side.clock);
            core.shared.loading.log();
            if !core.shared.loading.is_on() {
                snapshots::cron(&core.shared);
            }
            core.shared.pause.clear_if_over(core.side.now_ms);
            tracking::limit(core, tracking::EVICTED_BY_CRON_MAX);
            tracking::forget_if_unused(&core.shared);
        }
        crate::scripts::forget_flushed(&core.shared, &mut core.side);
        crate::functions::forget_replaced(&core.shared, &mut core.side);
        unit::clear_leftovers(core);
        unit::serve_deferred(core);
        // The loop looks at once whether it is expiring.
        self.keys.get_or_insert((0, 0));
        self.has_fields = true;
    }

    /// When there is more to expire than the last tick had time for: how long it has to wait.
    pub fn until_removal(&self) -> Option<Duration> {
        let is_expiring = self.keys.is_some() || self.has_fields;
        is_expiring.then(|| {
            self.next_removal.map_or(Duration::ZERO, |next| next.saturating_duration_since(Instant::now()))
        })
    }

    /// Goes on with the removal of what has expired, for a little. It rests for as long, as clients may be short of
    /// processors.
    pub fn expire(&mut self, core: &mut Core) {
        // What expires is journaled, too; while that fails, keys only count as expired.
        let admitted = core.shared.admit_write().is_ok();
        let may_expire = core.shared.active_expire.load(Ordering::Relaxed) && !core.side.keeps_expired;
        if !may_expire || !admitted || core.shared.loading.is_on() {
            (self.keys, self.has_fields) = (None, false);
            return;
        }
        let begun = Instant::now();
        let until = begun + EXPIRY_TIME_MAX;
        let (own, loops) = (usize::from(core.side.event_loop), core.shared.mailboxes.len());
        let shards: Vec<usize> = (own..core.shared.keyspace.shards_len()).step_by(loops).collect();
        self.expire_keys(core, &shards, until);
        if self.keys.is_none() && self.has_fields {
            self.expire_fields(core, &shards, until);
        }
        let took = begun.elapsed();
        self.next_removal = Some(begun + took * 2);
        core.shared.note_latency(&core.side, event::EXPIRE_CYCLE, took);
    }

    fn expire_keys(&mut self, core: &mut Core, shards: &[usize], until: Instant) {
        while let Some((at, turn)) = self.keys {
            let Some(shard) = shards.get(at) else { return self.keys = None };
            let has_more = expire_some(core, *shard as u16) && turn + 1 < EXPIRY_TURNS_MAX;
            self.keys = Some(if has_more { (at, turn + 1) } else { (at + 1, 0) });
            if Instant::now() > until {
                return;
            }
        }
    }

    /// Removes fields that have expired, in turns of one shard each.
    fn expire_fields(&mut self, core: &mut Core, shards: &[usize], until: Instant) {
        for n in 0..shards.len() {
            let at = (self.next_of_fields + n) % shards.len();
            while expire_some_fields(core, shards[at] as u16) {
                if Instant::now() > until {
                    self.next_of_fields = at + 1;
                    return;
                }
            }
        }
        self.has_fields = false;
    }
}

/// Removes some expired fields of hashes in a shard, a hash's as one unit; true where there are more.
fn expire_some_fields(core: &mut Core, shard: u16) -> bool {
    let Core { shared, engine, side } = core;
    // A taken shard has its turn at the next run.
    let Some(mut locked) = shared.keyspace.try_lock_one(shard) else { return false };
    let mut due = Vec::new();
    for (_, shard) in locked.shards_mut() {
        for (number, db) in shard.dbs_mut() {
            let keys = db.hashes_due(side.now_ms, EXPIRY_HASHES_MAX);
            due.extend(keys.into_iter().map(|key| (number, key)));
        }
    }
    if due.is_empty() {
        return false;
    }
    let mut cx = unit::context(locked, 0, engine, side, Origin::Unit);
    let mut removed = 0;
    for (db, key) in due {
        cx.remove_expired_if_cheap(db, &key);
        removed += cx.expire_any_fields(db, &key, EXPIRY_FIELDS_MAX - removed);
        if removed == EXPIRY_FIELDS_MAX {
            break;
        }
    }
    unit::settle(cx, shared, side);
    core.engine.effects.clear();
    unit::serve_deferred(core);
    // What a snapshot still needs stays for now: then there is no use in another turn.
    removed > 0
}

/// Removes some expired keys of a shard; true where more are likely.
fn expire_some(core: &mut Core, shard: u16) -> bool {
    let crate::call::Core { shared, engine, side } = core;
    // A taken shard has its turn at the next run.
    let Some(mut locked) = shared.keyspace.try_lock_one(shard) else { return false };
    let mut found = Vec::new();
    let mut more = false;
    for (_, shard) in locked.shards_mut() {
        for (number, db) in shard.dbs_mut() {
            let (keys, seen) = db.expired(side.now_ms, EXPIRY_SCAN_KEYS, EXPIRY_REMOVED_MAX);
            more |= keys.len() * 4 > seen.max(1);
            found.extend(keys.into_iter().map(|key| (number, key)));
        }
    }
    if found.is_empty() {
        return false;
    }
    let mut cx = unit::context(locked, 0, engine, side, Origin::Unit);
    for (db, key) in found {
        cx.remove_expired_if_cheap(db, &key);
    }
    unit::settle(cx, shared, side);
    core.engine.effects.clear();
    unit::serve_deferred(core);
    more
}
