//! What the command does instead of running commands: one file a mode.

pub(crate) mod eval;
pub(crate) mod keys;
pub(crate) mod latency;
pub(crate) mod pipe;
pub(crate) mod scan;
pub(crate) mod stat;
