//! SSCAN: walks over members; a small set comes whole.

use thali_data::Set;
use thali_resp::Reply;

use crate::elements::{ReplyElements, ScanOptions, reply_scan};
use crate::{Context, Flow, Outcome, Spec, cursor};

pub const SPEC: Spec = Spec {
    name: "sscan",
    summary: "Iterates over members of a set.",
    syntax: "key cursor [MATCH pattern] [COUNT count]",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the \
                 cursor to return back to 0. N is the number of elements inside the collection.",
    arity: -3,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let cursor = cursor(args[2])?;
    let Some(set) = cx.read::<Set>(args[1])? else {
        reply_scan(reply, |_| (0, 0));
        return Ok(Flow::Done);
    };
    let options = ScanOptions::parse(&args[3..], None)?;
    reply_scan(reply, |reply| {
        let mut len = 0;
        let next = set.scan(cursor, options.count, |member| {
            if options.matches(member) {
                reply.item(member);
                len += 1;
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
    fn a_small_set_comes_whole() {
        let mut store = Store::new();
        store.check(&[
            ("SSCAN s 0 bla", "*2\n$1\n0\n*0"),
            ("SADD s 1 2 13", ":3"),
            ("SSCAN s 0", "*2\n$1\n0\n*3\n$1\n1\n$1\n2\n$2\n13"),
            ("SSCAN s 0 MATCH 1* COUNT 1", "*2\n$1\n0\n*2\n$1\n1\n$2\n13"),
            ("SSCAN s x", "-ERR invalid cursor"),
            ("SSCAN s 0 MATCH", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn members_that_stay_are_seen_while_others_come_and_go() {
        let mut store = Store::new();
        for n in 0..500 {
            store.run(&format!("SADD s m{n}"));
        }
        let (mut seen, mut cursor, mut extra) = (HashSet::new(), "0".to_string(), 0);
        loop {
            let reply = store.run(&format!("SSCAN s {cursor}"));
            let lines: Vec<_> = reply.split("\r\n").map(str::to_string).collect();
            cursor = lines[2].clone();
            seen.extend(lines.into_iter().filter(|line| line.starts_with('m')));
            if cursor == "0" {
                break;
            }
            for _ in 0..100 {
                store.run(&format!("SADD s x{extra}"));
                store.run(&format!("SREM s x{}", extra / 2));
                extra += 1;
            }
        }
        assert_eq!(seen.len(), 500);
    }
}
