//! BullMQ queues in a store, for whoever produces, watches and manages jobs.
//!
//! [`Queues`] owns the connections and the words of BullMQ's producers; the layout in the store is
//! BullMQ's own, so its clients in every language work on the same queues, in both directions. It
//! refuses to run jobs: that is the workers' part.
//!
//! Managing (retry, promote, remove, pause, resume, clean, drain) goes through the official crate.
//! Adding and reading, which happen thousands of times a second, go straight to the store: adding runs
//! BullMQ's own scripts (see `add`), reading uses plain commands. No reading ever creates a queue.

mod add;
mod directory;
mod error;
mod job;
mod manage;
mod msgpack;
mod names;
mod options;
mod read;
mod request;
#[cfg(feature = "schema")]
mod schema;
mod scripts;
mod store;

pub use add::TRANSACTION_JOBS_MAX;
pub use directory::{QUEUES_MAX, QueueNames};
pub use error::{Fault, FieldError, QueueError};
pub use job::{JobView, Json};
pub use manage::CLEAN_JOBS_MAX;
pub use names::{
    JOB_ID_LEN_MAX, JOB_NAME_LEN_MAX, QUEUE_NAME_LEN_MAX, check_custom_job_id, check_prefix,
    check_queue_name, check_text,
};
pub use options::{
    Backoff, DELAY_MAX_MS, Deduplication, JobOptions, JobState, Keep, Parent, Telemetry, whole,
};
pub use read::{Counts, Depth, LOG_LINES_MAX, LogPage, Order, PAGE_JOBS_MAX, PLACE_MAX, Page, QueueView};
pub use request::{DATA_DEPTH_MAX, NewJob, NewJobs, read_object};

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use thali_client::StoreAddress;

use directory::Directory;
use manage::Manager;
use names::Keys;
use store::Store;

/// Queues whose keys are remembered; beyond it the memory starts anew, which costs a few allocations.
pub const HANDLES_MAX: usize = 4096;

/// How to reach the queues.
#[derive(Clone, Debug)]
pub struct QueuesConfig {
    /// First part of every key, BullMQ's `prefix`.
    pub prefix: String,
    /// Multiplexed connections; one carries tens of thousands of jobs a second.
    pub lanes: usize,
}

impl Default for QueuesConfig {
    fn default() -> Self {
        Self { prefix: "bull".to_owned(), lanes: 1 }
    }
}

/// All queues under one prefix of one store. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Queues {
    shared: Arc<Shared>,
}

struct Shared {
    prefix: String,
    store: Store,
    handles: RwLock<HashMap<Box<str>, QueueHandle>>,
    directory: Directory,
    manager: Manager,
}

#[derive(Clone)]
struct QueueHandle {
    keys: Arc<Keys>,
    /// Whether the directory lists the queue.
    known: Arc<AtomicBool>,
}

impl Queues {
    /// Prepares the queues of a store; dials on first use. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// A prefix that cannot be part of a key, or an address that the client library cannot use.
    pub fn open(address: &StoreAddress, config: QueuesConfig) -> Result<Self, QueueError> {
        names::check_prefix(&config.prefix)?;
        let store = Store::open(address, config.lanes)?;
        Ok(Self {
            shared: Arc::new(Shared {
                directory: Directory::new(&config.prefix),
                manager: Manager::new(address, &config.prefix),
                handles: RwLock::default(),
                prefix: config.prefix,
                store,
            }),
        })
    }

    /// First part of every key.
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// Asks the store for a sign of life.
    pub async fn ping(&self) -> Result<(), QueueError> {
        Ok(redis::cmd("PING").query_async::<()>(&mut self.store().lane()).await?)
    }

    /// Whether the store answered when it was last asked, at most a second or so ago.
    pub fn store_is_up(&self) -> bool {
        self.store().is_up()
    }

    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn handle(&self, queue: &str) -> Result<QueueHandle, QueueError> {
        if let Some(handle) = self.shared.handles.read().get(queue) {
            return Ok(handle.clone());
        }
        names::check_queue_name(queue)?;
        let handle = QueueHandle { keys: Arc::new(Keys::new(self.prefix(), queue)), known: Arc::default() };
        let mut handles = self.shared.handles.write();
        if handles.len() >= HANDLES_MAX {
            handles.clear();
        }
        handles.insert(queue.into(), handle.clone());
        Ok(handle)
    }
}
