//! BITCOUNT: how many bits are set, in all or in a range.
//!
//! As since Valkey 8.0, the range may lack its end.

use thali_data::{IntBuf, Str, bits};
use thali_resp::Reply;

use super::Unit;
use crate::{Context, ErrorReply, Flow, Outcome, Spec, integer};

pub const SPEC: Spec = Spec {
    name: "bitcount",
    summary: "Counts the number of set bits (population counting) in a string.",
    syntax: "key [start end [BYTE | BIT]]",
    since: "2.6.0",
    complexity: "O(N)",
    arity: -2,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (start, end, unit) = match args[2..] {
        [] => (0, -1, Unit::Byte),
        [start] => (integer(start)?, -1, Unit::Byte),
        [start, end] => (integer(start)?, integer(end)?, Unit::Byte),
        [start, end, unit] => {
            let (start, unit) = (integer(start)?, Unit::parse(unit)?);
            (start, integer(end)?, unit)
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let count = cx.read::<Str>(args[1])?.map_or(0, |string| {
        let mut scratch = IntBuf::new();
        let bytes = string.bytes(&mut scratch);
        // Before it is known that both ends lie before the string.
        let is_reversed = start < 0 && end < 0 && start > end;
        if is_reversed { 0 } else { bits::count_in(bytes, unit.bits(start, end, bytes.len())) }
    });
    reply.integer(count as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn ranges_in_bytes_and_bits() {
        let mut store = Store::new();
        store.check(&[
            ("BITCOUNT k", ":0"),
            ("SET k foobar", "+OK"),
            ("BITCOUNT k", ":26"),
            ("BITCOUNT k 0 0", ":4"),
            ("BITCOUNT k 1 1", ":6"),
            ("BITCOUNT k 1", ":22"),
            ("BITCOUNT k -2 -1", ":7"),
            ("BITCOUNT k -1 -2", ":0"),
            ("BITCOUNT k -100 -99", ":4"),
            ("BITCOUNT k -99 -100", ":0"),
            ("BITCOUNT k 6 100", ":0"),
            ("BITCOUNT k 9223372036854775807 9223372036854775807 BIT", ":0"),
            ("BITCOUNT k -9223372036854775808 9223372036854775807", ":26"),
            ("BITCOUNT k 1 1 byte", ":6"),
            ("BITCOUNT k 5 30 bit", ":17"),
            ("SET n 1", "+OK"),
            ("BITCOUNT n", ":3"),
        ]);
    }

    #[test]
    fn wrong_arguments_are_seen_before_the_key() {
        let mut store = Store::new();
        store.check(&[
            ("BITCOUNT k x", "-ERR value is not an integer or out of range"),
            ("BITCOUNT k 0 x", "-ERR value is not an integer or out of range"),
            ("BITCOUNT k 0 x hello", "-ERR syntax error"),
            ("BITCOUNT k 0 1 hello", "-ERR syntax error"),
            ("BITCOUNT k 0 1 bit extra", "-ERR syntax error"),
            ("LPUSH k v", ":1"),
            ("BITCOUNT k", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
