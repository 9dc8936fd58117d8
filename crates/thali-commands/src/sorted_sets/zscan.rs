//! ZSCAN: walk a sorted set in steps; small sets come in one.

use thali_data::Item;
use thali_data::double::format_double;
use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::READ_ONE;
use crate::elements::{ScanOptions, reply_scan};
use crate::{Context, Flags, Flow, Outcome, Spec, cursor};

pub const SPEC: Spec = Spec {
    name: "zscan",
    summary: "Iterates over members and scores of a sorted set.",
    syntax: "key cursor [MATCH pattern] [COUNT count]",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
    arity: -3,
    flags: Flags::READONLY,
    ..READ_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let from = cursor(args[2])?;
    let set = cx.read::<SortedSet>(args[1])?;
    let options = ScanOptions::parse(&args[3..], Some("NOSCORES"))?;
    reply_scan(reply, |reply| {
        let mut written = 0;
        let next = set.map_or(0, |set| {
            set.scan(from, options.count, |member, score| {
                if options.matches(Item::Bytes(member)) {
                    reply.bulk(member);
                    written += 1;
                    if !options.names_only {
                        reply.bulk(format_double(score).as_bytes());
                        written += 1;
                    }
                }
            })
        });
        (next, written)
    });
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn small_sets_come_in_one_step() {
        let mut store = Store::new();
        store.check(&[
            ("ZSCAN none 0", "*2\n$1\n0\n*0"),
            ("ZADD z 1 ab 2.5 b", ":2"),
            ("ZSCAN z 0 COUNT 1", "*2\n$1\n0\n*4\n$2\nab\n$1\n1\n$1\nb\n$3\n2.5"),
            ("ZSCAN z 0 MATCH a*", "*2\n$1\n0\n*2\n$2\nab\n$1\n1"),
            ("ZSCAN z 0 NOSCORES", "*2\n$1\n0\n*2\n$2\nab\n$1\nb"),
            ("ZSCAN z 0 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN"),
            ("ZSCAN z x", "-ERR invalid cursor"),
            ("ZSCAN z 0 COUNT 0", "-ERR syntax error"),
            ("ZSCAN z 0 COUNT", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn large_sets_come_in_steps_and_whole() {
        let mut store = Store::new();
        for number in 0..1000 {
            store.run(&format!("ZADD z {number} member:{number}"));
        }
        let (mut cursor, mut seen) = ("0".to_owned(), std::collections::HashSet::new());
        loop {
            let reply = store.run(&format!("ZSCAN z {cursor} COUNT 50"));
            let lines: Vec<&str> = reply.split("\r\n").collect();
            cursor = lines[2].to_owned();
            seen.extend(lines.iter().filter(|line| line.starts_with("member:")).map(|line| line.to_string()));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
    }
}
