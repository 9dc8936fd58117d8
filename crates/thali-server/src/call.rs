//! What runs commands: what all loops share, what one loop has, and what one call sees of both.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use thali_commands::{Context, Effects, EventClass, ExpiredSeen, Random};
use thali_data::Limits;
use thali_journal::Seq;
use thali_keyspace::{Keyspace, Uses};
use thali_script::{Interpreter, Libraries};

use crate::acl::Acl;
use crate::append_only::JournalSlot;
use crate::busy::BusyScripts;
use crate::client_memory::ClientMemory;
use crate::clients::Clients;
use crate::commands::debug::Switches;
use crate::config::{Config, Settings};
use crate::crew::Crew;
use crate::eviction::{Evictor, Exceeded};
use crate::freer::Freer;
use crate::functions::{Functions, LibrarySet};
use crate::latency::Latency;
use crate::loading::Loading;
use crate::mailbox::{Mailbox, Message};
use crate::migration::Migration;
use crate::names::Names;
use crate::oom::OomScore;
use crate::pause::Pause;
use crate::ports::Ports;
use crate::pubsub::{Kind, PubSub, Publication, Subscriptions};
use crate::rates::Rates;
use crate::scripts::Scripts;
use crate::session::SessionState;
use crate::slowlog::Slowlog;
use crate::snapshots::{self, Asked, Snapshots};
use crate::stats::LoopStats;
use crate::table::RecentRows;
use crate::tls::Tls;
use crate::tracking::Tracking;
use crate::unit::Leftover;

