//! Scripts and functions: how they are run, and the host through which they run commands.
//!
//! A script works on the shards of its declared keys and takes further ones as it goes; see
//! `thali_keyspace::locks` for how that stays free of deadlock. Where a shard or the token is taken
//! and nothing was written yet, the run is thrown away, all is let go, and it starts over with more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use smallvec::SmallVec;
use thali_commands::{ErrorReply, Flags, Flow, Origin, Outcome, Spec};
use thali_keyspace::locks::ShardId;
use thali_keyspace::{Extend, Patience};
use thali_resp::{Protocol, Reply};
use thali_script::{
    Abort, Flags as ScriptFlags, Host, Interpreter, Libraries, LogLevel, Resp, Script, ScriptError, Sha,
    Verdict, Watchdog,
};

use crate::acl;
use crate::busy::{Kind, Running};
use crate::call::{Call, Shared, Side};
use crate::commands::monitor;
use crate::dispatch;
use crate::functions::{self, Found, LibrarySet};
use crate::script_cache::ScriptCache;
use crate::session::SessionState;
use crate::table::Row;
use crate::{table, unit};

/// What all loops share of scripts.
pub(crate) struct Scripts {
    pub cache: ScriptCache,
    /// How often SCRIPT FLUSH ran: each loop forgets what it compiled before the last one.
    flushes: AtomicU64,
    pub watchdog: Arc<Watchdog>,
}

impl Scripts {
    pub fn new(watchdog: Arc<Watchdog>) -> Self {
        Self { cache: ScriptCache::default(), flushes: AtomicU64::new(0), watchdog }
    }

    /// SCRIPT FLUSH.
    pub fn flush(&self) {
        self.cache.clear();
        self.flushes.fetch_add(1, Relaxed);
    }
}

/// Whether a command runs a script: a transaction with one needs the token from its start.
pub(crate) fn runs_scripts(name: &str) -> bool {
    matches!(name, "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro")
}

/// What a request that [`runs_scripts`] would run declares; `None` where that is not to be had yet, or
/// nothing is declared. Looked at before the run only while something speaks against it.
pub(crate) fn declared_flags(shared: &Shared, name: &str, args: &[&[u8]]) -> Option<ScriptFlags> {
    let flags = match name {
        "fcall" | "fcall_ro" => shared.functions.current().find(args[1])?.function().flags,
        "evalsha" | "evalsha_ro" => shared.scripts.cache.get(&Sha::parse(args[1])?)?.flags(),
        _ => Script::new(args[1]).ok()?.flags(),
    };
    flags.declared.then_some(flags)
}

/// What a call runs.
pub(crate) enum Program {
    Script(Script),
    /// As it was found in a set of libraries.
    Function(Found, Arc<LibrarySet>),
}

impl Program {
    /// The function of this name as it is now.
    pub fn function(shared: &Shared, name: &[u8]) -> Result<Self, ErrorReply> {
        let set = shared.functions.current();
        let found = set.find(name).ok_or(ErrorReply::new("ERR Function not found"))?.clone();
        Ok(Self::Function(found, set))
    }

    fn flags(&self) -> ScriptFlags {
        match self {
            Self::Script(script) => script.flags(),
            Self::Function(found, _) => found.function().flags,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Script(_) => Kind::Script,
            Self::Function(..) => Kind::Function,
        }
    }

    /// How SCRIPT KILL's like and FUNCTION STATS call it.
    fn name(&self) -> String {
        match self {
            Self::Script(script) => script.sha().to_string(),
            Self::Function(found, _) => found.function().name.clone(),
        }
    }

    /// Whether the libraries have changed since it was looked up.
    fn is_outdated(&self, shared: &Shared) -> bool {
        match self {
            Self::Script(_) => false,
            Self::Function(_, set) => !Arc::ptr_eq(set, &shared.functions.current()),
        }
    }
}

/// The interpreter that a program needs, taken from its loop for the time of the run.
enum Engine {
    Scripts(Box<Interpreter>),
    Functions(Box<Libraries>),
}

impl Engine {
    fn take(call: &mut Call<'_, '_>, kind: Kind) -> Result<Self, ErrorReply> {
        match kind {
            Kind::Script => take_interpreter(call).map(Self::Scripts),
            Kind::Function => functions::take_libraries(call).map(Self::Functions),
        }
    }

    fn give_back(self, side: &mut Side) {
        match self {
            Self::Scripts(interpreter) => side.interpreter = Some(interpreter),
            Self::Functions(libraries) => side.libraries = Some(libraries),
        }
    }

