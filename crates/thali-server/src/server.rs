//! Starting and ending: recovery, ports, threads.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use thali_commands::Random;
use thali_journal::{DiskStep, Journal, JournalConfig, JournalError, Policy, RealDisk};
use thali_keyspace::Keyspace;
use thali_script::Watchdog;

use crate::busy::BusyScripts;
use crate::call::{Core, Engine, Shared, Side};
use crate::config::{Config, Settings};
use crate::event_loop::{EventLoop, WAKER};
use crate::freer::Freer;
use crate::latency::event;
use crate::listener::Listener;
use crate::loading;
use crate::mailbox::{Mailbox, Message};
use crate::memory;
use crate::open_files;
use crate::pubsub::{PubSub, Subscriptions};
use crate::recovery;
use crate::scripts::Scripts;
use crate::snapshots::{self, Snapshots};
use crate::stats::LoopStats;

/// Why the store did not start; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot listen on {address}: {error}; is another server running there? Choose another port with --port"
    )]
    Bind { address: String, error: io::Error },
    #[error("cannot listen on the socket {path}: {error}")]
    BindUnix { path: PathBuf, error: io::Error },
    #[error("'{0}' is no address that this machine knows; look at 'bind'")]
    Address(String),
    // Not sources: their words are in the message already, and who prints the chain would say them twice.
    #[error("{0}")]
    Journal(JournalError),
    #[error(
        "cannot load {}: {why}; nothing was changed. Put a whole file there, or move it away to start empty \
         ('thali check' says what is in it)",
        path.display()
    )]
    Dump { path: PathBuf, why: String },
    #[error("the data of {} is loaded, but cannot be written to the append-only file: {why}", path.display())]
    Adopt { path: PathBuf, why: String },
    #[error("cannot start: {0}")]
    System(io::Error),
}

impl From<JournalError> for StartError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Shards a loop: many more than loops, so that two rarely meet in one.
const SHARDS_PER_LOOP: usize = 32;

/// A loop beyond those of `loops`: where scripts keep all of them busy, it takes the new connections, so
/// that SCRIPT KILL can always come. Otherwise it sleeps.
const SPARE_LOOPS: usize = 1;

/// How long the end waits for a script that is busy and has written (`shutdown-timeout`'s default).
const BUSY_SCRIPT_WAIT: Duration = Duration::from_secs(10);

/// Wakes whoever waits for the end.
#[derive(Debug, Default)]
pub(crate) struct End {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl End {
    pub fn notify(&self) {
        *self.asked.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut asked = self.asked.lock();
        while !*asked {
            self.changed.wait(&mut asked);
        }
    }
}

/// A running store.
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    snapshots: JoinHandle<()>,
    addresses: Vec<SocketAddr>,
    unix_path: Option<PathBuf>,
}

