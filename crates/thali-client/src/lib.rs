//! How the upper layers reach a store: addresses, connections, re-dialling.
//!
//! This is the upper side of the wall: nothing here, or above, knows a store crate. Whoever needs a
//! store holds a [`StoreAddress`] and opens what it needs from it.

mod backoff;
mod pubsub;

pub use backoff::Backoff;
pub use pubsub::{PubSub, PubSubEvent, SubscribeError, Ticket, Topic};

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
        let client = redis::Client::open(url)
            .map_err(|error| AddressError { url: url.to_owned(), reason: error.to_string() })?;
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
        self.client.get_connection_manager().await
    }
}
