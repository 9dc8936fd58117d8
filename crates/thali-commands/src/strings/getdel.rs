//! GETDEL: gives a string and removes its key. Journaled as DEL.

use thali_resp::Reply;

use crate::{Context, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "getdel",
    summary: "Returns the string value of a key after deleting the key.",
    syntax: "key",
    since: "6.2.0",
    arity: 2,
    flags: Flags::WRITE.union(Flags::FAST),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    if super::reply_old(cx, args[1], reply)? {
        cx.delete(args[1]);
        cx.effect(&[b"DEL", args[1]]);
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn only_strings_go() {
        let mut store = Store::new();
        store.check(&[
            ("SET k v", "+OK"),
            ("GETDEL k", "$1\nv"),
            ("GETDEL k", "$-1"),
            ("LPUSH l v", ":1"),
            ("GETDEL l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
