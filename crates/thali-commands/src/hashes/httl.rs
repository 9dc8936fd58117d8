//! HTTL, HPTTL, HEXPIRETIME, HPEXPIRETIME: when fields vanish; −1 for those that stay, −2 for those that are
//! not there. Seconds are rounded up.

use thali_resp::Reply;

use super::field_args::{self, NUMBER_NOT_POSITIVE};
use crate::{Context, Flow, Outcome, Spec};

pub const HTTL: Spec = Spec {
    name: "httl",
    syntax: "key FIELDS numfields field [field ...]",
    summary: "Returns the TTL in seconds of a hash field.",
    since: "7.4.0",
    complexity: "O(N) where N is the number of specified fields",
    arity: -5,
    ..super::READ
};
pub const HPTTL: Spec =
    Spec { name: "hpttl", summary: "Returns the TTL in milliseconds of a hash field.", ..HTTL };
pub const HEXPIRETIME: Spec = Spec {
    name: "hexpiretime",
    summary: "Returns the expiration time of a hash field as a Unix timestamp, in seconds.",
    ..HTTL
};
pub const HPEXPIRETIME: Spec = Spec {
    name: "hpexpiretime",
    summary: "Returns the expiration time of a hash field as a Unix timestamp, in msec.",
    ..HTTL
};

pub fn httl(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let now = cx.now_ms;
    times(cx, args, reply, |at| at.saturating_sub(now).div_ceil(1000))
}

pub fn hpttl(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let now = cx.now_ms;
    times(cx, args, reply, |at| at.saturating_sub(now))
}

pub fn hexpiretime(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    times(cx, args, reply, |at| at.div_ceil(1000))
}

pub fn hpexpiretime(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    times(cx, args, reply, |at| at)
}

const MISSING: i64 = -2;
const STAYS: i64 = -1;

fn times(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>, shown: impl Fn(u64) -> u64) -> Outcome {
    let hash = cx.fields(args[1])?;
    let fields = field_args::fields(&args[2..], NUMBER_NOT_POSITIVE)?;
    reply.array(fields.len());
    for field in fields {
        reply.integer(match hash.as_ref().and_then(|hash| hash.time(field)) {
            None => MISSING,
            Some(None) => STAYS,
            Some(Some(at)) => shown(at) as i64,
        });
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn each_field_has_its_time() {
        let mut store = Store::new();
        store.check(&[
            ("HTTL h FIELDS 1 a", "*1\n:-2"),
            ("HSET h a 1 b 2", ":2"),
            ("HTTL h FIELDS 2 a x", "*2\n:-1\n:-2"),
            ("HPEXPIRE h 1500 FIELDS 1 a", "*1\n:1"),
            ("HTTL h FIELDS 2 a b", "*2\n:2\n:-1"),
            ("HPTTL h FIELDS 1 a", "*1\n:1500"),
            ("HEXPIRETIME h FIELDS 1 a", "*1\n:1700000002"),
            ("HPEXPIRETIME h FIELDS 3 a b x", "*3\n:1700000001500\n:-1\n:-2"),
        ]);
        store.now_ms += 1500;
        store.check(&[("HPTTL h FIELDS 1 a", "*1\n:0")]);
        store.now_ms += 1;
        store.check(&[("HPTTL h FIELDS 2 a b", "*2\n:-2\n:-1"), ("HPEXPIRETIME h FIELDS 1 a", "*1\n:-2")]);
    }

    #[test]
    fn faults() {
        let mut store = Store::new();
        store.run("SET s v");
        store.check(&[
            ("HTTL s FIELDS 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HTTL h FIELDS 0 a", "-ERR Number of fields must be a positive integer"),
            ("HTTL h FIELDS x a", "-ERR Number of fields must be a positive integer"),
            ("HTTL h FIELDS 2 a", "-ERR The `numfields` parameter must match the number of arguments"),
            ("HTTL h 1 FIELDS a", "-ERR Mandatory argument FIELDS is missing or not at the right position"),
        ]);
    }
}
