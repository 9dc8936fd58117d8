//! LRANGE: the elements between two indexes, both included.

use thali_data::List;
use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{Context, Flow, Outcome, Spec, integer, range};

pub const SPEC: Spec = Spec {
    name: "lrange",
    summary: "Returns a range of elements from a list.",
    syntax: "key start stop",
    complexity: "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end \
                 (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.",
    arity: 4,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let list = cx.read::<List>(args[1])?;
    match list.and_then(|list| Some((list, range(start, stop, list.len())?))) {
        Some((list, range)) => {
            reply.array(range.len());
            list.range(range.start, range.len()).for_each(|element| reply.item(element));
        }
        None => reply.array(0),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn clamps_both_indexes() {
        let mut store = Store::new();
        store.check(&[
            ("LRANGE l 0 -1", "*0"),
            ("RPUSH l a b c", ":3"),
            ("LRANGE l 0 -1", "*3\n$1\na\n$1\nb\n$1\nc"),
            ("LRANGE l -2 100", "*2\n$1\nb\n$1\nc"),
            ("LRANGE l -100 0", "*1\n$1\na"),
            ("LRANGE l 2 1", "*0"),
            ("LRANGE l 5 9", "*0"),
            ("LRANGE none x 0", "-ERR value is not an integer or out of range"),
        ]);
    }
}
