//! How the upper layers reach a store: addresses, connections, re-dialling.
//!
//! This is the upper side of the wall: nothing here, or above, knows a store crate. Whoever needs a
//! store holds a [`StoreAddress`] and opens what it needs from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::IntoConnectionInfo as _;
use redis::aio::ConnectionManagerConfig;
use redis::io::tcp::TcpSettings;

mod backoff;
mod pubsub;

pub use backoff::Backoff;
pub use pubsub::{PubSub, PubSubEvent, SubscribeError, Ticket, Topic};

/// What dialling a store may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// What a store may take to answer; scripts over large queues take their time.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a store may take to give its first sign of life when a program starts.
const REACH_WITHIN: Duration = Duration::from_secs(2);
/// Dials in a row before the commands that wait for them fail; the next command starts over. Together
/// well under a second, for somebody waits for the answer, or the refusal.
const DIALS_MAX: usize = 3;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(20);
const RETRY_DELAY_MAX: Duration = Duration::from_millis(250);

/// Where a store is: `redis://host:port[/db]`, `rediss://…` or `redis+unix:///path`.
#[derive(Clone, Debug)]
pub struct StoreAddress {
    url: String,
    client: redis::Client,
    certificates: Option<Arc<Certificates>>,
}

/// The files that a store over TLS asks for.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Whose certificates of stores are good; without it, those that browsers believe.
    pub ca: Option<PathBuf>,
    /// What is shown to the store, with its key.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// What stands in [`TlsFiles`], in PEM: for other clients of the same store.
#[derive(Clone)]
pub struct Certificates {
    pub ca: Option<Vec<u8>>,
    /// Certificate and key.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error(
        "'{url}' is no address of a store ({reason}); write redis://HOST:PORT, rediss://HOST:PORT for TLS, or \
         redis+unix:///PATH"
    )]
    Url { url: String, reason: String },
    #[error("cannot read {}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("a certificate for the store and its key go together: give both --store-cert and --store-key")]
    HalfAPair,
    #[error("the certificates for the store cannot be used: {reason}")]
    Certificates { reason: String },
    #[error("certificates for the store are for rediss:// alone, and '{url}' is another kind of address")]
    NotTls { url: String },
}

/// Why a store cannot be worked with, with what to do about it. Passwords are left out.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    #[error(
        "the store at {url} cannot be reached ({reason}); start it, or give the right address with --store"
    )]
    Away { url: String, reason: String },
    #[error(
        "the store at {url} wants another user or password ({reason}); \
         write them into the address: redis://USER:PASSWORD@HOST:PORT"
    )]
    Password { url: String, reason: String },
    #[error("what answers at {url} is no store of use ({reason}); give the right address with --store")]
    Other { url: String, reason: String },
}

impl StoreAddress {
    /// Reads an address; does not connect.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        Self::parse_with(url, &TlsFiles::default())
    }

    /// The same with files for TLS, which are read now.
    pub fn parse_with(url: &str, files: &TlsFiles) -> Result<Self, AddressError> {
        let shown = || without_password(url);
        let refused =
            |error: redis::RedisError| AddressError::Url { url: shown(), reason: error.to_string() };
        let certificates = files.read()?;
        // A second call finds one installed, by us or by the program.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Requests are small and answers are waited for; Nagle's algorithm would add 40 ms to some.
        let settings = TcpSettings::default().set_nodelay(true);
        let info = url.into_connection_info().map_err(refused)?.set_tcp_settings(settings);
        let is_tls = matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. });
        let client = match &certificates {
            None => redis::Client::open(info).map_err(refused)?,
            Some(_) if !is_tls => return Err(AddressError::NotTls { url: shown() }),
            Some(certificates) => redis::Client::build_with_tls(info, certificates.to_redis())
                .map_err(|error| AddressError::Certificates { reason: error.to_string() })?,
        };
        Ok(Self { url: url.to_owned(), client, certificates: certificates.map(Arc::new) })
    }

    /// Certificates for TLS, where files name some.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_deref()
    }

    /// The address as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address for people to read: without its password.
    pub fn shown(&self) -> String {
        without_password(&self.url)
    }

    /// Asks the store once whether it is there, so that a wrong address is told at once and in a sentence.
    /// A store that is still loading its data, or waits for its master, counts as there: it will be.
    pub async fn reach(&self) -> Result<(), ReachError> {
        let (url, ask) = (self.shown(), async {
            let mut connection = self.client.get_multiplexed_async_connection().await?;
            redis::cmd("PING").exec_async(&mut connection).await
        });
        match tokio::time::timeout(REACH_WITHIN, ask).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => judge(url, &error),
            Err(_) => {
                Err(ReachError::Away { url, reason: format!("no answer in {} s", REACH_WITHIN.as_secs()) })
            }
        }
    }

    /// A factory of connections to this store.
    pub fn client(&self) -> &redis::Client {
        &self.client
    }

    /// A shared connection that dials again by itself after the store was away.
    pub async fn connect(&self) -> redis::RedisResult<redis::aio::ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_number_of_retries(DIALS_MAX)
            .set_min_delay(RETRY_DELAY_MIN)
            .set_max_delay(RETRY_DELAY_MAX);
        self.client.get_connection_manager_with_config(config).await
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Option<Certificates>, AddressError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| AddressError::File { path: path.to_owned(), error })
        };
        let own = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err(AddressError::HalfAPair),
        };
        let ca = self.ca.as_deref().map(read).transpose()?;
        Ok((ca.is_some() || own.is_some()).then_some(Certificates { ca, own }))
    }
}

impl Certificates {
    fn to_redis(&self) -> redis::TlsCertificates {
        let own = self.own.clone();
        redis::TlsCertificates {
            client_tls: own
                .map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key }),
            root_cert: self.ca.clone(),
        }
    }
}

/// What the first answer, or its absence, says of a store.
fn judge(url: String, error: &redis::RedisError) -> Result<(), ReachError> {
    use redis::{ErrorKind, ServerErrorKind as Server};
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::Server(Server::BusyLoading | Server::MasterDown | Server::TryAgain) => Ok(()),
        ErrorKind::AuthenticationFailed => Err(ReachError::Password { url, reason }),
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            Err(ReachError::Password { url, reason })
        }
        // Busy with a script: it answers, so it is there.
        _ if error.code() == Some("BUSY") => Ok(()),
        ErrorKind::Io => Err(ReachError::Away { url, reason }),
        _ => Err(ReachError::Other { url, reason }),
    }
}

/// An address for people to read.
fn without_password(url: &str) -> String {
    // In the address of a unix socket the password is a parameter.
    let url = match url.split_once('?') {
        Some((place, parameters)) => {
            let kept: Vec<&str> =
                parameters.split('&').filter(|parameter| !parameter.starts_with("pass=")).collect();
            if kept.is_empty() { place.to_owned() } else { format!("{place}?{}", kept.join("&")) }
        }
        None => url.to_owned(),
    };
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_addresses_have_no_password() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
            ("redis://:s3cret@host:1", "redis://…@host:1"),
            ("redis://me:s3@cret@host:1/0", "redis://…@host:1/0"),
            ("redis+unix:///run/store.sock?pass=s3cret", "redis+unix:///run/store.sock"),
            ("redis+unix:///run/store.sock?db=1&pass=s3cret", "redis+unix:///run/store.sock?db=1"),
        ] {
            assert_eq!(without_password(url), shown);
        }
        let refused = StoreAddress::parse("mysql://me:s3cret@host").unwrap_err().to_string();
        assert!(!refused.contains("s3cret") && refused.contains("redis://HOST:PORT"), "{refused}");
    }
}
