//! Socket.IO on an Engine.IO session: CONNECT, DISCONNECT, events and acknowledgements.
//!
//! Owns: which sockets a session carries, and the packet that waits for its attachments. Refuses:
//! anything before a CONNECT, unknown namespaces, packets of the wrong shape. What an event means is
//! the [`App`]'s business.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;

use crate::codes::{CloseCode, RequestError};
use crate::engine::Frame;
use crate::hub::{Ack, Namespace, Socket};
use crate::packet::{self, Assembler, Event, Incoming, Kind, PacketError};
use crate::transport::{Handler, Handshake, Link};

/// Bytes of attachments that one packet may gather, in multiples of the largest message.
const ATTACHMENT_PAYLOADS_MAX: usize = 4;

/// What events mean.
///
/// The caller owes: `connect` first, `disconnected` last and once, events in order. The app owes:
/// not to wait, for it runs on the transport's task.
pub trait App: Send + Sync + 'static {
    /// Whether the client may join. `auth` is the JSON object it sent, if any.
    fn connect(&self, socket: &Arc<Socket>, auth: Option<&RawValue>) -> Result<(), RequestError>;
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

impl<A: App> Peers<A> {
    /// The layer over these namespaces.
    pub fn new(
        app: Arc<A>,
        namespaces: Vec<Arc<Namespace>>,
        id_prefix: String,
        payload_bytes_max: usize,
    ) -> Self {
        Self { app, namespaces, id_prefix, payload_bytes_max, received: AtomicU64::new(0) }
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
        let socket = Socket::new(self.new_id(), namespace.clone(), peer.link.clone(), peer.handshake.clone());
        let socket = Arc::new(socket);
        if let Err(error) = self.app.connect(&socket, auth) {
            let data = serde_json::to_string(&error.body()).ok();
            peer.link.send(&packet::connect_error(namespace.name(), &error.message, data.as_deref()));
            return Ok(());
        }
        peer.greeted.store(true, Ordering::Relaxed);
        peer.link.joined();
        namespace.add(&socket);
        peer.sockets.lock().push(socket.clone());
        peer.link.send(&packet::connected(namespace.name(), socket.id()));
        self.app.connected(&socket, auth);
        // The session may have ended meanwhile, after its sockets were collected.
        if peer.link.closed().is_some() {
            self.retire(&socket);
        }
        Ok(())
    }

    fn new_id(&self) -> Arc<str> {
        let tail = uuid::Uuid::new_v4().simple().to_string();
        Arc::from(format!("{}{}", self.id_prefix, &tail[..14]))
    }

    fn retire(&self, socket: &Arc<Socket>) {
        if let Some(rooms) = socket.retire() {
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
            assembler: Mutex::new(Assembler::new(self.payload_bytes_max * ATTACHMENT_PAYLOADS_MAX)),
            sockets: Mutex::default(),
            greeted: AtomicBool::new(false),
        }
    }

    fn text(&self, peer: &Peer, text: &str) -> Result<(), CloseCode> {
        let done = peer.assembler.lock().text(text, |incoming| self.packet(peer, incoming));
        done.map(drop).map_err(|_| CloseCode::INVALID_MESSAGE)
    }

    fn binary(&self, peer: &Peer, data: Bytes) -> Result<(), CloseCode> {
        let done = peer.assembler.lock().binary(data, |incoming| self.packet(peer, incoming));
        done.map(drop).map_err(|_| CloseCode::INVALID_MESSAGE)
    }

    fn closed(&self, peer: &Peer, code: CloseCode) {
        let sockets = std::mem::take(&mut *peer.sockets.lock());
        tracing::debug!(%code, sockets = sockets.len(), "session closed");
        for socket in &sockets {
            self.retire(socket);
        }
    }

    fn farewell(&self) -> Option<Frame> {
        packet::disconnect("/").frames().next()
    }
}

impl<A: App> std::fmt::Debug for Peers<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}
