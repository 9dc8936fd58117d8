//! LPUSH, RPUSH and, for lists that are there already, LPUSHX, RPUSHX: add at an end.

use thali_data::List;
use thali_data::list::End;
use thali_resp::Reply;

use crate::{Context, Flags, Flow, Outcome, Spec};

const PUSH: Spec = Spec {
    complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with \
                 multiple arguments.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    ..super::WRITE
};

pub const LPUSH: Spec = Spec {
    name: "lpush",
    summary: "Prepends one or more elements to a list. Creates the key if it doesn't exist.",
    syntax: "key element [element ...]",
    ..PUSH
};

pub const RPUSH: Spec = Spec {
    name: "rpush",
    summary: "Appends one or more elements to a list. Creates the key if it doesn't exist.",
    syntax: "key element [element ...]",
    ..PUSH
};

pub const LPUSHX: Spec = Spec {
    name: "lpushx",
    summary: "Prepends one or more elements to a list only when the list exists.",
    syntax: "key element [element ...]",
    since: "2.2.0",
    ..PUSH
};

pub const RPUSHX: Spec = Spec {
    name: "rpushx",
    summary: "Appends one or more elements to a list only when the list exists.",
    syntax: "key element [element ...]",
    since: "2.2.0",
    ..PUSH
};

pub fn lpush(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    push(cx, args, reply, End::Front)
}

pub fn rpush(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    push(cx, args, reply, End::Back)
}

pub fn lpushx(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    push_if_exists(cx, args, reply, End::Front)
}

pub fn rpushx(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    push_if_exists(cx, args, reply, End::Back)
}

fn push(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>, end: End) -> Outcome {
    let (key, limits) = (args[1], cx.limits);
    let list = cx.write_or_insert(key, List::new)?;
    for value in &args[2..] {
        list.push(end, value, limits);
    }
    reply.integer(list.len() as i64);
    super::pushed(cx, key, end);
    Ok(Flow::Done)
}

fn push_if_exists(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>, end: End) -> Outcome {
    if cx.write::<List>(args[1])?.is_none() {
        reply.integer(0);
        return Ok(Flow::Done);
    }
    push(cx, args, reply, end)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn each_value_goes_to_the_end_in_turn() {
        let mut store = Store::new();
        store.check(&[("LPUSH l a b", ":2")]);
        assert_eq!(store.events, ["new l", "lpush l"]);
        store.check(&[("RPUSH l 1 2", ":4"), ("LRANGE l 0 -1", "*4\n$1\nb\n$1\na\n$1\n1\n$1\n2")]);
    }

    #[test]
    fn x_forms_make_no_list() {
        let mut store = Store::new();
        store.check(&[("LPUSHX l a", ":0"), ("RPUSHX l a", ":0"), ("LLEN l", ":0")]);
        store.check(&[("RPUSH l a", ":1"), ("LPUSHX l b", ":2"), ("RPUSHX l c d", ":4")]);
        store.check(&[
            ("SET s v", "+OK"),
            ("LPUSH s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("RPUSHX s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
