//! What a gateway can be told.

use std::net::IpAddr;
use std::time::Duration;

use crate::auth::AuthSettings;
use crate::engine::Timings;
use crate::hub::Window;
use crate::transport::{Origins, Settings};

/// A gateway's settings; every default is one a person would choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is served; ends with a slash.
    pub path: String,
    /// Namespaces that may be joined; `/` is where plain PUBLISH and job rooms are.
    pub namespaces: Vec<String>,
    /// Who may do what.
    pub auth: AuthSettings,
    /// Web pages that may connect beside the gateway's own.
    pub origins: Origins,
    /// From one pong to the next ping.
    pub ping_interval: Duration,
    /// From a ping to its pong.
    pub ping_timeout: Duration,
    /// From the handshake to the first namespace.
    pub connect_timeout: Duration,
    /// Largest message or request body, in bytes.
    pub payload_bytes_max: usize,
    /// Bytes that may wait for one client before it is closed with `slow_consumer`.
    pub queue_bytes_max: usize,
    /// Sessions at one time.
    pub sessions_max: usize,
    /// How long a client that dropped off finds its session again; zero means never, and that events
    /// arrive without their place as last argument.
    pub recovery: Duration,
    /// Bytes of events that are kept for such clients.
    pub recovery_bytes_max: usize,
    /// First part of BullMQ's keys.
    pub job_prefix: String,
    /// Over how long clients are sent away when the gateway goes down.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let Timings { ping_interval_ms, ping_timeout_ms, connect_timeout_ms } = Timings::default();
        Self {
            path: "/socket.io/".to_owned(),
            namespaces: vec!["/".to_owned()],
            auth: AuthSettings::None,
            origins: Origins::Own,
            ping_interval: Duration::from_millis(ping_interval_ms),
            ping_timeout: Duration::from_millis(ping_timeout_ms),
            connect_timeout: Duration::from_millis(connect_timeout_ms),
            payload_bytes_max: 1_000_000,
            queue_bytes_max: 4 * 1024 * 1024,
            sessions_max: 100_000,
            recovery: Duration::ZERO,
            recovery_bytes_max: 64 * 1024 * 1024,
            job_prefix: "bull".to_owned(),
            drain: Duration::from_secs(1),
        }
    }
}

/// A configuration under which anyone who reaches the port may do anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the gateway would listen on {address} without asking who connects; \
     set gateway-auth jwt with a key, or bind to 127.0.0.1"
)]
pub struct UnsafeBind {
    address: IpAddr,
}

impl Config {
    /// Whether this configuration may be served on this address: without authentication, only on
    /// loopback.
    pub fn check_bind(&self, address: IpAddr) -> Result<(), UnsafeBind> {
        match self.auth {
            AuthSettings::None if !address.to_canonical().is_loopback() => Err(UnsafeBind { address }),
            _ => Ok(()),
        }
    }

    /// How much of the past is kept, if any.
    pub fn window(&self) -> Option<Window> {
        (!self.recovery.is_zero()).then(|| Window {
            away_ms: millis(self.recovery),
            deaf_ms: millis(self.ping_interval) + millis(self.ping_timeout),
            history_bytes_max: self.recovery_bytes_max,
            sessions_max: self.sessions_max,
            // The other half is for what comes meanwhile.
            missed_bytes_max: self.queue_bytes_max / 2,
        })
    }

    /// What the transports need to know.
    pub fn transport(&self) -> Settings {
        Settings {
            timings: Timings {
                ping_interval_ms: millis(self.ping_interval),
                ping_timeout_ms: millis(self.ping_timeout),
                connect_timeout_ms: millis(self.connect_timeout),
            },
            payload_bytes_max: self.payload_bytes_max,
            queue_bytes_max: self.queue_bytes_max,
            sessions_max: self.sessions_max,
            origins: self.origins.clone(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenAlgorithm;

    #[test]
    fn without_auth_only_loopback() {
        let open = Config::default();
        assert!(open.check_bind("127.0.0.1".parse().unwrap()).is_ok());
        assert!(open.check_bind("::1".parse().unwrap()).is_ok());
        assert!(open.check_bind("0.0.0.0".parse().unwrap()).is_err());
        let auth = AuthSettings::Jwt { algorithm: TokenAlgorithm::Hs256, key: b"k".to_vec() };
        let closed = Config { auth, ..Config::default() };
        assert!(closed.check_bind("0.0.0.0".parse().unwrap()).is_ok());
    }
}
