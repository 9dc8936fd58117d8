//! MSET and MSETNX: put many strings at once.

use thali_resp::Reply;

use crate::context::KEYS_TOGETHER;
use crate::{Access, Context, ErrorReply, Flow, Keys, Outcome, Spec};

pub const MSET: Spec = Spec {
    name: "mset",
    summary: "Atomically creates or modifies the string values of one or more keys.",
    syntax: "key value [key value ...]",
    since: "1.0.1",
    complexity: "O(N) where N is the number of keys to set.",
    arity: -3,
    keys: Keys::Range { first: 1, last: -1, step: 2, access: Access::WRITE },
    ..super::WRITE
};

pub const MSETNX: Spec = Spec {
    name: "msetnx",
    summary: "Atomically modifies the string values of one or more keys only when all keys don't exist.",
    syntax: "key value [key value ...]",
    ..MSET
};

pub fn mset(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    put_all(cx, args, "mset")?;
    reply.ok();
    Ok(Flow::Done)
}

pub fn msetnx(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(ErrorReply::wrong_arity("msetnx"));
    }
    if args[1..].chunks_exact(2).any(|pair| cx.exists(pair[0])) {
        reply.integer(0);
        return Ok(Flow::Done);
    }
    put_all(cx, args, "msetnx")?;
    reply.integer(1);
    Ok(Flow::Done)
}

fn put_all(cx: &mut Context<'_>, args: &[&[u8]], command: &str) -> Result<(), ErrorReply> {
    if args.len().is_multiple_of(2) {
        return Err(ErrorReply::wrong_arity(command));
    }
    for pairs in args[1..].chunks(2 * KEYS_TOGETHER) {
        cx.touch(pairs.iter().step_by(2).copied());
        pairs.chunks_exact(2).for_each(|pair| super::put(cx, pair[0], pair[1]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn all_or_none() {
        let mut store = Store::new();
        store.check(&[
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MSETNX a 1 b 2", ":1"),
            ("MSETNX b 1 c 2", ":0"),
            ("MGET a b c", "*3\n$1\n1\n$1\n2\n$-1"),
        ]);
    }
}
