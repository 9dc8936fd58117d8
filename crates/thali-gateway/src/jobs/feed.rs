//! Who waits for which job, and telling them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::ConnectionManager;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::reader::Reader;
use super::snapshot;
use super::update::{Entry, JobView, StreamId};
use crate::codes::{CloseCode, ErrorCode, RequestError};
use crate::hub::{Ack, Socket};
use crate::packet::{self, Message};

/// The event's name.
const EVENT: &str = "job";
/// Queues that one node watches.
const QUEUES_MAX: usize = 1_024;
/// Events kept for a subscriber whose snapshot is still being read.
const HELD_MAX: usize = 256;
/// How long a queue without listeners stays watched.
const LINGER: Duration = Duration::from_secs(10);

/// A room that the feed fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobRoom {
    /// Every job of a queue.
    Queue(String),
    /// One job.
    Job(String, String),
}

impl JobRoom {
    /// Reads a room's name; none if it is no job room at all, an error if it is a broken one.
    pub(crate) fn parse(room: &str) -> Option<Result<Self, RequestError>> {
        let broken = |what: &str| Err(RequestError::new(ErrorCode::ROOM_NAME_INVALID, what));
        if let Some(queue) = room.strip_prefix("queue:") {
            let empty = queue.is_empty();
            return Some(if empty {
                broken("write queue:<queue>")
            } else {
                Ok(Self::Queue(queue.to_owned()))
            });
        }
        room.strip_prefix("job:").map(|rest| match rest.split_once(':') {
            Some((queue, id)) if !queue.is_empty() && !id.is_empty() => {
                Ok(Self::Job(queue.to_owned(), id.to_owned()))
            }
            _ => broken("write job:<queue>:<id>"),
        })
    }

    fn queue(&self) -> &str {
        match self {
            Self::Queue(queue) | Self::Job(queue, _) => queue,
        }
    }
}

/// How a subscriber hears of the job's present state.
pub(crate) enum Greeting {
    /// In the acknowledgement of its request, if it wants one.
    Ack(Option<Ack>),
    /// As an event: it came back, and what it missed ends here.
    Event,
}

impl Greeting {
    fn say(self, socket: &Socket, room: &str, job: Option<&str>) {
        match (self, job) {
            (Self::Ack(Some(ack)), job) => acknowledge(ack, room, job),
            (Self::Event, Some(job)) => drop(socket.emit(EVENT, job)),
            (Self::Ack(None), _) | (Self::Event, None) => {}
        }
    }

    fn refuse(self, socket: &Socket, error: &RequestError) {
        match self {
            Self::Ack(Some(ack)) => crate::vocabulary::refuse(ack, error),
            Self::Ack(None) => {}
            // It was told that it has all its rooms; coming back as new is the honest way out.
            Self::Event => {
                socket.link().close(CloseCode::RECOVERY_FAILED);
            }
        }
    }
}

/// The job rooms of one node.
pub(crate) struct JobFeed {
    prefix: String,
    connection: ConnectionManager,
    pub(super) reader: Reader,
    queues: Mutex<HashMap<String, Watch>>,
    sent: AtomicU64,
}

/// What is known of one queue.
#[derive(Default)]
struct Watch {
    /// Where reading began; none until the first snapshot says it.
    start: Option<StreamId>,
    /// The last entry that was handled.
    last: Option<StreamId>,
    all: Members,
    jobs: HashMap<String, Members>,
    idle_since: Option<Instant>,
}

type Members = HashMap<u64, Member>;

struct Member {
    socket: Arc<Socket>,
    phase: Phase,
}

enum Phase {
    /// The snapshot is being read; events wait for it.
    Waiting { subscription: u64, held: Vec<(StreamId, Message)> },
    /// Events after this one are news.
    Live { after: StreamId },
}

impl Watch {
    fn members(&mut self, room: &JobRoom) -> &mut Members {
        match room {
            JobRoom::Queue(_) => &mut self.all,
            JobRoom::Job(_, id) => self.jobs.entry(id.clone()).or_default(),
        }
    }

