//! SISMEMBER, SMISMEMBER: whether members are there.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const SISMEMBER: Spec = Spec {
    name: "sismember",
    summary: "Determines whether a member belongs to a set.",
    syntax: "key member",
    arity: 3,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::PRESENCE),
    ..super::READ
};

pub const SMISMEMBER: Spec = Spec {
    name: "smismember",
    summary: "Determines whether multiple members belong to a set.",
    syntax: "key member [member ...]",
    since: "6.2.0",
    complexity: "O(N) where N is the number of elements being checked for membership",
    arity: -3,
    keys: Keys::one(Access::READ),
    ..SISMEMBER
};

pub fn sismember(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let found = cx.read::<Set>(args[1])?.is_some_and(|set| set.contains(args[2]));
    reply.integer(found.into());
    Ok(Flow::Done)
}

pub fn smismember(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let set = cx.read::<Set>(args[1])?;
    reply.array(args.len() - 2);
    for member in &args[2..] {
        reply.integer(set.is_some_and(|set| set.contains(member)).into());
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_missing_set_has_no_members() {
        let mut store = Store::new();
        store.check(&[
            ("SISMEMBER s a", ":0"),
            ("SMISMEMBER s a b", "*2\n:0\n:0"),
            ("SADD s a 1", ":2"),
            ("SISMEMBER s a", ":1"),
            ("SISMEMBER s 01", ":0"),
            ("SMISMEMBER s b 1 a", "*3\n:0\n:1\n:1"),
        ]);
    }
}
