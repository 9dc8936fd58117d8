//! Values as the requests that make them: a base of the append-only file with `aof-use-rdb-preamble no`.
//!
//! SOURCE: redis 7.0 `aof.c`, `rewriteAppendOnlyFileRio`, which gives the same requests.

use thali_data::double::format_double;
use thali_data::stream::{Group, StreamId};
use thali_data::{Hash, IntBuf, Stream};
use thali_journal::encode_request;
use thali_keyspace::{Entry, Value};

/// Elements in one request. SOURCE: redis 7.0 `AOF_REWRITE_ITEMS_PER_CMD`.
const ITEMS_A_REQUEST: usize = 64;

pub(super) fn select(out: &mut Vec<u8>, db: u32) {
    encode_request(out, &[b"SELECT", db.to_string().as_bytes()]);
}

/// A library of functions.
pub(super) fn library(out: &mut Vec<u8>, code: &[u8]) {
    encode_request(out, &[b"FUNCTION", b"LOAD", code]);
}

/// A key that is not there yet.
pub(super) fn entry(out: &mut Vec<u8>, key: &[u8], entry: &Entry) {
    let mut ints = [IntBuf::new(), IntBuf::new()];
    let [first, second] = &mut ints;
    match &entry.value {
        Value::Str(text) => encode_request(out, &[b"SET", key, &text.to_vec()]),
        Value::List(list) => {
            let mut lots = Lots::new(out, b"RPUSH", key);
            list.iter().for_each(|item| lots.push(&[item.bytes(first)]));
        }
        Value::Set(set) => {
            let mut lots = Lots::new(out, b"SADD", key);
            set.iter().for_each(|member| lots.push(&[member.bytes(first)]));
        }
        Value::SortedSet(sorted_set) => {
            let mut lots = Lots::new(out, b"ZADD", key);
            sorted_set
                .iter()
                .for_each(|(member, score)| lots.push(&[format_double(score).as_bytes(), member]));
        }
        Value::Hash(hash) => {
            let mut lots = Lots::new(out, b"HMSET", key);
            hash.iter().for_each(|(field, value)| lots.push(&[field.bytes(first), value.bytes(second)]));
            drop(lots);
            field_times(out, key, hash);
        }
        Value::Stream(log) => stream(out, key, log),
    }
    if let Some(at) = entry.expire_at() {
        encode_request(out, &[b"PEXPIREAT", key, at.to_string().as_bytes()]);
    }
}

/// One request a field, as times mostly differ.
fn field_times(out: &mut Vec<u8>, key: &[u8], hash: &Hash) {
    if hash.next_time().is_none() {
        return;
    }
    let mut int = IntBuf::new();
    for (field, _, at) in hash.iter_timed() {
        if let Some(at) = at {
            let (at, field) = (at.to_string(), field.bytes(&mut int));
            encode_request(out, &[b"HPEXPIREAT", key, at.as_bytes(), b"FIELDS", b"1", field]);
        }
    }
}

fn stream(out: &mut Vec<u8>, key: &[u8], stream: &Stream) {
    let log = &stream.log;
    for entry in log.range(StreamId::MIN, StreamId::MAX) {
        let id = entry.id.text();
        let mut args: Vec<&[u8]> = vec![b"XADD", key, &id];
        args.extend(entry.fields().flat_map(|(field, value)| [field, value]));
        encode_request(out, &args);
    }
    if log.is_empty() {
        encode_request(out, &[b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]);
    }
    let added = log.entries_added().to_string();
    let (last, deleted) = (log.last_id().text(), log.max_deleted_id().text());
    let counters: [&[u8]; 4] = [b"ENTRIESADDED", added.as_bytes(), b"MAXDELETEDID", &deleted];
    encode_request(out, &[&[b"XSETID", key, &last][..], &counters].concat());
    stream.groups.iter().for_each(|(name, group)| self::group(out, key, name, group));
}

fn group(out: &mut Vec<u8>, key: &[u8], name: &[u8], group: &Group) {
    let read = group.entries_read.map_or("-1".into(), |read| read.to_string());
    let last = group.last_id.text();
    encode_request(out, &[b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", read.as_bytes()]);
    for consumer in group.consumers() {
        encode_request(out, &[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()]);
        for id in consumer.pending_ids(StreamId::MIN..=StreamId::MAX) {
            let Some(pending) = group.pending(id) else { continue };
            let (at, deliveries) = (pending.delivered_at_unix_ms.to_string(), pending.deliveries.to_string());
            let how: [&[u8]; 6] =
                [b"TIME", at.as_bytes(), b"RETRYCOUNT", deliveries.as_bytes(), b"JUSTID", b"FORCE"];
            encode_request(
                out,
                &[&[b"XCLAIM", key, name, consumer.name(), b"0", &id.text()][..], &how].concat(),
            );
        }
    }
}

/// Requests of one command and key, some elements in each.
struct Lots<'o> {
    out: &'o mut Vec<u8>,
    head: [&'o [u8]; 2],
    /// The arguments of the request that is being gathered.
    args: Vec<Vec<u8>>,
    items: usize,
}

impl<'o> Lots<'o> {
    fn new(out: &'o mut Vec<u8>, name: &'o [u8], key: &'o [u8]) -> Self {
        Self { out, head: [name, key], args: Vec::new(), items: 0 }
    }

    /// Adds an element: the arguments that it takes.
    fn push(&mut self, args: &[&[u8]]) {
        self.args.extend(args.iter().map(|arg| arg.to_vec()));
        self.items += 1;
        if self.items == ITEMS_A_REQUEST {
            self.end_request();
        }
    }

    fn end_request(&mut self) {
        let args: Vec<&[u8]> = self.head.iter().copied().chain(self.args.iter().map(Vec::as_slice)).collect();
        encode_request(self.out, &args);
        self.args.clear();
        self.items = 0;
    }
}

impl Drop for Lots<'_> {
    fn drop(&mut self) {
        if self.items > 0 {
            self.end_request();
        }
    }
}
