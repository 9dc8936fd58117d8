//! One connection's state: what it has sent, what it will be sent, and what it has said of itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;
use thali_commands::{ErrorReply, Spec};
use thali_journal::Seq;
use thali_keyspace::{Tracker, Waiter, WatchFlag};
use thali_resp::{Parser, Protocol, Reply};

use crate::acl::User;
use crate::clients::ClientInfo;
use crate::listener::Stream;
use crate::pubsub::Kind;
use crate::steps::Stepping;
use crate::table::Row;
use crate::tracking::Tracked;
use crate::unit::Owed;

/// Output that a session may have waiting before its requests are left unread. A client that asks and
/// never listens costs this much and no more.
pub(crate) const OUTPUT_PAUSE_BYTES: usize = 1 << 20;

/// A connection in its loop.
#[derive(Debug)]
pub(crate) struct Session {
    pub stream: Stream,
    pub parser: Parser,
    /// Bytes of requests that could not run yet; empty on an idle connection.
    pub input: Vec<u8>,
    pub out: Vec<u8>,
    /// How much of `out` is written.
    pub out_at: usize,
    /// The socket may have more to read.
    pub readable: bool,
    /// The peer sends no more: behind what it has sent there is the end, which no event says again.
    pub peer_ended: bool,
    /// The socket took all that was written last.
    pub writable: bool,
    /// Input bytes below which the unfinished request cannot be complete.
    pub wanted_len: usize,
    /// Since when the output is over the soft limit.
    pub over_soft_since_ms: Option<u64>,
    /// Since when a reply waits for a journal that cannot write.
    pub held_since_ms: Option<u64>,
    /// In the loop's list of sessions to be looked at.
    pub is_ready: bool,
    /// In the loop's list of sessions with output.
    pub is_dirty: bool,
    /// It had too much to read to be told what is stale; once it reads on, it is told that all is.
    pub owes_stale: bool,
    pub state: SessionState,
}

/// What commands see and change of their session.
#[derive(Debug)]
pub(crate) struct SessionState {
    pub info: Arc<ClientInfo>,
    pub id: u64,
    pub protocol: Protocol,
    pub db: u32,
    /// Whose rights hold here; as long as nobody logged in, those of `default`.
    pub user: Arc<User>,
    pub is_authenticated: bool,
    /// From this machine.
    pub is_local: bool,
    pub transaction: Option<Box<Transaction>>,
    pub watching: Option<Box<Watching>>,
    pub subscribed: Option<Box<Subscribed>>,
    pub is_monitor: bool,
    /// CLIENT TRACKING is on.
    pub tracked: Option<Box<Tracked>>,
    /// The next request waits in the input for the end of CLIENT PAUSE.
    pub is_postponed: bool,
    /// The command that waits; nothing else runs for this session meanwhile.
    pub parked: Option<Arc<Waiter>>,
    /// The command that goes on in steps; nothing else runs for this session meanwhile.
    pub stepping: Option<Box<Stepping>>,
    pub parked_deadline_ms: Option<u64>,
    pub parked_time_up: TimeUp,
    /// Output waits until the journal has synced this far.
    pub hold: Seq,
    /// The journal's place behind the session's last write.
    pub written: Seq,
    pub replies: Replies,
    pub close: Close,
}

/// What is replied to a wait whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeUp {
    Null,
    NullArray,
    /// WAITAOF: how many servers have it by then.
    Durable,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replies {
    On,
    Off,
    /// The next command's reply is left out.
    SkipNext,
    /// This command's reply is left out.
    SkipThis,
}

/// Whether and how the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    No,
    /// After what is in the output buffer.
    AfterReply,
    Now,
}

/// MULTI: what EXEC will run.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub queue: Vec<Queued>,
    /// A command was refused: EXEC will be, too.
    pub is_doomed: bool,
    pub queued_bytes: usize,
}

