//! What a client that drops off finds again: its id, its rooms, and the events that it missed.
//!
//! Owns, for one namespace: the order of its events, a history of the latest of them, and the sessions of
//! clients that may come back. Refuses: to give back a part. What cannot be given whole (the window is
//! over, the history was cut, messages of other nodes may have been lost, the client was on another node)
//! is not given, and the client hears so by its new id.
//!
//! Each event carries its place, `<node>.<number>`, as its last argument; the client shows the last one
//! that it saw. SOURCE: socket.io's `docs/socket.io-protocol/v5-current.md` and its client, which keeps
//! `pid` and the last string argument by itself.
//!
//! The history is of all events of rooms with members here, kept once, whoever they were for. So a client
//! that stays costs nothing beyond two numbers, and one that has dropped off its rooms' names.
//!
//! Lock order: the history, then a socket's state and what comes after it; the sessions are locked alone.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::{Selection, Socket};
use crate::auth::Grants;
use crate::packet::Message;
use crate::transport::Clock;

/// What an entry of the history costs beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 192;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// How long a client may be away.
    pub away_ms: u64,
    /// How long a client may have been deaf before its session ended, the heartbeat's two times.
    pub deaf_ms: u64,
    /// Bytes of the history; the oldest events go first.
    pub history_bytes_max: usize,
    /// Clients that may be away at a time; past it the longest away is forgotten.
    pub sessions_max: usize,
    /// Bytes that one client may be given at once; who missed more comes back as new.
    pub missed_bytes_max: usize,
}

/// The memory of one namespace.
pub struct Recovery {
    window: Window,
    node: String,
    clock: Clock,
    /// The place of the last event. Written under the history's lock.
    place: AtomicU64,
    history: Mutex<History>,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
pub(super) struct History {
    events: VecDeque<Event>,
    bytes: usize,
    /// Events up to this place are no longer, or never were, in the history.
    floor: u64,
}

struct Event {
    place: u64,
    at_ms: u64,
    bytes: usize,
    selection: Selection,
    message: Message,
}

#[derive(Default)]
struct Sessions {
    by_secret: HashMap<Arc<str>, Entry>,
    away: usize,
    /// Until when who may be away, longest away first. Who came back is still in it, and skipped.
    ends: VecDeque<End>,
    /// The number of the last end.
    numbered: u64,
}

struct End {
    number: u64,
    until_ms: u64,
    secret: Arc<str>,
}

enum Entry {
    Here(Weak<Socket>),
    Away { end: u64, session: Session },
}

/// What is kept of a client that is away.
#[derive(Debug)]
pub struct Session {
    /// Its public id.
    pub id: Arc<str>,
    /// Its rooms, and the place at which it joined each.
    pub rooms: Vec<(Arc<str>, u64)>,
    /// What its token allowed.
    pub grants: Option<Arc<Grants>>,
    /// When its rights end.
    pub ends_at_ms: Option<u64>,
    /// The place at which it came.
    pub since: u64,
    /// The place of the last event that was sent to it.
    pub last_sent: u64,
    /// The place at which it left.
    pub left: u64,
}

impl Recovery {
    /// Nothing yet. `node` is the part of a place that tells this process from all others.
    pub fn new(window: Window, node: String, clock: Clock) -> Self {
        Self {
            window,
            node,
            clock,
            place: AtomicU64::new(0),
            history: Mutex::default(),
            sessions: Mutex::default(),
        }
    }

    /// The place of the last event so far.
    pub fn place(&self) -> u64 {
        self.place.load(Ordering::Acquire)
    }

    /// Sessions that are away.
    pub fn away(&self) -> usize {
        self.sessions.lock().away
    }

    /// Gives an event its place and delivers it, one event after the other. `deliver` tells whether
    /// anyone could be interested later.
    pub(super) fn deliver(
        &self,
        array: &str,
        selection: impl FnOnce() -> Selection,
        deliver: impl FnOnce(u64, &str) -> (Message, bool),
    ) {
        let mut history = self.history.lock();
        let (place, now_ms) = (self.place() + 1, self.clock.now_ms());
        self.place.store(place, Ordering::Release);
        let (message, keep) = deliver(place, &with_place(array, &self.node, place));
        if keep {
            history.push(Event::new(place, now_ms, selection(), message));
        }
        history.trim(now_ms, &self.window);
    }

    /// Messages of other nodes may have been lost before now.
    pub fn note_gap(&self) {
        let mut history = self.history.lock();
        let place = self.place() + 1;
        self.place.store(place, Ordering::Release);
        *history = History { floor: place, ..History::default() };
    }

