//! PFADD: adds elements; replies whether the estimate may have changed.
//!
//! A damaged string is refused before anything is added; Redis adds what comes before the damage.

use thali_data::hyperloglog::new_string;
use thali_resp::Reply;

use crate::{Context, EventClass, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "pfadd",
    summary: "Adds elements to a HyperLogLog key. Creates the key if it doesn't exist.",
    syntax: "key [element [element ...]]",
    complexity: "O(1) to add every element.",
    arity: -2,
    flags: super::WRITE.flags.union(Flags::FAST),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, elements) = (args[1], &args[2..]);
    let is_new = !cx.exists(key);
    let sparse_bytes_max = cx.limits.hll_sparse_max_bytes;
    let mut hll = super::change(cx.write_or_insert(key, new_string)?)?;
    let mut changes = u64::from(is_new);
    for element in elements {
        changes += u64::from(hll.add(element, sparse_bytes_max));
    }
    if changes > 0 {
        hll.forget_count();
        cx.modified(EventClass::STRING, "pfadd", key);
        cx.dirty += changes - 1;
    }
    reply.integer(i64::from(changes > 0));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn only_what_is_new_changes_anything() {
        let mut store = Store::new();
        for (line, reply, events) in [
            ("PFADD k", ":1\r\n", &["new k", "pfadd k"][..]),
            ("PFADD k", ":0\r\n", &[]),
            ("PFADD k a b c", ":1\r\n", &["pfadd k"]),
            ("PFADD k c a", ":0\r\n", &[]),
        ] {
            assert_eq!(store.run(line), reply, "{line}");
            assert_eq!(store.events, events, "{line}");
            assert_eq!(store.effects.len(), usize::from(!events.is_empty()), "{line}");
        }
        store.check(&[("PFCOUNT k", ":3"), ("STRLEN k", ":27"), ("OBJECT ENCODING k", "$3\nraw")]);
    }

    #[test]
    fn the_limit_makes_it_dense() {
        let mut store = Store::new();
        store.limits.hll_sparse_max_bytes = 21;
        store.check(&[
            ("PFADD k a", ":1"),
            ("PFDEBUG ENCODING k", "+sparse"),
            ("PFADD k b", ":1"),
            ("PFDEBUG ENCODING k", "+dense"),
            ("STRLEN k", ":12304"),
        ]);
    }

    #[test]
    fn other_strings_are_refused() {
        let mut store = Store::new();
        store.check(&[
            ("SET s v", "+OK"),
            ("PFADD s a", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
            ("LPUSH l v", ":1"),
            ("PFADD l a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("PFADD k a", ":1"),
            ("APPEND k hello", ":26"),
            ("PFADD k b", "-INVALIDOBJ Corrupted HLL object detected"),
            ("PFCOUNT k", "-INVALIDOBJ Corrupted HLL object detected"),
        ]);
        assert!(store.effects.is_empty());
    }
}
