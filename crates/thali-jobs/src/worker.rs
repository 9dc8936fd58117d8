//! A worker: takes jobs of one queue and hands each to an async function of this process.
//!
//! It stands on the official crate's `Worker` (same scripts, so Node's BullMQ workers may share the
//! queue) and adds what that one leaves to its user:
//!
//! - a panic of the handler fails the job, instead of leaving it active for ever;
//! - a result is not handed to a store that is away: it is held until the store answers again, so
//!   that an outage does not run jobs twice;
//! - a worker that has stopped fetching although the store answers is replaced by a new one;
//! - draining gives unfinished jobs back to the queue, and wakes another worker for them.
//!
//! Delivery is at least once: a job whose worker dies comes back after its lock has expired.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bullmq::worker::WorkerEvent;
use bullmq::{QueueKeys, WorkerOptions};
use redis::AsyncCommands;
use serde_json::Value;
use thali_client::{ReachError, StoreAddress};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

pub use bullmq::Job;
pub use bullmq::worker::CancellationToken;

/// How often the store is asked whether it is there, and how long it may take to answer.
const PROBE_EVERY: Duration = Duration::from_millis(250);
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// How long a fetch may stay silent although the store answers, before the worker is replaced. An
/// idle worker makes itself heard every `IDLE_POLL_S`; blocked reads have 10 s of grace in the crate.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// An idle worker looks again after this long even if nobody wakes it.
const IDLE_POLL_S: u64 = 1;
const FETCH_RETRY_MS: u64 = 200;

/// How a worker works. Durations in milliseconds, as in BullMQ.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub queue: String,
    pub prefix: String,
    /// Shown by `Queue.getWorkers()`.
    pub name: Option<String>,
    /// Jobs at the same time.
    pub concurrency: usize,
    /// A job whose worker died comes back at most `lock_ms + stalled_interval_ms` later.
    pub lock_ms: u64,
    pub stalled_interval_ms: u64,
    /// How often a job may come back that way before it fails.
    pub stalled_max: u32,
}

impl WorkerConfig {
    pub fn new(queue: impl Into<String>, concurrency: usize) -> Self {
        Self {
            queue: queue.into(),
            prefix: "bull".into(),
            name: None,
            concurrency,
            lock_ms: 15_000,
            stalled_interval_ms: 5_000,
            stalled_max: 3,
        }
    }
}

