//! A job's present state, and the point of the event stream at which it was present.

use std::borrow::Cow;

use redis::Value;
use redis::aio::ConnectionManager;

use super::update::{JobView, StreamId};

/// How far the list of active jobs is searched; it is as long as all workers' concurrency.
const ACTIVE_SEARCHED_MAX: usize = 10_000;

/// A job that BullMQ does not know, or no longer.
const UNKNOWN: &str = "unknown";

/// The stream's last id: everything later is news.
pub(super) async fn position(
    connection: &mut ConnectionManager,
    queue_key: &str,
) -> redis::RedisResult<StreamId> {
    let last: Value = last_entry(queue_key).query_async(connection).await?;
    Ok(entry_id(&last))
}

/// The job's state together with the stream's last id, in one transaction.
pub(super) async fn job(
    connection: &mut ConnectionManager,
    queue_key: &str,
    id: &str,
) -> redis::RedisResult<(StreamId, JobView<'static>)> {
    let mut pipe = redis::pipe();
    pipe.atomic().add_command(last_entry(queue_key));
    pipe.cmd("HMGET").arg(format!("{queue_key}:{id}"));
    pipe.arg(&["timestamp", "progress", "returnvalue", "failedReason"]);
    for set in ["completed", "failed", "delayed", "prioritized", "waiting-children"] {
        pipe.cmd("ZSCORE").arg(format!("{queue_key}:{set}")).arg(id);
    }
    pipe.cmd("LPOS").arg(format!("{queue_key}:active")).arg(id).arg("MAXLEN").arg(ACTIVE_SEARCHED_MAX);
    let values: Vec<Value> = pipe.query_async(connection).await?;
    let [last, hash, completed, failed, delayed, prioritized, children, active] = values.as_slice() else {
        return Err((redis::ErrorKind::Client, "a transaction gave the wrong number of answers").into());
    };
    let mut fields: Vec<Option<String>> = redis::from_redis_value(hash.clone())?;
    fields.resize(4, None);
    let [timestamp, progress, returnvalue, failed_reason] =
        <[Option<String>; 4]>::try_from(fields).expect("resized to four");
    let is = |value: &Value| !matches!(value, Value::Nil);
    let state = match () {
        () if timestamp.is_none() => UNKNOWN,
        () if is(completed) => "completed",
        () if is(failed) => "failed",
        () if is(active) => "active",
        () if is(delayed) => "delayed",
        () if is(children) => "waiting-children",
        // Waiting by priority is waiting.
        () if is(prioritized) => "waiting",
        () => "waiting",
    };
    let view = JobView {
        state: Cow::Borrowed(state),
        // A fresh job's progress is 0 before anyone set it.
        progress: progress.map(Cow::Owned),
        returnvalue: returnvalue.filter(|_| state == "completed").map(Cow::Owned),
        failed_reason: failed_reason.filter(|_| state == "failed").map(Cow::Owned),
    };
    Ok((entry_id(last), view))
}

fn last_entry(queue_key: &str) -> redis::Cmd {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(format!("{queue_key}:events")).arg("+").arg("-").arg("COUNT").arg(1);
    command
}

/// The id of the only entry of a range, 0-0 when it has none.
fn entry_id(range: &Value) -> StreamId {
    let Value::Array(entries) = range else { return StreamId::default() };
    let Some(Value::Array(entry)) = entries.first() else { return StreamId::default() };
    let Some(Value::BulkString(id)) = entry.first() else { return StreamId::default() };
    std::str::from_utf8(id).ok().and_then(StreamId::parse).unwrap_or_default()
}
