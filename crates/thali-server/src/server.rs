//! Starting and ending: recovery, ports, threads.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use thali_commands::{Effects, Random};
use thali_journal::JournalError;
use thali_keyspace::Keyspace;
use thali_script::Watchdog;

use crate::acl::Acl;
use crate::append_only;
use crate::busy::BusyScripts;
use crate::call::{Core, Engine, Shared, Side};
use crate::client_memory::ClientMemory;
use crate::config::{Config, Settings};
use crate::crew::{Crew, Member, Slot};
use crate::event_loop::{EventLoop, WAKER};
use crate::eviction::Evictor;
use crate::freer::Freer;
use crate::latency::Latency;
use crate::listener::Listener;
use crate::loading;
use crate::mailbox::{Mailbox, Message, PollWaker};
use crate::memory;
use crate::names::Names;
use crate::open_files;
use crate::ports::{Copies, PortError, Ports};
use crate::pubsub::{PubSub, Subscriptions};
use crate::scripts::Scripts;
use crate::snapshots::{self, Snapshots};
use crate::stats::LoopStats;
use crate::tls::{Tls, TlsError};

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
        "Terminating server after rdb file reading failure. Cannot load {}: {why}; nothing was changed. Put a whole file there, or move it away to start empty \
         ('thali check' says what is in it)",
        path.display()
    )]
    Dump { path: PathBuf, why: String },
    #[error("the data of {} is loaded, but cannot be written to the append-only file: {why}", path.display())]
    Adopt { path: PathBuf, why: String },
    #[error("Failed to configure TLS. {0}")]
    Tls(String),
    #[error("cannot take the users of the configuration: {0}")]
    Users(String),
    #[error("cannot call commands by the names of the configuration: {0}")]
    Names(String),
    #[error("the append-only file cannot be begun: {0}")]
    FirstBase(String),
    #[error("the end was asked for while the data was loaded")]
    GivenUp,
    #[error("cannot start: {0}")]
    System(io::Error),
}

impl From<PortError> for StartError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Address(name) => Self::Address(name),
            PortError::Listen { address, error } => Self::Bind { address: address.to_string(), error },
            PortError::Copy(error) => Self::System(error),
        }
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error.to_string())
    }
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

    pub fn is_asked(&self) -> bool {
        *self.asked.lock()
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
    tls_addresses: Vec<SocketAddr>,
    unix_path: Option<PathBuf>,
}