    fn run(
        &mut self,
        program: &Program,
        arguments: thali_script::Call<'_>,
        host: &mut dyn Host,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        match (self, program) {
            (Self::Scripts(interpreter), Program::Script(script)) => {
                interpreter.run(script, arguments, host, out)
            }
            (Self::Functions(libraries), Program::Function(found, _)) => {
                libraries.run(&found.library, found.at, arguments, host, out)
            }
            _ => unreachable!("the engine was taken for the program"),
        }
    }
}

/// How a program is run.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The whole request.
    pub request: &'a [&'a [u8]],
    pub keys: &'a [&'a [u8]],
    pub argv: &'a [&'a [u8]],
    /// By EVAL_RO or its like.
    pub read_only: bool,
}

/// Runs a script or function to its end, however often it has to start over.
pub(crate) fn run(call: &mut Call<'_, '_>, program: Program, run: Run<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut engine = Engine::take(call, program.kind())?;
    call.stats().scripts.add(1);
    let (origin, db, now_ms) = (call.cx.origin, call.cx.db, call.cx.now_ms);
    // A transaction holds the token and cannot let go.
    let may_restart = origin != Origin::Unit;
    call.cx.origin = Origin::Unit;
    let resp3 = reply.is_resp3();
    let outcome = attempt(call, &mut engine, program, run, may_restart, resp3, reply.buffer());
    call.shared.busy.end(call.side.event_loop);
    engine.give_back(call.side);
    (call.cx.origin, call.cx.db, call.cx.now_ms) = (origin, db, now_ms);
    call.cx.effects_named = true;
    outcome.map(|()| Flow::Done)
}

fn attempt(
    call: &mut Call<'_, '_>,
    engine: &mut Engine,
    mut program: Program,
    run: Run<'_>,
    may_restart: bool,
    resp3: bool,
    out: &mut Vec<u8>,
) -> Result<(), ErrorReply> {
    let db = call.cx.db;
    let arguments = thali_script::Call { keys: run.keys, args: run.argv, resp3 };
    loop {
        let flags = program.flags();
        admit(call, flags, run.read_only)?;
        let mut host = RunHost {
            begun: call.side.clock,
            call,
            program: &program,
            request: run.request,
            may_restart,
            read_only: run.read_only || flags.no_writes,
            wrote: false,
            allows_oom: flags.allow_oom,
            protocol: Protocol::Resp2,
            wanted: SmallVec::new(),
            wants_token: false,
            is_postponed: false,
        };
        let result = engine.run(&program, arguments, &mut host, out);
        let RunHost { wanted, wants_token, wrote, is_postponed, .. } = host;
        match result {
            Ok(()) => return Ok(()),
            Err(ScriptError::Aborted) => {}
            Err(error) => return Err(ErrorReply::owned(error.reply().unwrap_or_default())),
        }
        if is_postponed {
            call.side.postpones = true;
            return Err(ErrorReply::BUSY);
        }
        debug_assert!(may_restart && !wrote);
        call.stats().script_restarts.add(1);
        if !start_over(call, &wanted, wants_token) {
            return Err(call.shared.busy.refusal(call.side.event_loop));
        }
        call.cx.db = db;
        if let Program::Function(..) = program {
            program = Program::function(call.shared, run.request[1])?;
        }
    }
}

