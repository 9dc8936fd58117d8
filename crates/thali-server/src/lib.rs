//! The store as a server: event loops, sessions, dispatch, publish/subscribe.
//!
//! The way of a request: `event_loop` (bytes in a bounded buffer) → `thali_resp` (arguments are slices
//! of it) → `dispatch` (table, gates) → `unit` (shards locked) → the command → the session's output →
//! one write for all that the tick answered.
//!
//! [`Server::start`] recovers the journal, opens the ports and runs the loops on threads of their own;
//! [`Server::shutdown`] ends them after what was acknowledged is safe.

mod acl;
mod append_only;
mod batch;
mod busy;
mod call;
mod client_memory;
mod clients;
mod command_stats;
mod commands;
pub mod config;
mod counting;
mod crew;
mod cron;
mod digest;
mod dispatch;
mod event_loop;
mod eviction;
mod freer;
mod functions;
mod latency;
mod listener;
mod loading;
mod mailbox;
pub mod memory;
mod migration;
mod names;
mod oom;
mod open_files;
mod pause;
mod ports;
mod pubsub;
mod rates;
mod recovery;
mod script_cache;
mod scripts;
mod server;
mod session;
mod slowlog;
mod snapshots;
mod stats;
mod steps;
mod table;
mod tls;
mod tracking;
mod unit;

pub use counting::Counting;
pub use server::{Server, StartError, Stopper};

/// The facts about every command, for who shows them to people.
pub fn specs() -> Vec<&'static thali_commands::Spec> {
    table::rows().iter().map(|row| row.spec).collect()
}

/// The version of Redis whose commands and replies these are: what HELLO and INFO say, as clients
/// choose their features by it.
pub const REDIS_VERSION: &str = "7.2.4";
