//! XCLAIM and XAUTOCLAIM: take over entries that are pending for somebody else.
//!
//! Entries that were deleted meanwhile leave the pending list on the way. Journaled as an XCLAIM for each
//! entry, with its time and count written out. Surprise: an entry forced into the list counts its first
//! delivery twice, unless RETRYCOUNT or JUSTID says otherwise.

use thali_data::stream::{ConsumerNo, Entry, Group, Log, Pending, Stream, StreamId};
use thali_resp::Reply;

use super::{WRITE_ONE, consumer_created, no_key_or_group, range_start, stream_id, write_entry, write_id};
use crate::{Context, ErrorReply, Flow, Outcome, Spec, integer, is_word, parse_i64};

pub const XCLAIM: Spec = Spec {
    name: "xclaim",
    summary: "Changes, or acquires, ownership of a message in a consumer group, as if the message was delivered a consumer group member.",
    syntax: "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] \
             [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID id]",
    complexity: "O(log N) with N being the number of messages in the PEL of the consumer group.",
    arity: -6,
    ..WRITE_ONE
};

pub const XAUTOCLAIM: Spec = Spec {
    name: "xautoclaim",
    summary: "Changes, or acquires, ownership of messages in a consumer group, as if the messages were delivered to as consumer group member.",
    syntax: "key group consumer min-idle-time start [COUNT count] [JUSTID]",
    since: "6.2.0",
    complexity: "O(1) if COUNT is small.",
    ..XCLAIM
};

/// Pending entries that XAUTOCLAIM looks at for each that it may give.
const ATTEMPTS_FACTOR: usize = 10;
const AUTOCLAIM_COUNT_DEFAULT: usize = 100;
/// Redis's bound, so that count × attempts cannot overflow.
const AUTOCLAIM_COUNT_MAX: i64 = i64::MAX / 16;

/// A change of the pending list, to be journaled: the entry as it is pending now, or as it was when it went.
struct Change {
    id: StreamId,
    consumer: Vec<u8>,
    pending: Pending,
}

impl Change {
    fn new(group: &Group, id: StreamId, pending: Pending) -> Self {
        Self { id, consumer: group.consumer(pending.consumer).name().to_vec(), pending }
    }
}

fn journal(cx: &mut Context<'_>, key: &[u8], group: &[u8], last_id: StreamId, changes: &[Change]) {
    let last_id = last_id.text();
    for change in changes {
        let (id, time) = (change.id.text(), change.pending.delivered_at_unix_ms.to_string());
        let count = change.pending.deliveries.to_string();
        cx.dirty += 1;
        cx.effect(&[
            b"XCLAIM",
            key,
            group,
            &change.consumer,
            b"0",
            &id,
            b"TIME",
            time.as_bytes(),
            b"RETRYCOUNT",
            count.as_bytes(),
            b"FORCE",
            b"JUSTID",
            b"LASTID",
            &last_id,
        ]);
    }
}

/// The consumer of this name, seen now, and whether it had to be made.
fn consumer(group: &mut Group, name: &[u8], now_ms: u64) -> (ConsumerNo, bool) {
    let known = group.consumer_no(name);
    let no = known.unwrap_or_else(|| group.create_consumer(name, now_ms).expect("the name is free"));
    group.consumer_mut(no).seen_at_unix_ms = now_ms;
    (no, known.is_none())
}

fn write_claimed(reply: &mut Reply<'_>, entry: &Entry<'_>, just_id: bool) {
    if just_id { write_id(reply, entry.id) } else { write_entry(reply, entry) }
}

