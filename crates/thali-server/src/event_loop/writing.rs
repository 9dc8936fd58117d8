//! The end of a tick: the journal first, then what it lets go.

use std::io::ErrorKind;
use std::time::Instant;

use thali_journal::Seq;
use thali_resp::Reply;

use super::mail::reply_timed_out;
use super::{EventLoop, mark_dirty, mark_ready, nanos_since};
use crate::call::Shared;
use crate::commands::persistence;
use crate::session::{Close, OUTPUT_PAUSE_BYTES, Session, TimeUp};
use crate::{client_memory, tracking};

/// What one session is sent at once. A client that takes a long reply as fast as it is written would keep all others
/// waiting until it has the whole.
const FLUSH_BYTES_MAX: usize = 256 << 10;
/// Output room that a session keeps when it has nothing to send. What is longer does not wait for the end of the tick.
pub(super) const OUTPUT_KEPT_BYTES: usize = 16 << 10;

impl EventLoop {
    /// One write for all that the tick has changed, before its replies leave.
    pub(super) fn write_journal(&mut self) {
        if let Some(seq) = self.core.side.appended.take()
            && let Some(journal) = &*self.core.shared.journal.load()
        {
            let begun = Instant::now();
            journal.flush(seq);
            self.stats().journal_nanos.add(nanos_since(begun));
        }
    }

    pub(super) fn flush_all(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            self.flush(id);
        }
        if !self.core.side.durable_waits.is_empty() {
            self.core.shared.mailboxes[usize::from(self.core.side.event_loop)].ask();
            self.end_durable_waits();
        }
        if !self.held.is_empty() {
            self.core.shared.mailboxes[usize::from(self.core.side.event_loop)].ask();
            for id in std::mem::take(&mut self.held) {
                self.flush(id);
            }
        }
    }

    /// Sends a large reply before the tick ends, unless it is held: the next session's reply then finds the same
    /// memory, which is in the cache, and its client waits for no others. It is one write, now or later.
    pub(super) fn flush_early(&mut self, id: u64) {
        if self.sessions.get(&id).is_some_and(|session| !is_held(&self.core.shared, session)) {
            self.flush(id);
        }
    }

    pub(super) fn flush(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.is_dirty = false;
        if is_held(&self.core.shared, session) {
            if self.core.shared.journal.load().as_ref().is_some_and(|journal| journal.is_stuck()) {
                // Whether the write survives is unknown, and so is its reply.
                return self.close(id);
            }
            self.held.push(id);
            return;
        }
        // Owed as soon as requests may run again, so whether or not the socket takes it now.
        let mut left = FLUSH_BYTES_MAX;
        while (session.writable && session.out_at < session.out.len()) || tracking::pay(session) {
            if left == 0 {
                mark_dirty(&mut self.dirty, id, session);
                break;
            }
            let part = &session.out[session.out_at..];
            match session.stream.write(&part[..part.len().min(left)]) {
                Ok(len) => {
                    left -= len;
                    session.out_at += len;
                    crate::clients::add(&session.state.info.net_out_bytes, len as u64);
                    self.core.shared.stats_of(self.core.side.event_loop).output_bytes.add(len as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => session.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(id),
            }
        }
        if session.out_at == session.out.len() {
            session.out.clear();
            if session.out.capacity() > OUTPUT_KEPT_BYTES {
                // Not shrunk: the allocator would cut a large block into one that stays and one that fits nobody.
                session.out = Vec::new();
            }
            session.out_at = 0;
            client_memory::count(&self.core, session);
            if session.state.close != Close::No {
                return self.close(id);
            }
            if session.wants_turn() {
                mark_ready(&mut self.ready, id, session);
            }
        } else if session.out_at > OUTPUT_PAUSE_BYTES.max(session.out.len() / 2) {
            // Half of it at a time: each byte is moved once at most.
            session.out.drain(..session.out_at);
            session.out_at = 0;
        }
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.out.is_empty()
        {
            client_memory::count(&self.core, session);
        }
    }

    /// Whether what a session wrote survives the death of the machine.
    pub(super) fn is_durable(&self, id: u64) -> bool {
        let written = self.sessions.get(&id).map_or(Seq::default(), |session| session.state.written);
        self.core.shared.is_durable(written)
    }

    /// WAITAOF's replies.
    fn end_durable_waits(&mut self) {
        let has_journal = self.core.shared.settings.load().appendonly;
        for wait in std::mem::take(&mut self.core.side.durable_waits) {
            let waits = |session: &Session| {
                session.state.parked.is_some() && session.state.parked_time_up == TimeUp::Durable
            };
            let id = wait.session;
            if !self.sessions.get(&id).is_some_and(waits) {
                continue;
            }
            let is_refused = wait.is_local && !has_journal;
            let is_done = is_refused || (!wait.for_its_time && self.is_durable(id));
            if !is_done {
                self.core.side.durable_waits.push(wait);
            } else if self.sessions[&id].state.parked.as_ref().is_some_and(|waiter| waiter.finish()) {
                self.unpark(id, Seq::default(), |out, state| match is_refused {
                    true => Reply::new(out, state.protocol).error(persistence::NO_LOCAL.text()),
                    false => reply_timed_out(out, state, true),
                });
                self.flush(id);
            }
        }
    }
}

/// Whether the journal must come further before the session's output may leave.
fn is_held(shared: &Shared, session: &Session) -> bool {
    let hold = session.state.hold;
    hold > Seq::default() && shared.journal.load().as_ref().is_some_and(|journal| journal.synced() < hold)
}
