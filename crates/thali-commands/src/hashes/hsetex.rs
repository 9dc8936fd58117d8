//! HSETEX: sets fields together with their time, perhaps only where all of them or none is there. Replies 1, or 0
//! where that does not hold. Without KEEPTTL or a time, the fields stay from then on, as after HSET.
//!
//! Journaled with the moment (PXAT), or as HDEL where it has passed.
//!
//! SOURCE: redis 8.0 `t_hash.c`, `hsetexCommand`.

use thali_data::Item;
use thali_resp::Reply;

use super::field_args::Clock;
use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Origin, Outcome, Spec, is_word, parse_i64};

pub const SPEC: Spec = Spec {
    name: "hsetex",
    syntax: "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
    summary: "Set the value of one or more fields of a given hash key, and optionally set their expiration.",
    since: "8.0.0",
    complexity: "O(N) where N is the number of fields being set.",
    arity: -6,
    keys: Keys::one(Access::WRITE),
    ..super::WRITE
};

/// What happens to the times of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Clear,
    Keep,
    Set(u64),
}

struct Args<'a, 'r> {
    /// FXX: all of the fields must be there, FNX: none.
    must_exist: Option<bool>,
    times: Times,
    /// Where a moment stands that is not in Unix milliseconds: that of its option's word.
    rewritten_at: Option<usize>,
    /// Fields and values.
    pairs: &'a [[&'r [u8]; 2]],
}

