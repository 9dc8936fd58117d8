//! How long to wait before dialling again.

use std::time::Duration;

/// First wait; short, because most absences are restarts.
const FIRST_MS: u64 = 50;
/// Longest wait; a store that comes back is found within this time.
const LONGEST_MS: u64 = 2_000;

/// Doubling delays with jitter, so that a fleet does not dial in step.
#[derive(Debug)]
pub struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_ms: FIRST_MS }
    }
}

impl Backoff {
    /// The wait before the next attempt: between half and the whole of a step.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.next_ms;
        self.next_ms = (step * 2).min(LONGEST_MS);
        Duration::from_millis(fastrand::u64(step / 2..=step))
    }

    /// After a success the next loss starts with a short wait again.
    pub fn reset(&mut self) {
        self.next_ms = FIRST_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_reset() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            assert!(backoff.next_delay() <= Duration::from_millis(LONGEST_MS));
        }
        assert!(backoff.next_delay() >= Duration::from_millis(LONGEST_MS / 2));
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(FIRST_MS));
    }
}
