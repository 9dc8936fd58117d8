//! Looking at queues and jobs, with plain commands that change nothing.

use redis::{Pipeline, Value};
use serde::{Deserialize, Serialize};

use super::add::now_ms;
use super::error::{FieldError, QueueError};
use super::job::JobView;
use super::names::Keys;
use super::options::JobState;
use super::{QueueHandle, Queues};

/// Most jobs of one page.
pub const PAGE_JOBS_MAX: u64 = 1000;
/// Most lines of one page of a job's log.
pub const LOG_LINES_MAX: u64 = 1000;
/// Last place in a list that can be asked for: no list is longer.
pub const PLACE_MAX: u64 = u32::MAX as u64;
/// Queues asked about in one pipeline.
const DEPTH_QUEUES_A_PIPE: usize = 200;

/// How many jobs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    pub waiting: u64,
    pub active: u64,
    pub delayed: u64,
    pub prioritized: u64,
    pub waiting_children: u64,
    pub completed: u64,
    pub failed: u64,
}

/// A queue at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct QueueView {
    pub name: String,
    pub paused: bool,
    pub counts: Counts,
}

/// How much lies in a queue and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    pub queue: QueueView,
    /// Age of the oldest job that could be worked on now; of prioritised jobs, the next one counts.
    pub oldest_waiting_ms: Option<u64>,
}

/// The order of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Oldest, or next to be served, first.
    Asc,
    #[default]
    Desc,
}

impl std::str::FromStr for Order {
    type Err = FieldError;

    fn from_str(name: &str) -> Result<Self, FieldError> {
        match name {
            "asc" => Ok(Self::Asc),
            "desc" => Ok(Self::Desc),
            _ => Err(FieldError::invalid("order", "must be asc or desc")),
        }
    }
}

/// Part of the jobs in a state.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Page {
    pub state: JobState,
    pub order: Order,
    pub start: u64,
    pub end: u64,
    /// Jobs in this state, on all pages.
    pub total: u64,
    pub jobs: Vec<JobView>,
}

/// Part of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogPage {
    pub start: u64,
    pub end: u64,
    /// Lines in the store, on all pages.
    pub total: u64,
    pub lines: Vec<String>,
}

impl Queues {
    /// Counts by state.
    pub async fn queue(&self, queue: &str) -> Result<QueueView, QueueError> {
        let handle = self.handle(queue)?;
        let mut pipe = Pipeline::with_capacity(COUNT_COMMANDS);
        count_commands(&mut pipe, &handle.keys);
        let answers: Vec<Value> = pipe.query_async(&mut self.store().lane()).await?;
        read_counts(queue, &answers)?.ok_or_else(|| no_such_queue(queue))
    }

    /// Counts and ages of the given queues; those that are gone are left out.
    pub async fn depths(&self, queues: &[String]) -> Result<Vec<Depth>, QueueError> {
        let mut depths = Vec::with_capacity(queues.len());
        for names in queues.chunks(DEPTH_QUEUES_A_PIPE) {
            let handles = names.iter().map(|name| self.handle(name)).collect::<Result<Vec<_>, _>>()?;
            let mut pipe = Pipeline::new();
            for handle in &handles {
                depth_commands(&mut pipe, &handle.keys);
            }
            let mut lane = self.store().lane();
            let answers: Vec<Value> = pipe.query_async(&mut lane).await?;
            let mut heads = Vec::new();
            for ((name, handle), answers) in names.iter().zip(&handles).zip(answers.chunks(DEPTH_COMMANDS)) {
                let Some(queue) = read_counts(name, &answers[..COUNT_COMMANDS])? else { continue };
                for head in heads_of(&answers[COUNT_COMMANDS..]) {
                    heads.push((depths.len(), handle.keys.job(&head)));
                }
                depths.push(Depth { queue, oldest_waiting_ms: None });
            }
            if !heads.is_empty() {
                let mut pipe = Pipeline::with_capacity(heads.len());
                for (_, key) in &heads {
                    pipe.cmd("HMGET").arg(key).arg("timestamp").arg("opts");
                }
                let births: Vec<(Option<u64>, Option<String>)> = pipe.query_async(&mut lane).await?;
                let now_ms = now_ms();
                for ((index, _), (timestamp, opts)) in heads.into_iter().zip(births) {
                    let Some(timestamp) = timestamp else { continue };
                    let age = now_ms.saturating_sub(timestamp + opts.as_deref().map_or(0, delay_of));
                    let oldest = &mut depths[index].oldest_waiting_ms;
                    *oldest = Some(oldest.map_or(age, |oldest| oldest.max(age)));
                }
            }
        }
        Ok(depths)
    }

