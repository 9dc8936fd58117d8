//! Socket.IO 5 packets without I/O.
//!
//! A packet is `<type>[<attachments>-][<namespace>,][<acknowledgement id>]<JSON>`; types 5 and 6
//! announce that many binary messages, which follow and replace `{"_placeholder":true,"num":n}`.
//! JSON is cut into arguments but not read: what one client publishes reaches others as it was
//! written.
//!
//! SOURCE: github.com/socketio/socket.io, docs/socket.io-protocol/v5-current.md.

mod assemble;
mod attach;
mod decode;
mod encode;

pub use assemble::{Assembler, Incoming, Pool};
pub use attach::renumber;
pub use decode::{Event, Head, Kind, PacketError, decode, event_args};
pub use encode::{
    Message, acknowledge, connect_error, connected, disconnect, event, event_array, json_string,
};

/// Binary messages that one packet may announce; Node's parser allows as many.
pub const ATTACHMENTS_MAX: usize = 10;
/// Bytes of a namespace's name.
pub const NAMESPACE_BYTES_MAX: usize = 256;
/// Digits of an acknowledgement id, so that it is exact in every client's number type.
pub const ACK_ID_DIGITS_MAX: usize = 15;

#[cfg(test)]
mod tests;
