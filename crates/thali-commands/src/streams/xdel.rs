//! XDEL: remove entries by their IDs. An empty stream stays.

use thali_data::stream::Stream;
use thali_resp::Reply;

use super::{WRITE_ONE, stream_id};
use crate::{Context, EventClass, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "xdel",
    summary: "Returns the number of messages after removing them from a stream.",
    syntax: "key id [id ...]",
    complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
    arity: -3,
    ..WRITE_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let Some(stream) = cx.write::<Stream>(key)? else {
        reply.integer(0);
        return Ok(Flow::Done);
    };
    let ids = args[2..].iter().map(|id| stream_id(id)).collect::<Result<Vec<_>, _>>()?;
    let removed = ids.into_iter().filter(|id| stream.log.delete(*id)).count();
    if removed > 0 {
        cx.modified(EventClass::STREAM, "xdel", key);
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn an_empty_stream_stays() {
        let mut store = Store::new();
        store.check(&[
            ("XDEL s 1-1", ":0"),
            ("XADD s 1-1 f v", "$3\n1-1"),
            ("XDEL s 1-1 x", "-ERR Invalid stream ID specified as stream command argument"),
            ("XDEL s 1-1 1-1", ":1"),
            ("DEL s", ":1"),
        ]);
    }
}
