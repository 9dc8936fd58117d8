//! Adding jobs: one EVALSHA of BullMQ's own script for each job.
//!
//! The official crate's `add` parses and prints the data again, copies the script's 24 KB for each job
//! and drops options that it does not know; this path does neither, and the store cannot tell it from
//! Node's BullMQ. A test compares the scripts' hashes with those that the crate loads.

use redis::{Cmd, Value};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::{FieldError, QueueError};
use super::msgpack::{self, MapWriter};
use super::names::{self, Keys};
use super::request::NewJob;
use super::scripts::{ADD_DELAYED, ADD_PRIORITIZED, ADD_STANDARD, Script};
use super::{QueueHandle, Queues};

/// Jobs that travel in one transaction; a larger batch is cut, so that no single one holds the store for
/// long and no buffer grows with the batch.
pub const TRANSACTION_JOBS_MAX: usize = 500;

impl Queues {
    /// Adds a job and returns its id. A job whose own id exists already, or that is a copy in the sense
    /// of `deduplication`, is not added again: the id returned is that of the job that is there.
    ///
    /// # Errors
    /// [`QueueError::StoreAway`] leaves open whether the job was added where the connection broke on the
    /// way; a producer that repeats its request should give the job an id of its own.
    pub async fn add(&self, queue: &str, job: &NewJob<'_>) -> Result<String, QueueError> {
        job.check()?;
        let handle = self.handle(queue)?;
        let prepared = Prepared::new(self.prefix(), &handle.keys, job, now_ms())?;
        let mut lane = self.store().lane();
        let command = prepared.command(&handle.keys, false);
        let answer = match command.query_async::<Value>(&mut lane).await {
            Err(error) if is_noscript(&error) => {
                prepared.command(&handle.keys, true).query_async(&mut lane).await?
            }
            answer => answer?,
        };
        self.know(queue, &handle);
        prepared.id(answer)
    }

