//! How busy the loops and the machine are, and what follows: together or apart.
//!
//! | change | where |
//! |---|---|
//! | apart | thread 0 spent 0.9 of a window in passes, and 0.4 processors were idle. Two loops take up to 1.3 times the processor time for a request, so with less to spare both are slower for it |
//! | together, calm | the loops' threads took less than 0.6 of a processor |
//! | together, contended | no processor is idle, and the loops' threads get 1.1 of one or less: they are in each other's way, or in that of others |
//! | together, in vain | what runs apart is not 1.15 times what ran together: all want the same shard, or the clients do not ask faster |
//! | together, changed | 1.5 times the commands of the first window apart, or fewer by that: whether it is in vain for this load is not known |
//!
//! So that they do not change all the time, loops that went apart for their load stay so for a second, or for a window
//! where it was in vain; and unless they came back as it is calm, the next try (or the next look at a load that
//! changes) waits, each time twice as long.
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
/// The first window apart tells whether it is in vain, by commands alone; the others look at the clocks as well.
const FIRST_WINDOW: Duration = Duration::from_millis(150);
const APART_WINDOW: Duration = Duration::from_millis(500);

/// Shares are in processors.
const BUSY_MIN: f64 = 0.9;
const IDLE_MIN: f64 = 0.4;
const CALM_MAX: f64 = 0.6;
const CONTENDED_MAX: f64 = 1.1;
const CONTENDED_IDLE_MAX: f64 = 0.1;

/// Commands a second apart, over those together, for which a second thread is worth its costs.
const GAIN_MIN: f64 = 1.15;
/// And over those of the first window apart, or the other way round, for which the load is another one.
const CHANGE_MIN: f64 = 1.5;

const APART_MIN: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why loops go together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    Calm,
    Contended,
    InVain,
    Changed,
}

/// Commands that all loops have run so far.
fn commands(shared: &Shared) -> u64 {
    shared.stats.iter().map(|stats| stats.commands.get()).sum()
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
    commands: u64,
    /// Read at the end of a window that was busy, for the next one.
    idle: Option<Duration>,
}

impl TogetherLoad {
    pub fn new(shared: &Shared, at: Instant, busy_nanos: u64) -> Self {
        Self { at, busy_nanos, commands: commands(shared), idle: None }
    }

    /// Where thread 0 has too much to do, and there is who could help: the commands that it ran, a second.
    /// `busy_nanos`: of all passes so far.
    pub fn too_much(&mut self, shared: &Shared, now: Instant, busy_nanos: u64) -> Option<f64> {
        let window = now - self.at;
        if window < TOGETHER_WINDOW {
            return None;
        }
        let ran = commands(shared);
        let rate = ran.saturating_sub(self.commands) as f64 / window.as_secs_f64();
        let is_busy = share(Duration::from_nanos(busy_nanos - self.busy_nanos), window) >= BUSY_MIN;
        let idle = is_busy.then(machine_idle).flatten();
        let before = std::mem::replace(self, Self { at: now, busy_nanos, commands: ran, idle }).idle;
        let (before, idle) = before.zip(idle)?;
        (share(idle.saturating_sub(before), window) >= IDLE_MIN).then_some(rate)
    }
}

/// A window while the loops are apart.
pub(super) struct ApartLoad {
    at: Instant,
    ends: Instant,
    cpu: Option<Duration>,
    idle: Option<Duration>,
    commands: u64,
    /// Ticks of each loop.
    cycles: Vec<u64>,
}

impl ApartLoad {
    pub fn new(shared: &Shared, clocks: &[OnceLock<CpuClock>]) -> Self {
        Self::begin(shared, clocks, FIRST_WINDOW)
    }

    fn begin(shared: &Shared, clocks: &[OnceLock<CpuClock>], window: Duration) -> Self {
        let at = Instant::now();
        let cpu = clocks.iter().map(|clock| clock.get()?.read()).sum();
        let cycles = shared.stats.iter().take(clocks.len()).map(|stats| stats.cycles.get()).collect();
        let (idle, commands) = (machine_idle(), commands(shared));
        Self { at, ends: at + window, cpu, idle, commands, cycles }
    }

    /// What a window showed, at its end. Asked after each tick of a loop.
    pub fn look(&mut self, shared: &Shared, clocks: &[OnceLock<CpuClock>], now: Instant) -> Option<Window> {
        if now < self.ends {
            return None;
        }
        let before = std::mem::replace(self, Self::begin(shared, clocks, APART_WINDOW));
        // A loop without a tick has a long command: it would not come, and nobody would watch.
        if before.cycles.iter().zip(&self.cycles).any(|(before, now)| before == now) {
            return None;
        }
        let window = self.at - before.at;
        let grown = |before: Option<Duration>, now: Option<Duration>| {
            Some(share(now?.saturating_sub(before?), window))
        };
        let rate = self.commands.saturating_sub(before.commands) as f64 / window.as_secs_f64();
        Some(Window { cpu: grown(before.cpu, self.cpu)?, idle: grown(before.idle, self.idle)?, rate })
    }
}

/// What the loops did apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Of their threads, in processors.
    cpu: f64,
    /// Of the machine, in processors.
    idle: f64,
    /// Commands a second.
    rate: f64,
}

fn share(part: Duration, of: Duration) -> f64 {
    part.as_secs_f64() / of.as_secs_f64()
}

/// When loops may change again.
#[derive(Debug)]
pub(super) struct Tries {
    apart_at: Instant,
    /// Commands a second that one thread ran before; `None` where they went apart for one long command.
    for_load: Option<f64>,
    /// What they ran apart in the first window.
    apart_rate: Option<f64>,
    not_before: Instant,
    wait: Duration,
}

