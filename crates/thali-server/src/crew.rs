//! Which threads run the event loops: one thread all of them, or each thread one.
//!
//! **Together**, thread 0 makes passes over all loops: it waits on a poll in which the loops' own polls are
//! registered, runs the first half of a tick for each loop that has something to do, then the second half, so that a
//! pass has one write of the journal and its replies leave together. Where one thread suffices this costs less than
//! several: fewer wake-ups, larger batches, nobody to wait for. **Apart**, each thread runs one loop.
//!
//! A loop stands in a slot, behind a lock; whoever runs it holds that. Together thread 0 takes the lock for each half
//! of a tick. Apart a thread keeps it as long as that lasts: of its own loop, or where another thread has that, of
//! any that is free. There are as many threads as loops, so each loop finds one.
//!
//! Together becomes apart where a command takes long (it must not keep the clients of other loops waiting: one resting
//! thread watches for that), where thread 0 is busy and the machine has processors to spare, and
//! by CONFIG SET. Thread 0 then keeps the loop that it is in. The way back, and the figures of both, stand in
//! `crew/load.rs`.

mod load;

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use parking_lot::{Condvar, Mutex, MutexGuard};
use smallvec::SmallVec;
use thali_sync::Attendance;

use self::load::{ApartLoad, CpuClock, TogetherLoad, Tries, Window};
use crate::call::Shared;
use crate::event_loop::{EVENTS_LEN, EventLoop};

/// How often the watcher looks. A command that two looks find under way is too long: the clients of other loops have
/// waited for one to two of these then.
const LOOK: Duration = Duration::from_millis(4);
/// A pass with many short commands is one of a server with much to do; beyond this many looks it is too long as well.
const PASS_LOOKS_MAX: u32 = 5;
/// A pass under way at two looks in which thread 0 ran for less was put off the processor.
const RAN_MIN: Duration = Duration::from_millis(1);
/// Looks without a pass that was asked for, after which the watcher sleeps.
const QUIET_LOOKS_MAX: u32 = 25;
/// How often in a pass what loops tell each other is looked at; what comes then waits for the next one.
const MAIL_ROUNDS_MAX: usize = 4;
/// A thread without a loop looks for a free one this often, and thread 0 for loops that others still have.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A loop's place.
pub(crate) struct Slot {
    /// The loop's poll, for that of thread 0.
    registry: Registry,
    /// `None` once it has ended.
    event_loop: Mutex<Option<EventLoop>>,
}

impl Slot {
    pub fn new(event_loop: EventLoop) -> io::Result<Self> {
        Ok(Self { registry: event_loop.registry().try_clone()?, event_loop: Mutex::new(Some(event_loop)) })
    }

    /// The loop, where nobody runs it and it has not ended.
    fn take(&self) -> Option<Held<'_>> {
        self.event_loop.try_lock().filter(|event_loop| event_loop.is_some()).map(Held)
    }
}

/// A loop that a thread runs. INVARIANT: it has not ended.
struct Held<'s>(MutexGuard<'s, Option<EventLoop>>);

impl Deref for Held<'_> {
    type Target = EventLoop;

    fn deref(&self) -> &EventLoop {
        self.0.as_ref().expect("taken only where it is")
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut EventLoop {
        self.0.as_mut().expect("taken only where it is")
    }
}

/// Why thread 0 leaves a pass before its end.
enum Left<'s> {
    /// They are to go apart; with the loop that it was in.
    Apart(Option<Held<'s>>),
    Failed(io::Error),
}

impl From<io::Error> for Left<'_> {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// The first half of a tick, in a pass. Whether the loop had anything to do but its timers.
fn begin(event_loop: &mut EventLoop, events: &mut Events) -> io::Result<bool> {
    event_loop.begin(events, Duration::ZERO)?;
    event_loop.pause_tick();
    Ok(event_loop.was_asked())
}

/// What all threads know of who runs what.
#[derive(Debug)]
pub(crate) struct Crew {
    /// Of thread 0 to the loops.
    attendance: Attendance,
    changes: AtomicU64,
    /// Passes that events or sessions asked for; those by timers alone do not wake the watcher.
    passes_asked: AtomicU64,
    /// What all passes took.
    busy_nanos: AtomicU64,
    is_watcher_asleep: AtomicBool,
    /// That have not ended. Changed with the lock of `state`, for whoever waits for it.
    loops_left: AtomicUsize,
    clocks: Box<[OnceLock<CpuClock>]>,
    state: Mutex<State>,
    changed: Condvar,
    /// The watcher waits here.
    asked: Condvar,
}

