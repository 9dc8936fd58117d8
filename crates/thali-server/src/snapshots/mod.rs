//! Snapshots: dumps (SAVE, BGSAVE, `save`) and new bases of the append-only file (BGREWRITEAOF).
//!
//! One thread makes them, one at a time, from the live keyspace: it fixes a point in time while it holds
//! every shard for a moment ([`walk::begin`]), then walks shard by shard in short holds; writers save what
//! they are about to change ([`pieces`]). No fork, no copy of the data.

mod file;
mod pieces;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex};
use thali_journal::{BaseForm, RealDisk};

use self::file::AsideFile;
use self::pieces::Pieces;
use self::walk::{Form, Purpose};
use crate::call::Shared;
use crate::latency::event;

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

/// For INFO.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    running: Option<(Kind, Option<Instant>)>,
    dump_wanted: bool,
    rewrite_wanted: bool,
    is_stopping: bool,
    gives_up: bool,
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
    /// The longest time that the last snapshot held a shard.
    pub longest_hold: Duration,
}

impl State {
    /// Since when a snapshot of this kind runs.
    pub fn runs_since(&self, kind: Kind) -> Option<Instant> {
        self.running
            .filter(|(running, _)| *running == kind)
            .map(|(_, since)| since.unwrap_or_else(Instant::now))
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
    /// The sink of the running snapshot.
    pieces: ArcSwapOption<Pieces>,
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
        let mut state = self.state.lock();
        if let Some((running, _)) = state.running
            && (running == kind || !patient)
        {
            return Asked::Runs(running);
        }
        let asked = if state.running.is_some() { Asked::Scheduled } else { Asked::Started };
        match kind {
            Kind::Dump => state.dump_wanted = true,
            Kind::Rewrite => state.rewrite_wanted = true,
        }
        if asked == Asked::Started {
            // From here on it counts as running, whenever the thread gets to it.
            state.running = Some((kind, None));
        }
        self.changed.notify_all();
        asked
    }

    /// Makes a dump and waits for its end; an error where one runs already, or where it failed. The caller
    /// holds no shard.
    pub fn dump_and_wait(&self) -> Result<(), Asked> {
        let before = self.state.lock().dumps;
        let asked = self.ask(Kind::Dump, false);
        if asked != Asked::Started {
            return Err(asked);
        }
        let mut state = self.state.lock();
        while state.dumps == before && !state.is_stopping {
            self.changed.wait(&mut state);
        }
        if state.last_dump_failed { Err(Asked::Started) } else { Ok(()) }
    }

    /// Whether the last dump failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Waits while the running snapshot has too much to write. The caller holds no shard.
    pub fn admit(&self) {
        if let Some(pieces) = &*self.pieces.load() {
            pieces.admit();
        }
    }

    /// Ends the thread, after the running snapshot or, giving it up, at once. One that was given up leaves
    /// the keyspace unfit for another.
    pub fn stop(&self, gives_up: bool) {
        let mut state = self.state.lock();
        (state.is_stopping, state.gives_up) = (true, gives_up);
        drop(state);
        self.changed.notify_all();
    }

    fn gives_up(&self) -> bool {
        self.state.lock().gives_up
    }

    /// The next snapshot to make; `None` at the end.
    fn next(&self) -> Option<Kind> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopping {
                state.running = None;
                return None;
            }
            let kind = match (state.running, state.dump_wanted, state.rewrite_wanted) {
                (Some((kind, _)), ..) => Some(kind),
                (None, true, _) => Some(Kind::Dump),
                (None, false, true) => Some(Kind::Rewrite),
                (None, false, false) => None,
            };
            if let Some(kind) = kind {
                match kind {
                    Kind::Dump => state.dump_wanted = false,
                    Kind::Rewrite => state.rewrite_wanted = false,
                }
                state.running = Some((kind, Some(Instant::now())));
                return Some(kind);
            }
            self.changed.wait(&mut state);
        }
    }
}

/// The thread.
pub(crate) fn run(shared: &Shared) {
    while let Some(kind) = shared.snapshots.next() {
        let gives_up = || shared.snapshots.gives_up();
        match kind {
            Kind::Dump => drop(dump(shared, &gives_up)),
            Kind::Rewrite => drop(rewrite(shared, &gives_up)),
        }
        shared.snapshots.pieces.store(None);
        shared.snapshots.state.lock().running = None;
        shared.snapshots.changed.notify_all();
    }
}

