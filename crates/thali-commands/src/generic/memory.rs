//! MEMORY USAGE: what a key costs.
//!
//! Exact for what the structures allocate; `SAMPLES` is accepted and not needed.

use thali_keyspace::Value;
use thali_resp::Reply;

use crate::{Access, Categories, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, integer, is_word};

pub const SPEC: Spec = Spec {
    name: "memory",
    summary: "A container for memory diagnostics commands.",
    since: "4.0.0",
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        Spec {
            name: "usage",
            summary: "Estimates the memory usage of a key.",
            since: "4.0.0",
            arity: -3,
            flags: Flags::READONLY,
            keys: Keys::Range { first: 2, last: 2, step: 1, access: Access::PRESENCE },
            categories: Categories::empty(),
            ..super::BASE
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            since: "4.0.0",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            categories: Categories::empty(),
            ..super::BASE
        },
    ],
    ..super::BASE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    if is_word(args[1], "HELP") {
        let lines = [
            "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value.",
            "HELP",
            "    Print this help.",
        ];
        reply.array(lines.len());
        lines.iter().for_each(|line| reply.simple(line));
        return Ok(Flow::Done);
    }
    match &args[3..] {
        [] => {}
        [word, count] if is_word(word, "SAMPLES") => {
            if integer(count)? < 0 {
                return Err(ErrorReply::SYNTAX);
            }
        }
        _ => return Err(ErrorReply::SYNTAX),
    }
    let Some(entry) = cx.peek(args[2]) else {
        reply.null();
        return Ok(Flow::Done);
    };
    let value = match &entry.value {
        Value::Str(v) => v.memory_bytes(),
        Value::List(v) => v.memory_bytes(),
        Value::Set(v) => v.memory_bytes(),
        Value::Hash(v) => v.memory_bytes(),
        Value::SortedSet(v) => v.memory_bytes(),
        Value::Stream(v) => v.memory_bytes(),
    };
    reply.integer((value + size_of::<thali_keyspace::Entry>() + args[2].len()) as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_larger_value_costs_more() {
        let mut store = Store::new();
        store.check(&[
            ("MEMORY USAGE k", "$-1"),
            ("SET k x", "+OK"),
            ("MEMORY USAGE k LIMIT 3", "-ERR syntax error"),
        ]);
        let cost = |store: &mut Store| -> i64 {
            store.run_args(&[b"MEMORY", b"USAGE", b"k"]).trim()[1..].parse().unwrap()
        };
        let small = cost(&mut store);
        store.run_args(&[b"SET", b"k", &[b'x'; 1000]]);
        assert!(small > 0 && cost(&mut store) >= small + 900);
    }
}
