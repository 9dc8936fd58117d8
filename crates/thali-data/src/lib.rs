//! The structures that values are made of. No I/O, no clock, no global state: bytes and numbers in,
//! bytes and numbers out. Randomness and limits are handed in by the caller.
//!
//! | module | owns |
//! |---|---|
//! | [`table`] | segmented hash table: keyspaces, large hashes, large sets |
//! | [`str`](mod@crate::str) | one byte string: integer, inline, on the heap or beside its key |
//! | [`bits`] | bits and bit fields of a string |
//! | [`hyperloglog`] | how many different elements were seen, in a string |
//! | [`item`] | a borrowed element of a collection |
//! | [`packed`] | a sequence of elements in one allocation |
//! | [`list`], [`hash`], [`set`] | Redis's types over the above |
//! | [`sorted_set`] | members by score, any range by rank |
//! | [`stream`] | an append-only log with consumer groups |
//! | [`double`] | doubles as Redis reads and prints them |
//! | [`geo`] | places on Earth as scores of a sorted set |
//! | [`long_double`] | the extended doubles of INCRBYFLOAT |
//! | [`limits`] | the thresholds between small and large forms |

pub mod bits;
mod buf;
mod counted;
pub mod double;
mod form;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod item;
pub mod limits;
pub mod list;
pub mod long_double;
pub mod packed;
mod prefetch;
mod run;
pub mod set;
pub mod sorted_set;
pub mod str;
pub mod stream;
pub mod table;
mod varint;

pub use hash::Hash;
pub use item::{IntBuf, Item};
pub use limits::Limits;
pub use list::List;
pub use long_double::LongDouble;
pub use packed::Packed;
pub use set::Set;
pub use sorted_set::SortedSet;
pub use str::Str;
pub use stream::Stream;
pub use table::{Before, KeyHasher, New, Removed, Stored, Table};
