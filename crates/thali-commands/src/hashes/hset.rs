//! HSET and HMSET: set fields, which stay from then on. They differ in the reply: HSET counts the new fields, HMSET
//! says OK.

use thali_data::Item;
use thali_resp::Reply;

use crate::{Context, ErrorReply, EventClass, Flow, Outcome, Spec};

pub const HSET: Spec = Spec {
    name: "hset",
    summary: "Creates or modifies the value of a field in a hash.",
    syntax: "key field value [field value ...]",
    complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is \
                 called with multiple field/value pairs.",
    arity: -4,
    ..super::WRITE
};

pub const HMSET: Spec = Spec {
    name: "hmset",
    summary: "Sets the values of multiple fields.",
    syntax: "key field value [field value ...]",
    complexity: "O(N) where N is the number of fields being set.",
    ..HSET
};

pub fn hset(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let added = set_fields(cx, args, HSET.name)?;
    reply.integer(added as i64);
    Ok(Flow::Done)
}

pub fn hmset(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    set_fields(cx, args, HMSET.name)?;
    reply.ok();
    Ok(Flow::Done)
}

fn set_fields(cx: &mut Context<'_>, args: &[&[u8]], name: &str) -> Result<usize, ErrorReply> {
    let (pairs, rest) = args[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ErrorReply::wrong_arity(name));
    }
    let (key, limits) = (args[1], cx.limits);
    cx.expire_fields(key, pairs.iter().map(|[field, _]| *field));
    let mut hash = cx.hash_mut_or_insert(key)?;
    let added = pairs.iter().filter(|[field, value]| hash.set(field, Item::parse(value), limits)).count();
    drop(hash);
    cx.modified(EventClass::HASH, "hset", key);
    Ok(added)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_only_new_fields() {
        let mut store = Store::new();
        store.check(&[
            ("HSET h a 1 b 2", ":2"),
            ("HSET h a 3 c 4", ":1"),
            ("HGET h a", "$1\n3"),
            ("HMSET h a 5 d 6", "+OK"),
            ("HLEN h", ":4"),
        ]);
        assert_eq!(store.run("HSET h a 1"), ":0\r\n");
        assert_eq!((store.events[0].as_str(), store.effects[0].as_str()), ("hset h", "HSET h a 1"));
    }

    #[test]
    fn a_field_without_a_value_is_an_arity_error() {
        let mut store = Store::new();
        store.check(&[
            ("HSET h a", "-ERR wrong number of arguments for 'hset' command"),
            ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
            ("HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command"),
            ("HLEN h", ":0"),
        ]);
    }
}
