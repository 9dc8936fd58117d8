//! XINFO: what is known about a stream, its groups and their consumers.

use thali_data::stream::{Consumer, Group, Log, Stream, StreamId};
use thali_resp::Reply;

use super::{
    READ_ONE, bad_subcommand, count_or_all, no_group, write_entries, write_entry, write_help, write_id,
};
use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, integer, is_word};

const SUB: Spec = Spec { keys: Keys::Range { first: 2, last: 2, step: 1, access: Access::READ }, ..READ_ONE };

pub const SPEC: Spec = Spec {
    name: "xinfo",
    summary: "A container for stream introspection commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    keys: Keys::None,
    subcommands: &[
        Spec {
            name: "stream",
            summary: "Returns information about a stream.",
            syntax: "key [FULL [COUNT count]]",
            arity: -3,
            ..SUB
        },
        Spec {
            name: "groups",
            summary: "Returns a list of the consumer groups of a stream.",
            syntax: "key",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "consumers",
            summary: "Returns a list of the consumers in a consumer group.",
            syntax: "key group",
            arity: 4,
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            keys: Keys::None,
            ..READ_ONE
        },
    ],
    ..READ_ONE
};

const HELP: &[&str] = &[
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
];

/// Entries that FULL shows of each list without COUNT.
const FULL_COUNT_DEFAULT: i64 = 10;

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let sub = args[1];
    if is_word(sub, "HELP") {
        write_help(reply, "XINFO", HELP);
        return Ok(Flow::Done);
    }
    let key = args.get(2).ok_or_else(|| bad_subcommand("XINFO", sub))?;
    let stream = cx.read::<Stream>(key)?.ok_or(ErrorReply::NO_SUCH_KEY)?;
    match (sub, &args[3..]) {
        (_, [name]) if is_word(sub, "CONSUMERS") => {
            let group = stream.groups.get(*name).ok_or_else(|| no_group(key, name))?;
            write_consumers(reply, group, cx.now_ms);
        }
        (_, []) if is_word(sub, "GROUPS") => write_groups(reply, stream),
        (_, []) if is_word(sub, "STREAM") => write_stream(reply, stream),
        (_, [full, options @ ..]) if is_word(sub, "STREAM") && is_word(full, "FULL") => {
            let count = match options {
                [] => FULL_COUNT_DEFAULT,
                [word, value] if is_word(word, "COUNT") => match integer(value)? {
                    ..0 => FULL_COUNT_DEFAULT,
                    count => count,
                },
                _ => return Err(bad_subcommand("XINFO", sub)),
            };
            write_full(reply, stream, count_or_all(count));
        }
        _ => return Err(bad_subcommand("XINFO", sub)),
    }
    Ok(Flow::Done)
}

fn write_log(reply: &mut Reply<'_>, log: &Log) {
    reply.bulk(b"length");
    reply.integer(log.len() as i64);
    reply.bulk(b"radix-tree-keys");
    reply.integer(log.node_count() as i64);
    reply.bulk(b"radix-tree-nodes");
    reply.integer(log.node_count() as i64 + 1);
    reply.bulk(b"last-generated-id");
    write_id(reply, log.last_id());
    reply.bulk(b"max-deleted-entry-id");
    write_id(reply, log.max_deleted_id());
    reply.bulk(b"entries-added");
    reply.integer(log.entries_added() as i64);
    reply.bulk(b"recorded-first-entry-id");
    write_id(reply, log.first_id());
}

fn write_stream(reply: &mut Reply<'_>, stream: &Stream) {
    reply.map(10);
    write_log(reply, &stream.log);
    reply.bulk(b"groups");
    reply.integer(stream.groups.len() as i64);
    for (name, entry) in [(&b"first-entry"[..], stream.log.first()), (b"last-entry", stream.log.last())] {
        reply.bulk(name);
        match entry {
            Some(entry) => write_entry(reply, &entry),
            None => reply.null(),
        }
    }
}

fn write_number_or_null(reply: &mut Reply<'_>, number: Option<i64>) {
    match number {
        Some(number) => reply.integer(number),
        None => reply.null(),
    }
}

fn write_groups(reply: &mut Reply<'_>, stream: &Stream) {
    reply.array(stream.groups.len());
    for (name, group) in &stream.groups {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumers().len() as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending_len() as i64);
        reply.bulk(b"last-delivered-id");
        write_id(reply, group.last_id);
        write_progress(reply, &stream.log, group);
    }
}

fn write_progress(reply: &mut Reply<'_>, log: &Log, group: &Group) {
    reply.bulk(b"entries-read");
    write_number_or_null(reply, group.entries_read.map(|read| read as i64));
    reply.bulk(b"lag");
    write_number_or_null(reply, group.lag(log));
}

