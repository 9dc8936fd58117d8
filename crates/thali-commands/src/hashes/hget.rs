//! HGET: one field's value.

use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{Context, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hget",
    summary: "Returns the value of a field in a hash.",
    syntax: "key field",
    arity: 3,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match cx.fields(args[1])?.and_then(|hash| hash.get(args[2])) {
        Some(value) => reply.item(value),
        None => reply.null(),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn gives_values_and_refuses_other_types() {
        let mut store = Store::new();
        store.check(&[
            ("HGET h a", "$-1"),
            ("HSET h a 12 b text", ":2"),
            ("HGET h a", "$2\n12"),
            ("HGET h b", "$4\ntext"),
            ("HGET h c", "$-1"),
            ("SET s v", "+OK"),
            ("HGET s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
