//! The structures that values are made of: table, string, list, hash, set, sorted set, stream. No I/O, no clock.

pub mod double;
pub mod sorted_set;
pub mod stream;
mod varint;
