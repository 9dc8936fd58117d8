//! HSETNX: sets a field that is not there yet.

use thali_data::Item;
use thali_resp::Reply;

use crate::{Context, EventClass, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hsetnx",
    summary: "Sets the value of a field in a hash only when the field doesn't exist.",
    syntax: "key field value",
    arity: 4,
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, field, limits) = (args[1], args[2], cx.limits);
    cx.expire_fields(key, [field]);
    let mut hash = cx.hash_mut_or_insert(key)?;
    if hash.contains(field) {
        reply.integer(0);
        return Ok(Flow::Done);
    }
    hash.set(field, Item::parse(args[3]), limits);
    drop(hash);
    cx.modified(EventClass::HASH, "hset", key);
    reply.integer(1);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn keeps_what_is_there() {
        let mut store = Store::new();
        store.check(&[("HSETNX h a 1", ":1"), ("HSETNX h a 2", ":0")]);
        assert!(store.effects.is_empty());
        store.check(&[("HGET h a", "$1\n1"), ("HSETNX h b 2", ":1")]);
    }
}
