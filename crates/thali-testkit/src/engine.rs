//! The engine under test and how it starts.
//!
//! Three engines stand for the project's promise: the same clients work on Debian's redis-server,
//! on Thali with its own store, and on Thali in front of a redis-server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{Port, Process};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const READY: &str = "Ready to accept connections";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Debian's redis-server alone: the store's reference; no HTTP, no sockets.
    Redis,
    /// `thali serve` with its own store.
    Thali,
    /// `thali serve --store` in front of a redis-server.
    ThaliOnRedis,
}

impl Engine {
    /// What every end-to-end claim is shown on.
    pub const MATRIX: [Engine; 2] = [Engine::Thali, Engine::ThaliOnRedis];

    /// The word of `THALI_TEST_ENGINE`.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Redis => "redis",
            Engine::Thali => "thali",
            Engine::ThaliOnRedis => "thali-on-redis",
        }
    }

    pub fn start(self) -> Result<Running> {
        match self {
            Engine::Redis => start_redis(&[]),
            Engine::Thali => start_thali(ThaliOptions::default()),
            Engine::ThaliOnRedis => {
                let store = start_redis(&[])?;
                let url = format!("redis://{}", store.store);
                let mut running = start_thali(ThaliOptions { store: Some(url), ..Default::default() })?;
                running.store.clone_from(&store.store);
                running.behind = Some(Box::new(store));
                Ok(running)
            }
        }
    }
}

impl FromStr for Engine {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Engine> {
        match name {
            "redis" => Ok(Engine::Redis),
            "thali" => Ok(Engine::Thali),
            "thali-on-redis" => Ok(Engine::ThaliOnRedis),
            _ => bail!("no engine {name:?}; there are redis, thali and thali-on-redis"),
        }
    }
}

/// A started engine. Dropping it ends its processes and removes its folder.
#[derive(Debug)]
pub struct Running {
    /// The process that this engine is named after.
    pub process: Process,
    /// Where the Redis protocol is spoken: `127.0.0.1:port`.
    pub store: String,
    /// Where HTTP and sockets are served, if at all: `127.0.0.1:port`.
    pub http: Option<String>,
    /// The redis-server behind `thali serve --store`.
    pub behind: Option<Box<Running>>,
    /// Data and logs.
    pub folder: TempDir,
    _ports: Vec<Port>,
}

#[derive(Debug, Default)]
pub struct ThaliOptions {
    /// URL of an external store; without it the embedded one is started.
    pub store: Option<String>,
    /// Further arguments of `thali serve`.
    pub args: Vec<String>,
}

/// Starts `thali serve` on free ports and waits until it is ready.
pub fn start_thali(options: ThaliOptions) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let (port, http) = (Port::free()?, Port::free()?);
    let mut command = Command::new(thali_bin()?);
    command.arg("serve").args(["--http-port", &http.number().to_string()]);
    match &options.store {
        Some(url) => command.args(["--store", url]),
        None => command.args(["--port", &port.number().to_string()]).arg("--dir").arg(folder.path()),
    };
    command.args(&options.args).current_dir(folder.path());
    let mut process = Process::spawn("thali", &mut command, folder.path())?;
    process.wait_for_log(READY, START_TIMEOUT)?;
    process.wait_for_port(&http.address(), START_TIMEOUT)?;
    let (store, http_address) = (port.address(), http.address());
    let running =
        Running { process, store, http: Some(http_address), behind: None, folder, _ports: vec![port, http] };
    Ok(running)
}

/// Starts Debian's redis-server without persistence unless `args` say otherwise.
pub fn start_redis(args: &[&str]) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let port = Port::free()?;
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.number().to_string(), "--bind", "127.0.0.1"]);
    // At the default of 10 a second, each blocking command that times out takes up to 100 ms.
    command.args(["--hz", "500"]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder.path()).args(args);
    let mut process = Process::spawn("redis-server", &mut command, folder.path())?;
    process.wait_for_log(READY, START_TIMEOUT)?;
    let store = port.address();
    Ok(Running { process, store, http: None, behind: None, folder, _ports: vec![port] })
}

/// The binary under test: `THALI_BIN`, else the e2e profile's, built at the first call.
pub fn thali_bin() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = std::env::var_os("THALI_BIN") {
        return Ok(path.into());
    }
    if let Some(path) = BUILT.get() {
        return Ok(path.clone());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let status = Command::new("cargo")
        // As `cargo xtask test` builds it, so that both share one build of the dependencies.
        .args(["build", "--quiet", "--profile", "e2e", "--workspace", "--bins", "--tests"])
        .current_dir(&root)
        .status()
        .context("run cargo build")?;
    if !status.success() {
        bail!("the binary under test did not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(BUILT.get_or_init(|| target.join("e2e/thali")).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reply, RespClient};

    #[test]
    fn redis_peer_answers() {
        let peer = Engine::Redis.start().unwrap();
        let mut client = RespClient::connect(&peer.store).unwrap();
        assert_eq!(client.command(&["SET", "k", "v"]).unwrap(), Reply::Status("OK".into()));
        assert_eq!(client.command(&["GET", "k"]).unwrap().text(), "v");
        assert_eq!(client.command(&["LPUSH", "l", "a", "b"]).unwrap().integer(), Some(2));
        assert_eq!(client.command(&["LRANGE", "l", "0", "-1"]).unwrap().items().len(), 2);
        assert!(
            matches!(client.command(&["GET", "l"]).unwrap(), Reply::Error(text) if text.starts_with("WRONGTYPE"))
        );
    }

    #[test]
    fn names_and_engines_agree() {
        for engine in [Engine::Redis, Engine::Thali, Engine::ThaliOnRedis] {
            assert_eq!(engine.name().parse::<Engine>().unwrap(), engine);
        }
    }
}
