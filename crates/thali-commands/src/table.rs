//! The table of all data commands.

use crate::{
    Command, bitmaps, generic, geo, hashes, hyperloglog, lists, sets, sorted_sets, streams, strings,
};

/// The tables of the groups.
pub const fn groups() -> [&'static [Command]; 10] {
    [
        generic::TABLE,
        strings::TABLE,
        bitmaps::TABLE,
        hashes::TABLE,
        lists::TABLE,
        sets::TABLE,
        sorted_sets::TABLE,
        streams::TABLE,
        hyperloglog::TABLE,
        geo::TABLE,
    ]
}

/// Every data command.
pub static TABLE: [&[Command]; groups().len()] = groups();
