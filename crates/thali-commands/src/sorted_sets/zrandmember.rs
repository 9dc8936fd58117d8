//! ZRANDMEMBER: members chosen by chance: without repetition, or (negative count) with.

use std::collections::HashSet;

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::{READ_ONE, write_elements};
use crate::elements::integer_but_min;
use crate::{Context, ErrorReply, Flags, Flow, Outcome, Random, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "zrandmember",
    summary: "Returns one or more random members from a sorted set.",
    syntax: "key [count [WITHSCORES]]",
    since: "6.2.0",
    complexity: "O(N) where N is the number of members returned",
    arity: -2,
    flags: Flags::READONLY,
    ..READ_ONE
};

/// Most members that one request may ask for with repetition.
const REPEATED_MAX: u64 = 1 << 26;

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let Some(count) = args.get(2) else {
        let len = cx.read::<SortedSet>(key)?.map_or(0, SortedSet::len);
        if len == 0 {
            reply.null();
            return Ok(Flow::Done);
        }
        let rank = cx.random.below(len);
        let (member, _) = cx.read::<SortedSet>(key)?.and_then(|set| set.at(rank)).expect("was there");
        reply.bulk(member);
        return Ok(Flow::Done);
    };
    let (count, with_scores) = parse(count, &args[3..])?;
    let len = cx.read::<SortedSet>(key)?.map_or(0, SortedSet::len);
    let ranks = if len == 0 { Vec::new() } else { choose(cx.random, count, len) };
    let set = cx.read::<SortedSet>(key)?;
    let elements =
        ranks.iter().map(|&rank| set.and_then(|set| set.at(rank)).expect("a rank below the length"));
    write_elements(reply, elements, with_scores);
    Ok(Flow::Done)
}

fn parse(count: &[u8], rest: &[&[u8]]) -> Result<(i64, bool), ErrorReply> {
    let count = integer_but_min(count)?;
    let with_scores = match rest {
        [] => false,
        [word] if is_word(word, "WITHSCORES") => true,
        _ => return Err(ErrorReply::SYNTAX),
    };
    let unscorable = with_scores && count.unsigned_abs() > i64::MAX as u64 / 2;
    if unscorable || (count < 0 && count.unsigned_abs() > REPEATED_MAX) {
        return Err(ErrorReply::OUT_OF_RANGE);
    }
    Ok((count, with_scores))
}

/// The ranks to give: distinct ones for a positive count.
fn choose(random: &mut Random, count: i64, len: usize) -> Vec<usize> {
    if count < 0 {
        return (0..count.unsigned_abs()).map(|_| random.below(len)).collect();
    }
    let count = (count as usize).min(len);
    if count.saturating_mul(3) > len {
        // Selection sampling: each rank in turn, with the chance that fills the rest evenly.
        let mut chosen = Vec::with_capacity(count);
        for rank in 0..len {
            if random.below(len - rank) < count - chosen.len() {
                chosen.push(rank);
            }
        }
        return chosen;
    }
    let mut seen = HashSet::with_capacity(count);
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let rank = random.below(len);
        if seen.insert(rank) {
            chosen.push(rank);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Store;

    #[test]
    fn positive_counts_do_not_repeat() {
        let mut random = Random::new(3);
        for count in [0, 1, 5, 40, 99, 100, 1000] {
            let chosen = choose(&mut random, count, 100);
            let distinct: HashSet<_> = chosen.iter().collect();
            assert_eq!((chosen.len(), distinct.len()), (count.min(100) as usize, count.min(100) as usize));
            assert!(chosen.iter().all(|rank| *rank < 100));
        }
        assert_eq!(choose(&mut random, -250, 100).len(), 250);
    }

    #[test]
    fn replies() {
        let mut store = Store::new();
        store.check(&[
            ("ZRANDMEMBER none", "$-1"),
            ("ZRANDMEMBER none 5", "*0"),
            ("ZADD z 1 a", ":1"),
            ("ZRANDMEMBER z", "$1\na"),
            ("ZRANDMEMBER z 5 WITHSCORES", "*2\n$1\na\n$1\n1"),
            ("ZRANDMEMBER z -2", "*2\n$1\na\n$1\na"),
            ("ZRANDMEMBER z 0", "*0"),
            ("ZRANDMEMBER z 1 x", "-ERR syntax error"),
            ("ZRANDMEMBER z -9223372036854775807 WITHSCORES", "-ERR value is out of range"),
        ]);
    }
}