const DUMP_FAILED: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist \
                           to disk. Commands that may modify the data set are disabled, because this instance is \
                           configured to report errors during writes if RDB snapshotting fails \
                           (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the \
                           RDB error.";

/// What all loops share.
pub(crate) struct Shared {
    pub keyspace: Keyspace,
    pub pubsub: PubSub,
    pub clients: Clients,
    pub acl: Acl,
    pub names: Names,
    pub mailboxes: Arc<[Mailbox]>,
    pub stats: Box<[LoopStats]>,
    /// `None` with `appendonly no`. Put in and taken out while all shards are held, so that a unit of work
    /// sees one or the other.
    pub journal: JournalSlot,
    /// Behind all places that journals which are no more have given out.
    pub journal_at: AtomicU64,
    pub loading: Loading,
    pub snapshots: Snapshots,
    pub scripts: Scripts,
    pub functions: Functions,
    pub slowlog: Slowlog,
    /// The journal's threads note events, too.
    pub latency: Arc<Latency>,
    pub rates: Rates,
    pub freer: Freer,
    pub config: Mutex<Config>,
    pub settings: ArcSwap<Settings>,
    pub started_at_ms: u64,
    pub started: Instant,
    /// 40 hexadecimal digits, new at each start.
    pub run_id: String,
    /// The TCP ports in use.
    pub ports: Mutex<Ports>,
    /// What new TLS connections begin with; none while there is no `tls-port`.
    pub tls: ArcSwapOption<Tls>,
    /// Connections whose handshake is under way: no clients yet, but they count towards `maxclients`.
    pub handshakes_len: AtomicUsize,
    pub tracking: Tracking,
    pub pause: Pause,
    pub client_memory: ClientMemory,
    pub oom_score: OomScore,
    /// Where the next connection goes, whoever accepts it.
    pub next_loop: AtomicUsize,
    pub monitors_len: AtomicUsize,
    pub migrations_len: AtomicUsize,
    pub exceeded: Exceeded,
    /// Held by the loop that evicts; with the moment when one last came to an end of it.
    pub evicting: Mutex<Option<Instant>>,
    pub is_shutting_down: AtomicBool,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: AtomicBool,
    /// What SHUTDOWN said about a last dump; `None`: as `save` is set.
    pub dump_at_end: Mutex<Option<bool>>,
    pub busy: BusyScripts,
    pub crew: Arc<Crew>,
    pub end: crate::server::End,
    pub switches: Arc<Switches>,
}

impl Shared {
    pub fn stats_of(&self, event_loop: u16) -> &LoopStats {
        &self.stats[usize::from(event_loop)]
    }

    /// Changes of the data since the start.
    pub fn dirty(&self) -> u64 {
        self.stats.iter().map(|stats| stats.dirty.get()).sum()
    }

    /// The gate before anything that will write: waits while the disk is behind, and gives the error reply
    /// while what is written could not be kept. The caller holds no shard.
    pub fn admit_write(&self) -> Result<(), Arc<str>> {
        self.snapshots.admit();
        if let Some(refusal) = self.dump_refusal() {
            return Err(refusal.into());
        }
        match &*self.journal.load() {
            Some(journal) => journal.admit(),
            None => Ok(()),
        }
    }

    /// As [`Shared::admit_write`], for those who hold shards and cannot wait.
    pub fn write_refusal(&self) -> Option<Arc<str>> {
        match self.dump_refusal() {
            Some(refusal) => Some(refusal.into()),
            None => self.journal.load().as_ref()?.refusal(),
        }
    }

    fn dump_refusal(&self) -> Option<&'static str> {
        if !self.snapshots.has_failed() {
            return None;
        }
        let settings = self.settings.load();
        (settings.stop_writes_on_bgsave_error && !settings.save.is_empty()).then_some(DUMP_FAILED)
    }

    /// Writes an event down for LATENCY if it took too long.
    pub fn note_latency(&self, side: &Side, event: &'static str, took: Duration) {
        self.latency.note(event, side.now_ms / 1000, took);
    }

    /// As [`Shared::note_latency`], on another thread than a loop's.
    pub fn note_latency_elsewhere(&self, event: &'static str, took: Duration) {
        self.latency.note(event, crate::server::unix_ms() / 1000, took);
    }

    /// The last dump before the end, where one is wanted (`None`: as `save` is set): made while clients are still
    /// served, so that one which fails keeps the server running. False where it failed and nobody insists.
    pub fn save_before_end(&self, dump: Option<bool>, insists: bool) -> bool {
        // Unlike a dump it cannot be made up for at the end: the folder has nothing yet of what was answered.
        let is_first = self.journal.load().as_ref().is_none_or(|journal| !journal.has_base());
        let writes_base = self.snapshots.state().runs_since(snapshots::Kind::Rewrite).is_some();
        if self.settings.load().appendonly && is_first && writes_base && !self.loading.is_on() {
            if !insists {
                tracing::warn!("Writing initial AOF, can't exit.");
                return false;
            }
            tracing::warn!("Writing initial AOF. Exit anyway.");
        }
        let wanted = dump.unwrap_or_else(|| !self.settings.load().save.is_empty());
        if wanted && !insists && !self.loading.is_on() {
            // Another one that runs is ended by the end itself, and a last one made then.
            if self.snapshots.dump_and_wait() == Err(Asked::Started) {
                tracing::error!("Error trying to save the DB, can't exit");
                return false;
            }
        }
        *self.dump_at_end.lock() = dump;
        true
    }

    /// Whether what a session wrote survives the death of the machine. Before a journal's first base nothing does;
    /// where there is no journal, what was written while there was one is not looked for.
    pub fn is_durable(&self, written: Seq) -> bool {
        match &*self.journal.load() {
            Some(journal) => journal.has_base() && journal.durable() >= written,
            None => !self.settings.load().appendonly && written == Seq::default(),
        }
    }

    /// Tells every loop.
    pub fn broadcast(&self, message: impl Fn() -> Message) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.send(message()));
    }
}

/// One loop's part in running commands; its sessions are kept apart.
pub(crate) struct Core {
    pub shared: Arc<Shared>,
    pub engine: Engine,
    pub side: Side,
}

/// What a [`Context`] borrows.
pub(crate) struct Engine {
    pub random: Random,
    pub effects: Effects,
    pub limits: Limits,
}

/// A session in WAITAOF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurableWait {
    pub session: u64,
    /// It asked for this server's disk.
    pub is_local: bool,
    /// It asked for replicas, too, of which there are none.
    pub for_its_time: bool,
}

