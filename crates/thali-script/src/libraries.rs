//! The libraries of functions of one event loop: loads them, keeps what they registered, runs it.
//!
//! A library's code runs once in each loop that calls one of its functions: the locals that its functions
//! share are the thread's own. It sees no clock, no chance and no data meanwhile, so it registers the same
//! everywhere; where it does not, the functions of that thread answer an error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::context::Doom;
use crate::convert::write_result;
use crate::host::{Abort, Host, LogLevel, Verdict};
use crate::interpreter::{Call, Limits, ScriptError, push_list};
use crate::library::{BAD_NAME, Function, Library, LibraryError, LibraryText, good_name};
use crate::lua::{Outcome, REGISTRY, Raise, Stack, Type};
use crate::machine::Machine;
use crate::redis::Api;
use crate::sandbox::{FUNCTIONS, LOADING_GLOBALS, REGISTERED, Surface, TRUE_GLOBALS, turn_globals};
use crate::script::Flags;
use crate::watchdog::Watchdog;

/// The chunk's name, as Redis shows it in errors.
const CHUNK: &[u8] = b"@user_function";

/// Names and descriptions of one library's functions, which the interpreter's bound does not cover.
const REGISTERED_BYTES_MAX: usize = 1 << 20;

/// Beside its name and description, for each function.
const FUNCTION_BYTES: usize = 64;

/// For a library that was loaded before, here or elsewhere: a bound, and no reason to fail on a slow day.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(10);

/// A function while its library is being loaded.
#[derive(Debug)]
pub(crate) struct Registered {
    function: Function,
    last_line: usize,
}

struct Loaded {
    library: Arc<Library>,
    /// Index in the registry's table of libraries.
    slot: i32,
    /// The last line of each function.
    last_lines: Vec<usize>,
}

/// LuaJIT with the sandbox of functions. Belongs to the thread that made it.
///
/// The thread needs two megabytes of stack or more.
pub struct Libraries {
    machine: Machine,
    by_name: HashMap<String, Loaded>,
    free_slots: Vec<i32>,
}

impl Libraries {
    /// Builds the sandbox (about 100 µs). Fails when the process is out of memory.
    pub fn new(limits: Limits, watchdog: &Arc<Watchdog>) -> std::io::Result<Self> {
        let machine = Machine::new(limits, watchdog, Surface::Function)?;
        Ok(Self { machine, by_name: HashMap::new(), free_slots: Vec::new() })
    }

    /// Where `math.random` goes on from.
    pub fn seed(&mut self, seed: i32) {
        self.machine.seed(seed);
    }

    /// Runs a library's code, which registers its functions, for `time_max` at most; `log` hears what it logs.
    /// A library of the same name is forgotten here if that goes well.
    pub fn load(
        &mut self,
        text: LibraryText,
        time_max: Duration,
        log: &mut dyn FnMut(LogLevel, &[u8]),
    ) -> Result<Arc<Library>, LibraryError> {
        let (slot, registered) = self.execute(&text, time_max, log)?;
        let last_lines = registered.iter().map(|registered| registered.last_line).collect();
        let functions = registered.into_iter().map(|registered| registered.function).collect();
        let library = Arc::new(Library::new(text, functions));
        self.keep(Loaded { library: Arc::clone(&library), slot, last_lines });
        Ok(library)
    }

    /// Runs a library's function, by its place in [`Library::functions`], and appends its reply to `out`. On
    /// an error `out` is as it was before. The library is loaded first where it was not yet, or another of
    /// its name was.
    ///
    /// A panic of the host continues here, after the Lua state was unwound in order.
    pub fn run(
        &mut self,
        library: &Arc<Library>,
        function: usize,
        call: Call<'_>,
        host: &mut dyn Host,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let (slot, last_line) = self.slot_of(library, function)?;
        let name = &library.functions()[function].name;
        let start = out.len();
        let result = self
            .machine
            .run(name, last_line, host, &mut |stack| enter(stack, slot, function as i32 + 1, call, out));
        if result.is_err() {
            out.truncate(start);
        }
        if !self.machine.finish() {
            self.retain(|_| false);
        }
        result
    }

