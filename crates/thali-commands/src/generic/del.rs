//! DEL and UNLINK: remove keys. Both free large values after the locks are let go, so they differ
//! only in name.

use thali_resp::Reply;

use crate::context::KEYS_TOGETHER;
use crate::{Access, Categories, Context, Flags, Flow, Group, Keys, Outcome, Spec};

pub const DEL: Spec = Spec {
    name: "del",
    summary: "Deletes one or more keys.",
    syntax: "key [key ...]",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(N) where N is the number of keys that will be removed.",
    arity: -2,
    flags: Flags::WRITE,
    keys: Keys::all(Access::WRITE),
    categories: Categories::KEYSPACE,
    ..Spec::BASE
};

pub const UNLINK: Spec = Spec {
    name: "unlink",
    summary: "Asynchronously deletes one or more keys.",
    syntax: "key [key ...]",
    since: "4.0.0",
    flags: Flags::WRITE.union(Flags::FAST),
    ..DEL
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let mut removed = 0;
    for keys in args[1..].chunks(KEYS_TOGETHER) {
        cx.touch(keys.iter().copied());
        removed += keys.iter().filter(|key| cx.delete(key)).count();
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_what_was_there() {
        let mut store = Store::new();
        store.check(&[("SET a 1", "+OK"), ("SET b 1", "+OK"), ("DEL a b a c", ":2"), ("DEL a", ":0")]);
        assert!(store.effects.is_empty());
    }
}
