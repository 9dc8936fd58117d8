//! The life of one Engine.IO session.
//!
//! Owns: which transport carries it, its heartbeat, who may poll and post, and when it ends. Refuses:
//! packets out of place, overlapping requests, silence. Packets and the time go in; what the layer
//! above must hear, and the code under which the session ends, come out. Nothing here waits.
//!
//! The server pings every `ping_interval`; a client that does not answer within `ping_timeout` is gone.

use bytes::Bytes;

use super::Packet;
use crate::codes::CloseCode;

/// Times of the heartbeat and of the first join, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// From one pong to the next ping.
    pub ping_interval_ms: u64,
    /// From a ping to the pong that answers it.
    pub ping_timeout_ms: u64,
    /// From the handshake to the first namespace.
    pub connect_timeout_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self { ping_interval_ms: 25_000, ping_timeout_ms: 20_000, connect_timeout_ms: 45_000 }
    }
}

/// What carries the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// HTTP long-polling.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// What the layer above hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing for it.
    None,
    /// A text message.
    Message(&'a str),
    /// A binary message.
    Binary(Bytes),
}

/// What time asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing before this instant.
    Until(u64),
    /// Send a ping and ask again at this instant.
    Ping(u64),
    /// The session is over.
    Close(CloseCode),
}

/// What a poll may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollTurn {
    /// Wait for frames.
    Wait,
    /// Answer with a noop at once: the client is moving to a WebSocket.
    Release,
}

/// What a packet on a WebSocket that wants to take over asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Answer `3probe` and let a waiting poll go.
    Answer,
    /// The WebSocket carries the session from now on.
    Taken,
    /// Close the WebSocket; the session goes on by polling.
    Refuse,
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    /// A ping is due then.
    Resting { ping_at_ms: u64 },
    /// A pong must come by then.
    Asked { pong_by_ms: u64 },
}

/// The state machine. Times are milliseconds of any one clock.
#[derive(Debug)]
pub struct Session {
    timings: Timings,
    transport: TransportKind,
    probing: bool,
    polling: bool,
    posting: bool,
    heartbeat: Heartbeat,
    /// A limit set from above, and the code it ends the session with.
    limit: Option<(u64, CloseCode)>,
}

impl Session {
    /// A session whose handshake is sent now.
    pub fn open(transport: TransportKind, timings: Timings, now_ms: u64) -> Self {
        Self {
            timings,
            transport,
            probing: false,
            polling: false,
            posting: false,
            heartbeat: Heartbeat::Resting { ping_at_ms: now_ms + timings.ping_interval_ms },
            limit: Some((now_ms + timings.connect_timeout_ms, CloseCode::CONNECT_TIMEOUT)),
        }
    }

    /// What carries the session now.
    pub fn transport(&self) -> TransportKind {
        self.transport
    }

    /// Sets or lifts the instant at which the session must end.
    pub fn set_limit(&mut self, limit: Option<(u64, CloseCode)>) {
        self.limit = limit;
    }

    /// The limit in force.
    pub fn limit(&self) -> Option<(u64, CloseCode)> {
        self.limit
    }

