//! OBJECT: what is known of a value beside its content.

use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec};

const SUB: Spec = Spec {
    since: "2.2.3",
    arity: 3,
    flags: Flags::READONLY,
    keys: Keys::Range { first: 2, last: 2, step: 1, access: Access::PRESENCE },
    ..super::BASE
};

pub const SPEC: Spec = Spec {
    name: "object",
    summary: "A container for object introspection commands.",
    since: "2.2.3",
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        Spec {
            name: "encoding",
            summary: "Returns the internal encoding of a Redis object.",
            syntax: "key",
            ..SUB
        },
        Spec {
            name: "freq",
            summary: "Returns the logarithmic access frequency counter of a Redis object.",
            syntax: "key",
            ..SUB
        },
        Spec {
            name: "idletime",
            summary: "Returns the time since the last access to a Redis object.",
            syntax: "key",
            ..SUB
        },
        Spec {
            name: "refcount",
            summary: "Returns the reference count of a value of a key.",
            syntax: "key",
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            arity: 2,
            keys: Keys::None,
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
    ],
    ..super::BASE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let sub = args[1].to_ascii_lowercase();
    if sub == b"help" {
        let lines = [
            "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "ENCODING <key>",
            "    Return the kind of internal representation used in order to store the value",
            "    associated with a <key>.",
            "FREQ <key>",
            "    Return the access frequency index of the <key>. The returned integer is",
            "    proportional to the logarithm of the recent access frequency of the key.",
            "IDLETIME <key>",
            "    Return the idle time of the <key>, that is the approximated number of",
            "    seconds elapsed since the last access to the key.",
            "REFCOUNT <key>",
            "    Return the number of references of the value associated with the specified",
            "    <key>.",
            "HELP",
            "    Prints this help.",
        ];
        reply.array(lines.len());
        lines.iter().for_each(|line| reply.simple(line));
        return Ok(Flow::Done);
    }
    let (Some(entry), Some(access)) = (cx.peek(args[2]), cx.access(args[2])) else {
        reply.null();
        return Ok(Flow::Done);
    };
    match sub.as_slice() {
        b"encoding" => reply.bulk(entry.value.encoding().as_bytes()),
        b"refcount" => reply.integer(1),
        b"idletime" if cx.uses.are_counted() => return Err(NO_IDLE_TIMES),
        b"idletime" => reply.integer(cx.uses.idle_seconds(access.get()) as i64),
        _ if !cx.uses.are_counted() => return Err(NO_FREQUENCIES),
        _ => reply.integer(i64::from(cx.uses.frequency(access.get()))),
    }
    Ok(Flow::Done)
}

const NO_IDLE_TIMES: ErrorReply = ErrorReply::new(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
     policies at runtime LRU and LFU data will take some time to adjust.",
);
const NO_FREQUENCIES: ErrorReply = ErrorReply::new(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
     between policies at runtime LRU and LFU data will take some time to adjust.",
);

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn encodings() {
        Store::new().check(&[
            ("OBJECT ENCODING k", "$-1"),
            ("SET k 12", "+OK"),
            ("OBJECT ENCODING k", "$3\nint"),
            ("SADD s 1 2", ":2"),
            ("OBJECT ENCODING s", "$6\nintset"),
            ("OBJECT REFCOUNT s", ":1"),
        ]);
    }

    #[test]
    fn what_only_looks_is_no_use_and_what_reads_or_writes_is() {
        let uses = [
            ("SET k v", "GET k"),
            ("SET k v", "STRLEN k"),
            ("SET k v", "MGET k"),
            ("SET k v", "GETRANGE k 0 1"),
            ("SET k v", "DUMP k"),
            ("SET k v", "TOUCH k"),
            ("SET k v", "APPEND k x"),
            ("SET k v", "SET k w"),
            ("SET k v", "EXPIRE k 100"),
            ("RPUSH k v", "LRANGE k 0 -1"),
            ("SADD k v", "SISMEMBER k w"),
            ("SADD k v", "SUNION k other"),
            ("ZADD k 1 v", "ZSCORE k v"),
            ("HSET k f v", "HGET k f"),
            ("HSET k f v", "HSET k f w"),
            ("XADD k 5-1 f v", "XRANGE k - +"),
            ("SET a v", "RENAME a k"),
        ];
        let looks = ["TTL k", "TYPE k", "EXISTS k", "OBJECT ENCODING k", "KEYS *", "SCAN 0"];
        for (fill, used, idle) in
            uses.iter().map(|(fill, used)| (*fill, *used, 0)).chain(looks.map(|look| ("SET k v", look, 5)))
        {
            let mut store = Store::new();
            store.run(fill);
            store.now_ms += 5_000;
            store.run(used);
            assert_eq!(store.run("OBJECT IDLETIME k"), format!(":{idle}\r\n"), "{used}");
        }
    }

    #[test]
    fn uses_are_counted_or_their_time_is_kept() {
        let mut store = Store::new();
        store.check(&[("SET k v", "+OK"), ("OBJECT IDLETIME k", ":0"), ("OBJECT FREQ none", "$-1")]);
        assert!(
            store.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected, access")
        );
        store.lfu = Some(thali_keyspace::Lfu { log_factor: 0, decay_minutes: 1 });
        store.check(&[
            ("SET new v", "+OK"),
            ("OBJECT FREQ new", ":5"),
            ("GET new", "$1\nv"),
            ("OBJECT FREQ new", ":6"),
            ("SET new w", "+OK"),
            ("OBJECT FREQ new", ":7"),
            ("RENAME new k", "+OK"),
            ("OBJECT FREQ k", ":8"),
            ("OBJECT IDLETIME none", "$-1"),
        ]);
        assert!(
            store.run("OBJECT IDLETIME k").starts_with("-ERR An LFU maxmemory policy is selected, idle time")
        );
        store.now_ms += 3 * 60_000;
        store.check(&[("OBJECT FREQ k", ":5")]);
    }
}
