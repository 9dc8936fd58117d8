//! ZUNION, ZINTER, ZDIFF, their STORE forms and ZINTERCARD: sorted sets combined.
//!
//! Plain sets are inputs too; their members score 1. Scores are multiplied by weights and joined by sum,
//! minimum or maximum; where a NaN would come out (inf − inf, inf × 0), 0 does.

use thali_data::sorted_set::SortedSet;
use thali_data::{IntBuf, Limits, Set};
use thali_keyspace::Value;
use thali_resp::Reply;

use super::zrange::store;
use super::{READ_ONE, score, write_elements};
use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, integer, is_word, parse_i64};

pub const ZUNION: Spec = Spec {
    name: "zunion",
    summary: "Returns the union of multiple sorted sets.",
    syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    since: "6.2.0",
    complexity: "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.",
    arity: -3,
    flags: Flags::READONLY.union(Flags::MOVABLE_KEYS),
    keys: Keys::Counted { at: 1, first: 2, access: Access::READ, before: &[] },
    ..READ_ONE
};

pub const ZINTER: Spec = Spec {
    name: "zinter",
    summary: "Returns the intersect of multiple sorted sets.",
    syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    complexity: "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.",
    ..ZUNION
};

pub const ZDIFF: Spec = Spec {
    name: "zdiff",
    summary: "Returns the difference between multiple sorted sets.",
    syntax: "numkeys key [key ...] [WITHSCORES]",
    complexity: "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.",
    ..ZUNION
};

pub const ZINTERCARD: Spec = Spec {
    name: "zintercard",
    summary: "Returns the number of members of the intersect of multiple sorted sets.",
    syntax: "numkeys key [key ...] [LIMIT limit]",
    since: "7.0.0",
    complexity: "O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted sets.",
    ..ZUNION
};

pub const ZUNIONSTORE: Spec = Spec {
    name: "zunionstore",
    summary: "Stores the union of multiple sorted sets in a key.",
    syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    since: "2.0.0",
    arity: -4,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLE_KEYS),
    keys: Keys::Counted { at: 2, first: 3, access: Access::READ, before: &[(1, Access::WRITE)] },
    ..ZUNION
};

pub const ZINTERSTORE: Spec = Spec {
    name: "zinterstore",
    summary: "Stores the intersect of multiple sorted sets in a key.",
    syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    complexity: ZINTER.complexity,
    ..ZUNIONSTORE
};

pub const ZDIFFSTORE: Spec = Spec {
    name: "zdiffstore",
    summary: "Stores the difference of multiple sorted sets in a key.",
    syntax: "destination numkeys key [key ...]",
    since: "6.2.0",
    complexity: ZDIFF.complexity,
    ..ZUNIONSTORE
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Sum => number_or_zero(left + right),
            Self::Min => left.min(right),
            Self::Max => left.max(right),
        }
    }
}

fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// An input: a key's collection, or nothing where the key is missing.
#[derive(Clone, Copy)]
enum Source<'a> {
    Missing,
    Scored(&'a SortedSet),
    Plain(&'a Set),
}

impl<'a> Source<'a> {
    fn of(cx: &'a Context<'_>, key: &[u8]) -> Result<Self, ErrorReply> {
        match cx.entry(key).map(|entry| &entry.value) {
            None => Ok(Self::Missing),
            Some(Value::SortedSet(set)) => Ok(Self::Scored(set)),
            Some(Value::Set(set)) => Ok(Self::Plain(set)),
            Some(_) => Err(ErrorReply::WRONG_TYPE),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Scored(set) => set.len(),
            Self::Plain(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::Scored(set) => set.score(member),
            Self::Plain(set) => set.contains(member).then_some(1.0),
        }
    }

    /// Visits elements until `visit` gives false.
    fn visit(self, mut visit: impl FnMut(&[u8], f64) -> bool) {
        match self {
            Self::Missing => {}
            Self::Scored(set) => {
                let _ = set.iter().all(|(member, score)| visit(member, score));
            }
            Self::Plain(set) => {
                let mut buffer = IntBuf::new();
                let _ = set.iter().all(|item| visit(item.bytes(&mut buffer), 1.0));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Input<'a> {
    source: Source<'a>,
    weight: f64,
}

impl Input<'_> {
    fn weigh(&self, score: f64) -> f64 {
        number_or_zero(score * self.weight)
    }
}

type ArgSlice<'a, 'b> = &'a [&'b [u8]];

/// Reads the number of keys and the keys; gives them and what follows.
fn split_keys<'a, 'b>(
    name: &str,
    args: ArgSlice<'a, 'b>,
) -> Result<(ArgSlice<'a, 'b>, ArgSlice<'a, 'b>), ErrorReply> {
    let keys_len = integer(args[0])?;
    if keys_len < 1 {
        return Err(ErrorReply::owned(format!("ERR at least 1 input key is needed for '{name}' command")));
    }
    match usize::try_from(keys_len) {
        Ok(keys_len) if keys_len < args.len() => Ok(args[1..].split_at(keys_len)),
        _ => Err(ErrorReply::SYNTAX),
    }
}

fn inputs<'a>(cx: &'a Context<'_>, keys: &[&[u8]]) -> Result<Vec<Input<'a>>, ErrorReply> {
    keys.iter().map(|key| Ok(Input { source: Source::of(cx, key)?, weight: 1.0 })).collect()
}

struct Options {
    aggregate: Aggregate,
    with_scores: bool,
}

/// Reads WEIGHTS (into the inputs), AGGREGATE and WITHSCORES, as far as the form takes them.
fn options(
    operation: Operation,
    storing: bool,
    args: &[&[u8]],
    inputs: &mut [Input<'_>],
) -> Result<Options, ErrorReply> {
    let mut options = Options { aggregate: Aggregate::Sum, with_scores: false };
    let mut rest = args;
    while let Some((word, tail)) = rest.split_first() {
        let scored = operation != Operation::Diff;
        if scored && is_word(word, "WEIGHTS") && tail.len() >= inputs.len() {
            let (weights, tail) = tail.split_at(inputs.len());
            for (input, weight) in inputs.iter_mut().zip(weights) {
                input.weight =
                    score(weight).map_err(|_| ErrorReply::new("ERR weight value is not a float"))?;
            }
            rest = tail;
        } else if scored && is_word(word, "AGGREGATE") && !tail.is_empty() {
            options.aggregate = match tail[0] {
                how if is_word(how, "SUM") => Aggregate::Sum,
                how if is_word(how, "MIN") => Aggregate::Min,
                how if is_word(how, "MAX") => Aggregate::Max,
                _ => return Err(ErrorReply::SYNTAX),
            };
            rest = &tail[1..];
        } else if !storing && is_word(word, "WITHSCORES") {
            options.with_scores = true;
            rest = tail;
        } else {
            return Err(ErrorReply::SYNTAX);
        }
    }
    Ok(options)
}

fn combine(
    operation: Operation,
    mut inputs: Vec<Input<'_>>,
    aggregate: Aggregate,
    limits: &Limits,
) -> SortedSet {
    let mut result = SortedSet::new();
    match operation {
        Operation::Union => {
            inputs.sort_by_key(|input| input.source.len());
            for input in &inputs {
                input.source.visit(|member, score| {
                    let score = input.weigh(score);
                    let joined = result.score(member).map_or(score, |old| aggregate.join(old, score));
                    result.insert(member, joined, limits);
                    true
                });
            }
        }
        Operation::Inter => intersect(inputs, |member, inputs, score| {
            let first = inputs[0].weigh(score);
            let joined = inputs[1..].iter().fold(first, |joined, input| {
                let score = input.source.score(member).expect("the member is in every input");
                aggregate.join(joined, input.weigh(score))
            });
            result.insert(member, joined, limits);
            true
        }),
        Operation::Diff => {
            let (first, others) = inputs.split_first().expect("there is a first key");
            first.source.visit(|member, score| {
                if !others.iter().any(|other| other.source.score(member).is_some()) {
                    result.insert(member, score, limits);
                }
                true
            });
        }
    }
    result
}

/// Visits the members that are in every input, until `visit` gives false; smallest input first.
fn intersect(mut inputs: Vec<Input<'_>>, mut visit: impl FnMut(&[u8], &[Input<'_>], f64) -> bool) {
    inputs.sort_by_key(|input| input.source.len());
    inputs[0].source.visit(|member, score| {
        let in_all = inputs[1..].iter().all(|input| input.source.score(member).is_some());
        !in_all || visit(member, &inputs, score)
    });
}

fn give(
    operation: Operation,
    name: &str,
    cx: &mut Context<'_>,
    args: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Outcome {
    let (keys, rest) = split_keys(name, &args[1..])?;
    let mut inputs = inputs(cx, keys)?;
    let options = options(operation, false, rest, &mut inputs)?;
    let result = combine(operation, inputs, options.aggregate, cx.limits);
    write_elements(reply, result.iter(), options.with_scores);
    Ok(Flow::Done)
}

fn keep(
    operation: Operation,
    name: &'static str,
    cx: &mut Context<'_>,
    args: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Outcome {
    let (keys, rest) = split_keys(name, &args[2..])?;
    let mut inputs = inputs(cx, keys)?;
    let options = options(operation, true, rest, &mut inputs)?;
    let result = combine(operation, inputs, options.aggregate, cx.limits);
    store(cx, args[1], result, name, reply);
    Ok(Flow::Done)
}

pub fn zunion(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(Operation::Union, "zunion", cx, args, reply)
}

pub fn zinter(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(Operation::Inter, "zinter", cx, args, reply)
}

pub fn zdiff(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    give(Operation::Diff, "zdiff", cx, args, reply)
}

pub fn zunionstore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    keep(Operation::Union, "zunionstore", cx, args, reply)
}

pub fn zinterstore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    keep(Operation::Inter, "zinterstore", cx, args, reply)
}

pub fn zdiffstore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    keep(Operation::Diff, "zdiffstore", cx, args, reply)
}

pub fn zintercard(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (keys, rest) = split_keys("zintercard", &args[1..])?;
    let inputs = inputs(cx, keys)?;
    let mut limit = 0;
    for option in rest.chunks(2) {
        match option {
            [word, value] if is_word(word, "LIMIT") => {
                limit = parse_i64(value)
                    .and_then(|n| u64::try_from(n).ok())
                    .ok_or(ErrorReply::new("ERR LIMIT can't be negative"))?;
            }
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    let mut count = 0;
    intersect(inputs, |_, _, _| {
        count += 1;
        count != limit
    });
    reply.integer(count as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    fn store() -> Store {
        let mut store = Store::new();
        store.check(&[("ZADD x 1 a 2 b", ":2"), ("ZADD y 10 b 20 c", ":2")]);
        store
    }

    #[test]
    fn unions_and_intersections_weigh_and_join() {
        store().check(&[
            ("ZUNION 2 x y", "*3\n$1\na\n$1\nb\n$1\nc"),
            ("ZUNION 2 x y WITHSCORES", "*6\n$1\na\n$1\n1\n$1\nb\n$2\n12\n$1\nc\n$2\n20"),
            ("ZINTER 2 x y WEIGHTS 2 3 WITHSCORES", "*2\n$1\nb\n$2\n34"),
            ("ZINTER 2 x y AGGREGATE MAX WITHSCORES", "*2\n$1\nb\n$2\n10"),
            ("ZINTER 2 x none", "*0"),
            ("ZINTER 2 x x WITHSCORES", "*4\n$1\na\n$1\n2\n$1\nb\n$1\n4"),
            ("ZDIFF 2 x y WITHSCORES", "*2\n$1\na\n$1\n1"),
            ("ZDIFF 1 none", "*0"),
            ("ZINTERCARD 2 x y", ":1"),
            ("ZINTERCARD 2 x x LIMIT 1", ":1"),
            ("ZINTERCARD 2 x x LIMIT 0", ":2"),
        ]);
    }

    #[test]
    fn results_replace_the_destination() {
        let mut store = store();
        store.check(&[
            ("SET d v", "+OK"),
            ("ZUNIONSTORE d 2 x y AGGREGATE MIN", ":3"),
            ("ZSCORE d b", "$1\n2"),
            ("ZINTERSTORE x 2 x y", ":1"),
            ("ZDIFFSTORE d 2 x x", ":0"),
        ]);
        assert_eq!(store.events, ["del d"]);
    }

    #[test]
    fn infinities_never_make_a_nan() {
        let mut store = Store::new();
        store.check(&[
            ("ZADD x inf a", ":1"),
            ("ZADD y -inf a", ":1"),
            ("ZUNION 2 x y WITHSCORES", "*2\n$1\na\n$1\n0"),
            ("ZUNION 1 x WEIGHTS 0 WITHSCORES", "*2\n$1\na\n$1\n0"),
        ]);
    }

    #[test]
    fn faults() {
        let mut store = store();
        store.check(&[
            ("ZUNION 0 x", "-ERR at least 1 input key is needed for 'zunion' command"),
            ("ZUNION 3 x y", "-ERR syntax error"),
            ("ZUNION a x", "-ERR value is not an integer or out of range"),
            ("ZUNION 2 x y WEIGHTS 1", "-ERR syntax error"),
            ("ZUNION 2 x y WEIGHTS 1 z", "-ERR weight value is not a float"),
            ("ZUNION 2 x y AGGREGATE AVG", "-ERR syntax error"),
            ("ZDIFF 2 x y WEIGHTS 1 2", "-ERR syntax error"),
            ("ZUNIONSTORE d 2 x y WITHSCORES", "-ERR syntax error"),
            ("ZINTERCARD 2 x y LIMIT -1", "-ERR LIMIT can't be negative"),
            ("SET s v", "+OK"),
            ("ZUNION 2 x s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
