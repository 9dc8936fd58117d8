//! Streams and their consumer groups.

pub mod xack;
pub mod xadd;
pub mod xclaim;
pub mod xdel;
pub mod xgroup;
pub mod xinfo;
pub mod xlen;
pub mod xpending;
pub mod xrange;
pub mod xread;
pub mod xreadgroup;
pub mod xsetid;
pub mod xtrim;

use thali_data::stream::{Entry, RangeBoundError, StreamId};
use thali_resp::Reply;

use crate::{Access, Categories, Command, Context, ErrorReply, EventClass, Flags, Group, Keys, Spec};

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &xack::SPEC, run: xack::run },
    Command { spec: &xadd::SPEC, run: xadd::run },
    Command { spec: &xclaim::XCLAIM, run: xclaim::xclaim },
    Command { spec: &xclaim::XAUTOCLAIM, run: xclaim::xautoclaim },
    Command { spec: &xdel::SPEC, run: xdel::run },
    Command { spec: &xgroup::SPEC, run: xgroup::run },
    Command { spec: &xinfo::SPEC, run: xinfo::run },
    Command { spec: &xlen::SPEC, run: xlen::run },
    Command { spec: &xpending::SPEC, run: xpending::run },
    Command { spec: &xrange::XRANGE, run: xrange::xrange },
    Command { spec: &xrange::XREVRANGE, run: xrange::xrevrange },
    Command { spec: &xread::SPEC, run: xread::run },
    Command { spec: &xreadgroup::SPEC, run: xreadgroup::run },
    Command { spec: &xsetid::SPEC, run: xsetid::run },
    Command { spec: &xtrim::SPEC, run: xtrim::run },
];

/// What commands share that read one stream.
const READ_ONE: Spec = Spec {
    since: "5.0.0",
    group: Group::Stream,
    flags: Flags::READONLY,
    keys: Keys::one(Access::READ),
    categories: Categories::STREAM,
    ..Spec::BASE
};

/// What commands share that change one stream.
const WRITE_ONE: Spec =
    Spec { flags: Flags::WRITE.union(Flags::FAST), keys: Keys::one(Access::WRITE), ..READ_ONE };

const INVALID_ID: ErrorReply = ErrorReply::new("ERR Invalid stream ID specified as stream command argument");

/// An ID; where the sequence is missing it is 0.
fn stream_id(text: &[u8]) -> Result<StreamId, ErrorReply> {
    StreamId::parse(text, 0).ok_or(INVALID_ID)
}

/// The start of a range, which may be `-`, `+` or `(ID`.
fn range_start(text: &[u8]) -> Result<StreamId, ErrorReply> {
    StreamId::parse_range_start(text).map_err(|error| match error {
        RangeBoundError::Invalid => INVALID_ID,
        RangeBoundError::NothingBeyond => ErrorReply::new("ERR invalid start ID for the interval"),
    })
}

/// The end of a range, which may be `-`, `+` or `(ID`.
fn range_end(text: &[u8]) -> Result<StreamId, ErrorReply> {
    StreamId::parse_range_end(text).map_err(|error| match error {
        RangeBoundError::Invalid => INVALID_ID,
        RangeBoundError::NothingBeyond => ErrorReply::new("ERR invalid end ID for the interval"),
    })
}

/// The error for a missing key or group: `NOGROUP No such key 'k' or consumer group 'g'` and a tail.
fn no_key_or_group(key: &[u8], group: &[u8], tail: &str) -> ErrorReply {
    let parts: [&[u8]; 6] =
        [b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'", tail.as_bytes()];
    ErrorReply::owned(parts.concat())
}

/// The error for a missing group of a stream that is there.
fn no_group(key: &[u8], group: &[u8]) -> ErrorReply {
    let parts: [&[u8]; 5] = [b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"];
    ErrorReply::owned(parts.concat())
}

/// The error for a container's subcommand that its own checks refuse.
fn bad_subcommand(container: &str, given: &[u8]) -> ErrorReply {
    let shown = String::from_utf8_lossy(&given[..given.len().min(128)]);
    ErrorReply::owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {container} HELP."
    ))
}

/// Replies a container's HELP: its name, the lines, and the line about HELP itself.
fn write_help(reply: &mut Reply<'_>, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

fn write_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(&id.text());
}

/// Replies an entry: its ID and its fields.
fn write_entry(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    write_id(reply, entry.id);
    reply.array(entry.fields().len() * 2);
    for (name, value) in entry.fields() {
        reply.bulk(name);
        reply.bulk(value);
    }
}

/// Replies entries as an array.
fn write_entries<'e>(reply: &mut Reply<'_>, entries: impl Iterator<Item = Entry<'e>>) {
    reply.array_of(|reply| entries.inspect(|entry| write_entry(reply, entry)).count());
}

/// COUNT's value as a bound for `take`: 0 and less mean all.
fn count_or_all(count: i64) -> usize {
    usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usize::MAX)
}

/// Says that a consumer group changed: the stream's own readers and watchers are not concerned.
fn group_changed(cx: &mut Context<'_>, event: &'static str, key: &[u8]) {
    cx.dirty += 1;
    cx.event(EventClass::STREAM, event, key);
}

/// Journals and notifies that reading or claiming made a consumer.
fn consumer_created(cx: &mut Context<'_>, key: &[u8], group: &[u8], consumer: &[u8]) {
    group_changed(cx, "xgroup-createconsumer", key);
    cx.effect(&[&b"XGROUP"[..], b"CREATECONSUMER", key, group, consumer]);
}
