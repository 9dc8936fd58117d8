//! The table of all data commands.

use crate::{Command, generic, hashes, lists, sets, strings};

/// The tables of the groups.
pub const fn groups() -> [&'static [Command]; 5] {
    [generic::TABLE, hashes::TABLE, lists::TABLE, sets::TABLE, strings::TABLE]
}

/// Every data command.
pub static TABLE: [&[Command]; groups().len()] = groups();