    /// A packet on the transport that carries the session.
    pub fn receive<'a>(&mut self, packet: Packet<'a>, now_ms: u64) -> Result<Event<'a>, CloseCode> {
        match packet {
            Packet::Message(text) => Ok(Event::Message(text)),
            Packet::Binary(data) => Ok(Event::Binary(data)),
            Packet::Pong(_) => {
                let ping_at_ms = now_ms + self.timings.ping_interval_ms;
                self.heartbeat = Heartbeat::Resting { ping_at_ms };
                Ok(Event::None)
            }
            Packet::Close => Err(CloseCode::CLIENT_CLOSED),
            Packet::Noop => Ok(Event::None),
            Packet::Open(_) | Packet::Ping(_) | Packet::Upgrade => Err(CloseCode::INVALID_PACKET),
        }
    }

    /// What is due at this time.
    pub fn expire(&mut self, now_ms: u64) -> Expiry {
        if let Some((at_ms, code)) = self.limit
            && now_ms >= at_ms
        {
            return Expiry::Close(code);
        }
        let (next_ms, ping) = match self.heartbeat {
            Heartbeat::Asked { pong_by_ms } if now_ms >= pong_by_ms => {
                return Expiry::Close(CloseCode::PING_TIMEOUT);
            }
            Heartbeat::Asked { pong_by_ms } => (pong_by_ms, false),
            Heartbeat::Resting { ping_at_ms } if now_ms >= ping_at_ms => {
                // Counted from when the ping was due, so that a late look does not lengthen it.
                let pong_by_ms = ping_at_ms + self.timings.ping_timeout_ms;
                if now_ms >= pong_by_ms {
                    return Expiry::Close(CloseCode::PING_TIMEOUT);
                }
                self.heartbeat = Heartbeat::Asked { pong_by_ms };
                (pong_by_ms, true)
            }
            Heartbeat::Resting { ping_at_ms } => (ping_at_ms, false),
        };
        let next_ms = self.limit.map_or(next_ms, |(at_ms, _)| next_ms.min(at_ms));
        if ping { Expiry::Ping(next_ms) } else { Expiry::Until(next_ms) }
    }

    /// A poll arrives. One at a time.
    pub fn poll_begin(&mut self) -> Result<PollTurn, CloseCode> {
        if std::mem::replace(&mut self.polling, true) {
            return Err(CloseCode::POLLING_OVERLAP);
        }
        Ok(self.poll_turn())
    }

    /// What the poll under way may do now.
    pub fn poll_turn(&self) -> PollTurn {
        if self.probing || self.transport == TransportKind::WebSocket {
            PollTurn::Release
        } else {
            PollTurn::Wait
        }
    }

    /// The poll was answered.
    pub fn poll_end(&mut self) {
        self.polling = false;
    }

    /// Whether the client polls, and is between two polls.
    pub fn awaits_poll(&self) -> bool {
        self.transport == TransportKind::Polling && !self.polling
    }

    /// A post arrives. One at a time.
    pub fn post_begin(&mut self) -> Result<(), CloseCode> {
        if std::mem::replace(&mut self.posting, true) {
            return Err(CloseCode::POLLING_OVERLAP);
        }
        Ok(())
    }

    /// The post was handled.
    pub fn post_end(&mut self) {
        self.posting = false;
    }

    /// A WebSocket wants to take over. False when it may not.
    pub fn probe_begin(&self) -> bool {
        self.transport == TransportKind::Polling && !self.probing
    }

    /// A packet on a WebSocket that wants to take over.
    pub fn probe(&mut self, packet: &Packet<'_>) -> Probe {
        match packet {
            Packet::Ping("probe") if self.transport == TransportKind::Polling => {
                self.probing = true;
                Probe::Answer
            }
            Packet::Upgrade if self.transport == TransportKind::Polling && self.probing => {
                self.probing = false;
                self.transport = TransportKind::WebSocket;
                Probe::Taken
            }
            _ => Probe::Refuse,
        }
    }

    /// The WebSocket that wanted to take over is gone.
    pub fn probe_end(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMINGS: Timings =
        Timings { ping_interval_ms: 300, ping_timeout_ms: 200, connect_timeout_ms: 1000 };

    fn session(transport: TransportKind) -> Session {
        let mut session = Session::open(transport, TIMINGS, 0);
        session.set_limit(None);
        session
    }

    #[test]
    fn silence_after_a_ping_ends_the_session() {
        let mut session = session(TransportKind::WebSocket);
        assert_eq!(session.expire(299), Expiry::Until(300));
        assert_eq!(session.expire(301), Expiry::Ping(500));
        assert_eq!(session.expire(499), Expiry::Until(500));
        assert_eq!(session.expire(500), Expiry::Close(CloseCode::PING_TIMEOUT));
    }

    #[test]
    fn a_pong_starts_the_next_interval() {
        let mut session = session(TransportKind::WebSocket);
        assert_eq!(session.expire(300), Expiry::Ping(500));
        assert_eq!(session.receive(Packet::Pong(""), 350), Ok(Event::None));
        assert_eq!(session.expire(600), Expiry::Until(650));
    }

    #[test]
    fn who_joins_nothing_is_closed() {
        let mut session = Session::open(TransportKind::Polling, TIMINGS, 0);
        session.receive(Packet::Pong(""), 900).unwrap();
        assert_eq!(session.expire(1000), Expiry::Close(CloseCode::CONNECT_TIMEOUT));
    }

    #[test]
    fn polls_and_posts_do_not_overlap() {
        let mut session = session(TransportKind::Polling);
        assert_eq!(session.poll_begin(), Ok(PollTurn::Wait));
        assert_eq!(session.poll_begin(), Err(CloseCode::POLLING_OVERLAP));
        session.poll_end();
        assert_eq!(session.poll_begin(), Ok(PollTurn::Wait));
        assert_eq!(session.post_begin(), Ok(()), "a post may run beside a poll");
        assert_eq!(session.post_begin(), Err(CloseCode::POLLING_OVERLAP));
    }

    #[test]
    fn an_upgrade_needs_its_probe() {
        let mut session = session(TransportKind::Polling);
        assert!(session.probe_begin());
        assert_eq!(session.probe(&Packet::Upgrade), Probe::Refuse);
        assert_eq!(session.probe(&Packet::Ping("probe")), Probe::Answer);
        assert_eq!(session.poll_turn(), PollTurn::Release);
        assert_eq!(session.probe(&Packet::Upgrade), Probe::Taken);
        assert_eq!(session.transport(), TransportKind::WebSocket);
        assert!(!session.probe_begin(), "a second WebSocket may not take over");
    }

    #[test]
    fn packets_out_of_place_end_the_session() {
        let mut session = session(TransportKind::WebSocket);
        for packet in [Packet::Ping(""), Packet::Open("{}"), Packet::Upgrade] {
            assert_eq!(session.receive(packet, 0), Err(CloseCode::INVALID_PACKET));
        }
        assert_eq!(session.receive(Packet::Close, 0), Err(CloseCode::CLIENT_CLOSED));
    }
}
