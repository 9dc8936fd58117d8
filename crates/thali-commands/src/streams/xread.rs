//! XREAD, and the arguments that XREADGROUP shares with it.
//!
//! Surprise: `$` means the last ID at the moment of asking, so a request that waits is kept with the concrete ID.

use thali_data::stream::{Stream, StreamId};
use thali_keyspace::WaitKind;
use thali_resp::Reply;

use super::{INVALID_ID, READ_ONE, count_or_all, write_entries};
use crate::{
    Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, Wait, integer, is_word, parse_i64,
};

pub const SPEC: Spec = Spec {
    name: "xread",
    summary: "Returns messages from multiple streams with IDs greater than the ones requested. Blocks until a message is available otherwise.",
    syntax: "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
    complexity: "For each stream mentioned: O(N) with N being the number of elements being returned, it means that XREAD-ing with a fixed COUNT is O(1). Note that when the BLOCK option is used, XADD will pay O(M) time in order to serve the M clients blocked on the stream getting new data.",
    arity: -4,
    flags: Flags::READONLY.union(Flags::BLOCKING).union(Flags::MOVABLE_KEYS),
    keys: Keys::Streams { access: Access::READ },
    ..READ_ONE
};

/// What XREAD and XREADGROUP were asked.
pub(super) struct ReadArgs<'a, 'b> {
    /// When to give up waiting (`None` = never), where BLOCK is given.
    pub block: Option<Option<u64>>,
    /// Entries for each stream at most.
    pub count: usize,
    pub keys: &'a [&'b [u8]],
    /// One for each key.
    pub ids: &'a [&'b [u8]],
    /// Group and consumer.
    pub group: Option<(&'b [u8], &'b [u8])>,
    pub no_ack: bool,
}

impl<'a, 'b> ReadArgs<'a, 'b> {
    pub fn parse(args: &'a [&'b [u8]], now_ms: u64, in_group: bool) -> Result<Self, ErrorReply> {
        let mut parsed =
            Self { block: None, count: usize::MAX, keys: &[], ids: &[], group: None, no_ack: false };
        let mut rest = &args[1..];
        loop {
            match rest {
                [word, value, tail @ ..] if is_word(word, "BLOCK") => {
                    parsed.block = Some(deadline_from_ms(value, now_ms)?);
                    rest = tail;
                }
                [word, value, tail @ ..] if is_word(word, "COUNT") => {
                    parsed.count = count_or_all(integer(value)?);
                    rest = tail;
                }
                [word, streams @ ..] if is_word(word, "STREAMS") && !streams.is_empty() => {
                    if !streams.len().is_multiple_of(2) {
                        return Err(unbalanced(in_group));
                    }
                    (parsed.keys, parsed.ids) = streams.split_at(streams.len() / 2);
                    break;
                }
                [word, group, consumer, tail @ ..] if is_word(word, "GROUP") => {
                    if !in_group {
                        return Err(only_in_group("GROUP"));
                    }
                    parsed.group = Some((group, consumer));
                    rest = tail;
                }
                [word, tail @ ..] if is_word(word, "NOACK") => {
                    if !in_group {
                        return Err(only_in_group("NOACK"));
                    }
                    parsed.no_ack = true;
                    rest = tail;
                }
                _ => return Err(ErrorReply::SYNTAX),
            }
        }
        Ok(parsed)
    }
}

fn unbalanced(in_group: bool) -> ErrorReply {
    let (name, symbol) = if in_group { ("xreadgroup", '>') } else { ("xread", '$') };
    ErrorReply::owned(format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be specified."
    ))
}

