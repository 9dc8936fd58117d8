//! XGROUP: create, move and destroy consumer groups, create and delete consumers.

use thali_data::stream::{Stream, StreamId};
use thali_resp::Reply;

use super::{READ_ONE, WRITE_ONE, bad_subcommand, group_changed, no_group, stream_id, write_help};
use crate::{Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec, integer, is_word};

/// The key of a subcommand stands after its name.
const KEYS: Keys = Keys::Range { first: 2, last: 2, step: 1, access: Access::WRITE };

const SUB: Spec = Spec { keys: KEYS, flags: Flags::WRITE, ..WRITE_ONE };

pub const SPEC: Spec = Spec {
    name: "xgroup",
    summary: "A container for consumer groups commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    keys: Keys::None,
    subcommands: &[
        Spec {
            name: "create",
            summary: "Creates a consumer group.",
            syntax: "key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]",
            arity: -5,
            flags: Flags::WRITE.union(Flags::DENYOOM),
            ..SUB
        },
        Spec {
            name: "setid",
            summary: "Sets the last-delivered ID of a consumer group.",
            syntax: "key group <id | $> [ENTRIESREAD entries-read]",
            arity: -5,
            ..SUB
        },
        Spec {
            name: "destroy",
            summary: "Destroys a consumer group.",
            syntax: "key group",
            complexity: "O(N) where N is the number of entries in the group's pending entries list (PEL).",
            arity: 4,
            ..SUB
        },
        Spec {
            name: "createconsumer",
            summary: "Creates a consumer in a consumer group.",
            syntax: "key group consumer",
            since: "6.2.0",
            arity: 5,
            flags: Flags::WRITE.union(Flags::DENYOOM),
            ..SUB
        },
        Spec {
            name: "delconsumer",
            summary: "Deletes a consumer from a consumer group.",
            syntax: "key group consumer",
            arity: 5,
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
    ..WRITE_ONE
};

const HELP: &[&str] = &[
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
];

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match (args[1], args.len()) {
        (sub, 2) if is_word(sub, "HELP") => write_help(reply, "XGROUP", HELP),
        (sub, 5..) if is_word(sub, "CREATE") => create(cx, args, reply)?,
        (sub, 5..) if is_word(sub, "SETID") => set_id(cx, args, reply)?,
        (sub, 4) if is_word(sub, "DESTROY") => destroy(cx, args, reply)?,
        (sub, 5) if is_word(sub, "CREATECONSUMER") => create_consumer(cx, args, reply)?,
        (sub, 5) if is_word(sub, "DELCONSUMER") => delete_consumer(cx, args, reply)?,
        (sub, _) => return Err(bad_subcommand("XGROUP", sub)),
    }
    Ok(Flow::Done)
}

/// Options of CREATE and SETID.
#[derive(Default)]
struct Options {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(args: &[&[u8]], creating: bool) -> Result<Self, ErrorReply> {
        let mut options = Self::default();
        let mut rest = args[5..].iter();
        while let Some(word) = rest.next() {
            if creating && is_word(word, "MKSTREAM") {
                options.make_stream = true;
            } else if is_word(word, "ENTRIESREAD")
                && let Some(value) = rest.next()
            {
                options.entries_read =
                    match integer(value)? {
                        -1 => None,
                        count => Some(u64::try_from(count).map_err(|_| {
                            ErrorReply::new("ERR value for ENTRIESREAD must be positive or -1")
                        })?),
                    };
            } else {
                return Err(bad_subcommand("XGROUP", args[1]));
            }
        }
        Ok(options)
    }
}

/// The stream under a key, which must be there.
fn stream<'c>(cx: &'c mut Context<'_>, key: &[u8]) -> Result<&'c mut Stream, ErrorReply> {
    cx.write::<Stream>(key)?.ok_or(ErrorReply::new(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
    ))
}

fn create(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let (key, group, id) = (args[2], args[3], args[4]);
    let options = Options::parse(args, true)?;
    let last_id = if options.make_stream {
        cx.write::<Stream>(key)?.map_or(StreamId::MIN, |stream| stream.log.last_id())
    } else {
        stream(cx, key)?.log.last_id()
    };
    let id = if id == b"$" { last_id } else { stream_id(id)? };
    let missing = !cx.exists(key);
    let stream = cx.write_or_insert(key, Stream::new)?;
    if !stream.create_group(group, id, options.entries_read) {
        return Err(ErrorReply::new("BUSYGROUP Consumer Group name already exists"));
    }
    if missing {
        cx.modified(EventClass::STREAM, "xgroup-create", key);
    } else {
        group_changed(cx, "xgroup-create", key);
    }
    reply.ok();
    Ok(())
}

fn set_id(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let (key, name, id) = (args[2], args[3], args[4]);
    let options = Options::parse(args, false)?;
    let (log, group) = stream(cx, key)?.log_and_group(name).ok_or_else(|| no_group(key, name))?;
    group.last_id = match id {
        b"$" => log.last_id(),
        id => StreamId::parse_or_edge(id, 0).ok_or(super::INVALID_ID)?,
    };
    group.entries_read = options.entries_read;
    group_changed(cx, "xgroup-setid", key);
    reply.ok();
    Ok(())
}

fn destroy(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let (key, name) = (args[2], args[3]);
    let removed = stream(cx, key)?.groups.remove(name).is_some();
    if removed {
        // Whoever waits for the group's entries learns that it is gone.
        cx.modified(EventClass::STREAM, "xgroup-destroy", key);
    }
    reply.integer(i64::from(removed));
    Ok(())
}

fn create_consumer(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let (key, name, consumer) = (args[2], args[3], args[4]);
    let now_ms = cx.now_ms;
    let group = stream(cx, key)?.groups.get_mut(name).ok_or_else(|| no_group(key, name))?;
    let created = group.create_consumer(consumer, now_ms).is_some();
    if created {
        group_changed(cx, "xgroup-createconsumer", key);
    }
    reply.integer(i64::from(created));
    Ok(())
}

fn delete_consumer(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let (key, name, consumer) = (args[2], args[3], args[4]);
    let group = stream(cx, key)?.groups.get_mut(name).ok_or_else(|| no_group(key, name))?;
    let pending = group.delete_consumer(consumer);
    if pending.is_some() {
        group_changed(cx, "xgroup-delconsumer", key);
    }
    reply.integer(pending.unwrap_or(0) as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    const NO_KEY: &str = "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.";

    #[test]
    fn groups_come_and_go() {
        let mut store = Store::new();
        store.check(&[
            ("XGROUP CREATE s g $", NO_KEY),
            ("XGROUP CREATE s g $ MKSTREAM", "+OK"),
            ("XGROUP CREATE s g $", "-BUSYGROUP Consumer Group name already exists"),
            ("XGROUP CREATE s h x", "-ERR Invalid stream ID specified as stream command argument"),
            ("XGROUP SETID s h 0", "-NOGROUP No such consumer group 'h' for key name 's'"),
            ("XGROUP SETID s g 5-5 ENTRIESREAD 3", "+OK"),
            ("XGROUP SETID s g 5-5 ENTRIESREAD -2", "-ERR value for ENTRIESREAD must be positive or -1"),
            ("XGROUP DESTROY s g", ":1"),
            ("XGROUP DESTROY s g", ":0"),
            ("XGROUP DESTROY t g", NO_KEY),
            ("XLEN s", ":0"),
            ("DEL s", ":1"),
        ]);
    }

    #[test]
    fn consumers_take_their_entries_along() {
        let mut store = Store::new();
        store.check(&[
            ("XADD s 1-0 f v", "$3\n1-0"),
            ("XGROUP CREATE s g 0", "+OK"),
            ("XGROUP CREATECONSUMER s g c", ":1"),
            ("XGROUP CREATECONSUMER s g c", ":0"),
        ]);
        assert!(store.effects.is_empty());
        store.run("XREADGROUP GROUP g c STREAMS s >");
        store.check(&[
            ("XGROUP DELCONSUMER s g c", ":1"),
            ("XGROUP DELCONSUMER s g c", ":0"),
            ("XPENDING s g", "*4\n:0\n$-1\n$-1\n*-1"),
        ]);
    }

    #[test]
    fn faults() {
        let wrong = "-ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.";
        let mut store = Store::new();
        store.check(&[("XGROUP CREATE s g 0 MKSTREAM WHAT", wrong)]);
        assert!(store.run("XGROUP HELP").starts_with("*17\r\n+XGROUP <subcommand>"));
    }
}
