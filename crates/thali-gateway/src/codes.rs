//! Every way in which a connection ends and a request fails: a number, a name, whether to try again.
//!
//! Close codes travel as the WebSocket close code, with the name as the reason. 4000–4499 mean
//! "connect again", 4500–4999 mean "do not, nothing would change". A Socket.IO client connects again
//! by itself unless it was told DISCONNECT, so codes without retry are preceded by that packet.
//! Faults of WebSocket itself (masking, UTF-8, a message over the limit) end with its own numbers,
//! 1002, 1007 and 1009.
//!
//! Error codes travel in acknowledgements as `{ok:false,error:{code,name,message,retry}}`. 100–199
//! are the caller's fault, 200–299 pass by themselves.

use serde::Serialize;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode {
    /// 4000–4999, the range WebSocket leaves to applications.
    pub number: u16,
    /// Stable, for logs, metrics and clients.
    pub name: &'static str,
    /// Whether the client should connect again.
    pub retry: bool,
}

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])* $constant:ident = $number:literal $name:literal;)*) => {
        impl CloseCode {
            $($(#[doc = $doc])* pub const $constant: Self =
                Self { number: $number, name: $name, retry: $number < 4500 };)*

            /// The table, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];
        }
    };
}

close_codes! {
    /// The peer went away without a word.
    TRANSPORT_CLOSED = 4000 "transport_closed";
    /// The node is going down; another one, or this one soon, will serve.
    SHUTDOWN = 4001 "shutdown";
    /// No PONG came in time.
    PING_TIMEOUT = 4002 "ping_timeout";
    /// What waited for the client outgrew its bound.
    SLOW_CONSUMER = 4003 "slow_consumer";
    /// No namespace was joined in time.
    CONNECT_TIMEOUT = 4004 "connect_timeout";
    /// The token that granted the connection's rights ran out; come back with a fresh one.
    TOKEN_EXPIRED = 4005 "token_expired";
    /// A session that was to be recovered could not be; come back as new.
    RECOVERY_FAILED = 4006 "recovery_failed";
    /// This node holds as much for its clients as it may.
    OVERLOADED = 4007 "overloaded";
    /// The client said goodbye.
    CLIENT_CLOSED = 4500 "client_closed";
    /// Bytes that are no Engine.IO packet, or a packet out of place.
    INVALID_PACKET = 4501 "invalid_packet";
    /// An Engine.IO message that is no Socket.IO packet.
    INVALID_MESSAGE = 4502 "invalid_message";
    /// A message or body larger than `maxPayload`.
    PAYLOAD_TOO_LARGE = 4503 "payload_too_large";
    /// Two polls, or two posts, of one session at the same time.
    POLLING_OVERLAP = 4504 "polling_overlap";
    /// Someone with the right to do so disconnected the client.
    DISCONNECTED = 4505 "disconnected";
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.number, self.name)
    }
}

/// Why a request of a client, or of the HTTP API, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// 100–299.
    pub number: u16,
    /// Stable, for programs.
    pub name: &'static str,
    /// Whether the same request may succeed later.
    pub retry: bool,
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])* $constant:ident = $number:literal $name:literal;)*) => {
        impl ErrorCode {
            $($(#[doc = $doc])* pub const $constant: Self =
                Self { number: $number, name: $name, retry: $number >= 200 };)*

            /// The table, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];
        }
    };
}

error_codes! {
    /// The arguments do not fit the request.
    BAD_REQUEST = 100 "bad_request";
    /// No such request.
    UNKNOWN_EVENT = 101 "unknown_event";
    /// The token does not allow it.
    PERMISSION_DENIED = 102 "permission_denied";
    /// The token is damaged, signed by another key, or not a token.
    TOKEN_INVALID = 103 "token_invalid";
    /// The token has run out.
    TOKEN_EXPIRED = 104 "token_expired";
    /// The room's name is empty, too long or not a string.
    ROOM_NAME_INVALID = 105 "room_name_invalid";
    /// The socket is in as many rooms as one may be.
    TOO_MANY_ROOMS = 106 "too_many_rooms";
    /// The room is fed by the gateway itself.
    ROOM_RESERVED = 107 "room_reserved";
    /// The event's name belongs to the protocol.
    EVENT_RESERVED = 108 "event_reserved";
    /// The store is away.
    STORE_UNAVAILABLE = 200 "store_unavailable";
    /// More is under way than the node, or the socket, may have.
    BUSY = 201 "busy";
    /// The node is going down.
    SHUTTING_DOWN = 202 "shutting_down";
}

/// A failed request: what it was, and a sentence for a person.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct RequestError {
    /// The table's row.
    pub code: ErrorCode,
    /// What was wrong and what to do.
    pub message: String,
}

impl RequestError {
    /// A failure with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The `error` member of an acknowledgement.
    pub fn body(&self) -> ErrorBody<'_> {
        let ErrorCode { number, name, retry } = self.code;
        ErrorBody { code: number, name, message: &self.message, retry }
    }
}

/// How an error looks on the wire.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    code: u16,
    name: &'a str,
    message: &'a str,
    retry: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_and_names_are_unique_and_in_range() {
        let closes: HashSet<u16> = CloseCode::ALL.iter().map(|code| code.number).collect();
        let names: HashSet<&str> = CloseCode::ALL.iter().map(|code| code.name).collect();
        assert_eq!((closes.len(), names.len()), (CloseCode::ALL.len(), CloseCode::ALL.len()));
        assert!(CloseCode::ALL.iter().all(|code| (4000..5000).contains(&code.number)));
        let errors: HashSet<u16> = ErrorCode::ALL.iter().map(|code| code.number).collect();
        assert_eq!(errors.len(), ErrorCode::ALL.len());
        assert!(ErrorCode::ALL.iter().all(|code| (100..300).contains(&code.number)));
    }
}