    /// Remembers a client by the secret that it was given.
    pub fn here(&self, secret: &Arc<str>, socket: &Arc<Socket>) {
        self.sessions.lock().by_secret.insert(secret.clone(), Entry::Here(Arc::downgrade(socket)));
    }

    /// Forgets a client that left for good.
    pub fn forget(&self, secret: &str) {
        self.sessions.lock().by_secret.remove(secret);
    }

    /// Keeps the session of a client that dropped off. Gives sessions that had to go for it.
    #[must_use = "what is given back still holds its rooms"]
    pub fn keep(&self, secret: Arc<str>, session: Session) -> Vec<Session> {
        let now_ms = self.clock.now_ms();
        let until_ms = now_ms + self.window.away_ms;
        let mut sessions = self.sessions.lock();
        sessions.numbered += 1;
        let number = sessions.numbered;
        sessions.by_secret.insert(secret.clone(), Entry::Away { end: number, session });
        sessions.away += 1;
        sessions.ends.push_back(End { number, until_ms, secret });
        sessions.forget_old(now_ms, self.window.sessions_max)
    }

    /// Gives sessions whose time is over.
    #[must_use = "what is given back still holds its rooms"]
    pub fn expire(&self) -> Vec<Session> {
        let now_ms = self.clock.now_ms();
        self.history.lock().trim(now_ms, &self.window);
        self.sessions.lock().forget_old(now_ms, self.window.sessions_max)
    }

    /// Who shows this secret: a client that is away, or one whose end has not been noticed yet.
    pub fn claim(&self, secret: &str) -> Option<Claim> {
        let mut sessions = self.sessions.lock();
        match sessions.by_secret.remove(secret)? {
            Entry::Away { session, .. } => {
                sessions.away -= 1;
                Some(Claim::Away(session))
            }
            Entry::Here(socket) => socket.upgrade().map(Claim::Here),
        }
    }

    /// The history, standing still.
    pub(super) fn stand_still(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    /// What a client missed and the place of the last of it, or none if that cannot be said for sure.
    /// `shown` is the place that the client shows; one that has seen no event shows none.
    pub(super) fn missed(
        &self,
        history: &History,
        session: &Session,
        shown: Option<&str>,
    ) -> Option<(Vec<Message>, u64)> {
        if session.ends_at_ms.is_some_and(|at_ms| at_ms <= self.clock.now_ms()) {
            return None;
        }
        let shown = match shown {
            Some(place) => self.read_place(place)?,
            None => session.since,
        };
        if shown > self.place() {
            return None;
        }
        // Nothing was sent between what it saw and its leaving, so what is cut from there was not for it.
        let from = if session.last_sent <= shown { shown.max(session.left) } else { shown };
        if from < history.floor {
            return None;
        }
        let (mut bytes, mut last) = (0, session.last_sent);
        let mut missed = Vec::new();
        let first = history.events.partition_point(|event| event.place <= from);
        for event in history.events.range(first..).filter(|event| event.reaches(session)) {
            bytes += event.bytes;
            if bytes > self.window.missed_bytes_max {
                return None;
            }
            missed.push(event.message.clone());
            last = last.max(event.place);
        }
        Some((missed, last))
    }

    fn read_place(&self, text: &str) -> Option<u64> {
        text.strip_prefix(&self.node)?.strip_prefix('.')?.parse().ok()
    }
}

/// Whose session is wanted.
#[derive(Debug)]
pub enum Claim {
    /// The client is away.
    Away(Session),
    /// Its former connection still stands.
    Here(Arc<Socket>),
}

/// The array with one more argument: the event's place.
fn with_place(array: &str, node: &str, place: u64) -> String {
    let mut out = String::with_capacity(array.len() + node.len() + 24);
    out.push_str(array.trim_end().strip_suffix(']').unwrap_or(array));
    out.push_str(",\"");
    out.push_str(node);
    out.push('.');
    out.push_str(itoa::Buffer::new().format(place));
    out.push_str("\"]");
    out
}

impl History {
    fn push(&mut self, event: Event) {
        self.bytes += event.bytes;
        self.events.push_back(event);
    }

    fn trim(&mut self, now_ms: u64, window: &Window) {
        let kept_ms = window.away_ms + window.deaf_ms;
        while let Some(oldest) = self.events.front()
            && (self.bytes > window.history_bytes_max || oldest.at_ms + kept_ms <= now_ms)
        {
            self.bytes -= oldest.bytes;
            self.floor = oldest.place;
            self.events.pop_front();
        }
    }
}

impl Event {
    fn new(place: u64, at_ms: u64, selection: Selection, message: Message) -> Self {
        let names: usize = selection.rooms.iter().chain(&selection.except).map(|name| name.len() + 24).sum();
        let bytes = message.len() + names + ENTRY_OVERHEAD_BYTES;
        Self { place, at_ms, bytes, selection, message }
    }

