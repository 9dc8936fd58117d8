//! PFMERGE: raises a key's registers to those of others.
//!
//! It counts as a change even where nothing was raised, and says `pfadd`, as Redis does.

use thali_data::hyperloglog::{Encoding, Registers, new_string};
use thali_resp::Reply;

use crate::{Access, Context, EventClass, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "pfmerge",
    summary: "Merges one or more HyperLogLog values into a single key.",
    syntax: "destkey sourcekey [sourcekey ...]",
    complexity: "O(N) to merge N HyperLogLogs, but with high constant times.",
    arity: -2,
    keys: Keys::Into { at: 1, access: Access::READ_WRITE },
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let mut registers = Registers::new();
    let mut is_dense = false;
    for key in &args[1..] {
        if let Some(hll) = super::read(cx, key)? {
            is_dense |= hll.encoding() == Encoding::Dense;
            hll.merge_into(&mut registers).map_err(super::corrupt)?;
        }
    }
    let sparse_bytes_max = cx.limits.hll_sparse_max_bytes;
    let mut target = super::change(cx.write_or_insert(key, new_string)?)?;
    if is_dense {
        target.make_dense();
    }
    target.merge(&registers, sparse_bytes_max);
    cx.modified(EventClass::STRING, "pfadd", key);
    reply.ok();
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_target_is_a_source_too() {
        let mut store = Store::new();
        store.check(&[
            ("PFADD a 1 2", ":1"),
            ("PFADD b 2 3", ":1"),
            ("PFMERGE a b none", "+OK"),
            ("PFCOUNT a", ":3"),
            ("PFMERGE c", "+OK"),
        ]);
        assert_eq!(store.events, ["new c", "pfadd c"]);
        store.check(&[("PFCOUNT c", ":0"), ("PFMERGE c", "+OK")]);
        assert_eq!(
            (store.events.clone(), store.effects.clone()),
            (vec!["pfadd c".into()], vec!["PFMERGE c".into()])
        );
    }

    #[test]
    fn one_dense_source_makes_the_target_dense() {
        let mut store = Store::new();
        store.check(&[
            ("PFADD a 1 2", ":1"),
            ("PFDEBUG TODENSE a", ":1"),
            ("PFADD b 3", ":1"),
            ("PFMERGE b a", "+OK"),
            ("PFDEBUG ENCODING b", "+dense"),
            ("PFCOUNT b", ":3"),
        ]);
    }

    #[test]
    fn a_bad_source_leaves_the_target() {
        let mut store = Store::new();
        store.check(&[
            ("PFADD a 1", ":1"),
            ("APPEND a x", ":22"),
            ("PFMERGE b a", "-INVALIDOBJ Corrupted HLL object detected"),
            ("SET s v", "+OK"),
            ("PFMERGE b s", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
            ("EXISTS b", ":0"),
        ]);
    }
}
