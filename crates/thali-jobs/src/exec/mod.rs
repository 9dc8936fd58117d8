//! Workers that run a command for each job.
//!
//! | direction | what |
//! |---|---|
//! | standard input | the job's `data` as JSON |
//! | environment | `THALI_JOB_ID`, `THALI_JOB_NAME`, `THALI_JOB_QUEUE`, `THALI_JOB_ATTEMPT` (from 1) |
//! | standard output | the result: JSON if it parses, else a string; nothing means null |
//! | exit status | 0 means completed; anything else fails the job, with the end of standard error |
//! | descriptor 3 | one JSON value a line: `{"progress": any}` or `{"log": "text"}` |
//!
//! Each command runs in a box of its own (`thali-sandbox`), unless the operator trusts it.

mod config;
mod control;
mod process;

use std::sync::Arc;

use thali_sandbox::Sandbox;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

pub use config::{Announce, CONCURRENCY_MAX, ExecConfig, ExecError};

use crate::worker::{Worker, WorkerConfig, WorkerError};

/// What a worker did until it was told to end.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Jobs that were cut off at the end of the grace time and given back to the queue.
    pub given_back: usize,
}

/// Works until SIGTERM or SIGINT, then drains: takes no more jobs, lets the running ones end within
/// the grace time, gives the rest back. A second signal ends the grace time.
pub async fn run(config: ExecConfig) -> Result<Ended, ExecError> {
    let mut signals = Signals::listen().map_err(ExecError::Signals)?;
    let worker = start(config.clone()).await?;
    signals.next().await;
    info!(queue = config.queue, grace = ?config.grace, "draining; a second signal gives running jobs back now");
    let hurry = async {
        tokio::select! {
            () = tokio::time::sleep(config.grace) => {}
            () = signals.next() => info!("giving running jobs back"),
        }
    };
    let given_back = worker.drain_until(hurry).await;
    Ok(Ended { given_back })
}

/// Starts working and returns; the caller drains.
pub async fn start(config: ExecConfig) -> Result<Worker, ExecError> {
    config.check()?;
    let policy = config.policy()?;
    // Refuse now, not at the first job, and say what is in force.
    let sandbox = Sandbox::new(policy.clone())?;
    sandbox.rehearse(&process::bare_command(&config))?;
    let in_force = sandbox.in_force();
    drop(sandbox);
    info!(queue = config.queue, concurrency = config.concurrency, boxed = %in_force, "working");
    let worker_config = WorkerConfig {
        prefix: config.prefix.clone(),
        name: config.name.clone(),
        ..WorkerConfig::new(&config.queue, config.concurrency)
    };
    let store = config.store.clone();
    store.reach().await.map_err(WorkerError::from)?;
    let connection = store.connect().await.map_err(ExecError::Store)?;
    let runner = Arc::new(process::Runner { config, policy, connection });
    let handler = move |job, cancelled| process::run(runner.clone(), job, cancelled);
    Ok(Worker::start(&store, worker_config, handler).await?)
}

/// What asks for the end from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
