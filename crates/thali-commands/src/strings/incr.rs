//! INCR, DECR, INCRBY, DECRBY: counters in strings.

use thali_data::Str;
use thali_resp::Reply;

use crate::{Context, ErrorReply, EventClass, Flags, Flow, Outcome, Spec, integer};

pub const INCR: Spec = Spec {
    name: "incr",
    summary: "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
    syntax: "key",
    arity: 2,
    flags: super::WRITE.flags.union(Flags::FAST),
    ..super::WRITE
};
pub const DECR: Spec = Spec {
    name: "decr",
    summary: "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
    syntax: "key",
    ..INCR
};
pub const INCRBY: Spec = Spec {
    name: "incrby",
    summary: "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
    syntax: "key increment",
    arity: 3,
    ..INCR
};
pub const DECRBY: Spec = Spec {
    name: "decrby",
    summary: "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.",
    syntax: "key decrement",
    ..INCRBY
};

pub fn incr(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    add(cx, args[1], 1, reply)
}

pub fn decr(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    add(cx, args[1], -1, reply)
}

pub fn incrby(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    add(cx, args[1], integer(args[2])?, reply)
}

pub fn decrby(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let by = integer(args[2])?.checked_neg().ok_or(ErrorReply::new("ERR decrement would overflow"))?;
    add(cx, args[1], by, reply)
}

fn add(cx: &mut Context<'_>, key: &[u8], by: i64, reply: &mut Reply<'_>) -> Outcome {
    let value = match cx.write::<Str>(key)? {
        Some(value) => {
            let old = value.as_int().ok_or(ErrorReply::NOT_INTEGER)?;
            let new = old.checked_add(by).ok_or(ErrorReply::OVERFLOW)?;
            *value = Str::from_int(new);
            new
        }
        None => {
            cx.put(key, Str::from_int(by), None);
            by
        }
    };
    cx.modified(EventClass::STRING, "incrby", key);
    reply.integer(value);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_within_64_bits() {
        let mut store = Store::new();
        store.check(&[
            ("INCR n", ":1"),
            ("INCRBY n 41", ":42"),
            ("DECR n", ":41"),
            ("DECRBY n -1", ":42"),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
            ("SET n 9223372036854775807", "+OK"),
            ("INCR n", "-ERR increment or decrement would overflow"),
            ("SET n \" 1\"", "+OK"),
            ("INCR n", "-ERR value is not an integer or out of range"),
            ("INCRBY m x", "-ERR value is not an integer or out of range"),
        ]);
    }

    #[test]
    fn a_counter_keeps_its_time_to_live() {
        let mut store = Store::new();
        store.check(&[("SET n 1 PX 100", "+OK"), ("INCR n", ":2")]);
        store.now_ms += 101;
        store.check(&[("INCR n", ":1")]);
        assert_eq!(store.effects, ["DEL n", "INCR n"]);
    }
}
