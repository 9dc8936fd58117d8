//! Managing jobs and queues, through the official crate.
//!
//! Its connection is one for all queues and is opened when first needed. The crate dials again by
//! itself, but only after a command has failed, and with pauses of up to five seconds; so after any
//! failure of the store its connection is dropped here and the operation tried once more on a new one.
//! All operations bear that: done twice, they have the effect of once.

use bullmq::options::RedisConnectionOptions;
use bullmq::redis_connection::RedisConnection;
use bullmq::{Queue, QueueOptions};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use thali_client::StoreAddress;
use tokio::sync::Mutex;

use super::Queues;
use super::error::{FieldError, QueueError};
use super::job::JobView;
use super::options::{DELAY_MAX_MS, JobState};

/// Most jobs that one call of [`Queues::clean`] removes.
pub const CLEAN_JOBS_MAX: u64 = 10_000;
/// How long one try may take, dialling included.
const WAIT_MAX: Duration = Duration::from_secs(10);
const TRIES_MAX: u32 = 2;
/// Queues that are kept open at the crate.
const OPEN_MAX: usize = 256;
/// BullMQ's code for a job that belongs to a scheduler.
const OWNED_BY_SCHEDULER: i64 = -8;
/// BullMQ's codes for a job that is gone, or elsewhere by now.
const GONE: i64 = -1;
const ELSEWHERE: i64 = -3;

pub(crate) struct Manager {
    connection: RedisConnectionOptions,
    prefix: String,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connection: Option<RedisConnection>,
    queues: HashMap<String, Queue>,
}

impl Manager {
    pub(crate) fn new(address: &StoreAddress, prefix: &str) -> Self {
        Self {
            connection: crate::connection::options(address),
            prefix: prefix.to_owned(),
            open: Mutex::default(),
        }
    }

    async fn queue(&self, name: &str) -> Result<Queue, bullmq::Error> {
        let mut open = self.open.lock().await;
        if let Some(queue) = open.queues.get(name) {
            return Ok(queue.clone());
        }
        let connection = match &open.connection {
            Some(connection) => connection.clone(),
            None => {
                let connection = RedisConnection::new_managed_only(&self.connection).await?;
                open.connection.insert(connection).clone()
            }
        };
        let options = QueueOptions::new().prefix(&*self.prefix);
        let queue = Queue::with_connection(name, connection, options).await?;
        if open.queues.len() >= OPEN_MAX {
            open.queues.clear();
        }
        open.queues.insert(name.to_owned(), queue.clone());
        Ok(queue)
    }

    async fn run<T, F>(&self, name: &str, operation: impl Fn(Queue) -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, bullmq::Error>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let work = async { operation(self.queue(name).await?).await };
            let result = match tokio::time::timeout(WAIT_MAX, work).await {
                Ok(result) => result.map_err(QueueError::from),
                Err(_) => Err(QueueError::StoreAway(format!("no answer within {} s", WAIT_MAX.as_secs()))),
            };
            if !matches!(result, Err(QueueError::StoreAway(_))) {
                return result;
            }
            *self.open.lock().await = Open::default();
            if tries == TRIES_MAX {
                return result;
            }
        }
    }
}

impl Queues {
    /// Puts a finished job back to work.
    pub async fn retry(&self, queue: &str, id: &str) -> Result<(), QueueError> {
        let wanted = "completed or failed";
        let job = self.job(queue, id).await?;
        let state = match job.state {
            Some(JobState::Completed) => "completed",
            Some(JobState::Failed) => "failed",
            other => return Err(not_in_state(id, other, wanted)),
        };
        let result = self
            .shared
            .manager
            .run(queue, |queue| async move {
                match queue.get_job(id).await? {
                    Some(mut job) => job.retry(state, None).await,
                    None => Err(bullmq::Error::JobNotFound(id.to_owned())),
                }
            })
            .await;
        // The crate gives the script's code as text only, so the store is asked what became of the job.
        match result {
            Err(QueueError::Unexpected(reason)) => match self.job(queue, id).await?.state {
                Some(JobState::Completed | JobState::Failed) => Err(QueueError::Unexpected(reason)),
                state => Err(not_in_state(id, state, wanted)),
            },
            other => other,
        }
    }

