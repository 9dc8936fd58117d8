//! ZREMRANGEBYRANK, ZREMRANGEBYSCORE and ZREMRANGEBYLEX: remove a range of members.

use std::ops::Range;

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::{WRITE_ONE, lex_range, score_range};
use crate::{Context, ErrorReply, EventClass, Flow, Outcome, Spec, integer, range};

pub const BY_RANK: Spec = Spec {
    name: "zremrangebyrank",
    summary: "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed.",
    syntax: "key start stop",
    since: "2.0.0",
    complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
    arity: 4,
    ..WRITE_ONE
};

pub const BY_SCORE: Spec = Spec {
    name: "zremrangebyscore",
    summary: "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed.",
    syntax: "key min max",
    since: "1.2.0",
    ..BY_RANK
};

pub const BY_LEX: Spec = Spec {
    name: "zremrangebylex",
    summary: "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed.",
    syntax: "key min max",
    since: "2.8.9",
    ..BY_RANK
};

pub fn by_rank(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let ranks = |set: &SortedSet| range(start, stop, set.len()).unwrap_or(0..0);
    remove(cx, args[1], "zremrangebyrank", ranks, reply)
}

pub fn by_score(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let range = score_range(args[2], args[3])?;
    remove(cx, args[1], "zremrangebyscore", |set| set.ranks_by_score(&range), reply)
}

pub fn by_lex(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let range = lex_range(args[2], args[3])?;
    remove(cx, args[1], "zremrangebylex", |set| set.ranks_by_lex(&range), reply)
}

fn remove(
    cx: &mut Context<'_>,
    key: &[u8],
    event: &'static str,
    ranks: impl FnOnce(&SortedSet) -> Range<usize>,
    reply: &mut Reply<'_>,
) -> Result<Flow, ErrorReply> {
    let removed = match cx.write::<SortedSet>(key)? {
        Some(set) => set.remove_range(ranks(set), |_, _| {}),
        None => 0,
    };
    if removed > 0 {
        cx.modified(EventClass::SORTED_SET, event, key);
        cx.remove_if_empty(key);
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn ranges_go() {
        let mut store = Store::new();
        store.check(&[
            ("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5"),
            ("ZREMRANGEBYRANK z 0 0", ":1"),
            ("ZREMRANGEBYRANK z -1 -1", ":1"),
            ("ZREMRANGEBYRANK z 5 9", ":0"),
            ("ZREMRANGEBYSCORE z (2 3", ":1"),
            ("ZRANGE z 0 -1", "*2\n$1\nb\n$1\nd"),
            ("ZREMRANGEBYSCORE z -inf inf", ":2"),
        ]);
        assert_eq!(store.events, ["zremrangebyscore z", "del z"]);
        store.check(&[("ZADD z 0 a 0 b", ":2"), ("ZREMRANGEBYLEX z [b +", ":1"), ("ZCARD z", ":1")]);
    }
}
