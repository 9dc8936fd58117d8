//! What a running script reaches: the face that the store turns to the interpreter.

/// The run must end now and be thrown away: the host lets go of what it holds and may start it over.
///
/// A script cannot catch it: `pcall`, `xpcall` and coroutines pass it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort;

/// The protocol version in which a host answers `redis.call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resp {
    #[default]
    V2,
    V3,
}

/// Levels of `redis.log`, as numbered by `redis.LOG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// What becomes of a run that passed the busy threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Let it go on; the question comes again after some ten thousand instructions.
    Continue,
    /// End it with SCRIPT KILL's error. The script cannot catch it.
    Kill,
    /// End it as if a command had answered [`Abort`].
    Abort,
}

/// What a script's `redis.*` functions reach during one run.
pub trait Host {
    /// Runs one command. `args` is never empty. Owed: on `Ok`, exactly one complete reply was appended to
    /// `reply`, in the version last set by [`Host::set_resp`] (RESP2 when a run starts); errors are replies
    /// too (`-ERR …\r\n`) and carry Redis's wording. `reply` is empty on entry.
    ///
    /// Refusing writes to read-only scripts, commands that scripts may not call and ACL rules is the host's
    /// business, by error replies.
    fn call(&mut self, args: &[&[u8]], reply: &mut Vec<u8>) -> Result<(), Abort>;

    /// `redis.setresp(2|3)`.
    fn set_resp(&mut self, resp: Resp) {
        let _ = resp;
    }

    /// `redis.log(level, …)`; the parts are joined by spaces.
    fn log(&mut self, level: LogLevel, message: &[u8]) {
        let _ = (level, message);
    }

    /// `redis.acl_check_cmd(…)`: whether the user may run it; `None` when there is no such command.
    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        let _ = args;
        Some(true)
    }

    /// `redis.set_repl(flags)`: bit 0 the append-only file, bit 1 the replicas.
    fn set_replication(&mut self, flags: u8) {
        let _ = flags;
    }

    /// Asked again and again once the run lasted longer than the watchdog's threshold, and never before.
    /// Runs on the interpreter's thread, between two instructions of the script. A host that has written
    /// must not answer `Kill` (Redis: UNKILLABLE).
    fn busy(&mut self) -> Verdict {
        Verdict::Continue
    }
}
