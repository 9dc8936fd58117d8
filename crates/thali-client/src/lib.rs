//! How the upper layers reach a store: addresses, connections, re-dialling.
//!
//! This is the upper side of the wall: nothing here, or above, knows a store crate. Whoever needs a
//! store holds a [`StoreAddress`] and opens what it needs from it.

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
/// Longest wait between two attempts to dial.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);

/// Where a store is: `redis://host:port[/db]`, `rediss://…` or `redis+unix:///path`.
#[derive(Clone, Debug)]
pub struct StoreAddress {
    url: String,
    client: redis::Client,
}

/// An address that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("'{url}' is no address of a store ({reason}); write redis://HOST:PORT or redis+unix:///PATH")]
pub struct AddressError {
    url: String,
    reason: String,
}

impl StoreAddress {
    /// Reads an address; does not connect.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let refused =
            |error: redis::RedisError| AddressError { url: url.to_owned(), reason: error.to_string() };
        // A second call finds one installed, by us or by the program.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Requests are small and answers are waited for; Nagle's algorithm would add 40 ms to some.
        let settings = TcpSettings::default().set_nodelay(true);
        let info = url.into_connection_info().map_err(refused)?.set_tcp_settings(settings);
        let client = redis::Client::open(info).map_err(refused)?;
        Ok(Self { url: url.to_owned(), client })
    }

    /// The address as it was given.
    pub fn url(&self) -> &str {
        &self.url
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
            .set_max_delay(RETRY_DELAY_MAX);
        self.client.get_connection_manager_with_config(config).await
    }
}