    /// One job with its state.
    pub async fn job(&self, queue: &str, id: &str) -> Result<JobView, QueueError> {
        let handle = self.handle(queue)?;
        let keys = &handle.keys;
        let mut pipe = Pipeline::with_capacity(10);
        // One moment for all: a job on its way from one state to the next is in one of them.
        pipe.atomic();
        pipe.hgetall(keys.job(id));
        for (_, key) in sorted_states(keys) {
            pipe.zscore(key, id);
        }
        for (_, key) in listed_states(keys) {
            pipe.cmd("LPOS").arg(key).arg(id);
        }
        let mut answers: Vec<Value> = pipe.query_async(&mut self.store().lane()).await?;
        let places = answers.split_off(1);
        let states = sorted_states(keys).into_iter().chain(listed_states(keys)).map(|(state, _)| state);
        let state =
            states.zip(places).find(|(_, place)| !matches!(place, Value::Nil)).map(|(state, _)| state);
        let fields = match answers.pop() {
            Some(fields) => redis::from_redis_value::<Vec<(String, Vec<u8>)>>(fields)
                .map_err(|error| QueueError::Unexpected(error.to_string()))?,
            None => Vec::new(),
        };
        JobView::from_hash(id, state, fields).ok_or_else(|| no_such_job(queue, id))
    }

    /// Jobs in a state from place `start` to place `end`, both counted from 0 and included; at most
    /// [`PAGE_JOBS_MAX`] of them, and none where `end` comes before `start`.
    pub async fn jobs(
        &self,
        queue: &str,
        state: JobState,
        start: u64,
        end: u64,
        order: Order,
    ) -> Result<Page, QueueError> {
        let end = last_place(start, end, PAGE_JOBS_MAX)?;
        let handle = self.handle(queue)?;
        let mut lane = self.store().lane();
        self.must_exist(queue, &handle, &mut lane).await?;
        let keys = &handle.keys;
        let (ids, total) = match sorted_states(keys).into_iter().find(|(sorted, _)| *sorted == state) {
            Some((_, key)) => {
                let (from, to) = (start, end);
                let range = if order == Order::Asc { "ZRANGE" } else { "ZREVRANGE" };
                let mut pipe = redis::pipe();
                pipe.cmd(range).arg(key).arg(from).arg(to).zcard(key);
                pipe.query_async(&mut lane).await?
            }
            None => listed_page(&mut lane, keys, state, start, end, order).await?,
        };
        let jobs = self.views(&mut lane, keys, state, ids).await?;
        Ok(Page { state, order, start, end, total, jobs })
    }

    /// A job's log from line `start` to line `end`, both counted from 0 and included; at most
    /// [`LOG_LINES_MAX`] lines.
    pub async fn logs(&self, queue: &str, id: &str, start: u64, end: u64) -> Result<LogPage, QueueError> {
        let end = last_place(start, end, LOG_LINES_MAX)?;
        let handle = self.handle(queue)?;
        let logs = handle.keys.job_logs(id);
        let mut pipe = redis::pipe();
        pipe.exists(handle.keys.job(id)).cmd("LRANGE").arg(&logs).arg(start).arg(end).llen(&logs);
        let (exists, lines, total): (bool, Vec<Vec<u8>>, u64) =
            pipe.query_async(&mut self.store().lane()).await?;
        if !exists {
            return Err(no_such_job(queue, id));
        }
        let lines = lines.into_iter().map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
        Ok(LogPage { start, end, total, lines })
    }

    async fn views(
        &self,
        lane: &mut redis::aio::ConnectionManager,
        keys: &Keys,
        state: JobState,
        ids: Vec<String>,
    ) -> Result<Vec<JobView>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = Pipeline::with_capacity(ids.len());
        for id in &ids {
            pipe.hgetall(keys.job(id));
        }
        let hashes: Vec<Vec<(String, Vec<u8>)>> = pipe.query_async(lane).await?;
        // A job may have been removed since its id was read.
        let views = ids.iter().zip(hashes).filter_map(|(id, hash)| JobView::from_hash(id, Some(state), hash));
        Ok(views.collect())
    }

    /// A queue exists as soon as anybody added a job to it or opened it with BullMQ.
    pub(super) async fn must_exist(
        &self,
        queue: &str,
        handle: &QueueHandle,
        lane: &mut redis::aio::ConnectionManager,
    ) -> Result<(), QueueError> {
        let exists: bool = redis::cmd("EXISTS").arg(&*handle.keys.meta).query_async(lane).await?;
        if exists { Ok(()) } else { Err(no_such_queue(queue)) }
    }
}

pub(super) fn no_such_queue(queue: &str) -> QueueError {
    QueueError::NoSuchQueue { queue: queue.to_owned() }
}

pub(super) fn no_such_job(queue: &str, id: &str) -> QueueError {
    QueueError::NoSuchJob { queue: queue.to_owned(), id: id.to_owned() }
}

