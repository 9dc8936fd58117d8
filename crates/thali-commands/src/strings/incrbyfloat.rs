//! INCRBYFLOAT: adds to the number in a string, in extended precision.
//!
//! Journaled as SET of the result with KEEPTTL, so that a replay depends on no arithmetic.

use thali_data::Str;
use thali_data::long_double::{LongDouble, ParseError};
use thali_resp::Reply;

use crate::{Context, ErrorReply, EventClass, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "incrbyfloat",
    summary: "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't \
              exist.",
    syntax: "key increment",
    since: "2.6.0",
    arity: 3,
    flags: super::WRITE.flags.union(Flags::FAST),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let parse = |text: &[u8]| {
        LongDouble::parse(text).map_err(|error| match error {
            ParseError::Invalid => ErrorReply::NOT_FLOAT,
            ParseError::Infinite => ErrorReply::NAN_OR_INFINITY,
        })
    };
    let old = match cx.read::<Str>(key)? {
        Some(value) => Some((value.with_bytes(parse)?, cx.peek(key).and_then(|entry| entry.expire_at()))),
        None => None,
    };
    let increment = parse(args[2])?;
    let (sum, expire_at) = match old {
        Some((old, expire_at)) => (old.checked_add(increment).ok_or(ErrorReply::NAN_OR_INFINITY)?, expire_at),
        None => (increment, None),
    };
    let text = sum.to_string();
    cx.put(key, Str::from_text(text.as_bytes()), expire_at);
    cx.modified(EventClass::STRING, "incrbyfloat", key);
    cx.effect(&[b"SET", key, text.as_bytes(), b"KEEPTTL"]);
    reply.bulk(text.as_bytes());
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn adds_without_the_noise_of_doubles() {
        let mut store = Store::new();
        store.check(&[
            ("SET n 10.50", "+OK"),
            ("INCRBYFLOAT n 0.1", "$4\n10.6"),
            ("INCRBYFLOAT n -5", "$3\n5.6"),
            ("SET n 5.0e3", "+OK"),
            ("INCRBYFLOAT n 2.0e2", "$4\n5200"),
            ("OBJECT ENCODING n", "$6\nembstr"),
            ("INCRBYFLOAT n x", "-ERR value is not a valid float"),
            ("INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity"),
        ]);
    }
}