/// Why a handler did not finish its job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Failed; tried again as often as the job's `attempts` say.
    #[error("{0}")]
    Failed(String),
    /// Failed, and trying again is no use.
    #[error("{0}")]
    Unrecoverable(String),
    /// Not failed, only unfinished: back to the queue, with no attempt counted.
    #[error("given back")]
    GiveBack,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Unreachable(#[from] ReachError),
    #[error("the worker cannot start: {0}")]
    Start(#[from] bullmq::Error),
}

/// Running until it is drained or dropped.
pub struct Worker {
    shared: Arc<Shared>,
    supervisor: JoinHandle<()>,
    probe: JoinHandle<()>,
}

struct Shared {
    store: StoreAddress,
    config: WorkerConfig,
    current: tokio::sync::RwLock<Arc<bullmq::Worker>>,
    quiet: AtomicBool,
    /// Milliseconds since `born` at which the current worker last made itself heard.
    heard_ms: AtomicU64,
    born: Instant,
    available: watch::Receiver<bool>,
    processor: bullmq::worker::ProcessorFn,
}

impl Worker {
    /// Starts fetching at once. Each job runs on a task of its own.
    pub async fn start<H, F>(
        store: &StoreAddress,
        config: WorkerConfig,
        handler: H,
    ) -> Result<Self, WorkerError>
    where
        H: Fn(Job, CancellationToken) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, JobError>> + Send + 'static,
    {
        store.reach().await?;
        let (up, available) = watch::channel(true);
        let processor = processor(handler, available.clone());
        let worker = Arc::new(connect(store, &config, processor.clone()).await?);
        let shared = Arc::new(Shared {
            store: store.clone(),
            config,
            current: tokio::sync::RwLock::new(worker.clone()),
            quiet: AtomicBool::new(false),
            heard_ms: AtomicU64::new(0),
            born: Instant::now(),
            available,
            processor,
        });
        let probe = tokio::spawn(probe(store.clone(), up));
        let supervisor = tokio::spawn(supervise(shared.clone(), worker));
        Ok(Self { shared, supervisor, probe })
    }

    /// Takes no further jobs; those that run go on.
    pub async fn quiet(&self) {
        self.shared.quiet.store(true, Ordering::Release);
        self.shared.current.read().await.pause();
    }

    /// Jobs that run now.
    pub async fn active(&self) -> usize {
        self.shared.current.read().await.active_count().await
    }

    /// Takes no further jobs, waits up to `grace` for those that run, then cancels them; a handler that
    /// answers its cancellation with [`JobError::GiveBack`] returns its job to the queue. Returns how
    /// many jobs were cancelled.
    pub async fn drain(self, grace: Duration) -> usize {
        self.drain_until(tokio::time::sleep(grace)).await
    }

    /// As `drain`, with the grace time over when `hurry` is ready.
    pub async fn drain_until(self, hurry: impl Future<Output = ()>) -> usize {
        /// For handlers to notice their cancellation and for the store to be told.
        const LAST_MOMENT: Duration = Duration::from_secs(5);
        self.quiet().await;
        self.supervisor.abort();
        let worker = self.shared.current.read().await.clone();
        let idle = async {
            while worker.active_count().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = idle => {}
            () = hurry => {}
        }
        let left = worker.active_count().await;
        if left > 0 {
            warn!(left, "grace time is over, cancelling jobs");
            worker.cancel_all_jobs().await;
        }
        if let Err(error) = worker.close(LAST_MOMENT.as_millis() as u64).await {
            warn!(%error, "closing the worker");
        }
        self.probe.abort();
        wake_another(&self.shared).await;
        left
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.probe.abort();
    }
}

async fn connect(
    store: &StoreAddress,
    config: &WorkerConfig,
    processor: bullmq::worker::ProcessorFn,
) -> Result<bullmq::Worker, bullmq::Error> {
    let options = WorkerOptions {
        connection: crate::connection::options(store),
        prefix: config.prefix.clone(),
        name: config.name.clone(),
        concurrency: config.concurrency,
        lock_duration: config.lock_ms,
        max_stalled_count: config.stalled_max,
        stalled_interval: config.stalled_interval_ms,
        drain_delay: IDLE_POLL_S,
        run_retry_delay: FETCH_RETRY_MS,
        ..WorkerOptions::default()
    };
    bullmq::Worker::with_options(&config.queue, processor, options).await
}

/// Wraps a handler so that a panic fails the job and a result waits for the store to be there.
fn processor<H, F>(handler: H, available: watch::Receiver<bool>) -> bullmq::worker::ProcessorFn
where
    H: Fn(Job, CancellationToken) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, JobError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |job, cancelled| {
        let (handler, mut available) = (handler.clone(), available.clone());
        Box::pin(async move {
            let task = tokio::spawn(async move { handler(job, cancelled).await });
            let result = task
                .await
                .unwrap_or_else(|error| Err(JobError::Failed(format!("the handler broke: {error}"))));
            // Closed only while the whole worker ends.
            let _ = available.wait_for(|there| *there).await;
            result.map_err(|error| match error {
                JobError::Failed(reason) => bullmq::Error::ProcessingError(reason),
                JobError::Unrecoverable(reason) => bullmq::Error::Unrecoverable(reason),
                // The crate's way of moving an active job back to waiting.
                JobError::GiveBack => bullmq::Error::RateLimited { delay_ms: 0 },
            })
        })
    })
}

