//! Lua scripts (the semantics of Redis's EVAL) over a host that runs commands.
//!
//! The crate owns the interpreter: LuaJIT with the compiler off, its sandbox, its limits, the libraries that
//! Redis gives to scripts, and the conversion between Lua values and the Redis protocol. It refuses to know
//! what a command does: `redis.call` hands the arguments to a [`Host`] and reads back one RESP reply.
//!
//! - [`Script`]: a body, its SHA1 and the flags of its `#!lua` line; cheap to share between threads.
//! - [`Interpreter`]: one for each event loop; compiles lazily and keeps what it compiled.
//! - [`Library`]: the text of a library of functions and what it registers; shared between threads, too.
//! - [`Libraries`]: one for each event loop; loads lazily and keeps what it loaded.
//! - [`Host`]: what a running script reaches.
//! - [`Watchdog`]: one thread for all interpreters; interrupts runs that pass the busy threshold, so that
//!   fast scripts pay nothing for the possibility of being stopped.
//!
//! Where things are:
//! - `lua` is the only door to the C API; the libraries above it contain no unsafe code;
//! - `blocks` keeps small blocks of memory for the next objects;
//! - `context` is what one interpreter's C functions share (buffers, the host of the run, its doom, memory);
//! - `machine` is a sandboxed state and the way of a run in it;
//! - `sandbox`, `guards`, `redis` and the libraries (`cjson`, `cmsgpack`, `structs`, `random`) build what a
//!   script sees;
//! - `convert` is RESP to Lua and back.
//!
//! # Errors, panics and the C stack
//! LuaJIT raises errors by unwinding. Every function of this crate that Lua calls computes a plain value
//! first and raises as the last act of a frame without destructors (`lua::native`). A panic of the host is
//! caught where the host is called, dooms the run and continues from [`Interpreter::run`]; a panic anywhere
//! else in a function that Lua called is a bug of this crate and ends the process, because LuaJIT's unwinder
//! may not swallow it.

mod blocks;
mod cjson;
mod cmsgpack;
mod context;
mod convert;
mod guards;
mod host;
mod interpreter;
mod libraries;
mod library;
mod lua;
mod machine;
mod number;
mod random;
mod redis;
mod sandbox;
mod script;
mod state;
mod structs;
mod watchdog;

pub use host::{Abort, Host, LogLevel, Resp, Verdict};
pub use interpreter::{Call, Interpreter, Limits, ScriptError};
pub use libraries::Libraries;
pub use library::{Function, Library, LibraryError, LibraryText};
pub use number::write_significant;
pub use script::{Flags, HeaderError, Script, Sha};
pub use watchdog::Watchdog;
