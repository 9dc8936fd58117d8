//! `thali serve`: the embedded store, or another one, and the layers above it.

use anyhow::{Context, Result, anyhow, bail};
use thali_client::StoreAddress;
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
    /// Where the layers above find the store.
    pub store_address: StoreAddress,
}

/// What the program is called as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Thali,
    /// Standing in for it: HTTP only where somebody asks for it.
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
    let (config, unknown) = Config::from_sources(arguments, std::env::vars())?;
    config.check().map_err(anyhow::Error::msg)?;
    let mut settings = config.settings();
    if role == Role::RedisServer && !settings.http_given {
        settings.http_bind.clear();
    }
    app::begin_log(&settings)?;
    for name in unknown {
        tracing::warn!(name, "this variable names no setting");
    }
    let runtime = app::runtime(&settings)?;
    let signals = runtime.block_on(async { Signals::new() })?;
    // Before the store: what is refused here has touched no data.
    let listeners = runtime.block_on(app::listen(&settings))?;
    if let Some(url) = &settings.store {
        let store_address = StoreAddress::parse(url)?;
        return Ok(Start { settings, runtime, signals, listeners, store: None, store_address });
    }
    std::fs::create_dir_all(&settings.dir).map_err(|error| {
        let dir = settings.dir.display();
        anyhow!("cannot make the data folder {dir} ({error}); give a folder that can be written with --dir")
    })?;
    let password = settings.requirepass.clone();
    let store = match Server::start_unless(config, &|| signals.have_come()) {
        Err(error @ StartError::GivenUp) => {
            tracing::info!("{error}; nothing was changed");
            std::process::exit(0);
        }
        started => started?,
    };
    let store_address = StoreAddress::parse(&url_of(&store, &password)?)?;
    Ok(Start { settings, runtime, signals, listeners, store: Some(store), store_address })
}

/// How this process itself reaches its store.
fn url_of(store: &Server, password: &str) -> Result<String> {
    let secret: String = password.bytes().map(|b| format!("%{b:02X}")).collect();
    if let Some(address) = store.addresses().first() {
        let mut address = *address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let user = if secret.is_empty() { String::new() } else { format!(":{secret}@") };
        return Ok(format!("redis://{user}{address}"));
    }
    match store.unix_path() {
        Some(path) if secret.is_empty() => Ok(format!("redis+unix://{}", path.display())),
        Some(path) => Ok(format!("redis+unix://{}?pass={secret}", path.display())),
        None => bail!("the store listens nowhere: set port or unixsocket"),
    }
}

/// As redis-server: the store alone, unless somebody asks for HTTP. So several can run on one machine.
pub fn run_as_server(arguments: &[String]) -> Result<()> {
    run_started(start(arguments, Role::RedisServer)?)
}

pub fn run(arguments: &[String]) -> Result<()> {
    run_started(start(arguments, Role::Thali)?)
}

fn run_started(mut start: Start) -> Result<()> {
    let listeners = std::mem::take(&mut start.listeners);
    let runtime = start.runtime.handle().clone();
    let result = runtime.block_on(async {
        // Without an address for HTTP there is nothing above the store to run.
        let app = match listeners.is_empty() {
            true => None,
            false => {
                Some(App::start(&start.settings, listeners, &start.store_address, axum::Router::new()).await?)
            }
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
    for address in app.iter().flat_map(|app| &app.addresses) {
        println!("HTTP, sockets and metrics on http://{address}");
    }
    match &start.store {
        Some(store) => {
            for address in store.addresses() {
                println!("Store on {address}");
            }
        }
        None => println!("Store at {}", start.store_address.shown()),
    }
    println!("Server initialized");
    println!("Ready to accept connections");
}

/// What asks for the end from outside. Listened to from the start: a signal that comes as soon as the
/// server says that it is ready, or before, ends it as cleanly as a later one.
pub struct Signals {
    came: watch::Receiver<bool>,
}

impl Signals {
    /// To be called within the runtime.
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let (mut terminate, mut interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let (tell, came) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tell.send_replace(true);
        });
        Ok(Self { came })
    }

    fn have_come(&self) -> bool {
        *self.came.borrow()
    }

    async fn come(&mut self) {
        // The task ends only after it has told.
        let _ = self.came.wait_for(|came| *came).await;
    }
}

/// Waits for SIGTERM, SIGINT or SHUTDOWN.
pub async fn end(signals: &mut Signals, store: Option<&Server>) {
    let shutdown = async {
        match store {
            Some(store) => store.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.come() => {}
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
    }
    result
}
