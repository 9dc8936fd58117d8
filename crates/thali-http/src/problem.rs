//! Every failure as RFC 9457 `application/problem+json`: a number and a name that stay, the field that is
//! at fault, and whether to try again.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use thali_jobs::queue::{Fault, FieldError, QueueError};

/// Seconds after which a client may ask again when the store is away.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// What went wrong. Numbers and names are part of the API: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub number: u16,
    pub name: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    pub retryable: bool,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $ident:ident = $number:literal $name:literal $status:ident $retryable:literal $title:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $ident: Self = Self {
                number: $number,
                name: $name,
                status: StatusCode::$status,
                title: $title,
                retryable: $retryable,
            };)*

            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$ident),*];
        }
    };
}

codes! {
    MALFORMED_JSON = 1001 "malformed-json" BAD_REQUEST false "The body is not JSON";
    UNKNOWN_FIELD = 1002 "unknown-field" UNPROCESSABLE_ENTITY false "There is no such field";
    MISSING_FIELD = 1003 "missing-field" UNPROCESSABLE_ENTITY false "A field is missing";
    WRONG_TYPE = 1004 "wrong-type" UNPROCESSABLE_ENTITY false "A field has the wrong type";
    INVALID_VALUE = 1005 "invalid-value" UNPROCESSABLE_ENTITY false "A field has a value that is not allowed";
    BAD_QUERY = 1006 "bad-query" BAD_REQUEST false "The query string is wrong";
    BAD_PATH = 1007 "bad-path" BAD_REQUEST false "The path names nothing that could exist";
    TOO_LARGE = 1008 "too-large" PAYLOAD_TOO_LARGE false "The body is too large";
    NOT_JSON = 1009 "not-json" UNSUPPORTED_MEDIA_TYPE false "The content type must be application/json";
    BODY_BROKEN = 1010 "body-broken" BAD_REQUEST true "The body ended before its time";
    NO_TOKEN = 2001 "no-token" UNAUTHORIZED false "This needs a bearer token";
    FOREIGN_ORIGIN = 2002 "foreign-origin" FORBIDDEN false "Pages of other origins may not do this";
    NO_ROUTE = 3001 "no-route" NOT_FOUND false "There is nothing here";
    NO_QUEUE = 3002 "no-queue" NOT_FOUND false "There is no such queue";
    NO_JOB = 3003 "no-job" NOT_FOUND false "There is no such job";
    NO_METHOD = 3004 "no-method" METHOD_NOT_ALLOWED false "This method does nothing here";
    NOT_IN_STATE = 4001 "not-in-state" CONFLICT false "The job is in a state that does not allow this";
    LOCKED = 4002 "locked" CONFLICT true "The job is being worked on";
    OWNED_BY_SCHEDULER = 4003 "owned-by-scheduler" CONFLICT false "The job belongs to a job scheduler";
    NO_PARENT = 4004 "no-parent" CONFLICT false "The parent job does not exist";
    OTHER_PARENT = 4005 "other-parent" CONFLICT false "The job has another parent";
    PARTLY_ADDED = 4006 "partly-added" CONFLICT false "Some of the jobs were not added";
    STORE_AWAY = 5001 "store-away" SERVICE_UNAVAILABLE true "The store cannot be reached";
    STORE_REFUSED = 5002 "store-refused" SERVICE_UNAVAILABLE false "The store refused";
    NO_GATEWAY = 5003 "no-gateway" SERVICE_UNAVAILABLE false "No gateway runs here";
    INTERNAL = 5004 "internal" INTERNAL_SERVER_ERROR false "Something unexpected happened";
    STORE_NOT_NOW = 5005 "store-not-now" SERVICE_UNAVAILABLE true "The store takes no writes now";
    TOO_BUSY = 5006 "too-busy" SERVICE_UNAVAILABLE true "This node has more to do than it may hold";
}

/// A failure on its way to the client: a boxed [`Problem`], so that results stay small.
#[derive(Clone, Debug)]
pub struct Failure(Box<Problem>);

/// The body of a failure.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:thali:problem:` and the name.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: Cow<'static, str>,
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
    /// The stable number.
    pub code: u16,
    /// The stable name.
    pub name: Cow<'static, str>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The path of the field at fault, such as `opts.delay` or `[3].name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of a batch that was added in part: the ids in order, null for each job that is not in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<Option<String>>>,
}

impl Failure {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("urn:thali:problem:{}", code.name),
            title: code.title.into(),
            status: code.status.as_u16(),
            detail: detail.into(),
            code: code.number,
            name: code.name.into(),
            retryable: code.retryable,
            field: None,
            ids: None,
        }))
    }

    /// What the client will read.
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into()).filter(|field: &String| !field.is_empty());
        self
    }

    /// A fault in the query string, whatever its kind.
    pub(crate) fn query(error: FieldError) -> Self {
        Self::new(Code::BAD_QUERY, error.message).with_field(error.field)
    }
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        let code = match error.fault {
            Fault::Malformed => Code::MALFORMED_JSON,
            Fault::Unknown => Code::UNKNOWN_FIELD,
            Fault::Missing => Code::MISSING_FIELD,
            Fault::WrongType => Code::WRONG_TYPE,
            Fault::Invalid => Code::INVALID_VALUE,
        };
        Self::new(code, error.message).with_field(error.field)
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let detail = error.to_string();
        let code = match error {
            QueueError::Invalid(error) => return error.into(),
            QueueError::NoSuchQueue { .. } => Code::NO_QUEUE,
            QueueError::NoSuchJob { .. } => Code::NO_JOB,
            QueueError::NotInState { .. } => Code::NOT_IN_STATE,
            QueueError::Locked { .. } => Code::LOCKED,
            QueueError::OwnedByScheduler { .. } => Code::OWNED_BY_SCHEDULER,
            QueueError::NoSuchParent { .. } => {
                return Self::new(Code::NO_PARENT, detail).with_field("opts.parent");
            }
            QueueError::HasOtherParent => {
                return Self::new(Code::OTHER_PARENT, detail).with_field("opts.parent");
            }
            QueueError::PartlyAdded { ids, first, .. } => {
                let mut problem = Self::new(Code::PARTLY_ADDED, detail).with_field(format!("[{first}]"));
                problem.0.ids = Some(ids);
                return problem;
            }
            QueueError::StoreAway(_) => {
                let detail =
                    format!("{detail}; a job may have been added or not: repeat with opts.jobId set");
                return Self::new(Code::STORE_AWAY, detail);
            }
            QueueError::StoreNotNow(_) => Code::STORE_NOT_NOW,
            QueueError::StoreRefused(_) => Code::STORE_REFUSED,
            QueueError::Unexpected(_) => Code::INTERNAL,
        };
        Self::new(code, detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.0;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // The store's absence is told once by who watches it; a line for each request would be a flood.
            tracing::debug!(code = problem.code, name = %problem.name, detail = %problem.detail, "refused");
        } else if status.is_server_error() {
            tracing::warn!(code = problem.code, name = %problem.name, detail = %problem.detail, "request failed");
        }
        let body = serde_json::to_vec(&problem).expect("a problem prints as JSON");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_in_order() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number < pair[1].number));
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
