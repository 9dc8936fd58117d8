//! TLS handshakes under way. Only what comes out of them becomes a session and a client.
//!
//! Half of a handshake is arithmetic, about a millisecond with a key of RSA, during which the loop serves nobody. So a
//! turn of the loop takes `max-new-tls-connections-per-cycle` steps, and commands have their turn between them. Who
//! does not finish costs a bounded amount for a bounded time.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Interest, Token};

use super::EventLoop;
use crate::listener::{Accepted, Stream};
use crate::tls::{Progress, TlsStream};

/// How long a handshake may take; then its connection ends.
const WITHIN: Duration = Duration::from_secs(10);
/// Handshakes under way in one loop; the oldest ends for one more. Each holds 64 KiB at most (rustls's bound for what
/// belongs to one), and usually 8.
const LEN_MAX: usize = 1024;
/// Failed handshakes are told this often, with the count of the others: whoever fails must not fill the log.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The handshakes of a loop.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// By the token at the poll. Tokens rise, so the first is the oldest.
    under_way: BTreeMap<u64, Handshake>,
    /// Those that can go on, each once.
    ready: VecDeque<u64>,
    told_at: Option<Instant>,
    untold: u64,
}

#[derive(Debug)]
struct Handshake {
    stream: Box<TlsStream>,
    peer: String,
    local: String,
    is_local: bool,
    begun: Instant,
    is_ready: bool,
}

impl Handshakes {
    /// Whether one can go on without a further event.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn note_event(&mut self, token: u64) {
        if let Some(handshake) = self.under_way.get_mut(&token)
            && !std::mem::replace(&mut handshake.is_ready, true)
        {
            self.ready.push_back(token);
        }
    }

    fn tell(&mut self, peer: &str, local: &str, why: &str) {
        let now = Instant::now();
        if self.told_at.is_some_and(|told_at| now.duration_since(told_at) < TELL_EVERY) {
            self.untold += 1;
            return;
        }
        let others = std::mem::take(&mut self.untold);
        self.told_at = Some(now);
        tracing::warn!(others, "Error accepting a client connection: {why} (addr={peer} laddr={local})");
    }
}

impl EventLoop {
    /// Begins with a connection to the TLS port.
    pub(super) fn begin_handshake(&mut self, accepted: Accepted) {
        let Accepted { stream, peer, local, is_local, .. } = accepted;
        let Stream::Tcp(mut socket) = stream else { return };
        let shared = &self.core.shared;
        // The port was opened after this was set.
        let Some(tls) = shared.tls.load_full() else { return };
        // No word of why can be sent before the handshake.
        if shared.clients.len() + shared.handshakes_len.load(Relaxed) >= self.core.side.settings.maxclients {
            shared.stats_of(self.core.side.event_loop).rejected.add(1);
            return;
        }
        let token = self.next_session;
        self.next_session += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = socket.register(self.poll.registry(), Token(token as usize), both) {
            tracing::warn!(%error, "cannot watch a new connection");
            return;
        }
        let stream = match tls.begin(socket) {
            Ok(stream) => Box::new(stream),
            Err(error) => return self.handshakes.tell(&peer, &local, &error.to_string()),
        };
        let handshake = Handshake { stream, peer, local, is_local, begun: Instant::now(), is_ready: false };
        if self.handshakes.under_way.len() >= LEN_MAX
            && let Some(oldest) = self.handshakes.under_way.keys().next().copied()
        {
            self.end_handshake(oldest, "too many handshakes are under way, and this is the oldest");
        }
        self.core.shared.handshakes_len.fetch_add(1, Relaxed);
        self.handshakes.under_way.insert(token, handshake);
        self.handshakes.note_event(token);
    }

    /// Goes on with some of the handshakes that can.
    pub(super) fn shake_hands(&mut self) {
        for _ in 0..self.core.side.settings.tls.handshakes_per_cycle_max {
            let Some(token) = self.handshakes.ready.pop_front() else { return };
            let Some(handshake) = self.handshakes.under_way.get_mut(&token) else { continue };
            handshake.is_ready = false;
            match handshake.stream.shake_hands() {
                Ok(Progress::Waits) => {}
                Ok(Progress::Done) => {
                    let Some(mut handshake) = self.take_handshake(token) else { continue };
                    // A new registration tells anew what the socket has.
                    let _ = handshake.stream.socket_mut().deregister(self.poll.registry());
                    let Handshake { stream, peer, local, is_local, .. } = handshake;
                    self.welcome(Accepted {
                        stream: Stream::Tls(stream),
                        is_tls: true,
                        peer,
                        local,
                        is_local,
                    });
                }
                // Who leaves before the end of it has asked for nothing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => drop(self.take_handshake(token)),
                Err(error) => self.end_handshake(token, &explain(&error)),
            }
        }
    }

    /// Ends those that take too long.
    pub(super) fn end_late_handshakes(&mut self) {
        while let Some((&token, handshake)) = self.handshakes.under_way.first_key_value()
            && handshake.begun.elapsed() > WITHIN
        {
            self.end_handshake(token, &format!("the handshake was not done within {} s", WITHIN.as_secs()));
        }
    }

    fn end_handshake(&mut self, token: u64, why: &str) {
        if let Some(handshake) = self.take_handshake(token) {
            self.handshakes.tell(&handshake.peer, &handshake.local, why);
        }
    }

    fn take_handshake(&mut self, token: u64) -> Option<Handshake> {
        let handshake = self.handshakes.under_way.remove(&token)?;
        self.core.shared.handshakes_len.fetch_sub(1, Relaxed);
        Some(handshake)
    }
}

/// The error for the log; the commonest mistake by what to do about it.
fn explain(error: &std::io::Error) -> String {
    let of_tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "what came is no TLS; does the client connect to tls-port without TLS?".into()
        }
        _ => error.to_string(),
    }
}
