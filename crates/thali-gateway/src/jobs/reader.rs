//! The one blocking connection that reads every watched queue's event stream.
//!
//! XREAD cannot be told of a new stream while it blocks. So whoever adds one unblocks the connection
//! by its id; should that fail, the block's own end is the latest moment at which it is noticed. The
//! positions are kept outside, so a connection that is dialled again goes on where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Value};
use thali_client::{Backoff, StoreAddress};
use tokio::sync::Notify;

use super::JobFeed;
use super::update::StreamId;

/// How long one read waits for entries.
const BLOCK_MS: usize = 1_000;
/// Entries of one stream in one read.
const ENTRIES_MAX: usize = 1_000;
/// What the store may take beyond the block before it counts as gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(11);
/// Between two attempts to unblock the reader.
const UNBLOCK_EVERY: Duration = Duration::from_millis(5);
/// Attempts to unblock it.
const UNBLOCK_TRIES_MAX: usize = 20;

/// How others reach the reader.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The connection's id in the store, 0 when there is none.
    client_id: AtomicI64,
    /// Counts changes of what must be read.
    wanted: Arc<AtomicU64>,
    /// The last change that the reader has taken in.
    adopted: Arc<AtomicU64>,
    changed: Notify,
}

impl Reader {
    /// Makes the reader look at what it must read.
    pub(super) fn wake(&self, connection: &ConnectionManager) {
        let change = self.wanted.fetch_add(1, Ordering::SeqCst) + 1;
        self.changed.notify_one();
        let (adopted, mut connection) = (self.adopted.clone(), connection.clone());
        let client_id = self.client_id.load(Ordering::SeqCst);
        if client_id == 0 {
            return;
        }
        tokio::spawn(async move {
            for _ in 0..UNBLOCK_TRIES_MAX {
                if adopted.load(Ordering::SeqCst) >= change {
                    return;
                }
                let mut unblock = redis::cmd("CLIENT");
                unblock.arg("UNBLOCK").arg(client_id);
                if unblock.query_async::<Value>(&mut connection).await.is_err() {
                    return;
                }
                tokio::time::sleep(UNBLOCK_EVERY).await;
            }
        });
    }
}

/// Reads until the task is dropped.
pub(crate) async fn run(feed: Arc<JobFeed>, address: StoreAddress) {
    let mut backoff = Backoff::default();
    // Told once for each absence of the store, not for each attempt.
    let mut has_told = false;
    loop {
        if let Err(error) = read(&feed, &address, &mut backoff, &mut has_told).await
            && !std::mem::replace(&mut has_told, true)
        {
            tracing::warn!(%error, "reading job events was interrupted; it goes on where it was");
        }
        feed.reader.client_id.store(0, Ordering::SeqCst);
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn read(
    feed: &JobFeed,
    address: &StoreAddress,
    backoff: &mut Backoff,
    has_told: &mut bool,
) -> redis::RedisResult<()> {
    let reader = &feed.reader;
    // No connection before there is something to read.
    wait_for_streams(feed).await;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    let mut connection = address.client().get_multiplexed_async_connection_with_config(&config).await?;
    let client_id: i64 = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
    reader.client_id.store(client_id, Ordering::SeqCst);
    loop {
        let change = reader.wanted.load(Ordering::SeqCst);
        let positions = feed.positions();
        reader.adopted.store(change, Ordering::SeqCst);
        if positions.is_empty() {
            wait_for_streams(feed).await;
            continue;
        }
        let reply = read_once(&mut connection, &positions).await?;
        backoff.reset();
        *has_told = false;
        for (key, entries) in streams(reply) {
            if let Some((queue, ..)) = positions.iter().find(|(_, stream, _)| *stream == key) {
                feed.dispatch(queue, &entries);
            }
        }
    }
}

async fn wait_for_streams(feed: &JobFeed) {
    while feed.positions().is_empty() {
        feed.reader.changed.notified().await;
    }
}

async fn read_once(
    connection: &mut MultiplexedConnection,
    positions: &[(String, String, StreamId)],
) -> redis::RedisResult<Value> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(ENTRIES_MAX).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS");
    for (_, key, _) in positions {
        command.arg(key);
    }
    for (_, _, last) in positions {
        command.arg(last.to_string());
    }
    command.query_async(connection).await
}

type Entries = Vec<(StreamId, Vec<(String, String)>)>;

/// Streams and their entries; RESP2 gives pairs in an array, RESP3 a map.
fn streams(reply: Value) -> Vec<(String, Entries)> {
    let pairs: Vec<(Value, Value)> = match reply {
        Value::Map(pairs) => pairs,
        Value::Array(items) => items.into_iter().filter_map(pair).collect(),
        _ => Vec::new(),
    };
    pairs.into_iter().filter_map(|(key, entries)| Some((text(key)?, read_entries(entries)))).collect()
}

fn read_entries(value: Value) -> Entries {
    let Value::Array(items) = value else { return Vec::new() };
    let entry = |item| {
        let (id, fields) = pair(item)?;
        let Value::Array(fields) = fields else { return None };
        let mut words = fields.into_iter().filter_map(text);
        let mut pairs = Vec::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            pairs.push((name, value));
        }
        Some((StreamId::parse(&text(id)?)?, pairs))
    };
    items.into_iter().filter_map(entry).collect()
}

fn pair(value: Value) -> Option<(Value, Value)> {
    let Value::Array(items) = value else { return None };
    <[Value; 2]>::try_from(items).ok().map(|[first, second]| (first, second))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(data) => Some(
            String::from_utf8(data).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        ),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
