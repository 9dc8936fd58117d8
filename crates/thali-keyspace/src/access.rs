//! When or how often a key was used, in 24 bits beside its value.
//!
//! Which of the two the bits mean follows from the policy that is set at the moment, so that after a change of
//! policies the figures are off until keys are used again, as in Redis.
//!
//! ```text
//! LRU: the second of the last use, modulo 2^24: it wraps after 194 days
//! LFU: the minute of the last decay, modulo 2^16, and a logarithmic counter of 8 bits
//! ```
//! SOURCE: Redis 7.2 `evict.c`.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

/// What stands in each entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access([u8; 3]);

/// An [`Access`] that changes while its key is only looked at, by any of those who share the shard. Where two do at once
/// it may become a mixture of both: uses are estimated.
#[derive(Debug, Default)]
pub struct AccessNote([AtomicU8; 3]);

impl AccessNote {
    pub fn get(&self) -> Access {
        let Self([a, b, c]) = self;
        Access([a.load(Relaxed), b.load(Relaxed), c.load(Relaxed)])
    }

    pub fn set(&self, Access(bytes): Access) {
        self.0.iter().zip(bytes).for_each(|(note, byte)| note.store(byte, Relaxed));
    }
}

impl From<Access> for AccessNote {
    fn from(Access(bytes): Access) -> Self {
        Self(bytes.map(AtomicU8::new))
    }
}

const MASK: u64 = (1 << 24) - 1;
const MINUTES_MASK: u64 = (1 << 16) - 1;
/// A new key's counter: it is not the first one to go. SOURCE: Redis 7.2 `server.h`, `LFU_INIT_VAL`.
const COUNTER_NEW: u8 = 5;

impl Access {
    fn of(bits: u64) -> Self {
        let [a, b, c, ..] = bits.to_le_bytes();
        Self([a, b, c])
    }

    fn bits(self) -> u64 {
        let Self([a, b, c]) = self;
        u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0])
    }

    fn counted(minutes: u64, counter: u8) -> Self {
        Self::of((minutes & MINUTES_MASK) << 8 | u64::from(counter))
    }
}

/// How fast counters of uses grow and fade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lfu {
    /// A counter that stands `n` above that of a new key grows with one use in `n * log_factor + 1`.
    pub log_factor: u32,
    /// A counter fades by one each time that so much has passed without a use; 0: never.
    pub decay_minutes: u32,
}

/// How uses are noted and read, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    lfu: Option<Lfu>,
    /// Seconds since 1970.
    now_s: u64,
    /// A use that is noted now, where none are counted.
    now: Access,
}

impl Uses {
    /// `lfu`: uses are counted; else the last one's time is kept.
    pub fn new(now_ms: u64, lfu: Option<Lfu>) -> Self {
        let now_s = now_ms / 1000;
        Self { lfu, now_s, now: Access::of(now_s & MASK) }
    }

    /// Whether uses are counted.
    pub fn are_counted(&self) -> bool {
        self.lfu.is_some()
    }

    /// Of a key that is made now.
    pub fn fresh(&self) -> Access {
        match self.lfu {
            None => self.now,
            Some(_) => Access::counted(self.minutes(), COUNTER_NEW),
        }
    }

    /// Of a key whose value is replaced now: what is often used is so with another value, too.
    pub fn replaced(&self, old: Access) -> Access {
        if self.lfu.is_some() { old } else { self.now }
    }

    /// Of a key that is used now. `chance`: any number, each as likely; asked where uses are counted.
    pub fn used(&self, before: Access, chance: impl FnOnce() -> u64) -> Access {
        let Some(lfu) = self.lfu else { return self.now };
        let counter = self.frequency(before);
        let above = u64::from(counter.saturating_sub(COUNTER_NEW));
        // One in `above * log_factor + 1`, without division.
        let one_in = above * u64::from(lfu.log_factor) + 1;
        let grows = (u128::from(chance()) * u128::from(one_in)) >> 64 == 0;
        Access::counted(self.minutes(), counter.saturating_add(u8::from(grows)))
    }

    /// Seconds since the last use.
    pub fn idle_seconds(&self, access: Access) -> u64 {
        self.now.bits().wrapping_sub(access.bits()) & MASK
    }

