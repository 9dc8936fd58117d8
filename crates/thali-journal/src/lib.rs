//! The append-only file: order, group commit, recovery.
