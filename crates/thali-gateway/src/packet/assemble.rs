//! Puts the text and the binary messages of a packet together.

use bytes::Bytes;

use super::{Head, PacketError, decode};

/// A packet whose every part has come.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Its parts.
    pub head: Head<'a>,
    /// Its binary messages, in order.
    pub attachments: Vec<Bytes>,
}

/// Holds a packet that waits for binary messages. At most one, and bounded in bytes.
#[derive(Debug)]
pub struct Assembler {
    bytes_max: usize,
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    text: String,
    wanted: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
}

impl Assembler {
    /// An assembler that refuses more than this many bytes of attachments to one packet.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, waiting: None }
    }

    /// Takes a text message, and hands `ready` the packet if it is whole.
    pub fn text<R>(
        &mut self,
        text: &str,
        ready: impl FnOnce(Incoming<'_>) -> Result<R, PacketError>,
    ) -> Result<Option<R>, PacketError> {
        if self.waiting.is_some() {
            return Err(PacketError::OutOfPlace);
        }
        let head = decode(text)?;
        if head.attachments == 0 {
            return ready(Incoming { head, attachments: Vec::new() }).map(Some);
        }
        self.waiting = Some(Box::new(Waiting {
            text: text.to_owned(),
            wanted: head.attachments,
            attachments: Vec::with_capacity(head.attachments),
            bytes: 0,
        }));
        Ok(None)
    }

    /// Takes a binary message, and hands `ready` the packet if it is whole now.
    pub fn binary<R>(
        &mut self,
        data: Bytes,
        ready: impl FnOnce(Incoming<'_>) -> Result<R, PacketError>,
    ) -> Result<Option<R>, PacketError> {
        let waiting = self.waiting.as_mut().ok_or(PacketError::OutOfPlace)?;
        waiting.bytes += data.len();
        if waiting.bytes > self.bytes_max {
            return Err(PacketError::TooLarge);
        }
        waiting.attachments.push(data);
        if waiting.attachments.len() < waiting.wanted {
            return Ok(None);
        }
        let whole = self.waiting.take().expect("checked above");
        let Waiting { text, attachments, .. } = *whole;
        ready(Incoming { head: decode(&text)?, attachments }).map(Some)
    }
}
