//! The Engine.IO packet codec.
//!
//! Owns: one text packet (`<type digit><data>`), the polling payload (packets joined by 0x1e, binary
//! as `b` + base64) and the frames that leave. Refuses: unknown types, an empty packet, bad base64.
//! A WebSocket carries one packet a frame, binary messages as they are.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

/// Between the packets of a polling payload.
const SEPARATOR: u8 = 0x1e;

/// Browsers pad and some clients do not; both are read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A packet as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`, the handshake; only servers send it.
    Open(&'a str),
    /// `1`, goodbye.
    Close,
    /// `2`, with `probe` while a client tries another transport.
    Ping(&'a str),
    /// `3`, the answer to a ping.
    Pong(&'a str),
    /// `4`, text for the layer above.
    Message(&'a str),
    /// Bytes for the layer above.
    Binary(Bytes),
    /// `5`, the client moves to the transport that it probed.
    Upgrade,
    /// `6`, nothing; ends a poll.
    Noop,
}

/// Bytes that are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A frame, or a part of a payload, without even a type.
    #[error("empty packet")]
    Empty,
    /// A type outside 0–6.
    #[error("unknown packet type")]
    UnknownType,
    /// A binary part that is not base64.
    #[error("binary packet is not base64")]
    Base64,
}

/// Reads one text packet.
pub fn decode(text: &str) -> Result<Packet<'_>, PacketError> {
    let kind = *text.as_bytes().first().ok_or(PacketError::Empty)?;
    if !kind.is_ascii() {
        return Err(PacketError::UnknownType);
    }
    let data = &text[1..];
    Ok(match kind {
        b'0' => Packet::Open(data),
        b'1' => Packet::Close,
        b'2' => Packet::Ping(data),
        b'3' => Packet::Pong(data),
        b'4' => Packet::Message(data),
        b'5' => Packet::Upgrade,
        b'6' => Packet::Noop,
        _ => return Err(PacketError::UnknownType),
    })
}

/// Reads a binary WebSocket frame.
pub fn decode_binary(data: Bytes) -> Packet<'static> {
    Packet::Binary(data)
}

/// Reads the packets of a polling body, one at a time; the caller stops at the first error.
pub fn decode_payload(body: &str) -> impl Iterator<Item = Result<Packet<'_>, PacketError>> {
    body.split(char::from(SEPARATOR)).map(|part| match part.strip_prefix('b') {
        Some(data) => BASE64
            .decode(data)
            .map(|bytes| Packet::Binary(Bytes::from(bytes)))
            .map_err(|_| PacketError::Base64),
        None => decode(part),
    })
}

/// A packet as it leaves: encoded once, shared by every recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text packet, its type digit included. Always UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Frame {
    /// The server's heartbeat.
    pub const PING: Self = Self::Text(Bytes::from_static(b"2"));
    /// Ends a poll without a message.
    pub const NOOP: Self = Self::Text(Bytes::from_static(b"6"));
    /// Ends the session.
    pub const CLOSE: Self = Self::Text(Bytes::from_static(b"1"));
    /// Answers a probe.
    pub const PONG_PROBE: Self = Self::Text(Bytes::from_static(b"3probe"));

    /// Size on the wire before any framing, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(data) | Self::Binary(data) => data.len(),
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Joins frames into the body of a poll's answer.
pub fn encode_payload(frames: &[Frame]) -> Vec<u8> {
    let size: usize = frames.iter().map(|frame| frame.len() * 4 / 3 + 8).sum();
    let mut body = Vec::with_capacity(size);
    for (index, frame) in frames.iter().enumerate() {
        if index > 0 {
            body.push(SEPARATOR);
        }
        match frame {
            Frame::Text(text) => body.extend_from_slice(text),
            Frame::Binary(data) => {
                body.push(b'b');
                body.extend_from_slice(BASE64.encode(data).as_bytes());
            }
        }
    }
    body
}

/// The handshake packet. `sid` must need no JSON escape.
pub fn open_packet(sid: &str, upgrade: bool, timings: &super::Timings, payload_bytes_max: usize) -> Frame {
    let upgrades = if upgrade { r#"["websocket"]"# } else { "[]" };
    let super::Timings { ping_interval_ms, ping_timeout_ms, .. } = timings;
    Frame::Text(Bytes::from(format!(
        r#"0{{"sid":"{sid}","upgrades":{upgrades},"pingInterval":{ping_interval_ms},"pingTimeout":{ping_timeout_ms},"maxPayload":{payload_bytes_max}}}"#
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_packets() {
        let table: &[(&str, Result<Packet<'_>, PacketError>)] = &[
            ("", Err(PacketError::Empty)),
            ("abc", Err(PacketError::UnknownType)),
            ("7", Err(PacketError::UnknownType)),
            ("é", Err(PacketError::UnknownType)),
            ("1", Ok(Packet::Close)),
            ("2probe", Ok(Packet::Ping("probe"))),
            ("3", Ok(Packet::Pong(""))),
            ("4", Ok(Packet::Message(""))),
            ("4hé", Ok(Packet::Message("hé"))),
            ("5", Ok(Packet::Upgrade)),
            ("6", Ok(Packet::Noop)),
        ];
        for (input, expected) in table {
            assert_eq!(decode(input), *expected, "{input:?}");
        }
    }

    #[test]
    fn payloads() {
        let read = |body| decode_payload(body).collect::<Result<Vec<_>, _>>();
        assert_eq!(read("4a\x1e4b"), Ok(vec![Packet::Message("a"), Packet::Message("b")]));
        let bytes = Bytes::from_static(&[1, 2, 3, 4]);
        assert_eq!(
            read("4hello\x1ebAQIDBA=="),
            Ok(vec![Packet::Message("hello"), Packet::Binary(bytes.clone())])
        );
        assert_eq!(read("bAQIDBA"), Ok(vec![Packet::Binary(bytes)]), "padding may be missing");
        assert_eq!(read("b!!"), Err(PacketError::Base64));
        assert_eq!(read("4a\x1e"), Err(PacketError::Empty));
    }

    proptest! {
        #[test]
        fn what_leaves_can_be_read(parts in prop::collection::vec(
            prop_oneof![
                "[^\u{1e}]{0,20}".prop_map(Ok),
                prop::collection::vec(any::<u8>(), 0..20).prop_map(Err),
            ], 1..8)
        ) {
            let frames: Vec<Frame> = parts.iter().map(|part| match part {
                Ok(text) => Frame::Text(Bytes::from(format!("4{text}"))),
                Err(bytes) => Frame::Binary(Bytes::from(bytes.clone())),
            }).collect();
            let body = String::from_utf8(encode_payload(&frames)).unwrap();
            let read: Vec<_> = decode_payload(&body).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), parts.len());
            for (packet, part) in read.iter().zip(&parts) {
                match part {
                    Ok(text) => prop_assert_eq!(packet, &Packet::Message(text)),
                    Err(bytes) => prop_assert_eq!(packet, &Packet::Binary(Bytes::from(bytes.clone()))),
                }
            }
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            let _ = decode(&text);
            for packet in decode_payload(&text) {
                let _ = packet;
            }
        }
    }
}
