//! One event loop: reads what clients sent, runs it, writes what it answered.
//!
//! A tick: wait for events, read and run each ready session (bounded, so that nobody starves), handle
//! mail and timers, then write each session's output once. A connection stays on its loop.

mod accepting;
mod clients;
mod handshakes;

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token};
use thali_commands::ErrorReply;
use thali_journal::Seq;
use thali_resp::{Limits, Reply, Step};

use self::handshakes::Handshakes;
use crate::call::Core;
use crate::commands::{persistence, pubsub};
use crate::dispatch;
use crate::listener::Listener;
use crate::mailbox::Message;
use crate::session::{Close, OUTPUT_PAUSE_BYTES, Session, SessionState, TimeUp};
use crate::snapshots::{Stepped, Walker};
use crate::stats::LoopStats;
use crate::unit::Leftover;
use crate::{append_only, client_memory, cron, eviction, migration, table, tracking, unit};

pub(crate) const WAKER: Token = Token(0);
/// Listeners take the tokens from here to below [`SESSIONS`].
const LISTENERS: usize = 1;
const SESSIONS: usize = 1024;

/// What one read takes at most, and what a session may run in one turn.
const READ_BYTES: usize = 64 << 10;
/// Output room that a session keeps when it has nothing to send.
const OUTPUT_KEPT_BYTES: usize = 16 << 10;
/// Mail is looked at this often even under constant traffic; also how late a timer may be.
const TICK: Duration = Duration::from_millis(100);
/// Unfinished requests of a client that has not said its password. SOURCE: Redis 7.2 `networking.c`.
const QUERY_BYTES_BEFORE_AUTH_MAX: usize = 1 << 20;
/// Where a snapshot has to be written before it can go on, a loop looks again after this.
const WALK_AGAIN: Duration = Duration::from_millis(1);
pub(crate) struct EventLoop {
    pub core: Core,
    poll: Poll,
    listeners: Vec<Listener>,
    sessions: HashMap<u64, Session, foldhash::fast::RandomState>,
    handshakes: Handshakes,
    next_session: u64,
    ready: Vec<u64>,
    dirty: Vec<u64>,
    /// Sessions whose output waits for the journal.
    held: Vec<u64>,
    /// Sessions whose next request waits for the end of CLIENT PAUSE.
    postponed: Vec<u64>,
    mail: Vec<Message>,
    read_buffer: Box<[u8]>,
    /// Listeners that failed to accept: too many open files, most likely.
    accept_again: BTreeSet<usize>,
    next_cron: Instant,
    cron: cron::Cron,
    /// This loop's part in the running snapshot.
    walker: Option<Walker>,
    /// When the snapshot wants the loop again, events or not.
    walk_again: Option<Duration>,
    is_ending: bool,
}

