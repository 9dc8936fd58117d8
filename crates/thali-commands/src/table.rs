//! The table of all data commands.

use crate::{Command, generic, hashes, lists, strings};

/// The tables of the groups.
pub const fn groups() -> [&'static [Command]; 4] {
    [generic::TABLE, hashes::TABLE, lists::TABLE, strings::TABLE]
}

/// Every data command.
pub static TABLE: [&[Command]; groups().len()] = groups();
