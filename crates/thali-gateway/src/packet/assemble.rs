//! Puts the text and the binary messages of a packet together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Bytes of attachments that wait for the rest of their packets, over all sessions of a node.
#[derive(Debug)]
pub struct Pool {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Pool {
    /// A pool for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: AtomicUsize::new(0) }
    }

    /// Bytes that wait now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), PacketError> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(PacketError::PoolFull);
        }
        Ok(())
    }
}

/// Holds a packet that waits for binary messages. At most one, and bounded in bytes.
#[derive(Debug)]
pub struct Assembler {
    bytes_max: usize,
    pool: Arc<Pool>,
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    text: String,
    wanted: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
    pool: Arc<Pool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Assembler {
    /// An assembler that refuses more than this many bytes of attachments to one packet.
    pub fn new(bytes_max: usize, pool: Arc<Pool>) -> Self {
        Self { bytes_max, pool, waiting: None }
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
            pool: self.pool.clone(),
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
        if waiting.bytes + data.len() > self.bytes_max {
            return Err(PacketError::TooLarge);
        }
        self.pool.take(data.len())?;
        waiting.bytes += data.len();
        waiting.attachments.push(data);
        if waiting.attachments.len() < waiting.wanted {
            return Ok(None);
        }
        let mut whole = self.waiting.take().expect("checked above");
        let attachments = std::mem::take(&mut whole.attachments);
        ready(Incoming { head: decode(&whole.text)?, attachments }).map(Some)
    }
}
