//! The TCP ports: opened at the start, and changed by CONFIG SET of `bind` and `port` while clients are served.
//!
//! Two loops accept on copies of the same sockets. A socket that stays wanted stays open. One that is not ends
//! listening at once, before its copies are closed, as its address may overlap with a new one (127.0.0.1 and 0.0.0.0
//! on one port); where a new address cannot be had, it listens again and nothing has changed.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::config::Settings;
use crate::listener::Listener;

/// The open ports.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    open: Vec<Port>,
    /// The port in use, also while `bind` names no address.
    number: u16,
}

/// Who accepts: the first loop and the spare one, as a script can keep the first one busy.
pub(crate) const ACCEPTING_LOOPS: usize = 2;

/// Copies of the sockets for each loop that accepts.
pub(crate) type Copies = [Vec<Listener>; ACCEPTING_LOOPS];

#[derive(Debug)]
struct Port {
    /// With the port that it really has, where any was asked for.
    address: SocketAddr,
    listener: Listener,
}

/// Why the ports stay as they were.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("'{0}' is no address that this machine knows; look at 'bind'")]
    Address(String),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot share a port between event loops: {0}")]
    Copy(io::Error),
}

impl Ports {
    /// Opens the ports of the start.
    pub fn open(settings: &Settings) -> Result<(Self, Copies), PortError> {
        let addresses = addresses(&settings.bind, settings.port)?;
        let open = addresses.into_iter().map(|address| Port::open(address, settings.tcp_backlog));
        let open = open.collect::<Result<Vec<_>, _>>()?;
        let copies = copies(open.iter())?;
        let number = open.first().map_or(settings.port, |port| port.address.port());
        Ok((Self { open, number }, copies))
    }

    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.open.iter().map(|port| port.address)
    }

    /// The port in use; 0: none.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Listens on other addresses. A port of 0 closes all.
    pub fn change(&mut self, bind: &[String], port: u16, backlog: i32) -> Result<Copies, PortError> {
        let wanted = if port == 0 { Vec::new() } else { addresses(bind, port)? };
        let (mut kept, old): (Vec<Port>, Vec<Port>) =
            std::mem::take(&mut self.open).into_iter().partition(|port| wanted.contains(&port.address));
        old.iter().for_each(|port| port.listener.stop_listening());
        let missing = wanted.iter().filter(|address| kept.iter().all(|port| port.address != **address));
        let opened = missing.map(|address| Port::open(*address, backlog)).collect::<Result<Vec<_>, _>>();
        let opened = opened.and_then(|opened| Ok((copies(kept.iter().chain(&opened))?, opened)));
        match opened {
            Ok((copies, opened)) => {
                kept.extend(opened);
                (self.open, self.number) = (kept, port);
                Ok(copies)
            }
            Err(error) => {
                for port in &old {
                    if let Err(error) = port.listener.listen_again(port.address, backlog) {
                        tracing::error!(address = %port.address, %error, "cannot go back to listening there");
                    }
                }
                kept.extend(old);
                self.open = kept;
                Err(error)
            }
        }
    }
}

impl Port {
    fn open(address: SocketAddr, backlog: i32) -> Result<Self, PortError> {
        let listener =
            Listener::tcp(address, backlog).map_err(|error| PortError::Listen { address, error })?;
        Ok(Self { address: listener.local_addr().unwrap_or(address), listener })
    }
}

fn copies<'p>(ports: impl Iterator<Item = &'p Port> + Clone) -> Result<Copies, PortError> {
    let copy = || ports.clone().map(|port| port.listener.try_clone()).collect::<io::Result<Vec<_>>>();
    Ok([copy().map_err(PortError::Copy)?, copy().map_err(PortError::Copy)?])
}

/// The addresses of `bind`: names, IPs, `*`, and `-` before those that may be missing here.
fn addresses(bind: &[String], port: u16) -> Result<Vec<SocketAddr>, PortError> {
    let mut found = Vec::new();
    for name in bind {
        let (name, optional) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let host = match name {
            "*" => "0.0.0.0",
            "::*" => "::",
            name => name,
        };
        // What looks like an address and is none would be asked for as a name, which may take seconds.
        let is_misspelt = host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && host.parse::<std::net::IpAddr>().is_err();
        let resolved = if is_misspelt { None } else { (host, port).to_socket_addrs().ok() };
        match resolved.and_then(|mut addresses| addresses.next()) {
            Some(address) if found.contains(&address) => {}
            Some(address) => found.push(address),
            None if optional => {}
            None => return Err(PortError::Address(name.to_owned())),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn settings(bind: &str) -> Settings {
        let config = crate::config::Config::default().with("port", "0").unwrap().with("bind", bind).unwrap();
        config.settings()
    }

    fn answers(address: &str, port: u16) -> bool {
        TcpStream::connect((address, port)).is_ok()
    }

    #[test]
    fn addresses_that_overlap_follow_each_other_on_one_port() {
        let (mut ports, copies) = Ports::open(&settings("127.0.0.1")).unwrap();
        let port = ports.number();
        assert!(answers("127.0.0.1", port) && !answers("127.0.0.2", port));
        ports.change(&words("0.0.0.0"), port, 5).unwrap();
        assert!(answers("127.0.0.1", port) && answers("127.0.0.2", port));
        ports.change(&words("127.0.0.2"), port, 5).unwrap();
        assert!(!answers("127.0.0.1", port) && answers("127.0.0.2", port));
        drop(copies);
        ports.change(&[], port, 5).unwrap();
        assert!(!answers("127.0.0.2", port) && ports.number() == port);
        ports.change(&words("127.0.0.2"), port, 5).unwrap();
        assert!(answers("127.0.0.2", port));
        ports.change(&words("127.0.0.2"), 0, 5).unwrap();
        assert!(!answers("127.0.0.2", port) && ports.number() == 0);
    }

    #[test]
    fn a_port_that_is_taken_changes_nothing() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        let (mut ports, _copies) = Ports::open(&settings("127.0.0.1")).unwrap();
        let port = ports.number();
        assert!(matches!(ports.change(&words("127.0.0.1"), taken, 5), Err(PortError::Listen { .. })));
        assert!(matches!(ports.change(&words("999.1.1.1"), port, 5), Err(PortError::Address(_))));
        assert!(ports.change(&words("127.0.0.1 -999.1.1.1"), port, 5).is_ok());
        assert!(answers("127.0.0.1", port) && ports.number() == port);
        assert_eq!(ports.addresses().next(), Some(([127, 0, 0, 1], port).into()));
    }
}
