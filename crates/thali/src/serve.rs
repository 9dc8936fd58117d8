//! `thali serve`: the embedded store, or another one, and the layers above it.

use anyhow::{Context, Result, anyhow};
use thali_client::{StoreAddress, TlsFiles};
use thali_server::config::{Config, Settings};
use thali_server::{Server, StartError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::{self, App};

/// What `serve` and `demo` begin with.
pub struct Start {
    pub settings: Settings,
    pub runtime: Runtime,
    pub signals: Signals,
    /// Open, but nobody is served yet.
    pub listeners: Vec<TcpListener>,
    pub store: Option<Server>,
    /// Where the layers above find the store; none where there are no layers.
    pub store_address: Option<StoreAddress>,
    pub role: Role,
}

/// What the program is called as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Thali,
    /// Standing in for it: HTTP and an append-only file only where somebody asks for them.
    RedisServer,
}

/// Reads the configuration, begins the log and starts the embedded store where one is wanted.
pub fn start(arguments: &[String], role: Role) -> Result<Start> {
    if let Some(first) = arguments.first()
        && matches!(first.as_str(), "--version" | "-v")
    {
        println!(
            "Thali server v={} redis_version={}",
            env!("CARGO_PKG_VERSION"),
            thali_server::REDIS_VERSION
        );
        std::process::exit(0);
    }
    let base = match role {
        Role::Thali => Config::default(),
        Role::RedisServer => Config::of_redis_server(),
    };
    let (config, unknown) = base.overridden(arguments, std::env::vars())?;
    config.check().map_err(anyhow::Error::msg)?;
    let settings = config.settings();
    // Who gives redis-server's stand-in a port for HTTP wants it.
    let config = match config.gives_http_port_alone() && settings.http_bind.is_empty() {
        true => config.with("http-bind", "127.0.0.1")?,
        false => config,
    };
    let settings = config.settings();
    app::begin_log(&settings, role)?;
    tracing::info!("Thali {} begins as a store. PID: {}", env!("CARGO_PKG_VERSION"), std::process::id());
    for name in unknown {
        tracing::warn!(name, "this variable names no setting");
    }
    let runtime = app::runtime(&settings)?;
    let signals = runtime.block_on(async { Signals::new() })?;
    // Before the store: what is refused here has touched no data.
    let listeners = runtime.block_on(app::listen(&settings))?;
    if let Some(url) = &settings.store {
        let files = TlsFiles {
            ca: settings.store_ca.clone(),
            cert: settings.store_cert.clone(),
            key: settings.store_key.clone(),
        };
        let store_address = StoreAddress::parse_with(url, &files)?;
        let store_address = Some(store_address);
        return Ok(Start { settings, runtime, signals, listeners, store: None, store_address, role });
    }
    std::fs::create_dir_all(&settings.dir).map_err(|error| {
        let dir = settings.dir.display();
        anyhow!("cannot make the data folder {dir} ({error}); give a folder that can be written with --dir")
    })?;
    if !listeners.is_empty() {
        config.check_own_login().map_err(anyhow::Error::msg)?;
    }
    let store = match Server::start_unless(config, &|| signals.have_come()) {
        Err(error @ StartError::GivenUp) => {
            tracing::info!("{error}; nothing was changed");
            std::process::exit(0);
        }
        started => started?,
    };
    let store_address = match listeners.is_empty() {
        true => None,
        false => Some(StoreAddress::parse(&url_of(&store, &settings)?)?),
    };
    Ok(Start { settings, runtime, signals, listeners, store: Some(store), store_address, role })
}

/// How this process itself reaches its store: where all ports are for TLS, by a Unix socket of its own in the data
/// folder, as its clients' certificates and the store's are for others.
fn url_of(store: &Server, settings: &Settings) -> Result<String> {
    let secret: String = settings.requirepass.bytes().map(|b| format!("%{b:02X}")).collect();
    if let Some(address) = store.addresses().first() {
        let mut address = *address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let user = if secret.is_empty() { String::new() } else { format!(":{secret}@") };
        return Ok(format!("redis://{user}{address}"));
    }
    let path = match store.unix_path() {
        Some(path) => path.to_owned(),
        None => {
            let path = std::path::absolute(&settings.dir)?.join(format!(".store-{}.sock", settings.tls.port));
            store
                .listen_privately(&path)
                .context("give a shorter path with unixsocket, or a port besides tls-port")?;
            path
        }
    };
    Ok(match secret.is_empty() {
        true => format!("redis+unix://{}", path.display()),
        false => format!("redis+unix://{}?pass={secret}", path.display()),
    })
}

