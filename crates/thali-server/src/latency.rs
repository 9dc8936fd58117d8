//! The latency monitor: what took `latency-monitor-threshold` milliseconds or longer, by the kind of event.
//!
//! Only what is too slow gets here, so one mutex serves all threads. Kinds are fixed names, and each keeps its
//! last [`SAMPLES_MAX`] seconds with an event.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

/// Samples kept of each kind; the oldest goes. SOURCE: Redis 7.2 `latency.h`.
pub(crate) const SAMPLES_MAX: usize = 160;

/// The kinds of events, by the names that LATENCY shows. Where Redis has the event, it is Redis's name.
pub(crate) mod event {
    pub const COMMAND: &str = "command";
    /// A command that promises to be fast.
    pub const FAST_COMMAND: &str = "fast-command";
    /// One run over expired keys.
    pub const EXPIRE_CYCLE: &str = "expire-cycle";
    /// One run over keys that go for want of memory.
    pub const EVICTION_CYCLE: &str = "eviction-cycle";
    pub const AOF_WRITE: &str = "aof-write";
    /// A sync that replies waited for.
    pub const AOF_FSYNC_ALWAYS: &str = "aof-fsync-always";
    /// A sync in the background, for which nothing waits.
    pub const AOF_FSYNC_EVERYSEC: &str = "aof-fsync-everysec";
    /// A shard held by a snapshot's walk.
    pub const SNAPSHOT_HOLD: &str = "snapshot-hold";
}

/// The longest event of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub at_unix_s: u64,
    pub ms: u64,
}

/// The events of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// The newest last; never empty in [`Latency`].
    pub samples: VecDeque<Sample>,
    /// Since the last reset, forgotten samples included.
    pub max_ms: u64,
}

/// All series.
#[derive(Debug)]
pub(crate) struct Latency {
    /// `latency-monitor-threshold`; 0 = nothing is noted.
    threshold_ms: AtomicU64,
    all: Mutex<BTreeMap<&'static str, Series>>,
}

impl Latency {
    pub fn new(threshold_ms: u64) -> Self {
        Self { threshold_ms: threshold_ms.into(), all: Mutex::default() }
    }

    pub fn set_threshold_ms(&self, threshold_ms: u64) {
        self.threshold_ms.store(threshold_ms, Relaxed);
    }

    /// Writes an event down if it took as long as the threshold.
    pub fn note(&self, event: &'static str, at_unix_s: u64, took: Duration) {
        // Every command asks, and mostly nobody wants to know.
        let threshold_ms = self.threshold_ms.load(Relaxed);
        if threshold_ms == 0 || took < Duration::from_millis(threshold_ms) {
            return;
        }
        let ms = took.as_millis() as u64;
        let mut all = self.all.lock();
        let series = all.entry(event).or_default();
        series.max_ms = series.max_ms.max(ms);
        match series.samples.back_mut() {
            Some(last) if last.at_unix_s == at_unix_s => last.ms = last.ms.max(ms),
            _ => {
                if series.samples.len() == SAMPLES_MAX {
                    series.samples.pop_front();
                }
                series.samples.push_back(Sample { at_unix_s, ms });
            }
        }
    }

    pub fn of(&self, event: &[u8]) -> Option<Series> {
        self.all.lock().iter().find(|(name, _)| name.as_bytes() == event).map(|(_, series)| series.clone())
    }

    pub fn all(&self) -> Vec<(&'static str, Series)> {
        self.all.lock().iter().map(|(name, series)| (*name, series.clone())).collect()
    }

    /// Forgets the events of these kinds, or all of them; gives how many kinds there were.
    pub fn reset(&self, events: &[&[u8]]) -> usize {
        let mut all = self.all.lock();
        let before = all.len();
        all.retain(|name, _| !events.is_empty() && !events.contains(&name.as_bytes()));
        before - all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(latency: &Latency, event: &str) -> Vec<(u64, u64)> {
        let series = latency.of(event.as_bytes()).unwrap_or_default();
        series.samples.iter().map(|sample| (sample.at_unix_s, sample.ms)).collect()
    }

    #[test]
    fn a_second_keeps_its_longest_event() {
        let latency = Latency::new(0);
        for (threshold_ms, at, ms) in
            [(0, 1, 500), (10, 1, 9), (10, 1, 12), (10, 1, 30), (10, 1, 20), (10, 2, 11)]
        {
            latency.set_threshold_ms(threshold_ms);
            latency.note(event::COMMAND, at, Duration::from_millis(ms));
        }
        assert_eq!(samples(&latency, "command"), [(1, 30), (2, 11)]);
        assert_eq!(latency.of(b"command").unwrap().max_ms, 30);
        assert_eq!(samples(&latency, "aof-write"), []);
    }

    #[test]
    fn the_oldest_samples_go_and_the_maximum_stays() {
        let latency = Latency::new(1);
        for at in 0..200 {
            latency.note(event::COMMAND, at, Duration::from_millis(if at == 0 { 99 } else { 5 }));
        }
        let series = latency.of(b"command").unwrap();
        assert_eq!((series.samples.len(), series.samples[0].at_unix_s, series.max_ms), (SAMPLES_MAX, 40, 99));
    }

    #[test]
    fn a_reset_counts_what_it_forgot() {
        let latency = Latency::new(1);
        for event in [event::COMMAND, event::AOF_WRITE, event::EXPIRE_CYCLE] {
            latency.note(event, 1, Duration::from_millis(5));
        }
        assert_eq!(latency.reset(&[b"command", b"nothing"]), 1);
        assert_eq!(latency.reset(&[]), 2);
        assert!(latency.all().is_empty());
    }
}
