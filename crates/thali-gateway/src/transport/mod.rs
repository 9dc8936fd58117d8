//! Engine.IO over HTTP: long-polling, WebSocket, and the move from one to the other.
//!
//! Owns: the sessions by id, their queues, their heartbeats, and the HTTP face. Knows nothing of
//! Socket.IO: what arrives goes to a [`Handler`], what leaves is pushed into a [`Link`]. A session
//! ends in one way only, [`Link::close`]; a reaper then tells the handler, exactly once.

mod clock;
mod http;
mod link;
mod origin;
mod polling;
mod server;
mod websocket;
mod wheel;

pub use clock::{Clock, unix_ms};
pub use http::router;
pub use link::Link;
pub use origin::Origins;
pub use server::{Handler, Handshake, Server, Settings};
