//! Engine.IO 4 without I/O: bytes in, events out, time handed in.
//!
//! SOURCE: github.com/socketio/socket.io, docs/engine.io-protocol/v4-current.md.

mod packet;
mod session;

pub use packet::{
    Frame, Packet, PacketError, decode, decode_binary, decode_payload, encode_payload, open_packet,
};
pub use session::{Event, Expiry, PollTurn, Probe, Session, Timings, TransportKind};