/// What commands use beside a [`Context`].
pub(crate) struct Side {
    pub event_loop: u16,
    pub settings: Arc<Settings>,
    /// Read from the clock before each batch of requests.
    pub now_ms: u64,
    /// How uses of keys are noted at that time.
    pub uses: Uses,
    /// When the last command ended or the next one was found: one reading serves as the end of the one
    /// and the start of the other.
    pub clock: Instant,
    /// Messages to this loop itself, handled after the running request.
    pub local: Vec<Message>,
    pub subscriptions: Subscriptions,
    /// When parked sessions give up: moment and session. A wait takes its own out when it ends.
    pub deadlines: BTreeSet<(u64, u64)>,
    /// Sessions that wait for their writes to be durable.
    pub durable_waits: Vec<DurableWait>,
    /// Keys whose waiters need shards that were taken; served once nothing is held.
    pub deferred: Vec<(u32, Box<[u8]>)>,
    /// What was found expired by those who could not remove it; removed once nothing is held.
    pub expired: Vec<ExpiredSeen>,
    /// What sessions left in shards that a busy script holds; taken out once it lets go.
    pub leftovers: Vec<Leftover>,
    /// Migrations that are over but for keys that a busy script holds.
    pub migrated: Vec<Migration>,
    /// Expired keys stay for now: CLIENT PAUSE. Looked at once a tick.
    pub keeps_expired: bool,
    /// The running script has met CLIENT PAUSE before it wrote: its session waits for the end of it.
    pub postpones: bool,
    pub evictor: Evictor,
    /// Commands that have run, those of scripts included.
    pub commands: u64,
    /// The journal's place behind this tick's last effect.
    pub appended: Option<Seq>,
    /// What scripts have called.
    pub recent_rows: RecentRows,
    /// Made when the first script runs here.
    pub interpreter: Option<Box<Interpreter>>,
    /// Made when the first function is called or loaded here.
    pub libraries: Option<Box<Libraries>>,
    /// What [`Side::libraries`] was last compared with.
    pub libraries_seen: Arc<LibrarySet>,
    pub switches: Arc<Switches>,
    /// The SCRIPT FLUSHes that the interpreter knows of.
    pub script_flushes_seen: u64,
}

impl Side {
    /// Nanoseconds since `begun`, and the clock goes on.
    pub fn lap(&mut self, begun: Instant) -> u64 {
        self.clock = Instant::now();
        u64::try_from((self.clock - begun).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Sends to a loop; to this one without a wake-up.
    pub fn send(&mut self, shared: &Shared, event_loop: u16, message: Message) {
        if event_loop == self.event_loop {
            self.local.push(message);
        } else {
            shared.mailboxes[usize::from(event_loop)].send(message);
        }
    }

    /// Publishes a message and gives the count of sessions that it reaches.
    pub fn publish(&mut self, shared: &Shared, kind: Kind, channel: &[u8], message: &[u8]) -> u64 {
        let (receivers, loops) = shared.pubsub.receivers(kind, channel);
        if receivers > 0 {
            let publication = Arc::new(Publication::new(kind, channel, message));
            for event_loop in loops {
                self.send(shared, event_loop as u16, Message::Published(Arc::clone(&publication)));
            }
        }
        receivers
    }

    /// Which keyspace notifications are wanted; none unless K or E is among the letters.
    pub fn events_wanted(&self) -> EventClass {
        self.settings.notify_keyspace_events
    }
}

/// One run of a command that needs more than keys.
pub(crate) struct Call<'c, 'a> {
    pub cx: &'c mut Context<'a>,
    pub shared: &'c Shared,
    pub side: &'c mut Side,
    /// `None` in a script.
    pub state: Option<&'c mut SessionState>,
}

impl Call<'_, '_> {
    /// This loop's counters.
    pub fn stats(&self) -> &LoopStats {
        self.shared.stats_of(self.side.event_loop)
    }
}
