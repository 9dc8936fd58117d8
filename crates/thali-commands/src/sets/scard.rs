//! SCARD: how many members there are.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "scard",
    summary: "Returns the number of members in a set.",
    syntax: "key",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::PRESENCE),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer(cx.read::<Set>(args[1])?.map_or(0, Set::len) as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_members() {
        let mut store = Store::new();
        store.check(&[("SCARD s", ":0"), ("SADD s a b a", ":2"), ("SCARD s", ":2")]);
    }
}
