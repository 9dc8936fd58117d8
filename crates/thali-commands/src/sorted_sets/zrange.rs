//! ZRANGE in all its forms: by rank, score or member, forwards or backwards, to the client or into a key.
//!
//! The older commands (ZREVRANGE, ZRANGEBYSCORE …) are the same with some options fixed. Surprise: with REV a
//! range by score or member is given as max min.

use std::ops::Range;

use thali_data::sorted_set::{LexRange, ScoreRange, SortedSet};
use thali_resp::Reply;

use super::{READ_ONE, lex_range, score_range, write_elements};
use crate::{
    Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec, integer, is_word, range,
};

pub const ZRANGE: Spec = Spec {
    name: "zrange",
    summary: "Returns members in a sorted set within a range of indexes.",
    syntax: "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
    since: "1.2.0",
    complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.",
    arity: -4,
    flags: Flags::READONLY,
    ..READ_ONE
};

pub const ZREVRANGE: Spec = Spec {
    name: "zrevrange",
    summary: "Returns members in a sorted set within a range of indexes in reverse order.",
    syntax: "key start stop [WITHSCORES]",
    ..ZRANGE
};

pub const ZRANGEBYSCORE: Spec = Spec {
    name: "zrangebyscore",
    summary: "Returns members in a sorted set within a range of scores.",
    syntax: "key min max [WITHSCORES] [LIMIT offset count]",
    since: "1.0.5",
    ..ZRANGE
};

pub const ZREVRANGEBYSCORE: Spec = Spec {
    name: "zrevrangebyscore",
    summary: "Returns members in a sorted set within a range of scores in reverse order.",
    syntax: "key max min [WITHSCORES] [LIMIT offset count]",
    since: "2.2.0",
    ..ZRANGE
};

pub const ZRANGEBYLEX: Spec = Spec {
    name: "zrangebylex",
    summary: "Returns members in a sorted set within a lexicographical range.",
    syntax: "key min max [LIMIT offset count]",
    since: "2.8.9",
    ..ZRANGE
};

pub const ZREVRANGEBYLEX: Spec = Spec {
    name: "zrevrangebylex",
    summary: "Returns members in a sorted set within a lexicographical range in reverse order.",
    syntax: "key max min [LIMIT offset count]",
    since: "2.8.9",
    ..ZRANGE
};

pub const ZRANGESTORE: Spec = Spec {
    name: "zrangestore",
    summary: "Stores a range of members from sorted set in a key.",
    syntax: "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
    since: "6.2.0",
    complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements stored into the destination key.",
    arity: -5,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::Pair { first: (1, Access::WRITE), second: (2, Access::READ) },
    ..READ_ONE
};

/// What a range is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// What the command's name says already; `None` leaves it to options.
#[derive(Clone, Copy, Default)]
struct Fixed {
    by: Option<By>,
    reverse: Option<bool>,
    /// Into a key: scores always come along, WITHSCORES is no option.
    store: bool,
}

enum Span<'a> {
    Ranks(i64, i64),
    Scores(ScoreRange),
    Members(LexRange<'a>),
}

struct Args<'a> {
    span: Span<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    /// Negative: no limit.
    limit: i64,
}

