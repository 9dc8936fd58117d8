//! `thali serve`: the embedded store, or another one, and the layers above it.

use anyhow::{Context, Result, bail};
use thali_server::config::{Config, Settings};
use thali_server::{Server, Stopper};

use crate::app::{self, App};

/// What `serve` and `demo` begin with.
pub struct Start {
    pub settings: Settings,
    pub store: Option<Server>,
    /// Where the layers above find the store.
    pub store_url: String,
}

/// Reads the configuration, begins the log and starts the embedded store where one is wanted.
pub fn start(arguments: &[String]) -> Result<Start> {
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
    let settings = config.settings();
    app::begin_log(&settings)?;
    for name in unknown {
        tracing::warn!(name, "this variable names no setting");
    }
    if let Some(url) = settings.store.clone() {
        return Ok(Start { settings, store: None, store_url: url });
    }
    std::fs::create_dir_all(&settings.dir)
        .with_context(|| format!("cannot make the data folder {}", settings.dir.display()))?;
    let password = settings.requirepass.clone();
    let store = Server::start(config)?;
    let store_url = url_of(&store, &password)?;
    Ok(Start { settings, store: Some(store), store_url })
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
    let mut start = start(arguments)?;
    if !start.settings.http_given {
        start.settings.http_bind.clear();
    }
    run_started(start)
}

pub fn run(arguments: &[String]) -> Result<()> {
    run_started(start(arguments)?)
}

fn run_started(start: Start) -> Result<()> {
    let runtime = app::runtime(&start.settings)?;
    let result = runtime.block_on(async {
        // Without an address for HTTP there is nothing above the store to run.
        let app = match start.settings.http_bind.is_empty() {
            true => None,
            false => Some(App::start(&start.settings, &start.store_url, axum::Router::new()).await?),
        };
        ready(&start, app.as_ref());
        end(start.store.as_ref().map(Server::stopper), start.store.as_ref()).await;
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
        None => println!("Store at {}", app::without_password(&start.store_url)),
    }
    println!("Server initialized");
    println!("Ready to accept connections");
}

/// Waits for SIGTERM, SIGINT or SHUTDOWN.
pub async fn end(stopper: Option<Stopper>, store: Option<&Server>) {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a runtime with signals");
    let shutdown = async {
        match store {
            Some(store) => store.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = shutdown => {}
    }
    tracing::info!("ending");
    if let Some(stopper) = stopper {
        stopper.stop();
    }
}

/// Ends the store last: what the layers above acknowledged is in it.
pub fn finish(store: Option<Server>, result: Result<()>) -> Result<()> {
    if let Some(store) = store {
        store.shutdown().context("the journal could not be written to its end")?;
    }
    result
}
