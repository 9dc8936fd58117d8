//! EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: give a key a time to live.
//!
//! Journaled as PEXPIREAT with the moment, or as DEL where the moment has passed.

use thali_resp::Reply;

use crate::{
    Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Origin, Outcome, Spec, integer, is_word,
};

pub const EXPIRE: Spec = Spec {
    name: "expire",
    summary: "Sets the expiration time of a key in seconds.",
    syntax: "key seconds [NX | XX | GT | LT]",
    arity: -3,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: Keys::one(Access::WRITE),
    ..super::BASE
};
pub const PEXPIRE: Spec = Spec {
    name: "pexpire",
    summary: "Sets the expiration time of a key in milliseconds.",
    syntax: "key milliseconds [NX | XX | GT | LT]",
    since: "2.6.0",
    ..EXPIRE
};
pub const EXPIREAT: Spec = Spec {
    name: "expireat",
    summary: "Sets the expiration time of a key to a Unix timestamp.",
    syntax: "key unix-time-seconds [NX | XX | GT | LT]",
    since: "1.2.0",
    ..EXPIRE
};
pub const PEXPIREAT: Spec = Spec {
    name: "pexpireat",
    summary: "Sets the expiration time of a key to a Unix milliseconds timestamp.",
    syntax: "key unix-time-milliseconds [NX | XX | GT | LT]",
    since: "2.6.0",
    ..EXPIRE
};

/// When the new time takes effect.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    /// NX: only where there is none.
    none: bool,
    /// XX: only where there is one.
    some: bool,
    /// GT: only where it is later than the old one (none = never).
    later: bool,
    /// LT: only where it is earlier.
    earlier: bool,
}

impl Conditions {
    fn parse(words: &[&[u8]]) -> Result<Self, ErrorReply> {
        let mut conditions = Self::default();
        for word in words {
            let flag = match word {
                _ if is_word(word, "NX") => &mut conditions.none,
                _ if is_word(word, "XX") => &mut conditions.some,
                _ if is_word(word, "GT") => &mut conditions.later,
                _ if is_word(word, "LT") => &mut conditions.earlier,
                _ => {
                    let word = String::from_utf8_lossy(word);
                    return Err(ErrorReply::owned(format!("ERR Unsupported option {word}")));
                }
            };
            *flag = true;
        }
        if conditions.none && (conditions.some || conditions.later || conditions.earlier) {
            return Err(ErrorReply::new(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if conditions.later && conditions.earlier {
            return Err(ErrorReply::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    fn hold(self, old: Option<u64>, new: i64) -> bool {
        let old_or_never = old.map_or(i64::MAX, |at| at as i64);
        !(self.none && old.is_some()
            || self.some && old.is_none()
            || self.later && (old.is_none() || new <= old_or_never)
            || self.earlier && new >= old_or_never)
    }
}

pub fn expire(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, 1000, true, "expire", reply)
}

pub fn pexpire(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, 1, true, "pexpire", reply)
}

pub fn expireat(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, 1000, false, "expireat", reply)
}

pub fn pexpireat(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, 1, false, "pexpireat", reply)
}

fn run(
    cx: &mut Context<'_>,
    args: &[&[u8]],
    unit_ms: i64,
    is_relative: bool,
    command: &str,
    reply: &mut Reply<'_>,
) -> Outcome {
    let key = args[1];
    let conditions = Conditions::parse(&args[3..])?;
    let invalid = || ErrorReply::owned(format!("ERR invalid expire time in '{command}' command"));
    let base = if is_relative { cx.now_ms as i64 } else { 0 };
    let at =
        integer(args[2])?.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base)).ok_or_else(invalid)?;
    let Some(old) = cx.entry_kept(key).map(|entry| entry.expire_at()) else {
        reply.integer(0);
        return Ok(Flow::Done);
    };
    if !conditions.hold(old, at) {
        reply.integer(0);
        return Ok(Flow::Done);
    }
    reply.integer(1);
    if at <= cx.now_ms as i64 && cx.origin != Origin::Replay {
        cx.delete(key);
        cx.effect(&[b"DEL", key]);
        return Ok(Flow::Done);
    }
    cx.set_expire_at(key, Some(at.max(1) as u64));
    cx.modified(EventClass::GENERIC, "expire", key);
    cx.effect(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn conditions_compare_with_never() {
        Store::new().check(&[
            ("EXPIRE k 10", ":0"),
            ("SET k v", "+OK"),
            ("EXPIRE k 10 XX", ":0"),
            ("EXPIRE k 10 GT", ":0"),
            ("EXPIRE k 10 LT", ":1"),
            ("EXPIRE k 5 GT", ":0"),
            ("EXPIRE k 5 NX", ":0"),
            ("EXPIRE k 20 XX GT", ":1"),
            ("TTL k", ":20"),
            ("EXPIRE k 5 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("EXPIRE k 5 AB", "-ERR Unsupported option AB"),
        ]);
    }

    #[test]
    fn journaled_as_a_moment() {
        let mut store = Store::new();
        store.check(&[("SET k v", "+OK"), ("EXPIRE k 10", ":1")]);
        assert_eq!(store.effects, ["PEXPIREAT k 1700000010000"]);
        store.check(&[("PEXPIRE k -1", ":1")]);
        assert_eq!(store.effects, ["DEL k"]);
        store.check(&[("EXISTS k", ":0")]);
    }
}
