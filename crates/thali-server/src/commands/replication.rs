//! REPLICAOF, its older name SLAVEOF, and FAILOVER, as a server answers them that has no replicas and can be none.

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec, is_word};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::table::Handler;

const REPLICAOF: Spec = Spec {
    name: "replicaof",
    summary: "Configures a server as replica of another, or promotes it to a master.",
    syntax: "<host port | NO ONE>",
    since: "5.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::STALE).union(Flags::NO_ASYNC_LOADING),
    ..Spec::BASE
};
const SLAVEOF: Spec = Spec { name: "slaveof", syntax: "<host port | NO ONE>", since: "1.0.0", ..REPLICAOF };
const FAILOVER: Spec = Spec {
    name: "failover",
    summary: "Starts a coordinated failover from a server to one of its replicas.",
    syntax: "[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
    since: "6.2.0",
    arity: -1,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::STALE),
    ..REPLICAOF
};

pub(super) const TABLE: &[Entry] = &[
    (&REPLICAOF, Handler::Server(replicaof)),
    (&SLAVEOF, Handler::Server(replicaof)),
    (&FAILOVER, Handler::Server(failover)),
];

/// `REPLICAOF NO ONE` is what it is already.
fn replicaof(_: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    if is_word(args[1], "NO") && is_word(args[2], "ONE") {
        reply.ok();
        return Ok(Flow::Done);
    }
    let port: Option<u16> = std::str::from_utf8(args[2]).ok().and_then(|port| port.parse().ok());
    Err(ErrorReply::new(match port {
        None => "ERR Invalid master port",
        Some(_) => "ERR Thali cannot be a replica yet: it has no replication. See COMPATIBILITY.md",
    }))
}

fn failover(_: &mut Call<'_, '_>, _: &[&[u8]], _: &mut Reply<'_>) -> Outcome {
    Err(ErrorReply::new("ERR FAILOVER requires connected replicas."))
}
