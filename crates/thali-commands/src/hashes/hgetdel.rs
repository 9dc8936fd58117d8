//! HGETDEL: fields' values, and the fields go. Journaled as HDEL of those that were there.

use thali_resp::Reply;

use super::field_args::{self, NUMBER_NOT_POSITIVE};
use crate::elements::ReplyElements;
use crate::{Access, Context, EventClass, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hgetdel",
    syntax: "key FIELDS numfields field [field ...]",
    summary: "Returns the value of a field and deletes it from the hash.",
    since: "8.0.0",
    complexity: "O(N) where N is the number of specified fields",
    arity: -5,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: Keys::one(Access::READ_WRITE),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    cx.has_hash(key)?;
    let fields = field_args::fields(&args[2..], NUMBER_NOT_POSITIVE)?;
    cx.expire_fields(key, fields.iter().copied());
    let mut removed = Vec::new();
    reply.array(fields.len());
    let mut hash = cx.hash_mut(key)?;
    for field in fields {
        match hash.as_ref().and_then(|hash| hash.get(field)) {
            Some(value) => reply.item(value),
            None => reply.null(),
        }
        if hash.as_mut().is_some_and(|hash| hash.remove(field)) {
            removed.push(*field);
        }
    }
    drop(hash);
    if !removed.is_empty() {
        cx.modified(EventClass::HASH, "hdel", key);
        cx.remove_if_empty(key);
        cx.effect(&[&[b"HDEL", key], &removed[..]].concat());
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn gives_and_removes() {
        let mut store = Store::new();
        store.check(&[
            ("HGETDEL h FIELDS 1 a", "*1\n$-1"),
            ("HSET h a 1 b 2 c 3", ":3"),
            ("HGETDEL h FIELDS 3 a x a", "*3\n$1\n1\n$-1\n$-1"),
        ]);
        assert_eq!(
            (&store.effects[..], &store.events[..]),
            (&["HDEL h a".into()][..], &["hdel h".into()][..])
        );
        store.check(&[("HGETDEL h FIELDS 1 x", "*1\n$-1")]);
        assert!(store.effects.is_empty() && store.events.is_empty());
        store.check(&[("HGETDEL h FIELDS 2 b c", "*2\n$1\n2\n$1\n3")]);
        assert_eq!(store.events, ["hdel h", "del h"]);
        store.check(&[
            ("EXISTS h", ":0"),
            ("HGETDEL h FIELDS 2 a", "-ERR The `numfields` parameter must match the number of arguments"),
            ("HGETDEL h FIELDS 0 a", "-ERR Number of fields must be a positive integer"),
            ("HGETDEL h a 1 b", "-ERR Mandatory argument FIELDS is missing or not at the right position"),
            ("SET s v", "+OK"),
            ("HGETDEL s FIELDS 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn what_has_expired_is_null() {
        let mut store = Store::new();
        store.run("HSET h a 1 b 2");
        store.run("HPEXPIRE h 5 FIELDS 1 a");
        store.now_ms += 6;
        store.check(&[("HGETDEL h FIELDS 2 a b", "*2\n$-1\n$1\n2")]);
        assert_eq!(store.effects, ["HDEL h a", "HDEL h b"]);
        assert_eq!(store.events, ["hexpired h", "hdel h", "del h"]);
    }
}