impl Server {
    /// Recovers the data, opens the ports and starts the loops.
    pub fn start(config: Config) -> Result<Self, StartError> {
        memory::note_startup();
        let config = fit_maxclients(config);
        let settings = Arc::new(config.settings());
        // Ports first: two servers on one folder and port should learn of the port.
        let mut listeners = Vec::new();
        for address in addresses(&settings.bind, settings.port)? {
            let listener = Listener::tcp(address, settings.tcp_backlog)
                .map_err(|error| StartError::Bind { address: address.to_string(), error })?;
            listeners.push(listener);
        }
        let bound: Vec<SocketAddr> = listeners.iter().filter_map(Listener::local_addr).collect();
        if let Some(path) = &settings.unixsocket {
            let listener = Listener::unix(path, settings.unixsocketperm)
                .map_err(|error| StartError::BindUnix { path: path.clone(), error })?;
            listeners.push(listener);
        }
        let now_ms = unix_ms();
        let keyspace = Keyspace::new(settings.loops * SHARDS_PER_LOOP);
        let loops_len = settings.loops + SPARE_LOOPS;
        let (journal, adopted) = load(&settings, &keyspace, now_ms)?;
        let watchdog = Watchdog::start(Duration::from_millis(settings.busy_reply_threshold_ms))?;
        let polls = (0..loops_len).map(|_| mio::Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let mailboxes = polls
            .iter()
            .map(|poll| mio::Waker::new(poll.registry(), WAKER).map(Mailbox::new))
            .collect::<io::Result<Box<[_]>>>()?;
        let mut seed = Random::new(now_ms ^ (u64::from(std::process::id()) << 32) ^ entropy());
        let run_id = (0..5).map(|_| format!("{:08x}", seed.next_u64() as u32)).collect();
        let shared = Arc::new(Shared {
            keyspace,
            pubsub: PubSub::new(loops_len),
            clients: Default::default(),
            mailboxes,
            stats: (0..loops_len).map(|_| LoopStats::default()).collect(),
            journal,
            snapshots: Snapshots::new(now_ms / 1000),
            scripts: Scripts::new(watchdog),
            slowlog: Default::default(),
            latency: Default::default(),
            freer: Freer::start()?,
            config: Mutex::new(config),
            settings: ArcSwap::new(Arc::clone(&settings)),
            started_at_ms: now_ms,
            run_id,
            port: bound.first().map_or(0, SocketAddr::port),
            monitors_len: Default::default(),
            migrations_len: Default::default(),
            is_out_of_memory: Default::default(),
            is_shutting_down: Default::default(),
            dump_at_end: Default::default(),
            busy: BusyScripts::new(loops_len),
            end: End::default(),
        });
        if let Some(journal) = &shared.journal {
            let weak = Arc::downgrade(&shared);
            journal.set_on_sync(Box::new(move |_| {
                if let Some(shared) = weak.upgrade() {
                    shared.mailboxes.iter().for_each(Mailbox::tell_synced);
                }
            }));
            let weak = Arc::downgrade(&shared);
            journal.set_on_disk(Box::new(move |step, took| {
                if let Some(shared) = weak.upgrade() {
                    shared.note_latency_elsewhere(disk_event(&shared, step), took);
                }
            }));
        }
        if let Some(path) = adopted {
            // Before anybody is served: the next start will look at the append-only file alone.
            snapshots::rewrite(&shared, &|| false).map_err(|why| StartError::Adopt { path, why })?;
        }
        let mut threads = Vec::new();
        let snapshots = spawn_snapshots(&shared)?;
        // The first loop and the spare one accept for all: a script can keep the first one busy.
        let mut second = listeners.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
        for (i, poll) in polls.into_iter().enumerate() {
            let own_listeners = match i {
                0 => std::mem::take(&mut listeners),
                _ if i == settings.loops => std::mem::take(&mut second),
                _ => Vec::new(),
            };
            threads.push(spawn(i, Arc::clone(&shared), seed.next_u64(), poll, own_listeners)?);
        }
        Ok(Self { shared, threads, snapshots, addresses: bound, unix_path: settings.unixsocket.clone() })
    }

    /// The TCP addresses that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The Unix socket that it listens on.
    pub fn unix_path(&self) -> Option<&std::path::Path> {
        self.unix_path.as_deref()
    }

    /// Waits until a client asks for SHUTDOWN, or a [`Stopper`] does.
    pub fn wait(&self) {
        self.shared.end.wait();
    }

    /// As [`Server::wait`], as a future, on a thread of its own.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        let (ended, waits) = futures_channel::oneshot::channel();
        std::thread::spawn(move || {
            shared.end.wait();
            let _ = ended.send(());
        });
        async move {
            let _ = waits.await;
        }
    }

    /// Asks for the end, from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// Ends: no new commands, the last replies sent, a dump where `save` or SHUTDOWN asks for one, the journal
    /// written and synced.
    pub fn shutdown(mut self) -> Result<(), EndError> {
        self.shared.is_shutting_down.store(true, std::sync::atomic::Ordering::Relaxed);
        self.shared.broadcast(|| Message::Shutdown);
        let deadline = Instant::now() + BUSY_SCRIPT_WAIT;
        for thread in self.threads.drain(..) {
            // A script that has written is waited for, but not for ever. Its effects are not journaled
            // before it ends, so giving up loses it as a whole.
            while !thread.is_finished() && (!self.shared.busy.any() || Instant::now() < deadline) {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                // A loop that panicked has ended the process already.
                let _ = thread.join();
            }
        }
        let wants_dump = match *self.shared.dump_at_end.lock() {
            Some(wanted) => wanted,
            None => !self.shared.settings.load().save.is_empty(),
        };
        self.shared.snapshots.stop(!wants_dump);
        let _ = self.snapshots.join();
        let dumped = match wants_dump {
            true => snapshots::dump(&self.shared, &|| false).map_err(EndError::Dump),
            false => Ok(()),
        };
        let closed = self.shared.journal.as_ref().map_or(Ok(()), Journal::close).map_err(EndError::Journal);
        closed.and(dumped)
    }
}

/// What could not be kept at the end.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    #[error(transparent)]
    Journal(JournalError),
    #[error("the last dump failed: {0}")]
    Dump(String),
}

/// Asks a server to end.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    pub fn stop(&self) {
        self.0.end.notify();
    }
}

fn disk_event(shared: &Shared, step: DiskStep) -> &'static str {
    match step {
        DiskStep::Write => event::AOF_WRITE,
        DiskStep::Sync if shared.settings.load().appendfsync == Policy::Always => event::AOF_FSYNC_ALWAYS,
        DiskStep::Sync => event::AOF_FSYNC_EVERYSEC,
    }
}

fn spawn(
    i: usize,
    shared: Arc<Shared>,
    seed: u64,
    poll: mio::Poll,
    listeners: Vec<Listener>,
) -> io::Result<JoinHandle<()>> {
    // Scripts recurse on the loop's stack.
    let thread = std::thread::Builder::new().name(format!("store-{i}")).stack_size(8 << 20);
    thread.spawn(move || {
        let _guard = AbortOnPanic;
        let core = core(i, shared, seed);
        if let Err(error) = EventLoop::new(core, poll, listeners).and_then(EventLoop::run) {
            tracing::error!(%error, "an event loop has failed; the process ends so that nothing hangs half-alive");
            std::process::abort();
        }
    })
}

