//! The interpreter of one thread: compiles scripts, keeps what it compiled, runs them.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;

use crate::context::Doom;
use crate::convert::write_result;
use crate::host::Host;
use crate::lua::{Outcome, REGISTRY, Raise, Stack};
use crate::sandbox::{self, FUNCTIONS, TRUE_GLOBALS};
use crate::script::{Script, Sha};
use crate::state::State;
use crate::watchdog::{Watch, Watchdog};

/// The chunk's name, as Redis shows it in errors.
const CHUNK: &[u8] = b"@user_script";

/// What one interpreter may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory of the Lua state, values of the running script and compiled scripts together.
    pub memory_bytes_max: usize,
    /// Compiled scripts that are kept; beyond it the least recently used go.
    pub compiled_len_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes_max: 256 << 20, compiled_len_max: 1_024 }
    }
}

/// The arguments of one run.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub keys: &'a [&'a [u8]],
    pub args: &'a [&'a [u8]],
    /// The client speaks RESP3, so the script's result is written in it.
    pub resp3: bool,
}

/// How a script failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The text does not compile. The text of the error reply, without the leading dash.
    #[error("{0}")]
    Compile(String),
    /// The script raised an error. What it wrote stays. The text of the error reply (bytes: scripts choose
    /// it), without the leading dash.
    #[error("{}", String::from_utf8_lossy(.0))]
    Raised(Vec<u8>),
    /// [`crate::Verdict::Kill`] ended the run. The text of the error reply, without the leading dash.
    #[error("{0}")]
    Killed(String),
    /// The host ended the run with [`crate::Abort`]; nothing may be told to the client.
    #[error("the host aborted the run")]
    Aborted,
}

impl ScriptError {
    /// The error reply without its leading dash and line end; `None` for [`ScriptError::Aborted`].
    pub fn reply(&self) -> Option<&[u8]> {
        match self {
            Self::Compile(text) | Self::Killed(text) => Some(text.as_bytes()),
            Self::Raised(text) => Some(text),
            Self::Aborted => None,
        }
    }
}

struct Compiled {
    /// Index in the registry's table of functions.
    slot: i32,
    last_used: u64,
}

/// LuaJIT with Redis's sandbox. Belongs to the thread that made it.
///
/// The thread needs two megabytes of stack or more.
pub struct Interpreter {
    /// Before the state, so that no signal reaches for a closed state.
    watch: Watch,
    state: State,
    limits: Limits,
    compiled: HashMap<Sha, Compiled>,
    free_slots: Vec<i32>,
    runs: u64,
}

impl Interpreter {
    /// Builds the sandbox (about 100 µs). Fails when the process is out of memory.
    pub fn new(limits: Limits, watchdog: &Arc<Watchdog>) -> std::io::Result<Self> {
        let short = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let state = State::new().ok_or_else(short)?;
        if !state.protected(&mut |stack| sandbox::build(stack)) {
            return Err(short());
        }
        state.context().memory.set_limit_bytes(limits.memory_bytes_max);
        let watch = watchdog.watch(state.raw());
        let (compiled, free_slots) = (HashMap::new(), Vec::new());
        Ok(Self { watch, state, limits, compiled, free_slots, runs: 0 })
    }

    /// Checks that the script compiles and keeps the result, as SCRIPT LOAD does.
    pub fn compile(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.slot_of(script).map(|_| ())
    }

    /// Forgets all compiled scripts, as SCRIPT FLUSH does. They compile again when they run.
    pub fn forget(&mut self) {
        self.compiled.clear();
        self.free_slots.clear();
        self.state.protected(&mut |stack| {
            stack.push_table(0, 0);
            stack.raw_set_index(REGISTRY, FUNCTIONS);
            stack.collect_garbage();
            Ok(0)
        });
    }

    /// Memory that the Lua state holds now.
    pub fn memory_bytes(&self) -> usize {
        self.state.context().memory.used_bytes()
    }

    /// Compiled scripts that are kept now.
    pub fn compiled_len(&self) -> usize {
        self.compiled.len()
    }

    /// Runs a script and appends its reply to `out`. On an error `out` is as it was before.
    ///
    /// A panic of the host continues here, after the Lua state was unwound in order.
    pub fn run(
        &mut self,
        script: &Script,
        call: Call<'_>,
        host: &mut dyn Host,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let slot = self.slot_of(script)?;
        let start = out.len();
        let (state, watch) = (&self.state, &self.watch);
        state.context().last_line.set(script.last_line());
        let finished = state.context().during(Some(host), || {
            let _watched = watch.begin();
            state.protected(&mut |stack| enter(stack, slot, call, out))
        });
        let result = if finished { Ok(()) } else { Err(self.failure(script)) };
        if result.is_err() {
            out.truncate(start);
        }
        if let Some(payload) = self.state.context().take_panic() {
            resume_unwind(payload);
        }
        self.tidy();
        result
    }

