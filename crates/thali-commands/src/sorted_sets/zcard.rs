//! ZCARD: how many members a sorted set has.

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::READ_ONE;
use crate::{Access, Context, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "zcard",
    summary: "Returns the number of members in a sorted set.",
    syntax: "key",
    since: "1.2.0",
    arity: 2,
    keys: Keys::one(Access::PRESENCE),
    ..READ_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer(cx.read::<SortedSet>(args[1])?.map_or(0, |set| set.len() as i64));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_missing_set_has_no_members() {
        let mut store = Store::new();
        store.check(&[("ZCARD z", ":0"), ("ZADD z 1 a 2 b", ":2"), ("ZCARD z", ":2")]);
    }
}
