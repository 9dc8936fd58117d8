//! HGETALL, HKEYS, HVALS: all of a hash; in the order of insertion while it is small.

use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{Context, Fields, Flags, Flow, Outcome, Spec};

const ALL: Spec = Spec {
    complexity: "O(N) where N is the size of the hash.",
    arity: 2,
    flags: Flags::READONLY,
    ..super::READ
};

pub const HGETALL: Spec =
    Spec { name: "hgetall", summary: "Returns all fields and values in a hash.", syntax: "key", ..ALL };

pub const HKEYS: Spec =
    Spec { name: "hkeys", summary: "Returns all fields in a hash.", syntax: "key", ..ALL };

pub const HVALS: Spec =
    Spec { name: "hvals", summary: "Returns all values in a hash.", syntax: "key", ..ALL };

pub fn hgetall(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let hash = cx.fields(args[1])?;
    reply.map(hash.as_ref().map_or(0, Fields::live_len));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter()) {
        reply.item(field);
        reply.item(value);
    }
    Ok(Flow::Done)
}

pub fn hkeys(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let hash = cx.fields(args[1])?;
    reply.array(hash.as_ref().map_or(0, Fields::live_len));
    hash.iter().flat_map(|hash| hash.iter()).for_each(|(field, _)| reply.item(field));
    Ok(Flow::Done)
}

pub fn hvals(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let hash = cx.fields(args[1])?;
    reply.array(hash.as_ref().map_or(0, Fields::live_len));
    hash.iter().flat_map(|hash| hash.iter()).for_each(|(_, value)| reply.item(value));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_map_in_resp3_and_a_flat_array_in_resp2() {
        let mut store = Store::new();
        store.check(&[
            ("HGETALL h", "*0"),
            ("HSET h z 1 a 2", ":2"),
            ("HGETALL h", "*4\n$1\nz\n$1\n1\n$1\na\n$1\n2"),
            ("HKEYS h", "*2\n$1\nz\n$1\na"),
            ("HVALS h", "*2\n$1\n1\n$1\n2"),
            ("HKEYS none", "*0"),
        ]);
        store.protocol = thali_resp::Protocol::Resp3;
        store.check(&[
            ("HGETALL none", "%0"),
            ("HGETALL h", "%2\n$1\nz\n$1\n1\n$1\na\n$1\n2"),
            ("HKEYS h", "*2\n$1\nz\n$1\na"),
        ]);
    }
}
