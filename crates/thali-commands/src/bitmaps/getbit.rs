//! GETBIT: one bit; behind the string's end they are zeroes.

use thali_data::{IntBuf, Str, bits};
use thali_resp::Reply;

use crate::{Context, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "getbit",
    summary: "Returns a bit value by offset.",
    syntax: "key offset",
    since: "2.2.0",
    arity: 3,
    flags: super::READ.flags.union(Flags::FAST),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let at = super::offset(cx, args[2])?;
    let string = cx.read::<Str>(args[1])?;
    let bit = string.is_some_and(|string| bits::get(string.bytes(&mut IntBuf::new()), at));
    reply.integer(i64::from(bit));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn integers_are_digits() {
        let mut store = Store::new();
        store.check(&[
            ("GETBIT k 4294967295", ":0"),
            ("GETBIT k 4294967296", "-ERR bit offset is not an integer or out of range"),
            ("SET k 1", "+OK"),
            ("GETBIT k 7", ":1"),
            ("GETBIT k 8", ":0"),
        ]);
    }
}
