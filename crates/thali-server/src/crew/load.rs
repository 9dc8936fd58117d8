//! How busy the loops and the machine are, and what follows: together or apart.
//!
//! | change | where |
//! |---|---|
//! | apart | thread 0 spent 0.9 of a window in passes, and 0.4 processors were idle. Two loops take up to 1.3 times the processor time for a request, so with less to spare both are slower for it |
//! | together, calm | the loops' threads took less than 0.6 of a processor |
//! | together, contended | no processor is idle, and the loops' threads get 1.1 of one or less: they are in each other's way, or in that of others |
//!
//! So that they do not change all the time, loops that went apart for their load stay so for a second, and where
//! contention brought them back, the next try waits, each time twice as long.
//!
//! SOURCE: Linux `Documentation/filesystems/proc.rst` (stat), `Documentation/scheduler/sched-stats.rst`
//! (schedstat).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::call::Shared;

/// `/proc/stat` counts in hundredths of a second.
const TOGETHER_WINDOW: Duration = Duration::from_millis(100);
const APART_WINDOW: Duration = Duration::from_millis(500);

/// Shares are in processors.
const BUSY_MIN: f64 = 0.9;
const IDLE_MIN: f64 = 0.4;
const CALM_MAX: f64 = 0.6;
const CONTENDED_MAX: f64 = 1.1;
const CONTENDED_IDLE_MAX: f64 = 0.1;

const APART_MIN: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why loops go together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    Calm,
    Contended,
}

/// Whether the system tells what the rules ask for.
pub(super) fn is_known() -> bool {
    machine_idle().is_some() && CpuClock::of_this_thread().and_then(|clock| clock.read()).is_some()
}

/// What `/proc/stat` counts in, on all systems that this is built for. SOURCE: Linux `uapi/asm-generic/param.h`, `HZ`.
const TICKS_A_SECOND: u64 = 100;

/// How long processors have been idle, all together.
fn machine_idle() -> Option<Duration> {
    parse_idle(&fs::read_to_string("/proc/stat").ok()?)
}

/// `cpu`, then user, nice, system, idle, iowait and more, in ticks.
fn parse_idle(stat: &str) -> Option<Duration> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().skip(3);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let idle = ticks()? + ticks()?;
    Some(Duration::from_millis(idle * 1000 / TICKS_A_SECOND))
}

/// The processor time of a thread, for others to read.
#[derive(Debug)]
pub(super) struct CpuClock {
    schedstat: File,
    stat: File,
}

impl CpuClock {
    pub fn of_this_thread() -> Option<Self> {
        let open = |name: &str| File::open(format!("/proc/thread-self/{name}")).ok();
        Some(Self { schedstat: open("schedstat")?, stat: open("stat")? })
    }

    /// For a thread that runs at this moment it may be a tick of the kernel's clock late.
    pub fn read(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let len = self.schedstat.read_at(&mut text, 0).ok()?;
        let nanos = std::str::from_utf8(&text[..len]).ok()?.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }

    /// Whether the thread runs or waits for a processor, and for nothing else.
    pub fn is_runnable(&self) -> bool {
        // The number, the name in parentheses (15 bytes at most), then a letter.
        let mut text = [0; 64];
        let len = self.stat.read_at(&mut text, 0).unwrap_or(0);
        text[..len].windows(3).any(|part| part == b") R")
    }
}

/// A window while the loops are together.
pub(super) struct TogetherLoad {
    at: Instant,
    busy_nanos: u64,
    /// Read at the end of a window that was busy, for the next one.
    idle: Option<Duration>,
}

impl TogetherLoad {
    pub fn new(at: Instant, busy_nanos: u64) -> Self {
        Self { at, busy_nanos, idle: None }
    }

    /// Whether thread 0 has too much to do, and there is who could help. `busy_nanos`: of all passes so far.
    pub fn is_too_much(&mut self, now: Instant, busy_nanos: u64) -> bool {
        let window = now - self.at;
        if window < TOGETHER_WINDOW {
            return false;
        }
        let is_busy = share(Duration::from_nanos(busy_nanos - self.busy_nanos), window) >= BUSY_MIN;
        let idle = is_busy.then(machine_idle).flatten();
        let before = std::mem::replace(self, Self { at: now, busy_nanos, idle }).idle;
        before.zip(idle).is_some_and(|(before, idle)| share(idle.saturating_sub(before), window) >= IDLE_MIN)
    }
}

/// A window while the loops are apart.
pub(super) struct ApartLoad {
    at: Instant,
    cpu: Option<Duration>,
    idle: Option<Duration>,
    /// Ticks of each loop.
    cycles: Vec<u64>,
}

impl ApartLoad {
    pub fn new(shared: &Shared, clocks: &[OnceLock<CpuClock>]) -> Self {
        let cpu = clocks.iter().map(|clock| clock.get()?.read()).sum();
        let cycles = shared.stats.iter().take(clocks.len()).map(|stats| stats.cycles.get()).collect();
        Self { at: Instant::now(), cpu, idle: machine_idle(), cycles }
    }

