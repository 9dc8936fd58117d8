//! The table of all data commands.

use crate::{Command, generic, sorted_sets, strings};

/// The tables of the groups.
pub const fn groups() -> [&'static [Command]; 3] {
    [generic::TABLE, strings::TABLE, sorted_sets::TABLE]
}

/// Every data command.
pub static TABLE: [&[Command]; groups().len()] = groups();
