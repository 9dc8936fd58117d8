//! What each command did: calls, time, failures, latencies; and how often each error code was replied.
//!
//! Every loop counts for itself without locks; INFO adds the loops up. Only errors, which are rare, go
//! through a mutex, and nobody but INFO shares that.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use parking_lot::Mutex;
use thali_commands::Spec;

use crate::stats::Counter;
use crate::table::{self, Row};

/// One command, or subcommand, in one loop.
#[derive(Debug, Default)]
pub(crate) struct CommandStats {
    pub calls: Counter,
    pub nanos: Counter,
    /// Refused before it ran.
    pub rejected: Counter,
    /// Ran and replied an error.
    pub failed: Counter,
    latencies: OnceLock<Box<Histogram>>,
}

impl CommandStats {
    /// So many runs that took `nanos` each; only the owning loop may.
    pub fn record(&self, runs: u64, nanos: u64, tracks_latency: bool) {
        self.calls.add(runs);
        self.nanos.add(runs * nanos);
        if tracks_latency {
            self.latencies.get_or_init(Box::default).record(runs, nanos);
        }
    }

    fn reset(&self) {
        [&self.calls, &self.nanos, &self.rejected, &self.failed].into_iter().for_each(Counter::reset);
        if let Some(latencies) = self.latencies.get() {
            latencies.0.iter().for_each(Counter::reset);
        }
    }
}

/// All commands of one loop, in the order of the table.
#[derive(Debug)]
pub(crate) struct ByCommand(Box<[CommandStats]>);

impl Default for ByCommand {
    fn default() -> Self {
        Self((0..table::stats_len()).map(|_| CommandStats::default()).collect())
    }
}

impl ByCommand {
    /// The counters of a row, or of its subcommand `spec`.
    pub fn of(&self, row: &Row, spec: &Spec) -> &CommandStats {
        &self.0[row.stats_at(spec)]
    }

    pub fn reset(&self) {
        self.0.iter().for_each(CommandStats::reset);
    }
}

/// Sixteen classes for each doubling, so a class is at most 7% wide; durations beyond nine minutes share
/// the last one.
#[derive(Debug)]
struct Histogram([Counter; CLASSES]);

const CLASSES: usize = 16 + 16 * (EXPONENT_MAX - 3);
const EXPONENT_MAX: usize = 39;

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Histogram {
    fn record(&self, runs: u64, nanos: u64) {
        self.0[class_of(nanos)].add(runs);
    }
}

fn class_of(nanos: u64) -> usize {
    let nanos = nanos.min((2 << EXPONENT_MAX) - 1);
    if nanos < 16 {
        return nanos as usize;
    }
    let exponent = nanos.ilog2() as usize;
    16 * (exponent - 3) + (nanos >> (exponent - 4)) as usize % 16
}

/// The longest duration of a class.
fn longest_of(class: usize) -> u64 {
    if class < 16 {
        return class as u64;
    }
    let exponent = class / 16 + 3;
    (((class % 16) as u64 + 17) << (exponent - 4)) - 1
}

/// One command over all loops.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub calls: u64,
    pub nanos: u64,
    pub rejected: u64,
    pub failed: u64,
    latencies: Vec<u64>,
}

impl Total {
    /// Adds the loops up.
    pub fn of<'s>(loops: impl Iterator<Item = &'s CommandStats>) -> Self {
        let mut total = Total::default();
        for stats in loops {
            total.calls += stats.calls.get();
            total.nanos += stats.nanos.get();
            total.rejected += stats.rejected.get();
            total.failed += stats.failed.get();
            if let Some(latencies) = stats.latencies.get() {
                total.latencies.resize(CLASSES, 0);
                for (sum, counter) in total.latencies.iter_mut().zip(&latencies.0) {
                    *sum += counter.get();
                }
            }
        }
        total
    }

    /// The duration in nanoseconds that `percent` of the calls did not exceed; `None` without any.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let all: u64 = self.latencies.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = ((all as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        let class = self.latencies.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(longest_of(class))
    }

    /// Calls whose durations were kept: none while `latency-tracking` is off.
    pub fn latencies_len(&self) -> u64 {
        self.latencies.iter().sum()
    }

    /// How many calls took up to so many microseconds, for each doubling of 1,024 nanoseconds in which there are
    /// more than in the one before. The microseconds are those of Redis's histogram, whose classes reach a
    /// 128th beyond the power of two.
    pub fn up_to_micros(&self) -> Vec<(u64, u64)> {
        let (mut steps, mut seen, mut next) = (Vec::new(), 0, 0);
        for exponent in 10..=EXPONENT_MAX as u32 + 1 {
            let end = 1u64 << exponent;
            let before = seen;
            while self.latencies.get(next).is_some() && longest_of(next) <= end {
                seen += self.latencies[next];
                next += 1;
            }
            if seen > before {
                steps.push(((end + (end >> 7) - 1) / 1000, seen));
            }
        }
        steps
    }
}