fn write_consumers(reply: &mut Reply<'_>, group: &Group, now_ms: u64) {
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.integer(consumer.pending_len() as i64);
        reply.bulk(b"idle");
        reply.integer(now_ms.saturating_sub(consumer.seen_at_unix_ms) as i64);
        reply.bulk(b"inactive");
        let inactive_ms = consumer.active_at_unix_ms.map(|at| now_ms.saturating_sub(at) as i64);
        reply.integer(inactive_ms.unwrap_or(-1));
    }
}

fn write_full(reply: &mut Reply<'_>, stream: &Stream, count: usize) {
    let (log, all) = (&stream.log, StreamId::MIN..=StreamId::MAX);
    reply.map(9);
    write_log(reply, log);
    reply.bulk(b"entries");
    write_entries(reply, log.range(StreamId::MIN, StreamId::MAX).take(count));
    reply.bulk(b"groups");
    reply.array(stream.groups.len());
    for (name, group) in &stream.groups {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"last-delivered-id");
        write_id(reply, group.last_id);
        write_progress(reply, log, group);
        reply.bulk(b"pel-count");
        reply.integer(group.pending_len() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending_len().min(count));
        for (id, pending) in group.pending_range(all.clone()).take(count) {
            reply.array(4);
            write_id(reply, id);
            reply.bulk(group.consumer(pending.consumer).name());
            reply.integer(pending.delivered_at_unix_ms as i64);
            reply.integer(pending.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers().len());
        group.consumers().for_each(|consumer| write_full_consumer(reply, group, consumer, count));
    }
}

fn write_full_consumer(reply: &mut Reply<'_>, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_at_unix_ms as i64);
    reply.bulk(b"active-time");
    reply.integer(consumer.active_at_unix_ms.map_or(-1, |at| at as i64));
    reply.bulk(b"pel-count");
    reply.integer(consumer.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending_len().min(count));
    for id in consumer.pending_ids(StreamId::MIN..=StreamId::MAX).take(count) {
        let pending = group.pending(id).expect("a consumer's IDs are in the group's list");
        reply.array(3);
        write_id(reply, id);
        reply.integer(pending.delivered_at_unix_ms as i64);
        reply.integer(pending.deliveries as i64);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    fn words(reply: &str) -> String {
        reply.split("\r\n").filter(|line| !line.starts_with(['$', '*', '%'])).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn everything_is_told() {
        let mut store = Store::new();
        store.check(&[
            ("XINFO STREAM s", "-ERR no such key"),
            ("XADD s 1-0 f v", "$3\n1-0"),
            ("XADD s 2-0 f w", "$3\n2-0"),
            ("XGROUP CREATE s g 0", "+OK"),
            ("XGROUP CREATECONSUMER s g idler", ":1"),
        ]);
        store.run("XREADGROUP GROUP g c COUNT 1 STREAMS s >");
        store.now_ms += 7;
        let log = "length :2 radix-tree-keys :1 radix-tree-nodes :2 last-generated-id 2-0 \
                   max-deleted-entry-id 0-0 entries-added :2 recorded-first-entry-id 1-0";
        assert_eq!(
            words(&store.run("XINFO STREAM s")).trim_end(),
            format!("{log} groups :1 first-entry 1-0 f v last-entry 2-0 f w")
        );
        assert_eq!(
            words(&store.run("XINFO GROUPS s")).trim_end(),
            "name g consumers :2 pending :1 last-delivered-id 1-0 entries-read :1 lag :1"
        );
        assert_eq!(
            words(&store.run("XINFO CONSUMERS s g")).trim_end(),
            "name c pending :1 idle :7 inactive :7 name idler pending :0 idle :7 inactive :-1"
        );
        assert_eq!(
            words(&store.run("XINFO STREAM s FULL COUNT 1")).trim_end(),
            format!(
                "{log} entries 1-0 f v groups name g last-delivered-id 1-0 entries-read :1 lag :1 \
                 pel-count :1 pending 1-0 c :1700000000000 :1 consumers name c seen-time :1700000000000 \
                 active-time :1700000000000 pel-count :1 pending 1-0 :1700000000000 :1 name idler \
                 seen-time :1700000000000 active-time :-1 pel-count :0 pending"
            )
        );
    }

    #[test]
    fn faults() {
        let mut store = Store::new();
        store.check(&[
            ("XADD s 1-0 f v", "$3\n1-0"),
            ("XINFO CONSUMERS s g", "-NOGROUP No such consumer group 'g' for key name 's'"),
            (
                "XINFO STREAM s WHAT",
                "-ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.",
            ),
            ("XINFO STREAM s FULL COUNT x", "-ERR value is not an integer or out of range"),
        ]);
    }
}
