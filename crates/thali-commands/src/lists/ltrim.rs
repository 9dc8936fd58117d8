//! LTRIM: keeps the elements between two indexes, both included. It notifies even when it removes
//! nothing, as Redis does, but then journals nothing.

use thali_data::List;
use thali_resp::Reply;

use crate::{Context, EventClass, Flow, Outcome, Spec, integer, range};

pub const SPEC: Spec = Spec {
    name: "ltrim",
    summary: "Removes elements from both ends a list. Deletes the list if all elements were trimmed.",
    syntax: "key start stop",
    complexity: "O(N) where N is the number of elements to be removed by the operation.",
    arity: 4,
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, limits) = (args[1], cx.limits);
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    reply.ok();
    let Some(list) = cx.write::<List>(key)? else { return Ok(Flow::Done) };
    let len = list.len();
    let keep = range(start, stop, len).unwrap_or(0..0);
    list.remove_range(keep.end, len - keep.end, limits);
    list.remove_range(0, keep.start, limits);
    if keep.len() < len {
        cx.modified(EventClass::LIST, "ltrim", key);
        cx.remove_if_empty(key);
    } else {
        cx.event(EventClass::LIST, "ltrim", key);
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn keeps_the_range_and_nothing_else() {
        let mut store = Store::new();
        store.check(&[
            ("LTRIM l 0 0", "+OK"),
            ("RPUSH l a b c d e", ":5"),
            ("LTRIM l 1 -2", "+OK"),
            ("LRANGE l 0 -1", "*3\n$1\nb\n$1\nc\n$1\nd"),
            ("LTRIM l 0 -1", "+OK"),
        ]);
        assert!(store.effects.is_empty());
        assert_eq!(store.events, ["ltrim l"]);
        store.check(&[("LTRIM l 5 9", "+OK")]);
        assert_eq!(store.events, ["ltrim l", "del l"]);
        store.check(&[("LLEN l", ":0"), ("LTRIM l x 0", "-ERR value is not an integer or out of range")]);
    }
}
