//! The end of a session that the rest of the gateway holds: push frames in, close it.
//!
//! Owns: the Engine.IO state machine and the queue of frames that wait for the transport, under one
//! lock that is never held across anything that waits. INVARIANT: it is the innermost lock; whoever
//! holds it takes no other.
//!
//! The queue is bounded in bytes. A client that does not read what it asked for is closed with
//! `slow_consumer` instead of growing the node; frames handed to the transport still count until the
//! transport asks for more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::wheel::Wheel;
use crate::codes::CloseCode;
use crate::engine::{Expiry, Frame, Packet, PollTurn, Probe, Session, TransportKind};
use crate::packet::Message;

/// What a queued frame costs beside its bytes; keeps floods of tiny frames inside the bound.
const FRAME_OVERHEAD_BYTES: usize = 48;
/// A queue that grew past this is given back to the allocator once it was sent.
const QUEUE_KEPT_FRAMES: usize = 16;

/// Ends that a polling client should hear, though it was between two polls.
const WORTH_WAITING_FOR: &[CloseCode] = &[
    CloseCode::CLIENT_CLOSED,
    CloseCode::DISCONNECTED,
    CloseCode::SHUTDOWN,
    CloseCode::TOKEN_EXPIRED,
    CloseCode::SLOW_CONSUMER,
];

/// One Engine.IO session.
pub struct Link {
    id: String,
    queue_bytes_max: usize,
    wheel: Arc<Wheel>,
    state: Mutex<State>,
    /// Told once when the session ends. Unbounded, yet it never holds more than one entry a session.
    reaper: mpsc::UnboundedSender<String>,
}

struct State {
    session: Session,
    queue: VecDeque<Frame>,
    queued_bytes: usize,
    /// Bytes of the frames last handed to the transport.
    in_flight_bytes: usize,
    waker: Option<Waker>,
    closed: Option<CloseCode>,
    /// A polling client was not there to hear the end and may still come for it.
    last_words: bool,
}

/// What a transport finds when it asks for frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Frames were moved.
    Frames,
    /// Nothing yet; the waker will be called.
    Pending,
    /// The poll must be answered without frames.
    Release,
    /// The session is over and everything it had to say was taken.
    Closed(CloseCode),
}

impl Link {
    pub(super) fn new(
        id: String,
        session: Session,
        queue_bytes_max: usize,
        wheel: Arc<Wheel>,
        reaper: mpsc::UnboundedSender<String>,
    ) -> Self {
        let state = State {
            session,
            queue: VecDeque::new(),
            queued_bytes: 0,
            in_flight_bytes: 0,
            waker: None,
            closed: None,
            last_words: false,
        };
        Self { id, queue_bytes_max, wheel, state: Mutex::new(state), reaper }
    }

    /// The session's id: a secret between this node and its client.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Queues a packet. False when the session is over, or is over now because its queue is full.
    pub fn send(&self, message: &Message) -> bool {
        self.push(message.len() + FRAME_OVERHEAD_BYTES * (1 + message.attachments().len()), |queue| {
            queue.extend(message.frames());
        })
    }

    /// Queues one frame.
    pub fn send_frame(&self, frame: Frame) -> bool {
        self.push(frame.len() + FRAME_OVERHEAD_BYTES, |queue| queue.push_back(frame))
    }

