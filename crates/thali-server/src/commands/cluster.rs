//! CLUSTER, READONLY, READWRITE and ASKING, as a server answers them that is no part of a cluster.
//!
//! Clients ask to find out which kind of server they have; `cluster-enabled yes` stops the start.

use thali_commands::{Categories, ErrorReply, Flags, Group, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::table::Handler;

const BASE: Spec = Spec { group: Group::Cluster, since: "3.0.0", complexity: "O(1)", ..Spec::BASE };

const fn sub(
    name: &'static str,
    syntax: &'static str,
    arity: i32,
    flags: Flags,
    summary: &'static str,
) -> Spec {
    Spec { name, syntax, arity, flags, summary, ..BASE }
}

const READS: Flags = Flags::STALE;
const CHANGES: Flags = Flags::NO_ASYNC_LOADING.union(Flags::ADMIN).union(Flags::STALE);

/// SOURCE: Redis 7.2, `src/commands/cluster-*.json`.
const CLUSTER: Spec = Spec {
    name: "cluster",
    summary: "A container for Redis Cluster commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        sub("addslots", "slot [slot ...]", -3, CHANGES, "Assigns new hash slots to a node."),
        sub(
            "addslotsrange",
            "start-slot end-slot [start-slot end-slot ...]",
            -4,
            CHANGES,
            "Assigns new hash slot ranges to a node.",
        ),
        sub("bumpepoch", "", 2, CHANGES, "Advances the cluster config epoch."),
        sub(
            "count-failure-reports",
            "node-id",
            3,
            CHANGES,
            "Returns the number of active failure reports active for a node.",
        ),
        sub("countkeysinslot", "slot", 3, READS, "Returns the number of keys in a hash slot."),
        sub("delslots", "slot [slot ...]", -3, CHANGES, "Sets hash slots as unbound for a node."),
        sub(
            "delslotsrange",
            "start-slot end-slot [start-slot end-slot ...]",
            -4,
            CHANGES,
            "Sets hash slot ranges as unbound for a node.",
        ),
        sub(
            "failover",
            "[FORCE | TAKEOVER]",
            -2,
            CHANGES,
            "Forces a replica to perform a manual failover of its master.",
        ),
        sub("flushslots", "", 2, CHANGES, "Deletes all slots information from a node."),
        sub("forget", "node-id", 3, CHANGES, "Removes a node from the nodes table."),
        sub("getkeysinslot", "slot count", 4, READS, "Returns the key names in a hash slot."),
        sub(
            "help",
            "",
            2,
            Flags::LOADING.union(Flags::STALE),
            "Returns helpful text about the different subcommands.",
        ),
        sub("info", "", 2, READS, "Returns information about the state of a node."),
        sub("keyslot", "key", 3, READS, "Returns the hash slot for a key."),
        sub("links", "", 2, READS, "Returns a list of all TCP links to and from peer nodes."),
        sub(
            "meet",
            "ip port [cluster-bus-port]",
            -4,
            CHANGES,
            "Forces a node to handshake with another node.",
        ),
        sub("myid", "", 2, READS, "Returns the ID of a node."),
        sub("myshardid", "", 2, READS, "Returns the shard ID of a node."),
        sub("nodes", "", 2, READS, "Returns the cluster configuration for a node."),
        sub("replicas", "node-id", 3, CHANGES, "Lists the replica nodes of a master node."),
        sub("replicate", "node-id", 3, CHANGES, "Configure a node as replica of a master node."),
        sub("reset", "[HARD | SOFT]", -2, CHANGES.union(Flags::NOSCRIPT), "Resets a node."),
        sub("saveconfig", "", 2, CHANGES, "Forces a node to save the cluster configuration to disk."),
        sub("set-config-epoch", "config-epoch", 3, CHANGES, "Sets the configuration epoch for a new node."),
        sub(
            "setslot",
            "slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>",
            -4,
            CHANGES,
            "Binds a hash slot to a node.",
        ),
        sub(
            "shards",
            "",
            2,
            Flags::LOADING.union(Flags::STALE),
            "Returns the mapping of cluster slots to shards.",
        ),
        sub("slaves", "node-id", 3, CHANGES, "Lists the replica nodes of a master node."),
        sub(
            "slots",
            "",
            2,
            Flags::LOADING.union(Flags::STALE),
            "Returns the mapping of cluster slots to nodes.",
        ),
    ],
    ..BASE
};
const READONLY: Spec = Spec {
    name: "readonly",
    summary: "Enables read-only queries for a connection to a Redis Cluster replica node.",
    flags: Flags::FAST.union(Flags::LOADING).union(Flags::STALE),
    categories: Categories::CONNECTION,
    ..BASE
};
const READWRITE: Spec = Spec {
    name: "readwrite",
    summary: "Enables read-write queries for a connection to a Redis Cluster replica node.",
    ..READONLY
};
const ASKING: Spec = Spec {
    name: "asking",
    summary: "Signals that a cluster client is following an -ASK redirect.",
    flags: Flags::FAST,
    ..READONLY
};

pub(super) const TABLE: &[Entry] = &[
    (&CLUSTER, Handler::Server(refuse)),
    (&READONLY, Handler::Server(refuse)),
    (&READWRITE, Handler::Server(refuse)),
    (&ASKING, Handler::Server(refuse)),
];

fn refuse(_: &mut Call<'_, '_>, _: &[&[u8]], _: &mut Reply<'_>) -> Outcome {
    Err(ErrorReply::new("ERR This instance has cluster support disabled"))
}
