//! Scripts: the texts that all loops share, and the host through which a script runs commands.
//!
//! A script works on the shards of its declared keys and takes further ones as it goes; see
//! `thali_keyspace::locks` for how that stays free of deadlock. Where a shard or the token is taken
//! and nothing was written yet, the run is thrown away, all is let go, and it starts over with more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use smallvec::SmallVec;
use thali_commands::{ErrorReply, Flags, Flow, Origin, Outcome};
use thali_keyspace::locks::ShardId;
use thali_keyspace::{Extend, Patience};
use thali_resp::{Protocol, Reply};
use thali_script::{Abort, Host, Interpreter, LogLevel, Resp, Script, ScriptError, Sha, Verdict, Watchdog};

use crate::busy::BUSY;
use crate::call::{Call, Shared, Side};
use crate::commands::monitor;
use crate::dispatch;
use crate::unit;

/// The texts of all scripts, by their SHA1. Redis keeps them until SCRIPT FLUSH, and so do we;
/// what one interpreter keeps compiled is bounded.
pub(crate) struct Scripts {
    by_sha: RwLock<HashMap<Sha, Script>>,
    /// How often SCRIPT FLUSH ran: each loop forgets what it compiled before the last one.
    flushes: AtomicU64,
    pub watchdog: Arc<Watchdog>,
}

impl Scripts {
    pub fn new(watchdog: Arc<Watchdog>) -> Self {
        Self { by_sha: RwLock::default(), flushes: AtomicU64::new(0), watchdog }
    }

    pub fn get(&self, sha: &Sha) -> Option<Script> {
        self.by_sha.read().get(sha).cloned()
    }

    pub fn insert(&self, script: Script) {
        self.by_sha.write().insert(*script.sha(), script);
    }

    pub fn clear(&self) {
        self.by_sha.write().clear();
        self.flushes.fetch_add(1, Relaxed);
    }

    pub fn len(&self) -> usize {
        self.by_sha.read().len()
    }

    pub fn bytes(&self) -> usize {
        self.by_sha.read().values().map(|script| script.body().len() + 128).sum()
    }
}

/// Whether a command runs a script: a transaction with one needs the token from its start.
pub(crate) fn runs_scripts(name: &str) -> bool {
    matches!(name, "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro")
}

/// Runs a script to its end, however often it has to start over.
pub(crate) fn run(
    call: &mut Call<'_, '_>,
    script: &Script,
    keys: &[&[u8]],
    argv: &[&[u8]],
    read_only: bool,
    reply: &mut Reply<'_>,
) -> Outcome {
    let mut interpreter = take_interpreter(call)?;
    call.stats().scripts.add(1);
    let (origin, db, now_ms) = (call.cx.origin, call.cx.db, call.cx.now_ms);
    // A transaction holds the token and cannot let go.
    let may_restart = origin != Origin::Unit;
    call.cx.origin = Origin::Unit;
    let mut out = Vec::new();
    let arguments = thali_script::Call { keys, args: argv, resp3: reply.is_resp3() };
    let result = loop {
        let mut host = RunHost {
            call,
            may_restart,
            read_only: read_only || script.flags().no_writes,
            wrote: false,
            allows_oom: script.flags().allow_oom,
            protocol: Protocol::Resp2,
            wanted: SmallVec::new(),
            wants_token: false,
            is_postponed: false,
        };
        let result = interpreter.run(script, arguments, &mut host, &mut out);
        let RunHost { wanted, wants_token, wrote, is_postponed, .. } = host;
        if result != Err(ScriptError::Aborted) {
            break result;
        }
        if is_postponed {
            call.side.postpones = true;
            break result;
        }
        debug_assert!(may_restart && !wrote);
        call.stats().script_restarts.add(1);
        if !start_over(call, &wanted, wants_token) {
            break Err(ScriptError::Aborted);
        }
        call.cx.db = db;
    };
    call.shared.busy.end(call.side.event_loop);
    call.side.interpreter = Some(interpreter);
    (call.cx.origin, call.cx.db, call.cx.now_ms) = (origin, db, now_ms);
    call.cx.effects_named = true;
    match result {
        Ok(()) => reply.raw(&out),
        Err(ScriptError::Aborted) => return Err(BUSY),
        Err(error) => return Err(ErrorReply::owned(error.reply().unwrap_or(b"ERR script aborted"))),
    }
    Ok(Flow::Done)
}