    /// Whether the event was for this client.
    fn reaches(&self, session: &Session) -> bool {
        let is_in = |name: &String| {
            name.as_str() == &*session.id
                || session.rooms.iter().any(|(room, joined)| **room == **name && *joined < self.place)
        };
        let meant = self.selection.rooms.is_empty() || self.selection.rooms.iter().any(is_in);
        meant && !self.selection.except.iter().any(is_in)
    }
}

impl Sessions {
    /// Forgets those whose time is over and, of too many, those that are longest away.
    fn forget_old(&mut self, now_ms: u64, max: usize) -> Vec<Session> {
        let mut forgotten = Vec::new();
        while let Some(end) = self.ends.pop_front() {
            let is_away = self.is_away(&end);
            if is_away && end.until_ms > now_ms && self.away <= max {
                self.ends.push_front(end);
                break;
            }
            if is_away && let Some(Entry::Away { session, .. }) = self.by_secret.remove(&end.secret) {
                self.away -= 1;
                forgotten.push(session);
            }
        }
        // Clients that come and go all the time leave ends behind.
        if self.ends.len() > 2 * max + 64 {
            let mut ends = std::mem::take(&mut self.ends);
            ends.retain(|end| self.is_away(end));
            self.ends = ends;
        }
        forgotten
    }

    fn is_away(&self, ending: &End) -> bool {
        matches!(self.by_secret.get(&ending.secret), Some(Entry::Away { end, .. }) if *end == ending.number)
    }
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(sessions_max: usize, away_ms: u64) -> Recovery {
        let window =
            Window { away_ms, deaf_ms: 0, history_bytes_max: 1_000, sessions_max, missed_bytes_max: 1_000 };
        Recovery::new(window, "node01".to_owned(), Clock::start())
    }

    fn session(id: &str) -> Session {
        Session {
            id: Arc::from(id),
            rooms: Vec::new(),
            grants: None,
            ends_at_ms: None,
            since: 0,
            last_sent: 0,
            left: 0,
        }
    }

    fn leave(memory: &Recovery, id: &str) -> Vec<String> {
        let forgotten = memory.keep(Arc::from(id), session(id));
        forgotten.iter().map(|session| session.id.to_string()).collect()
    }

    #[test]
    fn a_place_is_the_last_argument() {
        assert_eq!(with_place("[\"e\",1]", "node01", 7), "[\"e\",1,\"node01.7\"]");
        let memory = memory(1, 1_000);
        assert_eq!(memory.read_place("node01.7"), Some(7));
        for bad in ["", "7", "node02.7", "node01.", "node01.x", "node01.-1", "node01.99999999999999999999"] {
            assert_eq!(memory.read_place(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_too_many_the_longest_away_is_forgotten() {
        let memory = memory(2, 60_000);
        assert!(leave(&memory, "a").is_empty() && leave(&memory, "b").is_empty());
        assert_eq!(leave(&memory, "c"), ["a"]);
        assert!(memory.claim("a").is_none());
        assert!(matches!(memory.claim("b"), Some(Claim::Away(_))));
        assert!(leave(&memory, "d").is_empty(), "b made room");
        assert_eq!((leave(&memory, "b"), memory.away()), (vec!["c".to_owned()], 2));
    }

    #[test]
    fn coming_and_going_leaves_nothing_behind() {
        let memory = memory(2, 60_000);
        for _ in 0..1_000 {
            assert!(leave(&memory, "a").is_empty());
            assert!(memory.claim("a").is_some());
        }
        let sessions = memory.sessions.lock();
        assert!(sessions.ends.len() <= 2 * 2 + 64 && sessions.by_secret.is_empty());
    }

    #[test]
    fn the_history_is_bounded_by_bytes_and_time() {
        let memory = memory(1, 0);
        let mut history = History::default();
        for place in 1..=10 {
            let message = crate::packet::event("/", "e", "1", Vec::new());
            history.push(Event::new(place, place * 10, Selection::default(), message));
        }
        let window = Window { away_ms: 1_000, ..memory.window };
        history.trim(100, &window);
        assert!(history.bytes <= 1_000 && history.floor == 10 - history.events.len() as u64);
        history.trim(1_100, &window);
        assert_eq!((history.events.len(), history.bytes, history.floor), (0, 0, 10));
    }
}