/// What speaks against a run of something that declares flags. In the order and words of Redis, whose own
/// gates, before the run, are `dispatch`'s: this is for transactions, during which the state may change.
fn admit(call: &Call<'_, '_>, flags: ScriptFlags, read_only: bool) -> Result<(), ErrorReply> {
    if !flags.declared {
        return Ok(());
    }
    if flags.may_write() {
        if let Some(refusal) = call.shared.write_refusal() {
            return Err(ErrorReply::owned(refusal.as_bytes()));
        }
        if read_only {
            return Err(ErrorReply::new("ERR Can not execute a script with write flag using *_ro command."));
        }
    }
    if flags.needs_memory() && call.side.evictor.is_out_of_memory {
        return Err(ErrorReply::new(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
        ));
    }
    Ok(())
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

fn new_interpreter(call: &mut Call<'_, '_>) -> Result<Box<Interpreter>, ErrorReply> {
    let made = Interpreter::new(thali_script::Limits::default(), &call.shared.scripts.watchdog);
    let mut interpreter =
        made.map_err(|error| ErrorReply::owned(format!("ERR cannot start the script interpreter: {error}")))?;
    // Else all loops would draw the same numbers.
    interpreter.seed(call.cx.random.next_u64() as i32);
    Ok(Box::new(interpreter))
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
    program: &'h Program,
    request: &'h [&'h [u8]],
    begun: Instant,
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
        let held_none = locked.holds_none();
        for shard in shards {
            if let Extend::Taken(shard) = locked.extend(*shard, gives_up) {
                self.wanted.push(shard);
            }
        }
        if self.wanted.is_empty() && may_give_up && held_none && self.program.is_outdated(self.call.shared) {
            // Until here its library could change, and somebody may have seen that.
            self.wanted.extend_from_slice(shards);
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

    /// What speaks against a command whatever it needs, in Redis's order.
    fn refuse(&self, row: &Row, spec: &Spec, args: &[&[u8]]) -> Option<ErrorReply> {
        if spec.flags.contains(Flags::NOSCRIPT) && !self.call.side.switches.scripts_call_all.load(Relaxed) {
            return Some(ErrorReply::new("ERR This Redis command is not allowed from script"));
        }
        if let Some(state) = self.call.state.as_deref().filter(|state| !state.user.may_all())
            && let Err(error) = acl::gate_script(self.call.shared, self.call.side, state, (row, spec, args))
        {
            return Some(error);
        }
        let changes_something = spec.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE));
        if self.read_only && changes_something {
            return Some(ErrorReply::new("ERR Write commands are not allowed from read-only scripts."));
        }
        None
    }

    /// What speaks against a first write.
    fn refuse_write(&self, spec: &Spec) -> Option<ErrorReply> {
        if self.wrote {
            return None;
        }
        let shared = self.call.shared;
        if let Some(refusal) = shared.write_refusal() {
            return Some(ErrorReply::owned(refusal.as_bytes()));
        }
        let is_short = !self.allows_oom && self.call.side.evictor.is_out_of_memory;
        (is_short && spec.flags.contains(Flags::DENYOOM)).then_some(dispatch::OUT_OF_MEMORY)
    }

    fn run_command(&mut self, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<Outcome, Abort> {
        let args = match self.call.shared.names.translate(args) {
            Ok(args) => args,
            Err(error) => return Ok(Err(script_wording(error))),
        };
        let args = &*args;
        let row = self.call.side.recent_rows.find(args[0]);
        let (row, spec) = match dispatch::resolve_row(row, args) {
            Ok(found) => found,
            Err(error) => return Ok(Err(script_wording(error))),
        };
        if let Some(refusal) = self.refuse(row, spec, args) {
            return Ok(Err(refusal));
        }
        let keyspace = &self.call.shared.keyspace;
        let mut plan = unit::Plan::default();
        plan.add_in_unit(keyspace, spec, args);
        if plan.all {
            plan.shards = (0..keyspace.shards_len() as ShardId).collect();
        }
        self.hold(spec.flags, &plan.shards)?;
        if spec.flags.contains(Flags::WRITE) {
            if let Some(refusal) = self.refuse_write(spec) {
                return Ok(Err(refusal));
            }
            if !self.call.shared.busy.may_write(self.call.side.event_loop) {
                return Ok(Err(ErrorReply::new("ERR Script killed by user with SCRIPT KILL...")));
            }
            self.wrote = true;
        }
        if self.call.shared.monitors_len.load(Relaxed) > 0 {
            monitor::feed_from_script(self.call, spec, args);
        }
        let Call { cx, shared, side, .. } = &mut *self.call;
        let begun = side.clock;
        let one_shard = plan.shards.first().filter(|first| plan.shards.iter().all(|shard| shard == *first));
        cx.locked.focus(one_shard.and_then(|shard| cx.locked.place_of(*shard)));
        let mut call = Call { cx, shared, side, state: None };
        let outcome = unit::invoke(row, &mut call, args, reply);
        self.call.cx.locked.focus(None);
        if let Some(state) = self.call.state.as_deref() {
            let side = &*self.call.side;
            let nanos = side.clock.saturating_duration_since(begun).as_nanos() as u64;
            self.call.shared.slowlog.note(side, state, spec, args, nanos);
        }
        Ok(outcome)
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
            Ok(Flow::Park(_) | Flow::Steps(_)) => writer.null_array(),
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
        functions::write_log(level, message);
    }

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        let args = self.call.shared.names.translate(args).ok()?;
        let (row, spec) = table::find_request(&args)?;
        let may =
            |state: &SessionState| state.user.may_all() || state.user.rules().check(row, spec, &args).is_ok();
        Some(self.call.state.as_deref().is_none_or(may))
    }

    fn busy(&mut self) -> Verdict {
        let shared = self.call.shared;
        let describe = || Running {
            name: self.program.name(),
            command: self.request.iter().map(|arg| arg.to_vec()).collect(),
            since: self.begun,
        };
        let kind = self.program.kind();
        let is_killed = shared.busy.mark(self.call.side.event_loop, kind, self.wrote, describe);
        let is_ending = !self.wrote && shared.is_shutting_down.load(Relaxed);
        if is_killed || is_ending { Verdict::Kill } else { Verdict::Continue }
    }
}
