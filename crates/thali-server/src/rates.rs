//! What happens in a second, for INFO: totals looked at ten times a second, and the mean over the last looks.
//!
//! SOURCE for the count of looks: Redis 7.2 `server.h`, `STATS_METRIC_SAMPLES`.

use std::time::Instant;

use parking_lot::Mutex;

use crate::stats::{Counter, LoopStats};

const LOOKS: usize = 16;

/// Means over the last looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Means {
    pub commands_per_s: u64,
    pub input_bytes_per_s: u64,
    pub output_bytes_per_s: u64,
    /// Of one loop.
    pub cycles_per_s: u64,
    pub cycle_us: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    last: Option<(Instant, Totals)>,
    ring: [[f64; FIGURES]; LOOKS],
    next: usize,
}

/// Commands, bytes in, bytes out, cycles, nanoseconds in cycles.
type Totals = [u64; FIGURES];
const FIGURES: usize = 5;

impl Rates {
    /// A look, by whoever has the timer.
    pub fn look(&self, stats: &[LoopStats], now: Instant) {
        let sum = |of: fn(&LoopStats) -> &Counter| stats.iter().map(|stats| of(stats).get()).sum::<u64>();
        let totals = [
            sum(|s| &s.commands),
            sum(|s| &s.input_bytes),
            sum(|s| &s.output_bytes),
            sum(|s| &s.cycles) / stats.len() as u64,
            sum(|s| &s.cycle_nanos) / stats.len() as u64,
        ];
        self.note(totals, now);
    }

    fn note(&self, totals: Totals, now: Instant) {
        let mut samples = self.0.lock();
        if let Some((at, last)) = samples.last.replace((now, totals)) {
            let seconds = (now - at).as_secs_f64().max(0.001);
            // CONFIG RESETSTAT takes totals back to zero.
            let grown = |figure: usize| totals[figure].saturating_sub(last[figure]) as f64;
            let mut rates = [0.0; FIGURES];
            for (figure, rate) in rates.iter_mut().enumerate().take(4) {
                *rate = grown(figure) / seconds;
            }
            rates[4] = grown(4) / 1000.0 / grown(3).max(1.0);
            let next = samples.next;
            samples.ring[next] = rates;
            samples.next = (next + 1) % LOOKS;
        }
    }

    pub fn means(&self) -> Means {
        let samples = self.0.lock();
        let mean = |figure: usize| {
            let sum: f64 = samples.ring.iter().map(|rates| rates[figure]).sum();
            (sum / LOOKS as f64).round() as u64
        };
        Means {
            commands_per_s: mean(0),
            input_bytes_per_s: mean(1),
            output_bytes_per_s: mean(2),
            cycles_per_s: mean(3),
            cycle_us: mean(4),
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        *self.0.lock() = Samples::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn means_are_over_the_last_looks() {
        let (rates, begun) = (Rates::default(), Instant::now());
        for look in 0..=LOOKS as u64 {
            let now = begun + Duration::from_millis(look * 100);
            rates.note([look * 10, look * 1000, look * 500, look, look * 2_000_000], now);
        }
        let means = rates.means();
        assert_eq!(
            (means.commands_per_s, means.input_bytes_per_s, means.output_bytes_per_s),
            (100, 10_000, 5_000)
        );
        assert_eq!((means.cycles_per_s, means.cycle_us), (10, 2_000));
        rates.reset();
        assert_eq!(rates.means(), Means::default());
    }
}
