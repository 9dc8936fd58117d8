//! GET: a string's value.

use thali_data::{IntBuf, Str};
use thali_resp::Reply;

use crate::{Access, Categories, Context, Flags, Flow, Group, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "get",
    summary: "Returns the string value of a key.",
    syntax: "key",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::READ),
    categories: Categories::STRING,
    ..Spec::BASE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match cx.read::<Str>(args[1])? {
        Some(value) => reply.bulk(value.bytes(&mut IntBuf::new())),
        None => reply.null(),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn gives_strings_and_refuses_the_rest() {
        let mut store = Store::new();
        store.check(&[("GET k", "$-1"), ("SET k v", "+OK"), ("GET k", "$1\nv")]);
        store.check(&[("SET n 12", "+OK"), ("GET n", "$2\n12")]);
    }
}
