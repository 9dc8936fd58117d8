//! ZSCORE and ZMSCORE: the scores of members.

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::{READ_ONE, write_score};
use crate::{Context, Flow, Outcome, Spec};

pub const ZSCORE: Spec = Spec {
    name: "zscore",
    summary: "Returns the score of a member in a sorted set.",
    syntax: "key member",
    since: "1.2.0",
    arity: 3,
    ..READ_ONE
};

pub const ZMSCORE: Spec = Spec {
    name: "zmscore",
    summary: "Returns the score of one or more members in a sorted set.",
    syntax: "key member [member ...]",
    since: "6.2.0",
    complexity: "O(N) where N is the number of members being requested.",
    arity: -3,
    ..READ_ONE
};

pub fn zscore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match cx.read::<SortedSet>(args[1])?.and_then(|set| set.score(args[2])) {
        Some(score) => write_score(reply, score),
        None => reply.null(),
    }
    Ok(Flow::Done)
}

pub fn zmscore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let set = cx.read::<SortedSet>(args[1])?;
    reply.array(args.len() - 2);
    for member in &args[2..] {
        match set.and_then(|set| set.score(member)) {
            Some(score) => write_score(reply, score),
            None => reply.null(),
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;
    use thali_resp::Protocol;

    #[test]
    fn scores_near_two_to_the_53_are_exact() {
        let mut store = Store::new();
        store.check(&[
            ("ZADD z 9007199254740991 a 0.1 b -inf c", ":3"),
            ("ZSCORE z a", "$16\n9007199254740991"),
            ("ZMSCORE z b x c", "*3\n$3\n0.1\n$-1\n$4\n-inf"),
            ("ZMSCORE none a", "*1\n$-1"),
        ]);
        store.protocol = Protocol::Resp3;
        store.check(&[("ZSCORE z b", ",0.1"), ("ZSCORE z x", "_")]);
    }
}
