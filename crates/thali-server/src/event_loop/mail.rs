//! What other loops and threads tell this one, and the ends of waits that come that way.

use thali_commands::ErrorReply;
use thali_journal::Seq;
use thali_resp::Reply;

use super::{EventLoop, mark_dirty, mark_ready};
use crate::commands::persistence;
use crate::mailbox::Message;
use crate::session::{Close, Session, SessionState, TimeUp};
use crate::unit::Leftover;
use crate::{append_only, client_memory, migration, table, unit};

impl EventLoop {
    pub fn handle_mail(&mut self) {
        // Serving one message may bring local ones; they are handled in the same tick.
        loop {
            let mut mail = std::mem::take(&mut self.mail);
            if self.core.side.local.is_empty() {
                let own = usize::from(self.core.side.event_loop);
                self.core.shared.mailboxes[own].take(&mut mail);
            } else {
                std::mem::swap(&mut self.core.side.local, &mut mail);
            }
            if mail.is_empty() {
                self.mail = mail;
                return;
            }
            for message in mail.drain(..) {
                self.handle(message);
            }
            self.mail = mail;
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Accepted(accepted) => self.take_in(accepted),
            Message::AcceptMore(listener) => self.accept(listener),
            Message::Served { session, reply, seq, nanos } => {
                if let Some(Session { state, .. }) = self.sessions.get(&session)
                    && let Some(waiter) = &state.parked
                {
                    self.core.shared.slowlog.note_request(&self.core.side, state, &waiter.request, nanos);
                }
                self.unpark(session, seq, |out, _| out.extend_from_slice(&reply))
            }
            Message::Unblocked { session, error } => {
                const UNBLOCKED: ErrorReply =
                    ErrorReply::new("UNBLOCKED client unblocked via CLIENT UNBLOCK");
                self.count_ended_wait(session, error.then_some(&UNBLOCKED));
                self.unpark(session, Seq::default(), |out, state| match error {
                    true => state.error(out, &UNBLOCKED),
                    false => reply_timed_out(out, state, false),
                });
            }
            Message::Migrated(migration) => {
                if let Some((address, outcome, seq)) = migration::finish(&mut self.core, *migration) {
                    self.unpark(address.session, seq, |out, state| match outcome {
                        Ok(()) => Reply::new(out, state.protocol).ok(),
                        Err(error) => state.error(out, &error),
                    });
                }
            }
            Message::Published(publication) => {
                let Self { core, sessions, dirty, ready, .. } = self;
                let bytes_max = core.side.settings.output_limit_pubsub.hard_bytes;
                core.side.subscriptions.deliver(&publication, |id, frames| {
                    if let Some(session) = sessions.get_mut(&id) {
                        let bytes = frames.bytes(session.state.protocol);
                        push(session, id, bytes, bytes_max, dirty, ready);
                    }
                });
            }
            Message::Stale(notices) => notices.iter().for_each(|notice| self.deliver_stale(notice)),
            Message::Monitored(line) => {
                let Self { core, sessions, dirty, ready, .. } = self;
                let bytes_max = core.side.settings.output_limit_pubsub.hard_bytes;
                for (id, session) in sessions.iter_mut().filter(|(_, session)| session.state.is_monitor) {
                    push(session, *id, &line, bytes_max, dirty, ready);
                }
            }
            Message::ChannelsRevoked { user, asked_by } => self.end_subscribers(&user, asked_by),
            Message::Kill { session } => self.close(session),
            Message::Synced => {
                for id in std::mem::take(&mut self.held) {
                    if let Some(session) = self.sessions.get_mut(&id) {
                        mark_dirty(&mut self.dirty, id, session);
                    }
                }
            }
            Message::Settings => {
                let settings = self.core.shared.settings.load_full();
                self.core.engine.limits = settings.limits.clone();
                self.core.side.uses = settings.uses(self.core.side.now_ms);
                self.core.side.settings = settings;
                self.core.side.evictor.is_out_of_memory = false;
                client_memory::evict(&mut self.core, false);
            }
            Message::Unpaused => self.end_pause(),
            Message::AppendOnlyOff => append_only::turn_off_later(&self.core.shared),
            Message::Emptied => {
                let shared = &self.core.shared;
                shared.snapshots.emptied(!shared.settings.load().save.is_empty());
            }
            Message::Listen(listener) => self.listen(listener),
            Message::Ports(listeners) => self.listen_to(listeners),
            Message::Shutdown => self.is_ending = true,
        }
    }

    /// Counts a command that has waited in vain: it ran now.
    pub(super) fn count_ended_wait(&self, id: u64, error: Option<&ErrorReply>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(waiter) = &session.state.parked else { return };
        // WAITAOF has no request: it is counted when it is sent.
        let Some(row) = waiter.request.first().and_then(|name| table::find(name)) else { return };
        let stats = self.stats();
        stats.by_command.of(row, row.spec).record(1, 0, self.core.side.settings.latency_tracking);
        if let Some(error) = error {
            stats.note_failure(row, row.spec, error);
        }
    }

    /// Ends a session's wait with a reply and lets it go on with what it sent meanwhile.
    pub(super) fn unpark(&mut self, id: u64, seq: Seq, reply: impl FnOnce(&mut Vec<u8>, &mut SessionState)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(waiter) = session.state.parked.take() else { return };
        *session.state.info.waiter.lock() = None;
        if let Some(deadline_ms) = session.state.parked_deadline_ms.take() {
            self.core.side.deadlines.remove(&(deadline_ms, id));
        }
        session.state.hold = session.state.hold.max(seq);
        crate::clients::add(&session.state.info.commands, 1);
        let start = session.out.len();
        reply(&mut session.out, &mut session.state);
        session.state.apply_reply_mode(&mut session.out, start, b"");
        unit::clear(&self.core.shared, &mut self.core.side, Leftover::Waiter(waiter));
        mark_dirty(&mut self.dirty, id, session);
        mark_ready(&mut self.ready, id, session);
    }
}

/// Sends what was not asked for; a session that does not take it gets a turn to end. What comes between two looks at
/// the limits has the hard one as its bound, too (0 = none).
fn push(
    session: &mut Session,
    id: u64,
    bytes: &[u8],
    bytes_max: u64,
    dirty: &mut Vec<u64>,
    ready: &mut Vec<u64>,
) {
    let waiting = session.out.len() - session.out_at;
    if bytes_max > 0 && (waiting + bytes.len()) as u64 > bytes_max && waiting > 0 {
        session.state.close = Close::Now;
    }
    if session.state.close == Close::Now {
        return mark_ready(ready, id, session);
    }
    session.out.extend_from_slice(bytes);
    mark_dirty(dirty, id, session);
}

pub(super) fn reply_timed_out(out: &mut Vec<u8>, state: &mut SessionState, is_durable: bool) {
    let mut reply = Reply::new(out, state.protocol);
    match state.parked_time_up {
        TimeUp::Null => reply.null(),
        TimeUp::NullArray => reply.null_array(),
        TimeUp::Durable => persistence::reply_durable(&mut reply, is_durable),
    }
}
