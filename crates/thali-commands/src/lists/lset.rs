//! LSET: puts a value in the place of the element at an index.

use thali_data::List;
use thali_resp::Reply;

use crate::{Context, ErrorReply, EventClass, Flags, Flow, Outcome, Spec, from_end, integer};

pub const SPEC: Spec = Spec {
    name: "lset",
    summary: "Sets the value of an element in a list by its index.",
    syntax: "key index element",
    complexity: "O(N) where N is the length of the list. Setting either the first or the last element of the \
                 list is O(1).",
    arity: 4,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, limits) = (args[1], cx.limits);
    let list = cx.write::<List>(key)?.ok_or(ErrorReply::NO_SUCH_KEY)?;
    let index = from_end(integer(args[2])?, list.len());
    if !usize::try_from(index).is_ok_and(|index| list.set(index, args[3], limits)) {
        return Err(ErrorReply::INDEX_OUT_OF_RANGE);
    }
    cx.modified(EventClass::LIST, "lset", key);
    reply.ok();
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn replaces_in_place() {
        let mut store = Store::new();
        store.check(&[
            ("LSET l 0 x", "-ERR no such key"),
            ("RPUSH l a b c", ":3"),
            ("LSET l 0 x", "+OK"),
            ("LSET l -1 z", "+OK"),
            ("LRANGE l 0 -1", "*3\n$1\nx\n$1\nb\n$1\nz"),
            ("LSET l 3 x", "-ERR index out of range"),
            ("LSET l -4 x", "-ERR index out of range"),
            ("LSET l x x", "-ERR value is not an integer or out of range"),
        ]);
    }
}
