//! SETBIT: sets or clears one bit; the string grows with zeroes up to it.
//!
//! As since Redis 7.2, a bit that has its value already is no change.

use thali_data::{Str, bits};
use thali_resp::Reply;

use crate::{Context, ErrorReply, EventClass, Flow, Outcome, Spec, parse_i64};

pub const SPEC: Spec = Spec {
    name: "setbit",
    summary: "Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist.",
    syntax: "key offset value",
    since: "2.2.0",
    arity: 4,
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let at = super::offset(cx, args[2])?;
    let on = match parse_i64(args[3]) {
        Some(n @ 0..=1) => n == 1,
        _ => return Err(ErrorReply::new("ERR bit is not an integer or out of range")),
    };
    let string = cx.write_or_insert(key, Str::new)?;
    let len = at as usize / 8 + 1;
    let grows = string.len() < len;
    let old = bits::set(string.bytes_mut(len), at, on);
    if grows || old != on {
        cx.modified(EventClass::STRING, "setbit", key);
    }
    reply.integer(i64::from(old));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_string_grows_up_to_the_bit() {
        let mut store = Store::new();
        store.check(&[
            ("SETBIT k 9 1", ":0"),
            ("STRLEN k", ":2"),
            ("SETBIT k 9 0", ":1"),
            ("GETBIT k 9", ":0"),
        ]);
        store.check(&[
            ("SET n 1", "+OK"),
            ("SETBIT n 6 1", ":0"),
            ("GET n", "$1\n3"),
            ("OBJECT ENCODING n", "$3\nraw"),
        ]);
    }

    #[test]
    fn only_a_change_counts() {
        let mut store = Store::new();
        for (line, events) in [
            ("SETBIT k 7 0", &["new k", "setbit k"][..]),
            ("SETBIT k 7 0", &[]),
            ("SETBIT k 7 1", &["setbit k"]),
            ("SETBIT k 15 0", &["setbit k"]),
        ] {
            store.run(line);
            assert_eq!(store.events, events, "{line}");
            assert_eq!(store.effects.len(), usize::from(!events.is_empty()), "{line}");
        }
    }

    #[test]
    fn wrong_arguments() {
        let mut store = Store::new();
        store.limits.proto_max_bulk_len = 1 << 20;
        for at in ["-1", "x", "8388608", "9223372036854775807", "#1", "\"\""] {
            let line = format!("SETBIT k {at} 1");
            store.check(&[(&line, "-ERR bit offset is not an integer or out of range")]);
        }
        for bit in ["2", "-1", "x"] {
            let line = format!("SETBIT k 1 {bit}");
            store.check(&[(&line, "-ERR bit is not an integer or out of range")]);
        }
        store.check(&[
            ("EXISTS k", ":0"),
            ("SETBIT k 8388607 1", ":0"),
            ("LPUSH l v", ":1"),
            ("SETBIT l 1 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
