//! RENAME and RENAMENX: a key's value and time to live under another name.

use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec};

pub const RENAME: Spec = Spec {
    name: "rename",
    summary: "Renames a key and overwrites the destination.",
    syntax: "key newkey",
    arity: 3,
    flags: Flags::WRITE,
    keys: Keys::Pair { first: (1, Access::READ_WRITE), second: (2, Access::WRITE) },
    ..super::BASE
};
pub const RENAMENX: Spec = Spec {
    name: "renamenx",
    summary: "Renames a key only when the target key name doesn't exist.",
    syntax: "key newkey",
    flags: Flags::WRITE.union(Flags::FAST),
    ..RENAME
};

pub fn rename(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    move_value(cx, args[1], args[2], true)?;
    reply.ok();
    Ok(Flow::Done)
}

pub fn renamenx(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let moved = move_value(cx, args[1], args[2], false)?;
    reply.integer(i64::from(moved));
    Ok(Flow::Done)
}

fn move_value(cx: &mut Context<'_>, from: &[u8], to: &[u8], overwrite: bool) -> Result<bool, ErrorReply> {
    let Some(access) = cx.use_now(from) else { return Err(ErrorReply::NO_SUCH_KEY) };
    if !overwrite && cx.exists(to) {
        return Ok(false);
    }
    if from == to {
        return Ok(true);
    }
    let entry = cx.take(from).ok_or(ErrorReply::NO_SUCH_KEY)?;
    let expire_at = entry.expire_at();
    let db = cx.db;
    cx.put_value(db, to, entry.into_value().value, expire_at);
    cx.set_access(db, to, access);
    cx.modified(EventClass::GENERIC, "rename_from", from);
    cx.modified(EventClass::GENERIC, "rename_to", to);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn the_time_to_live_moves_along() {
        Store::new().check(&[
            ("RENAME a b", "-ERR no such key"),
            ("SET a 1 PX 500", "+OK"),
            ("SET b 2", "+OK"),
            ("RENAMENX a b", ":0"),
            ("RENAMENX a a", ":0"),
            ("RENAME a b", "+OK"),
            ("GET b", "$1\n1"),
            ("PTTL b", ":500"),
            ("EXISTS a", ":0"),
            ("RENAME b b", "+OK"),
        ]);
    }
}
