//! SREM: removes members; a set without members is removed as well.

use thali_data::Set;
use thali_resp::Reply;

use crate::{Context, EventClass, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "srem",
    summary: "Removes one or more members from a set. Deletes the set if the last member was removed.",
    syntax: "key member [member ...]",
    complexity: "O(N) where N is the number of members to be removed.",
    arity: -3,
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let removed = match cx.write::<Set>(key)? {
        Some(set) => args[2..].iter().filter(|member| set.remove(member)).count(),
        None => 0,
    };
    if removed > 0 {
        cx.modified(EventClass::SET, "srem", key);
        cx.remove_if_empty(key);
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_last_member_takes_the_set_with_it() {
        let mut store = Store::new();
        store.check(&[("SADD s a b c", ":3"), ("SREM s a x a", ":1"), ("SREM s x", ":0")]);
        assert!(store.effects.is_empty());
        store.check(&[("SREM s b c", ":2")]);
        assert_eq!(store.events, ["srem s", "del s"]);
        store.check(&[("SREM s a", ":0")]);
    }
}
