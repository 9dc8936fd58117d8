//! ZADD and ZINCRBY: put members at scores.
//!
//! A refused addition (NX, XX, GT, LT) is not an error; only INCR tells it by a null. Journaled as it came:
//! the outcome depends on nothing but the set.

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::{WRITE_ONE, score, write_score};
use crate::{Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec, is_word};

pub const ZADD: Spec = Spec {
    name: "zadd",
    summary: "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist.",
    syntax: "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
    since: "1.2.0",
    complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
    arity: -4,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    keys: Keys::one(Access::WRITE),
    ..WRITE_ONE
};

pub const ZINCRBY: Spec = Spec {
    name: "zincrby",
    summary: "Increments the score of a member in a sorted set.",
    syntax: "key increment member",
    since: "1.2.0",
    complexity: "O(log(N)) where N is the number of elements in the sorted set.",
    arity: 4,
    keys: Keys::one(Access::READ_WRITE),
    ..ZADD
};

#[derive(Clone, Copy, Debug, Default)]
struct Options {
    only_new: bool,
    only_present: bool,
    only_greater: bool,
    only_less: bool,
    /// Reply how many were added or moved, not how many were added.
    count_changed: bool,
    increment: bool,
}

impl Options {
    /// Reads options up to the first word that is none; gives them and the rest.
    fn parse<'a, 'b>(args: &'a [&'b [u8]]) -> (Self, &'a [&'b [u8]]) {
        let mut options = Self::default();
        let mut rest = args;
        while let Some((word, tail)) = rest.split_first() {
            match word {
                _ if is_word(word, "NX") => options.only_new = true,
                _ if is_word(word, "XX") => options.only_present = true,
                _ if is_word(word, "GT") => options.only_greater = true,
                _ if is_word(word, "LT") => options.only_less = true,
                _ if is_word(word, "CH") => options.count_changed = true,
                _ if is_word(word, "INCR") => options.increment = true,
                _ => break,
            }
            rest = tail;
        }
        (options, rest)
    }

    fn check(&self, pairs: usize) -> Result<(), ErrorReply> {
        if self.only_new && self.only_present {
            return Err(ErrorReply::new("ERR XX and NX options at the same time are not compatible"));
        }
        let exclusive = [self.only_new, self.only_greater, self.only_less];
        if exclusive.iter().filter(|set| **set).count() > 1 {
            return Err(ErrorReply::new("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increment && pairs > 1 {
            return Err(ErrorReply::new("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score that a member gets, or `None` where the options refuse.
    fn new_score(&self, old: Option<f64>, given: f64) -> Result<Option<f64>, ErrorReply> {
        let Some(old) = old else { return Ok((!self.only_present).then_some(given)) };
        if self.only_new {
            return Ok(None);
        }
        let new = if self.increment { old + given } else { given };
        if new.is_nan() {
            return Err(ErrorReply::new("ERR resulting score is not a number (NaN)"));
        }
        let refused = (self.only_greater && new <= old) || (self.only_less && new >= old);
        Ok((!refused).then_some(new))
    }
}

/// What an addition of several members did.
#[derive(Default)]
struct Tally {
    added: usize,
    moved: usize,
    /// The score that the last member has, unless it was refused.
    last: Option<f64>,
}

pub fn zadd(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (options, pairs) = Options::parse(&args[2..]);
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(ErrorReply::SYNTAX);
    }
    add(cx, args[1], options, pairs, reply)
}

pub fn zincrby(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    add(cx, args[1], Options { increment: true, ..Options::default() }, &args[2..], reply)
}

fn add(
    cx: &mut Context<'_>,
    key: &[u8],
    options: Options,
    pairs: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Outcome {
    options.check(pairs.len() / 2)?;
    let scores = pairs.chunks_exact(2).map(|pair| score(pair[0])).collect::<Result<Vec<_>, _>>()?;
    let mut tally = Tally::default();
    // With XX a missing key stays missing; without it the first pair is always added to a new set.
    if !options.only_present || cx.write::<SortedSet>(key)?.is_some() {
        let limits = cx.limits;
        let set = cx.write_or_insert(key, SortedSet::new)?;
        for (pair, given) in pairs.chunks_exact(2).zip(scores) {
            let (old, new) = set.update(pair[1], limits, |old| {
                tally.last = options.new_score(old, given)?;
                Ok::<_, ErrorReply>(tally.last)
            })?;
            match old {
                None => tally.added += usize::from(new.is_some()),
                Some(_) => tally.moved += usize::from(old != new),
            }
        }
    }
    if tally.added + tally.moved > 0 {
        cx.modified(EventClass::SORTED_SET, if options.increment { "zincr" } else { "zadd" }, key);
    }
    match (options.increment, tally.last) {
        (true, Some(score)) => write_score(reply, score),
        (true, None) => reply.null(),
        (false, _) if options.count_changed => reply.integer((tally.added + tally.moved) as i64),
        (false, _) => reply.integer(tally.added as i64),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn conditions_refuse_without_error() {
        let mut store = Store::new();
        store.check(&[
            ("ZADD z XX 1 a", ":0"),
            ("ZADD z XX INCR 1 a", "$-1"),
            ("ZADD z 1 a 2 b", ":2"),
            ("ZADD z NX 5 a 3 c", ":1"),
            ("ZADD z CH 1 a 5 b 6 d", ":2"),
            ("ZADD z GT CH 0 a 9 b", ":1"),
            ("ZADD z LT CH 0 a 10 b", ":1"),
            ("ZADD z GT INCR -1 a", "$-1"),
            ("ZADD z INCR 2.5 a", "$3\n2.5"),
            ("ZINCRBY z -1 a", "$3\n1.5"),
            ("ZSCORE z b", "$1\n9"),
        ]);
    }

    #[test]
    fn faults_leave_the_set_alone() {
        let mut store = Store::new();
        store.check(&[("ZADD z 1 a x b", "-ERR value is not a valid float")][..1]);
        store.check(&[
            ("ZADD z nan a", "-ERR value is not a valid float"),
            ("ZADD z 1", "-ERR wrong number of arguments for 'zadd' command"),
            ("ZADD z 1 a 2", "-ERR syntax error"),
            ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
            ("ZADD z NX GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
            ("ZADD z LT GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
            ("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
            ("ZCARD z", ":0"),
            ("ZADD z inf a", ":1"),
            ("ZINCRBY z -inf a", "-ERR resulting score is not a number (NaN)"),
            ("ZSCORE z a", "$3\ninf"),
            ("SET s v", "+OK"),
            ("ZADD s 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn nothing_changed_is_not_journaled() {
        let mut store = Store::new();
        store.check(&[("ZADD z 1 a", ":1")]);
        assert_eq!(
            (&store.effects[..], &store.events[..]),
            (&["ZADD z 1 a".into()][..], &["new z".into(), "zadd z".into()][..])
        );
        store.check(&[("ZADD z 1 a", ":0")]);
        assert!(store.effects.is_empty() && store.events.is_empty());
        store.check(&[("ZINCRBY z 0 a", "$1\n1")]);
        assert!(store.effects.is_empty());
    }
}