fn only_in_group(option: &str) -> ErrorReply {
    ErrorReply::owned(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

/// BLOCK's milliseconds as the moment when they end; `None` = never.
fn deadline_from_ms(text: &[u8], now_ms: u64) -> Result<Option<u64>, ErrorReply> {
    let ms = parse_i64(text).ok_or(ErrorReply::TIMEOUT_NOT_INTEGER)?;
    let ms = u64::try_from(ms).map_err(|_| ErrorReply::TIMEOUT_NEGATIVE)?;
    if ms == 0 {
        return Ok(None);
    }
    let deadline = ms.checked_add(now_ms).filter(|deadline| i64::try_from(*deadline).is_ok());
    deadline.map(Some).ok_or(ErrorReply::new("ERR timeout is out of range"))
}

/// Replies the streams that `serve` has something of, and gives their number: an array of pairs, in RESP3 a map.
pub(super) fn write_streams<'k>(
    reply: &mut Reply<'_>,
    keys: impl Iterator<Item = &'k [u8]>,
    mut serve: impl FnMut(usize, &mut Reply<'_>) -> bool,
) -> usize {
    let (start, nested) = (reply.len(), !reply.is_resp3());
    let mut served = 0;
    let write = |reply: &mut Reply<'_>| {
        for (at, key) in keys.enumerate() {
            let before = reply.len();
            if nested {
                reply.array(2);
            }
            reply.bulk(key);
            if serve(at, reply) {
                served += 1;
            } else {
                reply.truncate(before);
            }
        }
        served
    };
    if nested {
        reply.array_of(write)
    } else {
        reply.map_of(write)
    }
    if served == 0 {
        reply.truncate(start);
    }
    served
}

/// Ends a read that found nothing: waits where BLOCK asks for it.
pub(super) fn nothing_found(
    cx: &Context<'_>,
    args: &ReadArgs<'_, '_>,
    kind: WaitKind,
    request: Vec<Vec<u8>>,
    reply: &mut Reply<'_>,
) -> Flow {
    let Some(deadline_ms) = args.block else {
        reply.null_array();
        return Flow::Done;
    };
    let keys = args.keys.iter().map(|key| Box::from(*key)).collect();
    cx.park(reply, Wait { kind, keys, deadline_ms, request, null_array: true })
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let read = ReadArgs::parse(args, cx.now_ms, false)?;
    let mut after = Vec::with_capacity(read.keys.len());
    for (key, id) in read.keys.iter().zip(read.ids) {
        let stream = cx.read::<Stream>(key)?;
        after.push(match *id {
            b"$" => stream.map_or(StreamId::MIN, |stream| stream.log.last_id()),
            // The last entry alone, or where there is none the next one. SOURCE: Valkey 8.0, XREAD.
            b"+" => stream.map_or(StreamId::MIN, |Stream { log, .. }| {
                let before_last = log.last().and_then(|entry| entry.id.prev());
                before_last.unwrap_or_else(|| log.last_id())
            }),
            b">" => {
                return Err(ErrorReply::new(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            id => StreamId::parse(id, 0).ok_or(INVALID_ID)?,
        });
    }
    let cx: &Context<'_> = cx;
    let served = write_streams(reply, read.keys.iter().copied(), |at, reply| {
        let Some(start) = after[at].next() else { return false };
        let stream = cx.read::<Stream>(read.keys[at]).ok().flatten();
        let Some(stream) = stream else { return false };
        let mut entries = stream.log.range(start, StreamId::MAX).take(read.count).peekable();
        let found = entries.peek().is_some();
        if found {
            write_entries(reply, entries);
        }
        found
    });
    if served > 0 {
        return Ok(Flow::Done);
    }
    let mut request: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
    let ids_at = request.len() - after.len();
    for (word, id) in request[ids_at..].iter_mut().zip(&after) {
        *word = id.text().to_vec();
    }
    Ok(nothing_found(cx, &read, WaitKind::Stream, request, reply))
}

#[cfg(test)]
mod tests {
    use crate::Origin;
    use crate::testing::Store;
    use thali_resp::Protocol;

    #[test]
    fn several_streams_at_once() {
        let mut store = Store::new();
        store.check(&[
            ("XADD s 1-1 f v", "$3\n1-1"),
            ("XADD t 2-1 f v", "$3\n2-1"),
            (
                "XREAD COUNT 1 STREAMS s t 0 0",
                "*2\n*2\n$1\ns\n*1\n*2\n$3\n1-1\n*2\n$1\nf\n$1\nv\n*2\n$1\nt\n*1\n*2\n$3\n2-1\n*2\n$1\nf\n$1\nv",
            ),
            ("XREAD STREAMS s t 1-1 2", "*1\n*2\n$1\nt\n*1\n*2\n$3\n2-1\n*2\n$1\nf\n$1\nv"),
            ("XREAD STREAMS s none $ $", "*-1"),
            ("XADD s 1-2 f w", "$3\n1-2"),
            ("XREAD STREAMS s none + +", "*1\n*2\n$1\ns\n*1\n*2\n$3\n1-2\n*2\n$1\nf\n$1\nw"),
            ("XDEL s 1-2", ":1"),
        ]);
        store.protocol = Protocol::Resp3;
        store.check(&[
            ("XREAD STREAMS s 0", "%1\n$1\ns\n*1\n*2\n$3\n1-1\n*2\n$1\nf\n$1\nv"),
            ("XREAD STREAMS s $", "_"),
        ]);
    }

    #[test]
    fn waiting_keeps_the_concrete_id() {
        let mut store = Store::new();
        store.check(&[("XADD s 1-1 f v", "$3\n1-1"), ("XREAD BLOCK 50 STREAMS s none $ $", "")]);
        let wait = store.parked.take().unwrap();
        assert_eq!(wait.deadline_ms, Some(store.now_ms + 50));
        assert_eq!(wait.request.join(&b' '), b"XREAD BLOCK 50 STREAMS s none 1-1 0-0");
        store.check(&[("XADD none 1-1 f v", "$3\n1-1")]);
        store.origin = Origin::Waiter;
        let request: Vec<&[u8]> = wait.request.iter().map(Vec::as_slice).collect();
        assert!(store.run_args(&request).starts_with("*1\r\n*2\r\n$4\r\nnone\r\n"));
        store.origin = Origin::Unit;
        store.check(&[("XREAD BLOCK 0 STREAMS s $", "*-1")]);
    }

    #[test]
    fn faults() {
        Store::new().check(&[
            (
                "XREAD STREAMS s t 0",
                "-ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.",
            ),
            ("XREAD COUNT 1 s 0", "-ERR syntax error"),
            ("XREAD COUNT x STREAMS s 0", "-ERR value is not an integer or out of range"),
            ("XREAD BLOCK -1 STREAMS s 0", "-ERR timeout is negative"),
            ("XREAD BLOCK x STREAMS s 0", "-ERR timeout is not an integer or out of range"),
            ("XREAD STREAMS s x", "-ERR Invalid stream ID specified as stream command argument"),
            (
                "XREAD GROUP g c STREAMS s 0",
                "-ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
            ),
        ]);
    }
}
