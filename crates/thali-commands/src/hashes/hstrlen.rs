//! HSTRLEN: the length of a field's value in bytes.

use thali_data::Item;
use thali_resp::Reply;

use crate::{Access, Context, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hstrlen",
    summary: "Returns the length of the value of a field.",
    syntax: "key field",
    since: "3.2.0",
    arity: 3,
    keys: Keys::one(Access::PRESENCE),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let value = cx.fields(args[1])?.and_then(|hash| hash.get(args[2]));
    reply.integer(value.as_ref().map_or(0, Item::len) as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_bytes_of_numbers_too() {
        let mut store = Store::new();
        store.check(&[
            ("HSET h t héllo n -123", ":2"),
            ("HSTRLEN h t", ":6"),
            ("HSTRLEN h n", ":4"),
            ("HSTRLEN h x", ":0"),
            ("HSTRLEN x x", ":0"),
        ]);
    }
}
