//! LMOVE, RPOPLPUSH and, waiting where the source is empty, BLMOVE, BRPOPLPUSH: take an element from
//! one list and add it to another, which may be the same.
//!
//! The blocking forms are journaled as LMOVE.

use thali_data::list::End;
use thali_data::{List, Str};
use thali_keyspace::WaitKind;
use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{
    Access, Context, ErrorReply, Flags, Flow, Keys, Origin, Outcome, Spec, Wait, deadline_from_seconds,
};

pub const LMOVE: Spec = Spec {
    name: "lmove",
    summary: "Returns an element after popping it from one list and pushing it to another. Deletes the list if \
              the last element was moved.",
    syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
    since: "6.2.0",
    arity: 5,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::Pair { first: (1, Access::READ_WRITE), second: (2, Access::WRITE) },
    ..super::WRITE
};

pub const RPOPLPUSH: Spec = Spec {
    name: "rpoplpush",
    summary: "Returns the last element of a list after removing and pushing it to another list. Deletes the \
              list if the last element was popped.",
    syntax: "source destination",
    since: "1.2.0",
    arity: 3,
    ..LMOVE
};

pub const BLMOVE: Spec = Spec {
    name: "blmove",
    summary: "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is \
              available otherwise. Deletes the list if the last element was moved.",
    syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
    arity: 6,
    flags: LMOVE.flags.union(Flags::BLOCKING),
    ..LMOVE
};

pub const BRPOPLPUSH: Spec = Spec {
    name: "brpoplpush",
    summary: "Pops an element from a list, pushes it to another list and returns it. Block until an element is \
              available otherwise. Deletes the list if the last element was popped.",
    syntax: "source destination timeout",
    since: "2.2.0",
    arity: 4,
    ..BLMOVE
};

/// The ends of a move.
#[derive(Clone, Copy)]
struct Route {
    from: End,
    to: End,
}

const BACK_TO_FRONT: Route = Route { from: End::Back, to: End::Front };

pub fn lmove(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let route = Route { from: super::parse_end(args[3])?, to: super::parse_end(args[4])? };
    move_or_null(cx, args, reply, route)
}

pub fn rpoplpush(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    move_or_null(cx, args, reply, BACK_TO_FRONT)
}

pub fn blmove(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let route = Route { from: super::parse_end(args[3])?, to: super::parse_end(args[4])? };
    move_or_wait(cx, args, reply, route)
}

pub fn brpoplpush(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    move_or_wait(cx, args, reply, BACK_TO_FRONT)
}

fn move_or_null(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>, route: Route) -> Outcome {
    match move_element(cx, args[1], args[2], route)? {
        Some(value) => reply.item(value.item()),
        None => reply.null(),
    }
    Ok(Flow::Done)
}

fn move_or_wait(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>, route: Route) -> Outcome {
    let deadline_ms = deadline_from_seconds(args[args.len() - 1], cx.now_ms)?;
    let (source, destination) = (args[1], args[2]);
    if let Some(value) = move_element(cx, source, destination, route)? {
        cx.effect(&[b"LMOVE", source, destination, super::end_word(route.from), super::end_word(route.to)]);
        reply.item(value.item());
        return Ok(Flow::Done);
    }
    if cx.origin == Origin::Unit {
        reply.null();
        return Ok(Flow::Done);
    }
    // A client whose time is up gets a null array, one in a transaction a null: as in Redis.
    let wait = Wait {
        kind: WaitKind::List,
        keys: vec![source.into()],
        deadline_ms,
        request: args.iter().map(|arg| arg.to_vec()).collect(),
        null_array: true,
    };
    Ok(cx.park(reply, wait))
}

fn move_element(
    cx: &mut Context<'_>,
    source: &[u8],
    destination: &[u8],
    route: Route,
) -> Result<Option<Str>, ErrorReply> {
    let limits = cx.limits;
    if cx.write::<List>(source)?.is_none() {
        return Ok(None);
    }
    cx.write::<List>(destination)?;
    let list = cx.write::<List>(source)?.expect("looked up above");
    let value = list.pop(route.from, limits).expect("a list is never empty");
    let list = cx.write_or_insert(destination, List::new)?;
    value.with_bytes(|bytes| list.push(route.to, bytes, limits));
    super::pushed(cx, destination, route.to);
    super::popped(cx, source, route.from);
    // Redis counts a move as one change.
    cx.dirty -= 1;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use crate::Origin;
    use crate::testing::Store;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn moves_between_any_ends() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH a 1 2 3", ":3"),
            ("LMOVE a b LEFT RIGHT", "$1\n1"),
            ("RPOPLPUSH a b", "$1\n3"),
            ("LRANGE b 0 -1", "*2\n$1\n3\n$1\n1"),
            ("LMOVE a b RIGHT RIGHT", "$1\n2"),
        ]);
        assert_eq!(store.events, ["rpush b", "rpop a", "del a"]);
        assert_eq!(store.effects, ["LMOVE a b RIGHT RIGHT"]);
        store.check(&[("LMOVE a b LEFT LEFT", "$-1"), ("LRANGE b 0 -1", "*3\n$1\n3\n$1\n1\n$1\n2")]);
    }

    #[test]
    fn one_list_rotates() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH l 1 2 3", ":3"),
            ("RPOPLPUSH l l", "$1\n3"),
            ("LRANGE l 0 -1", "*3\n$1\n3\n$1\n1\n$1\n2"),
            ("RPUSH one x", ":1"),
            ("LMOVE one one LEFT RIGHT", "$1\nx"),
            ("LLEN one", ":1"),
        ]);
    }

    #[test]
    fn faulty_requests_move_nothing() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH l 1", ":1"),
            ("SET s v", "+OK"),
            ("LMOVE l d UP LEFT", "-ERR syntax error"),
            ("LMOVE l s LEFT LEFT", WRONG_TYPE),
            ("LMOVE s l LEFT LEFT", WRONG_TYPE),
            ("LMOVE none s LEFT LEFT", "$-1"),
            ("LLEN l", ":1"),
            ("BLMOVE l d LEFT LEFT -1", "-ERR timeout is negative"),
        ]);
    }

    #[test]
    fn blocking_forms_wait_for_the_source_alone() {
        let mut store = Store::new();
        store.check(&[("BLMOVE a b LEFT RIGHT 2", "")]);
        let wait = store.parked.take().unwrap();
        assert_eq!((wait.keys, wait.deadline_ms), (vec![Box::from(&b"a"[..])], Some(store.now_ms + 2000)));
        store.check(&[("RPUSH a 1 2", ":2"), ("BLMOVE a b LEFT RIGHT 2", "$1\n1")]);
        assert_eq!(store.effects, ["LMOVE a b LEFT RIGHT"]);
        store.check(&[("BRPOPLPUSH a b 0", "$1\n2")]);
        assert_eq!(store.effects, ["LMOVE a b RIGHT LEFT"]);
        store.origin = Origin::Unit;
        store.check(&[("BLMOVE a b LEFT RIGHT 2", "$-1"), ("BRPOPLPUSH a b 0", "$-1")]);
    }
}
