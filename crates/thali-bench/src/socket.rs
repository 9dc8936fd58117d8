//! A minimal Socket.IO client over WebSocket: text packets, one namespace, no acknowledgements.
//!
//! Built to cost little: frames are read in place from one buffer a socket, written in one call.
//! Refuses what the bench never meets: fragments, binary frames, frames over 64 KiB.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const HEAD_MAX: usize = 8 << 10;
const FRAME_MAX: usize = 64 << 10;
const OPCODE_TEXT: u8 = 1;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;

/// The writing side, shared by everyone who emits on this socket.
#[derive(Clone)]
pub struct Sender {
    stream: Arc<OwnedWriteHalf>,
}

/// The reading side.
pub struct Receiver {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
    /// Where the unread part of `buffer` begins.
    start: usize,
    sender: Sender,
}

/// Opens a WebSocket at `address` and joins the main namespace.
pub async fn connect(address: &str) -> Result<(Sender, Receiver)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let key = base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_le_bytes());
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(1024);
    let end = loop {
        ensure!(buffer.len() < HEAD_MAX, "an endless answer to the upgrade");
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the upgrade was refused");
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    ensure!(buffer.starts_with(b"HTTP/1.1 101"), "no upgrade: {}", buffer.escape_ascii());
    let (read, write) = stream.into_split();
    let sender = Sender { stream: Arc::new(write) };
    let mut receiver = Receiver { stream: read, buffer, start: end, sender: sender.clone() };
    receiver.expect("0{").await?;
    sender.send("40")?;
    receiver.expect("40{").await?;
    Ok((sender, receiver))
}

impl Sender {
    /// Sends one text packet. A socket whose kernel buffer is full has a peer that stopped reading,
    /// which ends the run.
    pub fn send(&self, text: &str) -> Result<()> {
        let mask = fastrand::u32(..).to_le_bytes();
        let mut frame = Vec::with_capacity(text.len() + 8);
        frame.push(0x80 | OPCODE_TEXT);
        match text.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..FRAME_MAX => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => bail!("a packet of {length} bytes"),
        }
        frame.extend_from_slice(&mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let written = self.stream.try_write(&frame).context("send on a socket")?;
        ensure!(written == frame.len(), "the peer stopped reading");
        Ok(())
    }
}

impl Receiver {
    /// The next message packet's text (`42[…]` and the like); pings are answered on the way.
    pub async fn next(&mut self) -> Result<&str> {
        loop {
            let (from, to) = self.frame().await?;
            match self.buffer[from..to] {
                [b'2'] => self.sender.send("3")?,
                [b'1', ..] => bail!("the server closed the transport"),
                _ => {
                    return std::str::from_utf8(&self.buffer[from..to]).context("a text frame is not UTF-8");
                }
            }
        }
    }

    async fn expect(&mut self, prefix: &str) -> Result<()> {
        let text = self.next().await?;
        ensure!(text.starts_with(prefix), "expected {prefix}… but got {text}");
        Ok(())
    }

    /// Reads one frame; returns where its payload lies.
    async fn frame(&mut self) -> Result<(usize, usize)> {
        loop {
            if let Some((opcode, from, to)) = parse(&self.buffer[self.start..])? {
                let (from, to) = (self.start + from, self.start + to);
                self.start = to;
                match opcode {
                    OPCODE_TEXT => return Ok((from, to)),
                    OPCODE_CLOSE => bail!("the server closed the WebSocket"),
                    OPCODE_PING => continue,
                    other => bail!("a frame with opcode {other}"),
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server ended the connection");
        }
    }
}

/// Opcode and payload place of the first frame in `bytes`, if it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    ensure!(first & 0x80 != 0, "a fragmented frame");
    let (length, from) = match (second & 0x7f, bytes) {
        (126, [_, _, high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        (126, _) => return Ok(None),
        (127, _) => bail!("a frame over {FRAME_MAX} bytes"),
        (length, _) => (usize::from(length), 2),
    };
    Ok((bytes.len() >= from + length).then_some((first & 0x0f, from, from + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_only_when_complete() {
        assert_eq!(parse(b"\x81").unwrap(), None);
        assert_eq!(parse(b"\x81\x03ab").unwrap(), None);
        assert_eq!(parse(b"\x81\x03abcd").unwrap(), Some((1, 2, 5)));
        assert_eq!(parse(b"\x81\x7e\x00").unwrap(), None);
        let long = [b"\x81\x7e\x01\x00".as_slice(), &[b'x'; 256]].concat();
        assert_eq!(parse(&long).unwrap(), Some((1, 4, 260)));
        assert!(parse(b"\x01\x00").is_err());
    }
}
