//! ZREM: remove members; the last one takes the key with it.

use thali_data::sorted_set::SortedSet;
use thali_resp::Reply;

use super::WRITE_ONE;
use crate::{Context, EventClass, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "zrem",
    summary: "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed.",
    syntax: "key member [member ...]",
    since: "1.2.0",
    complexity: "O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements to be removed.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::FAST),
    ..WRITE_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let removed = match cx.write::<SortedSet>(key)? {
        Some(set) => args[2..].iter().filter(|member| set.remove(member).is_some()).count(),
        None => 0,
    };
    if removed > 0 {
        cx.modified(EventClass::SORTED_SET, "zrem", key);
        cx.remove_if_empty(key);
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_last_member_takes_the_key_along() {
        let mut store = Store::new();
        store.check(&[("ZREM z a", ":0"), ("ZADD z 1 a 2 b", ":2"), ("ZREM z a x a", ":1")]);
        assert_eq!(store.events, ["zrem z"]);
        store.check(&[("ZREM z b", ":1")]);
        assert_eq!(store.events, ["zrem z", "del z"]);
        store.check(&[("SET z v", "+OK")]);
    }
}
