//! What can go wrong with a queue, told apart by who can do something about it.

use std::fmt;

/// Why an operation on a queue failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The caller's own words are wrong; nothing was sent to the store.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    #[error("there is no queue '{queue}'")]
    NoSuchQueue { queue: String },
    #[error("queue '{queue}' has no job '{id}'")]
    NoSuchJob { queue: String, id: String },
    /// The job is in a state from which the operation is impossible.
    #[error("job '{id}' is {state}; this needs a job that is {wanted}")]
    NotInState { id: String, state: &'static str, wanted: &'static str },
    #[error("job '{id}', or a job below it, is being worked on")]
    Locked { id: String },
    #[error("job '{id}' belongs to a job scheduler; remove the scheduler instead")]
    OwnedByScheduler { id: String },
    #[error("the parent job '{parent}' does not exist")]
    NoSuchParent { parent: String },
    #[error("the job already has another parent")]
    HasOtherParent,
    /// Some jobs of a batch were added and some were not.
    #[error("{failed} of {} jobs were not added; the first of them is number {first}: {reason}", ids.len())]
    PartlyAdded { ids: Vec<Option<String>>, failed: usize, first: usize, reason: Box<QueueError> },
    /// The store cannot be reached, does not answer in time or is still loading. Temporary. Where the
    /// connection broke while a command was under way, the command may have been carried out.
    #[error("the store cannot be reached: {0}")]
    StoreAway(String),
    /// The store takes no writes, as amid a failover: it is a replica, or lacks its own. Temporary; nothing
    /// was done.
    #[error("the store takes no writes now: {0}")]
    StoreNotNow(String),
    /// The store answered that it will not do this: out of memory, no permission.
    #[error("the store refused: {0}")]
    StoreRefused(String),
    /// The store answered something that BullMQ's scripts never answer.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

impl QueueError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::StoreAway(_) | Self::StoreNotNow(_) | Self::Locked { .. } => true,
            Self::PartlyAdded { reason, .. } => reason.is_temporary(),
            _ => false,
        }
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The text is not JSON.
    Malformed,
    /// Nobody knows a field of that name.
    Unknown,
    /// A required field is absent.
    Missing,
    /// A string where a number belongs, and the like.
    WrongType,
    /// The right type, but a value that BullMQ or this program does not take.
    Invalid,
}

/// A fault in a request, with the path of the field that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `opts.backoff.delay`, `[3].opts.delay` in a batch, empty for the request as a whole.
    pub field: String,
    pub fault: Fault,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, fault: Fault, message: impl Into<String>) -> Self {
        Self { field: field.into(), fault, message: message.into() }
    }

    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(field, Fault::Invalid, message)
    }

    /// The same fault, seen from the batch that holds the job.
    pub(crate) fn within(mut self, index: usize) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        self.field = format!("[{index}]{dot}{}", self.field);
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for FieldError {}

impl From<redis::RedisError> for QueueError {
    fn from(error: redis::RedisError) -> Self {
        use redis::{ErrorKind, ServerErrorKind};
        let away = error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_connection_refusal()
            || matches!(
                error.kind(),
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                        | ServerErrorKind::TryAgain
                        | ServerErrorKind::ClusterDown
                        | ServerErrorKind::MasterDown
                )
            );
        let no_writes = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
            || error.code() == Some("NOREPLICAS");
        if away {
            Self::StoreAway(error.to_string())
        } else if no_writes {
            Self::StoreNotNow(error.to_string())
        } else if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::AuthenticationFailed)
            || error.code().is_some()
        {
            Self::StoreRefused(error.to_string())
        } else {
            Self::Unexpected(error.to_string())
        }
    }
}

impl From<bullmq::Error> for QueueError {
    fn from(error: bullmq::Error) -> Self {
        match error {
            bullmq::Error::Redis(error) => error.into(),
            bullmq::Error::ConnectionClosed => Self::StoreAway(error.to_string()),
            other => Self::Unexpected(other.to_string()),
        }
    }
}
