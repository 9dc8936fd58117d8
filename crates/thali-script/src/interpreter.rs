//! The interpreter of one event loop: compiles scripts, keeps what it compiled, runs them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::convert::write_result;
use crate::host::Host;
use crate::lua::{Outcome, REGISTRY, Raise, Stack};
use crate::machine::Machine;
use crate::sandbox::{FUNCTIONS, Surface, TRUE_GLOBALS};
use crate::script::{Script, Sha};
use crate::watchdog::Watchdog;

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

/// LuaJIT with Redis's sandbox. May go from thread to thread between runs.
///
/// The thread needs two megabytes of stack or more.
pub struct Interpreter {
    machine: Machine,
    limits: Limits,
    compiled: HashMap<Sha, Compiled>,
    free_slots: Vec<i32>,
    runs: u64,
}

impl Interpreter {
    /// Builds the sandbox (about 100 µs). Fails when the process is out of memory.
    pub fn new(limits: Limits, watchdog: &Arc<Watchdog>) -> std::io::Result<Self> {
        let machine = Machine::new(limits, watchdog, Surface::Script)?;
        let (compiled, free_slots) = (HashMap::new(), Vec::new());
        Ok(Self { machine, limits, compiled, free_slots, runs: 0 })
    }

    /// Where `math.random` goes on from.
    pub fn seed(&mut self, seed: i32) {
        self.machine.seed(seed);
    }

    /// Checks that the script compiles and keeps the result, as SCRIPT LOAD does.
    pub fn compile(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.slot_of(script).map(|_| ())
    }

    /// Forgets all compiled scripts, as SCRIPT FLUSH does. They compile again when they run.
    pub fn forget(&mut self) {
        self.compiled.clear();
        self.free_slots.clear();
        self.machine.protected(&mut |stack| {
            stack.push_table(0, 0);
            stack.raw_set_index(REGISTRY, FUNCTIONS);
            stack.collect_garbage();
            Ok(0)
        });
    }

    /// Memory that the Lua state holds now.
    pub fn memory_bytes(&self) -> usize {
        self.machine.memory_bytes()
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
        let result = self
            .machine
            .run(script.sha(), script.last_line(), host, &mut |stack| enter(stack, slot, call, out));
        if result.is_err() {
            out.truncate(start);
        }
        if !self.machine.finish() {
            self.forget();
        }
        result
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
        let compiled = self.machine.protected(&mut |stack| compile(stack, slot, script.code()));
        if !compiled {
            self.free_slots.push(slot);
            let text = self.machine.error_text();
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
        self.machine.protected(&mut |stack| {
            stack.raw_get_index(REGISTRY, FUNCTIONS);
            for &slot in free_slots {
                stack.push_boolean(false);
                stack.raw_set_index(-2, slot);
            }
            Ok(0)
        });
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
        push_list(stack, values);
        stack.set_field(-2, name);
    }
    stack.raw_get_index(REGISTRY, FUNCTIONS);
    stack.raw_get_index(-1, slot);
    stack.call(0, 1);
    write_result(stack, out, call.resp3, stack.context().resp.get())?;
    Ok(0)
}

/// Pushes the values as an array. May raise.
pub(crate) fn push_list(stack: Stack<'_>, values: &[&[u8]]) {
    stack.push_table(values.len(), 0);
    for (value, index) in values.iter().zip(1..) {
        stack.push_bytes(value);
        stack.raw_set_index(-2, index);
    }
}