    fn push(&self, bytes: usize, add: impl FnOnce(&mut VecDeque<Frame>)) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return false;
        }
        if state.queued_bytes + state.in_flight_bytes + bytes > self.queue_bytes_max {
            self.close_locked(&mut state, CloseCode::SLOW_CONSUMER);
            return false;
        }
        add(&mut state.queue);
        state.queued_bytes += bytes;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Ends the session; the first code stays. Returns the code in force.
    pub fn close(&self, code: CloseCode) -> CloseCode {
        let mut state = self.state.lock();
        self.close_locked(&mut state, code);
        state.closed.unwrap_or(code)
    }

    fn close_locked(&self, state: &mut State, code: CloseCode) {
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(code);
        // Nobody reads what waits for these, and the memory is wanted back now.
        let unread = [CloseCode::SLOW_CONSUMER, CloseCode::PING_TIMEOUT, CloseCode::TRANSPORT_CLOSED];
        if unread.contains(&code) {
            state.queue = VecDeque::new();
            state.queued_bytes = 0;
        }
        state.last_words = state.session.awaits_poll() && WORTH_WAITING_FOR.contains(&code);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        // A reaper that is gone means the gateway is.
        let _ = self.reaper.send(self.id.clone());
    }

    /// The code under which the session ended, if it did.
    pub fn closed(&self) -> Option<CloseCode> {
        self.state.lock().closed
    }

    /// Whether the end waits for one more poll.
    pub(super) fn has_last_words(&self) -> bool {
        self.state.lock().last_words
    }

    /// The one poll that may come after the end.
    pub(super) fn take_last_words(&self) -> bool {
        std::mem::take(&mut self.state.lock().last_words)
    }

    /// Lifts the limit on the time until the first namespace is joined.
    pub fn joined(&self) {
        let mut state = self.state.lock();
        if matches!(state.session.limit(), Some((_, CloseCode::CONNECT_TIMEOUT))) {
            state.session.set_limit(None);
        }
    }

    /// Ends the session at this instant at the latest; an earlier limit stays.
    pub fn end_by(self: &Arc<Self>, at_ms: u64, code: CloseCode) {
        {
            let mut state = self.state.lock();
            if state.session.limit().is_some_and(|(earlier_ms, _)| earlier_ms <= at_ms) {
                return;
            }
            state.session.set_limit(Some((at_ms, code)));
        }
        self.wheel.insert_once(self, at_ms);
    }

    /// When the session must end at the latest, if a limit is set.
    pub fn ends_at_ms(&self) -> Option<u64> {
        self.state.lock().session.limit().map(|(at_ms, _)| at_ms)
    }

    /// Lets the state machine judge a packet, unless the session is over.
    pub(super) fn receive<'a>(
        &self,
        packet: Packet<'a>,
        now_ms: u64,
    ) -> Result<crate::engine::Event<'a>, CloseCode> {
        let mut state = self.state.lock();
        match state.closed {
            Some(code) => Err(code),
            None => state.session.receive(packet, now_ms),
        }
    }

    /// Does what is due; gives the instant of the next look, or none when the session is over.
    pub(super) fn expire(&self, now_ms: u64) -> Option<u64> {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return None;
        }
        match state.session.expire(now_ms) {
            Expiry::Until(at_ms) => Some(at_ms),
            Expiry::Close(code) => {
                self.close_locked(&mut state, code);
                None
            }
            Expiry::Ping(at_ms) => {
                drop(state);
                self.send_frame(Frame::PING).then_some(at_ms)
            }
        }
    }

    pub(super) fn transport(&self) -> TransportKind {
        self.state.lock().session.transport()
    }

    /// Moves all waiting frames into an empty `out`, or leaves the waker.
    pub(super) fn take(&self, cx: &mut Context<'_>, out: &mut VecDeque<Frame>) -> Taken {
        let mut state = self.state.lock();
        if !state.queue.is_empty() {
            std::mem::swap(&mut state.queue, out);
            if state.queue.capacity() > QUEUE_KEPT_FRAMES {
                state.queue = VecDeque::new();
            }
            state.in_flight_bytes = std::mem::take(&mut state.queued_bytes);
            return Taken::Frames;
        }
        state.in_flight_bytes = 0;
        if let Some(code) = state.closed {
            return Taken::Closed(code);
        }
        state.waker = Some(cx.waker().clone());
        Taken::Pending
    }

    /// Leaves the waker while the transport cannot write; tells if the session ended meanwhile.
    pub(super) fn watch(&self, cx: &mut Context<'_>) -> Option<CloseCode> {
        let mut state = self.state.lock();
        state.waker = Some(cx.waker().clone());
        state.closed
    }

    /// Like [`Link::take`], for a poll: it may have to go without frames.
    pub(super) fn take_for_poll(&self, cx: &mut Context<'_>, out: &mut VecDeque<Frame>) -> Taken {
        let turn = self.state.lock().session.poll_turn();
        let moved = self.transport() == TransportKind::WebSocket;
        if turn == PollTurn::Release && moved {
            // What waits belongs to the WebSocket now.
            return Taken::Release;
        }
        match self.take(cx, out) {
            Taken::Pending if turn == PollTurn::Release => Taken::Release,
            taken => taken,
        }
    }

    pub(super) fn poll_begin(&self) -> Result<PollTurn, CloseCode> {
        self.state.lock().session.poll_begin()
    }

    pub(super) fn poll_end(&self) {
        let mut state = self.state.lock();
        state.session.poll_end();
        state.in_flight_bytes = 0;
    }

    pub(super) fn post_begin(&self) -> Result<(), CloseCode> {
        self.state.lock().session.post_begin()
    }

    pub(super) fn post_end(&self) {
        self.state.lock().session.post_end();
    }

    pub(super) fn probe_begin(&self) -> bool {
        let state = self.state.lock();
        state.closed.is_none() && state.session.probe_begin()
    }

    pub(super) fn probe(&self, packet: &Packet<'_>) -> Probe {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return Probe::Refuse;
        }
        let answer = state.session.probe(packet);
        // A poll that waits must look again: it is released, or the session has left it.
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        answer
    }

    pub(super) fn probe_end(&self) {
        self.state.lock().session.probe_end();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
