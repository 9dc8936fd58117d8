//! Sorted sets: members with scores.

pub mod algebra;
pub mod zadd;
pub mod zcard;
pub mod zcount;
pub mod zpop;
pub mod zrandmember;
pub mod zrange;
pub mod zrank;
pub mod zrem;
pub mod zremrange;
pub mod zscan;
pub mod zscore;

use thali_data::double::format_double;
use thali_data::sorted_set::{LexRange, ScoreRange};
use thali_resp::Reply;

use crate::{Access, Categories, Command, ErrorReply, Flags, Group, Keys, Spec};

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &zadd::ZADD, run: zadd::zadd },
    Command { spec: &zadd::ZINCRBY, run: zadd::zincrby },
    Command { spec: &zcard::SPEC, run: zcard::run },
    Command { spec: &zcount::ZCOUNT, run: zcount::zcount },
    Command { spec: &zcount::ZLEXCOUNT, run: zcount::zlexcount },
    Command { spec: &zpop::ZPOPMIN, run: zpop::zpopmin },
    Command { spec: &zpop::ZPOPMAX, run: zpop::zpopmax },
    Command { spec: &zpop::BZPOPMIN, run: zpop::bzpopmin },
    Command { spec: &zpop::BZPOPMAX, run: zpop::bzpopmax },
    Command { spec: &zpop::ZMPOP, run: zpop::zmpop },
    Command { spec: &zpop::BZMPOP, run: zpop::bzmpop },
    Command { spec: &zrandmember::SPEC, run: zrandmember::run },
    Command { spec: &zrange::ZRANGE, run: zrange::zrange },
    Command { spec: &zrange::ZRANGESTORE, run: zrange::zrangestore },
    Command { spec: &zrange::ZREVRANGE, run: zrange::zrevrange },
    Command { spec: &zrange::ZRANGEBYSCORE, run: zrange::zrangebyscore },
    Command { spec: &zrange::ZREVRANGEBYSCORE, run: zrange::zrevrangebyscore },
    Command { spec: &zrange::ZRANGEBYLEX, run: zrange::zrangebylex },
    Command { spec: &zrange::ZREVRANGEBYLEX, run: zrange::zrevrangebylex },
    Command { spec: &zrank::ZRANK, run: zrank::zrank },
    Command { spec: &zrank::ZREVRANK, run: zrank::zrevrank },
    Command { spec: &zrem::SPEC, run: zrem::run },
    Command { spec: &zremrange::BY_RANK, run: zremrange::by_rank },
    Command { spec: &zremrange::BY_SCORE, run: zremrange::by_score },
    Command { spec: &zremrange::BY_LEX, run: zremrange::by_lex },
    Command { spec: &zscan::SPEC, run: zscan::run },
    Command { spec: &zscore::ZSCORE, run: zscore::zscore },
    Command { spec: &zscore::ZMSCORE, run: zscore::zmscore },
    Command { spec: &algebra::ZUNION, run: algebra::zunion },
    Command { spec: &algebra::ZINTER, run: algebra::zinter },
    Command { spec: &algebra::ZDIFF, run: algebra::zdiff },
    Command { spec: &algebra::ZUNIONSTORE, run: algebra::zunionstore },
    Command { spec: &algebra::ZINTERSTORE, run: algebra::zinterstore },
    Command { spec: &algebra::ZDIFFSTORE, run: algebra::zdiffstore },
    Command { spec: &algebra::ZINTERCARD, run: algebra::zintercard },
];

/// What commands share that read one sorted set and are quick.
const READ_ONE: Spec = Spec {
    group: Group::SortedSet,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::READ),
    categories: Categories::SORTEDSET,
    ..Spec::BASE
};

/// What commands share that change one sorted set.
const WRITE_ONE: Spec = Spec {
    group: Group::SortedSet,
    flags: Flags::WRITE,
    keys: Keys::one(Access::WRITE),
    categories: Categories::SORTEDSET,
    ..Spec::BASE
};

/// Replies a score.
fn write_score(reply: &mut Reply<'_>, score: f64) {
    reply.double_text(format_double(score).as_bytes());
}

/// Replies elements: members alone, or with scores flat in RESP2 and as pairs in RESP3.
fn write_elements<'e>(
    reply: &mut Reply<'_>,
    elements: impl ExactSizeIterator<Item = (&'e [u8], f64)>,
    with_scores: bool,
) {
    let pairs = with_scores && reply.is_resp3();
    reply.array(elements.len() * if with_scores && !pairs { 2 } else { 1 });
    for (member, score) in elements {
        if pairs {
            reply.array(2);
        }
        reply.bulk(member);
        if with_scores {
            write_score(reply, score);
        }
    }
}

fn score_range(min: &[u8], max: &[u8]) -> Result<ScoreRange, ErrorReply> {
    ScoreRange::parse(min, max).ok_or(ErrorReply::new("ERR min or max is not a float"))
}

fn lex_range<'a>(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, ErrorReply> {
    LexRange::parse(min, max).ok_or(ErrorReply::new("ERR min or max not valid string range item"))
}

/// A score argument.
fn score(text: &[u8]) -> Result<f64, ErrorReply> {
    thali_data::double::parse_double(text).ok_or(ErrorReply::NOT_FLOAT)
}
