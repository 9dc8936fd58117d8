//! BITPOS: the place of the first bit that is set, or clear.
//!
//! A search for a clear bit without a given end goes on in the zeroes behind the string; with one it does not.

use thali_data::{IntBuf, Str, bits};
use thali_resp::Reply;

use super::Unit;
use crate::{Context, ErrorReply, Flow, Outcome, Spec, integer};

pub const SPEC: Spec = Spec {
    name: "bitpos",
    summary: "Finds the first set (1) or clear (0) bit in a string.",
    syntax: "key bit [start [end [BYTE | BIT]]]",
    since: "2.8.7",
    complexity: "O(N)",
    arity: -3,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let bit = match integer(args[2])? {
        n @ 0..=1 => n == 1,
        _ => return Err(ErrorReply::new("ERR The bit argument must be 1 or 0.")),
    };
    let (start, end, unit) = match args[3..] {
        [] => (0, None, Unit::Byte),
        [start] => (integer(start)?, None, Unit::Byte),
        [start, end] => (integer(start)?, Some(integer(end)?), Unit::Byte),
        [start, end, unit] => {
            let (start, unit) = (integer(start)?, Unit::parse(unit)?);
            (start, Some(integer(end)?), unit)
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let Some(string) = cx.read::<Str>(args[1])? else {
        reply.integer(if bit { -1 } else { 0 });
        return Ok(Flow::Done);
    };
    let mut scratch = IntBuf::new();
    let bytes = string.bytes(&mut scratch);
    let range = unit.bits(start, end.unwrap_or(-1), bytes.len());
    let goes_on = !bit && end.is_none() && !range.is_empty();
    let behind = goes_on.then_some(range.end);
    let found = bits::find(bytes, bit, range).or(behind);
    reply.integer(found.map_or(-1, |at| at as i64));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn zeroes_follow_unless_the_end_is_given() {
        let mut store = Store::new();
        store.check(&[
            ("BITPOS k 0", ":0"),
            ("BITPOS k 1", ":-1"),
            ("BITPOS k 0 5 9 BIT", ":0"),
            (r#"SET k "\xff\xff""#, "+OK"),
            ("BITPOS k 0", ":16"),
            ("BITPOS k 0 1", ":16"),
            ("BITPOS k 0 0 -1", ":-1"),
            ("BITPOS k 0 2", ":-1"),
            ("BITPOS k 0 3 -1 BIT", ":-1"),
            (r#"SET k "\x00\xff\xf0""#, "+OK"),
            ("BITPOS k 1", ":8"),
            ("BITPOS k 0 1", ":20"),
            ("BITPOS k 1 9 -1 BIT", ":9"),
            ("BITPOS k 0 9 19 bit", ":-1"),
            ("BITPOS k 1 -100 0", ":-1"),
            ("SET k \"\"", "+OK"),
            ("BITPOS k 0", ":-1"),
        ]);
    }

    #[test]
    fn wrong_arguments() {
        let mut store = Store::new();
        store.check(&[
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0."),
            ("BITPOS k x", "-ERR value is not an integer or out of range"),
            ("BITPOS k 1 x", "-ERR value is not an integer or out of range"),
            ("BITPOS k 1 0 x what", "-ERR syntax error"),
            ("BITPOS k 1 0 1 bit more", "-ERR syntax error"),
            ("LPUSH k v", ":1"),
            ("BITPOS k 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
