//! The bus between nodes, wire-compatible with Node's `@socket.io/redis-adapter` 8.
//!
//! Thali gateways, Node's Socket.IO servers and `@socket.io/redis-emitter` on one store are one fleet.
//!
//! | channel | carries |
//! |---|---|
//! | `socket.io#<nsp>#` | broadcasts to none or several rooms |
//! | `socket.io#<nsp>#<room>#` | broadcasts to one room, a socket's id included |
//! | `socket.io-request#<nsp>#` | questions to every node |
//! | `socket.io-response#<nsp>#` | their answers |
//! | `room:<room>` | plain JSON for a room of `/`, from anyone |
//!
//! Node's adapter listens to `socket.io#<nsp>#*` and throws away what no local socket wants. A Thali
//! node listens to the rooms it has: from a room's first local member until about a second after the
//! last, so that quick returns cost nothing. Sockets' own rooms need no subscription each: their ids
//! begin with the node's id, and one pattern covers them.

mod adapter;
mod msgpack;
mod pipe;
mod request;
mod wire;

pub use adapter::{Bus, BusState};
pub use pipe::{Pipe, PipeError};
pub(crate) use request::{Requests, SocketControl, log_refused_join};
pub(crate) use wire::{Broadcast, decode_broadcast, encode_broadcast};
