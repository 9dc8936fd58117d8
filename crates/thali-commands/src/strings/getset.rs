//! GETSET: puts a string and gives the old one. Journaled as SET.

use thali_resp::Reply;

use crate::{Context, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "getset",
    summary: "Returns the previous string value of a key after setting it to a new value.",
    syntax: "key value",
    arity: 3,
    flags: super::WRITE.flags.union(Flags::FAST),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    super::reply_old(cx, args[1], reply)?;
    super::put(cx, args[1], args[2]);
    cx.effect(&[b"SET", args[1], args[2]]);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn gives_what_was_there() {
        let mut store = Store::new();
        store.check(&[("GETSET k a", "$-1"), ("GETSET k b", "$1\na")]);
        assert_eq!(store.effects, ["SET k b"]);
    }
}