/// The last place of a page: what was asked for, unless that is more than a page holds.
fn last_place(start: u64, end: u64, len_max: u64) -> Result<u64, FieldError> {
    for (field, place) in [("start", start), ("end", end)] {
        if place > PLACE_MAX {
            return Err(FieldError::invalid(field, format!("must be at most {PLACE_MAX}")));
        }
    }
    Ok(end.min(start + len_max - 1))
}

/// The states that are sorted sets.
fn sorted_states(keys: &Keys) -> [(JobState, &str); 5] {
    [
        (JobState::Completed, &keys.completed),
        (JobState::Failed, &keys.failed),
        (JobState::Delayed, &keys.delayed),
        (JobState::Prioritized, &keys.prioritized),
        (JobState::WaitingChildren, &keys.waiting_children),
    ]
}

/// The states that are lists; BullMQ before version 6 keeps a paused queue's waiting jobs in `paused`.
fn listed_states(keys: &Keys) -> [(JobState, &str); 3] {
    [(JobState::Active, &keys.active), (JobState::Waiting, &keys.wait), (JobState::Waiting, &keys.paused)]
}

/// A page of a state that is kept in lists, newest at the head; of two lists the first is the newer.
async fn listed_page(
    lane: &mut redis::aio::ConnectionManager,
    keys: &Keys,
    state: JobState,
    start: u64,
    end: u64,
    order: Order,
) -> Result<(Vec<String>, u64), QueueError> {
    let lists: Vec<&str> =
        listed_states(keys).into_iter().filter(|(listed, _)| *listed == state).map(|(_, key)| key).collect();
    let mut pipe = redis::pipe();
    for key in &lists {
        pipe.llen(*key);
    }
    let lengths: Vec<u64> = pipe.query_async(lane).await?;
    let total: u64 = lengths.iter().sum();
    if start >= total || end < start {
        return Ok((Vec::new(), total));
    }
    let last = end.min(total - 1);
    // Counted from the head of the first list.
    let (from, to) = if order == Order::Desc { (start, last) } else { (total - 1 - last, total - 1 - start) };
    let mut pipe = redis::pipe();
    let mut before = 0;
    for (key, len) in lists.into_iter().zip(lengths) {
        if to >= before && from < before + len {
            pipe.cmd("LRANGE").arg(key).arg(from.saturating_sub(before)).arg(to - before);
        }
        before += len;
    }
    let parts: Vec<Vec<String>> = pipe.query_async(lane).await?;
    let mut ids = parts.concat();
    if order == Order::Asc {
        ids.reverse();
    }
    Ok((ids, total))
}

const COUNT_COMMANDS: usize = 10;
const DEPTH_COMMANDS: usize = COUNT_COMMANDS + 3;

fn count_commands(pipe: &mut Pipeline, keys: &Keys) {
    pipe.exists(&*keys.meta).hexists(&*keys.meta, "paused");
    pipe.llen(&*keys.wait).llen(&*keys.paused).llen(&*keys.active);
    pipe.zcard(&*keys.delayed).zcard(&*keys.prioritized).zcard(&*keys.waiting_children);
    pipe.zcard(&*keys.completed).zcard(&*keys.failed);
}

fn depth_commands(pipe: &mut Pipeline, keys: &Keys) {
    count_commands(pipe, keys);
    pipe.lindex(&*keys.wait, -1).lindex(&*keys.paused, -1).zrange(&*keys.prioritized, 0, 0);
}

fn read_counts(name: &str, answers: &[Value]) -> Result<Option<QueueView>, QueueError> {
    let mut numbers = [0u64; COUNT_COMMANDS];
    for (number, answer) in numbers.iter_mut().zip(answers) {
        *number =
            redis::from_redis_value_ref(answer).map_err(|error| QueueError::Unexpected(error.to_string()))?;
    }
    let [exists, paused, wait, parked, active, delayed, prioritized, waiting_children, completed, failed] =
        numbers;
    let counts =
        Counts { waiting: wait + parked, active, delayed, prioritized, waiting_children, completed, failed };
    Ok((exists > 0).then(|| QueueView { name: name.to_owned(), paused: paused > 0, counts }))
}

/// The ids at the ends where the oldest ready jobs stand.
fn heads_of(answers: &[Value]) -> Vec<String> {
    let mut heads = Vec::new();
    for answer in answers {
        match answer {
            Value::Array(items) => heads.extend(items.iter().filter_map(text)),
            other => heads.extend(text(other)),
        }
    }
    heads
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// The delay with which a job was added: until then it was not waiting.
fn delay_of(opts: &str) -> u64 {
    #[derive(Deserialize)]
    struct Delay {
        #[serde(default)]
        delay: f64,
    }
    serde_json::from_str::<Delay>(opts).map_or(0, |opts| opts.delay as u64)
}
