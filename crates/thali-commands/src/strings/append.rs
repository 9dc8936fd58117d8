//! APPEND: adds to the end of a string.

use thali_data::Str;
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "append",
    summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
    syntax: "key value",
    since: "2.0.0",
    arity: 3,
    flags: super::WRITE.flags.union(Flags::FAST),
    keys: Keys::one(Access::WRITE),
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, tail) = (args[1], args[2]);
    let len_max = cx.limits.proto_max_bulk_len;
    let len = match cx.write::<Str>(key)? {
        Some(value) => {
            if value.len() + tail.len() > len_max {
                return Err(ErrorReply::STRING_TOO_LONG);
            }
            value.append(tail)
        }
        None => {
            cx.put_text(key, tail, None);
            tail.len()
        }
    };
    cx.modified(EventClass::STRING, "append", key);
    reply.integer(len as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn begins_with_nothing() {
        let mut store = Store::new();
        store.check(&[("APPEND k ab", ":2"), ("APPEND k cd", ":4"), ("GET k", "$4\nabcd")]);
    }
}
