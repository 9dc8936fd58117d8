//! The append-only file of a server: read at the start and by DEBUG LOADAOF, turned on and off by CONFIG SET.
//!
//! What is appended, and when replies leave, is not decided here; see [`crate::unit`] and the event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use thali_journal::{
    DiskStep, Journal, JournalConfig, JournalError, LoneBase, RealDisk, Recovery, RecoveryReport, Rewrite,
    Seq,
};
use thali_keyspace::{ENDLESS, Locked};

use crate::call::Shared;
use crate::config::Settings;
use crate::functions::Loader;
use crate::latency::event;
use crate::mailbox::Message;
use crate::recovery;

/// How long a journal that was taken out is waited for: loops may be about to use it still.
const LET_GO_WAIT: Duration = Duration::from_secs(1);
/// How long between two looks whether it was let go.
const LET_GO_LOOK: Duration = Duration::from_millis(5);

fn journal_config(shared: &Shared, settings: &Settings) -> JournalConfig {
    JournalConfig {
        at: Seq(shared.journal_at.load(Ordering::Acquire)),
        appenddirname: settings.appenddirname.clone(),
        appendfilename: settings.appendfilename.clone(),
        policy: settings.appendfsync,
        load_truncated: settings.aof_load_truncated,
        keeps_history: settings.aof_disable_auto_gc,
        ..JournalConfig::new(settings.dir.clone())
    }
}

/// Where units of work find the journal, while there is one.
#[derive(Debug, Default)]
pub(crate) struct JournalSlot {
    slot: ArcSwapOption<Journal>,
    /// Asked for each change of a key, which a look into the slot would be too dear for.
    is_in_use: Arc<AtomicBool>,
}

impl JournalSlot {
    pub fn load(&self) -> arc_swap::Guard<Option<Arc<Journal>>> {
        self.slot.load()
    }

    pub fn load_full(&self) -> Option<Arc<Journal>> {
        self.slot.load_full()
    }

    /// Whether effects are kept; true from before a journal is put in until after it is taken out.
    pub fn is_in_use(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_in_use)
    }

    /// The caller holds all shards.
    pub fn put_in(&self, journal: Arc<Journal>) {
        self.is_in_use.store(true, Ordering::Release);
        self.slot.store(Some(journal));
    }

    fn take(&self) -> Option<Arc<Journal>> {
        let journal = self.slot.swap(None);
        self.is_in_use.store(false, Ordering::Release);
        journal
    }
}

/// Reads the files into the keyspace, which nobody else uses, and goes on behind them. Gives whether they held
/// nothing. `gives_up` ends it with an error.
pub(crate) fn open(
    shared: &Shared,
    now_ms: u64,
    gives_up: &(dyn Fn() -> bool + Sync),
) -> Result<bool, JournalError> {
    let config = journal_config(shared, &shared.settings.load());
    let (journal, recovery) = Journal::open(config, Arc::new(RealDisk))?;
    let report = read(shared, recovery, now_ms, gives_up)?;
    tell_loops(shared, &journal);
    shared.journal.put_in(Arc::new(journal));
    Ok(report.records == 0 && report.rdb_bytes == 0)
}

/// Whether there is anything to [`open`].
pub(crate) fn is_begun(shared: &Shared) -> Result<bool, JournalError> {
    Journal::is_begun(&journal_config(shared, &shared.settings.load()), &RealDisk)
}

/// What the folder holds while nobody appends to it; `None` where it names no file.
pub(crate) fn look(shared: &Shared) -> Result<Option<Recovery>, JournalError> {
    let config = journal_config(shared, &shared.settings.load());
    patiently(|| Recovery::look(config.clone(), Arc::new(RealDisk)))
}

