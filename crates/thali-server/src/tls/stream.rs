//! A connection over TLS: bytes in, bytes out, as on plain TCP, for loops that hear of each change once.
//!
//! What such a loop relies on, and holds here:
//! - A read that fills less than its buffer has emptied the socket. So a read goes on until one of the two is done,
//!   and what is decrypted and does not fit any more waits for the next read, to which a full buffer leads.
//! - A write tells what the kernel has taken. Bytes whose ciphertext waits count as not written: the next write begins
//!   with the same ones, and they are not encrypted again.
//! - The end is told by a read of nothing. [`TlsStream::has_ended`] says that it is near where no event will.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use rustls::{Error, InvalidMessage, ServerConnection};

use super::subject;

/// Ciphertext taken from the socket at once: about one record. What of it cannot be decrypted yet, as the plaintext
/// before it was not read, is kept, so that a connection holds at most this, a record of rustls's, and its plaintext.
const READ_BYTES: usize = 16 << 10;
/// Plaintext encrypted before the kernel has taken it.
const WRITE_BYTES: usize = 64 << 10;

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// It goes on when the peer does.
    Waits,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    connection: ServerConnection,
    /// Received, and not decrypted as plaintext waits to be read.
    sealed: Vec<u8>,
    /// How much of what is written next is encrypted already.
    encrypted: usize,
    /// The peer has ended, with or without TLS's word for it: requests say themselves where they end, so nothing is
    /// lost by a cut that would not be lost by the word.
    has_ended: bool,
    names_user: bool,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, mut connection: ServerConnection, names_user: bool) -> Self {
        connection.set_buffer_limit(Some(WRITE_BYTES));
        Self { socket, connection, sealed: Vec::new(), encrypted: 0, has_ended: false, names_user }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// The common name of the client's certificate, where it is to be its user.
    pub fn user_name(&self) -> Option<Vec<u8>> {
        let certificates = self.connection.peer_certificates().filter(|_| self.names_user)?;
        subject::common_name(certificates.first()?)
    }

    /// What waits here between two calls, encrypted or not, beside the state itself.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.sealed.capacity() + self.encrypted
    }

    /// Goes on with the handshake as far as the socket lets it.
    pub fn shake_hands(&mut self) -> io::Result<Progress> {
        loop {
            self.send_encrypted_as_far_as_it_goes()?;
            if !self.connection.is_handshaking() {
                return Ok(Progress::Done);
            }
            if self.has_ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            match self.receive(&mut []) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waits),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing more comes, which the next read that finds nothing will say.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.take_plaintext(buffer)?;
        if filled < buffer.len() && !self.sealed.is_empty() {
            let sealed = std::mem::take(&mut self.sealed);
            filled += self.open(&sealed, &mut buffer[filled..])?;
        }
        while filled < buffer.len() && !self.has_ended {
            match self.receive(&mut buffer[filled..]) {
                Ok(received) => {
                    filled += received.opened;
                    if received.has_emptied_socket {
                        break;
                    }
                }
                Err(error) if filled == 0 => return Err(error),
                Err(error) => {
                    // What came before it is good. Where it is more than that nothing waits, it is the end.
                    self.has_ended |= error.kind() != ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        if filled == 0 && !self.has_ended { Err(ErrorKind::WouldBlock.into()) } else { Ok(filled) }
    }

    /// Gives how many of `bytes` the kernel has taken. INVARIANT: after an error the next call's bytes begin with
    /// these.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.encrypted == 0 {
            self.encrypted = self.connection.writer().write(bytes)?;
        }
        debug_assert!(self.encrypted <= bytes.len(), "other bytes than those of the last write");
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut self.socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(std::mem::take(&mut self.encrypted))
    }

    /// Reads once from the socket and decrypts into `buffer`.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut sealed = [0; READ_BYTES];
        let len = self.socket.read(&mut sealed)?;
        self.has_ended |= len == 0;
        let opened = self.open(&sealed[..len], buffer)?;
        Ok(Received { opened, has_emptied_socket: len < READ_BYTES })
    }

    /// Decrypts into `buffer`; what finds no room there waits, decrypted or not.
    fn open(&mut self, mut sealed: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while !sealed.is_empty() {
            // Takes 4 KiB at most. Nothing where the peer has said that it is done, and no more is heard then.
            if self.connection.read_tls(&mut sealed)? == 0 {
                break;
            }
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The alert that says why; to who speaks no TLS it would be noise.
                    if error != Error::InvalidMessage(InvalidMessage::InvalidContentType) {
                        let _ = self.connection.write_tls(&mut self.socket);
                    }
                    // What came before it is good.
                    self.has_ended = true;
                    return if filled > 0 {
                        Ok(filled)
                    } else {
                        Err(io::Error::new(ErrorKind::InvalidData, error))
                    };
                }
            };
            self.has_ended |= state.peer_has_closed();
            let taken = self.take_plaintext(&mut buffer[filled..])?;
            filled += taken;
            if state.plaintext_bytes_to_read() > taken {
                self.sealed.extend_from_slice(sealed);
                break;
            }
        }
        Ok(filled)
    }

    /// What is decrypted and was not read.
    fn take_plaintext(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.connection.reader().read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// What the socket does not take now goes before the next write.
    fn send_encrypted_as_far_as_it_goes(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

struct Received {
    opened: usize,
    has_emptied_socket: bool,
}

/// Says that no more comes, where the socket takes it: who listens on knows then that nobody cut the line.
impl Drop for TlsStream {
    fn drop(&mut self) {
        if !self.connection.is_handshaking() {
            self.connection.send_close_notify();
            let _ = self.connection.write_tls(&mut self.socket);
        }
    }
}
