//! One side of a comparison: its processes, started on free ports with an append-only file synced
//! every second, and what each of them uses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use thali_testkit::{Port, Process, Running, ThaliOptions, start_redis, start_thali};

use crate::load::QUEUE;
use crate::usage::{self, Usage};

const START_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Express, BullMQ and Socket.IO on redis-server: bench/peers.
    Peer,
    /// Thali: store, API, queue and gateway in one process, and a worker.
    Thali,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Peer => "peer",
            Side::Thali => "thali",
        }
    }
}

pub struct Stack {
    /// Where HTTP and sockets are served.
    pub http: String,
    named: Vec<(&'static str, u32)>,
    // Dropped in this order: the worker before what it works on.
    _worker: Process,
    _server: Option<Process>,
    _engine: Running,
    _port: Option<Port>,
}

impl Stack {
    pub fn start(side: Side, worker_concurrency: u32) -> Result<Stack> {
        match side {
            Side::Peer => peer(worker_concurrency),
            Side::Thali => thali(worker_concurrency),
        }
    }

    pub fn usage(&self) -> Result<Vec<(&'static str, Usage)>> {
        self.named.iter().map(|(name, pid)| Ok((*name, usage::of(*pid)?))).collect()
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/peers")
}

/// A program of bench/peers, on the store at this address.
pub fn node(script: &str, store: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(peers().join(script))
        .env("STORE_URL", format!("redis://{store}"))
        .env("NODE_ENV", "production");
    command
}

fn peer(concurrency: u32) -> Result<Stack> {
    let engine = start_redis(&["--appendonly", "yes", "--appendfsync", "everysec"])?;
    let port = Port::free()?;
    let folder = engine.folder.path();
    let mut server = node("server.js", &engine.store);
    let mut server =
        Process::spawn("server", server.env("PORT", port.number().to_string()).env("BUS", "0"), folder)?;
    server.wait_for_log("Ready to accept connections", START_TIMEOUT)?;
    let worker = node_worker(&engine, concurrency)?;
    let named = vec![
        ("redis-server", engine.process.id()),
        ("express+socket.io", server.id()),
        ("bullmq worker", worker.id()),
    ];
    Ok(Stack {
        http: port.address(),
        named,
        _worker: worker,
        _server: Some(server),
        _engine: engine,
        _port: Some(port),
    })
}

fn node_worker(engine: &Running, concurrency: u32) -> Result<Process> {
    let mut worker = node("worker.js", &engine.store);
    worker.env("QUEUE", QUEUE).env("CONCURRENCY", concurrency.to_string());
    let mut worker = Process::spawn("worker", &mut worker, engine.folder.path())?;
    worker.wait_for_log("Ready to work", START_TIMEOUT)?;
    Ok(worker)
}

fn thali(concurrency: u32) -> Result<Stack> {
    let args = ["--appendonly", "yes", "--appendfsync", "everysec"].map(str::to_owned).to_vec();
    let engine = start_thali(ThaliOptions { store: None, args })?;
    let mut worker = Command::new(std::env::current_exe()?);
    worker.args(["worker", "--store", &format!("redis://{}", engine.store), "--queue", QUEUE]);
    worker.args(["--concurrency", &concurrency.to_string()]);
    let mut worker = Process::spawn("worker", &mut worker, engine.folder.path())?;
    worker.wait_for_log("Ready to work", START_TIMEOUT)?;
    let named = vec![("thali serve", engine.process.id()), ("worker", worker.id())];
    let http = engine.http.clone().expect("thali serves HTTP");
    Ok(Stack { http, named, _worker: worker, _server: None, _engine: engine, _port: None })
}
