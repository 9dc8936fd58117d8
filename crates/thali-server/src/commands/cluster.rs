//! CLUSTER, READONLY, READWRITE and ASKING, as a server answers them that is no part of a cluster.
//!
//! Clients ask to find out which kind of server they have; `cluster-enabled yes` stops the start.

use thali_commands::{Categories, ErrorReply, Flags, Group, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::table::Handler;

const BASE: Spec = Spec { group: Group::Cluster, since: "3.0.0", complexity: "O(1)", ..Spec::BASE };

const fn sub(name: &'static str, arity: i32, flags: Flags, summary: &'static str) -> Spec {
    Spec { name, arity, flags, summary, ..BASE }
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
        sub("addslots", -3, CHANGES, "Assigns new hash slots to a node."),
        sub("addslotsrange", -4, CHANGES, "Assigns new hash slot ranges to a node."),
        sub("bumpepoch", 2, CHANGES, "Advances the cluster config epoch."),
        sub(
            "count-failure-reports",
            3,
            CHANGES,
            "Returns the number of active failure reports active for a node.",
        ),
        sub("countkeysinslot", 3, READS, "Returns the number of keys in a hash slot."),
        sub("delslots", -3, CHANGES, "Sets hash slots as unbound for a node."),
        sub("delslotsrange", -4, CHANGES, "Sets hash slot ranges as unbound for a node."),
        sub("failover", -2, CHANGES, "Forces a replica to perform a manual failover of its master."),
        sub("flushslots", 2, CHANGES, "Deletes all slots information from a node."),
        sub("forget", 3, CHANGES, "Removes a node from the nodes table."),
        sub("getkeysinslot", 4, READS, "Returns the key names in a hash slot."),
        sub(
            "help",
            2,
            Flags::LOADING.union(Flags::STALE),
            "Returns helpful text about the different subcommands.",
        ),
        sub("info", 2, READS, "Returns information about the state of a node."),
        sub("keyslot", 3, READS, "Returns the hash slot for a key."),
        sub("links", 2, READS, "Returns a list of all TCP links to and from peer nodes."),
        sub("meet", -4, CHANGES, "Forces a node to handshake with another node."),
        sub("myid", 2, READS, "Returns the ID of a node."),
        sub("myshardid", 2, READS, "Returns the shard ID of a node."),
        sub("nodes", 2, READS, "Returns the cluster configuration for a node."),
        sub("replicas", 3, CHANGES, "Lists the replica nodes of a master node."),
        sub("replicate", 3, CHANGES, "Configure a node as replica of a master node."),
        sub("reset", -2, CHANGES.union(Flags::NOSCRIPT), "Resets a node."),
        sub("saveconfig", 2, CHANGES, "Forces a node to save the cluster configuration to disk."),
        sub("set-config-epoch", 3, CHANGES, "Sets the configuration epoch for a new node."),
        sub("setslot", -4, CHANGES, "Binds a hash slot to a node."),
        sub(
            "shards",
            2,
            Flags::LOADING.union(Flags::STALE),
            "Returns the mapping of cluster slots to shards.",
        ),
        sub("slaves", 3, CHANGES, "Lists the replica nodes of a master node."),
        sub("slots", 2, Flags::LOADING.union(Flags::STALE), "Returns the mapping of cluster slots to nodes."),
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
