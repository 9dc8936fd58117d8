//! Who is in a room, over all nodes.
//!
//! ```text
//! thali:presence:<nsp>:<room>   hash    socket id → {"node","user"}
//! thali:node:<uid>              string  lives while the node does
//! ```
//!
//! A node writes a member once and then keeps only itself alive: 60 s, refreshed every 25 s. A member
//! counts while its node lives, so a node that was killed takes its members with it within a minute,
//! at one write per node instead of one per member. A client that crashed is removed by its node when
//! the heartbeat misses it. Readers clear what dead nodes left; rooms nobody touches for a while
//! expire. A node that finds its own key gone (a store without its data) writes all members again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use serde::{Deserialize, Serialize};

use crate::bus::{Pipe, PipeError};
use crate::hub::{Namespace, Selection, Socket};
use crate::jobs::JobRoom;

/// How long a node counts as alive without a sign.
const NODE_TTL: Duration = Duration::from_secs(60);
/// How often it gives one.
const REFRESH_EVERY: Duration = Duration::from_secs(25);
/// How long a room's hash stays when nobody writes to it.
const ROOM_TTL: Duration = Duration::from_secs(3_600);
/// Every how many refreshes all members are written again, so that their rooms stay.
const REWRITE_EVERY: u32 = 48;
/// Members that one answer lists.
pub(crate) const LISTED_MAX: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Entry {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// One member of a room.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Member {
    /// The socket's id.
    pub id: String,
    /// The `sub` of its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Who is in a room.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Presence {
    /// How many there are.
    pub count: usize,
    /// Who they are, at most 10,000.
    pub members: Vec<Member>,
}

/// Keeps this node's members in the store.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    node: String,
    pipe: Pipe,
}

impl Registry {
    pub(crate) fn new(node: String, pipe: Pipe) -> Self {
        Self { node, pipe }
    }

    /// A socket is in a room.
    pub(crate) fn enter(&self, socket: &Socket, room: &str) {
        let [set, expire] = self.entry(socket, room);
        log(self.pipe.send(set).and_then(|()| self.pipe.send(expire)));
    }

    /// It is no longer.
    pub(crate) fn leave(&self, socket: &Socket, room: &str) {
        let mut command = redis::cmd("HDEL");
        command.arg(room_key(socket.namespace().name(), room)).arg(&**socket.id());
        log(self.pipe.send(command));
    }

    fn entry(&self, socket: &Socket, room: &str) -> [Cmd; 2] {
        let user = socket.grants().and_then(|grants| grants.user.clone());
        let entry = Entry { node: self.node.clone(), user };
        let key = room_key(socket.namespace().name(), room);
        let mut set = redis::cmd("HSET");
        set.arg(&key).arg(&**socket.id()).arg(serde_json::to_string(&entry).expect("plain strings"));
        let mut expire = redis::cmd("EXPIRE");
        expire.arg(&key).arg(ROOM_TTL.as_secs());
        [set, expire]
    }

    /// Everyone in the room.
    pub(crate) async fn members(&self, namespace: &str, room: &str) -> Result<Presence, PipeError> {
        let key = room_key(namespace, room);
        let mut scan = redis::cmd("HGETALL");
        scan.arg(&key);
        let stored: HashMap<String, String> = read(self.pipe.ask(scan)?.await?)?;
        let entries: Vec<(String, Entry)> = stored
            .into_iter()
            .filter_map(|(id, json)| Some((id, serde_json::from_str(&json).ok()?)))
            .collect();
        let nodes: HashSet<&str> = entries.iter().map(|(_, entry)| entry.node.as_str()).collect();
        let mut asked = Vec::new();
        for node in nodes {
            let mut exists = redis::cmd("EXISTS");
            exists.arg(node_key(node));
            asked.push((node.to_owned(), self.pipe.ask(exists)?));
        }
        let mut alive = HashSet::new();
        for (node, answer) in asked {
            if read::<bool>(answer.await?)? || node == self.node {
                alive.insert(node);
            }
        }
        let (living, dead): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(_, entry)| alive.contains(&entry.node));
        if !dead.is_empty() {
            let mut command = redis::cmd("HDEL");
            command.arg(&key);
            for (id, _) in &dead {
                command.arg(id);
            }
            log(self.pipe.send(command));
        }
        let count = living.len();
        let mut members: Vec<Member> =
            living.into_iter().take(LISTED_MAX).map(|(id, entry)| Member { id, user: entry.user }).collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Presence { count, members })
    }

    /// Gives the node's sign of life; true if the store had none.
    pub(crate) async fn sign_of_life(&self) -> Result<bool, PipeError> {
        let mut command = redis::cmd("SET");
        command.arg(node_key(&self.node)).arg(1).arg("PX").arg(NODE_TTL.as_millis() as u64).arg("GET");
        Ok(self.pipe.ask(command)?.await? == Value::Nil)
    }

    /// Keeps the node alive until the task is dropped.
    pub(crate) async fn run(self, namespaces: Vec<Arc<Namespace>>) {
        let mut turn = 0u32;
        loop {
            tokio::time::sleep(REFRESH_EVERY).await;
            turn = turn.wrapping_add(1);
            match self.sign_of_life().await {
                Ok(forgotten) if forgotten || turn.is_multiple_of(REWRITE_EVERY) => {
                    log(self.rewrite(&namespaces).await);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "this node's sign of life did not reach the store"),
            }
        }
    }

    /// Writes every member again, at the pace of the store.
    async fn rewrite(&self, namespaces: &[Arc<Namespace>]) -> Result<(), PipeError> {
        for namespace in namespaces {
            for socket in namespace.select(&Selection::default()) {
                for room in socket.rooms() {
                    if is_kept(&room) && socket.is_in(&room) {
                        let [set, expire] = self.entry(&socket, &room);
                        self.pipe.send(set)?;
                        self.pipe.ask(expire)?.await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The node leaves: its members are gone now and not in a minute.
    pub(crate) async fn farewell(&self) {
        let mut command = redis::cmd("DEL");
        command.arg(node_key(&self.node));
        if let Ok(answer) = self.pipe.ask(command) {
            log(answer.await.map(drop));
        }
    }
}

/// Whether a room has presence; job rooms are crowds of one.
pub(crate) fn is_kept(room: &str) -> bool {
    JobRoom::parse(room).is_none()
}

fn room_key(namespace: &str, room: &str) -> String {
    format!("thali:presence:{namespace}:{room}")
}

fn node_key(node: &str) -> String {
    format!("thali:node:{node}")
}

fn read<T: redis::FromRedisValue>(value: Value) -> Result<T, PipeError> {
    redis::from_redis_value(value).map_err(|error| PipeError::Store(error.to_string()))
}

fn log(result: Result<(), PipeError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "presence was not written");
    }
}
