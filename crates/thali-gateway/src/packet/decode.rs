//! Text → packet head → arguments.

use serde_json::value::RawValue;

use super::{ACK_ID_DIGITS_MAX, ATTACHMENTS_MAX, NAMESPACE_BYTES_MAX};

/// The packet types, numbered as on the wire; binary forms are told by their attachments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `0`, joins a namespace.
    Connect,
    /// `1`, leaves it.
    Disconnect,
    /// `2` and `5`.
    Event,
    /// `3` and `6`.
    Ack,
    /// `4`, refuses a CONNECT; only servers send it.
    ConnectError,
}

/// A packet cut into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// What it is.
    pub kind: Kind,
    /// How many binary messages follow.
    pub attachments: usize,
    /// The namespace, `/` when none is named.
    pub namespace: &'a str,
    /// The id of the acknowledgement that is wanted or given.
    pub id: Option<u64>,
    /// JSON, not yet read; may be empty.
    pub payload: &'a str,
}

/// An event's arguments, its name first.
#[derive(Debug)]
pub struct Event<'a> {
    /// The event's name.
    pub name: String,
    /// The JSON of the arguments after the name.
    pub args: Vec<&'a RawValue>,
}

/// Text that is no Socket.IO packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A type outside 0–6, or none.
    #[error("unknown packet type")]
    UnknownType,
    /// No number, no dash, or more than [`ATTACHMENTS_MAX`].
    #[error("illegal attachments")]
    Attachments,
    /// Longer than [`NAMESPACE_BYTES_MAX`].
    #[error("namespace too long")]
    Namespace,
    /// Longer than [`ACK_ID_DIGITS_MAX`].
    #[error("acknowledgement id too long")]
    AckId,
    /// JSON of the wrong shape for the type, or no JSON.
    #[error("invalid payload")]
    Payload,
    /// A binary message that nothing announced, or text while one is due.
    #[error("binary message out of place")]
    OutOfPlace,
    /// Attachments larger together than a packet may be.
    #[error("attachments too large")]
    TooLarge,
    /// More attachments wait on this node than it may hold.
    #[error("too many attachments on this node")]
    PoolFull,
}

/// Cuts a packet into its parts. The payload's JSON is read by whoever needs it.
pub fn decode(text: &str) -> Result<Head<'_>, PacketError> {
    let (kind, binary) = match text.as_bytes().first() {
        Some(b'0') => (Kind::Connect, false),
        Some(b'1') => (Kind::Disconnect, false),
        Some(b'2') => (Kind::Event, false),
        Some(b'3') => (Kind::Ack, false),
        Some(b'4') => (Kind::ConnectError, false),
        Some(b'5') => (Kind::Event, true),
        Some(b'6') => (Kind::Ack, true),
        _ => return Err(PacketError::UnknownType),
    };
    let mut rest = &text[1..];
    let mut attachments = 0;
    if binary {
        let (count, after) = digits(rest);
        rest = after.strip_prefix('-').ok_or(PacketError::Attachments)?;
        attachments = count.parse().map_err(|_| PacketError::Attachments)?;
        if attachments > ATTACHMENTS_MAX {
            return Err(PacketError::Attachments);
        }
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        if namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(PacketError::Namespace);
        }
    }
    let (id, payload) = digits(rest);
    let id = match id.len() {
        0 => None,
        1..=ACK_ID_DIGITS_MAX => Some(id.parse().map_err(|_| PacketError::AckId)?),
        _ => return Err(PacketError::AckId),
    };
    let head = Head { kind, attachments, namespace, id, payload };
    check_shape(&head)?;
    Ok(head)
}

/// The cheap part of the payload's check; its JSON is checked when it is cut into arguments.
fn check_shape(head: &Head<'_>) -> Result<(), PacketError> {
    let first = head.payload.bytes().next();
    let fits = match head.kind {
        Kind::Connect => matches!(first, None | Some(b'{')),
        Kind::Disconnect => first.is_none(),
        Kind::Event | Kind::Ack => first == Some(b'['),
        Kind::ConnectError => true,
    };
    if fits { Ok(()) } else { Err(PacketError::Payload) }
}

/// Cuts the payload of an EVENT into its name and arguments.
pub fn event_args(payload: &str) -> Result<Event<'_>, PacketError> {
    let mut args: Vec<&RawValue> = serde_json::from_str(payload).map_err(|_| PacketError::Payload)?;
    if args.is_empty() {
        return Err(PacketError::Payload);
    }
    let name = args.remove(0).get();
    // Node's clients may name an event by a number.
    let name = match serde_json::from_str::<String>(name) {
        Ok(name) => name,
        Err(_) if name.parse::<f64>().is_ok() => name.to_owned(),
        Err(_) => return Err(PacketError::Payload),
    };
    Ok(Event { name, args })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}
