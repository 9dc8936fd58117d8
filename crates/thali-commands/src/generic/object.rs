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
        Spec { name: "encoding", summary: "Returns the internal encoding of a Redis object.", ..SUB },
        Spec {
            name: "freq",
            summary: "Returns the logarithmic access frequency counter of a Redis object.",
            ..SUB
        },
        Spec {
            name: "idletime",
            summary: "Returns the time since the last access to a Redis object.",
            ..SUB
        },
        Spec { name: "refcount", summary: "Returns the reference count of a value of a key.", ..SUB },
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
            "    Return the kind of internal representation used in order to store the value associated with a <key>.",
            "REFCOUNT <key>",
            "    Return the number of references of the value associated with the specified <key>.",
            "HELP",
            "    Print this help.",
        ];
        reply.array(lines.len());
        lines.iter().for_each(|line| reply.simple(line));
        return Ok(Flow::Done);
    }
    let Some(entry) = cx.peek(args[2]) else {
        reply.null();
        return Ok(Flow::Done);
    };
    match sub.as_slice() {
        b"encoding" => reply.bulk(entry.value.encoding().as_bytes()),
        b"refcount" => reply.integer(1),
        // Access times are not kept yet: every key counts as just used.
        b"idletime" => reply.integer(0),
        _ => {
            return Err(ErrorReply::new(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(Flow::Done)
}

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
}
