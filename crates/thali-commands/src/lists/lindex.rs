//! LINDEX: the element at an index. A missing key is null whatever the index looks like.

use thali_data::List;
use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{Context, Flow, Outcome, Spec, from_end, integer};

pub const SPEC: Spec = Spec {
    name: "lindex",
    summary: "Returns an element from a list by its index.",
    syntax: "key index",
    complexity: "O(N) where N is the number of elements to traverse to get to the element at index. This makes \
                 asking for the first or the last element of the list O(1).",
    arity: 3,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let Some(list) = cx.read::<List>(args[1])? else {
        reply.null();
        return Ok(Flow::Done);
    };
    let index = from_end(integer(args[2])?, list.len());
    match usize::try_from(index).ok().and_then(|index| list.get(index)) {
        Some(element) => reply.item(element),
        None => reply.null(),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_from_both_ends() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH l a b c", ":3"),
            ("LINDEX l 0", "$1\na"),
            ("LINDEX l -1", "$1\nc"),
            ("LINDEX l 3", "$-1"),
            ("LINDEX l -4", "$-1"),
            ("LINDEX l x", "-ERR value is not an integer or out of range"),
            ("LINDEX none x", "$-1"),
        ]);
    }
}
