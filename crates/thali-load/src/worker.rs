//! The loop of a thread: sends what is due on its connections, and takes replies.
//!
//! Owns the pace and the counting. All times are nanoseconds since the run began. What grows is bounded by the plan:
//! a client has at most `pipeline` requests unanswered, and requests that wait for a free client are no queue but a
//! place in the timetable.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::connection::{Connection, Lost, READ_BYTES, allow_files};
use crate::outcome::latencies;
use crate::replies::Seen;
use crate::template::KEYS_MAX;
use crate::{KindOutcome, Length, LoadError, Outcome, Pace, Plan};

/// How long replies are waited for when no more is sent.
pub(crate) const PATIENCE_NS: u64 = 10_000_000_000;
/// How often a thread that hears nothing looks whether it should end.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(50);
/// Events taken at once.
pub(crate) const EVENTS_MAX: usize = 1024;
/// The timetable's clock ticks no faster; at higher rates several requests go out in one tick.
const TICK_MIN_NS: u64 = 50_000;
/// Files beside the connections.
pub(crate) const FILES_BESIDE: usize = 64;
const TIMER: Token = Token(usize::MAX);

/// Connects and runs the plan: [`Connected::new`] and [`Connected::run`].
pub fn run(plan: &Plan, stop: &AtomicBool) -> Result<Outcome, LoadError> {
    Connected::new(plan)?.run(stop)
}

/// All connections of a plan, before the first request. For who measures the server and wants to begin here.
pub struct Connected<'a> {
    workers: Vec<Worker<'a>>,
}

impl<'a> Connected<'a> {
    pub fn new(plan: &'a Plan) -> Result<Self, LoadError> {
        check(plan)?;
        allow_files(plan.clients + FILES_BESIDE)?;
        let workers = (0..plan.threads).map(|at| Worker::connect(plan, at)).collect::<Result<_, _>>()?;
        Ok(Self { workers })
    }

    /// Runs the plan to its end, or until `stop` is set; what is under way then is still waited for. Connections stay
    /// open until the value ends.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<Outcome, LoadError> {
        let failed = AtomicBool::new(false);
        let begun = Instant::now();
        thread::scope(|scope| {
            let running: Vec<_> = self
                .workers
                .iter_mut()
                .map(|worker| {
                    let failed = &failed;
                    scope.spawn(move || {
                        let should_end = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
                        let outcome = worker.run(begun, &should_end);
                        failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                        outcome
                    })
                })
                .collect();
            sum(running.into_iter().map(|thread| thread.join().expect("workers do not panic")))
        })
    }
}

/// Of all threads; the first failure, if one failed.
fn sum(outcomes: impl Iterator<Item = Result<Outcome, LoadError>>) -> Result<Outcome, LoadError> {
    let mut outcomes = outcomes.collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut all = outcomes.next().expect("there is a thread");
    outcomes.for_each(|outcome| all.add(&outcome));
    Ok(all)
}

fn check(plan: &Plan) -> Result<(), LoadError> {
    let wrong = |words: &str| Err(LoadError::Plan(words.to_owned()));
    match plan {
        _ if plan.clients == 0 || plan.pipeline == 0 || plan.threads == 0 => {
            wrong("clients, pipeline and threads are at least 1")
        }
        _ if plan.threads > plan.clients => wrong("there are more threads than clients"),
        _ if plan.kinds.iter().map(|kind| u64::from(kind.weight)).sum::<u64>() == 0 => {
            wrong("there is nothing to send")
        }
        _ if !(1..=KEYS_MAX).contains(&plan.keys) => wrong("the key space has 1 to 1,000,000,000,000 keys"),
        Plan { pace: Pace::Open { rate }, .. } if !(0.001..=1e9).contains(rate) => {
            wrong("the rate lies between 0.001 and a billion a second")
        }
        _ => Ok(()),
    }
}

/// Requests of one kind that were sent together and have no reply yet.
struct Batch {
    due_ns: u64,
    kind: usize,
    len: usize,
}

struct Client {
    connection: Connection,
    unanswered: VecDeque<Batch>,
}

