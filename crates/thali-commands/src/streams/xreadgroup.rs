//! XREADGROUP: new entries for a consumer (`>`), or again those that are pending for it (an ID).
//!
//! Journaled as what it did: XCLAIM for the deliveries, XGROUP SETID for the group's advance, XGROUP
//! CREATECONSUMER for a new consumer. One XCLAIM carries all IDs of a read, as they share time and count.
//! Reading history again raises delivery counts; as in Redis, that alone is not journaled.

use thali_data::stream::{Group, Log, Pending, Stream, StreamId};
use thali_keyspace::WaitKind;
use thali_resp::Reply;

use super::xread::{ReadArgs, nothing_found, write_streams};
use super::{INVALID_ID, READ_ONE, consumer_created, no_key_or_group, write_entries, write_entry, write_id};
use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "xreadgroup",
    summary: "Returns new or historical messages from a stream for a consumer in a group. Blocks until a message is available otherwise.",
    syntax: "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id \
             ...]",
    complexity: "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data.",
    arity: -7,
    flags: Flags::WRITE.union(Flags::BLOCKING).union(Flags::MOVABLE_KEYS),
    keys: Keys::Streams { access: Access::READ },
    ..READ_ONE
};

/// What a consumer asks of a stream.
#[derive(Clone, Copy)]
enum Ask {
    /// `>`
    New,
    /// What is pending for it after this ID.
    HistoryAfter(StreamId),
}

/// What a read changed in a group.
#[derive(Default)]
struct Delivery {
    created: bool,
    served: bool,
    /// Entries that became pending.
    pending: Vec<StreamId>,
    /// The group's position and counter, where they moved.
    advanced: Option<(StreamId, Option<u64>)>,
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let read = ReadArgs::parse(args, cx.now_ms, true)?;
    let (group, consumer) = read.group.ok_or(ErrorReply::new("ERR Missing GROUP option for XREADGROUP"))?;
    let mut asks = Vec::with_capacity(read.keys.len());
    for (key, id) in read.keys.iter().zip(read.ids) {
        let stream = cx.read::<Stream>(key)?;
        if stream.is_none_or(|stream| !stream.groups.contains_key(group)) {
            return Err(no_key_or_group(key, group, " in XREADGROUP with GROUP option"));
        }
        asks.push(match *id {
            b">" => Ask::New,
            b"$" => {
                return Err(ErrorReply::new(
                    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
                ));
            }
            id => Ask::HistoryAfter(StreamId::parse(id, 0).ok_or(INVALID_ID)?),
        });
    }
    cx.no_effect();
    let served = write_streams(reply, read.keys.iter().copied(), |at, reply| {
        let key = read.keys[at];
        let now_ms = cx.now_ms;
        let stream = cx.write::<Stream>(key).ok().flatten().expect("was checked above");
        let (log, members) = stream.log_and_group(group).expect("was checked above");
        let delivery = deliver(log, members, consumer, asks[at], &read, now_ms, reply);
        journal(cx, key, group, consumer, &delivery);
        delivery.served
    });
    if served > 0 {
        return Ok(Flow::Done);
    }
    let request = args.iter().map(|arg| arg.to_vec()).collect();
    Ok(nothing_found(cx, &read, WaitKind::StreamGroup, request, reply))
}

fn deliver(
    log: &Log,
    group: &mut Group,
    name: &[u8],
    ask: Ask,
    read: &ReadArgs<'_, '_>,
    now_ms: u64,
    reply: &mut Reply<'_>,
) -> Delivery {
    let mut delivery = Delivery::default();
    let consumer = group.consumer_no(name).unwrap_or_else(|| {
        delivery.created = true;
        group.create_consumer(name, now_ms).expect("the name is free")
    });
    group.consumer_mut(consumer).seen_at_unix_ms = now_ms;
    let start = match ask {
        Ask::HistoryAfter(id) => {
            delivery.served = true;
            let ids = id.next().map_or(Vec::new(), |start| {
                group.consumer(consumer).pending_ids(start..=StreamId::MAX).take(read.count).collect()
            });
            write_history(log, group, &ids, now_ms, reply);
            return delivery;
        }
        Ask::New => group.last_id.next(),
    };
    let Some(start) = start else { return delivery };
    let entries = || log.range(start, StreamId::MAX).take(read.count);
    if entries().next().is_none() {
        return delivery;
    }
    delivery.served = true;
    write_entries(reply, entries());
    for entry in entries() {
        group.advance(log, entry.id);
        if !read.no_ack {
            let pending = Pending { consumer, delivered_at_unix_ms: now_ms, deliveries: 1 };
            group.assign(entry.id, pending);
            group.consumer_mut(consumer).active_at_unix_ms = Some(now_ms);
            delivery.pending.push(entry.id);
        }
    }
    delivery.advanced = Some((group.last_id, group.entries_read));
    delivery
}

/// Replies what is pending for a consumer; an entry that was deleted since has a null for its fields.
fn write_history(log: &Log, group: &mut Group, ids: &[StreamId], now_ms: u64, reply: &mut Reply<'_>) {
    reply.array(ids.len());
    for &id in ids {
        match log.entry(id) {
            Some(entry) => {
                write_entry(reply, &entry);
                let pending = *group.pending(id).expect("a consumer's IDs are in the group's list");
                let deliveries = pending.deliveries + 1;
                group.assign(id, Pending { delivered_at_unix_ms: now_ms, deliveries, ..pending });
            }
            None => {
                reply.array(2);
                write_id(reply, id);
                reply.null_array();
            }
        }
    }
}

