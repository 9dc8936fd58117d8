//! XADD: append an entry, and trim the stream while at it.
//!
//! Journaled with the ID that the entry got and the length that an approximate trim left.

use smallvec::{SmallVec, smallvec};
use thali_data::stream::{NewId, Stream, StreamId, Trim};
use thali_resp::Reply;

use super::xtrim::{TrimOptions, exact_trim};
use super::{INVALID_ID, WRITE_ONE, write_id};
use crate::{Context, ErrorReply, EventClass, Flags, Flow, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "xadd",
    summary: "Appends a new message to a stream. Creates the key if it doesn't exist.",
    syntax: "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value \
             [field value ...]",
    complexity: "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
    arity: -5,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    ..WRITE_ONE
};

/// Bytes of an entry's names and values together.
const ENTRY_BYTES_MAX: usize = 1 << 30;

struct Args<'a, 'b> {
    id: NewId,
    /// Names and values in turn.
    fields: &'a [&'b [u8]],
    trim: Option<Trim>,
    only_existing: bool,
}

impl<'a, 'b> Args<'a, 'b> {
    fn parse(cx: &Context<'_>, args: &'a [&'b [u8]]) -> Result<Self, ErrorReply> {
        let mut options = TrimOptions::default();
        let mut only_existing = false;
        let mut rest = &args[2..];
        let id = loop {
            if options.take(&mut rest)? {
                continue;
            }
            let (word, tail) = rest.split_first().ok_or_else(|| ErrorReply::wrong_arity("xadd"))?;
            rest = tail;
            if is_word(word, "NOMKSTREAM") {
                only_existing = true;
            } else {
                break NewId::parse(word).ok_or(INVALID_ID)?;
            }
        };
        let trim = options.finish(cx)?;
        if rest.is_empty() || !rest.len().is_multiple_of(2) {
            return Err(ErrorReply::wrong_arity("xadd"));
        }
        if id == NewId::Exact(StreamId::MIN) {
            return Err(ErrorReply::new("ERR The ID specified in XADD must be greater than 0-0"));
        }
        Ok(Self { id, fields: rest, trim, only_existing })
    }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let Args { id, fields, trim, only_existing } = Args::parse(cx, args)?;
    let last = match cx.write::<Stream>(key)? {
        None if only_existing => {
            reply.null();
            return Ok(Flow::Done);
        }
        None => StreamId::MIN,
        Some(stream) => stream.log.last_id(),
    };
    if last == StreamId::MAX {
        return Err(ErrorReply::new(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = id.resolve(last, cx.now_ms).ok_or(ErrorReply::new(
        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
    ))?;
    if fields.iter().map(|field| field.len()).sum::<usize>() > ENTRY_BYTES_MAX {
        return Err(ErrorReply::new("ERR Elements are too large to be stored"));
    }
    let limits = cx.limits;
    let log = &mut cx.write_or_insert(key, Stream::new)?.log;
    log.append(id, fields, limits);
    let trimmed = trim.map_or(0, |trim| log.trim(trim));
    let len = log.len();

    cx.modified(EventClass::STREAM, "xadd", key);
    if trimmed > 0 {
        cx.event(EventClass::STREAM, "xtrim", key);
    }
    let id_text = id.text();
    let mut digits = itoa::Buffer::new();
    let mut effect: SmallVec<[&[u8]; 16]> = smallvec![&b"XADD"[..], key];
    if trim.is_some() {
        effect.extend(exact_trim(len, &mut digits));
    }
    effect.push(&id_text);
    effect.extend_from_slice(fields);
    cx.effect(&effect);
    write_id(reply, id);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    const NOT_GREATER: &str =
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item";

    #[test]
    fn ids_are_journaled_as_they_came_out() {
        let mut store = Store::new();
        store.check(&[("XADD s * f v", "$15\n1700000000000-0")]);
        assert_eq!(store.effects, ["XADD s 1700000000000-0 f v"]);
        store.check(&[("XADD s * f v", "$15\n1700000000000-1")]);
        store.check(&[("XADD s 1700000000001-* f v", "$15\n1700000000001-0")]);
        assert_eq!(store.effects, ["XADD s 1700000000001-0 f v"]);
        store.check(&[
            ("XADD s 5-1 f v", NOT_GREATER),
            ("XADD t 0-0 f v", "-ERR The ID specified in XADD must be greater than 0-0"),
            ("XADD t 0-* f v", "$3\n0-1"),
        ]);
    }

    #[test]
    fn trimming_comes_along() {
        let mut store = Store::new();
        for ms in 1..=100 {
            store.run(&format!("XADD s {ms} f v"));
        }
        store.check(&[("XADD s MAXLEN ~ 1 101 f v", "$5\n101-0"), ("XLEN s", ":1")]);
        store.check(&[("XADD s MAXLEN 1 102 f v", "$5\n102-0")]);
        assert_eq!(store.effects, ["XADD s MAXLEN = 1 102-0 f v"]);
        assert_eq!(store.events, ["xadd s", "xtrim s"]);
        store.check(&[(
            "XADD s MINID 103 LIMIT 0 103 f v",
            "-ERR syntax error, LIMIT cannot be used without the special ~ option",
        )]);
    }

    #[test]
    fn a_missing_stream_may_stay_missing() {
        let mut store = Store::new();
        store.check(&[("XADD s NOMKSTREAM * f v", "$-1"), ("XLEN s", ":0")]);
        assert!(store.effects.is_empty());
    }

    #[test]
    fn faults_create_nothing() {
        let mut store = Store::new();
        store.check(&[
            ("XADD s * f", "-ERR wrong number of arguments for 'xadd' command"),
            ("XADD s * f v g", "-ERR wrong number of arguments for 'xadd' command"),
            ("XADD s MAXLEN 5 * f", "-ERR wrong number of arguments for 'xadd' command"),
            ("XADD s x f v", "-ERR Invalid stream ID specified as stream command argument"),
            ("XADD s 0-0 f v", "-ERR The ID specified in XADD must be greater than 0-0"),
            ("DEL s", ":0"),
            (
                "XADD s 18446744073709551615-18446744073709551615 f v",
                "$41\n18446744073709551615-18446744073709551615",
            ),
            ("XADD s * f v", "-ERR The stream has exhausted the last possible ID, unable to add more items"),
        ]);
    }
}
