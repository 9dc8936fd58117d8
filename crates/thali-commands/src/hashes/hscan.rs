//! HSCAN: walks over fields and values; a small hash comes whole.

use thali_resp::Reply;

use crate::elements::{ReplyElements, ScanOptions, reply_scan};
use crate::{Context, Flags, Flow, Outcome, Spec, cursor};

pub const SPEC: Spec = Spec {
    name: "hscan",
    summary: "Iterates over fields and values of a hash.",
    syntax: "key cursor [MATCH pattern] [COUNT count]",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the \
                 cursor to return back to 0. N is the number of elements inside the collection.",
    arity: -3,
    flags: Flags::READONLY,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let cursor = cursor(args[2])?;
    let Some(hash) = cx.fields(args[1])? else {
        reply_scan(reply, |_| (0, 0));
        return Ok(Flow::Done);
    };
    let options = ScanOptions::parse(&args[3..], Some("NOVALUES"))?;
    reply_scan(reply, |reply| {
        let mut len = 0;
        let next = hash.scan(cursor, options.count, |field, value| {
            if options.matches(field) {
                reply.item(field);
                len += 1;
                if !options.names_only {
                    reply.item(value);
                    len += 1;
                }
            }
        });
        (next, len)
    });
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::testing::Store;

    #[test]
    fn a_small_hash_comes_whole() {
        let mut store = Store::new();
        store.check(&[
            ("HSCAN h 0", "*2\n$1\n0\n*0"),
            ("HSET h a 1 b 2", ":2"),
            ("HSCAN h 0 COUNT 1", "*2\n$1\n0\n*4\n$1\na\n$1\n1\n$1\nb\n$1\n2"),
            ("HSCAN h 0 MATCH b*", "*2\n$1\n0\n*2\n$1\nb\n$1\n2"),
            ("HSCAN h 0 NOVALUES", "*2\n$1\n0\n*2\n$1\na\n$1\nb"),
            ("HSCAN h 0 NOSCORES", "-ERR NOSCORES option can only be used in ZSCAN"),
            ("HSCAN h x", "-ERR invalid cursor"),
            ("HSCAN h 0 COUNT 0", "-ERR syntax error"),
            ("HSCAN h 0 COUNT x", "-ERR value is not an integer or out of range"),
            ("HSCAN h 0 bla", "-ERR syntax error"),
            ("HSCAN none 0 bla", "*2\n$1\n0\n*0"),
        ]);
    }

    #[test]
    fn a_large_hash_comes_in_steps_that_cover_it() {
        let mut store = Store::new();
        for n in 0..1000 {
            store.run(&format!("HSET h f{n} v"));
        }
        let (mut seen, mut cursor, mut steps) = (HashSet::new(), "0".to_string(), 0);
        loop {
            let reply = store.run(&format!("HSCAN h {cursor} COUNT 20"));
            let lines: Vec<_> = reply.split("\r\n").map(str::to_string).collect();
            cursor = lines[2].clone();
            seen.extend(lines.into_iter().filter(|line| line.starts_with('f')));
            steps += 1;
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
        assert!(steps > 20, "{steps}");
    }
}
