//! Scripts that have run for longer than `busy-reply-threshold`: who waits for their shards gives up
//! with `BUSY`, and SCRIPT KILL reaches them.
//!
//! The sessions of the script's own loop wait until it ends; those of all others are answered, and
//! new connections go to loops that are free.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use thali_commands::ErrorReply;

pub(crate) const BUSY: ErrorReply = ErrorReply::BUSY;

const FREE: u8 = 0;
/// Busy, and nothing is written yet: may be killed.
const BUSY_CLEAN: u8 = 1;
const BUSY_WROTE: u8 = 2;
const KILLED: u8 = 3;

/// Each loop's script, if it is busy. Its loop marks it, any may kill it.
#[derive(Debug)]
pub(crate) struct BusyScripts {
    loops: Box<[AtomicU8]>,
}

impl BusyScripts {
    pub fn new(loops_len: usize) -> Self {
        Self { loops: (0..loops_len).map(|_| AtomicU8::new(FREE)).collect() }
    }

    /// Whether a script of another loop is busy.
    pub fn elsewhere(&self, own: u16) -> bool {
        self.loops.iter().enumerate().any(|(i, state)| i != usize::from(own) && state.load(SeqCst) != FREE)
    }

    pub fn is_free(&self, event_loop: usize) -> bool {
        self.loops[event_loop].load(SeqCst) == FREE
    }

    pub fn any(&self) -> bool {
        self.loops.iter().any(|state| state.load(SeqCst) != FREE)
    }

    /// Marks a loop's script as busy; true where it was killed.
    pub fn mark(&self, own: u16, wrote: bool) -> bool {
        let state = &self.loops[usize::from(own)];
        let next = if wrote { BUSY_WROTE } else { BUSY_CLEAN };
        state.compare_exchange(FREE, next, SeqCst, SeqCst) == Err(KILLED)
    }

    /// A script is about to write for the first time; false where it was killed and must not.
    pub fn may_write(&self, own: u16) -> bool {
        let state = &self.loops[usize::from(own)];
        state.compare_exchange(BUSY_CLEAN, BUSY_WROTE, SeqCst, SeqCst) != Err(KILLED)
    }

    /// The loop's script has ended.
    pub fn end(&self, own: u16) {
        let state = &self.loops[usize::from(own)];
        if state.load(SeqCst) != FREE {
            state.store(FREE, SeqCst);
        }
    }

    /// SCRIPT KILL.
    pub fn kill(&self) -> Result<(), ErrorReply> {
        let mut found = Err(ErrorReply::new("NOTBUSY No scripts in execution right now."));
        for state in &self.loops {
            match state.compare_exchange(BUSY_CLEAN, KILLED, SeqCst, SeqCst) {
                Ok(_) | Err(KILLED) => return Ok(()),
                Err(BUSY_WROTE) => found = Err(UNKILLABLE),
                Err(_) => {}
            }
        }
        found
    }
}

const UNKILLABLE: ErrorReply = ErrorReply::new(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
     script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_killed_before_its_first_write_or_not_at_all() {
        let busy = BusyScripts::new(2);
        assert!(busy.kill().unwrap_err().text().starts_with(b"NOTBUSY"));
        assert!(!busy.mark(0, false));
        assert!(busy.elsewhere(1) && !busy.elsewhere(0));
        assert!(busy.may_write(0));
        assert!(busy.kill().unwrap_err().text().starts_with(b"UNKILLABLE"));
        busy.end(0);
        assert!(!busy.mark(1, false));
        assert!(busy.kill().is_ok());
        assert!(!busy.may_write(1) && busy.mark(1, false));
        busy.end(1);
        assert!(!busy.any());
    }
}
