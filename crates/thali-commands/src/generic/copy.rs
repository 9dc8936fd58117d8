//! COPY: a second key with the same value, in this database or another.

use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "copy",
    summary: "Copies the value of a key to a new key.",
    syntax: "source destination [DB destination-db] [REPLACE]",
    since: "6.2.0",
    complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::Pair { first: (1, Access::READ), second: (2, Access::WRITE) },
    ..super::BASE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (args[1], args[2]);
    let (mut replace, mut db) = (false, cx.db);
    let mut rest = args[3..].iter();
    while let Some(word) = rest.next() {
        if is_word(word, "REPLACE") {
            replace = true;
        } else if is_word(word, "DB") {
            db = super::db_number(cx, rest.next().ok_or(ErrorReply::SYNTAX)?)?;
        } else {
            return Err(ErrorReply::SYNTAX);
        }
    }
    if db == cx.db && from == to {
        return Err(ErrorReply::SAME_OBJECT);
    }
    let copy = cx.entry(from).map(|entry| (entry.value.clone(), entry.expire_at()));
    let copied = match copy {
        Some((value, expire_at)) if replace || cx.peek_in(db, to).is_none() => {
            cx.put_value(db, to, value, expire_at);
            // Another key, of which what was there before says nothing.
            cx.set_access(db, to, cx.uses.fresh());
            cx.modified_in(db, EventClass::GENERIC, "copy_to", to);
            true
        }
        _ => false,
    };
    reply.integer(i64::from(copied));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_copy_is_its_own() {
        Store::new().check(&[
            ("COPY a b", ":0"),
            ("RPUSH a 1 2", ":2"),
            ("COPY a b", ":1"),
            ("RPUSH b 3", ":3"),
            ("LLEN a", ":2"),
            ("COPY a b", ":0"),
            ("COPY a b REPLACE", ":1"),
            ("LLEN b", ":2"),
            ("COPY a a", "-ERR source and destination objects are the same"),
            ("COPY a b DB 99", "-ERR DB index is out of range"),
        ]);
    }
}
