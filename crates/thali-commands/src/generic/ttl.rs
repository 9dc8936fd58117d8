//! TTL, PTTL, EXPIRETIME, PEXPIRETIME: how long a key stays. −1 = for ever, −2 = it is not there.

use thali_resp::Reply;

use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const TTL: Spec = Spec {
    name: "ttl",
    summary: "Returns the expiration time in seconds of a key.",
    syntax: "key",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::READ),
    ..super::BASE
};
pub const PTTL: Spec = Spec {
    name: "pttl",
    summary: "Returns the expiration time in milliseconds of a key.",
    syntax: "key",
    since: "2.6.0",
    ..TTL
};
pub const EXPIRETIME: Spec = Spec {
    name: "expiretime",
    summary: "Returns the expiration time of a key as a Unix timestamp.",
    syntax: "key",
    since: "7.0.0",
    ..TTL
};
pub const PEXPIRETIME: Spec = Spec {
    name: "pexpiretime",
    summary: "Returns the expiration time of a key as a Unix milliseconds timestamp.",
    syntax: "key",
    since: "7.0.0",
    ..TTL
};

pub fn ttl(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    answer(cx, args[1], reply, |at, now| (at.saturating_sub(now) + 500) / 1000)
}

pub fn pttl(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    answer(cx, args[1], reply, |at, now| at.saturating_sub(now))
}

pub fn expiretime(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    answer(cx, args[1], reply, |at, _| (at + 500) / 1000)
}

pub fn pexpiretime(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    answer(cx, args[1], reply, |at, _| at)
}

fn answer(cx: &Context<'_>, key: &[u8], reply: &mut Reply<'_>, show: impl Fn(u64, u64) -> u64) -> Outcome {
    reply.integer(match cx.peek(key).map(|entry| entry.expire_at()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => show(at, cx.now_ms) as i64,
    });
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn never_and_missing_differ() {
        Store::new().check(&[
            ("TTL k", ":-2"),
            ("SET k v", "+OK"),
            ("TTL k", ":-1"),
            ("PEXPIRE k 1500", ":1"),
            ("TTL k", ":2"),
            ("PTTL k", ":1500"),
            ("PEXPIRETIME k", ":1700000001500"),
            ("EXPIRETIME k", ":1700000002"),
        ]);
    }
}
