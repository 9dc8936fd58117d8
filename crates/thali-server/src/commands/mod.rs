//! Commands that need more than keys: the session, the settings, scripts, other loops.

pub(crate) mod acl;
mod arguments;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod debug;
pub(crate) mod functions;
pub(crate) mod info;
mod key_specs;
pub(crate) mod latency;
pub(crate) mod lolwut;
pub(crate) mod memory;
pub(crate) mod migrate;
pub(crate) mod module;
pub(crate) mod monitor;
pub(crate) mod persistence;
pub(crate) mod pubsub;
pub(crate) mod replication;
pub(crate) mod scripting;
pub(crate) mod slowlog;
mod tips;
pub(crate) mod tracking;
pub(crate) mod transaction;

use thali_commands::{ErrorReply, Spec};
use thali_keyspace::Locked;

use crate::call::Call;
use crate::table::Handler;

/// A row to be: the specification and how it runs.
pub(crate) type Entry = (&'static Spec, Handler);

/// The commands of this room.
pub(crate) static TABLE: std::sync::LazyLock<Vec<Entry>> = std::sync::LazyLock::new(|| {
    [
        acl::TABLE,
        client::TABLE,
        cluster::TABLE,
        command::TABLE,
        config::TABLE,
        connection::TABLE,
        debug::TABLE,
        functions::TABLE,
        info::TABLE,
        latency::TABLE,
        lolwut::TABLE,
        memory::TABLE,
        migrate::TABLE,
        module::TABLE,
        monitor::TABLE,
        persistence::TABLE,
        pubsub::TABLE,
        replication::TABLE,
        scripting::TABLE,
        slowlog::TABLE,
        transaction::TABLE,
    ]
    .concat()
});

/// The reply of a container's HELP.
pub(crate) fn help(reply: &mut thali_resp::Reply<'_>, container: &str, lines: &[(&str, &str)]) {
    reply.array(lines.len() * 2 + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (usage, meaning) in lines {
        reply.simple(usage);
        reply.simple(&format!("    {meaning}"));
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

/// All shards, for a command that runs by itself.
pub(crate) fn all_shards<'c>(call: &Call<'c, '_>) -> Result<Locked<'c>, ErrorReply> {
    // Who holds shards may not wait for others.
    if !call.cx.locked.ids().is_empty() {
        return Err(ErrorReply::new("ERR not within a transaction"));
    }
    let (busy, own) = (&call.shared.busy, call.side.event_loop);
    call.shared.keyspace.lock_all(&|| busy.elsewhere(own)).ok_or_else(|| busy.refusal(own))
}
