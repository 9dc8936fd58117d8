//! Listening sockets and the connections that come from them. Two loops accept and deal
//! connections out in turn, so that loops are equally loaded.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::buffer::spare_capacity;

use crate::tls::TlsStream;

/// Where to listen, or where somebody came from.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp {
        socket: TcpListener,
        /// `tls-port`: connections begin with a handshake.
        is_tls: bool,
    },
    /// The socket file is removed when the listener is dropped.
    Unix(UnixListener, PathBuf),
}

/// A connection: bytes in, bytes out.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

/// A new connection on its way to its loop.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub stream: Stream,
    /// It begins with a handshake, which is still to come.
    pub is_tls: bool,
    pub peer: String,
    pub local: String,
    /// From this machine: protected mode lets it in.
    pub is_local: bool,
}

impl Listener {
    /// Opens a TCP port.
    pub fn tcp(address: SocketAddr, backlog: i32, is_tls: bool) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(Self::Tcp { socket: TcpListener::from_std(socket.into()), is_tls })
    }

    /// Opens a Unix socket. A leftover file that nobody listens to is replaced.
    pub fn unix(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another server listens on this socket",
                ));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        if let Some(mode) = mode {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// The same socket, to be watched by another loop, too.
    pub fn try_clone(&self) -> io::Result<Self> {
        use std::os::fd::AsFd;
        Ok(match self {
            Self::Tcp { socket, is_tls } => {
                let socket = TcpListener::from_std(socket.as_fd().try_clone_to_owned()?.into());
                Self::Tcp { socket, is_tls: *is_tls }
            }
            Self::Unix(listener, path) => {
                let socket = listener.as_fd().try_clone_to_owned()?.into();
                Self::Unix(UnixListener::from_std(socket), path.clone())
            }
        })
    }

    /// The TCP address, with the port that the system chose where 0 was asked for.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { socket, .. } => socket.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Ends listening on this socket and all its copies; the address is free for others. Who waits to be accepted
    /// is turned away.
    pub fn stop_listening(&self) {
        if let Self::Tcp { socket, .. } = self {
            // A socket that does not listen is what is wanted.
            let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Both);
        }
    }

    /// Takes [`Listener::stop_listening`] back.
    pub fn listen_again(&self, address: SocketAddr, backlog: i32) -> io::Result<()> {
        let Self::Tcp { socket, .. } = self else { return Ok(()) };
        let socket = socket2::SockRef::from(socket);
        // Linux takes back a port that it chose itself; one that was asked for is still bound, and this fails.
        let _ = socket.bind(&address.into());
        socket.listen(backlog)
    }

    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp { socket, .. } => socket.deregister(registry),
            Self::Unix(listener, _) => listener.deregister(registry),
        }
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp { socket, .. } => socket.register(registry, token, Interest::READABLE),
            Self::Unix(listener, _) => listener.register(registry, token, Interest::READABLE),
        }
    }

    /// The next connection; `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp { socket, is_tls } => {
                let (stream, peer) = socket.accept()?;
                // Replies go out whole; waiting to join them with the next costs 40 ms.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr().map(|a| a.to_string()).unwrap_or_default();
                let is_local = peer.ip().to_canonical().is_loopback();
                let (stream, peer, is_tls) = (Stream::Tcp(stream), peer.to_string(), *is_tls);
                Ok(Accepted { stream, is_tls, peer, local, is_local })
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept()?;
                let name = format!("{}:0", path.display());
                let (stream, peer) = (Stream::Unix(stream), name.clone());
                Ok(Accepted { stream, is_tls: false, peer, local: name, is_local: true })
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Stream {
    /// What it takes beyond its own size.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(stream) => stream.memory_bytes(),
        }
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.socket().as_raw_fd(),
        }
    }

    /// The TCP connection below, where there is one.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.socket()),
            Self::Unix(_) => None,
        }
    }

    /// Nothing more comes, and no event will say so: the next read does.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.has_ended())
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, both),
            Self::Unix(stream) => stream.register(registry, token, both),
            Self::Tls(stream) => stream.socket_mut().register(registry, token, both),
        }
    }

    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
            Self::Tls(stream) => stream.socket_mut().deregister(registry),
        }
    }

    /// Fills `buffer` as far as there is something. Less than a full one has emptied the socket.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    /// As [`Stream::read`], into the room that a buffer has behind its bytes, of which there must be some.
    pub fn read_behind(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Ok(rustix::io::read(stream, spare_capacity(buffer))?),
            Self::Unix(stream) => Ok(rustix::io::read(stream, spare_capacity(buffer))?),
            Self::Tls(stream) => {
                let len = buffer.len();
                buffer.resize(buffer.capacity(), 0);
                let got = stream.read(&mut buffer[len..]);
                buffer.truncate(len + *got.as_ref().unwrap_or(&0));
                got
            }
        }
    }

    /// Gives how many the kernel has taken. After `WouldBlock` the next bytes begin with the same ones.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }
}
