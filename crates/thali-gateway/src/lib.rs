//! Engine.IO, Socket.IO, rooms, presence and the bus between nodes.
//!
//! From the wire inwards: [`transport`] carries sessions over HTTP and WebSocket, [`engine`] and
//! [`packet`] are the two codecs and their state machines without I/O, [`peer`] speaks Socket.IO on a
//! session, [`hub`] knows sockets and rooms, `bus` connects nodes through the store, `jobs` tells rooms
//! what BullMQ says, `presence` who is there, and `vocabulary` is what clients may ask for.
//! [`Gateway`] puts a node together. [`codes`] lists every way in which something ends or fails.
//!
//! Deliberately not here: a store (it is reached by Redis protocol alone), rooms that outlive their
//! members, application code.

pub mod auth;
mod bus;
pub mod codes;
mod config;
pub mod engine;
mod gateway;
pub mod hub;
mod jobs;
pub mod packet;
pub mod peer;
mod presence;
pub mod transport;
mod vocabulary;

pub use bus::BusState;
pub use config::{Config, UnsafeBind};
pub use gateway::{Gateway, StartError, Stats};
pub use presence::{Member, Presence};