impl EventLoop {
    pub fn new(core: Core, poll: Poll, listeners: Vec<Listener>) -> std::io::Result<Self> {
        let mut listeners = listeners;
        for (i, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(LISTENERS + i))?;
        }
        Ok(Self {
            core,
            poll,
            listeners,
            sessions: HashMap::default(),
            handshakes: Handshakes::default(),
            next_session: SESSIONS as u64,
            ready: Vec::new(),
            dirty: Vec::new(),
            held: Vec::new(),
            postponed: Vec::new(),
            mail: Vec::new(),
            read_buffer: vec![0; READ_BYTES].into(),
            accept_again: BTreeSet::new(),
            next_cron: Instant::now(),
            cron: cron::Cron::default(),
            walker: None,
            walk_again: None,
            is_ending: false,
        })
    }

    /// Runs until [`Message::Shutdown`].
    pub fn run(mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while !self.is_ending {
            let has_more = !self.ready.is_empty() || self.handshakes.is_ready();
            let timeout = if has_more { Duration::ZERO } else { self.until_next_timer() };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(error);
            }
            self.read_clock();
            let (begun, commands) = (Instant::now(), self.stats().commands.get());
            let was_asked = !events.is_empty() || !self.ready.is_empty();
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(token) if token < SESSIONS => self.accept(token - LISTENERS),
                    Token(token) => self.note_event(token as u64, event),
                }
            }
            for id in std::mem::take(&mut self.ready) {
                self.turn(id);
            }
            self.shake_hands();
            self.handle_mail();
            self.timers();
            self.make_room();
            self.write_journal();
            self.flush_all();
            self.count_cycle(begun, commands);
            self.walk_snapshot(was_asked.then(|| begun.elapsed()));
        }
        self.end();
        Ok(())
    }

    fn stats(&self) -> &LoopStats {
        self.core.shared.stats_of(self.core.side.event_loop)
    }

    fn count_cycle(&self, begun: Instant, commands_before: u64) {
        let (stats, nanos) = (self.stats(), nanos_since(begun));
        stats.cycles.add(1);
        stats.cycle_nanos.add(nanos);
        stats.cycle_nanos_max.raise(nanos);
        stats.commands_in_cycle_max.raise(stats.commands.get().saturating_sub(commands_before));
    }

    fn read_clock(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.core.side.now_ms = since.as_millis() as u64;
        self.core.side.uses = self.core.side.settings.uses(self.core.side.now_ms);
        self.core.side.keeps_expired = self.core.shared.pause.is_set() || self.core.side.settings.import_mode;
    }

    fn until_next_timer(&self) -> Duration {
        if self.core.side.evictor.goes_on {
            return Duration::ZERO;
        }
        let cron = self.next_cron.saturating_duration_since(Instant::now());
        let cron = self.walk_again.map_or(cron, |again| again.min(cron));
        let deadline = self.core.side.deadlines.first().map(|next| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
            Duration::from_millis(next.0.saturating_sub(now))
        });
        let deadline = deadline.map_or(cron, |deadline| deadline.min(cron));
        deadline.min(self.until_pause_ends())
    }

    fn note_event(&mut self, id: u64, event: &mio::event::Event) {
        let Some(session) = self.sessions.get_mut(&id) else { return self.handshakes.note_event(id) };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            session.readable = true;
            session.peer_ended |= event.is_read_closed() || event.is_error();
            if !std::mem::replace(&mut session.is_ready, true) {
                self.ready.push(id);
            }
        }
        if event.is_writable() {
            session.writable = true;
            if session.out.len() > session.out_at && !std::mem::replace(&mut session.is_dirty, true) {
                self.dirty.push(id);
            }
        }
    }

    /// One session's turn: read what is there, run what is complete.
    fn turn(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.is_ready = false;
        if session.state.info.is_leaving.load(Relaxed) {
            // Killed from another loop, which has been told that it is gone.
            session.state.close = Close::Now;
        }
        if session.state.close == Close::No && !session.input.is_empty() && !session.is_paused() {
            let input = std::mem::take(&mut session.input);
            let used = run_requests(&mut self.core, session, &input, 0);
            session.keep_rest(input, used);
        }
        if session.readable && session.state.close == Close::No && !session.is_paused() {
            self.read(id);
        }
        self.read_while_waiting(id);
        self.count_memory(id);
        self.note_postponed(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.state.close == Close::Now {
            return self.close(id);
        }
        if session.wants_turn() && !std::mem::replace(&mut session.is_ready, true) {
            self.ready.push(id);
        }
        let has_output = session.out.len() > session.out_at || session.state.close == Close::AfterReply;
        if has_output && !std::mem::replace(&mut session.is_dirty, true) {
            self.dirty.push(id);
        }
    }

    fn read(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let stats_of = self.core.side.event_loop;
        if session.input.is_empty() {
            // The common case: whole requests, run out of the loop's own buffer.
            match session.stream.read(&mut self.read_buffer) {
                Ok(0) => session.note_end(),
                Ok(len) => {
                    self.core.shared.stats_of(stats_of).input_bytes.add(len as u64);
                    session.note_read(len, self.read_buffer.len());
                    session.state.info.note_input(len, self.core.side.now_ms);
                    self.hear_what_was_acknowledged(id);
                    let Some(session) = self.sessions.get_mut(&id) else { return };
                    let buffer = std::mem::take(&mut self.read_buffer);
                    let used = run_requests(&mut self.core, session, &buffer[..len], 0);
                    session.keep_copy(&buffer[used..len], used);
                    self.read_buffer = buffer;
                }
                Err(error) => session.note_read_error(&error),
            }
            return self.check_query_len(id);
        }
        match read_on(session, &mut self.read_buffer) {
            Ok(0) => session.note_end(),
            Ok(got) => {
                self.core.shared.stats_of(stats_of).input_bytes.add(got as u64);
                session.state.info.note_input(got, self.core.side.now_ms);
                self.hear_what_was_acknowledged(id);
                // Before it runs: a large request may be what is too much.
                self.check_query_len(id);
                self.count_memory(id);
                let Some(session) = self.sessions.get_mut(&id) else { return };
                if session.state.close != Close::Now && session.input.len() >= session.wanted_len {
                    let input = std::mem::take(&mut session.input);
                    let used = run_requests(&mut self.core, session, &input, 0);
                    session.keep_rest(input, used);
                }
            }
            Err(error) => session.note_read_error(&error),
        }
        self.check_query_len(id);
    }

    /// `client-query-buffer-limit`: what a client has sent and nobody could run yet.
    fn check_query_len(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let bytes = session.query_len();
        let bytes_max = match session.state.is_authenticated {
            true => self.core.side.settings.client_query_buffer_limit,
            false => QUERY_BYTES_BEFORE_AUTH_MAX.min(self.core.side.settings.client_query_buffer_limit),
        };
        if bytes > bytes_max && session.state.close != Close::Now {
            let client = session.state.info.id;
            tracing::warn!(client, bytes, "client closed: query buffer limit reached");
            self.core.shared.stats_of(self.core.side.event_loop).query_limit_closes.add(1);
            session.state.close = Close::Now;
        }
    }

    /// A waiting session's bytes are kept for later, up to a bound; what matters is whether it left.
    fn read_while_waiting(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        while session.readable && session.state.is_waiting() && session.state.close == Close::No {
            if session.input.len() >= OUTPUT_PAUSE_BYTES {
                if session.peer_ended {
                    session.state.close = Close::Now;
                }
                return;
            }
            match session.stream.read(&mut self.read_buffer) {
                Ok(0) => session.note_end(),
                Ok(len) => {
                    self.core.shared.stats_of(self.core.side.event_loop).input_bytes.add(len as u64);
                    session.append_input(&self.read_buffer[..len]);
                    session.note_read(len, self.read_buffer.len());
                    session.state.info.note_input(len, self.core.side.now_ms);
                }
                Err(error) => session.note_read_error(&error),
            }
        }
    }

    fn handle_mail(&mut self) {
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
                        if push(session, frames.bytes(session.state.protocol), bytes_max) {
                            mark_dirty(dirty, id, session);
                        } else if !std::mem::replace(&mut session.is_ready, true) {
                            ready.push(id);
                        }
                    }
                });
            }
            Message::Stale(notices) => notices.iter().for_each(|notice| self.deliver_stale(notice)),
            Message::Monitored(line) => {
                let Self { core, sessions, dirty, ready, .. } = self;
                let bytes_max = core.side.settings.output_limit_pubsub.hard_bytes;
                for (id, session) in sessions.iter_mut().filter(|(_, session)| session.state.is_monitor) {
                    if push(session, &line, bytes_max) {
                        mark_dirty(dirty, *id, session);
                    } else if !std::mem::replace(&mut session.is_ready, true) {
                        ready.push(*id);
                    }
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
    fn count_ended_wait(&self, id: u64, error: Option<&ErrorReply>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(waiter) = &session.state.parked else { return };
        // WAITAOF has no request: it is counted when it is sent.
        let Some(row) = waiter.request.first().and_then(|name| table::find(name)) else { return };
        let stats = self.stats();
        let is_timed = self.core.side.settings.latency_tracking;
        stats.by_command.of(row, row.spec).record(0, error.is_some(), is_timed);
        if let Some(error) = error {
            stats.note_error(error.text());
        }
    }

    /// Ends a session's wait with a reply and lets it go on with what it sent meanwhile.
    fn unpark(&mut self, id: u64, seq: Seq, reply: impl FnOnce(&mut Vec<u8>, &mut SessionState)) {
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
        if !std::mem::replace(&mut session.is_ready, true) {
            self.ready.push(id);
        }
    }

    fn timers(&mut self) {
        while let Some(&(deadline_ms, id)) = self.core.side.deadlines.first() {
            if deadline_ms > self.core.side.now_ms {
                break;
            }
            self.core.side.deadlines.pop_first();
            let Some(session) = self.sessions.get(&id) else { continue };
            let Some(waiter) = &session.state.parked else { continue };
            if waiter.finish() {
                self.count_ended_wait(id, None);
                let is_durable = self.is_durable(id);
                self.unpark(id, Seq::default(), |out, state| reply_timed_out(out, state, is_durable));
            }
        }
        self.end_pause_if_over();
        let now = Instant::now();
        if now >= self.next_cron {
            self.next_cron = now + TICK;
            self.core.side.clock = now;
            self.cron.run(&mut self.core);
            self.check_clients();
            self.end_late_handshakes();
            self.stats().cron_nanos.add(nanos_since(now));
            for listener in self.accept_again.clone() {
                self.accept(listener);
            }
        }
    }

    /// Goes on with an eviction that would have kept clients waiting.
    fn make_room(&mut self) {
        if self.core.side.evictor.goes_on {
            eviction::make_room(&mut self.core);
            self.handle_mail();
        }
    }

    /// One write for all that the tick has changed, before its replies leave.
    fn write_journal(&mut self) {
        if let Some(seq) = self.core.side.appended.take()
            && let Some(journal) = &*self.core.shared.journal.load()
        {
            let begun = Instant::now();
            journal.flush(seq);
            self.stats().journal_nanos.add(nanos_since(begun));
        }
    }

    fn flush_all(&mut self) {
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

    /// Whether what a session wrote survives the death of the machine.
    fn is_durable(&self, id: u64) -> bool {
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

    fn flush(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.is_dirty = false;
        if session.state.hold > Seq::default()
            && let Some(journal) = &*self.core.shared.journal.load()
            && journal.synced() < session.state.hold
        {
            if journal.is_stuck() {
                // Whether the write survives is unknown, and so is its reply.
                return self.close(id);
            }
            self.held.push(id);
            return;
        }
        // Owed as soon as requests may run again, so whether or not the socket takes it now.
        while (session.writable && session.out_at < session.out.len()) || tracking::pay(session) {
            match session.stream.write(&session.out[session.out_at..]) {
                Ok(len) => {
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
            session.out.shrink_to(OUTPUT_KEPT_BYTES);
            session.out_at = 0;
            client_memory::count(&self.core, session);
            if session.state.close != Close::No {
                return self.close(id);
            }
            if session.wants_turn() && !std::mem::replace(&mut session.is_ready, true) {
                self.ready.push(id);
            }
        } else if session.out_at > OUTPUT_PAUSE_BYTES {
            session.out.drain(..session.out_at);
            session.out_at = 0;
        }
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.out.is_empty()
        {
            client_memory::count(&self.core, session);
        }
    }

    /// This loop's part in a running snapshot, after a tick that took `tick`.
    fn walk_snapshot(&mut self, tick: Option<Duration>) {
        let shared = &self.core.shared;
        let Some(walk) = shared.snapshots.walk_of_loops() else {
            (self.walker, self.walk_again) = (None, None);
            return;
        };
        let (own, loops) = (usize::from(self.core.side.event_loop), self.core.side.settings.loops);
        if own >= loops {
            return;
        }
        if !self.walker.as_ref().is_some_and(|walker| walker.is_of(&walk)) {
            self.walker = Some(Walker::new(walk, own, loops));
        }
        let walker = self.walker.as_mut().expect("made just now");
        // Whoever waits for the walk has nothing else that the loop could do.
        let tick = tick.filter(|_| self.postponed.is_empty());
        let mut retired = Vec::new();
        self.walk_again = match walker.step_of_loop(&shared.keyspace, tick, &mut retired) {
            Stepped::More => Some(Duration::ZERO),
            Stepped::NotNow => Some(WALK_AGAIN),
            Stepped::Through => None,
        };
        shared.freer.free(Vec::new(), retired);
        if tick.is_none() {
            // Who asks should not wait until the kernel ends this thread's turn.
            std::thread::yield_now();
        }
    }

    /// Ends a connection and everything that it left anywhere.
    fn close(&mut self, id: u64) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let _ = session.stream.deregister(self.poll.registry());
        let state = &mut session.state;
        if let Some(waiter) = state.parked.take() {
            waiter.finish();
            if let Some(deadline_ms) = state.parked_deadline_ms {
                self.core.side.deadlines.remove(&(deadline_ms, id));
            }
            unit::clear(&self.core.shared, &mut self.core.side, Leftover::Waiter(waiter));
        }
        self.core.shared.tracking.disable(&self.core.shared, state);
        client_memory::forget(&self.core, &state.info);
        dispatch::unwatch(&mut self.core, state);
        pubsub::unsubscribe_all(&mut self.core, state);
        if state.is_monitor {
            self.core.shared.monitors_len.fetch_sub(1, Relaxed);
        }
        self.core.shared.clients.remove(state.info.id);
    }

    /// Sends what may be sent. Replies that still wait for the journal were never acknowledged and go.
    fn end(&mut self) {
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            self.flush(id);
            self.close(id);
        }
    }
}

/// Reads on where a request is unfinished. Room grows with what has come, never with what was
/// announced: a claim costs its sender as much as us.
fn read_on(session: &mut Session, buffer: &mut [u8]) -> std::io::Result<usize> {
    let len = session.input.len();
    let room = session.wanted_len.saturating_sub(len).min(len).min(READ_AHEAD_BYTES_MAX);
    let got = if room <= buffer.len() {
        let got = session.stream.read(buffer)?;
        session.append_input(&buffer[..got]);
        session.note_read(got, buffer.len());
        got
    } else {
        session.input.reserve_exact(room);
        session.input.resize(len + room, 0);
        let got = session.stream.read(&mut session.input[len..]);
        session.input.truncate(len + *got.as_ref().unwrap_or(&0));
        session.note_read(got?, room);
        session.input.len() - len
    };
    Ok(got)
}

/// What one read may make room for beyond [`READ_BYTES`] when a request has announced its size.
const READ_AHEAD_BYTES_MAX: usize = 16 << 20;

fn nanos_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn mark_dirty(dirty: &mut Vec<u64>, id: u64, session: &mut Session) {
    if !std::mem::replace(&mut session.is_dirty, true) {
        dirty.push(id);
    }
}

/// Sends what was not asked for; false where the session does not take it and is to be closed. What
/// comes between two looks at the limits has the hard one as its bound, too (0 = none).
fn push(session: &mut Session, bytes: &[u8], bytes_max: u64) -> bool {
    let waiting = session.out.len() - session.out_at;
    if bytes_max > 0 && (waiting + bytes.len()) as u64 > bytes_max && waiting > 0 {
        session.state.close = Close::Now;
    }
    if session.state.close == Close::Now {
        return false;
    }
    session.out.extend_from_slice(bytes);
    true
}

fn reply_timed_out(out: &mut Vec<u8>, state: &mut SessionState, is_durable: bool) {
    let mut reply = Reply::new(out, state.protocol);
    match state.parked_time_up {
        TimeUp::Null => reply.null(),
        TimeUp::NullArray => reply.null_array(),
        TimeUp::Durable => persistence::reply_durable(&mut reply, is_durable),
    }
}

/// Runs the complete requests in `buffer` from `start`; gives how many bytes are done with.
fn run_requests(core: &mut Core, session: &mut Session, buffer: &[u8], start: usize) -> usize {
    let Session { parser, out, state, wanted_len, out_at, .. } = session;
    let mut at = start;
    core.side.clock = Instant::now();
    loop {
        let limits = if state.is_authenticated {
            Limits { bulk_len_max: core.side.settings.proto_max_bulk_len, ..Limits::OPEN }
        } else {
            Limits::UNAUTHENTICATED
        };
        match parser.parse(buffer, at, &limits) {
            Ok(Step::Request { end }) => {
                let args = parser.args(buffer);
                let request_at = std::mem::replace(&mut at, end);
                if !args.is_empty() {
                    dispatch::dispatch(core, state, &args, out);
                }
                // Nothing of a reply that is too long is sent, and nothing behind it runs.
                if out.len() - *out_at > core.side.settings.output_limit_normal.hard_bytes_or_max()
                    && state.subscribed.is_none()
                    && !state.is_monitor
                {
                    tracing::warn!(client = state.info.id, "client closed: output buffer limit reached");
                    core.shared.stats_of(core.side.event_loop).output_limit_closes.add(1);
                    state.close = Close::Now;
                }
                *wanted_len = 0;
                if state.is_postponed {
                    return request_at;
                }
                if state.parked.is_some()
                    || state.close != Close::No
                    || out.len() - *out_at > OUTPUT_PAUSE_BYTES
                {
                    return at;
                }
            }
            Ok(Step::Incomplete { total_len_min }) => {
                *wanted_len = total_len_min - at;
                return at;
            }
            Err(error) => {
                core.shared.stats_of(core.side.event_loop).protocol_errors.add(1);
                state.error(out, &ErrorReply::owned(format!("ERR Protocol error: {error}")));
                state.close = Close::AfterReply;
                return buffer.len();
            }
        }
    }
}