/// One command that waits for EXEC.
#[derive(Debug)]
pub(crate) struct Queued {
    pub row: &'static Row,
    pub args: Vec<Vec<u8>>,
}

/// WATCH: the flag that keys raise, and which keys.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    pub flag: Arc<WatchFlag>,
    pub keys: Vec<Watched>,
    /// Of all of them together.
    pub keys_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Watched {
    pub db: u32,
    pub key: Box<[u8]>,
    /// Whether it was there when the watch began.
    pub is_there: bool,
}

/// The names a session listens to.
#[derive(Debug, Default)]
pub(crate) struct Subscribed {
    pub channels: BTreeSet<Box<[u8]>>,
    pub patterns: BTreeSet<Box<[u8]>>,
    pub shards: BTreeSet<Box<[u8]>>,
    /// Of all names together.
    pub names_bytes: usize,
}

impl Subscribed {
    pub fn of(&mut self, kind: Kind) -> &mut BTreeSet<Box<[u8]>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    /// Adds a name; false where it was there.
    pub fn insert(&mut self, kind: Kind, name: &[u8]) -> bool {
        let is_new = self.of(kind).insert(name.into());
        self.names_bytes += if is_new { name.len() } else { 0 };
        is_new
    }

    /// Takes a name out; false where it was not there.
    pub fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        let was_there = self.of(kind).remove(name);
        self.names_bytes -= if was_there { name.len() } else { 0 };
        was_there
    }

    /// Names of all kinds.
    pub fn len(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shards.len()
    }

    /// The count that subscription replies carry: sharded channels count for themselves.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.shards.len(),
            _ => self.channels.len() + self.patterns.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Session {
    pub fn new(stream: Stream, state: SessionState) -> Self {
        Self {
            stream,
            parser: Parser::default(),
            input: Vec::new(),
            out: Vec::new(),
            out_at: 0,
            readable: true,
            peer_ended: false,
            writable: true,
            wanted_len: 0,
            over_soft_since_ms: None,
            held_since_ms: None,
            is_ready: false,
            is_dirty: false,
            owes_stale: false,
            state,
        }
    }

    /// Whether requests are left unread: a command waits, or the client does not take its replies.
    pub fn is_paused(&self) -> bool {
        self.state.is_waiting() || self.out.len() - self.out_at > OUTPUT_PAUSE_BYTES
    }

    /// Whether there is something to do without a further event.
    pub fn wants_turn(&self) -> bool {
        let has_requests = !self.input.is_empty() && self.input.len() >= self.wanted_len.max(1);
        self.state.close == Close::No && !self.is_paused() && (self.readable || has_requests)
    }

    /// Whether a reply has waited for longer than `max_ms` while the journal cannot write.
    pub fn is_held_too_long(&mut self, synced: Option<Seq>, max_ms: u64, now_ms: u64) -> bool {
        let is_held = synced.is_some_and(|synced| synced < self.state.hold) && self.out.len() > self.out_at;
        if !is_held {
            self.held_since_ms = None;
            return false;
        }
        now_ms.saturating_sub(*self.held_since_ms.get_or_insert(now_ms)) > max_ms
    }

    /// Bytes that the client has sent and that wait to be run: unfinished requests and what EXEC will run.
    pub fn query_len(&self) -> usize {
        self.input.len() + self.state.transaction.as_ref().map_or(0, |transaction| transaction.queued_bytes)
    }

    /// What the connection takes. Room that a buffer has beyond its bytes is not counted: it depends on how the
    /// bytes came.
    pub fn memory_bytes(&self) -> u64 {
        let state = &self.state;
        let names = state.subscribed.as_ref().map_or(0, |s| s.names_bytes + s.len() * NAME_BYTES);
        let prefixes = state.tracked.as_ref().map_or(0, |t| t.prefixes_bytes + t.prefixes.len() * NAME_BYTES);
        let watched = state.watching.as_ref().map_or(0, |w| 2 * w.keys_bytes + w.keys.len() * WATCHED_BYTES);
        let steps = state.stepping.as_ref().map_or(0, |stepping| stepping.steps.memory_bytes());
        let fixed = size_of::<Self>() + size_of::<ClientInfo>() + self.stream.memory_bytes();
        (fixed + steps + self.query_len() + self.out.len() + names + prefixes + watched) as u64
    }

    /// Keeps what `run_requests` left of the session's own buffer.
    pub fn keep_rest(&mut self, mut input: Vec<u8>, used: usize) {
        self.parser.rebase(used);
        if used == input.len() {
            // A large request's buffer is not kept.
            if input.capacity() <= INPUT_KEPT_BYTES {
                input.clear();
                self.input = input;
            }
            self.parser.shrink();
            return;
        }
        input.drain(..used);
        self.input = input;
    }

    /// Keeps a copy of what `run_requests` left of the loop's buffer.
    pub fn keep_copy(&mut self, rest: &[u8], used: usize) {
        self.parser.rebase(used);
        if rest.is_empty() {
            self.parser.shrink();
        } else {
            self.append_input(rest);
        }
    }

    /// Adds to what could not run yet. Room for more is a quarter: it counts against `maxmemory`, and half-sent
    /// requests of many clients must not evict keys with what they do not use.
    pub fn append_input(&mut self, bytes: &[u8]) {
        if self.input.capacity() - self.input.len() < bytes.len() {
            self.input.reserve_exact(bytes.len().max(self.input.len() / 4));
        }
        self.input.extend_from_slice(bytes);
    }

    /// After a read of `len` bytes into a room of `room`. A short one has emptied the socket.
    pub fn note_read(&mut self, len: usize, room: usize) {
        self.readable = len == room || self.peer_ended || self.stream.has_ended();
    }

    /// After a read that found the end. A peer that sends no more may still listen.
    pub fn note_end(&mut self) {
        self.readable = false;
        let owes_reply = self.out.len() > self.out_at && !self.state.is_waiting();
        self.state.close = if owes_reply { Close::AfterReply } else { Close::Now };
    }

    /// After a failed read: nothing there, or nobody.
    pub fn note_read_error(&mut self, error: &std::io::Error) {
        match error.kind() {
            std::io::ErrorKind::WouldBlock => self.readable = false,
            std::io::ErrorKind::Interrupted => {}
            _ => self.state.close = Close::Now,
        }
    }
}