/// Lets go of all shards and takes them again with more; false, with none held, where a busy script
/// holds one.
fn start_over(call: &mut Call<'_, '_>, wanted: &[ShardId], token: bool) -> bool {
    call.shared.busy.end(call.side.event_loop);
    let mut plan = unit::Plan { token, ..Default::default() };
    plan.shards.extend(call.cx.locked.ids());
    plan.shards.extend_from_slice(wanted);
    // Everything is let go before anything is waited for.
    let keyspace = call.cx.locked.keyspace();
    call.cx.locked = keyspace.lock_none();
    let (busy, own) = (&call.shared.busy, call.side.event_loop);
    match plan.lock_in(keyspace, &|| busy.elsewhere(own)) {
        Some(locked) => call.cx.locked = locked,
        None => {
            // What was found expired is not held any more; it will be found again.
            call.cx.expired_seen.take();
            return false;
        }
    }
    true
}

/// This loop's interpreter, made where there is none. The caller puts it back.
fn take_interpreter(call: &mut Call<'_, '_>) -> Result<Box<Interpreter>, ErrorReply> {
    forget_flushed(call.shared, call.side);
    match call.side.interpreter.take() {
        Some(interpreter) => Ok(interpreter),
        None => new_interpreter(call),
    }
}

/// Forgets what this loop compiled before the last SCRIPT FLUSH, which may have run on another one.
pub(crate) fn forget_flushed(shared: &Shared, side: &mut Side) {
    let flushes = shared.scripts.flushes.load(Relaxed);
    if std::mem::replace(&mut side.script_flushes_seen, flushes) != flushes
        && let Some(interpreter) = &mut side.interpreter
    {
        interpreter.forget();
    }
}

fn new_interpreter(call: &Call<'_, '_>) -> Result<Box<Interpreter>, ErrorReply> {
    Interpreter::new(thali_script::Limits::default(), &call.shared.scripts.watchdog)
        .map(Box::new)
        .map_err(|error| ErrorReply::owned(format!("ERR cannot start the script interpreter: {error}")))
}

/// Checks that a script compiles, in this loop's interpreter.
pub(crate) fn compile(call: &mut Call<'_, '_>, script: &Script) -> Result<(), ErrorReply> {
    let mut interpreter = take_interpreter(call)?;
    let result = interpreter.compile(script);
    call.side.interpreter = Some(interpreter);
    result.map_err(|error| ErrorReply::owned(error.reply().unwrap_or_default()))
}

/// What one run of a script reaches.
struct RunHost<'h, 'c, 'a> {
    call: &'h mut Call<'c, 'a>,
    may_restart: bool,
    read_only: bool,
    wrote: bool,
    allows_oom: bool,
    protocol: Protocol,
    /// Shards to hold when the run starts over.
    wanted: SmallVec<[ShardId; 4]>,
    wants_token: bool,
    /// CLIENT PAUSE came before the first write: the whole run waits for its end.
    is_postponed: bool,
}