    /// The counter of uses, faded up to now.
    pub fn frequency(&self, access: Access) -> u8 {
        let bits = access.bits();
        let counter = bits as u8;
        let decay = self.lfu.map_or(0, |lfu| lfu.decay_minutes);
        let minutes = self.minutes().wrapping_sub(bits >> 8) & MINUTES_MASK;
        let faded = minutes.checked_div(u64::from(decay)).unwrap_or(0);
        u8::try_from(faded).map_or(0, |faded| counter.saturating_sub(faded))
    }

    /// What [`Uses::idle_seconds`] gives `seconds` for, or the most that the bits can hold; `None` where uses are
    /// counted.
    pub fn idle_for(&self, seconds: u64) -> Option<Access> {
        let access = Access::of(self.now_s.wrapping_sub(seconds.min(MASK)) & MASK);
        self.lfu.is_none().then_some(access)
    }

    /// What [`Uses::frequency`] gives `counter` for; `None` where uses are not counted.
    pub fn counted(&self, counter: u8) -> Option<Access> {
        self.lfu.map(|_| Access::counted(self.minutes(), counter))
    }

    /// The less a key was used, the higher.
    pub fn score(&self, access: Access) -> u64 {
        match self.lfu {
            None => self.idle_seconds(access),
            Some(_) => u64::from(u8::MAX - self.frequency(access)),
        }
    }

    /// For DEBUG OBJECT, in its words.
    pub fn describe(&self, access: Access) -> String {
        let bits = access.bits();
        let counted = match self.lfu {
            None => String::new(),
            Some(_) => format!(" lfu_freq:{} lfu_access_time_minutes:{}", bits as u8, bits >> 8),
        };
        format!("lru:{bits} lru_seconds_idle:{}{counted}", self.idle_seconds(access))
    }

    fn minutes(&self) -> u64 {
        self.now_s / 60
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const LFU: Lfu = Lfu { log_factor: 10, decay_minutes: 1 };

    fn after_s(seconds: u64, lfu: Option<Lfu>) -> Uses {
        Uses::new(NOW_MS + seconds * 1000, lfu)
    }

    #[test]
    fn idle_times_are_exact_for_half_a_year() {
        let fresh = after_s(0, None).fresh();
        for seconds in [0, 1, 59, 3600, 86_400, 194 * 86_400] {
            assert_eq!(after_s(seconds, None).idle_seconds(fresh), seconds);
            let idle = after_s(5, None).idle_for(seconds).unwrap();
            assert_eq!(after_s(5, None).idle_seconds(idle), seconds);
        }
        let idle = after_s(5, None).idle_for(u64::MAX).unwrap();
        assert_eq!(after_s(5, None).idle_seconds(idle), MASK);
        let used = after_s(100, None).used(fresh, || unreachable!());
        assert_eq!(after_s(103, None).idle_seconds(used), 3);
    }

    #[test]
    fn counters_fade_by_one_a_decay_time() {
        let counted = after_s(0, Some(LFU)).counted(100).unwrap();
        for (minutes, expected) in [(0, 100), (1, 99), (60, 40), (100, 0), (300, 0), (40_000, 0)] {
            assert_eq!(after_s(minutes * 60, Some(LFU)).frequency(counted), expected, "{minutes}");
        }
        let slow = Lfu { decay_minutes: 10, ..LFU };
        assert_eq!(after_s(95 * 60, Some(slow)).frequency(counted), 91);
        let never = Lfu { decay_minutes: 0, ..LFU };
        assert_eq!(after_s(10_000 * 60, Some(never)).frequency(counted), 100);
    }

    /// SOURCE: redis.conf's table of counters by uses and factor.
    #[test]
    fn counters_grow_with_the_logarithm_of_uses() {
        let mut random = fastrand::Rng::with_seed(3);
        for (factor, uses_len, from, to) in [
            (0, 100, 104, 106),
            (0, 1000, 255, 255),
            (1, 1000, 40, 60),
            (10, 100, 7, 13),
            (10, 1000, 14, 22),
            (10, 100_000, 130, 160),
            (100, 1000, 7, 12),
            (100, 100_000, 40, 60),
        ] {
            let uses = after_s(0, Some(Lfu { log_factor: factor, decay_minutes: 1 }));
            let mut access = uses.fresh();
            for _ in 0..uses_len {
                access = uses.used(access, || random.u64(..));
            }
            let counter = uses.frequency(access);
            assert!((from..=to).contains(&counter), "factor {factor}, {uses_len} uses: {counter}");
        }
    }
}
