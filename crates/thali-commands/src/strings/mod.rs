//! Strings and counters.

pub mod get;
pub mod set;

use crate::Command;

/// The commands of this group.
pub const TABLE: &[Command] =
    &[Command { spec: &get::SPEC, run: get::run }, Command { spec: &set::SPEC, run: set::run }];