/// Writes a dump, on the calling thread; the outcome is in the log and in INFO.
pub(crate) fn dump(shared: &Shared, gives_up: &dyn Fn() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    let mut dirty = 0;
    let outcome = try_dump(shared, gives_up, &mut dirty);
    let mut state = shared.snapshots.state.lock();
    state.dumps += 1;
    state.last_dump_failed = outcome.is_err();
    shared.snapshots.has_failed.store(outcome.is_err(), Ordering::Relaxed);
    state.last_dump_took = Some(begun.elapsed());
    state.last_dump_tried = Some(begun);
    match outcome {
        Ok(outcome) => {
            state.dumps_done += 1;
            state.dirty_at_last_dump = dirty;
            state.last_dump_unix_s = unix_s();
            state.longest_hold = outcome.longest_hold;
            shared.note_latency_elsewhere(event::SNAPSHOT_HOLD, outcome.longest_hold);
            tracing::info!(?outcome, seconds = begun.elapsed().as_secs_f64(), "DB saved on disk");
            Ok(())
        }
        Err(error) => {
            tracing::error!(error, "the dump failed; the one before is untouched");
            Err(error)
        }
    }
}

fn try_dump(shared: &Shared, gives_up: &dyn Fn() -> bool, dirty: &mut u64) -> Result<walk::Outcome, String> {
    let settings = shared.settings.load_full();
    let named = |what: &str, error: std::io::Error| {
        format!("cannot {what} {}: {error}", settings.dump_path().display())
    };
    let mut file = AsideFile::create(&RealDisk, &settings.dir, settings.rdb_save_incremental_fsync)
        .map_err(|error| named("create the file for", error))?;
    let form =
        Form { purpose: Purpose::Dump, compressed: settings.rdbcompression, checksum: settings.rdbchecksum };
    let pieces = walk::begin(&shared.keyspace, || *dirty = shared.dirty());
    shared.snapshots.pieces.store(Some(Arc::clone(&pieces)));
    let outcome = walk::write(&shared.keyspace, &pieces, form, &mut file, gives_up);
    let outcome = outcome.map_err(|error| named("write", error))?;
    file.finish(&settings.dbfilename).map_err(|error| named("finish", error))?;
    Ok(outcome)
}

/// Gives the append-only file a new base, on the calling thread; the outcome is in the log and in INFO.
pub(crate) fn rewrite(shared: &Shared, gives_up: &dyn Fn() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    let outcome = try_rewrite(shared, gives_up);
    let mut state = shared.snapshots.state.lock();
    state.rewrites += 1;
    state.last_rewrite_failed = outcome.is_err();
    state.last_rewrite_took = Some(begun.elapsed());
    match outcome {
        Ok(longest_hold) => {
            state.longest_hold = longest_hold;
            shared.note_latency_elsewhere(event::SNAPSHOT_HOLD, longest_hold);
            Ok(())
        }
        Err(error) => {
            tracing::error!(
                error,
                "the rewrite of the append-only file failed; the files before stay in use"
            );
            Err(error)
        }
    }
}

fn try_rewrite(shared: &Shared, gives_up: &dyn Fn() -> bool) -> Result<Duration, String> {
    let text = |error: thali_journal::JournalError| error.to_string();
    let settings = shared.settings.load_full();
    let journal = shared.journal.as_ref().ok_or("appendonly is no")?;
    let mut rewrite = journal.begin_rewrite().map_err(text)?;
    let mut base = rewrite.base_writer(BaseForm::Rdb).map_err(text)?;
    let form = Form { purpose: Purpose::AofBase, compressed: settings.rdbcompression, checksum: true };
    let pieces = walk::begin(&shared.keyspace, || {
        rewrite.cut();
    });
    shared.snapshots.pieces.store(Some(Arc::clone(&pieces)));
    let outcome = walk::write(&shared.keyspace, &pieces, form, &mut base, gives_up);
    let outcome = outcome.map_err(|error| format!("cannot write the base: {error}"))?;
    let report = rewrite.finish(base).map_err(text)?;
    tracing::info!(?report, ?outcome, "the append-only file has a new base");
    Ok(outcome.longest_hold)
}

/// Ten times a second: what `save` and `auto-aof-rewrite-percentage` ask for.
pub(crate) fn cron(shared: &Shared) {
    let settings = shared.settings.load();
    let state = shared.snapshots.state();
    if state.running.is_some() {
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
    let wants_rewrite = |journal: &thali_journal::Journal| {
        journal.wants_rewrite(
            settings.auto_aof_rewrite_percentage,
            settings.auto_aof_rewrite_min_size,
            Instant::now(),
        )
    };
    if shared.journal.as_ref().is_some_and(wants_rewrite) {
        tracing::info!("the append-only file has grown. Rewriting...");
        shared.snapshots.ask(Kind::Rewrite, false);
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
