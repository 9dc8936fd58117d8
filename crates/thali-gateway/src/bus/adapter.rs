//! One node's end of the bus: what it listens to, what it sends, and what it does with what it hears.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::Msg;
use thali_client::{PubSub, PubSubEvent, SubscribeError, Ticket, Topic};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Broadcast, Pipe, PipeError, Requests, decode_broadcast, encode_broadcast};
use crate::codes::{ErrorCode, RequestError};
use crate::hub::{Interest, Namespace, Selection};
use crate::packet;

/// First part of every channel, as Node's adapter has it by default.
const KEY: &str = "socket.io";
/// Channels by which anyone reaches a room with plain JSON.
const PLAIN_PREFIX: &str = "room:";
/// The event under which plain JSON arrives.
const PLAIN_EVENT: &str = "message";
/// How long a room without members stays subscribed.
const LINGER: Duration = Duration::from_secs(1);
/// How often lingering rooms are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Rooms that may linger; past it they are left at once.
const LINGERING_MAX: usize = 100_000;

/// What is known of the bus at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusState {
    /// Whether messages from other nodes arrive now.
    pub up: bool,
    /// How often messages may have been missed since the start.
    pub gaps: u64,
    /// Broadcasts and plain messages heard from elsewhere.
    pub heard: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
}

/// One node's end of the bus.
pub struct Bus {
    uid: String,
    pipe: Pipe,
    pubsub: PubSub,
    lingering: Mutex<VecDeque<Lingering>>,
    up: AtomicBool,
    gaps: AtomicU64,
    heard: AtomicU64,
    unreadable: AtomicU64,
}

struct Lingering {
    until: Instant,
    namespace: String,
    room: String,
}

impl Bus {
    /// A node that other nodes know by `uid`. Nothing is heard before [`Bus::listen`].
    pub fn new(uid: String, pipe: Pipe, pubsub: PubSub) -> Self {
        Self {
            uid,
            pipe,
            pubsub,
            lingering: Mutex::default(),
            up: AtomicBool::new(false),
            gaps: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
        }
    }

    /// How it is.
    pub fn state(&self) -> BusState {
        BusState {
            up: self.up.load(Ordering::Relaxed),
            gaps: self.gaps.load(Ordering::Relaxed),
            heard: self.heard.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
        }
    }

    /// Sends an event to the selected sockets of every other node. The future resolves when the
    /// store has it.
    pub fn publish(
        &self,
        namespace: &str,
        selection: &Selection,
        array: &str,
        attachments: &[Bytes],
    ) -> Result<impl Future<Output = Result<redis::Value, PipeError>> + Send + use<>, RequestError> {
        let data =
            encode_broadcast(&self.uid, namespace, selection, array, attachments).map_err(|error| {
                RequestError::new(ErrorCode::BAD_REQUEST, format!("the data cannot be sent: {error}"))
            })?;
        let mut channel = broadcast_channel(namespace);
        if let [room] = selection.rooms.as_slice() {
            channel.push_str(room);
            channel.push('#');
        }
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(data);
        Ok(self.pipe.ask(command)?)
    }

