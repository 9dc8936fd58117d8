//! RESP2 and RESP3: requests parsed from a buffer, replies written into one.
//!
//! Owns the wire format and nothing else: no sockets, no commands, no clock. A [`Parser`] is fed the
//! bytes that a connection has so far and yields [`Args`], slices of that same buffer; a [`Reply`]
//! appends to an output buffer in the protocol version that the client asked for.
//!
//! SOURCE: redis.io, "Redis serialization protocol specification".

mod inline;
mod reply;
mod request;
mod value;

pub use inline::split_inline;
pub use reply::{Protocol, Reply};
pub use request::{Args, Limits, Parser, ProtocolError, Step};
pub use value::{Value, ValueError, parse_value};
