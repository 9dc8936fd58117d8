//! EXISTS and TOUCH: how many of the keys are there. TOUCH counts as a use, EXISTS does not.

use thali_resp::Reply;

use crate::context::KEYS_TOGETHER;
use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const EXISTS: Spec = Spec {
    name: "exists",
    summary: "Determines whether one or more keys exist.",
    syntax: "key [key ...]",
    complexity: "O(N) where N is the number of keys to check.",
    arity: -2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::all(Access::PRESENCE),
    ..super::BASE
};
pub const TOUCH: Spec = Spec {
    name: "touch",
    summary: "Returns the number of existing keys out of those specified after updating the time they were last \
              accessed.",
    syntax: "key [key ...]",
    since: "3.2.1",
    ..EXISTS
};

pub fn exists(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let found = count(cx, &args[1..], |key| cx.look(key).is_some());
    reply.integer(found as i64);
    Ok(Flow::Done)
}

pub fn touch(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    // It counts for a client in no-touch mode, too: it asks for nothing else.
    let noted = std::mem::replace(&mut cx.notes_uses, true);
    let found = count(cx, &args[1..], |key| cx.entry(key).is_some());
    cx.notes_uses = noted;
    reply.integer(found as i64);
    Ok(Flow::Done)
}

fn count(cx: &Context<'_>, keys: &[&[u8]], is_there: impl Fn(&[u8]) -> bool) -> usize {
    let lots = keys.chunks(KEYS_TOGETHER).inspect(|keys| cx.touch(keys.iter().copied()));
    lots.flatten().filter(|key| is_there(key)).count()
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_key_named_twice_counts_twice() {
        Store::new().check(&[("SET a 1", "+OK"), ("EXISTS a a b", ":2"), ("TOUCH a b", ":1")]);
    }
}