    /// Forgets libraries. They are loaded again when one of their functions is called.
    pub fn retain(&mut self, mut wanted: impl FnMut(&Arc<Library>) -> bool) {
        let free_slots = &mut self.free_slots;
        let known = free_slots.len();
        self.by_name.retain(|_, loaded| {
            let is_wanted = wanted(&loaded.library);
            if !is_wanted {
                free_slots.push(loaded.slot);
            }
            is_wanted
        });
        let freed = &self.free_slots[known..];
        if !freed.is_empty() {
            clear_slots(&self.machine, freed);
            self.machine.collect_garbage();
        }
    }

    /// Memory that the Lua state holds now.
    pub fn memory_bytes(&self) -> usize {
        self.machine.memory_bytes()
    }

    /// Libraries that are loaded now.
    pub fn loaded_len(&self) -> usize {
        self.by_name.len()
    }

    fn keep(&mut self, loaded: Loaded) {
        if let Some(old) = self.by_name.insert(loaded.library.name().to_owned(), loaded) {
            self.free_slots.push(old.slot);
            clear_slots(&self.machine, &[old.slot]);
        }
    }

    /// The slot of a library, which is loaded now if need be, and the last line of a function.
    fn slot_of(&mut self, library: &Arc<Library>, function: usize) -> Result<(i32, usize), ScriptError> {
        if let Some(loaded) = self.by_name.get(library.name())
            && Arc::ptr_eq(&loaded.library, library)
        {
            return Ok((loaded.slot, loaded.last_lines[function]));
        }
        // What it logs was logged when it was loaded first.
        let (slot, registered) = self
            .execute(library.source(), RELOAD_TIME_MAX, &mut |_, _| {})
            .map_err(|error| ScriptError::Raised(error.to_string().into_bytes()))?;
        let last_lines: Vec<usize> = registered.iter().map(|registered| registered.last_line).collect();
        let last_line = last_lines.get(function).copied();
        self.keep(Loaded { library: Arc::clone(library), slot, last_lines });
        match last_line {
            Some(line) if registered.iter().map(|r| &r.function).eq(library.functions()) => Ok((slot, line)),
            _ => {
                self.retain(|kept| !Arc::ptr_eq(kept, library));
                let text =
                    format!("ERR Library '{}' does not register the same functions again", library.name());
                Err(ScriptError::Raised(text.into_bytes()))
            }
        }
    }

    /// Runs a library's code and puts what it registers into a slot of its own.
    fn execute(
        &mut self,
        text: &LibraryText,
        time_max: Duration,
        log: &mut dyn FnMut(LogLevel, &[u8]),
    ) -> Result<(i32, Vec<Registered>), LibraryError> {
        if self.machine.is_half_full() {
            self.retain(|_| false);
        }
        let slot = self.free_slots.pop().unwrap_or(self.by_name.len() as i32 + 1);
        let mut host = LoadHost { log, deadline: Instant::now() + time_max };
        let mut has_compiled = false;
        let context = self.machine.context();
        *context.registered.borrow_mut() = Some(Vec::new());
        let finished = self
            .machine
            .run_supervised(&mut host, &mut |stack| register_all(stack, text.code(), &mut has_compiled));
        let registered = context.registered.take().unwrap_or_default();
        let outcome = if !finished {
            Err(match context.doom() {
                Some(Doom::Killed) => LibraryError::Register("ERR FUNCTION LOAD timeout".into()),
                _ if has_compiled => LibraryError::Register(
                    context.message.with(|text| String::from_utf8_lossy(text).into_owned()),
                ),
                _ => LibraryError::Compile(self.machine.error_text()),
            })
        } else if registered.is_empty() {
            Err(LibraryError::Empty)
        } else {
            Ok((slot, registered))
        };
        let is_kept = outcome.is_ok();
        let ended = self.machine.protected(&mut |stack| end_load(stack, slot, is_kept));
        debug_assert!(ended, "existing fields are set anew");
        if !is_kept {
            self.free_slots.push(slot);
        }
        self.machine.finish();
        outcome
    }
}

fn clear_slots(machine: &Machine, slots: &[i32]) {
    machine.protected(&mut |stack| {
        stack.raw_get_index(REGISTRY, FUNCTIONS);
        for &slot in slots {
            stack.push_boolean(false);
            stack.raw_set_index(-2, slot);
        }
        Ok(0)
    });
}

