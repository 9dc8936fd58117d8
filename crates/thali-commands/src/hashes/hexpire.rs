//! HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT: give fields of a hash a time to live.
//!
//! Of each field the reply says: −2 it is not there, 0 the condition does not hold, 1 its time is set, 2 it was
//! removed because the time has passed. A field without a time counts as one that stays for ever, so that GT never
//! holds for it and LT does. Journaled as HPEXPIREAT with the moment and those fields whose time was set, or as
//! HDEL where it has passed.
//!
//! SOURCE: redis 8.0 `t_hash.c`.

use thali_resp::Reply;

use super::field_args::{self, Clock};
use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Origin, Outcome, Spec, is_word};

pub const HEXPIRE: Spec = Spec {
    name: "hexpire",
    syntax: "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    summary: "Set expiry for hash field using relative time to expire (seconds)",
    since: "7.4.0",
    complexity: "O(N) where N is the number of specified fields",
    arity: -6,
    keys: Keys::one(Access::WRITE),
    ..super::WRITE
};
pub const HPEXPIRE: Spec = Spec {
    name: "hpexpire",
    syntax: "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    summary: "Set expiry for hash field using relative time to expire (milliseconds)",
    ..HEXPIRE
};
pub const HEXPIREAT: Spec = Spec {
    name: "hexpireat",
    syntax: "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    summary: "Set expiry for hash field using an absolute Unix timestamp (seconds)",
    ..HEXPIRE
};
pub const HPEXPIREAT: Spec = Spec {
    name: "hpexpireat",
    syntax: "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    summary: "Set expiry for hash field using an absolute Unix timestamp (milliseconds)",
    ..HEXPIRE
};

pub fn hexpire(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, Clock { unit_ms: 1000, is_relative: true }, HEXPIRE.name, reply)
}

pub fn hpexpire(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, Clock { unit_ms: 1, is_relative: true }, HPEXPIRE.name, reply)
}

pub fn hexpireat(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, Clock { unit_ms: 1000, is_relative: false }, HEXPIREAT.name, reply)
}

pub fn hpexpireat(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    run(cx, args, Clock { unit_ms: 1, is_relative: false }, HPEXPIREAT.name, reply)
}

const NUMBER_NOT_POSITIVE: ErrorReply = ErrorReply::new("ERR Parameter `numFields` should be greater than 0");

/// What became of a field.
const MISSING: i64 = -2;
const NOT_MET: i64 = 0;
const SET: i64 = 1;
const REMOVED: i64 = 2;

/// When the new time takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    /// NX: only where there is none.
    None,
    /// XX: only where there is one.
    Some,
    /// GT: only where it is later than the old one.
    Later,
    /// LT: only where it is earlier.
    Earlier,
}

impl Condition {
    fn of(word: &[u8]) -> Option<Self> {
        let words = [("NX", Self::None), ("XX", Self::Some), ("GT", Self::Later), ("LT", Self::Earlier)];
        words.into_iter().find(|(name, _)| is_word(word, name)).map(|(_, condition)| condition)
    }