    /// Words the error that ended a run, as Redis does.
    fn failure(&self, script: &Script) -> ScriptError {
        let context = self.state.context();
        match context.doom() {
            Some(Doom::Aborted | Doom::Panicked) => return ScriptError::Aborted,
            Some(Doom::Killed) | None => {}
        }
        let mut text = match context.doom() {
            Some(_) => b"ERR Script killed by user with SCRIPT KILL.".to_vec(),
            None => context.message.with(|message| message.clone()),
        };
        text.extend_from_slice(format!(" script: {}, on ", script.sha()).as_bytes());
        context.place.with(|place| match place.is_empty() {
            // LuaJIT drops the frame of a function that ends in a tail call, and a script without a frame
            // has ended in `return redis.call(…)`, which stands at its end.
            true => {
                let line = context.last_line.get();
                text.extend_from_slice(format!("@user_script:{line}").as_bytes());
            }
            false => text.extend_from_slice(place),
        });
        text.push(b'.');
        match context.doom() {
            Some(_) => ScriptError::Killed(String::from_utf8_lossy(&text).into_owned()),
            None => ScriptError::Raised(text),
        }
    }

    /// The slot of the compiled function, which is compiled now if need be.
    fn slot_of(&mut self, script: &Script) -> Result<i32, ScriptError> {
        self.runs += 1;
        if let Some(compiled) = self.compiled.get_mut(script.sha()) {
            compiled.last_used = self.runs;
            return Ok(compiled.slot);
        }
        if self.compiled.len() >= self.limits.compiled_len_max.max(1) {
            self.evict();
        }
        let slot = self.free_slots.pop().unwrap_or(self.compiled.len() as i32 + 1);
        let compiled = self.state.protected(&mut |stack| compile(stack, slot, script.code()));
        if !compiled {
            self.free_slots.push(slot);
            let text = self.state.context().message.with(|text| {
                String::from_utf8_lossy(text.strip_prefix(b"ERR ").unwrap_or(text)).into_owned()
            });
            return Err(ScriptError::Compile(format!("ERR Error compiling script (new function): {text}")));
        }
        self.compiled.insert(*script.sha(), Compiled { slot, last_used: self.runs });
        Ok(slot)
    }

    /// Drops the least recently used eighth of the compiled scripts.
    fn evict(&mut self) {
        let mut by_age: Vec<_> = self.compiled.iter().map(|(sha, c)| (c.last_used, *sha)).collect();
        by_age.sort_unstable();
        for (_, sha) in by_age.iter().take(by_age.len().div_ceil(8)) {
            if let Some(compiled) = self.compiled.remove(sha) {
                self.free_slots.push(compiled.slot);
            }
        }
        let free_slots = &self.free_slots;
        self.state.protected(&mut |stack| {
            stack.raw_get_index(REGISTRY, FUNCTIONS);
            for &slot in free_slots {
                stack.push_boolean(false);
                stack.raw_set_index(-2, slot);
            }
            Ok(0)
        });
    }

    /// Gives back what the run left, before the next script pays for it.
    fn tidy(&mut self) {
        let half = self.limits.memory_bytes_max / 2;
        if self.memory_bytes() <= half {
            return;
        }
        self.state.protected(&mut |stack| {
            stack.collect_garbage();
            Ok(0)
        });
        if self.memory_bytes() > half {
            self.forget();
        }
    }
}

fn compile(stack: Stack<'_>, slot: i32, code: &[u8]) -> Outcome {
    stack.raw_get_index(REGISTRY, FUNCTIONS);
    if !stack.load(code, CHUNK) {
        return Err(Raise::Top);
    }
    stack.raw_set_index(-2, slot);
    Ok(0)
}

fn enter(stack: Stack<'_>, slot: i32, call: Call<'_>, out: &mut Vec<u8>) -> Outcome {
    stack.raw_get_index(REGISTRY, TRUE_GLOBALS);
    for (name, values) in [("KEYS", call.keys), ("ARGV", call.args)] {
        stack.push_table(values.len(), 0);
        for (value, index) in values.iter().zip(1..) {
            stack.push_bytes(value);
            stack.raw_set_index(-2, index);
        }
        stack.set_field(-2, name);
    }
    stack.raw_get_index(REGISTRY, FUNCTIONS);
    stack.raw_get_index(-1, slot);
    stack.call(0, 1);
    write_result(stack, out, call.resp3, stack.context().resp.get())?;
    Ok(0)
}
