//! One connection: TCP, a Unix socket or TLS, with a buffer to read replies from.
//!
//! A wait for the server ends early when somebody presses Ctrl-C and the connection was given an [`Interrupt`].

use std::io::{self, BufRead, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::interrupt::Interrupt;
use crate::tls::{self, TlsOptions, TlsStream};
use crate::wire::{Reply, WireError, io_words, read_reply, write_request};

/// Bytes taken from the socket at once.
const READ_BYTES: usize = 64 << 10;
/// Quiet time before the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How to dial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dial {
    pub timeout: Option<Duration>,
    pub only_ipv4: bool,
    pub only_ipv6: bool,
    pub tls: Option<TlsOptions>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

pub(crate) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    at: usize,
    /// Whether the last read filled the buffer: TLS may then hold more that the socket doesn't tell of.
    may_hold_more: bool,
    interrupt: Option<Arc<Interrupt>>,
}

impl Connection {
    /// Dials; the error is the sentence for stderr.
    pub fn open(address: &Address, dial: &Dial, interrupt: Option<Arc<Interrupt>>) -> Result<Self, String> {
        let refused =
            |error: io::Error| format!("Could not connect to Redis at {address}: {}", io_words(&error));
        let stream = match address {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).map_err(refused)?),
            Address::Tcp { host, port } => {
                let tcp = dial_tcp(host, *port, dial).map_err(refused)?;
                match &dial.tls {
                    None => Stream::Tcp(tcp),
                    Some(options) => Stream::Tls(Box::new(
                        tls::wrap(tcp, host, options)
                            .map_err(|words| format!("Could not negotiate a TLS connection: {words}"))?,
                    )),
                }
            }
        };
        Ok(Self { stream, buffer: Vec::new(), at: 0, may_hold_more: false, interrupt })
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<(), WireError> {
        let mut bytes = Vec::new();
        write_request(args, &mut bytes);
        self.send_bytes(&bytes)
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// The next reply, pushes included.
    pub fn receive(&mut self) -> Result<Reply, WireError> {
        read_reply(self)
    }

    /// Whether a reply may be had without waiting for the socket.
    pub fn holds_bytes(&self) -> bool {
        self.at < self.buffer.len() || self.may_hold_more
    }

    /// For [`crate::modes::pipe`], which reads and writes as it goes.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(tcp) => tcp.set_nonblocking(true),
            Stream::Unix(unix) => unix.set_nonblocking(true),
            Stream::Tls(tls) => tls.sock.set_nonblocking(true),
        }
    }

    /// Reads what is there.
    pub fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }

    /// Writes what fits.
    pub fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    /// Pushes on what TLS still holds.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(tcp) => tcp.as_fd(),
            Stream::Unix(unix) => unix.as_fd(),
            Stream::Tls(tls) => tls.sock.as_fd(),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let len = chunk.len().min(into.len());
        into[..len].copy_from_slice(&chunk[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Connection {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            if let Some(interrupt) = self.interrupt.clone().filter(|_| !self.may_hold_more) {
                interrupt.wait_readable(self.as_fd())?;
            }
            self.buffer.resize(READ_BYTES, 0);
            self.at = 0;
            let read = loop {
                match self.stream.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            self.may_hold_more = matches!(self.stream, Stream::Tls(_)) && read? == READ_BYTES;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn dial_tcp(host: &str, port: u16, dial: &Dial) -> io::Result<TcpStream> {
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        if dial.only_ipv4 && address.is_ipv6() || dial.only_ipv6 && address.is_ipv4() {
            continue;
        }
        let tcp = match dial.timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        match tcp {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                sockopt::set_socket_keepalive(&tcp, true)?;
                sockopt::set_tcp_keepidle(&tcp, KEEPALIVE)?;
                return Ok(tcp);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no address of the wanted family")))
}

/// Waits until one of `files` is ready for what it is asked for; gives what each is ready for. An expired
/// time gives nothing.
pub(crate) fn wait(
    files: &[(BorrowedFd<'_>, PollFlags)],
    timeout: Option<Duration>,
) -> io::Result<Vec<PollFlags>> {
    let mut polled: Vec<PollFd<'_>> =
        files.iter().map(|(file, flags)| PollFd::from_borrowed_fd(*file, *flags)).collect();
    let timeout =
        timeout.map(|time| Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
    loop {
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => return Ok(polled.iter().map(PollFd::revents).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
