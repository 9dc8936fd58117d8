//! SHUTDOWN, LASTSAVE, WAIT and ROLE: what is asked of durability and of copies.

use std::sync::atomic::Ordering::Relaxed;

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec, integer};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::session::Close;
use crate::table::Handler;

const BASE: Spec = Spec { group: Group::Server, ..Spec::BASE };
const SHUTDOWN: Spec = Spec {
    name: "shutdown",
    summary: "Synchronously saves the database(s) to disk and shuts down the Redis server.",
    arity: -1,
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::NO_MULTI)
        .union(Flags::ALLOW_BUSY),
    ..BASE
};
const LASTSAVE: Spec = Spec {
    name: "lastsave",
    summary: "Returns the Unix timestamp of the last successful save to disk.",
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    ..BASE
};
const ROLE: Spec = Spec {
    name: "role",
    summary: "Returns the replication role.",
    since: "2.8.12",
    flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::FAST),
    ..BASE
};
const WAIT: Spec = Spec {
    name: "wait",
    summary: "Blocks until the asynchronous replication of all preceding write commands sent by the connection is \
              completed.",
    since: "3.0.0",
    group: Group::Generic,
    arity: 3,
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[
    (&SHUTDOWN, Handler::Server(shutdown)),
    (&LASTSAVE, Handler::Server(lastsave)),
    (&ROLE, Handler::Server(role)),
    (&WAIT, Handler::Server(wait)),
];

fn shutdown(call: &mut Call<'_, '_>, args: &[&[u8]], _: &mut Reply<'_>) -> Outcome {
    for arg in &args[1..] {
        match arg.to_ascii_lowercase().as_slice() {
            b"nosave" | b"save" | b"now" | b"force" => {}
            b"abort" => return Err(ErrorReply::new("ERR No shutdown in progress.")),
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    if let Some(state) = call.state.as_deref_mut() {
        // The connection just ends, as clients expect.
        state.close = Close::Now;
    }
    call.shared.is_shutting_down.store(true, Relaxed);
    call.shared.end.notify();
    Ok(Flow::Done)
}

fn lastsave(call: &mut Call<'_, '_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer((call.shared.started_at_ms / 1000) as i64);
    Ok(Flow::Done)
}

fn role(_: &mut Call<'_, '_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(Flow::Done)
}

fn wait(_: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    integer(args[1])?;
    if integer(args[2])? < 0 {
        return Err(ErrorReply::TIMEOUT_NEGATIVE);
    }
    // There are no replicas, so none will ever answer: the count is known at once.
    reply.integer(0);
    Ok(Flow::Done)
}