    /// Makes a delayed job ready at once.
    pub async fn promote(&self, queue: &str, id: &str) -> Result<(), QueueError> {
        let job = self.job(queue, id).await?;
        if job.state != Some(JobState::Delayed) {
            return Err(not_in_state(id, job.state, "delayed"));
        }
        let result = self
            .shared
            .manager
            .run(queue, |queue| async move {
                match queue.get_job(id).await? {
                    Some(job) => match job.promote().await {
                        Err(bullmq::Error::Script { code: GONE | ELSEWHERE, .. }) => Ok(false),
                        other => other.map(|()| true),
                    },
                    None => Ok(false),
                }
            })
            .await?;
        if result { Ok(()) } else { Err(not_in_state(id, self.job(queue, id).await?.state, "delayed")) }
    }

    /// Removes a job and the jobs below it.
    pub async fn remove(&self, queue: &str, id: &str) -> Result<(), QueueError> {
        let _: JobView = self.job(queue, id).await?;
        let removed = self
            .shared
            .manager
            .run(queue, |queue| async move {
                match queue.remove(id).await {
                    Err(bullmq::Error::Script { code: OWNED_BY_SCHEDULER, .. }) => Ok(None),
                    other => other.map(Some),
                }
            })
            .await?;
        match removed {
            Some(true) => Ok(()),
            Some(false) => Err(QueueError::Locked { id: id.to_owned() }),
            None => Err(QueueError::OwnedByScheduler { id: id.to_owned() }),
        }
    }

    /// Workers take no further job from the queue; those under way go on.
    pub async fn pause(&self, queue: &str) -> Result<(), QueueError> {
        self.existing(queue).await?;
        self.shared.manager.run(queue, |queue| async move { queue.pause().await }).await
    }

    /// Workers go on taking jobs.
    pub async fn resume(&self, queue: &str) -> Result<(), QueueError> {
        self.existing(queue).await?;
        self.shared.manager.run(queue, |queue| async move { queue.resume().await }).await
    }

    /// Removes up to `limit` jobs in `state` that are older than `grace_ms`, and returns their ids.
    pub async fn clean(
        &self,
        queue: &str,
        state: JobState,
        grace_ms: u64,
        limit: u64,
    ) -> Result<Vec<String>, QueueError> {
        let limit = match u32::try_from(limit) {
            Ok(limit @ 1..) if u64::from(limit) <= CLEAN_JOBS_MAX => limit,
            _ => {
                return Err(
                    FieldError::invalid("limit", format!("must lie between 1 and {CLEAN_JOBS_MAX}")).into()
                );
            }
        };
        if grace_ms > DELAY_MAX_MS {
            return Err(FieldError::invalid("grace", format!("must be at most {DELAY_MAX_MS}")).into());
        }
        let set = match state {
            JobState::Completed => "completed",
            JobState::Failed => "failed",
            JobState::Delayed => "delayed",
            JobState::Prioritized => "prioritized",
            JobState::Waiting => "wait",
            JobState::Active => "active",
            JobState::WaitingChildren => {
                return Err(
                    FieldError::invalid("state", "jobs that wait for children cannot be cleaned").into()
                );
            }
        };
        self.existing(queue).await?;
        self.shared.manager.run(queue, |queue| async move { queue.clean(grace_ms, limit, set).await }).await
    }

    /// Removes all jobs that wait or have a priority, and on demand the delayed ones.
    pub async fn drain(&self, queue: &str, delayed: bool) -> Result<(), QueueError> {
        self.existing(queue).await?;
        self.shared.manager.run(queue, |queue| async move { queue.drain(delayed).await }).await
    }

    /// The crate would create a queue by opening it.
    async fn existing(&self, queue: &str) -> Result<(), QueueError> {
        let handle = self.handle(queue)?;
        self.must_exist(queue, &handle, &mut self.store().lane()).await
    }
}

fn not_in_state(id: &str, state: Option<JobState>, wanted: &'static str) -> QueueError {
    QueueError::NotInState { id: id.to_owned(), state: state.map_or("in no state", JobState::name), wanted }
}
