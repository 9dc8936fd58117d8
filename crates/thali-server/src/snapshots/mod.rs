//! Snapshots: dumps (SAVE, BGSAVE, `save`) and new bases of the append-only file (BGREWRITEAOF).
//!
//! One thread makes them, one at a time, from the live keyspace. It fixes a point in time while it holds
//! every shard for a moment ([`Walk::begin`]). Then the loops walk shard by shard in short holds, writers save
//! what they are about to change ([`pieces`]), and the thread writes it out ([`maker`], [`output`]). No fork, no copy of
//! the data.
//!
//! One that nobody wants any more is broken off ([`Snapshots::break_off`]): a dump of what FLUSHALL has removed, a
//! base where `appendonly` was turned on or off. It counts as neither done nor failed, as in Redis.

mod file;
mod maker;
mod output;
mod pieces;
mod requests;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex, MutexGuard};
use thali_commands::{Access, Spec};
use thali_keyspace::Locked;

use self::maker::Maker;
pub(crate) use self::maker::{begin_journal, dump_alone, rewrite_alone};
pub(crate) use self::walk::{Stepped, Walk, Walker};
use crate::call::Shared;

/// After a dump that failed, `save` tries again this much later. SOURCE: redis 7.0 `CONFIG_BGSAVE_RETRY_DELAY`.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dump,
    Rewrite,
}

/// What became of a request for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Started,
    /// One of the other kind runs; this one follows.
    Scheduled,
    /// One of this kind runs.
    Runs(Kind),
}

/// What the thread does.
#[derive(Clone, Copy, Debug, Default)]
enum Doing {
    #[default]
    Nothing,
    /// It is about to begin: that counts as running, whenever the thread gets to it.
    Asked { kind: Kind, in_haste: bool },
    Making {
        kind: Kind,
        since: Instant,
        in_haste: bool,
        /// Its point in time is fixed.
        is_fixed: bool,
    },
}

impl Doing {
    fn kind(self) -> Option<Kind> {
        match self {
            Self::Nothing => None,
            Self::Asked { kind, .. } | Self::Making { kind, .. } => Some(kind),
        }
    }
}

/// For INFO.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    doing: Doing,
    dump_wanted: bool,
    rewrite_wanted: bool,
    is_stopping: bool,
    gives_up: bool,
    /// Snapshots that were begun.
    pub begun: u64,
    /// Dumps that ended, well or not.
    pub dumps: u64,
    pub dumps_done: u64,
    /// Changes of the data up to the last dump.
    pub dirty_at_last_dump: u64,
    pub last_dump_unix_s: u64,
    pub last_dump_failed: bool,
    pub last_dump_took: Option<Duration>,
    last_dump_tried: Option<Instant>,
    pub rewrites: u64,
    pub last_rewrite_failed: bool,
    pub last_rewrite_took: Option<Duration>,
    last_rewrite_tried: Option<Instant>,
    /// The longest time that the last snapshot held a shard.
    pub longest_hold: Duration,
}

impl State {
    /// Since when a snapshot of this kind runs.
    pub fn runs_since(&self, kind: Kind) -> Option<Instant> {
        match self.doing {
            Doing::Making { kind: made, since, .. } if made == kind => Some(since),
            Doing::Asked { kind: asked, .. } if asked == kind => Some(Instant::now()),
            _ => None,
        }
    }

    pub fn is_scheduled(&self, kind: Kind) -> bool {
        match kind {
            Kind::Dump => self.dump_wanted,
            Kind::Rewrite => self.rewrite_wanted,
        }
    }
}

/// The thread's post box.
#[derive(Default)]
pub(crate) struct Snapshots {
    state: Mutex<State>,
    changed: Condvar,
    /// The running snapshot.
    walk: ArcSwapOption<Walk>,
    /// Whether there is one.
    is_walking: AtomicBool,
    has_failed: AtomicBool,
}

