//! HINCRBY: adds to the integer in a field, which keeps its time; a missing field counts as 0.

use thali_data::Item;
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Outcome, Spec, integer};

pub const SPEC: Spec = Spec {
    name: "hincrby",
    summary: "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the \
              field doesn't exist.",
    syntax: "key field increment",
    arity: 4,
    keys: Keys::one(Access::READ_WRITE),
    ..super::WRITE
};

const NOT_INTEGER: ErrorReply = ErrorReply::new("ERR hash value is not an integer");

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, field) = (args[1], args[2]);
    let increment = integer(args[3])?;
    let limits = cx.limits;
    cx.expire_fields(key, [field]);
    let hash = cx.hash_mut(key)?;
    let old = match hash.as_ref().and_then(|hash| hash.get(field)) {
        Some(value) => value.as_int().ok_or(NOT_INTEGER)?,
        None => 0,
    };
    drop(hash);
    let new = old.checked_add(increment).ok_or(ErrorReply::OVERFLOW)?;
    cx.hash_mut_or_insert(key)?.set_keeping_time(field, Item::Int(new), limits);
    cx.modified(EventClass::HASH, "hincrby", key);
    reply.integer(new);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn adds_and_refuses_what_is_no_integer() {
        let mut store = Store::new();
        store.check(&[
            ("HINCRBY h n 5", ":5"),
            ("HINCRBY h n -7", ":-2"),
            ("HGET h n", "$2\n-2"),
            ("HINCRBY h n x", "-ERR value is not an integer or out of range"),
            ("HSET h t text blank \" 1\" big 9223372036854775807", ":3"),
            ("HINCRBY h t 1", "-ERR hash value is not an integer"),
            ("HINCRBY h blank 1", "-ERR hash value is not an integer"),
            ("HINCRBY h big 1", "-ERR increment or decrement would overflow"),
            ("SET s v", "+OK"),
            ("HINCRBY s f 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn a_refused_increment_makes_no_key() {
        let mut store = Store::new();
        store.check(&[("HINCRBY h n x", "-ERR value is not an integer or out of range"), ("DEL h", ":0")]);
    }
}