struct Worker<'a> {
    plan: &'a Plan,
    poll: Poll,
    clients: Vec<Client>,
    numbers: Numbers,
    weights: u32,
    /// Requests of the measured part that are still to be sent.
    to_send: u64,
    /// From when to when requests are measured.
    from_ns: u64,
    until_ns: u64,
    timetable: Option<Timetable>,
    unanswered: u64,
    tally: Tally,
    request: Vec<u8>,
}

/// What an open loop needs beside.
struct Timetable {
    phase_ns: u64,
    interval_ns: u64,
    /// Requests sent so far.
    next: u64,
    /// A place for each request that a client may have unanswered, in the order in which they became free.
    free: VecDeque<usize>,
    free_since_ns: u64,
    late: Histogram<u64>,
    timer: OwnedFd,
}

impl Timetable {
    fn due_ns(&self) -> u64 {
        self.phase_ns + self.next * self.interval_ns
    }
}

impl<'a> Worker<'a> {
    fn connect(plan: &'a Plan, at: usize) -> Result<Self, LoadError> {
        let share = |all: u64| all / plan.threads as u64 + u64::from((at as u64) < all % plan.threads as u64);
        let system = |what| move |error| LoadError::System { what, error };
        let poll = Poll::new().map_err(system("make a poll"))?;
        let mut clients = Vec::new();
        for token in 0..share(plan.clients as u64) as usize {
            let mut connection = Connection::dial(plan.address, &plan.greeting)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registered = poll.registry().register(&mut connection.stream, Token(token), interest);
            registered.map_err(system("watch a connection"))?;
            clients.push(Client { connection, unanswered: VecDeque::with_capacity(plan.pipeline) });
        }
        let timetable = match plan.pace {
            Pace::Closed => None,
            Pace::Open { rate } => Some(timetable(plan, rate, at, clients.len(), &poll)?),
        };
        let from_ns = plan.warm_up.as_nanos() as u64;
        let (to_send, until_ns) = match plan.length {
            Length::Requests(requests) => (share(requests), u64::MAX),
            Length::Time(time) => (u64::MAX, from_ns + time.as_nanos() as u64),
        };
        Ok(Self {
            plan,
            poll,
            clients,
            numbers: Numbers {
                rng: fastrand::Rng::with_seed(plan.seed.wrapping_add(at as u64)),
                keys: plan.keys,
                sequence: plan.sequential.then_some(at as u64),
                step: plan.threads as u64,
            },
            weights: plan.kinds.iter().map(|kind| kind.weight).sum(),
            to_send,
            from_ns,
            until_ns,
            timetable,
            unanswered: 0,
            tally: Tally::new(plan, from_ns),
            request: Vec::new(),
        })
    }

