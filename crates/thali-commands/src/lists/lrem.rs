//! LREM: removes elements equal to a value: a positive count from the front, a negative one from the
//! back, 0 all.

use thali_data::List;
use thali_data::list::End;
use thali_resp::Reply;

use crate::{Context, EventClass, Flow, Outcome, Spec, integer};

pub const SPEC: Spec = Spec {
    name: "lrem",
    summary: "Removes elements from a list. Deletes the list if the last element was removed.",
    syntax: "key count element",
    complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
    arity: 4,
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, limits) = (args[1], cx.limits);
    let (from, count) = match integer(args[2])? {
        0 => (End::Front, usize::MAX),
        n if n < 0 => (End::Back, n.unsigned_abs() as usize),
        n => (End::Front, n as usize),
    };
    let removed = match cx.write::<List>(key)? {
        Some(list) => list.remove_equal(from, count, args[3], limits),
        None => 0,
    };
    if removed > 0 {
        cx.modified(EventClass::LIST, "lrem", key);
        cx.remove_if_empty(key);
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_sign_chooses_the_end() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH l a b a c a", ":5"),
            ("LREM l -1 a", ":1"),
            ("LRANGE l 0 -1", "*4\n$1\na\n$1\nb\n$1\na\n$1\nc"),
            ("LREM l 1 a", ":1"),
            ("LRANGE l 0 -1", "*3\n$1\nb\n$1\na\n$1\nc"),
            ("LREM l 0 z", ":0"),
        ]);
        assert!(store.effects.is_empty());
        store.check(&[("LREM l 0 a", ":1"), ("LREM l 5 b", ":1"), ("LREM l -5 c", ":1")]);
        assert_eq!(store.events, ["lrem l", "del l"]);
        store.check(&[("LREM none x a", "-ERR value is not an integer or out of range")]);
    }
}
