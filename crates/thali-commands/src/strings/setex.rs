//! SETEX and PSETEX: put a string with a time to live. Journaled as SET with PXAT.

use thali_resp::Reply;

use super::set;
use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Outcome, Spec};

pub const SETEX: Spec = Spec {
    name: "setex",
    summary: "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
    syntax: "key seconds value",
    since: "2.0.0",
    arity: 4,
    keys: Keys::one(Access::WRITE),
    ..super::WRITE
};

pub const PSETEX: Spec = Spec {
    name: "psetex",
    summary: "Sets both string value and expiration time in milliseconds of a key.",
    syntax: "key milliseconds value",
    since: "2.6.0",
    arity: 4,
    keys: Keys::one(Access::WRITE),
    ..super::WRITE
};

pub fn setex(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    put_for(cx, args, b"EX", "setex", reply)
}

pub fn psetex(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    put_for(cx, args, b"PX", "psetex", reply)
}

fn put_for(
    cx: &mut Context<'_>,
    args: &[&[u8]],
    unit: &[u8],
    command: &str,
    reply: &mut Reply<'_>,
) -> Outcome {
    let [_, key, time, value] = *args else { return Err(ErrorReply::SYNTAX) };
    let at = set::expire_at(unit, time, cx.now_ms, command)?;
    cx.put_text(key, value, Some(at));
    cx.modified(EventClass::STRING, "set", key);
    cx.event(EventClass::GENERIC, "expire", key);
    cx.effect(&[&b"SET"[..], key, value, b"PXAT", itoa::Buffer::new().format(at).as_bytes()]);
    reply.ok();
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_time_is_positive() {
        let mut store = Store::new();
        store.check(&[
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
            ("PSETEX k 5 v", "+OK"),
        ]);
        assert_eq!(store.effects, ["SET k v PXAT 1700000000005"]);
    }
}
