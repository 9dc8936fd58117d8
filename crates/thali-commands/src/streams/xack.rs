//! XACK: a consumer is done with entries.

use thali_data::stream::Stream;
use thali_resp::Reply;

use super::{WRITE_ONE, stream_id};
use crate::{Context, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "xack",
    summary: "Returns the number of messages that were successfully acknowledged by the consumer group member of a stream.",
    syntax: "key group id [id ...]",
    complexity: "O(1) for each message ID processed.",
    arity: -4,
    ..WRITE_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let group = cx.write::<Stream>(args[1])?.and_then(|stream| stream.groups.get_mut(args[2]));
    let Some(group) = group else {
        reply.integer(0);
        return Ok(Flow::Done);
    };
    let ids = args[3..].iter().map(|id| stream_id(id)).collect::<Result<Vec<_>, _>>()?;
    let acknowledged = ids.into_iter().filter(|id| group.acknowledge(*id).is_some()).count();
    cx.dirty += acknowledged as u64;
    reply.integer(acknowledged as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn acknowledged_entries_are_pending_no_more() {
        let mut store = Store::new();
        store.check(&[
            ("XACK s g 1-1", ":0"),
            ("XADD s 1-1 f v", "$3\n1-1"),
            ("XGROUP CREATE s g 0", "+OK"),
            ("XREADGROUP GROUP g c STREAMS s >", "*1\n*2\n$1\ns\n*1\n*2\n$3\n1-1\n*2\n$1\nf\n$1\nv"),
            ("XACK s g 1-1 x", "-ERR Invalid stream ID specified as stream command argument"),
            ("XACK s g 1-1 1-1", ":1"),
        ]);
        assert_eq!(store.effects, ["XACK s g 1-1 1-1"]);
        store.check(&[("XACK s g 1-1", ":0")]);
        assert!(store.effects.is_empty());
    }
}
