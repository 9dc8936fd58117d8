//! PFCOUNT: the estimate over one or several keys.
//!
//! That of a single key is kept in the string, as Redis does, where it was out of date. This is not journaled: it
//! follows from the rest of the string, and reading goes on where the journal cannot write.

use thali_data::Str;
use thali_data::hyperloglog::Registers;
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "pfcount",
    summary: "Returns the approximated cardinality of the set(s) observed by the HyperLogLog key(s).",
    syntax: "key [key ...]",
    complexity: "O(1) with a very small average constant time when called with a single key. O(N) with N being \
                 the number of keys, and much bigger constant times, when called with multiple keys.",
    arity: -2,
    flags: Flags::READONLY.union(Flags::MAY_REPLICATE),
    // It writes too, but only its own count, which nobody sees.
    keys: Keys::all(Access::READ),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let count = if let [_, key] = *args { count_one(cx, key)? } else { count_union(cx, &args[1..])? };
    reply.integer(count as i64);
    Ok(Flow::Done)
}

fn count_one(cx: &mut Context<'_>, key: &[u8]) -> Result<u64, ErrorReply> {
    let Some(hll) = super::read(cx, key)? else { return Ok(0) };
    if let Some(count) = hll.kept_count() {
        return Ok(count);
    }
    let count = hll.count().map_err(super::corrupt)?;
    if let Some(string) = cx.write::<Str>(key)? {
        super::change(string)?.keep_count(count);
        cx.dirty += 1;
        cx.changed_in(cx.db, key);
        cx.no_effect();
    }
    Ok(count)
}

fn count_union(cx: &Context<'_>, keys: &[&[u8]]) -> Result<u64, ErrorReply> {
    let mut registers = Registers::new();
    for key in keys {
        if let Some(hll) = super::read(cx, key)? {
            hll.merge_into(&mut registers).map_err(super::corrupt)?;
        }
    }
    Ok(registers.count())
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn several_keys_count_as_one() {
        let mut store = Store::new();
        store.check(&[
            ("PFCOUNT none", ":0"),
            ("PFCOUNT none none2", ":0"),
            ("PFADD a 1 2 3", ":1"),
            ("PFADD b 3 4", ":1"),
            ("PFCOUNT a b none", ":4"),
            ("PFCOUNT a a", ":3"),
            ("SET s v", "+OK"),
            ("PFCOUNT a s", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
        ]);
    }

    #[test]
    fn the_count_is_kept_in_the_string_without_a_word() {
        let mut store = Store::new();
        store.check(&[
            ("PFADD k a b", ":1"),
            ("GETRANGE k 8 15", "$8\n\0\0\0\0\0\0\0\u{fffd}"),
            ("PFCOUNT k", ":2"),
        ]);
        assert!(store.effects.is_empty() && store.events.is_empty());
        store.check(&[
            ("GETRANGE k 8 15", "$8\n\u{2}\0\0\0\0\0\0\0"),
            ("SETRANGE k 8 7", ":24"),
            ("PFCOUNT k", ":55"),
            ("PFADD k c", ":1"),
            ("PFCOUNT k", ":3"),
        ]);
    }
}
