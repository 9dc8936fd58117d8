//! Scripts and functions that have run for longer than `busy-reply-threshold`: who waits for their shards
//! gives up with `BUSY`, and SCRIPT KILL or FUNCTION KILL reaches them.
//!
//! The sessions of the script's own loop wait until it ends; those of all others are answered, and
//! new connections go to loops that are free.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Instant;

use parking_lot::Mutex;
use thali_commands::ErrorReply;

/// What EVAL runs, or FCALL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Script,
    Function,
}

impl Kind {
    /// What others are told.
    fn refusal(self) -> ErrorReply {
        match self {
            Self::Script => ErrorReply::BUSY,
            Self::Function => ErrorReply::BUSY_FUNCTION,
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Script => 0,
            Self::Function => FUNCTION,
        }
    }

    fn of(state: u8) -> Self {
        if state & FUNCTION == 0 { Self::Script } else { Self::Function }
    }
}

const FREE: u8 = 0;
/// Busy, and nothing is written yet: may be killed.
const BUSY_CLEAN: u8 = 1;
const BUSY_WROTE: u8 = 2;
const KILLED: u8 = 3;
/// With one of the others, where it is not a script.
const FUNCTION: u8 = 4;

/// What FUNCTION STATS tells of a busy function.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub name: String,
    /// The whole request.
    pub command: Vec<Vec<u8>>,
    pub since: Instant,
}

#[derive(Debug, Default)]
struct OfLoop {
    state: AtomicU8,
    running: Mutex<Option<Running>>,
}

impl OfLoop {
    fn stage(&self) -> u8 {
        self.state.load(SeqCst) & !FUNCTION
    }
}

/// Each loop's script, if it is busy. Its loop marks it, any may kill it.
#[derive(Debug)]
pub(crate) struct BusyScripts {
    loops: Box<[OfLoop]>,
}

impl BusyScripts {
    pub fn new(loops_len: usize) -> Self {
        Self { loops: (0..loops_len).map(|_| OfLoop::default()).collect() }
    }

    /// Whether a script of another loop is busy.
    pub fn elsewhere(&self, own: u16) -> bool {
        self.others(own).any(|of_loop| of_loop.stage() != FREE)
    }

    /// What a command is told that gave up for a busy script of another loop.
    pub fn refusal(&self, own: u16) -> ErrorReply {
        let states = self.others(own).map(|of_loop| of_loop.state.load(SeqCst));
        states.filter(|state| *state != FREE).map(Kind::of).next().unwrap_or(Kind::Script).refusal()
    }

    fn others(&self, own: u16) -> impl Iterator<Item = &OfLoop> {
        self.loops.iter().enumerate().filter(move |(i, _)| *i != usize::from(own)).map(|(_, of_loop)| of_loop)
    }

    pub fn is_free(&self, event_loop: usize) -> bool {
        self.loops[event_loop].stage() == FREE
    }

    pub fn any(&self) -> bool {
        self.loops.iter().any(|of_loop| of_loop.stage() != FREE)
    }

    /// Marks a loop's script as busy; true where it was killed. `describe` is asked once.
    pub fn mark(&self, own: u16, kind: Kind, wrote: bool, describe: impl FnOnce() -> Running) -> bool {
        let OfLoop { state, running } = &self.loops[usize::from(own)];
        let next = kind.bit() | if wrote { BUSY_WROTE } else { BUSY_CLEAN };
        match state.compare_exchange(FREE, next, SeqCst, SeqCst) {
            Ok(_) => {
                *running.lock() = Some(describe());
                false
            }
            Err(now) => now & !FUNCTION == KILLED,
        }
    }

    /// A script is about to write for the first time; false where it was killed and must not.
    pub fn may_write(&self, own: u16) -> bool {
        let wrote = |now: u8| (now & !FUNCTION == BUSY_CLEAN).then_some(now & FUNCTION | BUSY_WROTE);
        match self.loops[usize::from(own)].state.fetch_update(SeqCst, SeqCst, wrote) {
            Ok(_) => true,
            Err(now) => now & !FUNCTION != KILLED,
        }
    }

