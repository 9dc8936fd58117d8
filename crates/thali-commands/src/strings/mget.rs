//! MGET: the values of many keys; a key of another type counts as missing.

use thali_data::{IntBuf, Str};
use thali_keyspace::Typed;
use thali_resp::Reply;

use crate::context::KEYS_TOGETHER;
use crate::{Access, Context, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "mget",
    summary: "Atomically returns the string values of one or more keys.",
    syntax: "key [key ...]",
    complexity: "O(N) where N is the number of keys to retrieve.",
    arity: -2,
    keys: Keys::all(Access::READ),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.array(args.len() - 1);
    for keys in args[1..].chunks(KEYS_TOGETHER) {
        cx.touch(keys.iter().copied());
        for key in keys {
            match cx.entry(key).and_then(|entry| Str::of(&entry.value)) {
                Some(value) => reply.bulk(value.bytes(&mut IntBuf::new())),
                None => reply.null(),
            }
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn missing_and_other_types_are_null() {
        let mut store = Store::new();
        store.check(&[("SET k v", "+OK"), ("LPUSH l v", ":1"), ("MGET k nokey l", "*3\n$1\nv\n$-1\n$-1")]);
    }
}