impl Server {
    /// Opens the ports, starts the loops and recovers the data: until this returns, clients that ask for data
    /// get LOADING.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_unless(config, &|| false)
    }

    /// As [`Server::start`]; the recovery ends with [`StartError::GivenUp`] once `gives_up` says so, or a
    /// client says SHUTDOWN.
    pub fn start_unless(config: Config, gives_up: &(dyn Fn() -> bool + Sync)) -> Result<Self, StartError> {
        memory::note_startup();
        let config = fit_maxclients(config);
        let settings = Arc::new(config.settings());
        let acl = Acl::from_config(&config).map_err(StartError::Users)?;
        let names = Names::new(config.renames()).map_err(StartError::Names)?;
        let tls = match settings.tls.port {
            0 => None,
            _ => Some(Arc::new(Tls::read(&settings.tls)?)),
        };
        // Ports first: two servers on one folder and port should learn of the port.
        let (ports, [mut listeners, mut second]) = Ports::open(&settings)?;
        let bound = ports.plain_addresses().collect();
        let bound_for_tls = ports.tls_addresses().collect();
        if let Some(path) = &settings.unixsocket {
            let listener = Listener::unix(path, settings.unixsocketperm)
                .map_err(|error| StartError::BindUnix { path: path.clone(), error })?;
            second.push(listener.try_clone()?);
            listeners.push(listener);
        }
        let unix_path = settings.unixsocket.clone();
        let loops_len = settings.loops + SPARE_LOOPS;
        let polls = (0..loops_len).map(|_| mio::Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let (shared, seed) = shared(config, settings, (acl, names), &polls, ports)?;
        shared.tls.store(tls);
        if let Err(error) = shared.oom_score.apply(&shared.settings.load()) {
            tracing::warn!(%error, "oom-score-adj has no effect");
        }
        let loading = shared.loading.begin();
        // Who starts servers waits for this line, and for "Ready to accept connections" after the loading.
        tracing::info!("Server initialized");
        let threads = spawn_loops(&shared, seed, polls, [listeners, second])?;
        let snapshots = match load(&shared, gives_up).and_then(|()| Ok(spawn_snapshots(&shared)?)) {
            Ok(snapshots) => snapshots,
            Err(error) => {
                shared.broadcast(|| Message::Shutdown);
                threads.into_iter().for_each(|thread| drop(thread.join()));
                return Err(error);
            }
        };
        drop(loading);
        Ok(Self { shared, threads, snapshots, addresses: bound, tls_addresses: bound_for_tls, unix_path })
    }

    /// The TCP addresses that it listens on, without TLS.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Those with TLS.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Listens on one more Unix socket, which this user alone may open: for the rest of the process, where there is
    /// no port without TLS.
    pub fn listen_privately(&self, path: &Path) -> Result<(), StartError> {
        let refused = |error| StartError::BindUnix { path: path.to_owned(), error };
        let listener = Listener::unix(path, Some(0o600)).map_err(refused)?;
        let spare = listener.try_clone().map_err(refused)?;
        self.shared.mailboxes[0].send(Message::Listen(listener));
        self.shared.mailboxes[self.shared.settings.load().loops].send(Message::Listen(spare));
        Ok(())
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

    /// Whether the process may end, as a signal asks: with the last dump made, as `shutdown-on-sigterm` or
    /// `shutdown-on-sigint` say, or with none wanted.
    pub fn may_end(&self, is_interrupt: bool) -> bool {
        let settings = self.shared.settings.load_full();
        let how = if is_interrupt { &settings.shutdown_on_sigint } else { &settings.shutdown_on_sigterm };
        let says = |word: &str| how.iter().any(|said| said == word);
        let dump = if says("nosave") { Some(false) } else { says("save").then_some(true) };
        self.shared.save_before_end(dump, says("force"))
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
        let state = self.shared.snapshots.state();
        let is_saved = state.dumps_done > 0
            && !state.last_dump_failed
            && state.dirty_at_last_dump == self.shared.dirty();
        let wants_dump = wants_dump && !is_saved;
        self.shared.snapshots.stop(!wants_dump);
        let _ = self.snapshots.join();
        let dumped = match wants_dump {
            true => snapshots::dump_alone(&self.shared).map_err(EndError::Dump),
            false => Ok(()),
        };
        let journal = self.shared.journal.load_full();
        let closed = journal.map_or(Ok(()), |journal| journal.close()).map_err(EndError::Journal);
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

/// What all loops share, before anything is loaded, and what their random generators begin with.
fn shared(
    config: Config,
    settings: Arc<Settings>,
    (acl, names): (Acl, Names),
    polls: &[mio::Poll],
    ports: Ports,
) -> io::Result<(Arc<Shared>, Random)> {
    let now_ms = unix_ms();
    let loops_len = polls.len();
    let watchdog = Watchdog::start(Duration::from_millis(settings.busy_reply_threshold_ms))?;
    let crew = Arc::new(Crew::new(settings.loops, settings.loops_together));
    let mailbox = |(i, poll): (usize, &mio::Poll)| {
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        Ok(Mailbox::new(PollWaker { waker, crew: (i < settings.loops).then(|| Arc::clone(&crew)) }))
    };
    let mailboxes = polls.iter().enumerate().map(mailbox).collect::<io::Result<Arc<[_]>>>()?;
    let seed = Random::new(now_ms ^ (u64::from(std::process::id()) << 32) ^ entropy());
    let run_id = (0..5).map(|_| format!("{:08x}", seed.next_u64() as u32)).collect();
    let shared = Shared {
        keyspace: Keyspace::new(settings.loops * SHARDS_PER_LOOP),
        pubsub: PubSub::new(loops_len),
        clients: Default::default(),
        acl,
        names,
        mailboxes,
        stats: (0..loops_len).map(|_| LoopStats::default()).collect(),
        journal: Default::default(),
        journal_at: Default::default(),
        loading: Default::default(),
        snapshots: Snapshots::new(now_ms / 1000),
        scripts: Scripts::new(watchdog),
        functions: Default::default(),
        slowlog: Default::default(),
        latency: Arc::new(Latency::new(settings.latency_monitor_threshold_ms)),
        rates: Default::default(),
        freer: Freer::start()?,
        config: Mutex::new(config),
        settings: ArcSwap::new(settings),
        started_at_ms: now_ms,
        started: Instant::now(),
        run_id,
        ports: Mutex::new(ports),
        tls: Default::default(),
        handshakes_len: Default::default(),
        tracking: Default::default(),
        pause: Default::default(),
        client_memory: ClientMemory::new(loops_len),
        oom_score: Default::default(),
        next_loop: Default::default(),
        monitors_len: Default::default(),
        migrations_len: Default::default(),
        exceeded: Default::default(),
        evicting: Default::default(),
        is_shutting_down: Default::default(),
        active_expire: AtomicBool::new(true),
        dump_at_end: Default::default(),
        busy: BusyScripts::new(loops_len),
        crew,
        end: End::default(),
        switches: Default::default(),
    };
    Ok((Arc::new(shared), seed))
}

/// Threads for the loops that [`crate::crew`] runs, and one for the spare loop.
fn spawn_loops(
    shared: &Arc<Shared>,
    seed: Random,
    polls: Vec<mio::Poll>,
    [mut listeners, mut second]: Copies,
) -> io::Result<Vec<JoinHandle<()>>> {
    let loops = shared.settings.load().loops;
    let mut event_loops = Vec::new();
    for (i, poll) in polls.into_iter().enumerate() {
        let own_listeners = match i {
            0 => std::mem::take(&mut listeners),
            _ if i == loops => std::mem::take(&mut second),
            _ => Vec::new(),
        };
        let core = core(i, Arc::clone(shared), seed.next_u64());
        event_loops.push(EventLoop::new(core, poll, own_listeners)?);
    }
    let spare = event_loops.pop().expect("SPARE_LOOPS is 1");
    let slots: Arc<[Slot]> = event_loops.into_iter().map(Slot::new).collect::<io::Result<_>>()?;
    let mut threads = Vec::new();
    for number in 0..loops {
        let (slots, shared) = (Arc::clone(&slots), Arc::clone(shared));
        threads.push(spawn(number, move || Member { number, slots: &slots, shared: &shared }.run())?);
    }
    threads.push(spawn(loops, move || spare.run())?);
    Ok(threads)
}

fn spawn(number: usize, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    // Scripts recurse on the thread's stack.
    let thread = std::thread::Builder::new().name(format!("store-{number}")).stack_size(8 << 20);
    thread.spawn(move || {
        let _guard = AbortOnPanic;
        if let Err(error) = run() {
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
    let evictor = Evictor::new(shared.keyspace.shards_len());
    let settings = shared.settings.load_full();
    Core {
        engine: Engine {
            random: Random::new(seed),
            effects: Effects::wanted_while(shared.journal.is_in_use()),
            limits: settings.limits.clone(),
        },
        side: Side {
            event_loop: i as u16,
            uses: settings.uses(shared.started_at_ms),
            settings,
            now_ms: shared.started_at_ms,
            clock: Instant::now(),
            local: Vec::new(),
            subscriptions: Subscriptions::new(i),
            deadlines: Default::default(),
            durable_waits: Vec::new(),
            evictor,
            deferred: Vec::new(),
            expired: Vec::new(),
            leftovers: Vec::new(),
            migrated: Vec::new(),
            keeps_expired: false,
            postpones: false,
            commands: 0,
            appended: None,
            recent_rows: Default::default(),
            interpreter: None,
            libraries: None,
            libraries_seen: Default::default(),
            switches: Arc::clone(&shared.switches),
            script_flushes_seen: 0,
        },
        shared,
    }
}

/// Brings the data back.
fn load(shared: &Shared, gives_up: &(dyn Fn() -> bool + Sync)) -> Result<(), StartError> {
    let gives_up = || shared.end.is_asked() || gives_up();
    let loaded = try_load(shared, &gives_up);
    // What an end that was asked for makes of it is no fault of the files.
    if loaded.is_err() && gives_up() { Err(StartError::GivenUp) } else { loaded }
}

fn try_load(shared: &Shared, gives_up: &(dyn Fn() -> bool + Sync)) -> Result<(), StartError> {
    let now_ms = shared.started_at_ms;
    if !shared.settings.load().appendonly {
        return load_dump(shared, now_ms, gives_up).map(drop);
    }
    if !append_only::is_begun(shared)? {
        // Locks the folder before anything is read. What a dump holds, or nothing, is the first base.
        let (journal, first) = append_only::create(shared)?;
        load_dump(shared, now_ms, gives_up)?;
        return snapshots::begin_journal(shared, &journal, first).map_err(StartError::FirstBase);
    }
    let is_empty = append_only::open(shared, now_ms, gives_up)?;
    if is_empty && let Some(path) = load_dump(shared, now_ms, gives_up)? {
        // Before anybody is served: the next start will look at the append-only file alone.
        snapshots::rewrite_alone(shared).map_err(|why| StartError::Adopt { path, why })?;
    }
    Ok(())
}

/// Loads the dump where there is one; gives its path.
fn load_dump(
    shared: &Shared,
    now_ms: u64,
    gives_up: &(dyn Fn() -> bool + Sync),
) -> Result<Option<PathBuf>, StartError> {
    let path = shared.settings.load().dump_path();
    let begun = Instant::now();
    match loading::load_dump(shared, now_ms, false, gives_up) {
        Ok(None) => Ok(None),
        Ok(Some(loaded)) => {
            let seconds = begun.elapsed().as_secs_f64();
            tracing::info!(file = %path.display(), ?loaded, seconds, "data loaded from the dump");
            Ok(Some(path))
        }
        Err(why) => Err(StartError::Dump { path, why }),
    }
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
        let path = PathBuf::from("data/appendonlydir/appendonly.aof.lock");
        let journal = JournalError::Io { action: "lock", path, source: denied() };
        for error in [StartError::from(journal), StartError::from(denied())] {
            assert!(error.to_string().contains("permission denied"), "{error}");
            assert!(error.source().is_none(), "{error:?}");
        }
    }
}