    /// The loop's script has ended.
    pub fn end(&self, own: u16) {
        let OfLoop { state, running } = &self.loops[usize::from(own)];
        if state.load(SeqCst) != FREE {
            *running.lock() = None;
            state.store(FREE, SeqCst);
        }
    }

    /// SCRIPT KILL or FUNCTION KILL. Who asks for the wrong one learns which is right.
    pub fn kill(&self, kind: Kind) -> Result<(), ErrorReply> {
        let mut found = ErrorReply::new("NOTBUSY No scripts in execution right now.");
        for OfLoop { state, .. } in &self.loops {
            let killed = |now: u8| (now == kind.bit() | BUSY_CLEAN).then_some(kind.bit() | KILLED);
            match state.fetch_update(SeqCst, SeqCst, killed) {
                Ok(_) => return Ok(()),
                Err(now) if now == kind.bit() | KILLED => return Ok(()),
                Err(FREE) => {}
                Err(now) if now & !FUNCTION == BUSY_WROTE => found = UNKILLABLE,
                Err(now) if found != UNKILLABLE => found = Kind::of(now).refusal(),
                Err(_) => {}
            }
        }
        Err(found)
    }

    /// A busy function; an error where a script is busy instead.
    pub fn running_function(&self) -> Result<Option<Running>, ErrorReply> {
        let mut refusal = Ok(None);
        for OfLoop { state, running } in &self.loops {
            let now = state.load(SeqCst);
            match Kind::of(now) {
                _ if now == FREE => {}
                Kind::Function => {
                    if let Some(running) = running.lock().clone() {
                        return Ok(Some(running));
                    }
                }
                Kind::Script => refusal = Err(Kind::Script.refusal()),
            }
        }
        refusal
    }
}

const UNKILLABLE: ErrorReply = ErrorReply::new(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
     script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Running {
        Running { name: "f".into(), command: vec![b"FCALL".to_vec()], since: Instant::now() }
    }

    fn kill(busy: &BusyScripts, kind: Kind) -> String {
        busy.kill(kind).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_script_is_killed_before_its_first_write_or_not_at_all() {
        let busy = BusyScripts::new(2);
        assert!(kill(&busy, Kind::Script).starts_with("NOTBUSY"));
        assert!(!busy.mark(0, Kind::Script, false, running));
        assert!(busy.elsewhere(1) && !busy.elsewhere(0));
        assert!(busy.may_write(0));
        assert!(kill(&busy, Kind::Script).starts_with("UNKILLABLE"));
        busy.end(0);
        assert!(!busy.mark(1, Kind::Script, false, running));
        assert!(busy.kill(Kind::Script).is_ok());
        assert!(!busy.may_write(1) && busy.mark(1, Kind::Script, false, running));
        busy.end(1);
        assert!(!busy.any());
    }

    #[test]
    fn scripts_and_functions_are_killed_by_their_own_command() {
        let busy = BusyScripts::new(2);
        assert!(!busy.mark(0, Kind::Function, false, running));
        assert!(kill(&busy, Kind::Script).contains("You can only call FUNCTION KILL"));
        assert_eq!(busy.refusal(1), ErrorReply::BUSY_FUNCTION);
        assert_eq!(busy.running_function().unwrap().unwrap().name, "f");
        assert!(busy.kill(Kind::Function).is_ok());
        assert!(busy.mark(0, Kind::Function, false, running), "it learns of it");
        busy.end(0);
        assert!(!busy.mark(0, Kind::Script, false, running));
        assert!(kill(&busy, Kind::Function).contains("You can only call SCRIPT KILL"));
        assert_eq!(busy.running_function().unwrap_err(), ErrorReply::BUSY);
        busy.end(0);
        assert!(busy.running_function().unwrap().is_none());
    }
}
