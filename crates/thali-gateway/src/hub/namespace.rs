//! A namespace: its sockets, its rooms, and delivery to them.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use thali_client::{SubscribeError, Ticket};

use bytes::Bytes;

use super::{Recovery, Session, Socket};
use crate::packet::{self, Message};

/// Locks among which rooms, and sockets, are spread.
const SHARDS: usize = 64;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Members = Map<u64, Arc<Socket>>;

/// A room stands as long as it has members, or clients that are away may come back to it.
#[derive(Default)]
struct Room {
    members: Members,
    held: usize,
}

/// Who must know which rooms have members here.
///
/// Both calls come under the room's lock, so for one room they arrive in the order of the joins and
/// leaves that caused them. They must not wait and must not touch the namespace.
pub trait Interest: Send + Sync + 'static {
    /// A socket joined the room. The ticket resolves when messages from other nodes reach it.
    fn joined(&self, namespace: &str, room: &str) -> Result<Ticket, SubscribeError>;
    /// The room's last member left.
    fn emptied(&self, namespace: &str, room: &str);
}

/// Which sockets: those in any of the rooms, all when none is named, less those in `except`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Rooms, socket ids included.
    pub rooms: Vec<String>,
    /// Rooms whose members are left out.
    pub except: Vec<String>,
}

/// One namespace on this node.
pub struct Namespace {
    name: String,
    interest: Arc<dyn Interest>,
    hasher: foldhash::fast::RandomState,
    rooms: Vec<Mutex<Map<Arc<str>, Room>>>,
    recovery: Option<Recovery>,
    sockets: Vec<Mutex<Map<Arc<str>, Arc<Socket>>>>,
    room_count: AtomicUsize,
    delivered: AtomicU64,
}

impl Namespace {
    /// An empty namespace. With `recovery`, clients that drop off find their session again.
    pub fn new(name: &str, interest: Arc<dyn Interest>, recovery: Option<Recovery>) -> Self {
        Self {
            name: name.to_owned(),
            interest,
            recovery,
            hasher: foldhash::fast::RandomState::default(),
            rooms: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sockets: (0..SHARDS).map(|_| Mutex::default()).collect(),
            room_count: AtomicUsize::new(0),
            delivered: AtomicU64::new(0),
        }
    }

    /// Its name, `/…`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rooms with members here, or with clients that may come back to them.
    pub fn room_count(&self) -> usize {
        self.room_count.load(Ordering::Relaxed)
    }

