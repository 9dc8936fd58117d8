//! One client in one namespace.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use thali_client::{SubscribeError, Ticket};
use tokio::sync::oneshot;

use super::{ACKS_PER_SOCKET_MAX, Namespace, ROOMS_PER_SOCKET_MAX, Session};
use crate::auth::Grants;
use crate::packet::{self, Message};
use crate::transport::{Handshake, Link};

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// A client in a namespace.
pub struct Socket {
    id: Arc<str>,
    key: u64,
    namespace: Arc<Namespace>,
    link: Arc<Link>,
    handshake: Handshake,
    under_way: AtomicU32,
    /// By what it may find its session again; none where sessions are not kept.
    secret: Option<Arc<str>>,
    /// The place of the last event that it was sent.
    last_sent: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rooms: Vec<Arc<str>>,
    /// The place at which it joined each of its rooms; empty where sessions are not kept.
    joined: Vec<u64>,
    /// The place at which it came.
    since: u64,
    grants: Option<Arc<Grants>>,
    gone: bool,
    next_ack: u64,
    acks: HashMap<u64, oneshot::Sender<Reply>>,
}

impl State {
    fn admit(&self) -> Result<(), JoinError> {
        if self.gone {
            Err(JoinError::Gone)
        } else if self.rooms.len() >= ROOMS_PER_SOCKET_MAX {
            Err(JoinError::TooManyRooms)
        } else {
            Ok(())
        }
    }
}

/// What a client answered: the JSON array of its arguments, and their attachments.
pub type Reply = (String, Vec<Bytes>);

/// Why a socket is not in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It has left the namespace.
    Gone,
    /// It is in [`ROOMS_PER_SOCKET_MAX`] rooms.
    TooManyRooms,
    /// The bus does not take the subscription.
    Bus(SubscribeError),
}

impl Socket {
    /// A socket that is in no room and not yet reachable.
    pub fn new(
        id: Arc<str>,
        secret: Option<Arc<str>>,
        namespace: Arc<Namespace>,
        link: Arc<Link>,
        handshake: Handshake,
    ) -> Self {
        let since = namespace.recovery().map_or(0, super::Recovery::place);
        Self {
            id,
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            namespace,
            link,
            handshake,
            under_way: AtomicU32::new(0),
            secret,
            last_sent: AtomicU64::new(0),
            state: Mutex::new(State { since, ..State::default() }),
        }
    }

    /// By what it may find its session again.
    pub fn secret(&self) -> Option<&Arc<str>> {
        self.secret.as_ref()
    }

    /// Its public id, which is also the name of its own room.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Unique on this node.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Where it is.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The session that carries it.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// What was known when the session opened.
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// Queues a packet for the client.
    pub fn send(&self, message: &Message) -> bool {
        self.link.send(message)
    }

    /// Queues an event with its place.
    pub(super) fn send_event(&self, message: &Message, place: u64) {
        if place > 0 {
            self.last_sent.store(place, Ordering::Relaxed);
        }
        self.send(message);
    }

    /// Sends an event with one argument, given as JSON.
    pub fn emit(&self, event: &str, data: &str) -> bool {
        self.send(&packet::event(self.namespace.name(), event, data, Vec::new()))
    }

