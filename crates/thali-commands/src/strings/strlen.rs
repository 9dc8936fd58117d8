//! STRLEN: a string's length.

use thali_data::Str;
use thali_resp::Reply;

use crate::{Access, Context, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "strlen",
    summary: "Returns the length of a string value.",
    syntax: "key",
    since: "2.2.0",
    arity: 2,
    keys: Keys::one(Access::PRESENCE),
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer(cx.read::<Str>(args[1])?.map_or(0, Str::len) as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_missing_key_is_empty() {
        let mut store = Store::new();
        store.check(&[("STRLEN k", ":0"), ("SET k abc", "+OK"), ("STRLEN k", ":3")]);
    }
}