    fn holds(self, old: Option<u64>, new: u64) -> bool {
        match self {
            Self::Always => true,
            Self::None => old.is_none(),
            Self::Some => old.is_some(),
            Self::Later => old.is_some_and(|old| new > old),
            Self::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

fn run(cx: &mut Context<'_>, args: &[&[u8]], clock: Clock, command: &str, reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    cx.has_hash(key)?;
    let at = clock.moment(cx, args[2], command)?;
    let condition = Condition::of(args[3]);
    let named_at = if condition.is_some() { 4 } else { 3 };
    let fields = field_args::fields(&args[named_at..], NUMBER_NOT_POSITIVE)?;
    cx.expire_fields(key, fields.iter().copied());
    let has_passed = at <= cx.now_ms && cx.origin != Origin::Replay;
    let mut changed = Vec::new();
    reply.array(fields.len());
    let mut hash = cx.hash_mut(key)?;
    for field in fields {
        let old = hash.as_ref().and_then(|hash| hash.get_timed(field)).map(|(_, old)| old);
        let became = match (old, &mut hash) {
            (Some(old), Some(hash)) if condition.unwrap_or(Condition::Always).holds(old, at) => {
                changed.push(*field);
                match has_passed {
                    true => hash.remove(field),
                    // A replay may bring a moment that is none for a field.
                    false => hash.set_time(field, Some(at.max(1))),
                };
                if has_passed { REMOVED } else { SET }
            }
            (Some(_), _) => NOT_MET,
            (None, _) => MISSING,
        };
        reply.integer(became);
    }
    drop(hash);
    if changed.is_empty() {
        return Ok(Flow::Done);
    }
    if has_passed {
        cx.expired_fields += changed.len() as u64;
        cx.modified(EventClass::HASH, "hdel", key);
        cx.remove_if_empty(key);
        cx.effect(&[&[b"HDEL", key], &changed[..]].concat());
        return Ok(Flow::Done);
    }
    cx.modified(EventClass::HASH, "hexpire", key);
    let (mut moment, mut number) = (itoa::Buffer::new(), itoa::Buffer::new());
    let head = [&[b"HPEXPIREAT", key, moment.format(at).as_bytes()], &args[3..named_at]].concat();
    cx.effect(&field_args::request(&head, number.format(changed.len()).as_bytes(), &changed));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn each_field_has_an_answer() {
        let mut store = Store::new();
        store.check(&[
            ("HEXPIRE h 10 FIELDS 2 a b", "*2\n:-2\n:-2"),
            ("HSET h a 1 b 2 c 3", ":3"),
            ("HEXPIRE h 10 FIELDS 3 a x b", "*3\n:1\n:-2\n:1"),
        ]);
        assert_eq!(store.effects, ["HPEXPIREAT h 1700000010000 FIELDS 2 a b"]);
        assert_eq!(store.events, ["hexpire h"]);
        store.check(&[
            ("HPEXPIRE h 5 NX FIELDS 2 a c", "*2\n:0\n:1"),
            ("HPEXPIRETIME h FIELDS 3 a b c", "*3\n:1700000010000\n:1700000010000\n:1700000000005"),
            ("HEXPIREAT h 1700000020 FIELDS 1 a", "*1\n:1"),
            ("HTTL h FIELDS 1 a", "*1\n:20"),
            ("HPEXPIREAT h 1700000000001 FIELDS 1 a", "*1\n:1"),
            ("HPTTL h FIELDS 1 a", "*1\n:1"),
        ]);
    }

    #[test]
    fn conditions_take_a_field_without_a_time_for_one_that_stays() {
        for (condition, without, with_earlier, with_same, with_later) in
            [("NX", 1, 0, 0, 0), ("XX", 0, 1, 1, 1), ("GT", 0, 1, 0, 0), ("lt", 1, 0, 0, 1)]
        {
            let mut store = Store::new();
            store.run("HSET h none 1 earlier 1 same 1 later 1");
            store.run("HEXPIRE h 5 FIELDS 1 earlier");
            store.run("HEXPIRE h 10 FIELDS 1 same");
            store.run("HEXPIRE h 20 FIELDS 1 later");
            let line = format!("HEXPIRE h 10 {condition} FIELDS 4 none earlier same later");
            store.check(&[(&line, &format!("*4\n:{without}\n:{with_earlier}\n:{with_same}\n:{with_later}"))]);
        }
    }

    #[test]
    fn a_time_that_has_passed_removes_at_once_and_the_key_with_the_last_field() {
        let mut store = Store::new();
        store.run("HSET h a 1 b 2");
        store.check(&[("HPEXPIRE h 0 FIELDS 2 a x", "*2\n:2\n:-2")]);
        assert_eq!(
            (&store.effects[..], &store.events[..]),
            (&["HDEL h a".into()][..], &["hdel h".into()][..])
        );
        store.check(&[("HEXPIREAT h 1 NX FIELDS 1 b", "*1\n:2"), ("EXISTS h", ":0")]);
        store.run("HSET h a 1");
        store.check(&[("HPEXPIREAT h 1700000000000 FIELDS 1 a", "*1\n:2")]);
        assert_eq!(store.events, ["hdel h", "del h"]);
        store.origin = crate::Origin::Replay;
        store.run("HSET h a 1");
        store.check(&[("HPEXPIREAT h 5 FIELDS 1 a", "*1\n:1"), ("HGET h a", "$1\n1")]);
    }

    #[test]
    fn what_has_expired_is_no_field_any_more() {
        let mut store = Store::new();
        store.run("HSET h a 1 b 2");
        store.run("HPEXPIRE h 5 FIELDS 1 a");
        store.now_ms += 6;
        store.check(&[("HEXPIRE h 100 FIELDS 2 a b", "*2\n:-2\n:1")]);
        assert_eq!(store.effects, ["HDEL h a", "HPEXPIREAT h 1700000100006 FIELDS 1 b"]);
        assert_eq!(store.events, ["hexpired h", "hexpire h"]);
    }

    #[test]
    fn faults() {
        let mut store = Store::new();
        store.run("HSET h a 1");
        store.run("SET s v");
        let invalid = "-ERR invalid expire time in 'hexpire' command";
        let no_fields = "-ERR Mandatory argument FIELDS is missing or not at the right position";
        let differs = "-ERR The `numfields` parameter must match the number of arguments";
        store.check(&[
            ("HEXPIRE s x FIELDS 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HEXPIRE h x FIELDS 1 a", "-ERR value is not an integer or out of range"),
            ("HEXPIRE h -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0"),
            ("HEXPIRE h 70368744178 FIELDS 1 a", invalid),
            ("HPEXPIREAT h 70368744177664 FIELDS 1 a", "-ERR invalid expire time in 'hpexpireat' command"),
            ("HPEXPIREAT h 70368744177663 FIELDS 1 a", "*1\n:1"),
            ("HEXPIRE h 10 FIELD 1 a", no_fields),
            ("HEXPIRE h 10 NX XX FIELDS 1 a", no_fields),
            ("HEXPIRE h 10 FIELDS 0 a", "-ERR Parameter `numFields` should be greater than 0"),
            ("HEXPIRE h 10 FIELDS 2 a", differs),
            ("HEXPIRE h 10 FIELDS 1 a b", differs),
            ("HEXPIRE h 10 FIELDS 1", "-ERR wrong number of arguments for 'hexpire' command"),
        ]);
    }
}