    /// Sends an event and hears the client's answer; none when the client goes away.
    pub fn ask(&self, array: &str, attachments: Vec<Bytes>) -> Option<oneshot::Receiver<Reply>> {
        let (answer, heard) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            if state.gone || state.acks.len() >= ACKS_PER_SOCKET_MAX {
                return None;
            }
            let id = state.next_ack;
            state.next_ack += 1;
            state.acks.insert(id, answer);
            id
        };
        self.send(&packet::event_array(self.namespace.name(), Some(id), array, attachments));
        Some(heard)
    }

    /// An acknowledgement came; unknown ids are ignored.
    pub fn answered(&self, id: u64, array: &str, attachments: Vec<Bytes>) {
        let waiting = self.state.lock().acks.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send((array.to_owned(), attachments));
        }
    }

    /// What its token allows.
    pub fn grants(&self) -> Option<Arc<Grants>> {
        self.state.lock().grants.clone()
    }

    /// Sets what its token allows.
    pub fn set_grants(&self, grants: Option<Arc<Grants>>) {
        self.state.lock().grants = grants;
    }

    /// Rooms it is in, its own not counted.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.state.lock().rooms.clone()
    }

    /// Whether it is in the room.
    pub fn is_in(&self, room: &str) -> bool {
        self.state.lock().rooms.iter().any(|one| &**one == room)
    }

    /// Joins a room; none if it was in it before.
    pub fn join(self: &Arc<Self>, room: &str) -> Result<Option<Ticket>, JoinError> {
        let mut state = self.state.lock();
        state.admit()?;
        if state.rooms.iter().any(|one| &**one == room) {
            return Ok(None);
        }
        let room: Arc<str> = Arc::from(room);
        // Before it joins: an event in between comes to it now, and may be asked for later.
        let place = self.namespace.recovery().map(super::Recovery::place);
        let ticket = self.namespace.join(self, &room).map_err(JoinError::Bus)?;
        state.rooms.push(room);
        state.joined.extend(place);
        Ok(Some(ticket))
    }

    /// Notes a room whose members are kept elsewhere. False if it was noted before.
    pub fn note_room(&self, room: &str) -> Result<bool, JoinError> {
        let mut state = self.state.lock();
        state.admit()?;
        if state.rooms.iter().any(|one| &**one == room) {
            return Ok(false);
        }
        state.rooms.push(Arc::from(room));
        state.joined.extend(self.namespace.recovery().map(super::Recovery::place));
        Ok(true)
    }

    /// Leaves a room. False if it was not in it.
    pub fn leave(&self, room: &str) -> bool {
        let mut state = self.state.lock();
        let Some(index) = state.rooms.iter().position(|one| &**one == room) else { return false };
        state.rooms.swap_remove(index);
        if index < state.joined.len() {
            state.joined.swap_remove(index);
        }
        self.namespace.leave(self, room, false);
        true
    }

    /// Leaves every room and the namespace for good. Gives the rooms; none if it had left before.
    pub fn retire(&self) -> Option<Vec<Arc<str>>> {
        self.end(false).map(|session| session.rooms.into_iter().map(|(room, _)| room).collect())
    }

    /// Leaves as [`Socket::retire`], but its rooms are held for it: what is given must be kept, or let go.
    pub fn drop_off(&self) -> Option<Session> {
        self.end(true)
    }

    fn end(&self, hold: bool) -> Option<Session> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.gone, true) {
            return None;
        }
        state.acks.clear();
        // Before it leaves: what is delivered from here on may be sent to it or not.
        let left = self.namespace.recovery().map_or(0, super::Recovery::place);
        let rooms = std::mem::take(&mut state.rooms);
        let joined = std::mem::take(&mut state.joined);
        for room in &rooms {
            self.namespace.leave(self, room, hold);
        }
        self.namespace.remove(self);
        let joined = joined.into_iter().chain(std::iter::repeat(0));
        Some(Session {
            id: self.id.clone(),
            rooms: rooms.into_iter().zip(joined).collect(),
            grants: state.grants.clone(),
            ends_at_ms: self.link.ends_at_ms(),
            since: state.since,
            last_sent: self.last_sent.load(Ordering::Relaxed),
            left,
        })
    }

    /// Goes on with the session of a client that dropped off. Under the history's lock, so nothing is
    /// delivered meanwhile.
    pub(super) fn take_up(self: &Arc<Self>, session: &Session, last_sent: u64) {
        let mut state = self.state.lock();
        for (room, joined) in &session.rooms {
            self.namespace.rejoin(self, room);
            state.rooms.push(room.clone());
            state.joined.push(*joined);
        }
        state.since = session.since;
        self.last_sent.store(last_sent, Ordering::Relaxed);
    }

    /// Counts a request that is under way; false when the socket has `max` already.
    pub fn begin(&self, max: u32) -> bool {
        if self.under_way.fetch_add(1, Ordering::Relaxed) < max {
            return true;
        }
        self.finish();
        false
    }

    /// A request that was counted has ended.
    pub fn finish(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The right to answer one event, once.
#[derive(Debug)]
pub struct Ack {
    socket: Arc<Socket>,
    id: u64,
}

impl Ack {
    /// The answer to the event that came with this id.
    pub fn new(socket: Arc<Socket>, id: u64) -> Self {
        Self { socket, id }
    }

    /// Sends the JSON array of the answer's arguments.
    pub fn send(self, array: &str, attachments: Vec<Bytes>) {
        let namespace = self.socket.namespace.name();
        self.socket.send(&packet::acknowledge(namespace, self.id, array, attachments));
    }

    /// Sends one argument.
    pub fn send_value(self, value: &impl serde::Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => self.send(&format!("[{json}]"), Vec::new()),
            Err(error) => tracing::error!(%error, "an acknowledgement could not be written"),
        }
    }
}
