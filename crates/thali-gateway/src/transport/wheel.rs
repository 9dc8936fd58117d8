//! One timing wheel for every session's heartbeat and limits.
//!
//! A session is in exactly one slot. When the slot comes round the session says what is due and when
//! to look again; instants past the wheel's span wait in its last slot and are looked at once more.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Clock, Link};

/// Slots; with ticks of an interval's 1/64 the wheel spans four intervals.
const SLOTS: usize = 256;
/// Bounds of a tick, in milliseconds: exact enough, and idle enough.
const TICK_MS: std::ops::RangeInclusive<u64> = 5..=250;

pub(super) struct Wheel {
    clock: Clock,
    tick_ms: u64,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Vec<Weak<Link>>>,
    /// Ticks that were handled.
    turned: u64,
}

impl Wheel {
    pub(super) fn new(clock: Clock, shortest_ms: u64) -> Self {
        let tick_ms = (shortest_ms / 64).clamp(*TICK_MS.start(), *TICK_MS.end());
        let state = State { slots: (0..SLOTS).map(|_| Vec::new()).collect(), turned: 0 };
        Self { clock, tick_ms, state: Mutex::new(state) }
    }

    /// Looks at the session once this instant has passed.
    pub(super) fn insert(&self, link: &Arc<Link>, at_ms: u64) {
        let mut state = self.state.lock();
        Self::place(&mut state, self.tick_ms, Arc::downgrade(link), at_ms);
    }

    fn place(state: &mut State, tick_ms: u64, link: Weak<Link>, at_ms: u64) {
        let due = at_ms.div_ceil(tick_ms);
        let tick = due.clamp(state.turned + 1, state.turned + SLOTS as u64 - 1);
        let slot = usize::try_from(tick % SLOTS as u64).expect("below SLOTS");
        state.slots[slot].push(link);
    }

    /// Turns until the task is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut ticker = tokio::time::interval(Duration::from_millis(self.tick_ms));
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            self.turn(self.clock.now_ms());
        }
    }

    fn turn(&self, now_ms: u64) {
        loop {
            let links = {
                let mut state = self.state.lock();
                if (state.turned + 1) * self.tick_ms > now_ms {
                    return;
                }
                state.turned += 1;
                let slot = usize::try_from(state.turned % SLOTS as u64).expect("below SLOTS");
                std::mem::take(&mut state.slots[slot])
            };
            for weak in links {
                if let Some(link) = weak.upgrade()
                    && let Some(next_ms) = link.expire(now_ms)
                {
                    Self::place(&mut self.state.lock(), self.tick_ms, weak, next_ms);
                }
            }
        }
    }
}
