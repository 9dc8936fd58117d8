//! HDEL: removes fields; a hash without fields is removed as well. A field that has expired and is not removed yet
//! counts, as in Redis.

use thali_resp::Reply;

use crate::{Context, EventClass, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hdel",
    summary: "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
    syntax: "key field [field ...]",
    complexity: "O(N) where N is the number of fields to be removed.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::FAST),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let removed = match cx.hash_mut(key)? {
        Some(mut hash) => args[2..].iter().filter(|field| hash.remove(field)).count(),
        None => 0,
    };
    if removed > 0 {
        cx.modified(EventClass::HASH, "hdel", key);
        cx.remove_if_empty(key);
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_last_field_takes_the_hash_with_it() {
        let mut store = Store::new();
        store.check(&[("HSET h a 1 b 2 c 3", ":3"), ("HDEL h a x a", ":1")]);
        assert_eq!(store.events, ["hdel h"]);
        store.check(&[("HDEL h x", ":0")]);
        assert!(store.effects.is_empty());
        store.check(&[("HDEL h b c", ":2")]);
        assert_eq!(store.events, ["hdel h", "del h"]);
        store.check(&[("DEL h", ":0"), ("HDEL h a", ":0")]);
    }
}
