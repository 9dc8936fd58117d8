//! ZCOUNT and ZLEXCOUNT: how many members lie in a range, without visiting them.

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::{READ_ONE, lex_range, score_range};
use crate::{Context, Flow, Outcome, Spec};

pub const ZCOUNT: Spec = Spec {
    name: "zcount",
    summary: "Returns the count of members in a sorted set that have scores within a range.",
    syntax: "key min max",
    since: "2.0.0",
    complexity: "O(log(N)) with N being the number of elements in the sorted set.",
    arity: 4,
    ..READ_ONE
};

pub const ZLEXCOUNT: Spec = Spec {
    name: "zlexcount",
    summary: "Returns the number of members in a sorted set within a lexicographical range.",
    syntax: "key min max",
    since: "2.8.9",
    ..ZCOUNT
};

pub fn zcount(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let range = score_range(args[2], args[3])?;
    let set = cx.read::<SortedSet>(args[1])?;
    reply.integer(set.map_or(0, |set| set.ranks_by_score(&range).len() as i64));
    Ok(Flow::Done)
}

pub fn zlexcount(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let range = lex_range(args[2], args[3])?;
    let set = cx.read::<SortedSet>(args[1])?;
    reply.integer(set.map_or(0, |set| set.ranks_by_lex(&range).len() as i64));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn ranges_are_counted() {
        let mut store = Store::new();
        store.check(&[
            ("ZADD z 1 a 2 b 2 c 3 d", ":4"),
            ("ZCOUNT z -inf +inf", ":4"),
            ("ZCOUNT z (1 2", ":2"),
            ("ZCOUNT z 3 1", ":0"),
            ("ZCOUNT z x 1", "-ERR min or max is not a float"),
            ("ZCOUNT none 0 1", ":0"),
            ("ZADD l 0 a 0 b 0 c", ":3"),
            ("ZLEXCOUNT l - +", ":3"),
            ("ZLEXCOUNT l (a [c", ":2"),
            ("ZLEXCOUNT l a c", "-ERR min or max not valid string range item"),
        ]);
    }
}