fn journal(cx: &mut Context<'_>, key: &[u8], group: &[u8], consumer: &[u8], delivery: &Delivery) {
    if delivery.created {
        consumer_created(cx, key, group, consumer);
    }
    let Some((last_id, entries_read)) = delivery.advanced else { return };
    cx.dirty += 1;
    let last_id = last_id.text();
    if !delivery.pending.is_empty() {
        let ids: Vec<_> = delivery.pending.iter().map(|id| id.text()).collect();
        let time = cx.now_ms.to_string();
        let mut effect: Vec<&[u8]> = vec![b"XCLAIM", key, group, consumer, b"0"];
        effect.extend(ids.iter().map(|id| id.as_slice()));
        effect.extend([&b"TIME"[..], time.as_bytes(), b"RETRYCOUNT", b"1", b"FORCE", b"JUSTID"]);
        effect.extend([&b"LASTID"[..], &last_id]);
        cx.effect(&effect);
    }
    let read = entries_read.map_or(-1, |read| read as i64).to_string();
    cx.effect(&[&b"XGROUP"[..], b"SETID", key, group, &last_id, b"ENTRIESREAD", read.as_bytes()]);
}

#[cfg(test)]
mod tests {
    use crate::Origin;
    use crate::testing::Store;

    fn store() -> Store {
        let mut store = Store::new();
        store.check(&[
            ("XADD s 1-1 f a", "$3\n1-1"),
            ("XADD s 1-2 f b", "$3\n1-2"),
            ("XGROUP CREATE s g 0", "+OK"),
        ]);
        store
    }

    #[test]
    fn deliveries_are_journaled_as_claims() {
        let mut store = store();
        store.check(&[(
            "XREADGROUP GROUP g alice STREAMS s >",
            "*1\n*2\n$1\ns\n*2\n*2\n$3\n1-1\n*2\n$1\nf\n$1\na\n*2\n$3\n1-2\n*2\n$1\nf\n$1\nb",
        )]);
        assert_eq!(
            store.effects,
            [
                "XGROUP CREATECONSUMER s g alice",
                "XCLAIM s g alice 0 1-1 1-2 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 1-2",
                "XGROUP SETID s g 1-2 ENTRIESREAD 2",
            ]
        );
        store.check(&[("XREADGROUP GROUP g alice STREAMS s >", "*-1")]);
        assert!(store.effects.is_empty());
    }

    #[test]
    fn the_journal_brings_a_copy_to_the_same_state() {
        let (mut original, mut copy) = (store(), store());
        for line in
            ["XREADGROUP GROUP g alice COUNT 1 STREAMS s >", "XREADGROUP GROUP g bob NOACK STREAMS s >"]
        {
            original.run(line);
            copy.origin = Origin::Replay;
            original.effects.iter().for_each(|effect| drop(copy.run(effect)));
        }
        for line in ["XPENDING s g - + 10", "XINFO GROUPS s", "XPENDING s g"] {
            assert_eq!(original.run(line), copy.run(line), "{line}");
        }
    }

    #[test]
    fn history_shows_deleted_entries_as_null() {
        let mut store = store();
        store.run("XREADGROUP GROUP g alice STREAMS s >");
        store.check(&[
            ("XDEL s 1-1", ":1"),
            (
                "XREADGROUP GROUP g alice STREAMS s 0",
                "*1\n*2\n$1\ns\n*2\n*2\n$3\n1-1\n*-1\n*2\n$3\n1-2\n*2\n$1\nf\n$1\nb",
            ),
            ("XREADGROUP GROUP g bob STREAMS s 0", "*1\n*2\n$1\ns\n*0"),
            ("XPENDING s g 1-2 1-2 1", "*1\n*4\n$3\n1-2\n$5\nalice\n:0\n:2"),
        ]);
    }

    #[test]
    fn waiting_ends_with_an_error_when_the_group_goes() {
        let mut store = store();
        store.run("XREADGROUP GROUP g alice STREAMS s >");
        store.check(&[("XREADGROUP GROUP g alice BLOCK 0 STREAMS s >", "")]);
        assert!(store.parked.take().is_some());
        store.check(&[("XGROUP DESTROY s g", ":1")]);
        store.origin = Origin::Waiter;
        store.check(&[(
            "XREADGROUP GROUP g alice BLOCK 0 STREAMS s >",
            "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option",
        )]);
    }

    #[test]
    fn faults() {
        store().check(&[
            (
                "XREADGROUP GROUP g c STREAMS s none > >",
                "-NOGROUP No such key 'none' or consumer group 'g' in XREADGROUP with GROUP option",
            ),
            ("XREADGROUP COUNT 1 BLOCK 1 STREAMS s >", "-ERR Missing GROUP option for XREADGROUP"),
            (
                "XREADGROUP GROUP g c STREAMS s t >",
                "-ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.",
            ),
        ]);
    }
}
