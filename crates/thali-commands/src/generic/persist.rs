//! PERSIST: takes a key's time to live away.

use thali_resp::Reply;

use crate::{Access, Context, EventClass, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "persist",
    summary: "Removes the expiration time of a key.",
    syntax: "key",
    since: "2.2.0",
    arity: 2,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: Keys::one(Access::WRITE),
    ..super::BASE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let had_one = cx.entry_kept(key).is_some_and(|entry| entry.expire_at().is_some());
    if had_one {
        cx.set_expire_at(key, None);
        cx.modified(EventClass::GENERIC, "persist", key);
    }
    reply.integer(i64::from(had_one));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn only_what_had_a_time() {
        Store::new().check(&[
            ("PERSIST k", ":0"),
            ("SET k v EX 5", "+OK"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("TTL k", ":-1"),
        ]);
    }
}
