//! ZRANK and ZREVRANK: a member's place in the order.

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::{READ_ONE, write_score};
use crate::{Context, ErrorReply, Flow, Outcome, Spec, is_word};

pub const ZRANK: Spec = Spec {
    name: "zrank",
    summary: "Returns the index of a member in a sorted set ordered by ascending scores.",
    syntax: "key member [WITHSCORE]",
    since: "2.0.0",
    complexity: "O(log(N))",
    arity: -3,
    ..READ_ONE
};

pub const ZREVRANK: Spec = Spec {
    name: "zrevrank",
    summary: "Returns the index of a member in a sorted set ordered by descending scores.",
    syntax: "key member [WITHSCORE]",
    ..ZRANK
};

pub fn zrank(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    rank("zrank", false, cx, args, reply)
}

pub fn zrevrank(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    rank("zrevrank", true, cx, args, reply)
}

fn rank(name: &str, from_top: bool, cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let with_score = match &args[3..] {
        [] => false,
        [word] if is_word(word, "WITHSCORE") => true,
        [_] => return Err(ErrorReply::SYNTAX),
        _ => return Err(ErrorReply::wrong_arity(name)),
    };
    let find = if from_top { SortedSet::reverse_rank } else { SortedSet::rank };
    match cx.read::<SortedSet>(args[1])?.and_then(|set| find(set, args[2])) {
        Some((rank, score)) if with_score => {
            reply.array(2);
            reply.integer(rank as i64);
            write_score(reply, score);
        }
        Some((rank, _)) => reply.integer(rank as i64),
        None if with_score => reply.null_array(),
        None => reply.null(),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn ranks_count_from_either_end() {
        let mut store = Store::new();
        store.check(&[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("ZRANK z c", ":2"),
            ("ZREVRANK z c", ":0"),
            ("ZRANK z b WITHSCORE", "*2\n:1\n$1\n2"),
            ("ZRANK z x", "$-1"),
            ("ZRANK z x WITHSCORE", "*-1"),
            ("ZRANK none x", "$-1"),
            ("ZRANK z a y", "-ERR syntax error"),
            ("ZREVRANK z a WITHSCORE y", "-ERR wrong number of arguments for 'zrevrank' command"),
        ]);
    }
}
