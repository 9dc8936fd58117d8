//! Socket.IO on an Engine.IO session: CONNECT, DISCONNECT, events and acknowledgements.
//!
//! Owns: which sockets a session carries, and the packet that waits for its attachments. Refuses:
//! anything before a CONNECT, unknown namespaces, packets of the wrong shape. What an event means is
//! the [`App`]'s business.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;

use crate::auth::Grants;
use crate::codes::{CloseCode, RequestError};
use crate::engine::Frame;
use crate::hub::{Ack, Claim, Namespace, Session, Socket};
use crate::packet::{self, Assembler, Event, Incoming, Kind, PacketError, Pool};
use crate::transport::{Handler, Handshake, Link};

/// Bytes of attachments that one packet may gather, in multiples of the largest message.
const ATTACHMENT_PAYLOADS_MAX: usize = 4;

/// Bytes of attachments, over all sessions, that may wait for the rest of their packets.
const ATTACHMENTS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Ends that a client did not choose, or chose for its connection alone: it may come back to its session.
const MAY_COME_BACK: &[CloseCode] = &[
    CloseCode::TRANSPORT_CLOSED,
    CloseCode::PING_TIMEOUT,
    CloseCode::SLOW_CONSUMER,
    CloseCode::CLIENT_CLOSED,
];

/// What events mean.
///
/// The caller owes: `connect` first, `disconnected` last and once, events in order. The app owes:
/// not to wait, for it runs on the transport's task.
pub trait App: Send + Sync + 'static {
    /// Whether the client may join. `auth` is the JSON object it sent, if any.
    fn connect(&self, socket: &Arc<Socket>, auth: Option<&RawValue>) -> Result<(), RequestError>;
    /// Whether what such a session needs can be had again. Only asked where sessions are kept.
    fn is_recoverable(&self, session: &Session) -> bool;
    /// The client has its session again and knows it; `connected` comes before.
    fn recovered(&self, socket: &Arc<Socket>, session: &Session);
    /// The client has joined and knows it.
    fn connected(&self, socket: &Arc<Socket>, auth: Option<&RawValue>);
    /// The client sent an event.
    fn event(&self, socket: &Arc<Socket>, event: Event<'_>, attachments: Vec<Bytes>, ack: Option<Ack>);
    /// The socket is out of the namespace; these were its rooms.
    fn disconnected(&self, socket: &Arc<Socket>, rooms: &[Arc<str>]);
}

/// The Socket.IO layer of a node.
pub struct Peers<A: App> {
    app: Arc<A>,
    namespaces: Vec<Arc<Namespace>>,
    /// First characters of every socket id of this node; other nodes' messages find them by it.
    id_prefix: String,
    payload_bytes_max: usize,
    attachments: Arc<Pool>,
    received: AtomicU64,
}

/// One session.
#[derive(Debug)]
pub struct Peer {
    link: Arc<Link>,
    handshake: Handshake,
    assembler: Mutex<Assembler>,
    sockets: Mutex<Vec<Arc<Socket>>>,
    greeted: AtomicBool,
}

/// What a client that comes back shows, beside what the app asks for.
#[derive(serde::Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    pid: Cow<'a, str>,
    #[serde(borrow, default)]
    offset: Option<Cow<'a, str>>,
}

impl<'a> Asked<'a> {
    fn read(auth: Option<&'a RawValue>) -> Option<Self> {
        serde_json::from_str(auth?.get()).ok()
    }
}

/// What became of a session that was asked for.
enum Recovered {
    Yes,
    /// The client comes in as new.
    No,
    /// It does not come in.
    Refused(RequestError),
}

impl<A: App> Peers<A> {
    /// The layer over these namespaces.
    pub fn new(
        app: Arc<A>,
        namespaces: Vec<Arc<Namespace>>,
        id_prefix: String,
        payload_bytes_max: usize,
    ) -> Self {
        let attachments = Arc::new(Pool::new(ATTACHMENTS_BYTES_MAX));
        Self { app, namespaces, id_prefix, payload_bytes_max, attachments, received: AtomicU64::new(0) }
    }