impl Snapshots {
    /// With the start of the server as the last dump, as Redis counts.
    pub fn new(now_unix_s: u64) -> Self {
        let state = State { last_dump_unix_s: now_unix_s, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Asks for a snapshot. With `patient`, one that cannot begin now follows the running one.
    pub fn ask(&self, kind: Kind, patient: bool) -> Asked {
        self.ask_in(&mut self.state.lock(), kind, patient, false)
    }

    fn ask_in(&self, state: &mut State, kind: Kind, patient: bool, in_haste: bool) -> Asked {
        match state.doing.kind() {
            Some(running) if running == kind || !patient => return Asked::Runs(running),
            Some(_) => {
                match kind {
                    Kind::Dump => state.dump_wanted = true,
                    Kind::Rewrite => state.rewrite_wanted = true,
                }
                return Asked::Scheduled;
            }
            None => {}
        }
        state.doing = Doing::Asked { kind, in_haste };
        self.changed.notify_all();
        Asked::Started
    }

    /// Makes a dump and waits for its end; an error where one runs already, or where it failed. The caller
    /// holds no shard.
    pub fn dump_and_wait(&self) -> Result<(), Asked> {
        let mut state = self.state.lock();
        let before = state.dumps;
        let asked = self.ask_in(&mut state, Kind::Dump, false, true);
        if asked != Asked::Started {
            return Err(asked);
        }
        self.wait_for_dump(&mut state, before)
    }

    fn wait_for_dump(&self, state: &mut MutexGuard<'_, State>, before: u64) -> Result<(), Asked> {
        while state.dumps == before && !state.is_stopping {
            self.changed.wait(state);
        }
        if state.last_dump_failed { Err(Asked::Started) } else { Ok(()) }
    }

    /// After FLUSHALL: the dump that runs is of what is gone, and where `dumps_now`, as with `save` rules, the dump
    /// on the disk is to be as empty at once, lest a start brings all back. Waits for that dump, unless a base is
    /// being made: then it follows that. The caller holds no shard.
    pub fn emptied(&self, dumps_now: bool) {
        self.break_off(Kind::Dump);
        if !dumps_now {
            return;
        }
        let mut state = self.state.lock();
        while state.doing.kind() == Some(Kind::Dump) && !state.is_stopping {
            self.changed.wait(&mut state);
        }
        let before = state.dumps;
        if self.ask_in(&mut state, Kind::Dump, true, true) == Asked::Started {
            // How it ended is in the log.
            let _ = self.wait_for_dump(&mut state, before);
        }
    }

    /// Ends a snapshot of this kind that runs, unless somebody waits for it. One whose point in time is not fixed
    /// yet goes on: it sees what led here.
    pub fn break_off(&self, kind: Kind) {
        let walk = match self.state.lock().doing {
            Doing::Making { kind: made, in_haste: false, is_fixed: true, .. } if made == kind => {
                self.walk.load_full()
            }
            _ => None,
        };
        if let Some(walk) = walk {
            walk.break_off();
        }
    }

    /// Asks for a new base, of what is from now on; one that runs is of something else. Gives whether it must wait
    /// for what runs.
    pub fn ask_for_new_base(&self) -> bool {
        self.break_off(Kind::Rewrite);
        let mut state = self.state.lock();
        match state.doing {
            Doing::Making { kind: Kind::Rewrite, .. } => state.rewrite_wanted = true,
            _ => drop(self.ask_in(&mut state, Kind::Rewrite, true, false)),
        }
        state.rewrite_wanted
    }

    /// Ends the making of bases, begun or not; gives whether one ran.
    pub fn stop_rewriting(&self) -> bool {
        let mut state = self.state.lock();
        state.rewrite_wanted = false;
        if let Doing::Asked { kind: Kind::Rewrite, .. } = state.doing {
            state.doing = Doing::Nothing;
            self.changed.notify_all();
        }
        let runs = state.doing.kind() == Some(Kind::Rewrite);
        drop(state);
        self.break_off(Kind::Rewrite);
        runs
    }

    /// `rdb-key-save-delay` holds for the running snapshot, too.
    pub fn set_pause(&self, pause: Duration) {
        if let Some(walk) = &*self.walk.load() {
            walk.set_pause(pause);
        }
    }

    /// Waits until the point in time of what was asked for is fixed: what is written from then on is not in it.
    /// The caller holds no shard.
    pub fn wait_until_fixed(&self) {
        let mut state = self.state.lock();
        while matches!(state.doing, Doing::Asked { .. } | Doing::Making { is_fixed: false, .. })
            && !state.is_stopping
        {
            self.changed.wait(&mut state);
        }
    }

    /// The running snapshot, where loops are to walk for it.
    pub fn walk_of_loops(&self) -> Option<Arc<Walk>> {
        let walk = self.walk.load();
        walk.as_ref().filter(|walk| walk.is_shared()).map(Arc::clone)
    }

    /// Bytes that the running snapshot has saved and not written.
    pub fn waiting_bytes(&self) -> usize {
        if !self.is_walking.load(Ordering::Relaxed) {
            return 0;
        }
        self.walk.load().as_ref().map_or(0, |walk| walk.pieces.waiting_bytes())
    }

    /// Whether a command is about to change a large value that the running snapshot has not saved: then it is
    /// to wait, and the walk turns to that value. Asked for each write, so the answer is mostly one look.
    pub fn is_waited_for(&self, locked: &mut Locked<'_>, db: u32, spec: &Spec, args: &[&[u8]]) -> bool {
        if !self.is_walking() {
            return false;
        }
        let Some(walk) = self.walk.load_full() else { return false };
        let mut waits = false;
        spec.keys.each(args, &mut |at, access: Access| {
            if access.contains(Access::WRITE) {
                waits |= walk.awaits(locked, db, args[at]);
            }
        });
        waits
    }

    /// Whether a snapshot may have something to save before a change.
    pub fn is_walking(&self) -> bool {
        self.is_walking.load(Ordering::Relaxed)
    }

    /// Whether the last dump failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Waits while the running snapshot has too much to write. The caller holds no shard.
    pub fn admit(&self) {
        if let Some(walk) = &*self.walk.load() {
            walk.pieces.admit();
        }
    }

    /// Ends the thread, after the running snapshot or, giving it up, at once. One that was given up leaves
    /// the keyspace unfit for another.
    pub fn stop(&self, gives_up: bool) {
        let mut state = self.state.lock();
        (state.is_stopping, state.gives_up) = (true, gives_up);
        drop(state);
        self.changed.notify_all();
        if let Some(walk) = &*self.walk.load() {
            walk.wake();
        }
    }

    fn gives_up(&self) -> bool {
        self.state.lock().gives_up
    }

    /// The next snapshot to make, and whether somebody waits for it; `None` at the end.
    fn next(&self) -> Option<(Kind, bool)> {
        let mut guard = self.state.lock();
        loop {
            let state = &mut *guard;
            if state.is_stopping {
                state.doing = Doing::Nothing;
                return None;
            }
            let next = match state.doing {
                Doing::Asked { kind, in_haste } => Some((kind, in_haste)),
                _ if std::mem::take(&mut state.dump_wanted) => Some((Kind::Dump, false)),
                _ if std::mem::take(&mut state.rewrite_wanted) => Some((Kind::Rewrite, false)),
                _ => None,
            };
            if let Some((kind, in_haste)) = next {
                state.begun += 1;
                state.doing = Doing::Making { kind, since: Instant::now(), in_haste, is_fixed: false };
                return Some((kind, in_haste));
            }
            self.changed.wait(&mut guard);
        }
    }

    /// Notes how a snapshot ended, and that it has.
    fn end(&self, note: impl FnOnce(&mut State)) {
        self.is_walking.store(false, Ordering::Release);
        self.walk.store(None);
        let mut state = self.state.lock();
        note(&mut state);
        state.doing = Doing::Nothing;
        self.changed.notify_all();
    }
}

/// The thread.
pub(crate) fn run(shared: &Shared) {
    let gives_up = || shared.snapshots.gives_up();
    while let Some((kind, in_haste)) = shared.snapshots.next() {
        let maker = Maker { shared, in_haste, gives_up: &gives_up };
        match kind {
            Kind::Dump => drop(maker.dump()),
            Kind::Rewrite => drop(maker.rewrite()),
        }
    }
}

/// Ten times a second: what `save` and `auto-aof-rewrite-percentage` ask for.
pub(crate) fn cron(shared: &Shared) {
    let settings = shared.settings.load();
    let state = shared.snapshots.state();
    if state.doing.kind().is_some() {
        return;
    }
    let changes = shared.dirty() - state.dirty_at_last_dump;
    let age = unix_s().saturating_sub(state.last_dump_unix_s);
    let is_resting =
        state.last_dump_failed && state.last_dump_tried.is_some_and(|tried| tried.elapsed() < RETRY_AFTER);
    let rule = settings.save.iter().find(|rule| changes >= rule.changes && age > rule.seconds);
    if let (Some(rule), false) = (rule, is_resting) {
        tracing::info!("{} changes in {} seconds. Saving...", rule.changes, rule.seconds);
        shared.snapshots.ask(Kind::Dump, false);
        return;
    }
    let wants_rewrite = match &*shared.journal.load() {
        Some(journal) => journal.wants_rewrite(
            settings.auto_aof_rewrite_percentage,
            settings.auto_aof_rewrite_min_size,
            Instant::now(),
        ),
        // It was turned on, and its first base failed.
        None => {
            settings.appendonly && state.last_rewrite_tried.is_some_and(|tried| tried.elapsed() > RETRY_AFTER)
        }
    };
    if wants_rewrite {
        tracing::info!("the append-only file wants a new base. Rewriting...");
        shared.snapshots.ask(Kind::Rewrite, false);
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