    fn run(&mut self, begun: Instant, should_end: &dyn Fn() -> bool) -> Result<Outcome, LoadError> {
        let clock = || begun.elapsed().as_nanos() as u64;
        let cpu_before = cpu_seconds();
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        self.start_timer(clock())?;
        if self.timetable.is_none() {
            for at in 0..self.clients.len() {
                self.send_pipeline(at, clock()).map_err(|lost| self.gone(lost))?;
            }
        }
        let mut ended_ns = None;
        loop {
            let now = clock();
            if ended_ns.is_none() && (should_end() || self.all_sent(now)) {
                ended_ns = Some(now);
                // What was not sent by then is not sent any more.
                self.until_ns = self.until_ns.min(now);
            }
            match ended_ns {
                Some(_) if self.unanswered == 0 => break,
                Some(ended_ns) if now > ended_ns + PATIENCE_NS => break,
                _ => {}
            }
            if let Err(error) = self.poll.poll(&mut events, Some(LOOK_UP))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(LoadError::System { what: "wait for events", error });
            }
            for event in &events {
                if event.token() == TIMER {
                    self.read_timer();
                    continue;
                }
                let went = self.client_event(event.token().0, event.is_writable(), &mut buffer, &clock);
                went.map_err(|lost| self.gone(lost))?;
                if self.tally.unasked {
                    return Err(LoadError::Unasked { address: self.plan.address });
                }
            }
            self.send_due(&clock).map_err(|lost| self.gone(lost))?;
        }
        Ok(self.outcome(cpu_seconds() - cpu_before))
    }

    fn gone(&self, lost: Lost) -> LoadError {
        lost.at(self.plan.address, self.tally.replies, self.tally.first_error.clone())
    }

    fn client_event(
        &mut self,
        at: usize,
        is_writable: bool,
        buffer: &mut [u8],
        clock: &impl Fn() -> u64,
    ) -> Result<(), Lost> {
        let Client { connection, unanswered } = &mut self.clients[at];
        if is_writable {
            connection.flush()?;
        }
        let before = self.tally.replies;
        loop {
            // Of the first reply of each read, taken when it is there.
            let mut now = None;
            let more = connection.receive(buffer, |seen| {
                let now = *now.get_or_insert_with(clock);
                self.tally.take(unanswered, now, seen);
            })?;
            if !more {
                break;
            }
        }
        let answered = self.tally.replies - before;
        self.unanswered -= answered;
        match &mut self.timetable {
            None if answered > 0 && unanswered.is_empty() => self.send_pipeline(at, clock())?,
            None => {}
            Some(timetable) => {
                if timetable.free.is_empty() && answered > 0 {
                    timetable.free_since_ns = clock();
                }
                timetable.free.extend((0..answered).map(|_| at));
            }
        }
        Ok(())
    }

    /// Closed loop: the next requests of a client that has none unanswered, if there are to be more.
    fn send_pipeline(&mut self, at: usize, now: u64) -> Result<(), Lost> {
        let mut len = if now < self.until_ns { self.plan.pipeline as u64 } else { 0 };
        if now >= self.from_ns && self.to_send != u64::MAX {
            len = len.min(self.to_send);
            self.to_send -= len;
        }
        self.request.clear();
        for _ in 0..len {
            self.write_request(at, now);
        }
        self.clients[at].connection.send(&self.request)
    }

    /// Open loop: the requests whose time has come, as long as there are free clients.
    fn send_due(&mut self, clock: &impl Fn() -> u64) -> Result<(), Lost> {
        loop {
            let now = clock();
            let Some(timetable) = &mut self.timetable else { return Ok(()) };
            let due = timetable.due_ns();
            if due > now || due >= self.until_ns || self.to_send == 0 {
                return Ok(());
            }
            let Some(at) = timetable.free.pop_front() else { return Ok(()) };
            timetable.next += 1;
            if due >= self.from_ns {
                timetable.late.saturating_record(now - due.max(timetable.free_since_ns).min(now));
                if self.to_send != u64::MAX {
                    self.to_send -= 1;
                }
            }
            self.request.clear();
            self.write_request(at, due);
            self.clients[at].connection.send(&self.request)?;
        }
    }

    fn write_request(&mut self, at: usize, due_ns: u64) {
        let kind = self.choose_kind();
        self.plan.kinds[kind].template.write(&mut self.request, || self.numbers.next());
        self.unanswered += 1;
        let batches = &mut self.clients[at].unanswered;
        match batches.back_mut() {
            Some(last) if last.due_ns == due_ns && last.kind == kind => last.len += 1,
            _ => batches.push_back(Batch { due_ns, kind, len: 1 }),
        }
    }

    fn choose_kind(&mut self) -> usize {
        if self.plan.kinds.len() == 1 {
            return 0;
        }
        let mut at = self.numbers.rng.u32(..self.weights);
        self.plan
            .kinds
            .iter()
            .position(|kind| {
                let is_it = at < kind.weight;
                at = at.wrapping_sub(kind.weight);
                is_it
            })
            .expect("the weights sum up")
    }

    fn all_sent(&self, now: u64) -> bool {
        match &self.timetable {
            _ if self.to_send == 0 => true,
            None => now >= self.until_ns,
            // Who was due before the end is sent after it, if it had to wait.
            Some(timetable) => now >= self.until_ns && timetable.due_ns() >= self.until_ns,
        }
    }

    fn start_timer(&self, now: u64) -> Result<(), LoadError> {
        let Some(timetable) = &self.timetable else { return Ok(()) };
        let ticks = TICK_MIN_NS.div_ceil(timetable.interval_ns);
        let time =
            |ns: u64| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
        let first = timetable.phase_ns.saturating_sub(now).max(1);
        let times = Itimerspec { it_interval: time(ticks * timetable.interval_ns), it_value: time(first) };
        timerfd_settime(&timetable.timer, TimerfdTimerFlags::empty(), &times)
            .map(|_| ())
            .map_err(|error| LoadError::System { what: "start a timer", error: error.into() })
    }

    /// Reading is what makes it go on.
    fn read_timer(&self) {
        if let Some(timetable) = &self.timetable {
            // Nothing to read: it was, already.
            let _ = rustix::io::read(&timetable.timer, &mut [0; 8]);
        }
    }

    fn outcome(&mut self, generator_cpu_seconds: f64) -> Outcome {
        // Those that were due in time and never sent, as no client became free.
        let unsent = match &self.timetable {
            Some(timetable) if self.unanswered > 0 && self.to_send > 0 => {
                let behind_ns = self.until_ns.saturating_sub(timetable.due_ns());
                behind_ns.div_ceil(timetable.interval_ns)
            }
            _ => 0,
        };
        Outcome {
            seconds: self.tally.last_reply_ns.saturating_sub(self.from_ns) as f64 / 1e9,
            kinds: std::mem::take(&mut self.tally.kinds),
            first_error: self.tally.first_error.take(),
            unanswered: self.unanswered + unsent,
            late: self.timetable.take().map_or_else(latencies, |timetable| timetable.late),
            generator_cpu_seconds,
            generator_requests: self.tally.replies,
        }
    }
}

