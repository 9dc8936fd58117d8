//! LINSERT: inserts an element before or after the first one equal to a pivot.

use thali_data::{Item, List};
use thali_resp::Reply;

use crate::{Context, ErrorReply, EventClass, Flags, Flow, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "linsert",
    summary: "Inserts an element before or after another element in a list.",
    syntax: "key <BEFORE | AFTER> pivot element",
    since: "2.2.0",
    complexity: "O(N) where N is the number of elements to traverse before seeing the value pivot. This means \
                 that inserting somewhere on the left end on the list (head) can be considered O(1) and \
                 inserting somewhere on the right end (tail) is O(N).",
    arity: 5,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, limits) = (args[1], cx.limits);
    let offset = match args[2] {
        word if is_word(word, "BEFORE") => 0,
        word if is_word(word, "AFTER") => 1,
        _ => return Err(ErrorReply::SYNTAX),
    };
    let Some(list) = cx.write::<List>(key)? else {
        reply.integer(0);
        return Ok(Flow::Done);
    };
    let pivot = Item::parse(args[3]);
    let Some(index) = list.iter().position(|element| element == pivot) else {
        reply.integer(-1);
        return Ok(Flow::Done);
    };
    list.insert(index + offset, args[4], limits);
    reply.integer(list.len() as i64);
    cx.modified(EventClass::LIST, "linsert", key);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn stands_beside_the_first_pivot() {
        let mut store = Store::new();
        store.check(&[
            ("LINSERT l BEFORE x y", ":0"),
            ("RPUSH l a b b", ":3"),
            ("LINSERT l before b 1", ":4"),
            ("LINSERT l AFTER b 2", ":5"),
            ("LRANGE l 0 -1", "*5\n$1\na\n$1\n1\n$1\nb\n$1\n2\n$1\nb"),
            ("LINSERT l AFTER x y", ":-1"),
            ("LINSERT l BESIDE b y", "-ERR syntax error"),
        ]);
    }
}
