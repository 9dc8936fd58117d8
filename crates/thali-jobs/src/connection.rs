//! How the official crate reaches the same store as the rest.

use bullmq::options::{RedisConnectionOptions, TlsCerts};
use thali_client::StoreAddress;

pub(crate) fn options(store: &StoreAddress) -> RedisConnectionOptions {
    let options = RedisConnectionOptions::new().url(store.url());
    let Some(certificates) = store.certificates() else { return options };
    let (client_cert, client_key) = certificates.own.clone().unzip();
    options.tls_certs(TlsCerts { root_cert: certificates.ca.clone(), client_cert, client_key })
}
