//! The table of all data commands.

use crate::{Command, generic, geo, hashes, lists, sets, sorted_sets, streams, strings};

/// The tables of the groups.
pub const fn groups() -> [&'static [Command]; 8] {
    [
        generic::TABLE,
        strings::TABLE,
        hashes::TABLE,
        lists::TABLE,
        sets::TABLE,
        sorted_sets::TABLE,
        streams::TABLE,
        geo::TABLE,
    ]
}

/// Every data command.
pub static TABLE: [&[Command]; groups().len()] = groups();
