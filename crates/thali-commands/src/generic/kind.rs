//! TYPE: what a key holds.

use thali_resp::Reply;

use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "type",
    summary: "Determines the type of value stored at a key.",
    syntax: "key",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::PRESENCE),
    ..super::BASE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.simple(cx.peek(args[1]).map_or("none", |entry| entry.value.type_name()));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn names_are_those_of_redis() {
        Store::new().check(&[
            ("TYPE k", "+none"),
            ("SET k v", "+OK"),
            ("TYPE k", "+string"),
            ("LPUSH l v", ":1"),
            ("TYPE l", "+list"),
        ]);
    }
}