fn spawn_snapshots(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("snapshots".into()).spawn(move || {
        let _guard = AbortOnPanic;
        snapshots::run(&shared);
    })
}

/// A loop that panics may have left a value half changed and a shard locked: the process ends, and the
/// journal brings back what was acknowledged.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn core(i: usize, shared: Arc<Shared>, seed: u64) -> Core {
    let settings = shared.settings.load_full();
    Core {
        engine: Engine {
            random: Random::new(seed),
            effects: Default::default(),
            limits: settings.limits.clone(),
        },
        side: Side {
            event_loop: i as u16,
            settings,
            now_ms: shared.started_at_ms,
            clock: Instant::now(),
            local: Vec::new(),
            subscriptions: Subscriptions::new(i),
            deadlines: Default::default(),
            deferred: Vec::new(),
            leftovers: Vec::new(),
            migrated: Vec::new(),
            appended: None,
            interpreter: None,
            script_flushes_seen: 0,
        },
        shared,
    }
}

/// Brings the data back. Gives the dump, too, that an append-only file without data is to take over.
fn load(
    settings: &Settings,
    keyspace: &Keyspace,
    now_ms: u64,
) -> Result<(Option<Journal>, Option<PathBuf>), StartError> {
    if !settings.appendonly {
        load_dump(settings, keyspace, now_ms)?;
        return Ok((None, None));
    }
    let (journal, is_empty) = open_journal(settings, keyspace, now_ms)?;
    let adopted = if is_empty { load_dump(settings, keyspace, now_ms)? } else { None };
    Ok((Some(journal), adopted))
}

/// Loads the dump where there is one; gives its path.
fn load_dump(settings: &Settings, keyspace: &Keyspace, now_ms: u64) -> Result<Option<PathBuf>, StartError> {
    let path = settings.dump_path();
    let begun = Instant::now();
    match loading::load_dump(settings, keyspace, now_ms, false) {
        Ok(None) => Ok(None),
        Ok(Some(loaded)) => {
            let seconds = begun.elapsed().as_secs_f64();
            tracing::info!(file = %path.display(), ?loaded, seconds, "data loaded from the dump");
            Ok(Some(path))
        }
        Err(why) => Err(StartError::Dump { path, why }),
    }
}

/// Opens the append-only file and applies it; says, too, whether it holds nothing.
fn open_journal(
    settings: &Settings,
    keyspace: &Keyspace,
    now_ms: u64,
) -> Result<(Journal, bool), StartError> {
    let config = JournalConfig {
        appenddirname: settings.appenddirname.clone(),
        appendfilename: settings.appendfilename.clone(),
        policy: settings.appendfsync,
        load_truncated: settings.aof_load_truncated,
        ..JournalConfig::new(settings.dir.clone())
    };
    let (journal, recovery) = Journal::open(config, Arc::new(RealDisk))?;
    let started = std::time::Instant::now();
    let report = recovery::replay(recovery, keyspace, &settings.limits, settings.databases, now_ms)?;
    tracing::info!(
        ?report,
        seconds = started.elapsed().as_secs_f64(),
        "data loaded from the append-only file"
    );
    let is_empty = report.records == 0 && report.rdb_bytes == 0;
    Ok((journal, is_empty))
}

/// The addresses of `bind`: names, IPs, `*`, and `-` before those that may be missing here.
fn addresses(bind: &[String], port: u16) -> Result<Vec<SocketAddr>, StartError> {
    let mut found = Vec::new();
    if port == 0 && bind.is_empty() {
        return Ok(found);
    }
    for name in bind {
        let (name, optional) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let host = match name {
            "*" => "0.0.0.0",
            "::*" => "::",
            name => name,
        };
        match (host, port).to_socket_addrs() {
            Ok(addresses) => found.extend(addresses.take(1)),
            Err(_) if optional => {}
            Err(_) => return Err(StartError::Address(name.to_owned())),
        }
    }
    Ok(found)
}

/// Lowers `maxclients` where the system does not let this process have so many open files.
fn fit_maxclients(config: Config) -> Config {
    let wanted = config.settings().maxclients;
    let room = open_files::make_room(wanted);
    if room >= wanted {
        return config;
    }
    tracing::warn!(
        wanted,
        maxclients = room,
        "maxclients is lowered to what the limit of open files allows; raise it with ulimit -n for more"
    );
    config.with("maxclients", &room.to_string()).expect("a smaller count is as good a value")
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// The hasher's keys come from the operating system.
fn entropy() -> u64 {
    use std::hash::BuildHasher;
    std::collections::hash_map::RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_start_error_says_everything_once() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = PathBuf::from("data/thali.lock");
        let journal = JournalError::Io { action: "lock", path, source: denied() };
        for error in [StartError::from(journal), StartError::from(denied())] {
            assert!(error.to_string().contains("permission denied"), "{error}");
            assert!(error.source().is_none(), "{error:?}");
        }
    }
}