struct ClaimArgs {
    min_idle_ms: u64,
    ids: Vec<StreamId>,
    delivered_at_unix_ms: u64,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl ClaimArgs {
    fn parse(args: &[&[u8]], now_ms: u64) -> Result<Self, ErrorReply> {
        let number = |text: &[u8], what: &str| {
            let fault = || ErrorReply::owned(format!("ERR Invalid {what} argument for XCLAIM"));
            parse_i64(text).ok_or_else(fault)
        };
        let min_idle_ms = number(args[4], "min-idle-time")?.max(0) as u64;
        let ids: Vec<_> = args[5..].iter().map_while(|id| StreamId::parse(id, 0)).collect();
        let mut parsed = Self {
            min_idle_ms,
            delivered_at_unix_ms: now_ms,
            deliveries: None,
            force: false,
            just_id: false,
            last_id: StreamId::MIN,
            ids,
        };
        // A time outside 0..=now is bogus, and now is the sane choice.
        let sane = |time: i64| u64::try_from(time).ok().filter(|time| *time <= now_ms).unwrap_or(now_ms);
        let mut rest = &args[5 + parsed.ids.len()..];
        loop {
            rest = match rest {
                [] => return Ok(parsed),
                [word, tail @ ..] if is_word(word, "FORCE") => {
                    parsed.force = true;
                    tail
                }
                [word, tail @ ..] if is_word(word, "JUSTID") => {
                    parsed.just_id = true;
                    tail
                }
                [word, value, tail @ ..] if is_word(word, "IDLE") => {
                    let idle_ms = number(value, "IDLE option")?;
                    parsed.delivered_at_unix_ms = sane((now_ms as i64).saturating_sub(idle_ms));
                    tail
                }
                [word, value, tail @ ..] if is_word(word, "TIME") => {
                    parsed.delivered_at_unix_ms = sane(number(value, "TIME option")?);
                    tail
                }
                [word, value, tail @ ..] if is_word(word, "RETRYCOUNT") => {
                    parsed.deliveries = u64::try_from(number(value, "RETRYCOUNT option")?).ok();
                    tail
                }
                [word, value, tail @ ..] if is_word(word, "LASTID") => {
                    parsed.last_id = stream_id(value)?;
                    tail
                }
                [word, ..] => {
                    return Err(ErrorReply::owned(
                        [b"ERR Unrecognized XCLAIM option '", *word, b"'"].concat(),
                    ));
                }
            };
        }
    }
}

pub fn xclaim(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, group_name, name) = (args[1], args[2], args[3]);
    let now_ms = cx.now_ms;
    let found = cx.write::<Stream>(key)?.and_then(|stream| stream.log_and_group(group_name));
    let (log, group) = found.ok_or_else(|| no_key_or_group(key, group_name, ""))?;
    let claim = ClaimArgs::parse(args, now_ms)?;
    let last_id_moved = claim.last_id > group.last_id;
    group.last_id = group.last_id.max(claim.last_id);
    let (consumer, created) = consumer(group, name, now_ms);
    let mut changes = Vec::new();
    reply.array_of(|reply| {
        let claimed = claim.ids.iter().filter_map(|&id| {
            let (change, entry) = claim_one(log, group, consumer, id, &claim, now_ms)?;
            changes.push(change);
            entry
        });
        claimed.inspect(|entry| write_claimed(reply, entry, claim.just_id)).count()
    });
    let (last_id, entries_read) = (group.last_id, group.entries_read);
    cx.no_effect();
    if created {
        consumer_created(cx, key, group_name, name);
    }
    journal(cx, key, group_name, last_id, &changes);
    if last_id_moved && changes.is_empty() {
        cx.dirty += 1;
        let (last_id, read) = (last_id.text(), entries_read.map_or(-1, |read| read as i64).to_string());
        cx.effect(&[&b"XGROUP"[..], b"SETID", key, group_name, &last_id, b"ENTRIESREAD", read.as_bytes()]);
    }
    Ok(Flow::Done)
}

