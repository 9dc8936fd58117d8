//! Snapshots: dumps (SAVE, BGSAVE, `save`) and new bases of the append-only file (BGREWRITEAOF).
//!
//! One thread makes them, one at a time, from the live keyspace. It fixes a point in time while it holds
//! every shard for a moment ([`Walk::begin`]). Then the loops walk shard by shard in short holds, writers save
//! what they are about to change ([`pieces`]), and the thread writes it out ([`output`]). No fork, no copy of
//! the data.

mod file;
mod output;
mod pieces;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex};
use thali_commands::{Access, Spec};
use thali_journal::{BaseForm, Journal, RealDisk, Rewrite};
use thali_keyspace::{By, Locked};

use self::file::AsideFile;
use self::output::{Form, Outcome, Purpose};
use self::walk::Pace;
pub(crate) use self::walk::{Stepped, Walk, Walker};
use crate::append_only;
use crate::call::Shared;
use crate::config::Settings;
use crate::functions::LibrarySet;
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
        while state.dumps == before && !state.is_stopping {
            self.changed.wait(&mut state);
        }
        if state.last_dump_failed { Err(Asked::Started) } else { Ok(()) }
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
        if !self.is_walking.load(Ordering::Relaxed) {
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
                state.doing = Doing::Making { kind, since: Instant::now(), is_fixed: false };
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

/// Writes a dump, on the calling thread, where no loop runs; the outcome is in the log and in INFO.
pub(crate) fn dump_alone(shared: &Shared) -> Result<(), String> {
    Maker { shared, in_haste: true, gives_up: &|| false }.dump()
}

/// Gives the append-only file a new base, on the calling thread, where no loop runs; the outcome is in the log
/// and in INFO.
pub(crate) fn rewrite_alone(shared: &Shared) -> Result<(), String> {
    Maker { shared, in_haste: true, gives_up: &|| false }.rewrite()
}

/// Makes one snapshot.
struct Maker<'a> {
    shared: &'a Shared,
    /// Somebody waits for it.
    in_haste: bool,
    gives_up: &'a dyn Fn() -> bool,
}

