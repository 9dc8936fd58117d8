#![allow(unsafe_code)]
//! One Lua state with its context: made, used in protected mode, closed.

use std::ffi::c_int;
use std::ptr::NonNull;

use mlua_sys as sys;

use crate::context::{Context, Work, allocate};
use crate::lua::{Outcome, Stack, Type, lua_State, native};

/// Fixed slots of the main stack.
const TRAMPOLINE: c_int = 1;
const HANDLER: c_int = 2;

/// A Lua state, which one thread uses at a time.
pub(crate) struct State {
    l: *mut lua_State,
    /// Owned; freed after the state is closed. A raw pointer, because Lua keeps another.
    context: NonNull<Context>,
}

// SAFETY: both are owned, and nothing else points to them between runs. LuaJIT keeps nothing by thread: what it knows of
// the C stack is from the call that is under way, and with the compiler off it has no signals of its own.
unsafe impl Send for State {}

impl State {
    /// `None` when memory is short.
    pub fn new() -> Option<Self> {
        let context = NonNull::from(Box::leak(Box::new(Context::new(usize::MAX))));
        // SAFETY: the context lives until `drop` has closed the state. The pushes cannot fail for want of
        // memory short of the process's own allocator giving up, which aborts.
        unsafe {
            let l = sys::lua_newstate(allocate, context.as_ptr().cast());
            if l.is_null() {
                drop(Box::from_raw(context.as_ptr()));
                return None;
            }
            sys::lua_atpanic(l, unprotected);
            let state = Self { l, context };
            let stack = state.stack();
            stack.push_function(native(trampoline));
            stack.push_function(native(describe_error));
            Some(state)
        }
    }

    pub fn context(&self) -> &Context {
        // SAFETY: alive until drop; only shared references are ever made.
        unsafe { self.context.as_ref() }
    }

    pub fn raw(&self) -> *mut lua_State {
        self.l
    }

    fn stack(&self) -> Stack<'_> {
        // SAFETY: the state is alive and carries this context.
        unsafe { Stack::from_raw(self.l) }
    }

    /// Runs `work` so that errors it raises end here: false then, with the error's text in the context's
    /// `message` and its place in `place` (unless the run was doomed). `work` obeys the contract of `lua`.
    pub fn protected(&self, work: &mut Work<'_>) -> bool {
        let stack = self.stack();
        let context = self.context();
        context.place.with(Vec::clear);
        // SAFETY: only the lifetime changes; the trampoline takes the pointer at once, inside this call.
        let work =
            unsafe { std::mem::transmute::<NonNull<Work<'_>>, NonNull<Work<'static>>>(NonNull::from(work)) };
        context.work.set(Some(work));
        stack.push_copy(TRAMPOLINE);
        let ended = stack.protected_call(0, 0, HANDLER);
        if let Err(sys::LUA_ERRMEM | sys::LUA_ERRERR) = ended {
            // The handler did not see these.
            let text = stack.bytes(-1).unwrap_or(b"error in error handling");
            context.message.with(|message| {
                message.clear();
                message.extend_from_slice(b"ERR ");
                message.extend_from_slice(text);
            });
            context.place.with(Vec::clear);
        }
        stack.set_top(HANDLER);
        ended.is_ok()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: made in `new`, closed once; the context is freed after its last user.
        unsafe {
            sys::lua_close(self.l);
            drop(Box::from_raw(self.context.as_ptr()));
        }
    }
}

fn trampoline(stack: Stack<'_>) -> Outcome {
    let mut work = stack.context().work.take().expect("protected sets the work");
    // SAFETY: `protected` keeps the closure borrowed until this call returns.
    unsafe { work.as_mut()(stack) }
}

/// Sees an error where it is raised: writes down its text, as a client reads it, and its place.
fn describe_error(stack: Stack<'_>) -> Outcome {
    let context = stack.context();
    if context.doom().is_some() {
        return Ok(1);
    }
    let kind = stack.kind(1);
    match kind {
        Type::Table => stack.raw_get_field(1, "err"),
        Type::Number => {
            stack.check_bytes(1)?;
            stack.push_copy(1);
        }
        _ => stack.push_copy(1),
    }
    context.message.with(|message| {
        message.clear();
        if kind != Type::Table {
            message.extend_from_slice(b"ERR ");
        }
        let other = match kind {
            Type::Table => "ERR unknown error",
            Type::Boolean if stack.boolean(1) => "true",
            Type::Boolean => "false",
            _ => stack.type_name(1),
        };
        message.extend_from_slice(stack.bytes(-1).unwrap_or(other.as_bytes()));
        message.iter_mut().filter(|b| matches!(**b, b'\r' | b'\n')).for_each(|b| *b = b' ');
    });
    note_place(stack);
    Ok(1)
}

/// Writes down where the script stands.
pub(crate) fn note_place(stack: Stack<'_>) {
    stack.context().place.with(|text| {
        text.clear();
        if let Some(place) = stack.innermost_place() {
            text.extend_from_slice(place.source());
            text.push(b':');
            text.extend_from_slice(itoa::Buffer::new().format(place.line).as_bytes());
        }
    });
}

/// An error outside protected mode is a bug of this crate.
unsafe extern "C-unwind" fn unprotected(_l: *mut lua_State) -> c_int {
    eprintln!("thali-script: a Lua error was raised outside protected mode");
    std::process::abort()
}
