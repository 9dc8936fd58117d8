//! LLEN: how many elements there are.

use thali_data::List;
use thali_resp::Reply;

use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "llen",
    summary: "Returns the length of a list.",
    syntax: "key",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::PRESENCE),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer(cx.read::<List>(args[1])?.map_or(0, List::len) as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_elements() {
        let mut store = Store::new();
        store.check(&[
            ("LLEN l", ":0"),
            ("RPUSH l a b", ":2"),
            ("LLEN l", ":2"),
            ("SET s v", "+OK"),
            ("LLEN s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
