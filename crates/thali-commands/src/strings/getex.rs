//! GETEX: gives a string and changes its time to live. Journaled as PEXPIREAT, PERSIST or DEL.

use thali_resp::Reply;

use super::set;
use crate::{Context, ErrorReply, EventClass, Flags, Flow, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "getex",
    summary: "Returns the string value of a key after setting its expiration time.",
    syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | \
             PERSIST]",
    since: "6.2.0",
    arity: -2,
    flags: Flags::WRITE.union(Flags::FAST),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    // The outer None: leave the time to live alone.
    let expire_at = match &args[2..] {
        [] => None,
        [word] if is_word(word, "PERSIST") => Some(None),
        [unit, value] => Some(Some(set::expire_at(unit, value, cx.now_ms, "getex")?)),
        _ => return Err(ErrorReply::SYNTAX),
    };
    if !super::reply_old(cx, key, reply)? {
        return Ok(Flow::Done);
    }
    match expire_at {
        None => {}
        Some(None) if cx.peek(key).is_some_and(|entry| entry.expire_at().is_some()) => {
            cx.set_expire_at(key, None);
            cx.modified(EventClass::GENERIC, "persist", key);
            cx.effect(&[b"PERSIST", key]);
        }
        Some(None) => {}
        Some(Some(at)) if at <= cx.now_ms => {
            cx.delete(key);
            cx.effect(&[b"DEL", key]);
        }
        Some(Some(at)) => {
            cx.set_expire_at(key, Some(at));
            cx.modified(EventClass::GENERIC, "expire", key);
            cx.effect(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn getex_changes_only_the_time() {
        let mut store = Store::new();
        store.check(&[("SET k v", "+OK"), ("GETEX k PX 500", "$1\nv")]);
        assert_eq!(store.effects, ["PEXPIREAT k 1700000000500"]);
        store.check(&[("GETEX k PERSIST", "$1\nv")]);
        assert_eq!(store.effects, ["PERSIST k"]);
        store.check(&[
            ("GETEX k PERSIST", "$1\nv"),
            ("GETEX k", "$1\nv"),
            ("GETEX k EX", "-ERR syntax error"),
        ]);
        assert!(store.effects.is_empty());
    }
}
