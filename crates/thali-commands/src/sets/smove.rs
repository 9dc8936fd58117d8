//! SMOVE: moves a member from one set to another.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Access, Context, EventClass, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "smove",
    summary: "Moves a member from one set to another.",
    syntax: "source destination member",
    arity: 4,
    keys: Keys::Pair { first: (1, Access::READ_WRITE), second: (2, Access::WRITE) },
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (source, destination, member, limits) = (args[1], args[2], args[3], cx.limits);
    let Some(set) = cx.write::<Set>(source)? else {
        reply.integer(0);
        return Ok(Flow::Done);
    };
    let found = set.contains(member);
    cx.write::<Set>(destination)?;
    reply.integer(found.into());
    if !found || source == destination {
        return Ok(Flow::Done);
    }
    cx.write::<Set>(source)?.expect("looked up above").remove(member);
    cx.modified(EventClass::SET, "srem", source);
    cx.remove_if_empty(source);
    if cx.write_or_insert(destination, Set::new)?.add(member, limits) {
        cx.modified(EventClass::SET, "sadd", destination);
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn moves_members_that_are_there() {
        let mut store = Store::new();
        store.check(&[("SADD a 1 2", ":2"), ("SADD b 2", ":1"), ("SMOVE a b 1", ":1")]);
        assert_eq!(store.events, ["srem a", "sadd b"]);
        store.check(&[("SMOVE a b 2", ":1")]);
        assert_eq!(store.events, ["srem a", "del a"]);
        store.check(&[
            ("SMEMBERS b", "*2\n$1\n1\n$1\n2"),
            ("SMOVE b b 1", ":1"),
            ("SMOVE b b 9", ":0"),
            ("SMOVE a b 1", ":0"),
            ("SET s v", "+OK"),
            ("SMOVE none s 1", ":0"),
            ("SMOVE b s 9", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
