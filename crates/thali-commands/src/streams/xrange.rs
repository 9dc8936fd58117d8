//! XRANGE and XREVRANGE: entries between two IDs.

use thali_data::stream::Stream;
use thali_resp::Reply;

use super::{READ_ONE, range_end, range_start, write_entries};
use crate::{Context, ErrorReply, Flow, Outcome, Spec, integer, is_word};

pub const XRANGE: Spec = Spec {
    name: "xrange",
    summary: "Returns the messages from a stream within a range of IDs.",
    syntax: "key start end [COUNT count]",
    complexity: "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).",
    arity: -4,
    ..READ_ONE
};

pub const XREVRANGE: Spec = Spec {
    name: "xrevrange",
    summary: "Returns the messages from a stream within a range of IDs in reverse order.",
    syntax: "key end start [COUNT count]",
    ..XRANGE
};

pub fn xrange(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    range(cx, args, false, reply)
}

pub fn xrevrange(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    range(cx, args, true, reply)
}

fn range(cx: &mut Context<'_>, args: &[&[u8]], reverse: bool, reply: &mut Reply<'_>) -> Outcome {
    let (start, end) = if reverse { (args[3], args[2]) } else { (args[2], args[3]) };
    let (start, end) = (range_start(start)?, range_end(end)?);
    let mut count = usize::MAX;
    for option in args[4..].chunks(2) {
        match option {
            [word, value] if is_word(word, "COUNT") => count = integer(value)?.max(0) as usize,
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    let Some(stream) = cx.read::<Stream>(args[1])? else {
        reply.array(0);
        return Ok(Flow::Done);
    };
    match (count, reverse) {
        (0, _) => reply.null_array(),
        (_, false) => write_entries(reply, stream.log.range(start, end).take(count)),
        (_, true) => write_entries(reply, stream.log.range_reverse(start, end).take(count)),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn entries_come_in_either_order() {
        let mut store = Store::new();
        store.check(&[
            ("XADD s 1-1 a 1", "$3\n1-1"),
            ("XADD s 1-2 b 2 c 3", "$3\n1-2"),
            ("XADD s 2-0 a 1", "$3\n2-0"),
            ("XRANGE s - + COUNT 1", "*1\n*2\n$3\n1-1\n*2\n$1\na\n$1\n1"),
            ("XRANGE s 1-2 1", "*1\n*2\n$3\n1-2\n*4\n$1\nb\n$1\n2\n$1\nc\n$1\n3"),
            ("XREVRANGE s + (1-2", "*1\n*2\n$3\n2-0\n*2\n$1\na\n$1\n1"),
            ("XRANGE s + -", "*0"),
            ("XRANGE s - + COUNT 0", "*-1"),
            ("XRANGE none - + COUNT 0", "*0"),
            ("XRANGE s x +", "-ERR Invalid stream ID specified as stream command argument"),
            ("XRANGE s - (0-0", "-ERR invalid end ID for the interval"),
            ("XRANGE s - + COUNT", "-ERR syntax error"),
        ]);
    }
}