/// Reads what was opened or looked at into the keyspace, which nobody else uses.
pub(crate) fn read(
    shared: &Shared,
    recovery: Recovery,
    now_ms: u64,
    gives_up: &(dyn Fn() -> bool + Sync),
) -> Result<RecoveryReport, JournalError> {
    let settings = shared.settings.load_full();
    let begun = Instant::now();
    let progress = recovery.progress();
    shared.loading.watch(move || progress.bytes());
    let interpreter = |source| {
        let action = "start the interpreter of functions for";
        JournalError::Io { action, path: settings.dir.clone(), source }
    };
    let mut functions = Loader::new(shared).map_err(interpreter)?;
    let report = recovery::replay(recovery, &shared.keyspace, &settings, now_ms, &mut functions, gives_up)?;
    functions.finish(shared);
    let seconds = begun.elapsed().as_secs_f64();
    tracing::info!(?report, seconds, "data loaded from the append-only file");
    Ok(report)
}

/// One that begins now. Whoever holds all shards puts it in, and makes the base.
pub(crate) fn create(shared: &Shared) -> Result<(Arc<Journal>, Rewrite), JournalError> {
    let config = journal_config(shared, &shared.settings.load());
    let (journal, rewrite) = patiently(|| Journal::create(config.clone(), Arc::new(RealDisk)))?;
    tell_loops(shared, &journal);
    Ok((Arc::new(journal), rewrite))
}

/// A base for the folder while nobody appends to it.
pub(crate) fn lone_base(shared: &Shared) -> Result<LoneBase, JournalError> {
    let config = journal_config(shared, &shared.settings.load());
    patiently(|| LoneBase::begin(&config, Arc::new(RealDisk)))
}

/// Tries again for a while where the folder is locked: this process may be about to let go of it.
fn patiently<T>(mut lock: impl FnMut() -> Result<T, JournalError>) -> Result<T, JournalError> {
    let deadline = Instant::now() + LET_GO_WAIT;
    loop {
        match lock() {
            Err(JournalError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(LET_GO_LOOK),
            outcome => return outcome,
        }
    }
}

/// Ends what is appended, and the making of bases. Waits for the disk once the shards, which are all, are let go.
pub(crate) fn turn_off(shared: &Shared, all: Locked<'_>) {
    let journal = take_out(shared);
    drop(all);
    if shared.snapshots.stop_rewriting() {
        // Who watches logs of Redis looks for its words.
        tracing::info!("appendonly is no: the rewrite is broken off (Killing running AOF rewrite child)");
    }
    if let Some(Err(error)) = journal.map(|journal| journal.close()) {
        tracing::warn!(%error, "the append-only file is off, and could not be written to its end");
    }
}

/// As [`turn_off`], for who holds no shard yet, unless it was turned on again.
pub(crate) fn turn_off_later(shared: &Shared) {
    let all = shared.keyspace.lock_all(ENDLESS).expect("patience without end");
    if !shared.settings.load().appendonly {
        turn_off(shared, all);
    }
}

/// Takes the journal out; the caller holds all shards. It is still to be closed, which waits for the disk.
pub(crate) fn take_out(shared: &Shared) -> Option<Arc<Journal>> {
    let journal = shared.journal.take()?;
    shared.journal_at.fetch_max(journal.appended().0, Ordering::AcqRel);
    Some(journal)
}

/// Waits until nobody else has the journal any more, and lets go of the folder; false where somebody keeps it.
pub(crate) fn let_go(mut journal: Arc<Journal>) -> bool {
    let deadline = Instant::now() + LET_GO_WAIT;
    while let Err(shared) = Arc::try_unwrap(journal) {
        if Instant::now() > deadline {
            return false;
        }
        journal = shared;
        std::thread::yield_now();
    }
    true
}

/// Loops that hold replies are told how far the journal is, and LATENCY how long the disk took.
fn tell_loops(shared: &Shared, journal: &Journal) {
    let mailboxes = Arc::clone(&shared.mailboxes);
    journal.set_on_sync(Box::new(move |_| {
        mailboxes.iter().for_each(|mailbox| mailbox.tell(|| Message::Synced))
    }));
    let latency = Arc::clone(&shared.latency);
    journal.set_on_disk(Box::new(move |step, took| {
        let event = match step {
            DiskStep::Write => event::AOF_WRITE,
            DiskStep::Sync { awaited: true } => event::AOF_FSYNC_ALWAYS,
            DiskStep::Sync { awaited: false } => event::AOF_FSYNC_EVERYSEC,
        };
        latency.note(event, crate::server::unix_ms() / 1000, took);
    }));
}
