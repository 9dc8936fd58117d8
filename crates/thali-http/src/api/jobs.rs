//! Jobs: adding, looking, retrying, promoting, removing.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use thali_jobs::queue::{JobOptions, JobState, JobView, LogPage, NewJob, NewJobs, Order, Page, QueueError};

use super::faults::{BadBody, BadQuery, Conflict, NotThere};
use super::paths::{JobPath, QueuePath};
use crate::ApiState;
use crate::extract::{ApiPath, Query, must_be_json, read_body};
use crate::problem::{Code, Failure, Problem};

/// Entries of a page where the request names no end.
const PAGE_DEFAULT: u64 = 50;
/// What may stand in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One job to add.
#[derive(utoipa::ToSchema)]
#[schema(as = NewJob)]
#[expect(dead_code, reason = "describes what NewJobs::parse reads")]
#[serde(deny_unknown_fields)]
pub(crate) struct NewJobSchema {
    /// What kind of job it is.
    #[schema(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    name: String,
    /// Whatever the worker needs; `{}` if absent.
    data: Option<Value>,
    opts: Option<JobOptions>,
}

/// One job or several.
#[derive(utoipa::ToSchema)]
#[schema(as = NewJobs)]
#[expect(dead_code, clippy::large_enum_variant, reason = "describes what NewJobs::parse reads")]
#[serde(untagged)]
pub(crate) enum NewJobsSchema {
    One(NewJobSchema),
    /// From 1 to 10,000.
    Many(Vec<NewJobSchema>),
}

/// What was added: `id` for one job, `ids` in order for an array.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(crate) enum Added {
    One { id: String },
    Many { ids: Vec<String> },
}

/// The job that was meant.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct JobId {
    id: String,
}

/// Add one job or an array of jobs.
///
/// A job whose `opts.jobId` exists already, or that is a copy in the sense of `opts.deduplication`, is not
/// added again; the answer holds the id of the job that is there. Up to 500 jobs of an array are added as
/// one transaction.
#[utoipa::path(post, path = "/api/queues/{queue}/jobs", tag = "jobs",
    params(QueuePath),
    request_body = NewJobsSchema,
    responses(
        (status = CREATED, description = "added", body = Added,
            headers(("Location" = String, description = "where the job, or the queue of an array, is"))),
        BadBody,
        (status = CONFLICT, description = "a parent does not exist, or a batch was added in part", body = Problem,
            content_type = "application/problem+json"),
    ))]
pub(crate) async fn add(
    State(state): State<ApiState>,
    ApiPath(QueuePath { queue }): ApiPath<QueuePath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let limits = state.limits();
    must_be_json(&headers)?;
    let body = read_body(&state, body, limits.batch_bytes_max).await?;
    let jobs = NewJobs::parse(&body, limits.batch_jobs_max)?;
    let check_size = |job: &NewJob<'_>, index: Option<usize>| {
        let bytes = job.data_text().len();
        if bytes <= limits.job_bytes_max {
            return Ok(());
        }
        let field = index.map_or("data".to_owned(), |index| format!("[{index}].data"));
        let detail = format!("{bytes} bytes of data; a job may have {}", limits.job_bytes_max);
        Err(Failure::new(Code::TOO_LARGE, detail).with_field(field))
    };
    let (added, location) = match jobs {
        NewJobs::One(job) => {
            check_size(&job, None)?;
            let id = state.queues().add(&queue, &job).await?;
            let location = format!("/api/queues/{}/jobs/{}", segment(&queue), segment(&id));
            state.metrics().note_added(1);
            (Added::One { id }, location)
        }
        NewJobs::Many(jobs) => {
            jobs.iter().enumerate().try_for_each(|(index, job)| check_size(job, Some(index)))?;
            let ids = state.queues().add_many(&queue, &jobs).await?;
            state.metrics().note_added(ids.len() as u64);
            (Added::Many { ids }, format!("/api/queues/{}", segment(&queue)))
        }
    };
    let location = HeaderValue::try_from(location).expect("percent-encoding leaves visible ASCII");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(added)).into_response())
}

/// A page of the jobs in one state.
#[utoipa::path(get, path = "/api/queues/{queue}/jobs", tag = "jobs",
    params(QueuePath,
        ("state" = Option<JobState>, Query, description = "`waiting` if absent"),
        ("start" = Option<u64>, Query, description = "first place, counted from 0", maximum = 4294967295u64),
        ("end" = Option<u64>, Query, description = "last place, included; 50 jobs if absent, 1000 jobs at most",
            maximum = 4294967295u64),
        ("order" = Option<Order>, Query, description = "`desc`, newest first, if absent")),
    responses((status = OK, description = "the page", body = Page), BadQuery, NotThere))]
