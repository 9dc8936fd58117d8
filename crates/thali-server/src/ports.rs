//! The TCP ports, plain and TLS: opened at the start, and changed by CONFIG SET of `bind`, `port` and `tls-port` while
//! clients are served.
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
    /// Those in use, also while `bind` names no address.
    numbers: Numbers,
}

/// The two numbers of an address; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub plain: u16,
    pub tls: u16,
}

/// Who accepts: the first loop and the spare one, as a script can keep the first one busy.
pub(crate) const ACCEPTING_LOOPS: usize = 2;

/// Copies of the sockets for each loop that accepts.
pub(crate) type Copies = [Vec<Listener>; ACCEPTING_LOOPS];

#[derive(Debug)]
struct Port {
    /// With the port that it really has, where any was asked for.
    address: SocketAddr,
    is_tls: bool,
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
    /// Opens the ports of the start. A plain port of 0 is any that is free, or none where there is one for TLS.
    pub fn open(settings: &Settings) -> Result<(Self, Copies), PortError> {
        let mut wanted = Vec::new();
        if settings.port > 0 || settings.tls.port == 0 {
            wanted.extend(
                addresses(&settings.bind, settings.port)?.into_iter().map(|address| (address, false)),
            );
        }
        let tls = Numbers { plain: 0, tls: settings.tls.port };
        wanted.extend(wanted_addresses(&settings.bind, tls)?);
        let open = wanted.into_iter().map(|wanted| Port::open(wanted, settings.tcp_backlog));
        let open = open.collect::<Result<Vec<_>, _>>()?;
        let copies = copies(open.iter())?;
        let plain = open.iter().find(|port| !port.is_tls).map_or(settings.port, |port| port.address.port());
        Ok((Self { open, numbers: Numbers { plain, ..tls } }, copies))
    }

    /// Where clients connect without TLS.
    pub fn plain_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.open.iter().filter(|port| !port.is_tls).map(|port| port.address)
    }

    pub fn tls_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.open.iter().filter(|port| port.is_tls).map(|port| port.address)
    }

    /// The ports in use.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Listens on other addresses. A number of 0 closes the ports of its kind.
    pub fn change(&mut self, bind: &[String], numbers: Numbers, backlog: i32) -> Result<Copies, PortError> {
        let wanted = wanted_addresses(bind, numbers)?;
        let (mut kept, old): (Vec<Port>, Vec<Port>) =
            std::mem::take(&mut self.open).into_iter().partition(|port| wanted.contains(&port.wanted()));
        old.iter().for_each(|port| port.listener.stop_listening());
        let missing = wanted.iter().filter(|wanted| kept.iter().all(|port| port.wanted() != **wanted));
        let opened = missing.map(|wanted| Port::open(*wanted, backlog)).collect::<Result<Vec<_>, _>>();
        let opened = opened.and_then(|opened| Ok((copies(kept.iter().chain(&opened))?, opened)));
        match opened {
            Ok((copies, opened)) => {
                kept.extend(opened);
                (self.open, self.numbers) = (kept, numbers);
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
    fn open((address, is_tls): Wanted, backlog: i32) -> Result<Self, PortError> {
        let listener =
            Listener::tcp(address, backlog, is_tls).map_err(|error| PortError::Listen { address, error })?;
        Ok(Self { address: listener.local_addr().unwrap_or(address), is_tls, listener })
    }

    fn wanted(&self) -> Wanted {
        (self.address, self.is_tls)
    }
}

fn copies<'p>(ports: impl Iterator<Item = &'p Port> + Clone) -> Result<Copies, PortError> {
    let copy = || ports.clone().map(|port| port.listener.try_clone()).collect::<io::Result<Vec<_>>>();
    Ok([copy().map_err(PortError::Copy)?, copy().map_err(PortError::Copy)?])
}

/// An address, and whether connections to it begin with a handshake of TLS.
type Wanted = (SocketAddr, bool);

/// The addresses of `bind` with each port that there is.
fn wanted_addresses(bind: &[String], numbers: Numbers) -> Result<Vec<Wanted>, PortError> {
    let mut wanted = Vec::new();
    for (port, is_tls) in
        [(numbers.plain, false), (numbers.tls, true)].into_iter().filter(|(port, _)| *port > 0)
    {
        wanted.extend(addresses(bind, port)?.into_iter().map(|address| (address, is_tls)));
    }
    Ok(wanted)
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

    fn plain(port: u16) -> Numbers {
        Numbers { plain: port, tls: 0 }
    }

    fn answers(address: &str, port: u16) -> bool {
        TcpStream::connect((address, port)).is_ok()
    }

    #[test]
    fn addresses_that_overlap_follow_each_other_on_one_port() {
        let (mut ports, copies) = Ports::open(&settings("127.0.0.1")).unwrap();
        let port = ports.numbers().plain;
        assert!(answers("127.0.0.1", port) && !answers("127.0.0.2", port));
        ports.change(&words("0.0.0.0"), plain(port), 5).unwrap();
        assert!(answers("127.0.0.1", port) && answers("127.0.0.2", port));
        ports.change(&words("127.0.0.2"), plain(port), 5).unwrap();
        assert!(!answers("127.0.0.1", port) && answers("127.0.0.2", port));
        drop(copies);
        ports.change(&[], plain(port), 5).unwrap();
        assert!(!answers("127.0.0.2", port) && ports.numbers().plain == port);
        ports.change(&words("127.0.0.2"), plain(port), 5).unwrap();
        assert!(answers("127.0.0.2", port));
        ports.change(&words("127.0.0.2"), plain(0), 5).unwrap();
        assert!(!answers("127.0.0.2", port) && ports.numbers().plain == 0);
    }

    #[test]
    fn a_port_that_is_taken_changes_nothing() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        let (mut ports, _copies) = Ports::open(&settings("127.0.0.1")).unwrap();
        let port = ports.numbers().plain;
        assert!(matches!(ports.change(&words("127.0.0.1"), plain(taken), 5), Err(PortError::Listen { .. })));
        assert!(matches!(ports.change(&words("999.1.1.1"), plain(port), 5), Err(PortError::Address(_))));
        assert!(ports.change(&words("127.0.0.1 -999.1.1.1"), plain(port), 5).is_ok());
        assert!(answers("127.0.0.1", port) && ports.numbers().plain == port);
        assert_eq!(ports.plain_addresses().next(), Some(([127, 0, 0, 1], port).into()));
    }

    #[test]
    fn a_port_changes_from_plain_to_tls_and_back() {
        let (mut ports, _copies) = Ports::open(&settings("127.0.0.1")).unwrap();
        let port = ports.numbers().plain;
        let address = Some(([127, 0, 0, 1], port).into());
        ports.change(&words("127.0.0.1"), Numbers { plain: 0, tls: port }, 5).unwrap();
        assert_eq!((ports.plain_addresses().next(), ports.tls_addresses().next()), (None, address));
        let both = Numbers { plain: port, tls: port };
        assert!(matches!(ports.change(&words("127.0.0.1"), both, 5), Err(PortError::Listen { .. })));
        assert_eq!((ports.plain_addresses().next(), ports.tls_addresses().next()), (None, address));
        ports.change(&words("127.0.0.1"), plain(port), 5).unwrap();
        assert_eq!((ports.plain_addresses().next(), ports.tls_addresses().next()), (address, None));
    }
}