    fn remove(&mut self, room: &JobRoom, key: u64) {
        match room {
            JobRoom::Queue(_) => drop(self.all.remove(&key)),
            JobRoom::Job(_, id) => {
                if let Some(members) = self.jobs.get_mut(id) {
                    members.remove(&key);
                    if members.is_empty() {
                        self.jobs.remove(id);
                    }
                }
            }
        }
        if self.all.is_empty() && self.jobs.is_empty() {
            self.idle_since = Some(Instant::now());
        }
    }
}

impl JobFeed {
    /// A feed of the queues whose keys begin with `prefix`. Its reader is started by the caller.
    pub(crate) fn new(prefix: String, connection: ConnectionManager) -> Self {
        Self {
            prefix,
            connection,
            reader: Reader::default(),
            queues: Mutex::default(),
            sent: AtomicU64::new(0),
        }
    }

    /// How many queues are watched.
    pub(crate) fn watched(&self) -> usize {
        self.queues.lock().len()
    }

    /// Events sent to sockets since the start.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Adds a socket that has noted the room, and greets it with the job's present state.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        socket: Arc<Socket>,
        name: String,
        room: JobRoom,
        greeting: Greeting,
    ) {
        let subscription = fastrand::u64(..);
        let full = {
            let mut queues = self.queues.lock();
            let full = queues.len() >= QUEUES_MAX && !queues.contains_key(room.queue());
            if !full {
                let watch = queues.entry(room.queue().to_owned()).or_default();
                watch.idle_since = None;
                let phase = Phase::Waiting { subscription, held: Vec::new() };
                watch.members(&room).insert(socket.key(), Member { socket: socket.clone(), phase });
            }
            full
        };
        // It may have left before it was added; whoever leaves later finds it.
        if !socket.is_in(&name) {
            self.forget(&socket, &room);
            return;
        }
        if full {
            socket.leave(&name);
            let busy = RequestError::new(ErrorCode::BUSY, "this node watches as many queues as it may");
            greeting.refuse(&socket, &busy);
            return;
        }
        let feed = self.clone();
        tokio::spawn(async move {
            let mut greeting = Some(greeting);
            if let Err(error) = feed.go_live(&socket, &name, &room, subscription, &mut greeting).await {
                feed.forget(&socket, &room);
                socket.leave(&name);
                if let Some(greeting) = greeting {
                    greeting.refuse(&socket, &error);
                }
            }
        });
    }

    /// Takes a socket out of a room. The socket's own note of it is the caller's to remove.
    pub(crate) fn forget(&self, socket: &Socket, room: &JobRoom) {
        if let Some(watch) = self.queues.lock().get_mut(room.queue()) {
            watch.remove(room, socket.key());
        }
    }

    async fn go_live(
        &self,
        socket: &Arc<Socket>,
        name: &str,
        room: &JobRoom,
        subscription: u64,
        greeting: &mut Option<Greeting>,
    ) -> Result<(), RequestError> {
        let (position, job) = match self.snapshot(room).await {
            Ok(first) if self.began_after(room, first.0) => self.snapshot(room).await,
            first => first,
        }
        .map_err(|error| format!("the job's state cannot be read: {error}"))
        .map_err(|error| RequestError::new(ErrorCode::STORE_UNAVAILABLE, error))?;
        let mut queues = self.queues.lock();
        // Whoever left, or subscribed again, meanwhile is served by that.
        let Some(watch) = queues.get_mut(room.queue()) else { return Ok(()) };
        let Some(member) = watch.members(room).get_mut(&socket.key()) else { return Ok(()) };
        let Phase::Waiting { subscription: current, held } = &mut member.phase else { return Ok(()) };
        if *current != subscription {
            return Ok(());
        }
        let held = std::mem::take(held);
        member.phase = Phase::Live { after: position };
        // Under the lock, so that no later event can overtake.
        if let Some(greeting) = greeting.take() {
            greeting.say(socket, name, job.as_deref());
        }
        for (_, message) in held.iter().filter(|(id, _)| *id > position) {
            socket.send(message);
        }
        let first = watch.start.is_none();
        if first {
            watch.start = Some(position);
            watch.last = Some(position);
        }
        drop(queues);
        if first {
            self.reader.wake(&self.connection);
        }
        Ok(())
    }

    /// Whether the reader began later than a snapshot taken before it began: another subscriber's
    /// snapshot set the start, and what lies between would be missed. A second snapshot is not.
    fn began_after(&self, room: &JobRoom, position: StreamId) -> bool {
        let queues = self.queues.lock();
        queues.get(room.queue()).and_then(|watch| watch.start).is_some_and(|start| position < start)
    }

    async fn snapshot(&self, room: &JobRoom) -> redis::RedisResult<(StreamId, Option<String>)> {
        let mut connection = self.connection.clone();
        let queue_key = self.queue_key(room.queue());
        match room {
            JobRoom::Queue(_) => Ok((snapshot::position(&mut connection, &queue_key).await?, None)),
            JobRoom::Job(queue, id) => {
                let (position, view) = snapshot::job(&mut connection, &queue_key, id).await?;
                Ok((position, Some(view.to_json(queue, id))))
            }
        }
    }

    fn queue_key(&self, queue: &str) -> String {
        format!("{}:{queue}", self.prefix)
    }

    /// The streams to read and where to go on. Queues without listeners are dropped after a while.
    pub(super) fn positions(&self) -> Vec<(String, String, StreamId)> {
        let mut queues = self.queues.lock();
        queues.retain(|_, watch| watch.idle_since.is_none_or(|since| since.elapsed() < LINGER));
        let started = queues.iter().filter_map(|(queue, watch)| Some((queue, watch.last?)));
        started
            .map(|(queue, last)| (queue.clone(), format!("{}:events", self.queue_key(queue)), last))
            .collect()
    }

    /// Passes on what was read of one queue.
    pub(super) fn dispatch(&self, queue: &str, entries: &[(StreamId, Vec<(String, String)>)]) {
        let mut queues = self.queues.lock();
        let Some(watch) = queues.get_mut(queue) else { return };
        let Some((newest, _)) = entries.last() else { return };
        watch.last = Some(*newest);
        let read: Vec<Entry<'_>> =
            entries.iter().filter_map(|(id, fields)| Entry::read(*id, fields)).collect();
        // Of a job's progress only the last of a batch is worth sending.
        let mut last_progress: HashMap<&str, StreamId> = HashMap::new();
        for entry in read.iter().filter(|entry| entry.is_progress()) {
            last_progress.insert(entry.job, entry.id);
        }
        let mut sent = 0;
        for entry in &read {
            let stale = entry.is_progress() && last_progress.get(entry.job) != Some(&entry.id);
            let members = watch.jobs.get_mut(entry.job);
            if stale || (members.is_none() && watch.all.is_empty()) {
                continue;
            }
            let Some(view) = entry.view() else { continue };
            let message = message_of(&view, queue, entry.job);
            if let Some(members) = members {
                // Who hears the whole queue hears it there.
                let others = members.iter_mut().filter(|(key, _)| !watch.all.contains_key(key));
                sent += others.map(|(_, member)| tell(member, entry.id, &message)).sum::<u64>();
            }
            sent += watch.all.values_mut().map(|member| tell(member, entry.id, &message)).sum::<u64>();
        }
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }
}

/// Gives how many messages were sent.
fn tell(member: &mut Member, id: StreamId, message: &Message) -> u64 {
    match &mut member.phase {
        Phase::Live { after } if id > *after => u64::from(member.socket.send(message)),
        Phase::Live { .. } => 0,
        Phase::Waiting { held, .. } => {
            if held.len() >= HELD_MAX {
                held.remove(0);
            }
            held.push((id, message.clone()));
            0
        }
    }
}

fn message_of(view: &JobView<'_>, queue: &str, id: &str) -> Message {
    packet::event("/", EVENT, &view.to_json(queue, id), Vec::new())
}

fn acknowledge(ack: Ack, room: &str, job: Option<&str>) {
    #[derive(serde::Serialize)]
    struct Granted<'a> {
        ok: bool,
        room: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<&'a RawValue>,
    }
    let job = job.and_then(|job| serde_json::from_str(job).ok());
    ack.send_value(&Granted { ok: true, room, job });
}