    /// Whether one thread would do. Asked after each tick of a loop.
    pub fn look(&mut self, shared: &Shared, clocks: &[OnceLock<CpuClock>], now: Instant) -> Option<Back> {
        if now < self.at + APART_WINDOW {
            return None;
        }
        let before = std::mem::replace(self, Self::new(shared, clocks));
        // A loop without a tick has a long command: it would not come, and nobody would watch.
        if before.cycles.iter().zip(&self.cycles).any(|(before, now)| before == now) {
            return None;
        }
        let window = self.at - before.at;
        let grown = |before: Option<Duration>, now: Option<Duration>| {
            Some(share(now?.saturating_sub(before?), window))
        };
        judge_apart(grown(before.cpu, self.cpu)?, grown(before.idle, self.idle)?)
    }
}

fn judge_apart(cpu: f64, idle: f64) -> Option<Back> {
    match (cpu, idle) {
        (cpu, _) if cpu < CALM_MAX => Some(Back::Calm),
        (cpu, idle) if cpu <= CONTENDED_MAX && idle < CONTENDED_IDLE_MAX => Some(Back::Contended),
        _ => None,
    }
}

fn share(part: Duration, of: Duration) -> f64 {
    part.as_secs_f64() / of.as_secs_f64()
}

/// When loops may change again.
#[derive(Debug)]
pub(super) struct Tries {
    apart_at: Instant,
    /// For load, not for one long command.
    for_load: bool,
    not_before: Instant,
    wait: Duration,
}

impl Tries {
    pub fn new(now: Instant) -> Self {
        Self { apart_at: now, for_load: false, not_before: now, wait: RETRY_MIN }
    }

    /// Whether to go apart for load.
    pub fn may_try(&self, now: Instant) -> bool {
        now >= self.not_before
    }

    pub fn note_apart(&mut self, for_load: bool, now: Instant) {
        (self.apart_at, self.for_load) = (now, for_load);
    }

    pub fn may_go_back(&self, now: Instant) -> bool {
        !self.for_load || now >= self.apart_at + APART_MIN
    }

    pub fn note_back(&mut self, back: Back, now: Instant) {
        if back == Back::Calm || now >= self.apart_at + RETRY_MAX {
            self.wait = RETRY_MIN;
        }
        if back == Back::Contended && self.for_load {
            self.not_before = now + self.wait;
            self.wait = (self.wait * 2).min(RETRY_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_that_of_all_processors_and_of_waits_for_disks() {
        let ticks = TICKS_A_SECOND;
        let stat = format!("cpu  7 8 9 {} {} 0 0 0 0 0\ncpu0 1 2 3 4 5\n", 3 * ticks, ticks);
        assert_eq!(parse_idle(&stat), Some(Duration::from_secs(4)));
        assert_eq!(parse_idle("intr 5"), None);
    }

    #[test]
    fn a_thread_s_clock_goes_on_with_its_work_and_others_can_read_it() {
        let clock = CpuClock::of_this_thread().unwrap();
        let before = clock.read().unwrap();
        let begun = Instant::now();
        while clock.read().unwrap() < before + Duration::from_millis(20) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the clock stands still");
        }
        let seen = std::thread::scope(|scope| scope.spawn(|| clock.read()).join()).unwrap();
        assert!(seen >= Some(before + Duration::from_millis(20)));
        assert!(clock.is_runnable());
    }

    #[test]
    fn a_thread_that_waits_for_something_is_seen_waiting() {
        let (clocks, clock) = std::sync::mpsc::channel();
        let (wakes, wake) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || {
            clocks.send(CpuClock::of_this_thread().unwrap()).unwrap();
            wake.recv().unwrap();
        });
        let clock = clock.recv().unwrap();
        let begun = Instant::now();
        while clock.is_runnable() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it seems to run");
        }
        wakes.send(()).unwrap();
        waiting.join().unwrap();
    }

    #[test]
    fn loops_go_back_where_they_are_calm_or_in_the_way() {
        assert_eq!(judge_apart(0.5, 1.5), Some(Back::Calm));
        assert_eq!(judge_apart(0.5, 0.0), Some(Back::Calm));
        assert_eq!(judge_apart(1.0, 0.0), Some(Back::Contended));
        assert_eq!(judge_apart(1.0, 0.5), None);
        assert_eq!(judge_apart(1.9, 0.0), None);
    }

    #[test]
    fn after_contention_the_next_try_waits_twice_as_long() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut tries = Tries::new(begun);
        let mut now = 0;
        for wait in [1, 2, 4, 8, 10, 10] {
            assert!(tries.may_try(at(now)));
            tries.note_apart(true, at(now));
            assert!(!tries.may_go_back(at(now)) && tries.may_go_back(at(now + 1)));
            tries.note_back(Back::Contended, at(now + 1));
            assert!(!tries.may_try(at(now + wait)));
            now += 1 + wait;
        }
        // It was worth it for a while.
        tries.note_apart(true, at(now));
        tries.note_back(Back::Contended, at(now + 20));
        assert!(!tries.may_try(at(now + 20)) && tries.may_try(at(now + 21)));
        tries.note_apart(true, at(now + 21));
        tries.note_back(Back::Calm, at(now + 23));
        assert!(tries.may_try(at(now + 23)));
        // One long command says nothing of the load.
        tries.note_apart(false, at(now + 24));
        assert!(tries.may_go_back(at(now + 24)));
        tries.note_back(Back::Contended, at(now + 24));
        assert!(tries.may_try(at(now + 24)));
    }
}