impl Maker<'_> {
    fn dump(&self) -> Result<(), String> {
        let begun = Instant::now();
        let mut dirty = 0;
        let outcome = self.try_dump(&mut dirty);
        match &outcome {
            Ok(outcome) => {
                tracing::info!(?outcome, seconds = begun.elapsed().as_secs_f64(), "DB saved on disk");
            }
            Err(error) => tracing::error!(error, "the dump failed; the one before is untouched"),
        }
        let snapshots = &self.shared.snapshots;
        snapshots.has_failed.store(outcome.is_err(), Ordering::Relaxed);
        snapshots.end(|state| {
            state.dumps += 1;
            state.last_dump_failed = outcome.is_err();
            state.last_dump_took = Some(begun.elapsed());
            state.last_dump_tried = Some(begun);
            if let Ok(outcome) = &outcome {
                state.dumps_done += 1;
                state.dirty_at_last_dump = dirty;
                state.last_dump_unix_s = unix_s();
                state.longest_hold = outcome.longest_hold;
                self.shared.note_latency_elsewhere(event::SNAPSHOT_HOLD, outcome.longest_hold);
            }
        });
        outcome.map(|_| ())
    }

    fn try_dump(&self, dirty: &mut u64) -> Result<Outcome, String> {
        let settings = self.shared.settings.load_full();
        let named = |what: &str, error: std::io::Error| {
            format!("cannot {what} {}: {error}", settings.dump_path().display())
        };
        let mut file = AsideFile::create(&RealDisk, &settings.dir, settings.rdb_save_incremental_fsync)
            .map_err(|error| named("create the file for", error))?;
        let (walk, functions) = self.begin(&settings, || *dirty = self.shared.dirty());
        let form = Form { purpose: Purpose::Dump, checksum: settings.rdbchecksum };
        let outcome = output::write(&self.shared.keyspace, &walk, &functions, form, &mut file, self.gives_up);
        let outcome = outcome.map_err(|error| named("write", error))?;
        file.finish(&settings.dbfilename).map_err(|error| named("finish", error))?;
        Ok(outcome)
    }

    fn rewrite(&self) -> Result<(), String> {
        let begun = Instant::now();
        let outcome = self.try_rewrite();
        if let Err(error) = &outcome {
            tracing::error!(
                error,
                "the rewrite of the append-only file failed; the files before stay in use"
            );
        }
        self.shared.snapshots.end(|state| {
            state.rewrites += 1;
            state.last_rewrite_failed = outcome.is_err();
            state.last_rewrite_took = Some(begun.elapsed());
            state.last_rewrite_tried = Some(begun);
            if let Ok(longest_hold) = outcome {
                state.longest_hold = longest_hold;
                self.shared.note_latency_elsewhere(event::SNAPSHOT_HOLD, longest_hold);
            }
        });
        outcome.map(|_| ())
    }

    fn try_rewrite(&self) -> Result<Duration, String> {
        let text = |error: thali_journal::JournalError| error.to_string();
        match self.shared.journal.load_full() {
            Some(journal) => {
                let rewrite = journal.begin_rewrite().map_err(text)?;
                let cut = |rewrite: &mut Rewrite| {
                    rewrite.cut();
                };
                self.write_base(&journal, rewrite, cut)
            }
            None if self.shared.settings.load().appendonly => {
                let (journal, rewrite) = append_only::create(self.shared).map_err(text)?;
                let put_in = |_: &mut Rewrite| self.shared.journal.store(Some(Arc::clone(&journal)));
                let outcome = self.write_base(&journal, rewrite, put_in);
                if outcome.is_err() && self.is_in_use(&journal) {
                    // Nothing of it counts. The next try begins anew.
                    drop(append_only::take_out(self.shared));
                    let _ = journal.close();
                }
                outcome
            }
            None => Err("appendonly is no".into()),
        }
    }

    fn write_base(
        &self,
        journal: &Arc<Journal>,
        mut rewrite: Rewrite,
        at_the_cut: impl FnOnce(&mut Rewrite),
    ) -> Result<Duration, String> {
        let text = |error: thali_journal::JournalError| error.to_string();
        let settings = self.shared.settings.load_full();
        let mut base = rewrite.base_writer(BaseForm::Rdb).map_err(text)?;
        let (walk, functions) = self.begin(&settings, || at_the_cut(&mut rewrite));
        let form = Form { purpose: Purpose::AofBase, checksum: true };
        let outcome = output::write(&self.shared.keyspace, &walk, &functions, form, &mut base, self.gives_up);
        let outcome = outcome.map_err(|error| format!("cannot write the base: {error}"))?;
        if !self.is_in_use(journal) {
            return Err("appendonly was set to no meanwhile".into());
        }
        let report = rewrite.finish(base).map_err(text)?;
        tracing::info!(?report, ?outcome, "the append-only file has a new base");
        Ok(outcome.longest_hold)
    }

    /// Whether it was not taken out since.
    fn is_in_use(&self, journal: &Arc<Journal>) -> bool {
        self.shared.journal.load().as_ref().is_some_and(|used| Arc::ptr_eq(used, journal))
    }

    /// Fixes the point in time and tells the loops. Gives the libraries of that moment, too.
    fn begin(&self, settings: &Settings, at_the_cut: impl FnOnce()) -> (Arc<Walk>, Arc<LibrarySet>) {
        let pace = match (settings.rdb_key_save_delay, self.in_haste) {
            (Duration::ZERO, false) => Pace::Shared,
            (Duration::ZERO, true) => Pace::InHaste,
            (pause, _) => Pace::Delayed(pause),
        };
        // Where no policy goes by them, they are not worth the bytes.
        let preference = settings.maxmemory_policy.preference();
        let goes_by_uses = preference.is_some_and(|preference| preference.by == By::Uses);
        let uses = goes_by_uses.then(|| settings.uses(unix_s() * 1000));
        let mut functions = Default::default();
        let walk = Walk::begin(&self.shared.keyspace, pace, settings.rdbcompression, uses, || {
            at_the_cut();
            functions = self.shared.functions.current();
        });
        self.shared.snapshots.walk.store(Some(Arc::clone(&walk)));
        self.shared.snapshots.is_walking.store(true, Ordering::Release);
        self.shared.mailboxes.iter().for_each(crate::mailbox::Mailbox::wake);
        if let Doing::Making { is_fixed, .. } = &mut self.shared.snapshots.state.lock().doing {
            *is_fixed = true;
        }
        self.shared.snapshots.changed.notify_all();
        (walk, functions)
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
