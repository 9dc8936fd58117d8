//! SMEMBERS: all members; a set in RESP3.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Context, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "smembers",
    summary: "Returns all members of a set.",
    syntax: "key",
    complexity: "O(N) where N is the set cardinality.",
    arity: 2,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match cx.read::<Set>(args[1])? {
        Some(set) => super::reply_set(reply, set),
        None => {
            reply.set(0);
            Ok(Flow::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn integers_come_in_order() {
        let mut store = Store::new();
        store.check(&[
            ("SMEMBERS s", "*0"),
            ("SADD s 3 1 2", ":3"),
            ("SMEMBERS s", "*3\n$1\n1\n$1\n2\n$1\n3"),
        ]);
        store.protocol = thali_resp::Protocol::Resp3;
        store.check(&[("SMEMBERS none", "~0"), ("SMEMBERS s", "~3\n$1\n1\n$1\n2\n$1\n3")]);
    }
}