fn parse<'a, 'r>(cx: &Context<'_>, args: &'a [&'r [u8]]) -> Result<Args<'a, 'r>, ErrorReply> {
    let mut parsed = Args { must_exist: None, times: Times::Clear, rewritten_at: None, pairs: &[] };
    let mut at = 2;
    while let Some(word) = args.get(at) {
        let condition = [("FXX", true), ("FNX", false)].into_iter().find(|(name, _)| is_word(word, name));
        let clock = Clock::of_option(word);
        if is_word(word, "FIELDS") {
            parsed.pairs = pairs(&args[at + 1..])?;
            return Ok(parsed);
        } else if clock.is_some() || is_word(word, "KEEPTTL") {
            if parsed.times != Times::Clear {
                return Err(ErrorReply::new(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            parsed.times = Times::Keep;
            if let Some(clock) = clock {
                let text = args.get(at + 1).ok_or(ErrorReply::new("ERR missing expire time"))?;
                parsed.times = Times::Set(clock.moment(cx, text, SPEC.name)?);
                let is_absolute = clock == Clock { unit_ms: 1, is_relative: false };
                parsed.rewritten_at = (!is_absolute).then_some(at);
                at += 1;
            }
        } else if let Some((_, must_exist)) = condition {
            if parsed.must_exist.is_some() {
                return Err(ErrorReply::new("ERR Only one of FXX or FNX arguments can be specified"));
            }
            parsed.must_exist = Some(must_exist);
        } else {
            return Err(ErrorReply::owned([b"ERR unknown argument: ", *word].concat()));
        }
        at += 1;
    }
    Err(ErrorReply::wrong_arity(SPEC.name))
}

/// `numfields field value …`
fn pairs<'a, 'r>(args: &'a [&'r [u8]]) -> Result<&'a [[&'r [u8]; 2]], ErrorReply> {
    let [number, rest @ ..] = args else { return Err(ErrorReply::wrong_arity(SPEC.name)) };
    if rest.len() < 2 {
        return Err(ErrorReply::wrong_arity(SPEC.name));
    }
    let number = parse_i64(number).filter(|number| (1..=i64::from(i32::MAX)).contains(number));
    let number = number.ok_or(ErrorReply::new("ERR invalid number of fields"))?;
    match rest.as_chunks::<2>() {
        (pairs, []) if pairs.len() as i64 == number => Ok(pairs),
        _ => Err(ErrorReply::wrong_arity(SPEC.name)),
    }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, limits) = (args[1], cx.limits);
    let Args { must_exist, times, rewritten_at, pairs } = parse(cx, args)?;
    cx.has_hash(key)?;
    cx.expire_fields(key, pairs.iter().map(|[field, _]| *field));
    if let Some(must_exist) = must_exist {
        let hash = cx.hash_mut(key)?;
        let is_met = |field: &[u8]| hash.as_ref().is_some_and(|hash| hash.contains(field)) == must_exist;
        if !pairs.iter().all(|[field, _]| is_met(field)) {
            reply.integer(0);
            return Ok(Flow::Done);
        }
    }
    let has_passed = matches!(times, Times::Set(at) if at <= cx.now_ms) && cx.origin != Origin::Replay;
    let mut hash = cx.hash_mut_or_insert(key)?;
    for [field, value] in pairs {
        match times {
            _ if has_passed => _ = hash.remove(field),
            Times::Clear => _ = hash.set(field, Item::parse(value), limits),
            Times::Keep => _ = hash.set_keeping_time(field, Item::parse(value), limits),
            Times::Set(at) => {
                hash.set_keeping_time(field, Item::parse(value), limits);
                hash.set_time(field, Some(at.max(1)));
            }
        }
    }
    drop(hash);
    reply.integer(1);
    cx.modified(EventClass::HASH, "hset", key);
    if has_passed {
        cx.expired_fields += pairs.len() as u64;
        cx.event(EventClass::HASH, "hdel", key);
        cx.remove_if_empty(key);
        let fields: Vec<&[u8]> = pairs.iter().map(|[field, _]| *field).collect();
        cx.effect(&[&[b"HDEL", key], &fields[..]].concat());
    } else if let Times::Set(moment) = times {
        cx.event(EventClass::HASH, "hexpire", key);
        if let Some(at) = rewritten_at {
            let mut text = itoa::Buffer::new();
            let moment: [&[u8]; 2] = [b"PXAT", text.format(moment).as_bytes()];
            cx.effect(&[&args[..at], &moment, &args[at + 2..]].concat());
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn sets_values_with_their_time() {
        let mut store = Store::new();
        for (options, time, effect) in [
            ("", -1, "HSETEX h FIELDS 2 a 1 b 2"),
            ("EX 10 ", 10_000, "HSETEX h PXAT 1700000010000 FIELDS 2 a 1 b 2"),
            ("KEEPTTL ", 10_000, "HSETEX h KEEPTTL FIELDS 2 a 1 b 2"),
            ("px 5 fxx ", 5, "HSETEX h PXAT 1700000000005 fxx FIELDS 2 a 1 b 2"),
            ("EXAT 1700000005 ", 5_000, "HSETEX h PXAT 1700000005000 FIELDS 2 a 1 b 2"),
            ("PXAT 1700000000007 ", 7, "HSETEX h PXAT 1700000000007 FIELDS 2 a 1 b 2"),
            ("", -1, "HSETEX h FIELDS 2 a 1 b 2"),
        ] {
            store.check(&[(&format!("HSETEX h {options}FIELDS 2 a 1 b 2"), ":1")]);
            assert_eq!(store.effects, [effect]);
            let events: &[&str] = match options {
                "" | "KEEPTTL " => &["hset h"],
                _ => &["hset h", "hexpire h"],
            };
            assert_eq!(store.events.iter().filter(|event| *event != "new h").collect::<Vec<_>>(), events);
            store.check(&[("HPTTL h FIELDS 2 a b", &format!("*2\n:{time}\n:{time}"))]);
        }
    }

    #[test]
    fn all_or_none_of_the_fields_must_be_there() {
        let mut store = Store::new();
        store.check(&[("HSETEX h FXX FIELDS 1 a 1", ":0"), ("EXISTS h", ":0")]);
        store.check(&[
            ("HSETEX h FNX FIELDS 1 a 1", ":1"),
            ("HSETEX h FNX FIELDS 2 b 1 a 2", ":0"),
            ("HSETEX h FXX FIELDS 2 a 2 b 1", ":0"),
            ("HLEN h", ":1"),
            ("HSETEX h FXX PX 5 FIELDS 1 a 3", ":1"),
            ("HGET h a", "$1\n3"),
        ]);
        store.now_ms += 6;
        store.check(&[("HSETEX h FXX FIELDS 1 a 4", ":0")]);
        assert_eq!(store.effects, ["HDEL h a"]);
        assert_eq!(store.events, ["hexpired h", "del h"]);
    }

    #[test]
    fn a_time_that_has_passed_leaves_nothing() {
        let mut store = Store::new();
        store.run("HSET h a 1 b 2");
        store.check(&[("HSETEX h PXAT 5 FIELDS 2 a 3 c 4", ":1"), ("HGETALL h", "*2\n$1\nb\n$1\n2")]);
        store.check(&[("HSETEX h EX 0 FIELDS 1 b 3", ":1"), ("EXISTS h", ":0")]);
        store.check(&[("HSETEX h EX 0 FIELDS 1 b 3", ":1")]);
        assert_eq!(store.effects, ["HDEL h b"]);
        assert_eq!(store.events, ["new h", "hset h", "hdel h", "del h"]);
    }

    #[test]
    fn faults() {
        let mut store = Store::new();
        store.run("SET s v");
        let arity = "-ERR wrong number of arguments for 'hsetex' command";
        let one_time = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
        store.check(&[
            ("HSETEX s FIELDS 1 a 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HSETEX h FNX FXX FIELDS 1 a 1", "-ERR Only one of FXX or FNX arguments can be specified"),
            ("HSETEX h EX 5 KEEPTTL FIELDS 1 a 1", one_time),
            ("HSETEX h KEEPTTL PXAT 5 FIELDS 1 a 1", one_time),
            ("HSETEX h FNX KEEPTTL FIELDS 1", arity),
            ("HSETEX h FIELDS 2 a 1 b", arity),
            ("HSETEX h FIELDS 2 a 1", arity),
            ("HSETEX h FIELDS 0 a 1", "-ERR invalid number of fields"),
            ("HSETEX h EX x FIELDS 1 a 1", "-ERR value is not an integer or out of range"),
            ("HSETEX h EX -1 FIELDS 1 a 1", "-ERR invalid expire time, must be >= 0"),
            ("HSETEX h PX 70368744177664 FIELDS 1 a 1", "-ERR invalid expire time in 'hsetex' command"),
            ("HSETEX h what FIELDS 1 a 1", "-ERR unknown argument: what"),
            ("HSETEX h FNX KEEPTTL FXX x y", "-ERR Only one of FXX or FNX arguments can be specified"),
            ("HSETEX h KEEPTTL FNX FNX EX", "-ERR Only one of FXX or FNX arguments can be specified"),
            ("EXISTS h", ":0"),
        ]);
    }
}
