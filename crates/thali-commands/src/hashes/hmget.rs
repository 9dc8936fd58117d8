//! HMGET: several fields' values, null for those that are missing.

use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{Context, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hmget",
    summary: "Returns the values of all fields in a hash.",
    syntax: "key field [field ...]",
    complexity: "O(N) where N is the number of fields being requested.",
    arity: -3,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let hash = cx.fields(args[1])?;
    reply.array(args.len() - 2);
    for field in &args[2..] {
        match hash.as_ref().and_then(|hash| hash.get(field)) {
            Some(value) => reply.item(value),
            None => reply.null(),
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn missing_fields_and_keys_are_null() {
        let mut store = Store::new();
        store.check(&[
            ("HMGET h a b", "*2\n$-1\n$-1"),
            ("HSET h a 1", ":1"),
            ("HMGET h b a a", "*3\n$-1\n$1\n1\n$1\n1"),
        ]);
    }
}
