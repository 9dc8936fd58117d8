//! CLIENT PAUSE: commands that have to wait until a moment or until CLIENT UNPAUSE.
//!
//! A paused command is left in its session's input, unread, so that no reply is lost and none is early; its loop
//! looks at it again when the pause ends. While clients are paused, nothing expires and nothing is evicted: keys
//! whose time is over count as missing and stay.
//!
//! INVARIANT: once CLIENT PAUSE has replied, nothing is written. The pause is set first; then every shard is held
//! for a moment, so that what was running has ended; and whoever locks a shard to write looks at the pause again
//! with the shard held ([`crate::unit::run_single`], EXEC, and a script before its first write).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use thali_commands::{Flags, Spec};

use crate::call::Shared;
use crate::scripts;
use crate::session::SessionState;
use crate::table::{Handler, Row, SessionVerb};

/// What is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What changes data or is sent to replicas.
    Write,
    All,
}

/// Whether clients are paused, over all loops.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// The end in Unix milliseconds, times two, plus one where all commands are paused; 0: no pause.
    state: AtomicU64,
}

fn pack(level: Level, ends_at_ms: u64) -> u64 {
    (ends_at_ms.min(u64::MAX >> 1) << 1) | u64::from(level == Level::All)
}

impl Pause {
    /// Whether there may be a pause: one look where there is none.
    pub fn is_set(&self) -> bool {
        self.state.load(Relaxed) != 0
    }

    /// What is paused now.
    pub fn level(&self, now_ms: u64) -> Option<Level> {
        let state = self.state.load(Relaxed);
        match state {
            0 => None,
            state if state >> 1 <= now_ms => None,
            state if state & 1 == 1 => Some(Level::All),
            _ => Some(Level::Write),
        }
    }

    /// When the pause ends, where there is one.
    pub fn ends_at_ms(&self) -> Option<u64> {
        Some(self.state.load(Relaxed)).filter(|state| *state != 0).map(|state| state >> 1)
    }

    /// Pauses. A pause under way keeps what is stricter of both, and its later end. Gives what there was, for
    /// [`Pause::restore`].
    pub fn set(&self, level: Level, ends_at_ms: u64, now_ms: u64) -> u64 {
        let merged = |old: u64| {
            let (old_end, old_all) = if old >> 1 > now_ms { (old >> 1, old & 1 == 1) } else { (0, false) };
            let level = if old_all { Level::All } else { level };
            Some(pack(level, ends_at_ms.max(old_end)))
        };
        self.state.fetch_update(SeqCst, SeqCst, merged).expect("there is always a new value")
    }

    /// Takes back what [`Pause::set`] did.
    pub fn restore(&self, before: u64) {
        self.state.store(before, SeqCst);
    }

    /// Ends the pause.
    pub fn clear(&self) {
        self.state.store(0, SeqCst);
    }

    /// Forgets a pause that is over, so that nobody looks at the time any more.
    pub fn clear_if_over(&self, now_ms: u64) {
        let over = |state: u64| (state != 0 && state >> 1 <= now_ms).then_some(0);
        let _ = self.state.fetch_update(SeqCst, SeqCst, over);
    }
}

/// Whether a request has to wait.
pub(crate) fn holds_back(
    shared: &Shared,
    now_ms: u64,
    state: &SessionState,
    (row, spec): (&Row, &Spec),
    args: &[&[u8]],
) -> bool {
    match shared.pause.level(now_ms) {
        None => false,
        Some(Level::All) => true,
        Some(Level::Write) => match (&row.handler, &state.transaction) {
            (Handler::Session(SessionVerb::Exec), Some(transaction)) => {
                transaction.queue.iter().any(|queued| {
                    let args = crate::session::borrowed(&queued.args);
                    may_write(shared, queued.row.spec.subcommand(&args).unwrap_or(queued.row.spec), &args)
                })
            }
            _ => may_write(shared, spec, args),
        },
    }
}

/// Whether a command changes data or is sent to replicas. Scripts say of themselves that they don't.
fn may_write(shared: &Shared, spec: &Spec, args: &[&[u8]]) -> bool {
    match spec.name {
        "eval" | "evalsha" | "fcall" => {
            scripts::declared_flags(shared, spec.name, args).is_none_or(|flags| flags.may_write())
        }
        _ => spec.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_pause_and_the_later_end_stay() {
        let pause = Pause::default();
        assert_eq!((pause.is_set(), pause.level(0)), (false, None));
        pause.set(Level::Write, 100, 0);
        assert_eq!(pause.level(99), Some(Level::Write));
        assert_eq!(pause.level(100), None);
        pause.set(Level::All, 50, 10);
        assert_eq!((pause.level(60), pause.ends_at_ms()), (Some(Level::All), Some(100)));
        pause.set(Level::Write, 200, 60);
        assert_eq!((pause.level(150), pause.ends_at_ms()), (Some(Level::All), Some(200)));
    }

    #[test]
    fn a_pause_that_is_over_leaves_nothing_to_the_next() {
        let pause = Pause::default();
        pause.set(Level::All, 100, 0);
        pause.clear_if_over(99);
        assert!(pause.is_set());
        pause.set(Level::Write, 150, 120);
        assert_eq!((pause.level(130), pause.ends_at_ms()), (Some(Level::Write), Some(150)));
        pause.clear_if_over(150);
        assert!(!pause.is_set());
        let before = pause.set(Level::All, u64::MAX, 0);
        assert_eq!(pause.level(1 << 62), Some(Level::All));
        pause.restore(before);
        assert!(!pause.is_set());
    }
}