pub(crate) async fn page(
    State(state): State<ApiState>,
    ApiPath(QueuePath { queue }): ApiPath<QueuePath>,
    uri: Uri,
) -> Result<Json<Page>, Failure> {
    let mut query = Query::of(&uri);
    let job_state = query.take("state", JobState::NAMES)?.unwrap_or(JobState::Waiting);
    let order = query.take("order", "asc or desc")?.unwrap_or(Order::Desc);
    let (start, end) = range(&mut query)?;
    query.finish()?;
    let page = state.queues().jobs(&queue, job_state, start, end, order).await.map_err(from_query)?;
    Ok(Json(page))
}

/// One job with everything that is known about it.
#[utoipa::path(get, path = "/api/queues/{queue}/jobs/{id}", tag = "jobs", params(JobPath),
    responses((status = OK, description = "the job", body = JobView), NotThere))]
pub(crate) async fn show(
    State(state): State<ApiState>,
    ApiPath(JobPath { queue, id }): ApiPath<JobPath>,
) -> Result<Json<JobView>, Failure> {
    Ok(Json(state.queues().job(&queue, &id).await?))
}

/// Remove a job and the jobs below it, unless one of them is being worked on.
#[utoipa::path(delete, path = "/api/queues/{queue}/jobs/{id}", tag = "jobs", params(JobPath),
    responses((status = NO_CONTENT, description = "removed"), NotThere, Conflict))]
pub(crate) async fn remove(
    State(state): State<ApiState>,
    ApiPath(JobPath { queue, id }): ApiPath<JobPath>,
) -> Result<StatusCode, Failure> {
    state.queues().remove(&queue, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page of a job's log, oldest line first.
#[utoipa::path(get, path = "/api/queues/{queue}/jobs/{id}/logs", tag = "jobs",
    params(JobPath,
        ("start" = Option<u64>, Query, description = "first line, counted from 0", maximum = 4294967295u64),
        ("end" = Option<u64>, Query, description = "last line, included; 50 lines if absent, 1000 at most",
            maximum = 4294967295u64)),
    responses((status = OK, description = "the lines", body = LogPage), BadQuery, NotThere))]
pub(crate) async fn logs(
    State(state): State<ApiState>,
    ApiPath(JobPath { queue, id }): ApiPath<JobPath>,
    uri: Uri,
) -> Result<Json<LogPage>, Failure> {
    let mut query = Query::of(&uri);
    let (start, end) = range(&mut query)?;
    query.finish()?;
    Ok(Json(state.queues().logs(&queue, &id, start, end).await.map_err(from_query)?))
}

/// Put a completed or failed job back to work.
#[utoipa::path(post, path = "/api/queues/{queue}/jobs/{id}/retry", tag = "jobs", params(JobPath),
    responses((status = OK, description = "waiting again", body = JobId), NotThere, Conflict))]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    ApiPath(JobPath { queue, id }): ApiPath<JobPath>,
) -> Result<Json<JobId>, Failure> {
    state.queues().retry(&queue, &id).await?;
    Ok(Json(JobId { id }))
}

/// Make a delayed job ready at once.
#[utoipa::path(post, path = "/api/queues/{queue}/jobs/{id}/promote", tag = "jobs", params(JobPath),
    responses((status = OK, description = "waiting", body = JobId), NotThere, Conflict))]
pub(crate) async fn promote(
    State(state): State<ApiState>,
    ApiPath(JobPath { queue, id }): ApiPath<JobPath>,
) -> Result<Json<JobId>, Failure> {
    state.queues().promote(&queue, &id).await?;
    Ok(Json(JobId { id }))
}

fn range(query: &mut Query<'_>) -> Result<(u64, u64), Failure> {
    const EXPECTED: &str = "a whole number of 0 or more";
    let start = query.take("start", EXPECTED)?.unwrap_or(0u64);
    let end = query.take("end", EXPECTED)?.unwrap_or(start.saturating_add(PAGE_DEFAULT - 1));
    Ok((start, end))
}

/// Where the request is a query string, a bad value is the query's fault.
fn from_query(error: QueueError) -> Failure {
    match error {
        QueueError::Invalid(error) => Failure::query(error),
        other => other.into(),
    }
}

fn segment(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}