/// What a watched key takes beside its name: its place with the session and with its shard.
const WATCHED_BYTES: usize = 128;

/// What a subscription or a prefix takes beside its name: two entries in trees and one in a table.
const NAME_BYTES: usize = 128;

/// Input room that a session keeps between requests that did not fit into the loop's buffer.
const INPUT_KEPT_BYTES: usize = 32 << 10;

impl SessionState {
    pub fn new(info: Arc<ClientInfo>, is_authenticated: bool, is_local: bool) -> Self {
        let user = Arc::clone(&info.user.lock());
        Self {
            id: info.address.session,
            user,
            info,
            protocol: Protocol::Resp2,
            db: 0,
            is_authenticated,
            is_local,
            transaction: None,
            watching: None,
            subscribed: None,
            is_monitor: false,
            tracked: None,
            is_postponed: false,
            parked: None,
            stepping: None,
            parked_deadline_ms: None,
            parked_time_up: TimeUp::Null,
            hold: Seq::default(),
            written: Seq::default(),
            replies: Replies::On,
            close: Close::No,
        }
    }

    /// From now on this user's rights hold.
    pub fn log_in(&mut self, user: Arc<User>) {
        *self.info.user.lock() = Arc::clone(&user);
        self.user = user;
        self.is_authenticated = true;
    }

    /// What CLIENT LIST shows as the last command.
    pub fn note_command(&self, row: &Row, spec: &Spec) {
        self.info.last_command.store(row.stats_at(spec) as u32, Relaxed);
    }

