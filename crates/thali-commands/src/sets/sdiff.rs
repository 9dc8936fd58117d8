//! SDIFF, SDIFFSTORE: the members of the first set that no other has.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Context, ErrorReply, Outcome, Spec};

pub const SDIFF: Spec = Spec {
    name: "sdiff",
    summary: "Returns the difference of multiple sets.",
    syntax: "key [key ...]",
    complexity: "O(N) where N is the total number of elements in all given sets.",
    ..super::COMBINE
};

pub const SDIFFSTORE: Spec = Spec {
    name: "sdiffstore",
    summary: "Stores the difference of multiple sets in a key.",
    syntax: "destination key [key ...]",
    complexity: SDIFF.complexity,
    ..super::COMBINE_AND_STORE
};

pub fn sdiff(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    super::reply_set(reply, &difference(cx, &args[1..])?)
}

pub fn sdiffstore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let set = difference(cx, &args[2..])?;
    super::store(cx, args[1], set, "sdiffstore", reply)
}

fn difference(cx: &Context<'_>, keys: &[&[u8]]) -> Result<Set, ErrorReply> {
    let sets = super::read_all(cx, keys)?;
    let mut difference = Set::new();
    let Some(first) = sets[0] else { return Ok(difference) };
    // The largest first: it is the likeliest to hold a member, and then the rest need no look.
    let mut others: Vec<&Set> = sets[1..].iter().copied().flatten().collect();
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    for member in first.iter() {
        if !others.iter().any(|set| set.contains_item(member)) {
            difference.add_item(member, cx.limits);
        }
    }
    Ok(difference)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn only_the_first_set_gives_members() {
        let mut store = Store::new();
        store.check(&[
            ("SADD a 1 2 3 x", ":4"),
            ("SADD b 2 y", ":2"),
            ("SADD c 3", ":1"),
            ("SDIFF a b c none", "*2\n$1\n1\n$1\nx"),
            ("SDIFF none a", "*0"),
            ("SDIFF a a", "*0"),
            ("SDIFFSTORE d a b", ":3"),
            ("SDIFFSTORE a a b c", ":2"),
            ("SMEMBERS a", "*2\n$1\n1\n$1\nx"),
        ]);
        store.check(&[("SDIFFSTORE d a a", ":0")]);
        assert_eq!(store.events, ["del d"]);
        store.check(&[("SDIFFSTORE d a a", ":0")]);
        assert!(store.effects.is_empty());
    }
}
