//! Events into rooms: what the API needs of a gateway.

use serde_json::value::RawValue;
use std::future::Future;
use std::pin::Pin;

/// Whoever brings events to the sockets in a room.
///
/// Implementers owe: the event reaches every socket that is in the room on any node, or an error says
/// that it may not; `data` is passed on as the one argument of the event. Callers have checked that room
/// and event are not empty, have a bounded length and no control characters.
pub trait RoomPublisher: Send + Sync + 'static {
    fn publish<'a>(
        &'a self,
        room: &'a str,
        event: &'a str,
        data: &'a RawValue,
    ) -> Pin<Box<dyn Future<Output = Result<(), RoomError>> + Send + 'a>>;
}

/// Why an event could not be published.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The bus between the nodes cannot be reached; temporary.
    #[error("the store cannot be reached: {0}")]
    BusAway(String),
    /// The gateway does not take events of that name or data of that size.
    #[error("{0}")]
    Refused(String),
}
