//! One connection: dialled and greeted while it may wait, then without waiting.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;

use crate::replies::{Malformed, Scanner, Seen};
use crate::{LoadError, Template};

const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Read at once, into a buffer that all connections of a thread share.
pub(crate) const READ_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Connection {
    pub stream: TcpStream,
    scanner: Scanner,
    /// What the kernel did not take yet, and how much of it has gone since.
    unsent: Vec<u8>,
    sent: usize,
}

/// Why nothing more comes.
#[derive(Debug)]
pub(crate) enum Lost {
    Closed,
    Io(io::Error),
    Malformed,
}

impl Lost {
    pub fn at(self, address: SocketAddr, replies: u64, first_error: Option<String>) -> LoadError {
        let why = match self {
            Self::Malformed => return LoadError::Malformed { address },
            Self::Closed => "it closed a connection".to_owned(),
            Self::Io(error) => error.to_string(),
        };
        LoadError::Gone { address, why, replies, first_error }
    }
}

impl Connection {
    /// Connects and waits for the replies to `greeting`.
    pub fn dial(address: SocketAddr, greeting: &[Template]) -> Result<Self, LoadError> {
        let dialled = std::net::TcpStream::connect_timeout(&address, GREETING_TIMEOUT).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
            Ok(stream)
        });
        let mut stream = dialled.map_err(|error| LoadError::Connect { address, error })?;
        let mut scanner = Scanner::default();
        for template in greeting {
            greet(&mut stream, &mut scanner, template)
                .map_err(|words| LoadError::Greeting { address, words })?;
        }
        stream.set_nonblocking(true).map_err(|error| LoadError::Connect { address, error })?;
        Ok(Self { stream: TcpStream::from_std(stream), scanner, unsent: Vec::new(), sent: 0 })
    }

    /// Sends, or keeps what the kernel does not take for [`Connection::flush`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let taken = if self.unsent.is_empty() { written(&mut self.stream, bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Goes on sending what was kept.
    pub fn flush(&mut self) -> Result<(), Lost> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        self.sent += written(&mut self.stream, &self.unsent[self.sent..])?;
        if self.sent == self.unsent.len() {
            self.unsent.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// Reads once. Whether there may be more: a short read has emptied the socket, and the next bytes are a new event.
    pub fn receive(&mut self, buffer: &mut [u8], seen: impl FnMut(Seen<'_>)) -> Result<bool, Lost> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(Lost::Closed),
                Ok(len) => {
                    self.scanner.feed(&buffer[..len], seen).map_err(|Malformed| Lost::Malformed)?;
                    return Ok(len == buffer.len());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Lost::Io(error)),
            }
        }
    }
}

fn greet(stream: &mut std::net::TcpStream, scanner: &mut Scanner, template: &Template) -> Result<(), String> {
    let mut bytes = Vec::new();
    template.write(&mut bytes, || 0);
    stream.write_all(&bytes).map_err(|error| error.to_string())?;
    let mut answer = None;
    let mut buffer = [0; 4096];
    while answer.is_none() {
        let len = stream.read(&mut buffer).map_err(|error| error.to_string())?;
        if len == 0 {
            return Err("it closed the connection".to_owned());
        }
        let fed = scanner.feed(&buffer[..len], |seen| {
            answer = Some(match seen {
                Seen::Error(words) => Err(String::from_utf8_lossy(words).into_owned()),
                Seen::Reply | Seen::Push => Ok(()),
            });
        });
        fed.map_err(|Malformed| "its reply is no RESP".to_owned())?;
    }
    answer.unwrap_or(Ok(()))
}

/// Bytes that the kernel took.
fn written(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Lost> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => return Err(Lost::Closed),
            Ok(len) => sent += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Lost::Io(error)),
        }
    }
    Ok(sent)
}

/// Lets this process have `wanted` files open.
pub(crate) fn allow_files(wanted: usize) -> Result<(), LoadError> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted as u64) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted as u64) {
        let maximum = limit.maximum.unwrap_or_default();
        return Err(LoadError::Plan(format!(
            "so many clients need {wanted} open files, and this process may have {maximum}; raise it with ulimit -Hn"
        )));
    }
    limit.current = Some(wanted as u64);
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| LoadError::System { what: "raise the limit of open files", error: error.into() })
}
