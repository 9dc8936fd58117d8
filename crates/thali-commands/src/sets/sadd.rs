//! SADD: adds members.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Context, EventClass, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "sadd",
    summary: "Adds one or more members to a set. Creates the key if it doesn't exist.",
    syntax: "key member [member ...]",
    complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with \
                 multiple arguments.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, members, limits) = (args[1], &args[2..], cx.limits);
    let set = cx.write_or_insert(key, || Set::with_hint(members[0], members.len(), limits))?;
    set.anticipate(members.len(), limits);
    let added = members.iter().filter(|member| set.add(member, limits)).count();
    if added > 0 {
        cx.modified(EventClass::SET, "sadd", key);
    }
    reply.integer(added as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_new_members() {
        let mut store = Store::new();
        store.check(&[("SADD s a b a", ":2"), ("SADD s b", ":0")]);
        assert!(store.effects.is_empty());
        store.check(&[
            ("SADD s b c", ":1"),
            ("SET x v", "+OK"),
            ("SADD x a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
