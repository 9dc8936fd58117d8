//! Queues as a whole: listing, counting, pausing, cleaning.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thali_jobs::queue::{JobState, QueueView, read_object, whole};

use super::ENVELOPE_BYTES_MAX;
use super::faults::{BadBody, NotThere};
use super::paths::QueuePath;
use crate::ApiState;
use crate::extract::{ApiPath, must_be_json, read_body};
use crate::problem::Failure;

/// Jobs that are cleaned away where the request names no number.
const CLEAN_LIMIT_DEFAULT: u64 = 1000;

/// All queues.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct QueueList {
    queues: Vec<QueueView>,
    /// Whether all of the store's keys have been looked at; if not, later answers may list more.
    complete: bool,
}

/// A queue after it was paused or resumed.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Paused {
    paused: bool,
}

/// The states that can be cleaned: all but waiting for children.
#[derive(Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CleanState {
    Waiting,
    Prioritized,
    Delayed,
    Active,
    Completed,
    Failed,
}

impl From<CleanState> for JobState {
    fn from(state: CleanState) -> Self {
        match state {
            CleanState::Waiting => Self::Waiting,
            CleanState::Prioritized => Self::Prioritized,
            CleanState::Delayed => Self::Delayed,
            CleanState::Active => Self::Active,
            CleanState::Completed => Self::Completed,
            CleanState::Failed => Self::Failed,
        }
    }
}

/// Which jobs to clean away.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clean {
    /// Jobs in this state; `completed` if absent.
    state: Option<CleanState>,
    /// Only jobs that are older, in milliseconds; 0 if absent.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<u64>, maximum = 316224000000u64)]
    grace: Option<u64>,
    /// At most so many; 1000 if absent.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 10000)]
    limit: Option<u64>,
}

/// What was cleaned away.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Cleaned {
    ids: Vec<String>,
}

/// What to drain.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain {
    /// The delayed jobs, too; false if absent.
    delayed: Option<bool>,
}

/// A queue after it was drained.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Drained {
    queue: String,
}

/// All queues with their counts.
#[utoipa::path(get, path = "/api/queues", tag = "queues",
    responses((status = OK, description = "the queues", body = QueueList)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<QueueList>, Failure> {
    let names = state.queues().names().await?;
    let depths = state.queues().depths(&names.names).await?;
    let queues = depths.into_iter().map(|depth| depth.queue).collect();
    Ok(Json(QueueList { queues, complete: names.complete }))
}

/// One queue with its counts.
#[utoipa::path(get, path = "/api/queues/{queue}", tag = "queues", params(QueuePath),
    responses((status = OK, description = "the queue", body = QueueView), NotThere))]
pub(crate) async fn show(
    State(state): State<ApiState>,
    ApiPath(QueuePath { queue }): ApiPath<QueuePath>,
) -> Result<Json<QueueView>, Failure> {
    Ok(Json(state.queues().queue(&queue).await?))
}

/// Let workers take no further job.
#[utoipa::path(post, path = "/api/queues/{queue}/pause", tag = "queues", params(QueuePath),
    responses((status = OK, description = "paused", body = Paused), NotThere))]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    ApiPath(QueuePath { queue }): ApiPath<QueuePath>,
) -> Result<Json<Paused>, Failure> {
    state.queues().pause(&queue).await?;
    Ok(Json(Paused { paused: true }))
}

/// Let workers go on.
#[utoipa::path(post, path = "/api/queues/{queue}/resume", tag = "queues", params(QueuePath),
    responses((status = OK, description = "resumed", body = Paused), NotThere))]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    ApiPath(QueuePath { queue }): ApiPath<QueuePath>,
) -> Result<Json<Paused>, Failure> {
    state.queues().resume(&queue).await?;
    Ok(Json(Paused { paused: false }))
}

/// Remove old jobs in one state, oldest first.
#[utoipa::path(post, path = "/api/queues/{queue}/clean", tag = "queues", params(QueuePath),
    request_body = Option<Clean>,
    responses((status = OK, description = "what was removed", body = Cleaned), NotThere, BadBody))]
pub(crate) async fn clean(
    State(state): State<ApiState>,
    ApiPath(QueuePath { queue }): ApiPath<QueuePath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Cleaned>, Failure> {
    let clean: Clean = options(&state, &headers, body).await?;
    let job_state = clean.state.unwrap_or(CleanState::Completed).into();
    let (grace_ms, limit) = (clean.grace.unwrap_or(0), clean.limit.unwrap_or(CLEAN_LIMIT_DEFAULT));
    let ids = state.queues().clean(&queue, job_state, grace_ms, limit).await?;
    Ok(Json(Cleaned { ids }))
}

/// Remove all jobs that wait or have a priority.
#[utoipa::path(post, path = "/api/queues/{queue}/drain", tag = "queues", params(QueuePath),
    request_body = Option<Drain>,
    responses((status = OK, description = "drained", body = Drained), NotThere, BadBody))]
pub(crate) async fn drain(
    State(state): State<ApiState>,
    ApiPath(QueuePath { queue }): ApiPath<QueuePath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Drained>, Failure> {
    let drain: Drain = options(&state, &headers, body).await?;
    state.queues().drain(&queue, drain.delayed.unwrap_or(false)).await?;
    Ok(Json(Drained { queue }))
}

/// A body that may be absent or null; then every field has its default.
async fn options<T: DeserializeOwned + Default>(
    state: &ApiState,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Failure> {
    let body = read_body(state, body, ENVELOPE_BYTES_MAX).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    must_be_json(headers)?;
    if body.trim_ascii() == b"null" {
        return Ok(T::default());
    }
    Ok(read_object(&body)?)
}