    /// Listens for these namespaces until the task is dropped.
    pub(crate) async fn listen(
        self: Arc<Self>,
        mut events: mpsc::Receiver<PubSubEvent>,
        namespaces: Vec<Arc<Namespace>>,
        requests: Requests,
    ) {
        for namespace in &namespaces {
            // The queue is empty at the start, so there is room for these few.
            let _ = self.pubsub.subscribe(self.standing_topics(namespace.name()));
        }
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(PubSubEvent::Message(message)) => self.hear(&message, &namespaces, &requests),
                    Some(PubSubEvent::Up { gap }) => {
                        if gap {
                            self.gaps.fetch_add(1, Ordering::Relaxed);
                            for recovery in namespaces.iter().filter_map(|one| one.recovery()) {
                                recovery.note_gap();
                            }
                            // The other connection notices its own loss by the first command that
                            // fails; that had better be this one.
                            let _ = self.pipe.send(redis::cmd("PING"));
                        }
                        self.up.store(true, Ordering::Relaxed);
                    }
                    Some(PubSubEvent::Down { .. }) => self.up.store(false, Ordering::Relaxed),
                    None => return,
                },
                _ = sweep.tick() => self.sweep(&namespaces, Instant::now()),
            }
        }
    }

    fn standing_topics(&self, namespace: &str) -> Vec<Topic> {
        let own_sockets = format!("{}{}*", escape_glob(&broadcast_channel(namespace)), self.uid);
        vec![
            Topic::Channel(broadcast_channel(namespace).into()),
            Topic::Channel(request_channel(namespace).into()),
            Topic::Pattern(own_sockets.into()),
        ]
    }

    fn hear(&self, message: &Msg, namespaces: &[Arc<Namespace>], requests: &Requests) {
        let channel = message.get_channel_name();
        let data = message.get_payload_bytes();
        if let Some(room) = channel.strip_prefix(PLAIN_PREFIX) {
            let root = namespaces.iter().find(|one| one.name() == "/");
            if let Some(root) = root {
                self.heard.fetch_add(1, Ordering::Relaxed);
                root.deliver_to_room(room, &plain_array(data), Vec::new());
            }
            return;
        }
        let found = namespaces.iter().find_map(|namespace| {
            let rest = channel.strip_prefix(KEY)?;
            let (kind, rest) = match rest.strip_prefix("-request#") {
                Some(rest) => (true, rest),
                None => (false, rest.strip_prefix('#')?),
            };
            let room = rest.strip_prefix(namespace.name())?.strip_prefix('#')?;
            Some((namespace, kind, room))
        });
        match found {
            Some((namespace, true, "")) => requests.hear(namespace, data),
            Some((namespace, false, room)) => {
                self.hear_broadcast(namespace, room.strip_suffix('#').unwrap_or(room), message)
            }
            _ => {}
        }
    }

    fn hear_broadcast(&self, namespace: &Arc<Namespace>, room: &str, message: &Msg) {
        let broadcast = match decode_broadcast(&self.uid, message.get_payload_bytes()) {
            Ok(Some(broadcast)) if broadcast.namespace == namespace.name() => broadcast,
            Ok(_) => return,
            Err(error) => {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, room, "a message from another node cannot be read");
                return;
            }
        };
        self.heard.fetch_add(1, Ordering::Relaxed);
        let Broadcast { array, attachments, selection, .. } = broadcast;
        let one_room = selection.except.is_empty() && selection.rooms.len() == 1;
        if message.from_pattern() {
            // The pattern covers the rooms named by this node's sockets, and only their owners.
            namespace.deliver_to_socket(room, &array, attachments);
        } else if one_room && !room.is_empty() {
            namespace.deliver_to_room(room, &array, attachments);
        } else {
            namespace.deliver(&selection, &array, attachments);
        }
    }

    fn sweep(&self, namespaces: &[Arc<Namespace>], now: Instant) {
        loop {
            let Some(next) = self.lingering.lock().pop_front_if(|one| one.until <= now) else { return };
            let Some(namespace) = namespaces.iter().find(|one| one.name() == next.namespace) else {
                continue;
            };
            let mut again = false;
            namespace.while_empty(&next.room, || {
                again = self.pubsub.unsubscribe(topics(&next.namespace, &next.room)).is_err();
            });
            if again {
                self.lingering.lock().push_back(Lingering { until: now + LINGER, ..next });
                return;
            }
        }
    }
}

impl Interest for Bus {
    fn joined(&self, namespace: &str, room: &str) -> Result<Ticket, SubscribeError> {
        self.pubsub.subscribe(topics(namespace, room))
    }

    fn emptied(&self, namespace: &str, room: &str) {
        let mut lingering = self.lingering.lock();
        if lingering.len() >= LINGERING_MAX {
            // A refusal leaves a subscription without members, which the next leave ends.
            let _ = self.pubsub.unsubscribe(topics(namespace, room));
            return;
        }
        lingering.push_back(Lingering {
            until: Instant::now() + LINGER,
            namespace: namespace.to_owned(),
            room: room.to_owned(),
        });
    }
}

/// What carries a room's messages.
fn topics(namespace: &str, room: &str) -> Vec<Topic> {
    let mut topics = vec![Topic::Channel(format!("{}{room}#", broadcast_channel(namespace)).into())];
    if namespace == "/" {
        topics.push(Topic::Channel(format!("{PLAIN_PREFIX}{room}").into()));
    }
    topics
}

fn broadcast_channel(namespace: &str) -> String {
    format!("{KEY}#{namespace}#")
}

fn request_channel(namespace: &str) -> String {
    format!("{KEY}-request#{namespace}#")
}

/// Where answers to requests go; the specific form when the asker gave its id and wants it so.
pub(super) fn response_channel(namespace: &str) -> String {
    format!("{KEY}-response#{namespace}#")
}

fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// The event of a plain message: JSON goes on as it is, anything else as a string.
fn plain_array(data: &[u8]) -> String {
    let mut array = String::with_capacity(data.len() + 16);
    array.push('[');
    packet::json_string(&mut array, PLAIN_EVENT);
    array.push(',');
    let json = std::str::from_utf8(data).ok().filter(|text| {
        // The reader does not look into the value, so its depth costs nothing.
        serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
    });
    match json {
        Some(json) => array.push_str(json.trim()),
        None => packet::json_string(&mut array, &String::from_utf8_lossy(data)),
    }
    array.push(']');
    array
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("uid", &self.uid).finish_non_exhaustive()
    }
}
