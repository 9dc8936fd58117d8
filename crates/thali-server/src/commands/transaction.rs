//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: dispatch runs them itself, as they surround other commands.

use thali_commands::{Access, Categories, Flags, Group, Keys, Spec};

use super::Entry;
use crate::table::{Handler, SessionVerb};

const BASE: Spec = Spec {
    group: Group::Transactions,
    arity: 1,
    flags: Flags::NOSCRIPT
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::FAST)
        .union(Flags::ALLOW_BUSY),
    categories: Categories::TRANSACTION,
    ..Spec::BASE
};

const MULTI: Spec = Spec { name: "multi", summary: "Starts a transaction.", since: "1.2.0", ..BASE };

const EXEC: Spec = Spec {
    name: "exec",
    summary: "Executes all commands in a transaction.",
    since: "1.2.0",
    complexity: "Depends on commands in the transaction",
    flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::SKIP_SLOWLOG),
    ..BASE
};

const DISCARD: Spec = Spec {
    name: "discard",
    summary: "Discards a transaction.",
    since: "2.0.0",
    complexity: "O(N), when N is the number of queued commands",
    ..BASE
};

const WATCH: Spec = Spec {
    name: "watch",
    summary: "Monitors changes to keys to determine the execution of a transaction.",
    syntax: "key [key ...]",
    since: "2.2.0",
    complexity: "O(1) for every key.",
    arity: -2,
    keys: Keys::all(Access::PRESENCE),
    ..BASE
};

const UNWATCH: Spec =
    Spec { name: "unwatch", summary: "Forgets about watched keys of a transaction.", since: "2.2.0", ..BASE };

pub(super) const TABLE: &[Entry] = &[
    (&MULTI, Handler::Session(SessionVerb::Multi)),
    (&EXEC, Handler::Session(SessionVerb::Exec)),
    (&DISCARD, Handler::Session(SessionVerb::Discard)),
    (&WATCH, Handler::Session(SessionVerb::Watch)),
    (&UNWATCH, Handler::Session(SessionVerb::Unwatch)),
];