impl RunHost<'_, '_, '_> {
    /// Holds what a command needs, or says that the run must start over.
    fn hold(&mut self, flags: Flags, shards: &[ShardId]) -> Result<(), Abort> {
        let locked = &mut self.call.cx.locked;
        if flags.contains(Flags::WRITE) && !self.wrote && self.may_restart && !locked.claim_token() {
            self.wants_token = true;
            self.wanted.extend_from_slice(shards);
            return Err(Abort);
        }
        let (busy, own) = (&self.call.shared.busy, self.call.side.event_loop);
        let may_give_up = self.may_restart && !self.wrote;
        let gives_up: Patience<'_> = &|| may_give_up && busy.elsewhere(own);
        for shard in shards {
            if let Extend::Taken(shard) = locked.extend(*shard, gives_up) {
                self.wanted.push(shard);
            }
        }
        if !self.wanted.is_empty() {
            return Err(Abort);
        }
        // With the shards held: who paused before has held them after that, or waits for this run to end.
        let will_write = flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE));
        let pause = &self.call.shared.pause;
        if will_write && may_give_up && pause.is_set() && pause.level(self.call.side.now_ms).is_some() {
            self.is_postponed = true;
            return Err(Abort);
        }
        Ok(())
    }

    fn run_command(&mut self, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<Outcome, Abort> {
        let (row, spec) = match dispatch::resolve(args) {
            Ok(found) => found,
            Err(error) => return Ok(Err(script_wording(error))),
        };
        if spec.flags.contains(Flags::NOSCRIPT) {
            return Ok(Err(ErrorReply::new("ERR This Redis command is not allowed from script")));
        }
        if self.read_only && spec.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE)) {
            return Ok(Err(ErrorReply::new("ERR Write commands are not allowed from read-only scripts.")));
        }
        let keyspace = &self.call.shared.keyspace;
        let mut plan = unit::Plan::default();
        plan.add_in_unit(keyspace, spec, args);
        if plan.all {
            plan.shards = (0..keyspace.shards_len() as ShardId).collect();
        }
        self.hold(spec.flags, &plan.shards)?;
        if spec.flags.contains(Flags::WRITE) {
            let journal = self.call.shared.journal.load();
            if let Some(refusal) = journal.as_ref().and_then(|journal| journal.refusal()) {
                return Ok(Err(ErrorReply::owned(refusal.as_bytes())));
            }
            let is_out_of_memory =
                self.call.shared.is_out_of_memory.load(std::sync::atomic::Ordering::Relaxed);
            if !self.wrote && !self.allows_oom && is_out_of_memory && spec.flags.contains(Flags::DENYOOM) {
                return Ok(Err(dispatch::OUT_OF_MEMORY));
            }
            if !self.call.shared.busy.may_write(self.call.side.event_loop) {
                return Ok(Err(ErrorReply::new("ERR Script killed by user with SCRIPT KILL.")));
            }
            self.wrote = true;
        }
        if self.call.shared.monitors_len.load(Relaxed) > 0 {
            monitor::feed_from_script(self.call, spec, args);
        }
        let Call { cx, shared, side, .. } = &mut *self.call;
        let mut call = Call { cx, shared, side, state: None };
        Ok(unit::invoke(row, &mut call, args, reply))
    }
}

/// Scripts learn of unknown commands and wrong counts in words of their own.
fn script_wording(error: ErrorReply) -> ErrorReply {
    let text = error.text();
    if text.starts_with(b"ERR unknown command") {
        ErrorReply::new("ERR Unknown Redis command called from script")
    } else if text.starts_with(b"ERR wrong number of arguments") {
        ErrorReply::new("ERR Wrong number of args calling Redis command from script")
    } else {
        error
    }
}

impl Host for RunHost<'_, '_, '_> {
    fn call(&mut self, args: &[&[u8]], reply: &mut Vec<u8>) -> Result<(), Abort> {
        let mut writer = Reply::new(reply, self.protocol);
        match self.run_command(args, &mut writer)? {
            Ok(Flow::Done) => {}
            Ok(Flow::Park(_)) => writer.null_array(),
            Err(error) => writer.error(error.text()),
        }
        Ok(())
    }

    fn set_resp(&mut self, resp: Resp) {
        self.protocol = match resp {
            Resp::V2 => Protocol::Resp2,
            Resp::V3 => Protocol::Resp3,
        };
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        let message = String::from_utf8_lossy(message);
        match level {
            LogLevel::Debug => tracing::debug!(target: "script", "{message}"),
            LogLevel::Verbose | LogLevel::Notice => tracing::info!(target: "script", "{message}"),
            LogLevel::Warning => tracing::warn!(target: "script", "{message}"),
        }
    }

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        crate::table::find(args.first()?).map(|_| true)
    }

    fn busy(&mut self) -> Verdict {
        let shared = self.call.shared;
        let is_killed = shared.busy.mark(self.call.side.event_loop, self.wrote);
        let is_ending = !self.wrote && shared.is_shutting_down.load(Relaxed);
        if is_killed || is_ending { Verdict::Kill } else { Verdict::Continue }
    }
}