    /// Adds jobs in order and returns their ids. Up to [`TRANSACTION_JOBS_MAX`] of them travel in one
    /// transaction: all are there or none.
    ///
    /// # Errors
    /// [`QueueError::PartlyAdded`] says which jobs of the batch are in the queue.
    pub async fn add_many(&self, queue: &str, jobs: &[NewJob<'_>]) -> Result<Vec<String>, QueueError> {
        for (index, job) in jobs.iter().enumerate() {
            job.check().map_err(|error| error.within(index))?;
        }
        let handle = self.handle(queue)?;
        let now_ms = now_ms();
        let mut results = Vec::with_capacity(jobs.len());
        for (part, chunk) in jobs.chunks(TRANSACTION_JOBS_MAX).enumerate() {
            let offset = part * TRANSACTION_JOBS_MAX;
            match self.add_chunk(&handle, chunk, offset, now_ms).await {
                Ok(answers) => results.extend(answers),
                // Nothing was added before the first chunk, so the plain reason says it all.
                Err(error) if offset == 0 => return Err(error),
                Err(error) => {
                    results.push(Err(error));
                    break;
                }
            }
        }
        self.know(queue, &handle);
        sum_up(results, jobs.len())
    }

    /// The outer error says that no job of the chunk was added; the inner ones are for single jobs.
    async fn add_chunk(
        &self,
        handle: &QueueHandle,
        jobs: &[NewJob<'_>],
        offset: usize,
        now_ms: u64,
    ) -> Result<Vec<Result<String, QueueError>>, QueueError> {
        let mut pipe = redis::Pipeline::with_capacity(jobs.len());
        pipe.atomic().ignore_errors();
        let mut prepared = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            let job =
                Prepared::new(self.prefix(), &handle.keys, job, now_ms).map_err(|error| match error {
                    QueueError::Invalid(error) => QueueError::Invalid(error.within(offset + index)),
                    other => other,
                })?;
            pipe.add_command(job.command(&handle.keys, false));
            prepared.push(job);
        }
        let mut lane = self.store().lane();
        load_missing(&mut lane, &prepared).await?;
        let answers: Vec<redis::RedisResult<Value>> = pipe.query_async(&mut lane).await?;
        if answers.len() != jobs.len() {
            return Err(QueueError::Unexpected(format!("{} answers for {} jobs", answers.len(), jobs.len())));
        }
        Ok(prepared.iter().zip(answers).map(|(job, answer)| job.id(answer?)).collect())
    }
}

/// Inside a transaction there is no second try with the script's text, so the store learns it before.
async fn load_missing(
    lane: &mut redis::aio::ConnectionManager,
    jobs: &[Prepared<'_, '_>],
) -> Result<(), QueueError> {
    let mut scripts: Vec<&Script> = jobs.iter().map(|job| job.script).collect();
    scripts.sort_by_key(|script| std::ptr::from_ref::<Script>(script));
    scripts.dedup_by_key(|script| std::ptr::from_ref::<Script>(script));
    let mut ask = redis::cmd("SCRIPT");
    ask.arg("EXISTS");
    for script in &scripts {
        ask.arg(&script.sha);
    }
    let known: Vec<bool> = ask.query_async(lane).await?;
    for (script, known) in scripts.into_iter().zip(known) {
        if !known {
            redis::cmd("SCRIPT").arg("LOAD").arg(script.text).query_async::<()>(lane).await?;
        }
    }
    Ok(())
}

/// All ids, or who is in and who is not.
fn sum_up(results: Vec<Result<String, QueueError>>, jobs: usize) -> Result<Vec<String>, QueueError> {
    let mut ids = Vec::with_capacity(jobs);
    let mut fault = None;
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(id) => ids.push(Some(id)),
            Err(error) => {
                fault.get_or_insert((index, error));
                ids.push(None);
            }
        }
    }
    ids.resize(jobs, None);
    let Some((first, reason)) = fault else { return Ok(ids.into_iter().flatten().collect()) };
    let failed = ids.iter().filter(|id| id.is_none()).count();
    // Where no job is in, there is no need to tell them apart.
    if failed == jobs && jobs == 1 {
        return Err(reason);
    }
    Err(QueueError::PartlyAdded { ids, failed, first, reason: Box::new(reason) })
}

/// A checked job, packed for its script.
struct Prepared<'j, 'a> {
    script: &'static Script,
    job: &'j NewJob<'a>,
    args: Vec<u8>,
    opts: Vec<u8>,
}

impl<'j, 'a> Prepared<'j, 'a> {
    fn new(prefix: &str, keys: &Keys, job: &'j NewJob<'a>, now_ms: u64) -> Result<Self, QueueError> {
        let opts = &job.opts;
        let script = if opts.delay.is_some_and(|delay| delay > 0) {
            &*ADD_DELAYED
        } else if opts.priority.is_some_and(|priority| priority > 0) {
            &*ADD_PRIORITIZED
        } else {
            &*ADD_STANDARD
        };
        let timestamp = opts.timestamp.unwrap_or(now_ms);
        if timestamp.saturating_add(opts.delay.unwrap_or(0)) > super::options::MOMENT_MAX_MS {
            return Err(FieldError::invalid(
                "opts.delay",
                "leads past the last moment that a queue can hold",
            )
            .into());
        }
        let mut packed = Vec::with_capacity(64);
        opts.pack(prefix, &mut packed);
        let args = pack_args(prefix, keys, job, timestamp)?;
        Ok(Self { script, job, args, opts: packed })
    }

    /// EVALSHA, or EVAL with the script's whole text.
    fn command(&self, keys: &Keys, whole: bool) -> Cmd {
        let data = self.job.data_text();
        let (verb, script) = if whole { ("EVAL", self.script.text) } else { ("EVALSHA", &*self.script.sha) };
        let keys = script_keys(self.script, keys);
        let bytes = script.len()
            + keys.iter().map(|key| key.len()).sum::<usize>()
            + self.args.len()
            + data.len()
            + self.opts.len()
            + 16;
        let mut command = Cmd::with_capacity(keys.len() + 6, bytes);
        command.arg(verb).arg(script).arg(self.script.keys);
        for key in keys {
            command.arg(key);
        }
        command.arg(&self.args).arg(data).arg(&self.opts);
        command
    }