fn timetable(plan: &Plan, rate: f64, at: usize, clients: usize, poll: &Poll) -> Result<Timetable, LoadError> {
    let system = |error: rustix::io::Errno| LoadError::System { what: "make a timer", error: error.into() };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
        .map_err(system)?;
    poll.registry()
        .register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)
        .map_err(|error| LoadError::System { what: "watch a timer", error })?;
    // A whole number, so that the timer's ticks and the timetable never drift apart.
    let interval_ns = ((plan.threads as f64 * 1e9 / rate) as u64).max(1);
    Ok(Timetable {
        phase_ns: interval_ns * at as u64 / plan.threads as u64,
        interval_ns,
        next: 0,
        free: (0..plan.pipeline).flat_map(|_| 0..clients).collect(),
        free_since_ns: 0,
        late: latencies(),
        timer,
    })
}

/// Where the numbers in requests come from.
struct Numbers {
    rng: fastrand::Rng,
    keys: u64,
    /// The next number, where they go up one by one over all threads.
    sequence: Option<u64>,
    step: u64,
}

impl Numbers {
    fn next(&mut self) -> u64 {
        match &mut self.sequence {
            Some(next) => {
                let number = *next % self.keys;
                *next += self.step;
                number
            }
            None => self.rng.u64(..self.keys),
        }
    }
}

/// What was seen.
struct Tally {
    from_ns: u64,
    kinds: Vec<KindOutcome>,
    first_error: Option<String>,
    /// All of them, warm-up and all.
    replies: u64,
    last_reply_ns: u64,
    unasked: bool,
}

impl Tally {
    fn new(plan: &Plan, from_ns: u64) -> Self {
        let kinds = plan.kinds.iter().map(|kind| KindOutcome {
            name: kind.name.clone(),
            requests: 0,
            errors: 0,
            latency: latencies(),
        });
        Self {
            from_ns,
            kinds: kinds.collect(),
            first_error: None,
            replies: 0,
            last_reply_ns: from_ns,
            unasked: false,
        }
    }

    fn take(&mut self, unanswered: &mut VecDeque<Batch>, now: u64, seen: Seen<'_>) {
        if seen == Seen::Push {
            return;
        }
        let Some(batch) = unanswered.front_mut() else {
            self.unasked = true;
            return;
        };
        self.replies += 1;
        if let Seen::Error(words) = seen
            && self.first_error.is_none()
        {
            self.first_error = Some(String::from_utf8_lossy(words).into_owned());
        }
        if batch.due_ns >= self.from_ns {
            let kind = &mut self.kinds[batch.kind];
            kind.requests += 1;
            kind.errors += u64::from(matches!(seen, Seen::Error(_)));
            kind.latency.saturating_record(now.saturating_sub(batch.due_ns));
            self.last_reply_ns = now;
        }
        batch.len -= 1;
        if batch.len == 0 {
            unanswered.pop_front();
        }
    }
}

/// Of this thread.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