impl Tries {
    pub fn new(now: Instant) -> Self {
        Self { apart_at: now, for_load: None, apart_rate: None, not_before: now, wait: RETRY_MIN }
    }

    /// Whether to go apart for load.
    pub fn may_try(&self, now: Instant) -> bool {
        now >= self.not_before
    }

    pub fn note_apart(&mut self, for_load: Option<f64>, now: Instant) {
        (self.apart_at, self.for_load, self.apart_rate) = (now, for_load, None);
    }

    /// Whether one thread would do.
    pub fn judge(&mut self, window: Window, now: Instant) -> Option<Back> {
        let Window { cpu, idle, rate } = window;
        let back = if cpu < CALM_MAX {
            Back::Calm
        } else if cpu <= CONTENDED_MAX && idle < CONTENDED_IDLE_MAX {
            Back::Contended
        } else {
            let together = self.for_load?;
            match self.apart_rate {
                // Later the load is another one than that which ran together.
                None if now < self.apart_at + APART_MIN + APART_WINDOW => {
                    self.apart_rate = Some(rate);
                    (rate < together * GAIN_MIN).then_some(Back::InVain)?
                }
                Some(first) if rate < first * CHANGE_MIN && first < rate * CHANGE_MIN => return None,
                _ => Back::Changed,
            }
        };
        let stay = match back {
            Back::InVain => Duration::ZERO,
            _ if self.for_load.is_none() => Duration::ZERO,
            Back::Changed => self.wait.max(APART_MIN),
            Back::Calm | Back::Contended => APART_MIN,
        };
        (now >= self.apart_at + stay).then_some(back)
    }

    pub fn note_back(&mut self, back: Back, now: Instant) {
        if back == Back::Calm || now >= self.apart_at + RETRY_MAX {
            self.wait = RETRY_MIN;
        }
        if back != Back::Calm && self.for_load.is_some() {
            self.not_before = if back == Back::Changed { now } else { now + self.wait };
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

    const fn window(cpu: f64, idle: f64, rate: f64) -> Window {
        Window { cpu, idle, rate }
    }

    #[test]
    fn loops_go_back_where_they_are_calm_or_in_the_way_or_apart_in_vain() {
        let begun = Instant::now();
        let judge = |for_load: Option<f64>, seen: Window| {
            let mut tries = Tries::new(begun);
            tries.note_apart(for_load, begun);
            tries.judge(seen, begun + APART_MIN)
        };
        for for_load in [None, Some(100.0)] {
            assert_eq!(judge(for_load, window(0.5, 1.5, 300.0)), Some(Back::Calm));
            assert_eq!(judge(for_load, window(0.5, 0.0, 50.0)), Some(Back::Calm));
            assert_eq!(judge(for_load, window(1.0, 0.0, 300.0)), Some(Back::Contended));
            assert_eq!(judge(for_load, window(1.0, 0.5, 300.0)), None);
            assert_eq!(judge(for_load, window(1.9, 0.0, 160.0)), None);
        }
        assert_eq!(judge(None, window(1.9, 0.0, 110.0)), None);
        assert_eq!(judge(Some(100.0), window(1.9, 0.0, 110.0)), Some(Back::InVain));
    }

    #[test]
    fn a_load_that_has_changed_is_looked_at_again_each_time_later() {
        let begun = Instant::now();
        let mut tries = Tries::new(begun);
        let mut now = begun;
        for wait in [1, 2, 4, 8, 10, 2] {
            tries.note_apart(Some(100.0), now);
            let at = |ms: u64| now + Duration::from_millis(ms);
            assert_eq!(tries.judge(window(1.9, 0.0, 200.0), at(500)), None);
            for rate in [140.0, 290.0] {
                assert_eq!(tries.judge(window(1.9, 0.0, rate), at(wait * 1000)), None);
            }
            for rate in [130.0, 310.0] {
                assert_eq!(tries.judge(window(1.9, 0.0, rate), at(wait * 1000 - 1)), None);
                assert_eq!(tries.judge(window(1.9, 0.0, rate), at(wait * 1000)), Some(Back::Changed));
            }
            let back_at = at(wait * 1000);
            tries.note_back(Back::Changed, back_at);
            assert!(tries.may_try(back_at));
            now = back_at;
        }
    }

    #[test]
    fn after_contention_the_next_try_waits_twice_as_long() {
        const CONTENDED: Window = window(1.0, 0.0, 1e6);
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut tries = Tries::new(begun);
        let mut now = 0;
        for wait in [1, 2, 4, 8, 10, 10] {
            assert!(tries.may_try(at(now)));
            tries.note_apart(Some(1e5), at(now));
            assert_eq!(tries.judge(CONTENDED, at(now)), None);
            assert_eq!(tries.judge(CONTENDED, at(now + 1)), Some(Back::Contended));
            tries.note_back(Back::Contended, at(now + 1));
            assert!(!tries.may_try(at(now + wait)));
            now += 1 + wait;
        }
        // It was worth it for a while.
        tries.note_apart(Some(1e5), at(now));
        tries.note_back(Back::Contended, at(now + 20));
        assert!(!tries.may_try(at(now + 20)) && tries.may_try(at(now + 21)));
        tries.note_apart(Some(1e5), at(now + 21));
        tries.note_back(Back::Calm, at(now + 23));
        assert!(tries.may_try(at(now + 23)));
        // One long command says nothing of the load.
        tries.note_apart(None, at(now + 24));
        assert_eq!(tries.judge(CONTENDED, at(now + 24)), Some(Back::Contended));
        tries.note_back(Back::Contended, at(now + 24));
        assert!(tries.may_try(at(now + 24)));
    }
}
