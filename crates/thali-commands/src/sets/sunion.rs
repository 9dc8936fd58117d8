//! SUNION, SUNIONSTORE: the members of any of several sets.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Context, ErrorReply, Outcome, Spec};

pub const SUNION: Spec = Spec {
    name: "sunion",
    summary: "Returns the union of multiple sets.",
    syntax: "key [key ...]",
    complexity: "O(N) where N is the total number of elements in all given sets.",
    ..super::COMBINE
};

pub const SUNIONSTORE: Spec = Spec {
    name: "sunionstore",
    summary: "Stores the union of multiple sets in a key.",
    syntax: "destination key [key ...]",
    complexity: SUNION.complexity,
    ..super::COMBINE_AND_STORE
};

pub fn sunion(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    super::reply_set(reply, &union(cx, &args[1..])?)
}

pub fn sunionstore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let set = union(cx, &args[2..])?;
    super::store(cx, args[1], set, "sunionstore", reply)
}

fn union(cx: &Context<'_>, keys: &[&[u8]]) -> Result<Set, ErrorReply> {
    let sets = super::read_all(cx, keys)?;
    let mut union = Set::new();
    for member in sets.into_iter().flatten().flat_map(Set::iter) {
        union.add_item(member, cx.limits);
    }
    Ok(union)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn each_member_comes_once() {
        let mut store = Store::new();
        store.check(&[
            ("SADD a 1 2", ":2"),
            ("SADD b 2 3", ":2"),
            ("SUNION a none b", "*3\n$1\n1\n$1\n2\n$1\n3"),
            ("SUNION none", "*0"),
            ("SET d v", "+OK"),
            ("SUNION a d", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SUNIONSTORE d a b", ":3"),
        ]);
        assert_eq!(store.events, ["sunionstore d"]);
        store.check(&[("SCARD d", ":3"), ("SUNIONSTORE d none", ":0")]);
        assert_eq!(store.events, ["del d"]);
        store.protocol = thali_resp::Protocol::Resp3;
        store.check(&[("SUNION a none", "~2\n$1\n1\n$1\n2"), ("SUNION none", "~0")]);
    }
}