/// Claims one entry: gives the change, and the entry unless it was deleted from the stream.
fn claim_one<'l>(
    log: &'l Log,
    group: &mut Group,
    consumer: ConsumerNo,
    id: StreamId,
    claim: &ClaimArgs,
    now_ms: u64,
) -> Option<(Change, Option<Entry<'l>>)> {
    let old = group.pending(id).copied();
    let Some(entry) = log.entry(id) else {
        let change = Change::new(group, id, old?);
        group.acknowledge(id);
        return Some((change, None));
    };
    let before = match old {
        Some(old) if now_ms.saturating_sub(old.delivered_at_unix_ms) < claim.min_idle_ms => return None,
        Some(old) => old.deliveries,
        None if claim.force => 1,
        None => return None,
    };
    let deliveries = claim.deliveries.unwrap_or(before + u64::from(!claim.just_id));
    let pending = Pending { consumer, delivered_at_unix_ms: claim.delivered_at_unix_ms, deliveries };
    group.assign(id, pending);
    group.consumer_mut(consumer).active_at_unix_ms = Some(now_ms);
    Some((Change::new(group, id, pending), Some(entry)))
}

pub fn xautoclaim(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, group_name, name) = (args[1], args[2], args[3]);
    let min_idle_ms = parse_i64(args[4])
        .ok_or(ErrorReply::new("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?
        .max(0) as u64;
    let start = range_start(args[5])?;
    let (count, just_id) = autoclaim_options(&args[6..])?;
    let now_ms = cx.now_ms;
    let found = cx.write::<Stream>(key)?.and_then(|stream| stream.log_and_group(group_name));
    let (log, group) = found.ok_or_else(|| no_key_or_group(key, group_name, ""))?;
    let (consumer, created) = consumer(group, name, now_ms);

    let attempts = count.saturating_mul(ATTEMPTS_FACTOR);
    let (mut left, mut seen) = (count, 0);
    let (mut claimed, mut deleted, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    let mut next = Some(start);
    // The entry to go on with is the first pending one that was not looked at.
    let mut cursor = first_pending(group, next);
    while let Some((id, old)) = cursor
        && left > 0
        && seen < attempts
    {
        seen += 1;
        next = id.next();
        match log.entry(id) {
            None => {
                changes.push(Change::new(group, id, old));
                group.acknowledge(id);
                deleted.push(id);
                left -= 1;
            }
            Some(entry) if now_ms.saturating_sub(old.delivered_at_unix_ms) >= min_idle_ms => {
                let deliveries = old.deliveries + u64::from(!just_id);
                let pending = Pending { consumer, delivered_at_unix_ms: now_ms, deliveries };
                group.assign(id, pending);
                group.consumer_mut(consumer).active_at_unix_ms = Some(now_ms);
                changes.push(Change::new(group, id, pending));
                claimed.push(entry);
                left -= 1;
            }
            Some(_) => {}
        }
        cursor = first_pending(group, next);
    }

    reply.array(3);
    write_id(reply, cursor.map_or(StreamId::MIN, |(id, _)| id));
    reply.array(claimed.len());
    claimed.iter().for_each(|entry| write_claimed(reply, entry, just_id));
    reply.array(deleted.len());
    deleted.iter().for_each(|id| write_id(reply, *id));
    let last_id = group.last_id;
    cx.no_effect();
    if created {
        consumer_created(cx, key, group_name, name);
    }
    journal(cx, key, group_name, last_id, &changes);
    Ok(Flow::Done)
}

fn first_pending(group: &Group, start: Option<StreamId>) -> Option<(StreamId, Pending)> {
    group.pending_range(start?..=StreamId::MAX).next().map(|(id, pending)| (id, *pending))
}

fn autoclaim_options(options: &[&[u8]]) -> Result<(usize, bool), ErrorReply> {
    let (mut count, mut just_id) = (AUTOCLAIM_COUNT_DEFAULT, false);
    let mut rest = options.iter();
    while let Some(word) = rest.next() {
        if is_word(word, "JUSTID") {
            just_id = true;
        } else if is_word(word, "COUNT")
            && let Some(value) = rest.next()
        {
            let given = integer(value).ok().filter(|count| (1..=AUTOCLAIM_COUNT_MAX).contains(count));
            count = given.ok_or(ErrorReply::new("ERR COUNT must be > 0"))? as usize;
        } else {
            return Err(ErrorReply::SYNTAX);
        }
    }
    Ok((count, just_id))
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    /// Three entries, all pending for alice for ten seconds.
    fn store() -> Store {
        let mut store = Store::new();
        for id in ["1-0", "2-0", "3-0"] {
            store.run(&format!("XADD s {id} f v"));
        }
        store.run("XGROUP CREATE s g 0");
        store.run("XREADGROUP GROUP g alice STREAMS s >");
        store.now_ms += 10_000;
        store
    }

    #[test]
    fn entries_change_hands_once_they_are_idle() {
        let mut store = store();
        store.check(&[
            ("XCLAIM s g bob 20000 1-0", "*0"),
            ("XCLAIM s g bob 5000 1-0 9-0", "*1\n*2\n$3\n1-0\n*2\n$1\nf\n$1\nv"),
        ]);
        assert_eq!(
            store.effects,
            ["XCLAIM s g bob 0 1-0 TIME 1700000010000 RETRYCOUNT 2 FORCE JUSTID LASTID 3-0"]
        );
        store.check(&[
            ("XCLAIM s g bob 0 2-0 JUSTID IDLE 500 RETRYCOUNT 7", "*1\n$3\n2-0"),
            ("XPENDING s g - + 10 bob", "*2\n*4\n$3\n1-0\n$3\nbob\n:0\n:2\n*4\n$3\n2-0\n$3\nbob\n:500\n:7"),
        ]);
    }

    #[test]
    fn deleted_entries_leave_the_list() {
        let mut store = store();
        store.check(&[("XDEL s 1-0 2-0", ":2"), ("XCLAIM s g bob 0 1-0", "*0")]);
        assert_eq!(store.effects.len(), 2, "the consumer, and the entry that went");
        store.check(&[("XAUTOCLAIM s g bob 0 - COUNT 1", "*3\n$3\n3-0\n*0\n*1\n$3\n2-0")]);
        store.check(&[("XAUTOCLAIM s g bob 0 3-0 JUSTID", "*3\n$3\n0-0\n*1\n$3\n3-0\n*0")]);
        store.check(&[("XPENDING s g", "*4\n:1\n$3\n3-0\n$3\n3-0\n*1\n*2\n$3\nbob\n$1\n1")]);
    }

    #[test]
    fn force_puts_entries_into_the_list() {
        let mut store = store();
        store.run("XADD s 4-0 f v");
        store.check(&[
            ("XCLAIM s g bob 0 4-0", "*0"),
            ("XCLAIM s g bob 0 4-0 FORCE JUSTID LASTID 4-0", "*1\n$3\n4-0"),
            ("XPENDING s g 4 4 1", "*1\n*4\n$3\n4-0\n$3\nbob\n:0\n:1"),
            ("XREADGROUP GROUP g alice STREAMS s >", "*-1"),
        ]);
    }

    #[test]
    fn faults() {
        store().check(&[
            ("XCLAIM s none c 0 1-0", "-NOGROUP No such key 's' or consumer group 'none'"),
            ("XCLAIM s g c x 1-0", "-ERR Invalid min-idle-time argument for XCLAIM"),
            ("XCLAIM s g c 0 1-0 WHAT", "-ERR Unrecognized XCLAIM option 'WHAT'"),
            ("XCLAIM s g c 0 1-0 IDLE x", "-ERR Invalid IDLE option argument for XCLAIM"),
            ("XAUTOCLAIM s g c x 0", "-ERR Invalid min-idle-time argument for XAUTOCLAIM"),
            ("XAUTOCLAIM s g c 0 x", "-ERR Invalid stream ID specified as stream command argument"),
            ("XAUTOCLAIM s g c 0 0 COUNT 0", "-ERR COUNT must be > 0"),
            ("XAUTOCLAIM s g c 0 0 COUNT", "-ERR syntax error"),
            ("XAUTOCLAIM s none c 0 0", "-NOGROUP No such key 's' or consumer group 'none'"),
        ]);
    }
}