/// As redis-server: the store alone, unless somebody asks for HTTP. So several can run on one machine.
///
/// What keeps it from starting stands in its log, too, in the words that who starts redis-servers looks for.
pub fn run_as_server(arguments: &[String]) -> Result<()> {
    let start = start(arguments, Role::RedisServer).inspect_err(|error| match error.downcast_ref() {
        Some(StartError::Bind { address, .. }) => {
            let port = address.rsplit(':').next().unwrap_or_default();
            tracing::error!("Failed listening on port {port}: {error:#}");
        }
        Some(_) => tracing::error!("Fatal error: {error:#}"),
        None => {}
    })?;
    let pidfile = Pidfile::write(&start.settings.pidfile);
    let result = run_started(start);
    drop(pidfile);
    result
}

/// The number of this process in a file, as long as it runs.
struct Pidfile(Option<std::path::PathBuf>);

impl Pidfile {
    /// Without a name there is none; one that cannot be written keeps nobody from running.
    fn write(path: &str) -> Self {
        if path.is_empty() {
            return Self(None);
        }
        match std::fs::write(path, format!("{}\n", std::process::id())) {
            Ok(()) => Self(Some(path.into())),
            Err(error) => {
                tracing::warn!(path, %error, "cannot write the file with the process's number");
                Self(None)
            }
        }
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

pub fn run(arguments: &[String]) -> Result<()> {
    run_started(start(arguments, Role::Thali)?)
}

fn run_started(mut start: Start) -> Result<()> {
    let listeners = std::mem::take(&mut start.listeners);
    let runtime = start.runtime.handle().clone();
    let result = runtime.block_on(async {
        // Without an address for HTTP there is nothing above the store to run.
        let app = match &start.store_address {
            Some(store) if !listeners.is_empty() => {
                Some(App::start(&start.settings, listeners, store, axum::Router::new()).await?)
            }
            _ => None,
        };
        ready(&start, app.as_ref());
        end(&mut start.signals, start.store.as_ref()).await;
        if let Some(app) = app {
            app.shutdown().await;
        }
        anyhow::Ok(())
    });
    finish(start.store, result)
}

/// Says where everything is. The last line is what scripts and process managers wait for.
pub fn ready(start: &Start, app: Option<&App>) {
    if start.role == Role::RedisServer {
        tracing::info!("Ready to accept connections");
        return;
    }
    for address in app.iter().flat_map(|app| &app.addresses) {
        println!("HTTP, sockets and metrics on http://{address}");
    }
    match &start.store {
        Some(store) => {
            for address in store.addresses() {
                println!("Store on {address}");
            }
            for address in store.tls_addresses() {
                println!("Store on {address}, with TLS");
            }
        }
        None => {
            println!("Store at {}", start.store_address.as_ref().map(StoreAddress::shown).unwrap_or_default())
        }
    }
    println!("Ready to accept connections");
}

/// What asks for the end from outside. Listened to from the start: a signal that comes as soon as the
/// server says that it is ready, or before, ends it as cleanly as a later one.
pub struct Signals {
    came: watch::Receiver<Came>,
    /// How many of them were waited for.
    seen: u32,
}

impl Signals {
    /// To be called within the runtime.
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let (mut terminate, mut interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let (tell, came) = watch::channel(Came::default());
        tokio::spawn(async move {
            loop {
                let is_interrupt = tokio::select! {
                    _ = terminate.recv() => false,
                    _ = interrupt.recv() => true,
                };
                tell.send_modify(|came| *came = Came { count: came.count + 1, is_interrupt });
            }
        });
        Ok(Self { came, seen: 0 })
    }

    fn have_come(&self) -> bool {
        self.came.borrow().count > 0
    }

    /// Waits for one that was not waited for yet; whether it is SIGINT.
    async fn come(&mut self) -> bool {
        let seen = self.seen;
        // The task that tells does not end.
        let Ok(came) = self.came.wait_for(|came| came.count > seen).await.map(|came| *came) else {
            return std::future::pending().await;
        };
        self.seen = came.count;
        came.is_interrupt
    }
}

/// Signals so far, and which the last was.
#[derive(Clone, Copy, Default)]
struct Came {
    count: u32,
    is_interrupt: bool,
}

/// Waits for SIGTERM, SIGINT or SHUTDOWN.
pub async fn end(signals: &mut Signals, store: Option<&Server>) {
    let shutdown = async {
        match store {
            Some(store) => store.ended().await,
            None => std::future::pending().await,
        }
    };
    let may_end = async {
        loop {
            let is_interrupt = signals.come().await;
            // The dump waits for the disk, and nobody else is served here.
            if tokio::task::block_in_place(|| store.is_none_or(|store| store.may_end(is_interrupt))) {
                return;
            }
        }
    };
    tokio::select! {
        () = may_end => {}
        () = shutdown => {}
    }
    tracing::info!("ending");
    if let Some(store) = store {
        store.stopper().stop();
    }
}

/// Ends the store last: what the layers above acknowledged is in it.
pub fn finish(store: Option<Server>, result: Result<()>) -> Result<()> {
    if let Some(store) = store {
        store.shutdown().context("the journal could not be written to its end")?;
        tracing::info!("Thali is now ready to exit, bye bye...");
    }
    result
}