/// Compiles the code and runs it with the globals of loading.
fn register_all(stack: Stack<'_>, code: &[u8], has_compiled: &mut bool) -> Outcome {
    // Room for the outcome first: what follows a load that went well must not fail.
    stack.push_table(0, 0);
    stack.raw_set_index(REGISTRY, REGISTERED);
    if !stack.load(code, CHUNK) {
        return Err(Raise::Top);
    }
    *has_compiled = true;
    turn_globals(stack, LOADING_GLOBALS);
    stack.call(0, 0);
    Ok(0)
}

fn end_load(stack: Stack<'_>, slot: i32, is_kept: bool) -> Outcome {
    turn_globals(stack, TRUE_GLOBALS);
    if is_kept {
        stack.raw_get_index(REGISTRY, FUNCTIONS);
        stack.raw_get_index(REGISTRY, REGISTERED);
        stack.raw_set_index(-2, slot);
    }
    stack.push_boolean(false);
    stack.raw_set_index(REGISTRY, REGISTERED);
    Ok(0)
}

fn enter(stack: Stack<'_>, slot: i32, function: i32, call: Call<'_>, out: &mut Vec<u8>) -> Outcome {
    stack.raw_get_index(REGISTRY, FUNCTIONS);
    stack.raw_get_index(-1, slot);
    stack.raw_get_index(-1, function);
    push_list(stack, call.keys);
    push_list(stack, call.args);
    stack.call(2, 1);
    write_result(stack, out, call.resp3, stack.context().resp.get())?;
    Ok(0)
}

/// What a library reaches while it is loaded.
struct LoadHost<'a> {
    log: &'a mut dyn FnMut(LogLevel, &[u8]),
    deadline: Instant,
}

impl Host for LoadHost<'_> {
    /// Not reached: loading globals have no `redis.call`.
    fn call(&mut self, _: &[&[u8]], reply: &mut Vec<u8>) -> Result<(), Abort> {
        reply.extend_from_slice(b"-ERR commands cannot be called on FUNCTION LOAD command\r\n");
        Ok(())
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        (self.log)(level, message);
    }

    fn busy(&mut self) -> Verdict {
        if Instant::now() < self.deadline { Verdict::Continue } else { Verdict::Kill }
    }
}

/// Fixed places on the stack of [`register_function`].
const NAME: i32 = 2;
const DESCRIPTION: i32 = 3;
const CALLBACK: i32 = 4;

/// `redis.register_function(name, callback)`, or with one table of named arguments.
pub(crate) fn register_function<const SERVER: bool>(stack: Stack<'_>) -> Outcome {
    let api = if SERVER { Api::Server } else { Api::Redis }.name();
    if stack.context().registered.borrow().is_none() {
        let what = "can only be called on FUNCTION LOAD command";
        return Err(stack.table_error(format_args!("{api}.register_function {what}")));
    }
    let flags = match stack.top() {
        1 => named_arguments(stack, api)?,
        2 => positional_arguments(stack, api)?,
        _ => {
            return Err(
                stack.table_error(format_args!("wrong number of arguments to {api}.register_function"))
            );
        }
    };
    let Some(name) = good_name(stack.bytes(NAME).unwrap_or_default()) else {
        return Err(stack.table_error(BAD_NAME));
    };
    let description = stack.bytes(DESCRIPTION);
    let Some(place) = admit(stack, name, description) else {
        return Err(Raise::Table);
    };
    let last_line = stack.last_line(CALLBACK);
    stack.raw_get_index(REGISTRY, REGISTERED);
    stack.push_copy(CALLBACK);
    stack.raw_set_index(-2, place);
    // Nothing raises from here on.
    let function = Function { name: name.to_owned(), description: description.map(<[u8]>::to_vec), flags };
    if let Some(registered) = &mut *stack.context().registered.borrow_mut() {
        registered.push(Registered { function, last_line });
    }
    Ok(0)
}

