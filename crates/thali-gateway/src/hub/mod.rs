//! Sockets and rooms of one node.
//!
//! A [`Socket`] is one client in one namespace. A [`Namespace`] knows its sockets by id and their
//! rooms; delivering to a room pushes one shared, already encoded message into each member's link.
//!
//! Lock order: the history of `recovery`, then a socket's state, then a room shard, then a link. Delivery
//! takes the last two only, and the history's before them where there is one.

mod namespace;
mod recovery;
mod socket;

pub use namespace::{Interest, Namespace, Selection};
pub use recovery::{Claim, Recovery, Session, Window};
pub use socket::{Ack, JoinError, Socket};

/// Rooms one socket may be in.
pub const ROOMS_PER_SOCKET_MAX: usize = 1_000;
/// Bytes of a room's name.
pub const ROOM_NAME_BYTES_MAX: usize = 256;
/// Acknowledgements that one client may owe.
pub const ACKS_PER_SOCKET_MAX: usize = 1_000;