#[derive(Debug)]
struct State {
    /// `loops-together auto`, several loops, and a system that tells how busy it is.
    may_be_together: bool,
    has_watcher: bool,
    tries: Tries,
}

impl Crew {
    pub fn new(loops: usize, auto: bool) -> Self {
        let may_be_together = auto && can_be_together(loops);
        let tries = Tries::new(Instant::now());
        Self {
            attendance: Attendance::new(may_be_together),
            changes: AtomicU64::new(0),
            passes_asked: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            is_watcher_asleep: AtomicBool::new(false),
            loops_left: AtomicUsize::new(loops),
            clocks: (0..loops).map(|_| OnceLock::new()).collect(),
            state: Mutex::new(State { may_be_together, has_watcher: false, tries }),
            changed: Condvar::new(),
            asked: Condvar::new(),
        }
    }

    pub fn is_together(&self) -> bool {
        self.attendance.is_together()
    }

    /// How often the loops went together or apart.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// CONFIG SET `loops-together`: together at once, and the load decides from then on; or apart for good.
    pub fn set_auto(&self, shared: &Shared, auto: bool) {
        let may = auto && can_be_together(self.clocks.len());
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.may_be_together, may) != may {
            self.change(shared, &mut state, may);
        }
    }

    fn change(&self, shared: &Shared, _state: &mut State, together: bool) {
        if self.attendance.set_together(together) {
            self.changes.fetch_add(1, Relaxed);
            self.changed.notify_all();
            self.asked.notify_all();
            self.wake_loops(shared);
        }
    }

    fn has_loops(&self) -> bool {
        self.loops_left.load(SeqCst) > 0
    }

    /// Ends the wait of whoever waits for a loop's events, and of those who are about to.
    fn wake_loops(&self, shared: &Shared) {
        shared.mailboxes.iter().take(self.clocks.len()).for_each(|mailbox| mailbox.waker().wake_always());
    }

    /// See [`Attendance::looks_at_mail`].
    pub fn looks_at_mail(&self) -> bool {
        self.attendance.looks_at_mail()
    }

    fn begin_pass(&self, was_asked: bool) {
        self.attendance.begin_pass();
        // With `watch`: either the watcher sees the pass, or this sees it asleep.
        if was_asked {
            self.passes_asked.store(self.passes_asked.load(Relaxed) + 1, SeqCst);
            if self.is_watcher_asleep.load(SeqCst) {
                let _state = self.state.lock();
                self.is_watcher_asleep.store(false, SeqCst);
                self.asked.notify_all();
            }
        }
    }

    /// Thread 0's processor time, in a pass.
    fn ran_in_pass(&self, passes: u64) -> Option<Duration> {
        if passes % 2 == 1 { self.clocks[0].get()?.read() } else { None }
    }

    /// Whether thread 0 has gone on with its pass or waits for something, between two looks. One that only waits for a
    /// processor, as others take it, would not be faster apart.
    fn has_gone_on(&self, before: Option<Duration>, now: Option<Duration>) -> bool {
        let ran = before.zip(now).map(|(before, now)| now.saturating_sub(before));
        ran.is_none_or(|ran| ran >= RAN_MIN) || self.clocks[0].get().is_none_or(|clock| !clock.is_runnable())
    }

    fn end_pass(&self, took: Duration) {
        self.busy_nanos.store(self.busy_nanos.load(Relaxed) + took.as_nanos() as u64, Relaxed);
        self.attendance.end_pass();
    }
}

fn can_be_together(loops: usize) -> bool {
    let can = loops > 1 && load::is_known();
    if loops > 1 && !can {
        tracing::info!("the system does not tell in /proc how busy it is: event loops stay apart");
    }
    can
}

/// One of the threads.
pub(crate) struct Member<'s> {
    pub number: usize,
    pub slots: &'s [Slot],
    pub shared: &'s Shared,
}

impl<'s> Member<'s> {
    /// Runs loops until all have ended.
    pub fn run(&self) -> io::Result<()> {
        if let Some(clock) = CpuClock::of_this_thread() {
            let _ = self.crew().clocks[self.number].set(clock);
        }
        let mut events = Events::with_capacity(EVENTS_LEN);
        while self.crew().has_loops() {
            if !self.crew().is_together() {
                self.run_apart(&mut events, None)?;
            } else if self.number > 0 {
                self.rest();
            } else if let Some(held) = self.run_together(&mut events)? {
                self.run_apart(&mut events, Some(held))?;
            }
        }
        Ok(())
    }

