//! SINTER, SINTERSTORE, SINTERCARD: the members that all of several sets have.

use thali_data::{Item, Set};
use thali_resp::Reply;

use crate::elements::{ReplyElements, integer_from};
use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, is_word};

pub const SINTER: Spec = Spec {
    name: "sinter",
    summary: "Returns the intersect of multiple sets.",
    syntax: "key [key ...]",
    complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    ..super::COMBINE
};

pub const SINTERSTORE: Spec = Spec {
    name: "sinterstore",
    summary: "Stores the intersect of multiple sets in a key.",
    syntax: "destination key [key ...]",
    complexity: SINTER.complexity,
    ..super::COMBINE_AND_STORE
};

pub const SINTERCARD: Spec = Spec {
    name: "sintercard",
    summary: "Returns the number of members of the intersect of multiple sets.",
    syntax: "numkeys key [key ...] [LIMIT limit]",
    since: "7.0.0",
    complexity: SINTER.complexity,
    arity: -3,
    flags: Flags::READONLY.union(Flags::MOVABLE_KEYS),
    keys: Keys::Counted { at: 1, first: 2, access: Access::READ, before: &[] },
    ..super::READ
};

pub fn sinter(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let sets = sources(cx, &args[1..])?;
    reply.set_of(|reply| intersection(&sets).map(|member| reply.item(member)).count());
    Ok(Flow::Done)
}

pub fn sinterstore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let mut set = Set::new();
    let sets = sources(cx, &args[2..])?;
    for member in intersection(&sets) {
        set.add_item(member, cx.limits);
    }
    super::store(cx, args[1], set, "sinterstore", reply)
}

pub fn sintercard(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let numkeys = integer_from(args[1], 1, ErrorReply::new("ERR numkeys should be greater than 0"))?;
    let (keys, options) = args[2..]
        .split_at_checked(numkeys)
        .ok_or(ErrorReply::new("ERR Number of keys can't be greater than number of args"))?;
    let mut limit = 0;
    let (pairs, rest) = options.as_chunks::<2>();
    for [word, value] in pairs {
        if !is_word(word, "LIMIT") {
            return Err(ErrorReply::SYNTAX);
        }
        limit = integer_from(value, 0, ErrorReply::new("ERR LIMIT can't be negative"))?;
    }
    if !rest.is_empty() {
        return Err(ErrorReply::SYNTAX);
    }
    let sets = sources(cx, keys)?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    reply.integer(intersection(&sets).take(limit).count() as i64);
    Ok(Flow::Done)
}

/// The sets at `keys`, the smallest first; none at all where one is missing.
fn sources<'c>(cx: &'c Context<'_>, keys: &[&[u8]]) -> Result<Vec<&'c Set>, ErrorReply> {
    let sets = super::read_all(cx, keys)?;
    let mut sets: Vec<&Set> = sets.into_iter().collect::<Option<_>>().unwrap_or_default();
    sets.sort_by_key(|set| set.len());
    Ok(sets)
}

fn intersection<'s>(sets: &'s [&'s Set]) -> impl Iterator<Item = Item<'s>> {
    let smallest = sets.iter().take(1).flat_map(|set| set.iter());
    smallest.filter(|member| sets[1..].iter().all(|set| set.contains_item(*member)))
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    fn store() -> Store {
        let mut store = Store::new();
        store.check(&[("SADD a 1 2 3 4", ":4"), ("SADD b 2 4 x", ":3"), ("SADD c 4 2", ":2")]);
        store
    }

    #[test]
    fn members_of_all() {
        let mut store = store();
        store.check(&[
            ("SINTER a b c", "*2\n$1\n2\n$1\n4"),
            ("SINTER a none", "*0"),
            ("SINTERSTORE d a b", ":2"),
            ("SMEMBERS d", "*2\n$1\n2\n$1\n4"),
            ("SINTERSTORE a a c", ":2"),
            ("SINTERSTORE d a none", ":0"),
        ]);
        assert_eq!(store.events, ["del d"]);
        store.check(&[("SET s v", "+OK"), ("SINTER none s", WRONG_TYPE), ("SINTERSTORE s a b", ":2")]);
    }

    #[test]
    fn sintercard_stops_at_its_limit() {
        let mut store = store();
        store.check(&[
            ("SINTERCARD 2 a b", ":2"),
            ("SINTERCARD 2 a b LIMIT 1", ":1"),
            ("SINTERCARD 2 a b LIMIT 0", ":2"),
            ("SINTERCARD 2 a none", ":0"),
            ("SINTERCARD 0 a", "-ERR numkeys should be greater than 0"),
            ("SINTERCARD x a", "-ERR numkeys should be greater than 0"),
            ("SINTERCARD 2 a", "-ERR Number of keys can't be greater than number of args"),
            ("SINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative"),
            ("SINTERCARD 1 a LIMIT", "-ERR syntax error"),
            ("SINTERCARD 1 a LIM 1", "-ERR syntax error"),
        ]);
    }
}