/// Asks the store over and over whether it is there.
async fn probe(store: StoreAddress, up: watch::Sender<bool>) {
    let mut connection = None;
    loop {
        if connection.is_none() {
            let dialled =
                tokio::time::timeout(PROBE_PATIENCE, store.client().get_multiplexed_async_connection()).await;
            connection = dialled.ok().and_then(Result::ok);
        }
        let answered = match &mut connection {
            Some(connection) => {
                let ping = redis::cmd("PING");
                let answer = tokio::time::timeout(PROBE_PATIENCE, ping.exec_async(connection)).await;
                // A store that is still loading its data answers, but with an error.
                matches!(answer, Ok(Ok(())))
            }
            None => false,
        };
        if !answered {
            connection = None;
        }
        let changed = up.send_if_modified(|there| std::mem::replace(there, answered) != answered);
        match (changed, answered) {
            (true, true) => info!("the store answers again"),
            (true, false) => warn!("the store does not answer; results are held until it does"),
            (false, _) => {}
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Drains the crate's event channel, which has no bound, and notes that the worker lives.
async fn listen(shared: Arc<Shared>, worker: Arc<bullmq::Worker>) {
    let mut told = String::new();
    while let Some(event) = worker.next_event().await {
        if !Arc::ptr_eq(&*shared.current.read().await, &worker) {
            continue;
        }
        match event {
            WorkerEvent::Closed => return,
            // Made by other tasks than the fetching one.
            WorkerEvent::Progress { .. } | WorkerEvent::Stalled { .. } => continue,
            // A store that refuses does so several times a second; each reason is told once in a row.
            WorkerEvent::Error(error) if error != told => {
                warn!(queue = shared.config.queue, error, "worker");
                told = error;
            }
            WorkerEvent::Error(_) => {}
            _ => told.clear(),
        }
        shared.heard_ms.store(shared.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// Listens to the worker, and replaces it when it has gone silent although the store answers.
async fn supervise(shared: Arc<Shared>, worker: Arc<bullmq::Worker>) {
    // Owned here, so that nobody holds a worker any more once this task is gone.
    let mut listeners = JoinSet::new();
    listeners.spawn(listen(shared.clone(), worker));
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let worker = shared.current.read().await.clone();
        let busy = worker.active_count().await >= shared.config.concurrency;
        let now_ms = shared.born.elapsed().as_millis() as u64;
        let silent_ms = now_ms.saturating_sub(shared.heard_ms.load(Ordering::Relaxed));
        if busy || !*shared.available.borrow() || shared.quiet.load(Ordering::Acquire) {
            shared.heard_ms.store(now_ms, Ordering::Relaxed);
            continue;
        }
        if silent_ms < SILENCE_MAX.as_millis() as u64 {
            continue;
        }
        warn!(queue = shared.config.queue, silent_ms, "the worker stopped fetching, starting a new one");
        match connect(&shared.store, &shared.config, shared.processor.clone()).await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *shared.current.write().await = fresh.clone();
                listeners.spawn(listen(shared.clone(), fresh));
                // Its running jobs may end by themselves; their locks are renewed meanwhile.
                tokio::spawn(async move { worker.close(u32::MAX.into()).await });
            }
            Err(error) => warn!(%error, "no new worker yet"),
        }
        shared.heard_ms.store(shared.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// The marker that wakes a waiting worker may have been taken by the one that is ending.
async fn wake_another(shared: &Shared) {
    let marker = QueueKeys::new(&shared.config.queue, Some(&shared.config.prefix)).marker();
    let wake = async {
        let mut connection = shared.store.client().get_multiplexed_async_connection().await?;
        connection.zadd::<_, _, _, ()>(marker, "0", 0).await
    };
    if !matches!(tokio::time::timeout(PROBE_PATIENCE, wake).await, Ok(Ok(()))) {
        warn!("other workers were not woken; they look by themselves within seconds");
    }
}
