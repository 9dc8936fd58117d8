//! XPENDING: what a group has delivered and nobody acknowledged, in sum or entry by entry.

use thali_data::stream::{Group, Pending, Stream, StreamId};
use thali_resp::Reply;

use super::{READ_ONE, no_key_or_group, range_end, range_start, write_id};
use crate::{Context, ErrorReply, Flow, Outcome, Spec, integer, is_word};

pub const SPEC: Spec = Spec {
    name: "xpending",
    summary: "Returns the information and entries from a stream consumer group's pending entries list.",
    syntax: "key group [[IDLE min-idle-time] start end count [consumer]]",
    complexity: "O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for iterating every consumer.",
    arity: -3,
    ..READ_ONE
};

/// The form that lists entries.
struct Listing<'a> {
    min_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Listing<'a> {
    /// Reads `[IDLE ms] start end count [consumer]`; `None` where nothing is given.
    fn parse(args: &[&'a [u8]]) -> Result<Option<Self>, ErrorReply> {
        if args.is_empty() {
            return Ok(None);
        }
        if args.len() < 3 || args.len() > 6 {
            return Err(ErrorReply::SYNTAX);
        }
        let (min_idle_ms, rest) = match args {
            [word, idle, rest @ ..] if is_word(word, "IDLE") => (integer(idle)?, rest),
            _ => (0, args),
        };
        let [start, end, count, consumer @ ..] = rest else { return Err(ErrorReply::SYNTAX) };
        let count = integer(count)?.max(0) as usize;
        let (start, end) = (range_start(start)?, range_end(end)?);
        Ok(Some(Self { min_idle_ms, start, end, count, consumer: consumer.first().copied() }))
    }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let listing = Listing::parse(&args[3..])?;
    let group = cx.read::<Stream>(args[1])?.and_then(|stream| stream.groups.get(args[2]));
    let group = group.ok_or_else(|| no_key_or_group(args[1], args[2], ""))?;
    match listing {
        None => write_summary(reply, group),
        Some(listing) => write_listing(reply, group, &listing, cx.now_ms),
    }
    Ok(Flow::Done)
}

fn write_summary(reply: &mut Reply<'_>, group: &Group) {
    reply.array(4);
    reply.integer(group.pending_len() as i64);
    let mut all = group.pending_range(StreamId::MIN..=StreamId::MAX);
    let Some((first, _)) = all.next() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    write_id(reply, first);
    write_id(reply, all.next_back().map_or(first, |(last, _)| last));
    reply.array_of(|reply| {
        let busy = group.consumers().filter(|consumer| consumer.pending_len() > 0);
        busy.inspect(|consumer| {
            reply.array(2);
            reply.bulk(consumer.name());
            reply.bulk_integer(consumer.pending_len() as i64);
        })
        .count()
    });
}

fn write_listing(reply: &mut Reply<'_>, group: &Group, listing: &Listing<'_>, now_ms: u64) {
    let range = listing.start..=listing.end;
    let idle = |pending: &Pending| now_ms.saturating_sub(pending.delivered_at_unix_ms) as i64;
    let wanted = |(_, pending): &(StreamId, &Pending)| idle(pending) >= listing.min_idle_ms;
    let found: Vec<_> = match listing.consumer {
        None => group.pending_range(range).filter(wanted).take(listing.count).collect(),
        Some(name) => group.consumer_no(name).map_or(Vec::new(), |no| {
            let ids = group.consumer(no).pending_ids(range);
            let entries = ids.map(|id| (id, group.pending(id).expect("the group's list has it too")));
            entries.filter(wanted).take(listing.count).collect()
        }),
    };
    reply.array(found.len());
    for (id, pending) in found {
        reply.array(4);
        write_id(reply, id);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.integer(idle(pending));
        reply.integer(pending.deliveries as i64);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn sums_and_lists() {
        let mut store = Store::new();
        store.check(&[
            ("XPENDING s g", "-NOGROUP No such key 's' or consumer group 'g'"),
            ("XADD s 1-0 f v", "$3\n1-0"),
            ("XADD s 2-0 f v", "$3\n2-0"),
            ("XGROUP CREATE s g 0", "+OK"),
            ("XPENDING s g", "*4\n:0\n$-1\n$-1\n*-1"),
        ]);
        store.run("XREADGROUP GROUP g alice COUNT 1 STREAMS s >");
        store.now_ms += 100;
        store.run("XREADGROUP GROUP g bob STREAMS s >");
        store.check(&[
            ("XPENDING s g", "*4\n:2\n$3\n1-0\n$3\n2-0\n*2\n*2\n$5\nalice\n$1\n1\n*2\n$3\nbob\n$1\n1"),
            ("XPENDING s g - + 1", "*1\n*4\n$3\n1-0\n$5\nalice\n:100\n:1"),
            ("XPENDING s g IDLE 50 - + 10", "*1\n*4\n$3\n1-0\n$5\nalice\n:100\n:1"),
            ("XPENDING s g (1-0 + 10 bob", "*1\n*4\n$3\n2-0\n$3\nbob\n:0\n:1"),
            ("XPENDING s g - + 10 carol", "*0"),
            ("XPENDING s g - + 0", "*0"),
            ("XPENDING s g - +", "-ERR syntax error"),
            ("XPENDING s g IDLE 5 - +", "-ERR syntax error"),
            ("XPENDING s g - + x", "-ERR value is not an integer or out of range"),
        ]);
    }
}