/// Error codes that a loop tells apart; scripts can invent any number.
const ERROR_CODES_MAX: usize = 128;
/// Where the others are counted.
const OTHER_CODES: &str = "ERRORSTATS_OVERFLOW";
/// Codes of this server's own, which are counted in any case.
const OWN_CODES: &[&str] = &[
    "ERR",
    "WRONGTYPE",
    "OOM",
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
    "NOSCRIPT",
    "EXECABORT",
    "BUSY",
    "BUSYKEY",
    "BUSYGROUP",
    "NOGROUP",
    "MISCONF",
    "LOADING",
    "READONLY",
    "UNBLOCKED",
    "NOTBUSY",
    "UNKILLABLE",
    "NOPROTO",
    "CROSSSLOT",
    "INVALIDOBJ",
    "IOERR",
    "UNSTABLE",
];

/// How often each error code was replied by one loop.
#[derive(Debug, Default)]
pub(crate) struct ErrorCounts(Mutex<BTreeMap<String, u64>>);

impl ErrorCounts {
    /// Counts an error by its first word.
    pub fn add(&self, text: &[u8]) {
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let code: String = code
            .iter()
            .take(32)
            .map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '_' })
            .collect();
        let mut counts = self.0.lock();
        let is_own = OWN_CODES.contains(&code.as_str());
        let is_full = counts.len() >= ERROR_CODES_MAX && !is_own && !counts.contains_key(&code);
        *counts.entry(if is_full { OTHER_CODES.into() } else { code }).or_default() += 1;
    }

    pub fn add_to(&self, totals: &mut BTreeMap<String, u64>) {
        for (code, count) in self.0.lock().iter() {
            *totals.entry(code.clone()).or_default() += count;
        }
    }

    pub fn reset(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_say() {
        for nanos in [0, 1, 15, 16, 17, 31, 32, 1_000, 999_999, 123_456_789, 1 << 39, u64::MAX] {
            let class = class_of(nanos);
            assert!(class < CLASSES, "{nanos}");
            let capped = nanos.min((2 << EXPONENT_MAX) - 1);
            assert!(longest_of(class) >= capped, "{nanos}");
            assert!(class == 0 || longest_of(class - 1) < capped, "{nanos}");
        }
    }

    #[test]
    fn percentiles_over_two_loops() {
        let loops = [CommandStats::default(), CommandStats::default()];
        for nanos in 1..=100u64 {
            let stats = &loops[(nanos % 2) as usize];
            stats.record(1, nanos * 1_000, true);
            stats.failed.add(u64::from(nanos == 7));
        }
        let total = Total::of(loops.iter());
        assert_eq!((total.calls, total.failed, total.nanos), (100, 1, 5_050_000));
        let half = total.percentile(50.0).unwrap();
        assert!((50_000..54_000).contains(&half), "{half}");
        assert!(total.percentile(100.0).unwrap() >= 100_000);
        assert_eq!(Total::default().percentile(50.0), None);
    }

    #[test]
    fn durations_add_up_over_doublings() {
        let stats = CommandStats::default();
        for nanos in [500, 1_000, 1_500, 30_000, 30_001, 100_000] {
            stats.record(1, nanos, true);
        }
        let total = Total::of([&stats].into_iter());
        assert_eq!(total.up_to_micros(), [(1, 2), (2, 3), (33, 5), (132, 6)]);
        stats.record(1, u64::MAX / 2, true);
        let total = Total::of([&stats].into_iter());
        assert_eq!(total.up_to_micros().last().unwrap().1, total.latencies_len());
    }

    #[test]
    fn invented_error_codes_are_bounded() {
        let errors = ErrorCounts::default();
        (0..1_000).for_each(|i| errors.add(format!("CODE{i} text").as_bytes()));
        errors.add(b"CODE1 again");
        let mut totals = BTreeMap::new();
        errors.add_to(&mut totals);
        assert!(totals.len() <= ERROR_CODES_MAX + 1);
        assert_eq!(totals["CODE1"], 2);
        errors.add(b"ERR always");
        errors.add_to(&mut totals);
        assert_eq!(totals["ERR"], 1);
        totals.clear();
        errors.add_to(&mut totals);
        totals.remove("ERR");
        assert_eq!(totals.values().sum::<u64>(), 1_001);
    }
}
