//! TLS for the store's connections, by rustls with aws-lc-rs as its crypto library.
//!
//! [`Tls`] is what new connections begin with. CONFIG SET of a `tls-*` directive reads the files again and puts
//! another one in its place; connections keep the one that they began with. [`TlsStream`] is a connection: bytes in,
//! bytes out, as on plain TCP.
//!
//! - `files`: certificates, keys and the words of redis.conf made into rustls's configuration.
//! - `sessions`: what lets a client come back without the expensive part of the handshake.
//! - `stream`: a connection.
//! - `subject`: the name in a client's certificate.

mod files;
mod sessions;
mod stream;
mod subject;

use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};

use crate::config::TlsSettings;
pub(crate) use files::TlsError;
pub(crate) use stream::{Progress, TlsStream};

/// What new connections begin with.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    /// The name in a client's certificate is its user.
    names_users: bool,
}

impl Tls {
    /// Reads the files that the settings name.
    pub fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let config = Arc::new(files::server_config(settings)?);
        Ok(Self { config, names_users: settings.names_users })
    }

    /// Begins a connection, to go on with [`TlsStream::shake_hands`].
    pub fn begin(&self, socket: TcpStream) -> Result<TlsStream, rustls::Error> {
        let connection = ServerConnection::new(Arc::clone(&self.config))?;
        Ok(TlsStream::new(socket, connection, self.names_users))
    }
}
