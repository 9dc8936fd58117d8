//! The TCP ports of a running server, and how CONFIG SET moves them.
//!
//! Two loops accept, each with a copy of every listener; the copies here serve to stop them all: a listening
//! socket that is shut down listens no more, whoever else holds it. So the old addresses are free before the new
//! ones are taken, which may overlap (`127.0.0.1` and `*`), and are taken back where that fails.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::config::Settings;
use crate::listener::Listener;
use crate::mailbox::{Mailbox, Message};
use crate::server::addresses;

#[derive(Debug, Default)]
pub(crate) struct Ports {
    listeners: Mutex<Vec<Listener>>,
    port: AtomicU16,
}

impl Ports {
    /// The first port in use; 0 where there is none.
    pub fn port(&self) -> u16 {
        self.port.load(Relaxed)
    }

    /// Takes note of what the loops listen on; Unix sockets stay what they are.
    pub fn note(&self, listeners: &[Listener]) -> io::Result<()> {
        let tcp = listeners.iter().filter(|listener| listener.local_addr().is_some());
        self.keep(tcp.map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?);
        Ok(())
    }

    fn keep(&self, listeners: Vec<Listener>) {
        let port = listeners.iter().find_map(Listener::local_addr).map_or(0, |address| address.port());
        self.port.store(port, Relaxed);
        *self.listeners.lock() = listeners;
    }

    /// Listens where `settings` say, and nowhere else; the loops in `accepting` accept. After an error all is as
    /// it was.
    pub fn move_to(&self, settings: &Settings, accepting: [&Mailbox; 2]) -> io::Result<()> {
        let wanted =
            addresses(&settings.bind, settings.port).map_err(|error| io::Error::other(error.to_string()))?;
        let old: Vec<SocketAddr> = self.listeners.lock().iter().filter_map(Listener::local_addr).collect();
        self.listeners.lock().iter().for_each(Listener::stop);
        let opened = open(&wanted, settings.tcp_backlog);
        let (listeners, outcome) = match opened {
            Ok(listeners) => (listeners, Ok(())),
            Err(error) => {
                let listeners = open(&old, settings.tcp_backlog).unwrap_or_else(|error| {
                    tracing::error!(%error, "the ports that were open cannot be opened again");
                    Vec::new()
                });
                (listeners, Err(error))
            }
        };
        for mailbox in accepting {
            let copies = listeners.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
            mailbox.send(Message::Listen(copies));
        }
        self.keep(listeners);
        outcome
    }
}

fn open(addresses: &[SocketAddr], backlog: i32) -> io::Result<Vec<Listener>> {
    addresses.iter().map(|address| Listener::tcp(*address, backlog)).collect()
}