impl<'a> Args<'a> {
    fn parse(bounds: [&'a [u8]; 2], options: &[&[u8]], fixed: Fixed) -> Result<Self, ErrorReply> {
        let (mut by, mut reverse) = (fixed.by, fixed.reverse);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut rest = options.iter();
        while let Some(word) = rest.next() {
            if !fixed.store && is_word(word, "WITHSCORES") {
                with_scores = true;
            } else if is_word(word, "LIMIT") && rest.len() >= 2 {
                offset = integer(rest.next().expect("two are left"))?;
                limit = integer(rest.next().expect("one is left"))?;
            } else if reverse.is_none() && is_word(word, "REV") {
                reverse = Some(true);
            } else if by.is_none() && is_word(word, "BYLEX") {
                by = Some(By::Lex);
            } else if by.is_none() && is_word(word, "BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(ErrorReply::SYNTAX);
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(ErrorReply::new(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(ErrorReply::new(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (min, max) = match bounds {
            [max, min] if reverse && by != By::Rank => (min, max),
            [min, max] => (min, max),
        };
        let span = match by {
            By::Rank => Span::Ranks(integer(min)?, integer(max)?),
            By::Score => Span::Scores(score_range(min, max)?),
            By::Lex => Span::Members(lex_range(min, max)?),
        };
        Ok(Self { span, reverse, with_scores, offset, limit })
    }

    /// The ranks to give, counted from the lowest score whichever the direction.
    fn ranks(&self, set: &SortedSet) -> Range<usize> {
        let len = set.len();
        let ranks = match &self.span {
            Span::Ranks(start, stop) => {
                let ranks = range(*start, *stop, len).unwrap_or(0..0);
                return if self.reverse { len - ranks.end..len - ranks.start } else { ranks };
            }
            Span::Scores(range) => set.ranks_by_score(range),
            Span::Members(range) => set.ranks_by_lex(range),
        };
        let Ok(offset) = usize::try_from(self.offset) else { return 0..0 };
        let offset = offset.min(ranks.len());
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX).min(ranks.len() - offset);
        if self.reverse {
            ranks.end - offset - limit..ranks.end - offset
        } else {
            ranks.start + offset..ranks.start + offset + limit
        }
    }
}

pub fn zrange(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(cx, args, Fixed::default(), reply)
}

pub fn zrevrange(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(cx, args, Fixed { by: Some(By::Rank), reverse: Some(true), store: false }, reply)
}

pub fn zrangebyscore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(cx, args, Fixed { by: Some(By::Score), reverse: Some(false), store: false }, reply)
}

pub fn zrevrangebyscore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(cx, args, Fixed { by: Some(By::Score), reverse: Some(true), store: false }, reply)
}

pub fn zrangebylex(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(cx, args, Fixed { by: Some(By::Lex), reverse: Some(false), store: false }, reply)
}

pub fn zrevrangebylex(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(cx, args, Fixed { by: Some(By::Lex), reverse: Some(true), store: false }, reply)
}

fn give(cx: &mut Context<'_>, args: &[&[u8]], fixed: Fixed, reply: &mut Reply<'_>) -> Outcome {
    let options = Args::parse([args[2], args[3]], &args[4..], fixed)?;
    match cx.read::<SortedSet>(args[1])? {
        None => reply.array(0),
        Some(set) => {
            let elements = set.range(options.ranks(set));
            if options.reverse {
                write_elements(reply, elements.rev(), options.with_scores);
            } else {
                write_elements(reply, elements, options.with_scores);
            }
        }
    }
    Ok(Flow::Done)
}

pub fn zrangestore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (destination, source) = (args[1], args[2]);
    let fixed = Fixed { store: true, ..Fixed::default() };
    let options = Args::parse([args[3], args[4]], &args[5..], fixed)?;
    let mut result = SortedSet::new();
    let limits = cx.limits;
    if let Some(set) = cx.read::<SortedSet>(source)? {
        for (member, score) in set.range(options.ranks(set)) {
            result.insert(member, score, limits);
        }
    }
    store(cx, destination, result, "zrangestore", reply);
    Ok(Flow::Done)
}

/// Puts a result under a key and replies its length; an empty one removes the key.
pub(crate) fn store(
    cx: &mut Context<'_>,
    destination: &[u8],
    result: SortedSet,
    event: &'static str,
    reply: &mut Reply<'_>,
) {
    reply.integer(result.len() as i64);
    if result.is_empty() {
        cx.delete(destination);
    } else {
        cx.put(destination, result, None);
        cx.modified(EventClass::SORTED_SET, event, destination);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;
    use thali_resp::Protocol;

    fn store() -> Store {
        let mut store = Store::new();
        store.check(&[("ZADD z 1 a 2 b 3 c 4 d", ":4"), ("ZADD l 0 a 0 b 0 c", ":3")]);
        store
    }

    #[test]
    fn by_rank() {
        store().check(&[
            ("ZRANGE z 0 1", "*2\n$1\na\n$1\nb"),
            ("ZRANGE z -2 -1", "*2\n$1\nc\n$1\nd"),
            ("ZRANGE z 0 0 REV", "*1\n$1\nd"),
            ("ZREVRANGE z 0 1 WITHSCORES", "*4\n$1\nd\n$1\n4\n$1\nc\n$1\n3"),
            ("ZRANGE z 5 9", "*0"),
            ("ZRANGE none 0 -1", "*0"),
            ("ZRANGE z a 1", "-ERR value is not an integer or out of range"),
            ("ZRANGE z 0 1 REV REV", "-ERR syntax error"),
            (
                "ZRANGE z 0 1 LIMIT 0 1",
                "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ),
        ]);
    }

    #[test]
    fn by_score() {
        store().check(&[
            ("ZRANGE z (1 3 BYSCORE", "*2\n$1\nb\n$1\nc"),
            ("ZRANGE z 3 (1 BYSCORE REV", "*2\n$1\nc\n$1\nb"),
            ("ZRANGEBYSCORE z -inf +inf LIMIT 1 2", "*2\n$1\nb\n$1\nc"),
            ("ZREVRANGEBYSCORE z +inf -inf LIMIT 1 2", "*2\n$1\nc\n$1\nb"),
            ("ZRANGEBYSCORE z -inf +inf LIMIT 3 -1", "*1\n$1\nd"),
            ("ZRANGEBYSCORE z -inf +inf LIMIT -1 2", "*0"),
            ("ZRANGEBYSCORE z -inf +inf LIMIT 9 2", "*0"),
            ("ZRANGEBYSCORE z 3 1", "*0"),
            ("ZRANGEBYSCORE z 1 x", "-ERR min or max is not a float"),
            ("ZRANGEBYSCORE z 1 2 LIMIT 1", "-ERR syntax error"),
            ("ZRANGEBYSCORE z 1 2 REV", "-ERR syntax error"),
            ("ZRANGEBYSCORE z 1 1 WITHSCORES LIMIT 0 1", "*2\n$1\na\n$1\n1"),
        ]);
    }

    #[test]
    fn by_lex() {
        store().check(&[
            ("ZRANGE l [b + BYLEX", "*2\n$1\nb\n$1\nc"),
            ("ZRANGEBYLEX l - (c", "*2\n$1\na\n$1\nb"),
            ("ZREVRANGEBYLEX l + [b LIMIT 1 5", "*1\n$1\nb"),
            (
                "ZRANGEBYLEX l - + WITHSCORES",
                "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ),
            ("ZRANGEBYLEX l a b", "-ERR min or max not valid string range item"),
        ]);
    }

    #[test]
    fn resp3_pairs_members_with_scores() {
        let mut store = store();
        store.protocol = Protocol::Resp3;
        store.check(&[("ZRANGE z 0 1 WITHSCORES", "*2\n*2\n$1\na\n,1\n*2\n$1\nb\n,2")]);
    }

    #[test]
    fn into_a_key() {
        let mut store = store();
        store.check(&[
            ("ZRANGESTORE d z 2 3", ":2"),
            ("ZRANGE d 0 -1 WITHSCORES", "*4\n$1\nc\n$1\n3\n$1\nd\n$1\n4"),
            ("ZRANGESTORE d z 2 1 BYSCORE REV LIMIT 0 1", ":1"),
            ("ZRANGE d 0 -1", "*1\n$1\nb"),
            ("ZRANGESTORE d z 0 1 WITHSCORES", "-ERR syntax error"),
            ("ZRANGESTORE d none 0 -1", ":0"),
        ]);
        assert_eq!(store.events, ["del d"]);
        store.check(&[("ZRANGESTORE d none 0 -1", ":0")]);
        assert!(store.effects.is_empty());
    }
}