    /// Packets that clients sent since the start.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn packet(&self, peer: &Peer, incoming: Incoming<'_>) -> Result<(), PacketError> {
        self.received.fetch_add(1, Ordering::Relaxed);
        let head = incoming.head;
        match head.kind {
            Kind::Connect => return self.connect(peer, head.namespace, head.payload),
            Kind::ConnectError => return Err(PacketError::UnknownType),
            Kind::Disconnect | Kind::Event | Kind::Ack => {}
        }
        let found = peer.sockets.lock().iter().find(|one| one.namespace().name() == head.namespace).cloned();
        let Some(socket) = found else {
            // A packet may cross the server's DISCONNECT; before any CONNECT it is a fault.
            return if peer.greeted.load(Ordering::Relaxed) { Ok(()) } else { Err(PacketError::OutOfPlace) };
        };
        match head.kind {
            Kind::Event => {
                let event = packet::event_args(head.payload)?;
                let ack = head.id.map(|id| Ack::new(socket.clone(), id));
                self.app.event(&socket, event, incoming.attachments, ack);
            }
            Kind::Ack => {
                let id = head.id.ok_or(PacketError::AckId)?;
                serde_json::from_str::<Vec<&RawValue>>(head.payload).map_err(|_| PacketError::Payload)?;
                socket.answered(id, head.payload, incoming.attachments);
            }
            _ => {
                peer.sockets.lock().retain(|one| one.key() != socket.key());
                self.retire(&socket);
            }
        }
        Ok(())
    }

    fn connect(&self, peer: &Peer, namespace: &str, payload: &str) -> Result<(), PacketError> {
        let auth: Option<&RawValue> = match payload {
            "" => None,
            json => Some(serde_json::from_str(json).map_err(|_| PacketError::Payload)?),
        };
        let Some(namespace) = self.namespaces.iter().find(|one| one.name() == namespace) else {
            peer.link.send(&packet::connect_error(namespace, "Invalid namespace", None));
            return Ok(());
        };
        if peer.sockets.lock().iter().any(|one| one.namespace().name() == namespace.name()) {
            return Err(PacketError::OutOfPlace);
        }
        let asked = namespace.recovery().and_then(|_| Asked::read(auth));
        let found = asked.as_ref().and_then(|asked| self.claim(namespace, asked));
        if let (Some(asked), Some(session)) = (&asked, found) {
            match self.recover(peer, namespace, auth, asked, session) {
                Recovered::Yes => return Ok(()),
                Recovered::Refused(error) => return self.refuse(peer, namespace, &error),
                Recovered::No => {}
            }
        }
        let secret = namespace.recovery().map(|_| Arc::from(uuid::Uuid::new_v4().simple().to_string()));
        let socket = Arc::new(self.socket(peer, namespace, self.new_id(), secret));
        if let Err(error) = self.app.connect(&socket, auth) {
            return self.refuse(peer, namespace, &error);
        }
        namespace.add(&socket);
        let pid = socket.secret().map(|secret| &**secret);
        peer.link.send(&packet::connected(namespace.name(), socket.id(), pid));
        self.admit(peer, &socket, auth, None);
        Ok(())
    }

    fn socket(
        &self,
        peer: &Peer,
        namespace: &Arc<Namespace>,
        id: Arc<str>,
        secret: Option<Arc<str>>,
    ) -> Socket {
        Socket::new(id, secret, namespace.clone(), peer.link.clone(), peer.handshake.clone())
    }

    fn refuse(&self, peer: &Peer, namespace: &Namespace, error: &RequestError) -> Result<(), PacketError> {
        let data = serde_json::to_string(&error.body()).ok();
        peer.link.send(&packet::connect_error(namespace.name(), &error.message, data.as_deref()));
        Ok(())
    }

    /// What follows once a socket is in its namespace and the client knows it.
    fn admit(&self, peer: &Peer, socket: &Arc<Socket>, auth: Option<&RawValue>, session: Option<&Session>) {
        peer.greeted.store(true, Ordering::Relaxed);
        peer.link.joined();
        peer.sockets.lock().push(socket.clone());
        if let (Some(recovery), Some(secret)) = (socket.namespace().recovery(), socket.secret()) {
            recovery.here(secret, socket);
        }
        self.app.connected(socket, auth);
        if let Some(session) = session {
            self.app.recovered(socket, session);
        }
        // The session may have ended meanwhile, after its sockets were collected.
        if let Some(code) = peer.link.closed() {
            self.end(socket, code);
        }
    }

    /// The session that a client asks for. Where its former connection still stands, that one ends now:
    /// the client knows better that it is dead.
    fn claim(&self, namespace: &Namespace, asked: &Asked<'_>) -> Option<Session> {
        match namespace.recovery()?.claim(&asked.pid)? {
            Claim::Away(session) => Some(session),
            Claim::Here(socket) => {
                let session = self.drop_off(&socket)?;
                socket.link().close(CloseCode::TRANSPORT_CLOSED);
                Some(session)
            }
        }
    }

    fn recover(
        &self,
        peer: &Peer,
        namespace: &Arc<Namespace>,
        auth: Option<&RawValue>,
        asked: &Asked<'_>,
        session: Session,
    ) -> Recovered {
        let secret: Arc<str> = Arc::from(&*asked.pid);
        let socket = Arc::new(self.socket(peer, namespace, session.id.clone(), Some(secret.clone())));
        if let Err(error) = self.app.connect(&socket, auth) {
            // It may come back with a better token.
            self.keep(namespace, secret, session);
            return Recovered::Refused(error);
        }
        let user = |grants: Option<&Arc<Grants>>| grants.and_then(|grants| grants.user.clone());
        if user(socket.grants().as_ref()) != user(session.grants.as_ref()) {
            self.keep(namespace, secret, session);
            return Recovered::No;
        }
        let greeting = packet::connected(namespace.name(), &session.id, Some(&secret));
        let whole = self.app.is_recoverable(&session)
            && namespace.restore(&socket, &session, asked.offset.as_deref(), &greeting);
        if !whole {
            namespace.let_go(&[session]);
            return Recovered::No;
        }
        self.admit(peer, &socket, auth, Some(&session));
        Recovered::Yes
    }

    fn keep(&self, namespace: &Namespace, secret: Arc<str>, session: Session) {
        if let Some(recovery) = namespace.recovery() {
            namespace.let_go(&recovery.keep(secret, session));
        }
    }

    /// Takes a socket out, with its session to be found again.
    fn drop_off(&self, socket: &Arc<Socket>) -> Option<Session> {
        let session = socket.drop_off()?;
        let rooms: Vec<Arc<str>> = session.rooms.iter().map(|(room, _)| room.clone()).collect();
        self.app.disconnected(socket, &rooms);
        Some(session)
    }

    /// The end of a socket whose transport ended.
    fn end(&self, socket: &Arc<Socket>, code: CloseCode) {
        match socket.secret() {
            Some(secret) if MAY_COME_BACK.contains(&code) => {
                if let Some(session) = self.drop_off(socket) {
                    self.keep(socket.namespace(), secret.clone(), session);
                }
            }
            _ => self.retire(socket),
        }
    }

    fn new_id(&self) -> Arc<str> {
        let tail = uuid::Uuid::new_v4().simple().to_string();
        Arc::from(format!("{}{}", self.id_prefix, &tail[..14]))
    }

    fn retire(&self, socket: &Arc<Socket>) {
        if let Some(rooms) = socket.retire() {
            if let (Some(recovery), Some(secret)) = (socket.namespace().recovery(), socket.secret()) {
                recovery.forget(secret);
            }
            self.app.disconnected(socket, &rooms);
        }
    }

    /// Takes a socket out of its namespace by order of a server; `close` ends its session too.
    pub fn disconnect(&self, socket: &Arc<Socket>, close: bool) {
        socket.send(&packet::disconnect(socket.namespace().name()));
        self.retire(socket);
        if close {
            socket.link().close(CloseCode::DISCONNECTED);
        }
    }
}