    /// Messages pushed to sockets since the start.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// The memory of clients that drop off, if it is on.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// The names of the rooms with members here.
    pub fn room_names(&self) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for shard in &self.rooms {
            let shard = shard.lock();
            let peopled = shard.iter().filter(|(_, room)| !room.members.is_empty());
            names.extend(peopled.map(|(name, _)| name.clone()));
        }
        names
    }

    /// The socket with this id, if it is here.
    pub fn socket(&self, id: &str) -> Option<Arc<Socket>> {
        self.sockets[self.shard(id)].lock().get(id).cloned()
    }

    /// Makes a socket reachable.
    pub fn add(&self, socket: &Arc<Socket>) {
        self.sockets[self.shard(socket.id())].lock().insert(socket.id().clone(), socket.clone());
    }

    /// Makes a socket unreachable by its id; its rooms are the socket's to leave.
    pub fn remove(&self, socket: &Socket) {
        self.sockets[self.shard(socket.id())].lock().remove(&**socket.id());
    }

    /// Puts a socket into a room. Called by [`Socket::join`] alone, under the socket's lock.
    pub(super) fn join(&self, socket: &Arc<Socket>, room: &Arc<str>) -> Result<Ticket, SubscribeError> {
        let mut rooms = self.rooms[self.shard(room)].lock();
        let ticket = self.interest.joined(&self.name, room)?;
        let standing = rooms.entry(room.clone()).or_insert_with(|| {
            self.room_count.fetch_add(1, Ordering::Relaxed);
            Room::default()
        });
        standing.members.insert(socket.key(), socket.clone());
        Ok(ticket)
    }

    /// Puts a socket back into a room that was held for it. A room that was not held is only noted by the
    /// socket, and kept elsewhere. Called by the socket alone, under its lock.
    pub(super) fn rejoin(&self, socket: &Arc<Socket>, name: &str) {
        self.change(name, |room| {
            room.held = room.held.saturating_sub(1);
            room.members.insert(socket.key(), socket.clone());
        });
    }

    /// Takes a socket out of a room, and holds the room for it if it may come back. Called by the socket
    /// alone, under its lock.
    pub(super) fn leave(&self, socket: &Socket, name: &str, hold: bool) {
        self.change(name, |room| {
            let was_in = room.members.remove(&socket.key()).is_some();
            room.held += usize::from(hold && was_in);
        });
    }

    /// A room that was held for a client that does not come back.
    fn release(&self, name: &str) {
        self.change(name, |room| room.held = room.held.saturating_sub(1));
    }

    /// Changes a room, which ends where nothing is left of it.
    fn change(&self, name: &str, change: impl FnOnce(&mut Room)) {
        let mut rooms = self.rooms[self.shard(name)].lock();
        let Some(room) = rooms.get_mut(name) else { return };
        change(room);
        if room.members.is_empty() && room.held == 0 {
            rooms.remove(name);
            self.room_count.fetch_sub(1, Ordering::Relaxed);
            self.interest.emptied(&self.name, name);
        }
    }

    /// Lets go what was held for clients that do not come back.
    pub fn let_go(&self, sessions: &[Session]) {
        for (room, _) in sessions.iter().flat_map(|session| &session.rooms) {
            self.release(room);
        }
    }

    /// Gives a client its id, its rooms and what it missed, with nothing lost or told twice between that
    /// and what comes later. `greet` is said first. False if it cannot be given whole; then nothing happens.
    pub fn restore(
        &self,
        socket: &Arc<Socket>,
        session: &Session,
        shown: Option<&str>,
        greet: &Message,
    ) -> bool {
        let Some(recovery) = &self.recovery else { return false };
        let history = recovery.stand_still();
        let Some((missed, last)) = recovery.missed(&history, session, shown) else { return false };
        self.add(socket);
        socket.send(greet);
        for message in &missed {
            socket.send(message);
        }
        socket.take_up(session, last);
        true
    }

    /// Runs `then` if the room does not stand, and keeps it so meanwhile.
    pub fn while_empty(&self, room: &str, then: impl FnOnce()) {
        let rooms = self.rooms[self.shard(room)].lock();
        if !rooms.contains_key(room) {
            then();
        }
    }

    /// Delivers an event, a JSON array with its name first, to the members of one room.
    pub fn deliver_to_room(&self, room: &str, array: &str, attachments: Vec<Bytes>) {
        let select = || Selection { rooms: vec![room.to_owned()], except: Vec::new() };
        self.in_order(array, attachments, select, |place, message| {
            let rooms = self.rooms[self.shard(room)].lock();
            let Some(room) = rooms.get(room) else { return false };
            for socket in room.members.values() {
                socket.send_event(message, place);
            }
            self.delivered.fetch_add(room.members.len() as u64, Ordering::Relaxed);
            true
        });
    }

    /// Delivers an event to the one socket with this id.
    pub fn deliver_to_socket(&self, id: &str, array: &str, attachments: Vec<Bytes>) {
        let select = || Selection { rooms: vec![id.to_owned()], except: Vec::new() };
        self.in_order(array, attachments, select, |place, message| {
            if let Some(socket) = self.socket(id) {
                socket.send_event(message, place);
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            true
        });
    }

    /// Delivers an event to every selected socket, once each.
    pub fn deliver(&self, selection: &Selection, array: &str, attachments: Vec<Bytes>) {
        self.in_order(
            array,
            attachments,
            || selection.clone(),
            |place, message| {
                let mut count = 0;
                self.each(selection, &mut |socket| {
                    socket.send_event(message, place);
                    count += 1;
                });
                self.delivered.fetch_add(count, Ordering::Relaxed);
                true
            },
        );
    }

    /// Encodes an event once, with its place where clients may ask for it again; `push` tells whether any
    /// may.
    fn in_order(
        &self,
        array: &str,
        attachments: Vec<Bytes>,
        selection: impl FnOnce() -> Selection,
        push: impl FnOnce(u64, &Message) -> bool,
    ) {
        match &self.recovery {
            None => {
                push(0, &packet::event_array(&self.name, None, array, attachments));
            }
            Some(recovery) => recovery.deliver(array, selection, |place, array| {
                let message = packet::event_array(&self.name, None, array, attachments);
                let keep = push(place, &message);
                (message, keep)
            }),
        }
    }

    /// The selected sockets.
    pub fn select(&self, selection: &Selection) -> Vec<Arc<Socket>> {
        let mut sockets = Vec::new();
        self.each(selection, &mut |socket| sockets.push(socket.clone()));
        sockets
    }

    /// Visits under a shard's lock: `visit` may use the link and nothing else.
    fn each(&self, selection: &Selection, visit: &mut dyn FnMut(&Arc<Socket>)) {
        let mut seen: HashSet<u64> = HashSet::new();
        for room in &selection.except {
            self.members(room, &mut |socket| {
                seen.insert(socket.key());
            });
        }
        if selection.rooms.is_empty() {
            for shard in &self.sockets {
                shard.lock().values().filter(|socket| !seen.contains(&socket.key())).for_each(&mut *visit);
            }
            return;
        }
        for room in &selection.rooms {
            self.members(room, &mut |socket| {
                if seen.insert(socket.key()) {
                    visit(socket);
                }
            });
        }
    }

    /// Visits a room's members, and the socket that has the name as its id.
    fn members(&self, room: &str, visit: &mut dyn FnMut(&Arc<Socket>)) {
        if let Some(room) = self.rooms[self.shard(room)].lock().get(room) {
            room.members.values().for_each(&mut *visit);
        }
        if let Some(socket) = self.sockets[self.shard(room)].lock().get(room) {
            visit(socket);
        }
    }

    fn shard(&self, name: &str) -> usize {
        usize::try_from(self.hasher.hash_one(name) >> 8).unwrap_or(0) % SHARDS
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}
