//! One timing wheel for every session's heartbeat and limits.
//!
//! A session has its turn in one slot. When the slot comes round the session says what is due and when
//! to look again; instants past the wheel's span wait in its last slot and are looked at once more. A
//! limit that is set later and falls before the session's turn gets a look of its own.

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
    slots: Vec<Vec<Entry>>,
    /// Ticks that were handled.
    turned: u64,
}

struct Entry {
    link: Weak<Link>,
    /// A single look, beside the session's own turn.
    once: bool,
}

impl Wheel {
    pub(super) fn new(clock: Clock, shortest_ms: u64) -> Self {
        let tick_ms = (shortest_ms / 64).clamp(*TICK_MS.start(), *TICK_MS.end());
        let state = State { slots: (0..SLOTS).map(|_| Vec::new()).collect(), turned: 0 };
        Self { clock, tick_ms, state: Mutex::new(state) }
    }

    /// Looks at the session when this instant has passed, and from then on when it asks for it.
    pub(super) fn insert(&self, link: &Arc<Link>, at_ms: u64) {
        let entry = Entry { link: Arc::downgrade(link), once: false };
        Self::place(&mut self.state.lock(), self.tick_ms, entry, at_ms);
    }

    /// Looks at the session once more, when this instant has passed.
    pub(super) fn insert_once(&self, link: &Arc<Link>, at_ms: u64) {
        let entry = Entry { link: Arc::downgrade(link), once: true };
        Self::place(&mut self.state.lock(), self.tick_ms, entry, at_ms);
    }

    fn place(state: &mut State, tick_ms: u64, entry: Entry, at_ms: u64) {
        let due = at_ms.div_ceil(tick_ms);
        let tick = due.clamp(state.turned + 1, state.turned + SLOTS as u64 - 1);
        let slot = usize::try_from(tick % SLOTS as u64).expect("below SLOTS");
        state.slots[slot].push(entry);
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
            let entries = {
                let mut state = self.state.lock();
                if (state.turned + 1) * self.tick_ms > now_ms {
                    return;
                }
                state.turned += 1;
                let slot = usize::try_from(state.turned % SLOTS as u64).expect("below SLOTS");
                std::mem::take(&mut state.slots[slot])
            };
            for entry in entries {
                if let Some(link) = entry.link.upgrade()
                    && let Some(next_ms) = link.expire(now_ms)
                    && !entry.once
                {
                    Self::place(&mut self.state.lock(), self.tick_ms, entry, next_ms);
                }
            }
        }
    }
}
