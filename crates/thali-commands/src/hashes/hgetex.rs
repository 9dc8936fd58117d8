//! HGETEX: fields' values, and their times are set or taken away. Journaled as HPEXPIREAT with the moment, as HDEL
//! where it has passed, or as HPERSIST.
//!
//! SOURCE: redis 8.0 `t_hash.c`, `hgetexCommand`.

use thali_resp::Reply;

use super::field_args::{self, Clock, NUMBER_NOT_POSITIVE};
use crate::elements::ReplyElements;
use crate::{Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Origin, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "hgetex",
    syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
    summary: "Get the value of one or more fields of a given hash key, and optionally set their expiration.",
    since: "8.0.0",
    complexity: "O(N) where N is the number of specified fields",
    arity: -5,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: Keys::one(Access::READ_WRITE),
    ..super::WRITE
};

/// What happens to the fields' times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Persist,
    At(u64),
}

/// `[EX … | PX … | EXAT … | PXAT … | PERSIST] FIELDS …`; what is left is the latter.
fn parse<'a, 'r>(cx: &Context<'_>, args: &'a [&'r [u8]]) -> Result<(Change, &'a [&'r [u8]]), ErrorReply> {
    match (args, Clock::of_option(args[0])) {
        ([_, moment, rest @ ..], Some(clock)) => Ok((Change::At(clock.moment(cx, moment, SPEC.name)?), rest)),
        ([word, rest @ ..], _) if is_word(word, "PERSIST") => Ok((Change::Persist, rest)),
        _ => Ok((Change::None, args)),
    }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    cx.has_hash(key)?;
    let (change, rest) = parse(cx, &args[2..])?;
    let fields = field_args::fields(rest, NUMBER_NOT_POSITIVE)?;
    cx.expire_fields(key, fields.iter().copied());
    let has_passed = matches!(change, Change::At(at) if at <= cx.now_ms) && cx.origin != Origin::Replay;
    let mut changed = Vec::new();
    reply.array(fields.len());
    let mut hash = cx.hash_mut(key)?;
    for field in fields {
        let found = hash.as_ref().and_then(|hash| hash.get_timed(field));
        match &found {
            Some((value, _)) => reply.item(*value),
            None => reply.null(),
        }
        let old = found.map(|(_, at)| at);
        if let (Some(old), Some(hash)) = (old, &mut hash) {
            let is_changed = match change {
                Change::None => false,
                Change::Persist => old.is_some() && hash.set_time(field, None),
                Change::At(_) if has_passed => hash.remove(field),
                Change::At(at) => hash.set_time(field, Some(at.max(1))),
            };
            changed.extend(is_changed.then_some(*field));
        }
    }
    drop(hash);
    if !changed.is_empty() {
        note(cx, key, change, has_passed, &changed);
    }
    Ok(Flow::Done)
}

/// Says what has changed, in the words of the commands that would have done it.
fn note(cx: &mut Context<'_>, key: &[u8], change: Change, has_passed: bool, changed: &[&[u8]]) {
    let (mut moment, mut number) = (itoa::Buffer::new(), itoa::Buffer::new());
    let number = number.format(changed.len()).as_bytes();
    match change {
        Change::None => {}
        Change::Persist => {
            cx.modified(EventClass::HASH, "hpersist", key);
            cx.effect(&field_args::request(&[b"HPERSIST", key], number, changed));
        }
        Change::At(_) if has_passed => {
            cx.expired_fields += changed.len() as u64;
            cx.modified(EventClass::HASH, "hdel", key);
            cx.remove_if_empty(key);
            cx.effect(&[&[b"HDEL", key], changed].concat());
        }
        Change::At(at) => {
            cx.modified(EventClass::HASH, "hexpire", key);
            let head = [b"HPEXPIREAT", key, moment.format(at).as_bytes()];
            cx.effect(&field_args::request(&head, number, changed));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn gives_values_and_sets_times() {
        let mut store = Store::new();
        store.run("HSET h a 1 b 2");
        for (options, effect, event) in [
            ("", "", ""),
            ("EX 10 ", "HPEXPIREAT h 1700000010000 FIELDS 2 a b", "hexpire h"),
            ("px 10 ", "HPEXPIREAT h 1700000000010 FIELDS 2 a b", "hexpire h"),
            ("EXAT 1700000005 ", "HPEXPIREAT h 1700000005000 FIELDS 2 a b", "hexpire h"),
            ("PXAT 1700000000005 ", "HPEXPIREAT h 1700000000005 FIELDS 2 a b", "hexpire h"),
            ("PERSIST ", "HPERSIST h FIELDS 2 a b", "hpersist h"),
            ("PERSIST ", "", ""),
        ] {
            store.check(&[(&format!("HGETEX h {options}FIELDS 3 a x b"), "*3\n$1\n1\n$-1\n$1\n2")]);
            assert_eq!((store.effects.concat(), store.events.concat()), (effect.into(), event.into()));
        }
        store.check(&[("HGETEX h EX 0 FIELDS 2 a b", "*2\n$1\n1\n$1\n2"), ("EXISTS h", ":0")]);
        store.check(&[("HGETEX h EX 10 FIELDS 1 a", "*1\n$-1")]);
    }

    #[test]
    fn a_time_that_has_passed_removes() {
        let mut store = Store::new();
        store.run("HSET h a 1 b 2 c 3");
        store.run("HPEXPIRE h 5 FIELDS 1 a");
        store.now_ms += 6;
        store.check(&[("HGETEX h EXAT 1 FIELDS 2 a b", "*2\n$-1\n$1\n2")]);
        assert_eq!(store.effects, ["HDEL h a", "HDEL h b"]);
        assert_eq!(store.events, ["hexpired h", "hdel h"]);
    }

    #[test]
    fn faults() {
        let mut store = Store::new();
        store.run("SET s v");
        let no_fields = "-ERR Mandatory argument FIELDS is missing or not at the right position";
        store.check(&[
            ("HGETEX s FIELDS 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HGETEX h EX FIELDS 1", "-ERR value is not an integer or out of range"),
            ("HGETEX h EX 10 PX 10 FIELDS 1 a", no_fields),
            ("HGETEX h EX -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0"),
            ("HGETEX h PX 70368744177664 FIELDS 1 a", "-ERR invalid expire time in 'hgetex' command"),
            ("HGETEX h KEEPTTL FIELDS 1 a", no_fields),
            ("HGETEX h FIELDS 0 a", "-ERR Number of fields must be a positive integer"),
            ("HGETEX h FIELDS 2 a", "-ERR The `numfields` parameter must match the number of arguments"),
        ]);
    }
}