impl<A: App> Handler for Peers<A> {
    type Peer = Peer;

    fn open(&self, link: &Arc<Link>, handshake: Handshake) -> Peer {
        Peer {
            link: link.clone(),
            handshake,
            assembler: Mutex::new(Assembler::new(
                self.payload_bytes_max * ATTACHMENT_PAYLOADS_MAX,
                self.attachments.clone(),
            )),
            sockets: Mutex::default(),
            greeted: AtomicBool::new(false),
        }
    }

    fn text(&self, peer: &Peer, text: &str) -> Result<(), CloseCode> {
        let done = peer.assembler.lock().text(text, |incoming| self.packet(peer, incoming));
        done.map(drop).map_err(code_of)
    }

    fn binary(&self, peer: &Peer, data: Bytes) -> Result<(), CloseCode> {
        let done = peer.assembler.lock().binary(data, |incoming| self.packet(peer, incoming));
        done.map(drop).map_err(code_of)
    }

    fn closed(&self, peer: &Peer, code: CloseCode) {
        let sockets = std::mem::take(&mut *peer.sockets.lock());
        tracing::debug!(%code, sockets = sockets.len(), "session closed");
        for socket in &sockets {
            self.end(socket, code);
        }
    }

    fn farewell(&self) -> Option<Frame> {
        packet::disconnect("/").frames().next()
    }
}

fn code_of(error: PacketError) -> CloseCode {
    match error {
        PacketError::PoolFull => CloseCode::OVERLOADED,
        _ => CloseCode::INVALID_MESSAGE,
    }
}

impl<A: App> std::fmt::Debug for Peers<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}
