//! GETRANGE, and SUBSTR, its older name: a part of a string.

use thali_data::{IntBuf, Str};
use thali_resp::Reply;

use crate::{Context, Flags, Flow, Outcome, Spec, integer};

pub const GETRANGE: Spec = Spec {
    name: "getrange",
    summary: "Returns a substring of the string stored at a key.",
    syntax: "key start end",
    since: "2.4.0",
    complexity: "O(N) where N is the length of the returned string.",
    arity: 4,
    flags: Flags::READONLY,
    ..super::READ
};

pub const SUBSTR: Spec = Spec {
    name: "substr",
    summary: "Returns a substring from a string value.",
    syntax: "key start end",
    since: "1.0.0",
    ..GETRANGE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    match cx.read::<Str>(args[1])? {
        Some(value) => reply.bulk(value.range(start, end, &mut IntBuf::new())),
        None => reply.bulk(b""),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn negative_offsets_count_from_the_end() {
        let mut store = Store::new();
        store.check(&[
            ("SET k \"Hello World\"", "+OK"),
            ("GETRANGE k -5 -1", "$5\nWorld"),
            ("SUBSTR k 0 4", "$5\nHello"),
            ("GETRANGE nokey 0 -1", "$0"),
        ]);
    }
}
