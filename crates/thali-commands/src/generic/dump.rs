//! DUMP: a value in the form that RESTORE takes, here or on a Redis 7.0 or later.

use thali_rdb::{Encoder, Version};
use thali_resp::Reply;

use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "dump",
    summary: "Returns a serialized representation of the value stored at a key.",
    syntax: "key",
    since: "2.6.0",
    complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis \
                 objects composing the value and M their average size. For small string values the time \
                 complexity is thus O(1)+O(1*M) where M is small, so simply O(1).",
    arity: 2,
    flags: Flags::READONLY,
    keys: Keys::one(Access::READ),
    ..super::BASE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match cx.entry(args[1]) {
        Some(entry) => reply.bulk(&Encoder::uncompressed(Version::V10).dump(&entry.value)),
        None => reply.null(),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_missing_key_is_null() {
        Store::new().check(&[("DUMP nothing", "$-1")]);
    }
}
