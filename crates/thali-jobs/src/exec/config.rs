//! What an exec worker is told: data only, and its translation into a box's policy.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use thali_client::StoreAddress;
use thali_sandbox::{Limits, Mechanism, Network, Policy};

use crate::queue::{FieldError, check_prefix, check_queue_name};
use crate::worker::{Job, WorkerError};

/// Each running command takes a thread of its own.
pub const CONCURRENCY_MAX: usize = 256;
/// A dynamic loader and a shell need about as much.
const MEMORY_BYTES_MIN: u64 = 4 << 20;
/// A result is stored with its job; what is larger belongs elsewhere.
const RESULT_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("no command given; write it after --, for example: thali work QUEUE -- python3 handler.py")]
    NoCommand,
    #[error("--concurrency must be from 1 to {CONCURRENCY_MAX}")]
    Concurrency,
    #[error("--timeout must be longer than 0; each job would time out at once")]
    Timeout,
    #[error("--memory must be at least {} MiB; no command starts with less", MEMORY_BYTES_MIN >> 20)]
    Memory,
    #[error(transparent)]
    Name(#[from] FieldError),
    #[error("the working directory is not usable: {0}")]
    Directory(std::io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("the store was there and is no longer: {0}")]
    Store(redis::RedisError),
    #[error(transparent)]
    Box(#[from] thali_sandbox::Error),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Tells a pub/sub channel of each result, for those who do not watch the queue.
#[derive(Clone, Debug)]
pub struct Announce {
    pub channel: String,
    /// What to tell of a job and its result; `None` tells nothing.
    pub message: fn(&Job, &Value) -> Option<Value>,
}

/// How to run a command for each job of a queue.
#[derive(Clone, Debug)]
pub struct ExecConfig {
    pub store: StoreAddress,
    pub queue: String,
    pub prefix: String,
    /// Shown by `Queue.getWorkers()`.
    pub name: Option<String>,
    pub concurrency: usize,
    pub command: Vec<OsString>,
    /// Wall-clock time of one job.
    pub timeout: Duration,
    /// Memory of one job's whole process tree.
    pub memory_bytes: u64,
    pub network: Network,
    /// The working directory may be read only.
    pub read_only: bool,
    /// Where commands run; the current directory when `None` (their scratch directory when that is `/`).
    pub directory: Option<PathBuf>,
    /// Further paths that commands may read, or read and write.
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    /// Variables for every command, besides the job's own.
    pub env: Vec<(OsString, OsString)>,
    /// As root: do not give each box a user of its own.
    pub keep_user: bool,
    /// The command is trusted: it gets limits but no box.
    pub trusted: bool,
    /// Mechanisms that may be missing on this machine.
    pub allow_unboxed: Vec<Mechanism>,
    /// How long running jobs may go on after the worker was told to end.
    pub grace: Duration,
    /// Published as soon as a command has succeeded. At most once: a store that is away misses it.
    pub announce: Option<Announce>,
}

impl ExecConfig {
    pub fn new(
        store: StoreAddress,
        queue: impl Into<String>,
        command: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            store,
            queue: queue.into(),
            prefix: "bull".into(),
            name: None,
            concurrency: 1,
            command: command.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(60),
            memory_bytes: 512 << 20,
            network: Network::Open,
            read_only: false,
            directory: None,
            read: Vec::new(),
            write: Vec::new(),
            env: Vec::new(),
            keep_user: false,
            trusted: false,
            allow_unboxed: Vec::new(),
            grace: Duration::from_secs(25),
            announce: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ExecError> {
        if self.command.is_empty() {
            return Err(ExecError::NoCommand);
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return Err(ExecError::Concurrency);
        }
        if self.timeout.is_zero() {
            return Err(ExecError::Timeout);
        }
        if self.memory_bytes < MEMORY_BYTES_MIN {
            return Err(ExecError::Memory);
        }
        check_queue_name(&self.queue)?;
        check_prefix(&self.prefix)?;
        Ok(())
    }

    pub(super) fn policy(&self) -> Result<Policy, ExecError> {
        let directory = match &self.directory {
            Some(directory) => Some(directory.canonicalize().map_err(ExecError::Directory)?),
            None => {
                let current = std::env::current_dir().map_err(ExecError::Directory)?;
                // The root folder would open everything to the command.
                (current != Path::new("/")).then_some(current)
            }
        };
        let limits = Limits {
            wall: self.timeout,
            memory_bytes: self.memory_bytes,
            stdout_bytes: RESULT_BYTES_MAX,
            ..Limits::default()
        };
        let mut policy =
            if self.trusted { Policy::trusted(limits) } else { Policy { limits, ..Policy::default() } };
        if !self.trusted {
            policy.network = self.network;
            policy.keep_user = self.keep_user;
        }
        policy.read.clone_from(&self.read);
        policy.write.clone_from(&self.write);
        if let Some(directory) = &directory {
            let paths = if self.read_only { &mut policy.read } else { &mut policy.write };
            paths.push(directory.clone());
        }
        policy.directory = directory;
        policy.allow_unboxed.clone_from(&self.allow_unboxed);
        Ok(policy)
    }
}
