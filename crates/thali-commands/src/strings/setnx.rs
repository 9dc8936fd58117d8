//! SETNX: puts a string where there is nothing.

use thali_resp::Reply;

use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "setnx",
    summary: "Set the string value of a key only when the key doesn't exist.",
    syntax: "key value",
    arity: 3,
    flags: super::WRITE.flags.union(Flags::FAST),
    keys: Keys::one(Access::WRITE),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let missing = !cx.exists(args[1]);
    if missing {
        super::put(cx, args[1], args[2]);
    }
    reply.integer(i64::from(missing));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn keeps_what_is_there() {
        let mut store = Store::new();
        store.check(&[("SETNX k a", ":1"), ("SETNX k b", ":0"), ("GET k", "$1\na")]);
    }
}
