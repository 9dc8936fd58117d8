//! SETRANGE: overwrites a part of a string; a gap is filled with zero bytes.

use thali_data::Str;
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Outcome, Spec, integer};

pub const SPEC: Spec = Spec {
    name: "setrange",
    summary: "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.",
    syntax: "key offset value",
    since: "2.2.0",
    arity: 4,
    keys: Keys::one(Access::WRITE),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, patch) = (args[1], args[3]);
    let offset = integer(args[2])?;
    if offset < 0 {
        return Err(ErrorReply::new("ERR offset is out of range"));
    }
    let old_len = cx.read::<Str>(key)?.map_or(0, Str::len);
    if patch.is_empty() {
        reply.integer(old_len as i64);
        return Ok(Flow::Done);
    }
    let offset = offset as usize;
    if offset.checked_add(patch.len()).is_none_or(|end| end > cx.limits.proto_max_bulk_len) {
        return Err(ErrorReply::STRING_TOO_LONG);
    }
    let len = cx.write_or_insert(key, Str::new)?.set_range(offset, patch);
    cx.modified(EventClass::STRING, "setrange", key);
    reply.integer(len as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn fills_gaps_with_zeroes() {
        let mut store = Store::new();
        store.check(&[
            ("SETRANGE k 2 x", ":3"),
            ("GET k", "$3\n\0\0x"),
            ("SETRANGE k -1 x", "-ERR offset is out of range"),
            ("SETRANGE k 600000000 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
            ("SETRANGE nokey 5 \"\"", ":0"),
        ]);
    }
}
