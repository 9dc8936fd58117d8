//! HEXISTS: whether a field is there.

use thali_resp::Reply;

use crate::{Access, Context, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hexists",
    summary: "Determines whether a field exists in a hash.",
    syntax: "key field",
    arity: 3,
    keys: Keys::one(Access::PRESENCE),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let found = cx.fields(args[1])?.is_some_and(|hash| hash.get(args[2]).is_some());
    reply.integer(found.into());
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn knows_fields() {
        let mut store = Store::new();
        store.check(&[
            ("HEXISTS h a", ":0"),
            ("HSET h a 1", ":1"),
            ("HEXISTS h a", ":1"),
            ("HEXISTS h b", ":0"),
        ]);
    }
}
