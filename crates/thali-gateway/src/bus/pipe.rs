//! Small commands to the store, many in one write.
//!
//! Owns: one queue in front of one connection. Commands leave in the order they came, as many
//! together as are waiting, so a burst of publishes costs one round trip. Refuses: to grow past its
//! bounds; a caller that finds it full is told at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::aio::ConnectionManager;
use redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot};

use crate::codes::{ErrorCode, RequestError};

/// Commands that may wait.
const QUEUED_MAX: usize = 65_536;
/// Bytes of waiting commands.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Commands in one write.
const BATCH_MAX: usize = 512;

/// Why a command has no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PipeError {
    /// Too much is waiting.
    #[error("more is waiting for the store than this node may hold; try again")]
    Busy,
    /// The store is away, or refused.
    #[error("the store does not answer: {0}")]
    Store(String),
}

impl From<PipeError> for RequestError {
    fn from(error: PipeError) -> Self {
        let code = match error {
            PipeError::Busy => ErrorCode::BUSY,
            PipeError::Store(_) => ErrorCode::STORE_UNAVAILABLE,
        };
        Self::new(code, error.to_string())
    }
}

struct Entry {
    command: Cmd,
    bytes: usize,
    answer: Option<oneshot::Sender<Result<Value, PipeError>>>,
}

/// The handle; cheap to clone. The pipe ends with its last handle.
#[derive(Clone, Debug)]
pub struct Pipe {
    queue: mpsc::Sender<Entry>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Pipe {
    /// Starts the pipe over a connection.
    pub fn start(connection: ConnectionManager) -> Self {
        let (queue, inbox) = mpsc::channel(QUEUED_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(run(connection, inbox, queued_bytes.clone()));
        Self { queue, queued_bytes }
    }

    /// Sends a command whose answer nobody needs. Failures are logged.
    pub fn send(&self, command: Cmd) -> Result<(), PipeError> {
        self.push(command, None)
    }

    /// Sends a command now, and gives a future of its answer.
    pub fn ask(
        &self,
        command: Cmd,
    ) -> Result<impl Future<Output = Result<Value, PipeError>> + Send + use<>, PipeError> {
        let (answer, heard) = oneshot::channel();
        self.push(command, Some(answer))?;
        Ok(async move {
            heard.await.unwrap_or_else(|_| Err(PipeError::Store("the connection was given up".into())))
        })
    }

    fn push(
        &self,
        command: Cmd,
        answer: Option<oneshot::Sender<Result<Value, PipeError>>>,
    ) -> Result<(), PipeError> {
        let bytes: usize = command
            .args_iter()
            .map(|arg| if let redis::Arg::Simple(data) = arg { data.len() } else { 0 })
            .sum();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(PipeError::Busy);
        }
        self.queue.try_send(Entry { command, bytes, answer }).map_err(|_| {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            PipeError::Busy
        })
    }
}

async fn run(
    mut connection: ConnectionManager,
    mut inbox: mpsc::Receiver<Entry>,
    queued_bytes: Arc<AtomicUsize>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for entry in batch.drain(..) {
            queued_bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
            pipeline.add_command(entry.command);
            answers.push(entry.answer);
        }
        let outcome = connection.send_packed_commands(&pipeline, 0, answers.len()).await;
        if let Err(error) = &outcome {
            tracing::debug!(%error, commands = answers.len(), "commands were lost on the way to the store");
        }
        let mut values = outcome.map(Vec::into_iter);
        for answer in answers {
            let result = match &mut values {
                Ok(values) => values
                    .next()
                    .ok_or_else(|| PipeError::Store("an answer is missing".into()))
                    .and_then(|value| value.extract_error().map_err(|e| PipeError::Store(e.to_string()))),
                Err(error) => Err(PipeError::Store(error.to_string())),
            };
            match answer {
                Some(answer) => drop(answer.send(result)),
                None => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a command failed");
                    }
                }
            }
        }
    }
}
