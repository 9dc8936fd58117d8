//! A namespace: its sockets, its rooms, and delivery to them.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use thali_client::{SubscribeError, Ticket};

use super::Socket;
use crate::packet::Message;

/// Locks among which rooms, and sockets, are spread.
const SHARDS: usize = 64;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Members = Map<u64, Arc<Socket>>;

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
    rooms: Vec<Mutex<Map<Arc<str>, Members>>>,
    sockets: Vec<Mutex<Map<Arc<str>, Arc<Socket>>>>,
    room_count: AtomicUsize,
    delivered: AtomicU64,
}

impl Namespace {
    /// An empty namespace.
    pub fn new(name: &str, interest: Arc<dyn Interest>) -> Self {
        Self {
            name: name.to_owned(),
            interest,
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

    /// Rooms with members here.
    pub fn room_count(&self) -> usize {
        self.room_count.load(Ordering::Relaxed)
    }

    /// Messages pushed to sockets since the start.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// The names of the rooms with members here.
    pub fn room_names(&self) -> Vec<Arc<str>> {
        self.rooms.iter().flat_map(|shard| shard.lock().keys().cloned().collect::<Vec<_>>()).collect()
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
        let members = rooms.entry(room.clone()).or_insert_with(|| {
            self.room_count.fetch_add(1, Ordering::Relaxed);
            Members::default()
        });
        members.insert(socket.key(), socket.clone());
        Ok(ticket)
    }

    /// Takes a socket out of a room. Called by the socket alone, under its lock.
    pub(super) fn leave(&self, socket: &Socket, room: &str) {
        let mut rooms = self.rooms[self.shard(room)].lock();
        let Some(members) = rooms.get_mut(room) else { return };
        members.remove(&socket.key());
        if members.is_empty() {
            rooms.remove(room);
            self.room_count.fetch_sub(1, Ordering::Relaxed);
            self.interest.emptied(&self.name, room);
        }
    }

    /// Runs `then` if the room has no members, and keeps it so meanwhile.
    pub fn while_empty(&self, room: &str, then: impl FnOnce()) {
        let rooms = self.rooms[self.shard(room)].lock();
        if !rooms.contains_key(room) {
            then();
        }
    }

    /// Delivers to the members of one room. Gives how many there were.
    pub fn deliver_to_room(&self, room: &str, message: &Message) -> usize {
        let rooms = self.rooms[self.shard(room)].lock();
        let Some(members) = rooms.get(room) else { return 0 };
        for socket in members.values() {
            socket.send(message);
        }
        self.delivered.fetch_add(members.len() as u64, Ordering::Relaxed);
        members.len()
    }

    /// Delivers to every selected socket, once each. Gives how many there were.
    pub fn deliver(&self, selection: &Selection, message: &Message) -> usize {
        let mut count = 0;
        self.each(selection, &mut |socket| {
            socket.send(message);
            count += 1;
        });
        self.delivered.fetch_add(count as u64, Ordering::Relaxed);
        count
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
        if let Some(members) = self.rooms[self.shard(room)].lock().get(room) {
            members.values().for_each(&mut *visit);
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
