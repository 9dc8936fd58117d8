//! How connections come: accepted on two loops, dealt out to all, taken in or turned away.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::Token;
use thali_keyspace::SessionAddress;

use super::{EventLoop, LISTENERS};
use crate::acl::{Event, Place, Reason};
use crate::client_memory;
use crate::clients::ClientInfo;
use crate::listener::{Accepted, Listener, Stream};
use crate::mailbox::Message;
use crate::session::{Session, SessionState};

/// Connections taken in one turn.
const ACCEPTS_MAX: usize = 256;

impl EventLoop {
    pub(super) fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_MAX {
            // An event may speak of a port that CONFIG SET has closed.
            let Some(found) = self.listeners.get(listener) else { return };
            match found.accept() {
                Ok(accepted) => {
                    let to = self.next_free_loop();
                    if to == usize::from(self.core.side.event_loop) {
                        self.take_in(accepted);
                    } else {
                        self.core.shared.mailboxes[to].send(Message::Accepted(accepted));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.accept_again.remove(&listener);
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It listens no more: CONFIG SET has changed the ports, and the new ones are in the mail.
                Err(error) if error.kind() == ErrorKind::InvalidInput => return,
                Err(error) => {
                    // No event will speak of those that wait already: the timer asks again.
                    if self.accept_again.is_empty() {
                        tracing::warn!(%error, "cannot accept connections; trying again until it works");
                    }
                    self.accept_again.insert(listener);
                    return;
                }
            }
        }
        // More may wait; the edge-triggered poll will not say so again.
        self.core.shared.mailboxes[usize::from(self.core.side.event_loop)]
            .send(Message::AcceptMore(listener));
    }

    /// The next loop in turn that no script keeps busy; the spare one where all others are.
    fn next_free_loop(&self) -> usize {
        let loops = self.core.side.settings.loops;
        for _ in 0..loops {
            let next = self.core.shared.next_loop.fetch_add(1, Relaxed) % loops;
            if self.core.shared.busy.is_free(next) {
                return next;
            }
        }
        loops
    }

    /// Takes a new connection over from the loop that accepted it.
    pub(super) fn take_in(&mut self, accepted: Accepted) {
        self.core.shared.stats_of(self.core.side.event_loop).connections.add(1);
        if accepted.is_tls {
            self.begin_handshake(accepted);
        } else {
            self.welcome(accepted);
        }
    }

    /// Makes a session of a connection that may talk, or turns it away with a reason.
    pub(super) fn welcome(&mut self, accepted: Accepted) {
        let Accepted { mut stream, peer, local, is_local, .. } = accepted;
        let shared = Arc::clone(&self.core.shared);
        let stats = shared.stats_of(self.core.side.event_loop);
        let settings = &self.core.side.settings;
        let refusal = if shared.clients.len() >= settings.maxclients {
            Some("-ERR max number of clients reached\r\n")
        } else if !is_local && settings.protected_mode && shared.acl.lets_everybody_in() {
            Some(PROTECTED)
        } else {
            None
        };
        if let Some(text) = refusal {
            stats.rejected.add(1);
            let _ = stream.write(text.as_bytes());
            return;
        }
        let session = self.next_session;
        self.next_session += 1;
        if let Err(error) = stream.register(self.poll.registry(), Token(session as usize)) {
            tracing::warn!(%error, "cannot watch a new connection");
            return;
        }
        if let Some(tcp) = stream.tcp()
            && settings.tcp_keepalive_s > 0
        {
            let time = Duration::from_secs(settings.tcp_keepalive_s);
            let keepalive = socket2::TcpKeepalive::new().with_time(time);
            let _ = socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive);
        }
        let address = SessionAddress { event_loop: self.core.side.event_loop, session };
        let (id, now_ms) = (shared.clients.next_id(), self.core.side.now_ms);
        let mut info = ClientInfo::new(
            id,
            address,
            Arc::clone(shared.acl.default_user()),
            (peer, local),
            stream.fd(),
            now_ms,
        );
        info.is_unix = matches!(stream, Stream::Unix(_));
        let info = Arc::new(info);
        shared.clients.add(Arc::clone(&info));
        let mut state = SessionState::new(info, shared.acl.lets_everybody_in(), is_local);
        if let Stream::Tls(tls) = &stream
            && let Some(name) = tls.user_name()
        {
            self.log_in_by_certificate(&mut state, &name);
        }
        // What came behind a handshake may be read and decrypted already; no event will speak of it.
        let has_more = matches!(stream, Stream::Tls(_));
        let mut new = Session::new(stream, state);
        if has_more {
            new.is_ready = true;
            self.ready.push(session);
        }
        client_memory::count(&self.core, &new);
        self.sessions.insert(session, new);
    }

    /// `tls-auth-clients-user`: the certificate's name is the user. Where there is none such, the connection stays what
    /// it would be without. SOURCE: Redis 8.6.
    fn log_in_by_certificate(&self, state: &mut SessionState, name: &[u8]) {
        let (acl, now_ms) = (&self.core.shared.acl, self.core.side.now_ms);
        match acl.find_on(name) {
            Some(user) => state.log_in(user),
            None => {
                let client = state.info.line(now_ms);
                let (reason, place) = (Reason::Certificate, Place::TopLevel);
                let event = Event { reason, place, object: b"", user: name, client };
                acl.log.note(event, now_ms, self.core.side.settings.acllog_max_len);
            }
        }
    }

    /// Listens to one more socket.
    pub(super) fn listen(&mut self, mut listener: Listener) {
        let token = Token(LISTENERS + self.listeners.len());
        match listener.register(self.poll.registry(), token) {
            Ok(()) => self.listeners.push(listener),
            Err(error) => tracing::error!(%error, "cannot watch a socket"),
        }
    }

    /// Listens to other TCP ports; Unix sockets stay.
    pub(super) fn listen_to(&mut self, listeners: Vec<Listener>) {
        self.accept_again.clear();
        for listener in &mut self.listeners {
            // It was registered, so there is nothing that could fail but what is gone anyway.
            let _ = listener.deregister(self.poll.registry());
        }
        let unix = std::mem::take(&mut self.listeners).into_iter().filter(|listener| !listener.is_tcp());
        self.listeners = listeners.into_iter().chain(unix).collect();
        for (i, listener) in self.listeners.iter_mut().enumerate() {
            if let Err(error) = listener.register(self.poll.registry(), Token(LISTENERS + i)) {
                tracing::error!(%error, "cannot watch a port");
            }
        }
    }
}

const PROTECTED: &str = "-DENIED Thali is running in protected mode because no password is set and it was not \
told to listen on this address. Connect from the same machine, or set a password (requirepass) and bind, or \
set protected-mode no if only trusted machines can reach this port.\r\n";
