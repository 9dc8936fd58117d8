//! XLEN: how many entries a stream has.

use thali_data::stream::Stream;
use thali_resp::Reply;

use super::READ_ONE;
use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "xlen",
    summary: "Return the number of messages in a stream.",
    syntax: "key",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::PRESENCE),
    ..READ_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer(cx.read::<Stream>(args[1])?.map_or(0, |stream| stream.log.len() as i64));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_missing_stream_has_no_entries() {
        let mut store = Store::new();
        store.check(&[("XLEN s", ":0"), ("XADD s 1-1 f v", "$3\n1-1"), ("XLEN s", ":1")]);
    }
}