/// The place of one more function; `None`, with the message written, where it may not be.
fn admit(stack: Stack<'_>, name: &str, description: Option<&[u8]>) -> Option<i32> {
    let size = |name: &str, description: Option<&[u8]>| {
        FUNCTION_BYTES + name.len() + description.map_or(0, <[u8]>::len)
    };
    let registered = stack.context().registered.borrow();
    let registered = registered.as_deref().unwrap_or_default();
    // Functions are called in any case: two that differ in it alone could not be told apart.
    if registered.iter().any(|other| other.function.name.eq_ignore_ascii_case(name)) {
        stack.table_error("Function already exists in the library");
        return None;
    }
    let sizes = registered.iter().map(|r| size(&r.function.name, r.function.description.as_deref()));
    if sizes.sum::<usize>() + size(name, description) > REGISTERED_BYTES_MAX {
        stack.table_error("the library's functions have too many bytes of names and descriptions");
        return None;
    }
    i32::try_from(registered.len() + 1).ok()
}

/// Brings name and callback to their places.
fn positional_arguments(stack: Stack<'_>, api: &str) -> Result<Flags, Raise> {
    if !is_text(stack, 1) {
        let message = format_args!("first argument to {api}.register_function must be a string");
        return Err(stack.table_error(message));
    }
    if stack.kind(2) != Type::Function {
        let message = format_args!("second argument to {api}.register_function must be a function");
        return Err(stack.table_error(message));
    }
    stack.check_bytes(1)?;
    stack.push_nil();
    stack.push_copy(2);
    stack.push_copy(1);
    stack.replace(NAME);
    Ok(Flags { declared: true, ..Flags::default() })
}

/// Brings name, description and callback to their places; gives the flags.
fn named_arguments(stack: Stack<'_>, api: &str) -> Result<Flags, Raise> {
    if stack.kind(1) != Type::Table {
        return Err(stack.table_error(format_args!(
            "calling {api}.register_function with a single argument is only applicable to Lua table \
             (representing named arguments)."
        )));
    }
    let mut flags = Flags { declared: true, ..Flags::default() };
    stack.set_top(CALLBACK);
    stack.push_nil();
    while stack.next(1) {
        let key = match stack.kind(-2) {
            Type::String => stack.bytes(-2).unwrap_or_default(),
            Type::Number => b"",
            _ => {
                let what = "is not a string";
                let message = format_args!("named argument key given to {api}.register_function {what}");
                return Err(stack.table_error(message));
            }
        };
        let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
        let place = if is("function_name") {
            NAME
        } else if is("description") {
            DESCRIPTION
        } else if is("callback") {
            CALLBACK
        } else if is("flags") {
            flags = read_flags(stack, api)?;
            stack.pop(1);
            continue;
        } else {
            return Err(stack.table_error(format_args!("unknown argument given to {api}.register_function")));
        };
        let (name, wanted, fits) = match place {
            NAME => ("function_name", "a string", is_text(stack, -1)),
            DESCRIPTION => ("description", "a string", is_text(stack, -1)),
            _ => ("callback", "a function", stack.kind(-1) == Type::Function),
        };
        if !fits {
            let what = format_args!("{name} argument given to {api}.register_function must be {wanted}");
            return Err(stack.table_error(what));
        }
        if place != CALLBACK {
            stack.check_bytes(-1)?;
        }
        stack.replace(place);
    }
    for (place, what) in [(NAME, "a function name"), (CALLBACK, "a callback")] {
        if stack.kind(place) == Type::Nil {
            let message = format_args!("{api}.register_function must get {what} argument");
            return Err(stack.table_error(message));
        }
    }
    Ok(flags)
}

/// The flags that the table on top lists.
fn read_flags(stack: Stack<'_>, api: &str) -> Result<Flags, Raise> {
    if stack.kind(-1) != Type::Table {
        return Err(stack.table_error(format_args!(
            "flags argument to {api}.register_function must be a table representing function flags"
        )));
    }
    let mut flags = Flags { declared: true, ..Flags::default() };
    for index in 1.. {
        stack.raw_get_index(-1, index);
        if stack.kind(-1) == Type::Nil {
            break;
        }
        let name = stack.bytes(-1).unwrap_or_default();
        if !flags.raise(|flag| flag.as_bytes().eq_ignore_ascii_case(name)) {
            return Err(stack.table_error("unknown flag given"));
        }
        stack.pop(1);
    }
    stack.pop(1);
    Ok(flags)
}

/// What Lua takes for a string.
fn is_text(stack: Stack<'_>, index: i32) -> bool {
    matches!(stack.kind(index), Type::String | Type::Number)
}
