//! HINCRBYFLOAT: adds to the number in a field, in extended precision; a missing field counts as 0.
//!
//! Journaled as HSET of the result, so that a replay depends on no arithmetic. A field keeps its time; one that has
//! one is journaled with HSETEX and KEEPTTL, which older servers do not know.

use thali_data::Item;
use thali_data::long_double::{LongDouble, ParseError};
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hincrbyfloat",
    summary: "Increments the floating point value of a field by a number. Uses 0 as initial value if the \
              field doesn't exist.",
    syntax: "key field increment",
    since: "2.6.0",
    arity: 4,
    keys: Keys::one(Access::READ_WRITE),
    ..super::WRITE
};

const NOT_FLOAT: ErrorReply = ErrorReply::new("ERR hash value is not a float");
const NOT_FINITE: ErrorReply = ErrorReply::new("ERR value is NaN or Infinity");

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, field) = (args[1], args[2]);
    let increment = LongDouble::parse(args[3]).map_err(|error| match error {
        ParseError::Invalid => ErrorReply::NOT_FLOAT,
        ParseError::Infinite => NOT_FINITE,
    })?;
    let limits = cx.limits;
    cx.expire_fields(key, [field]);
    let hash = cx.hash_mut(key)?;
    let found = hash.as_ref().and_then(|hash| hash.get_timed(field));
    let has_time = found.as_ref().is_some_and(|(_, at)| at.is_some());
    let sum = match found {
        Some((value, _)) => {
            let old = value.with_bytes(LongDouble::parse).map_err(|error| match error {
                ParseError::Invalid => NOT_FLOAT,
                ParseError::Infinite => ErrorReply::NAN_OR_INFINITY,
            })?;
            old.checked_add(increment).ok_or(ErrorReply::NAN_OR_INFINITY)?
        }
        None => increment,
    };
    drop(hash);
    let text = sum.to_string();
    cx.hash_mut_or_insert(key)?.set_keeping_time(field, Item::parse(text.as_bytes()), limits);
    cx.modified(EventClass::HASH, "hincrbyfloat", key);
    match has_time {
        true => cx.effect(&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1", field, text.as_bytes()]),
        false => cx.effect(&[b"HSET", key, field, text.as_bytes()]),
    }
    reply.bulk(text.as_bytes());
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn adds_without_the_noise_of_doubles_and_journals_the_result() {
        let mut store = Store::new();
        store.check(&[("HINCRBYFLOAT h f 0.1", "$3\n0.1"), ("HINCRBYFLOAT h f 0.2", "$3\n0.3")]);
        assert_eq!(store.effects, ["HSET h f 0.3"]);
        store.check(&[("HSET h n 5", ":1"), ("HINCRBYFLOAT h n -5.0e0", "$1\n0"), ("HINCRBY h n 2", ":2")]);
    }

    #[test]
    fn the_field_keeps_its_time_in_the_journal_too() {
        let mut store = Store::new();
        store.run("HSET h f 1");
        store.run("HPEXPIRE h 50 FIELDS 1 f");
        store.check(&[("HINCRBYFLOAT h f 1.5", "$3\n2.5")]);
        assert_eq!(store.effects, ["HSETEX h KEEPTTL FIELDS 1 f 2.5"]);
        store.check(&[("HPTTL h FIELDS 1 f", "*1\n:50")]);
        store.now_ms += 51;
        store.check(&[("HINCRBYFLOAT h f 1.5", "$3\n1.5"), ("HPTTL h FIELDS 1 f", "*1\n:-1")]);
    }

    #[test]
    fn refuses_what_is_no_number() {
        let mut store = Store::new();
        store.check(&[
            ("HSET h t text blank \" 5\"", ":2"),
            ("HINCRBYFLOAT h t 1", "-ERR hash value is not a float"),
            ("HINCRBYFLOAT h blank 1", "-ERR hash value is not a float"),
            ("HINCRBYFLOAT h n x", "-ERR value is not a valid float"),
            ("HINCRBYFLOAT h n nan", "-ERR value is not a valid float"),
            ("HINCRBYFLOAT h n inf", "-ERR value is NaN or Infinity"),
            ("HLEN h", ":2"),
        ]);
    }
}