    /// Reads the script's answer: an id, or one of BullMQ's negative codes.
    fn id(&self, answer: Value) -> Result<String, QueueError> {
        match answer {
            Value::BulkString(id) => {
                String::from_utf8(id).map_err(|_| QueueError::Unexpected("an id that is not text".to_owned()))
            }
            Value::SimpleString(id) => Ok(id),
            Value::Int(-5) => Err(QueueError::NoSuchParent {
                parent: self.job.opts.parent.as_ref().map(|parent| parent.id.clone()).unwrap_or_default(),
            }),
            Value::Int(-7) => Err(QueueError::HasOtherParent),
            Value::Int(id) if id >= 0 => Ok(id.to_string()),
            other => Err(QueueError::Unexpected(format!("{other:?}"))),
        }
    }
}

/// The keys in the order that the script declares.
fn script_keys<'k>(script: &Script, keys: &'k Keys) -> smallvec::SmallVec<[&'k str; 9]> {
    let parts: &[&'k str] = if std::ptr::eq(script, &*ADD_DELAYED) {
        &[&keys.marker, &keys.meta, &keys.id, &keys.delayed, &keys.completed, &keys.events]
    } else if std::ptr::eq(script, &*ADD_PRIORITIZED) {
        &[
            &keys.marker,
            &keys.meta,
            &keys.id,
            &keys.prioritized,
            &keys.delayed,
            &keys.completed,
            &keys.active,
            &keys.events,
            &keys.pc,
        ]
    } else {
        &[
            &keys.wait,
            &keys.paused,
            &keys.meta,
            &keys.id,
            &keys.completed,
            &keys.delayed,
            &keys.active,
            &keys.events,
            &keys.marker,
        ]
    };
    smallvec::SmallVec::from_slice(parts)
}

/// The scripts' first argument: `[base, id, name, timestamp, parentKey, parentDependenciesKey, parent,
/// repeatJobKey, deduplicationKey]` in msgpack.
fn pack_args(prefix: &str, keys: &Keys, job: &NewJob<'_>, timestamp: u64) -> Result<Vec<u8>, QueueError> {
    let opts = &job.opts;
    let mut buf = Vec::with_capacity(96);
    msgpack::array_len(&mut buf, 9);
    msgpack::text(&mut buf, &keys.base);
    msgpack::text(&mut buf, opts.job_id.as_deref().unwrap_or_default());
    msgpack::text(&mut buf, &job.name);
    msgpack::uint(&mut buf, timestamp);
    match &opts.parent {
        Some(parent) => {
            let queue_key = parent.qualified_queue(prefix);
            if let Some((prefix, queue)) = queue_key.split_once(':') {
                names::check_prefix(prefix)
                    .and_then(|()| names::check_queue_name(queue))
                    .map_err(|error| FieldError::invalid("opts.parent.queue", error.message))?;
            }
            let parent_key = [&queue_key, ":", &parent.id].concat();
            msgpack::text(&mut buf, &parent_key);
            msgpack::text(&mut buf, &[&parent_key, ":dependencies"].concat());
            let mut map = MapWriter::new(&mut buf);
            map.text("id", Some(&parent.id));
            map.text("queueKey", Some(&queue_key));
            for (_, short, on) in opts.failure_policies() {
                map.flag(short, on.then_some(true));
            }
            map.finish();
        }
        None => (0..3).for_each(|_| msgpack::nil(&mut buf)),
    }
    msgpack::nil(&mut buf);
    match &opts.deduplication {
        Some(deduplication) => {
            msgpack::text(&mut buf, &[&keys.base, "de:", &deduplication.id].concat());
        }
        None => msgpack::nil(&mut buf),
    }
    Ok(buf)
}

fn is_noscript(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
