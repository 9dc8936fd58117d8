//! A sandboxed state under watch, and how a run in it begins and ends: what scripts and libraries have in
//! common.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use crate::context::{Context, Doom, Work};
use crate::host::Host;
use crate::interpreter::{Limits, ScriptError};
use crate::random::Random;
use crate::sandbox::{self, Surface};
use crate::state::State;
use crate::watchdog::{Watch, Watchdog};

/// LuaJIT with Redis's sandbox. One thread uses it at a time.
pub(crate) struct Machine {
    /// Before the state, so that no signal reaches for a closed state.
    watch: Watch,
    state: State,
    memory_bytes_max: usize,
}

impl Machine {
    /// Builds the sandbox (about 100 µs). Fails when the process is out of memory.
    pub fn new(limits: Limits, watchdog: &Arc<Watchdog>, surface: Surface) -> std::io::Result<Self> {
        let short = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let state = State::new().ok_or_else(short)?;
        state.context().chunk.set(surface.chunk());
        if !state.protected(&mut |stack| sandbox::build(stack, surface)) {
            return Err(short());
        }
        state.context().memory.set_limit_bytes(limits.memory_bytes_max);
        let watch = watchdog.watch(state.raw());
        Ok(Self { watch, state, memory_bytes_max: limits.memory_bytes_max })
    }

    pub fn context(&self) -> &Context {
        self.state.context()
    }

    /// As [`State::protected`].
    pub fn protected(&self, work: &mut Work<'_>) -> bool {
        self.state.protected(work)
    }

    /// The text of the error that [`Machine::protected`] ended in, without its code.
    pub fn error_text(&self) -> String {
        self.context()
            .message
            .with(|text| String::from_utf8_lossy(text.strip_prefix(b"ERR ").unwrap_or(text)).into_owned())
    }

    pub fn seed(&self, seed: i32) {
        self.context().random.set(Random::seeded(seed));
    }

    /// Memory that the Lua state holds now.
    pub fn memory_bytes(&self) -> usize {
        self.context().memory.used_bytes()
    }

    /// A run of what `name` names, under the watchdog. To be followed by [`Machine::finish`].
    pub fn run(
        &self,
        name: &dyn fmt::Display,
        last_line: usize,
        host: &mut dyn Host,
        enter: &mut Work<'_>,
    ) -> Result<(), ScriptError> {
        self.context().last_line.set(last_line);
        let finished = self.context().during(Some(host), || {
            let _watched = self.watch.begin();
            self.state.protected(enter)
        });
        if finished { Ok(()) } else { Err(self.failure(name)) }
    }

    /// A run whose host is asked from its start on whether it may go on.
    pub fn run_supervised(&self, host: &mut dyn Host, enter: &mut Work<'_>) -> bool {
        self.context().last_line.set(1);
        self.context().during(Some(host), || {
            let _supervised = self.watch.supervise();
            self.state.protected(enter)
        })
    }

    /// After a run: a panic of the host goes on from here, and garbage is collected before the next run pays
    /// for it. False where little was gained and the caller should forget what it keeps.
    pub fn finish(&self) -> bool {
        if let Some(payload) = self.context().take_panic() {
            resume_unwind(payload);
        }
        if !self.is_half_full() {
            return true;
        }
        self.collect_garbage();
        !self.is_half_full()
    }

    pub fn is_half_full(&self) -> bool {
        self.memory_bytes() > self.memory_bytes_max / 2
    }

    pub fn collect_garbage(&self) {
        self.state.protected(&mut |stack| {
            stack.collect_garbage();
            Ok(0)
        });
    }

    /// Words the error that ended a run, as Redis does.
    fn failure(&self, name: &dyn fmt::Display) -> ScriptError {
        let context = self.context();
        match context.doom() {
            Some(Doom::Aborted | Doom::Panicked) => return ScriptError::Aborted,
            Some(Doom::Killed) | None => {}
        }
        let mut text = match context.doom() {
            Some(_) => b"ERR Script killed by user with SCRIPT KILL...".to_vec(),
            None => context.message.with(|message| message.clone()),
        };
        text.extend_from_slice(format!(" script: {name}, on ").as_bytes());
        context.place.with(|place| match place.is_empty() {
            // LuaJIT drops the frame of a function that ends in a tail call, and a script without a frame
            // has ended in `return redis.call(…)`, which stands at its end.
            true => {
                let (chunk, line) = (context.chunk.get(), context.last_line.get());
                text.extend_from_slice(format!("@{chunk}:{line}").as_bytes());
            }
            false => text.extend_from_slice(place),
        });
        text.push(b'.');
        match context.doom() {
            Some(_) => ScriptError::Killed(String::from_utf8_lossy(&text).into_owned()),
            None => ScriptError::Raised(text),
        }
    }
}
