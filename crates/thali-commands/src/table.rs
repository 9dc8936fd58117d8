//! The table of all data commands.

use crate::{Command, generic, strings};

/// The tables of the groups.
pub const fn groups() -> [&'static [Command]; 2] {
    [generic::TABLE, strings::TABLE]
}

/// Every data command.
pub static TABLE: [&[Command]; groups().len()] = groups();
