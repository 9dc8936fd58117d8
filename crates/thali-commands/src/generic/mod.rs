//! Keys of any type: existence, names, times to live, iteration.

pub mod del;

use crate::Command;

/// The commands of this group.
pub const TABLE: &[Command] =
    &[Command { spec: &del::DEL, run: del::run }, Command { spec: &del::UNLINK, run: del::run }];
