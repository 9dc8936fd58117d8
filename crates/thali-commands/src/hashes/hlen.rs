//! HLEN: how many fields there are; those that have expired and are not removed yet count, as in Redis.

use thali_resp::Reply;

use crate::{Access, Context, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hlen",
    summary: "Returns the number of fields in a hash.",
    syntax: "key",
    arity: 2,
    keys: Keys::one(Access::PRESENCE),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer(cx.fields(args[1])?.map_or(0, |hash| hash.len_with_expired()) as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_fields() {
        let mut store = Store::new();
        store.check(&[("HLEN h", ":0"), ("HSET h a 1 b 2 a 3", ":2"), ("HLEN h", ":2")]);
    }
}