    /// Output waits for what a unit of work owes.
    pub fn owe(&mut self, owed: Owed) {
        self.written = owed.written.unwrap_or(self.written);
        self.hold = self.hold.max(self.written).max(owed.read);
    }

    /// In RESP2 a subscriber may only manage its subscriptions.
    pub fn is_confined_to_pubsub(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.subscribed.as_ref().is_some_and(|s| !s.is_empty())
    }

    /// Whether requests are left unread until something happens elsewhere: a command waits for a key or for the
    /// end of CLIENT PAUSE, or goes on in steps.
    pub fn is_waiting(&self) -> bool {
        self.parked.is_some() || self.is_postponed || self.stepping.is_some()
    }

    /// Whether it is sent what it did not ask for, and what MONITOR shows counts as that.
    pub fn is_listener(&self) -> bool {
        self.is_monitor || self.subscribed.as_ref().is_some_and(|subscribed| !subscribed.is_empty())
    }

    /// Marks the transaction, where there is one, as not to be run.
    pub fn doom_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.is_doomed = true;
        }
    }

    /// Writes down what CLIENT LIST shows.
    pub fn publish_info(&self) {
        let info = &self.info;
        info.db.store(self.db, Relaxed);
        info.resp3.store(self.protocol == Protocol::Resp3, Relaxed);
        info.in_transaction.store(self.transaction.is_some(), Relaxed);
        info.queued_len.store(self.transaction.as_ref().map_or(0, |t| t.queue.len() as u32), Relaxed);
        info.queued_bytes.store(self.transaction.as_ref().map_or(0, |t| t.queued_bytes as u64), Relaxed);
        info.watched_len.store(self.watching.as_ref().map_or(0, |w| w.keys.len() as u32), Relaxed);
        *info.watch.lock() = self.watching.as_ref().map(|watching| Arc::clone(&watching.flag));
        let lens = self
            .subscribed
            .as_ref()
            .map_or((0, 0, 0), |s| (s.channels.len() as u32, s.patterns.len() as u32, s.shards.len() as u32));
        info.channels_len.store(lens.0, Relaxed);
        info.patterns_len.store(lens.1, Relaxed);
        info.shard_channels_len.store(lens.2, Relaxed);
        info.monitor.store(self.is_monitor, Relaxed);
    }

    /// CLIENT REPLY: takes back the reply to the command `name` that begins at `start` where the client wants none.
    /// What tells of subscriptions is no reply.
    pub fn apply_reply_mode(&mut self, out: &mut Vec<u8>, start: usize, name: &[u8]) {
        let len = if is_subscription(name) { out.len() } else { start };
        match self.replies {
            Replies::On => {}
            Replies::Off => out.truncate(len),
            Replies::SkipNext => self.replies = Replies::SkipThis,
            Replies::SkipThis => {
                out.truncate(len);
                self.replies = Replies::On;
            }
        }
    }

    /// Who may cache what this session reads: itself, where it tracks.
    pub fn reader(&self) -> Option<Arc<Tracker>> {
        self.tracked.as_ref().map(|tracked| Arc::clone(&tracked.tracker))
    }

    /// Writes an error as the whole reply.
    pub fn error(&mut self, out: &mut Vec<u8>, error: &ErrorReply) {
        Reply::new(out, self.protocol).error(error.text());
    }
}

fn is_subscription(name: &[u8]) -> bool {
    let end = name.len().checked_sub("subscribe".len());
    end.is_some_and(|at| name[at..].eq_ignore_ascii_case(b"subscribe"))
}

/// A request's arguments, owned: for queues and for whoever runs later.
pub(crate) fn owned(args: &[&[u8]]) -> Vec<Vec<u8>> {
    args.iter().map(|arg| arg.to_vec()).collect()
}

/// The arguments of an owned request.
pub(crate) fn borrowed(args: &[Vec<u8>]) -> SmallVec<[&[u8]; 8]> {
    args.iter().map(Vec::as_slice).collect()
}