    fn crew(&self) -> &'s Crew {
        &self.shared.crew
    }

    /// Runs one loop for as long as they are apart: the one that it holds, its own, or one that is free.
    fn run_apart(&self, events: &mut Events, held: Option<Held<'s>>) -> io::Result<()> {
        let crew = self.crew();
        let own_first = || std::iter::once(&self.slots[self.number]).chain(self.slots);
        let Some(mut held) = held.or_else(|| own_first().find_map(Slot::take)) else {
            let mut state = crew.state.lock();
            if crew.has_loops() && !crew.is_together() {
                crew.changed.wait_for(&mut state, LOOK_AGAIN);
            }
            return Ok(());
        };
        let mut load =
            (self.number == 0 && self.slots.len() > 1).then(|| ApartLoad::new(self.shared, &crew.clocks));
        held.run_while(events, |now| {
            if let Some(load) = &mut load
                && let Some(window) = load.look(self.shared, &crew.clocks, now)
            {
                self.judge(window, now);
            }
            !crew.is_together()
        })?;
        drop(self.end_if_asked(held));
        // Thread 0 may have come for it already.
        crew.wake_loops(self.shared);
        Ok(())
    }

    /// To be asked between ticks. Gives the loop back, if it goes on.
    fn end_if_asked(&self, mut held: Held<'s>) -> Option<Held<'s>> {
        if !held.is_ending() {
            return Some(held);
        }
        held.end();
        *held.0 = None;
        let _state = self.crew().state.lock();
        self.crew().loops_left.fetch_sub(1, SeqCst);
        self.crew().changed.notify_all();
        self.crew().asked.notify_all();
        None
    }

    /// A loop's turn in a pass; `None` where another thread has it, or it has ended.
    fn borrow(&self, i: usize) -> Result<Option<Held<'s>>, Left<'s>> {
        if self.crew().is_together() { Ok(self.slots[i].take()) } else { Err(Left::Apart(None)) }
    }

    fn give_back(&self, held: Held<'s>) -> Result<(), Left<'s>> {
        if self.crew().is_together() { Ok(()) } else { Err(Left::Apart(Some(held))) }
    }

    fn judge(&self, window: Window, now: Instant) {
        let mut state = self.crew().state.lock();
        if state.may_be_together
            && let Some(back) = state.tries.judge(window, now)
        {
            state.tries.note_back(back, now);
            self.crew().change(self.shared, &mut state, true);
        }
    }

    /// Thread 0's passes. Gives the loop that it was in when they went apart.
    fn run_together(&self, events: &mut Events) -> io::Result<Option<Held<'s>>> {
        let crew = self.crew();
        let mut poll = Poll::new()?;
        for (i, slot) in self.slots.iter().enumerate() {
            let fd = slot.registry.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), Token(i), Interest::READABLE)?;
        }
        let mut ready = Events::with_capacity(self.slots.len());
        // The poll is edge-triggered and says nothing of what came before.
        let mut due = vec![Instant::now(); self.slots.len()];
        let mut has_more = true;
        crew.end_pass(Duration::ZERO);
        while crew.has_loops() {
            let now = Instant::now();
            has_more |= self.look_for_mail(&mut due, now);
            let next = due.iter().copied().min().unwrap_or(now);
            let timeout = next.saturating_duration_since(now);
            if let Err(error) = poll.poll(&mut ready, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            let begun = Instant::now();
            ready.iter().for_each(|event| due[event.token().0] = begun);
            crew.begin_pass(!ready.is_empty() || std::mem::take(&mut has_more));
            match self.pass(events, &mut due, &mut has_more, begun) {
                Ok(()) => crew.end_pass(begun.elapsed()),
                Err(Left::Apart(held)) => return Ok(held),
                Err(Left::Failed(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Mail that came in a pass woke nobody ([`Attendance`]). Whether there is any.
    fn look_for_mail(&self, due: &mut [Instant], now: Instant) -> bool {
        let mut is_found = false;
        for (i, due) in due.iter_mut().enumerate() {
            // A thread that still has the loop wakes it when it lets it go.
            if self.shared.mailboxes[i].has_mail() && self.slots[i].take().is_some() {
                (*due, is_found) = (now, true);
            }
        }
        is_found
    }

    /// One pass over the loops that are due, and those with mail. Notes in `due` when each is due again, and in
    /// `has_more` whether somebody may wait for the next pass.
    fn pass(
        &self,
        events: &mut Events,
        due: &mut [Instant],
        has_more: &mut bool,
        now: Instant,
    ) -> Result<(), Left<'s>> {
        let mut was_asked = false;
        let mut begun = SmallVec::<[usize; 16]>::new();
        for (i, due) in due.iter_mut().enumerate().filter(|(_, due)| **due <= now) {
            *due = now + LOOK_AGAIN;
            let Some(mut held) = self.borrow(i)? else {
                // What its poll has told will not be told again.
                *has_more = true;
                continue;
            };
            begun.push(i);
            was_asked |= begin(&mut held, events)?;
            self.give_back(held)?;
        }
        // What they tell each other is heard in the same pass.
        for _ in 0..MAIL_ROUNDS_MAX {
            let mut was_told = false;
            for i in (0..self.slots.len()).filter(|i| self.shared.mailboxes[*i].has_mail()) {
                let Some(mut held) = self.borrow(i)? else { continue };
                was_told = true;
                if begun.contains(&i) {
                    held.resume_tick();
                    held.handle_mail();
                    held.pause_tick();
                } else {
                    begun.push(i);
                    was_asked |= begin(&mut held, events)?;
                }
                self.give_back(held)?;
            }
            if !was_told {
                break;
            }
        }
        for i in begun {
            let Some(mut held) = self.borrow(i)? else { continue };
            held.resume_tick();
            held.finish(was_asked);
            *has_more |= held.has_more();
            due[i] = Instant::now() + held.until_next_tick();
            self.end_if_asked(held).map_or(Ok(()), |held| self.give_back(held))?;
        }
        Ok(())
    }

    /// What threads do while thread 0 runs all loops: one of them watches it, the others sleep.
    fn rest(&self) {
        let crew = self.crew();
        let mut state = crew.state.lock();
        if !crew.has_loops() || !crew.is_together() {
            return;
        }
        if state.has_watcher {
            return crew.changed.wait(&mut state);
        }
        state.has_watcher = true;
        self.watch(&mut state);
        state.has_watcher = false;
    }

    /// That have run on all loops.
    fn commands(&self) -> u64 {
        self.shared.stats.iter().take(self.slots.len()).map(|stats| stats.commands.get()).sum()
    }

    /// Watches until thread 0 is no longer to run all loops. Sleeps while nobody asks for anything.
    fn watch(&self, state: &mut MutexGuard<'_, State>) {
        let crew = self.crew();
        let mut passes = crew.attendance.passes();
        let mut asked = crew.passes_asked.load(SeqCst);
        let mut quiet_looks = 0;
        let (mut ran, mut commands, mut looks_in_pass) = (None, 0, 0);
        let mut load = TogetherLoad::new(self.shared, Instant::now(), crew.busy_nanos.load(Relaxed));
        while crew.has_loops() && crew.is_together() {
            if quiet_looks < QUIET_LOOKS_MAX {
                crew.asked.wait_for(state, LOOK);
            } else {
                // First say so, then look once more: a pass that begins is seen, or sees this.
                crew.is_watcher_asleep.store(true, SeqCst);
                if crew.passes_asked.load(SeqCst) == asked {
                    crew.asked.wait(state);
                }
                crew.is_watcher_asleep.store(false, SeqCst);
                quiet_looks = 0;
            }
            let passes_before = std::mem::replace(&mut passes, crew.attendance.passes());
            let asked_before = std::mem::replace(&mut asked, crew.passes_asked.load(SeqCst));
            quiet_looks = if asked == asked_before && passes.is_multiple_of(2) { quiet_looks + 1 } else { 0 };
            let now = Instant::now();
            let ran_before = std::mem::replace(&mut ran, crew.ran_in_pass(passes));
            let commands_before = std::mem::replace(&mut commands, self.commands());
            looks_in_pass = if passes == passes_before && passes % 2 == 1 { looks_in_pass + 1 } else { 0 };
            let is_long = looks_in_pass > 0
                && (commands == commands_before || looks_in_pass >= PASS_LOOKS_MAX)
                && crew.has_gone_on(ran_before, ran);
            let too_much = load.too_much(self.shared, now, crew.busy_nanos.load(Relaxed));
            let too_much = too_much.filter(|_| state.tries.may_try(now));
            if is_long || too_much.is_some() {
                state.tries.note_apart(too_much.filter(|_| !is_long), now);
                crew.change(self.shared, state, false);
            }
        }
    }
}
