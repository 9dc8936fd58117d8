//! PING, ECHO, TIME: is anybody there, and what time is it.

use thali_resp::Reply;

use crate::{Categories, Context, ErrorReply, Flags, Flow, Group, Outcome, Spec};

const BASE: Spec =
    Spec { group: Group::Connection, flags: Flags::FAST, categories: Categories::CONNECTION, ..Spec::BASE };
pub const PING: Spec = Spec {
    name: "ping",
    summary: "Returns the server's liveliness response.",
    syntax: "[message]",
    arity: -1,
    ..BASE
};
pub const ECHO: Spec = Spec {
    name: "echo",
    summary: "Returns the given string.",
    syntax: "message",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    ..BASE
};
pub const TIME: Spec = Spec {
    name: "time",
    summary: "Returns the server time.",
    since: "2.6.0",
    group: Group::Server,
    arity: 1,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    categories: Categories::empty(),
    ..BASE
};

pub fn ping(_: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args {
        [_] => reply.simple("PONG"),
        [_, message] => reply.bulk(message),
        _ => return Err(ErrorReply::wrong_arity("ping")),
    }
    Ok(Flow::Done)
}

pub fn echo(_: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(args[1]);
    Ok(Flow::Done)
}

pub fn time(cx: &mut Context<'_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.array(2);
    reply.bulk_integer((cx.now_ms / 1000) as i64);
    reply.bulk_integer((cx.now_ms % 1000 * 1000) as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn answers() {
        Store::new().check(&[
            ("PING", "+PONG"),
            ("PING hi", "$2\nhi"),
            ("ECHO hi", "$2\nhi"),
            ("TIME", "*2\n$10\n1700000000\n$1\n0"),
        ]);
    }
}
