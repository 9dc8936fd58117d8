//! One event loop: reads what clients sent, runs it, writes what it answered.
//!
//! A tick: wait for events, read and run each ready session (bounded, so that nobody starves), handle
//! mail and timers, then write each session's output once. A connection stays on its loop; which thread runs the loop
//! may change between ticks, and between the halves of one (`crew.rs`).

mod accepting;
mod clients;
mod handshakes;
mod mail;
mod reading;
mod stepping;
mod writing;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token};
use thali_journal::Seq;

use self::handshakes::Handshakes;
use self::mail::reply_timed_out;
use crate::call::Core;
use crate::commands::pubsub;
use crate::listener::Listener;
use crate::mailbox::Message;
use crate::session::Session;
use crate::snapshots::{Stepped, Walker};
use crate::stats::LoopStats;
use crate::unit::Leftover;
use crate::{client_memory, cron, dispatch, eviction, unit};

pub(crate) const WAKER: Token = Token(0);
/// Listeners take the tokens from here to below [`SESSIONS`].
const LISTENERS: usize = 1;
const SESSIONS: usize = 1024;
/// Events that one look takes from the poll.
pub(crate) const EVENTS_LEN: usize = 1024;

/// What one read takes at most, and what a session may run in one turn. A value of 64 KiB fits with its request: what
/// comes in two reads is copied once more.
const READ_BYTES: usize = 128 << 10;
/// Mail is looked at this often even under constant traffic; also how late a timer may be.
const TICK: Duration = Duration::from_millis(100);
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
    /// Sessions with commands that go on in steps, the next one first.
    stepping: VecDeque<u64>,
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
    tick: Tick,
}

/// What a tick's end wants to know of its beginning.
struct Tick {
    begun: Instant,
    paused_at: Instant,
    commands_before: u64,
    was_asked: bool,
    /// The poll had more than fits into one look; no other poll will say so.
    has_more_events: bool,
}

impl EventLoop {
    pub fn new(core: Core, poll: Poll, listeners: Vec<Listener>) -> io::Result<Self> {
        let mut listeners = listeners;
        for (i, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(LISTENERS + i))?;
        }
        let now = Instant::now();
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
            stepping: VecDeque::new(),
            mail: Vec::new(),
            read_buffer: vec![0; READ_BYTES].into(),
            accept_again: BTreeSet::new(),
            next_cron: now,
            cron: cron::Cron::default(),
            walker: None,
            walk_again: None,
            is_ending: false,
            tick: Tick {
                begun: now,
                paused_at: now,
                commands_before: 0,
                was_asked: false,
                has_more_events: false,
            },
        })
    }

    /// Runs until [`Message::Shutdown`].
    pub fn run(mut self) -> io::Result<()> {
        self.run_while(&mut Events::with_capacity(EVENTS_LEN), |_| true)?;
        self.end();
        Ok(())
    }

    /// Runs until [`Message::Shutdown`], or until `goes_on`, asked with the time after each tick, says no.
    pub fn run_while(
        &mut self,
        events: &mut Events,
        mut goes_on: impl FnMut(Instant) -> bool,
    ) -> io::Result<()> {
        // Another thread may have left it in the midst of a tick.
        let mut timeout = Duration::ZERO;
        loop {
            self.begin(events, timeout)?;
            self.finish(self.tick.was_asked);
            if self.is_ending || !goes_on(self.tick.begun) {
                return Ok(());
            }
            timeout = self.until_next_tick();
        }
    }

    /// The first half of a tick: waits for events, for up to `timeout`, and runs what there is to run.
    pub fn begin(&mut self, events: &mut Events, timeout: Duration) -> io::Result<()> {
        if let Err(error) = self.poll.poll(events, Some(timeout))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.read_clock();
        let begun = Instant::now();
        self.tick = Tick {
            begun,
            paused_at: begun,
            commands_before: self.stats().commands.get(),
            was_asked: !events.is_empty() || !self.ready.is_empty(),
            has_more_events: events.iter().count() >= events.capacity(),
        };
        for event in &*events {
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
        self.step_commands();
        if self.cron.until_removal() == Some(Duration::ZERO) {
            self.cron.expire(&mut self.core);
        }
        Ok(())
    }

    /// The second half: what was run is journaled and answered. `was_asked`: somebody waits for this thread, it has
    /// not come for its timers alone.
    pub fn finish(&mut self, was_asked: bool) {
        self.write_journal();
        self.flush_all();
        self.count_cycle();
        self.walk_snapshot(was_asked.then(|| self.tick.begun.elapsed()));
    }

    /// When the next tick is due, events or not.
    pub fn until_next_tick(&self) -> Duration {
        if self.has_more() { Duration::ZERO } else { self.until_next_timer() }
    }

    /// Whether sessions wait for the next tick: to run, or to be sent more.
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty()
            || !self.dirty.is_empty()
            || self.handshakes.is_ready()
            || self.tick.has_more_events
    }

    /// Whether the tick had events or sessions to run; else it came for its timers.
    pub fn was_asked(&self) -> bool {
        self.tick.was_asked
    }

    /// What other loops do between the halves of a tick is no part of it: its time stops.
    pub fn pause_tick(&mut self) {
        self.tick.paused_at = Instant::now();
    }

    pub fn resume_tick(&mut self) {
        self.tick.begun += self.tick.paused_at.elapsed();
    }

    pub fn is_ending(&self) -> bool {
        self.is_ending
    }

    pub fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    fn stats(&self) -> &LoopStats {
        self.core.shared.stats_of(self.core.side.event_loop)
    }

    fn count_cycle(&self) {
        let (stats, nanos) = (self.stats(), nanos_since(self.tick.begun));
        stats.cycles.add(1);
        stats.cycle_nanos.add(nanos);
        stats.cycle_nanos_max.raise(nanos);
        stats.commands_in_cycle_max.raise(stats.commands.get().saturating_sub(self.tick.commands_before));
    }

    fn read_clock(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.core.side.now_ms = since.as_millis() as u64;
        self.core.side.uses = self.core.side.settings.uses(self.core.side.now_ms);
        self.core.side.keeps_expired = self.core.shared.pause.is_set() || self.core.side.settings.import_mode;
    }

    fn until_next_timer(&self) -> Duration {
        if self.core.side.evictor.goes_on || !self.stepping.is_empty() {
            return Duration::ZERO;
        }
        let cron = self.next_cron.saturating_duration_since(Instant::now());
        let cron = self.walk_again.map_or(cron, |again| again.min(cron));
        let cron = self.cron.until_removal().map_or(cron, |removal| removal.min(cron));
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
            mark_ready(&mut self.ready, id, session);
        }
        if event.is_writable() {
            session.writable = true;
            if session.out.len() > session.out_at {
                mark_dirty(&mut self.dirty, id, session);
            }
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
    pub fn end(&mut self) {
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            self.flush(id);
            while self.sessions.get(&id).is_some_and(|session| session.is_dirty) {
                self.flush(id);
            }
            self.close(id);
        }
    }
}

fn nanos_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Gives the session a turn in the next tick.
fn mark_ready(ready: &mut Vec<u64>, id: u64, session: &mut Session) {
    if !std::mem::replace(&mut session.is_ready, true) {
        ready.push(id);
    }
}

/// Has the session's output written at the end of the tick.
fn mark_dirty(dirty: &mut Vec<u64>, id: u64, session: &mut Session) {
    if !std::mem::replace(&mut session.is_dirty, true) {
        dirty.push(id);
    }
}
