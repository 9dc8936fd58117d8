//! Every data command, one file each, and the table of them all.
//!
//! A command is a [`Spec`] (what it is called, takes and touches) and a function over a [`Context`]
//! (the locked part of the keyspace), its arguments and a reply. It never sees sockets, files or
//! clocks: time and randomness come from the context, so a run can be repeated. What it changed it
//! says with [`Context::modified`]; the journal gets the request itself, or the [`Context::effect`]s
//! that the command names instead.
//!
//! To add a command: write `<group>/<command>.rs` with `SPEC` and `run`, then one line in
//! `<group>/mod.rs`'s table.

mod context;
mod effects;
mod elements;
mod error;
mod expired;
mod fields;
mod parse;
mod spec;
mod stale;
mod table;
#[cfg(test)]
mod testing;

pub mod bitmaps;
pub mod generic;
pub mod geo;
pub mod hashes;
pub mod hyperloglog;
pub mod lists;
pub mod sets;
pub mod sorted_sets;
pub mod streams;
pub mod strings;
pub mod syntax;

pub use context::{Context, KeyspaceEvent, Origin, Random, Wait};
pub use effects::Effects;
pub use error::ErrorReply;
pub use expired::ExpiredSeen;
pub use fields::Fields;
pub use parse::*;
pub use spec::{
    Access, Categories, Channels, Command, EventClass, Flags, Flow, Group, Keys, LooksBeyond, Outcome, Run,
    Spec, Steps,
};
pub use stale::{Stale, StaleKey};
pub use table::{TABLE, groups};
