//! Functions of Lua's base library that could swallow the end of a run or exhaust the C stack, done over:
//! `pcall`, `xpcall`, `coroutine.resume`, `coroutine.wrap`, and a check before `string.gsub`,
//! `string.format` and `table.sort`, which call back into Lua.
//!
//! INVARIANT: a doomed run ends. Whatever catches an error asks the context first and raises again; and a
//! killed run's hook stays armed, so even Lua code between two catches raises.

use std::ffi::c_int;

use crate::lua::{GLOBALS, Outcome, Raise, Stack, Type, native, upvalue};

/// Name of the chunk of the checks; errors are never placed in it.
pub(crate) const GUARD: &[u8] = b"=guard";

/// All results, in `lua_call`'s words.
const ALL: c_int = -1;

/// Replaces the functions in the tables of globals and libraries. May raise.
pub(crate) fn register(stack: Stack<'_>) -> Result<(), Raise> {
    stack.push_copy(GLOBALS);
    stack.set_function("pcall", native(pcall));
    stack.set_function("xpcall", native(xpcall));
    stack.raw_get_field(-1, "coroutine");
    stack.set_function("resume", native(resume));
    stack.set_function("wrap", native(wrap));
    stack.pop(1);
    for (library, name) in [("string", "gsub"), ("string", "format"), ("table", "sort")] {
        stack.raw_get_field(-1, library);
        // A tail call, so that errors name the script's line and not this one.
        let code = b"local check, callee = ... return function(...) check() return callee(...) end";
        if !stack.load(code, GUARD) {
            return Err(Raise::Top);
        }
        stack.push_function(native(check));
        stack.raw_get_field(-3, name);
        stack.call(2, 1);
        stack.set_field(-2, name);
        stack.pop(1);
    }
    stack.pop(1);
    Ok(())
}

fn check(stack: Stack<'_>) -> Outcome {
    if stack.context().has_native_room() {
        return Ok(0);
    }
    // Level 1 is the guard, 2 the script.
    stack.push_where(2);
    stack.push_bytes(b"C stack overflow");
    stack.concat(2);
    Err(Raise::Top)
}

fn doomed(stack: Stack<'_>) -> Result<(), Raise> {
    if stack.context().doom().is_some() { Err(Raise::Doomed) } else { Ok(()) }
}

fn pcall(stack: Stack<'_>) -> Outcome {
    stack.check_any(1)?;
    stack.check_native_room()?;
    let ended = stack.protected_call(stack.top() - 1, ALL, 0);
    doomed(stack)?;
    stack.reserve(2)?;
    if ended.is_err() && stack.kind(-1) == Type::Table {
        // Commands raise tables since Redis 7.0; scripts written before that expect their text.
        stack.raw_get_field(-1, "err");
        if matches!(stack.kind(-1), Type::String | Type::Number) {
            stack.replace(-2);
        } else {
            stack.pop(1);
        }
    }
    stack.push_boolean(ended.is_ok());
    stack.insert(1);
    Ok(stack.top())
}

fn xpcall(stack: Stack<'_>) -> Outcome {
    stack.check_any(2)?;
    stack.check_native_room()?;
    stack.reserve(2)?;
    // The handler goes below the function, wrapped so that it never sees the end of a run.
    stack.push_copy(2);
    stack.push_closure(native(handle), 1);
    stack.replace(2);
    stack.push_copy(1);
    stack.remove(1);
    // Now: handler, extra arguments…, function. The function belongs before its arguments.
    stack.insert(2);
    let ended = stack.protected_call(stack.top() - 2, ALL, 1);
    doomed(stack)?;
    stack.push_boolean(ended.is_ok());
    stack.replace(1);
    Ok(stack.top())
}

fn handle(stack: Stack<'_>) -> Outcome {
    doomed(stack)?;
    stack.check_native_room()?;
    stack.push_copy(upvalue(1));
    stack.insert(1);
    stack.call(stack.top() - 1, 1);
    Ok(1)
}

fn resume(stack: Stack<'_>) -> Outcome {
    let Some(thread) = stack.thread(1) else {
        return Err(stack.argument_error(1, "coroutine expected"));
    };
    stack.check_native_room()?;
    // The coroutine stays at 1 while it runs, so that the collector sees it.
    let went_well = transfer(stack, thread, 1)?;
    stack.push_boolean(went_well);
    stack.replace(1);
    Ok(stack.top())
}

fn wrap(stack: Stack<'_>) -> Outcome {
    stack.check_function(1)?;
    let thread = stack.push_new_thread();
    stack.push_copy(1);
    stack.move_to(thread, 1);
    stack.push_closure(native(resume_wrapped), 1);
    Ok(1)
}

fn resume_wrapped(stack: Stack<'_>) -> Outcome {
    let Some(thread) = stack.thread(upvalue(1)) else {
        return Err(stack.error("cannot resume dead coroutine"));
    };
    stack.check_native_room()?;
    if transfer(stack, thread, 0)? {
        return Ok(stack.top());
    }
    if stack.kind(-1) == Type::String {
        let text = stack.bytes(-1).unwrap_or_default();
        stack.context().message.with(|message| {
            message.clear();
            message.extend_from_slice(text);
        });
        return Err(Raise::Message);
    }
    Err(Raise::Top)
}

/// Resumes `thread` with the values of `stack` above `base` as arguments, and puts its results, or the error,
/// in their place. Room for one more value is left.
fn transfer<'c>(stack: Stack<'c>, thread: Stack<'c>, base: c_int) -> Result<bool, Raise> {
    let arguments = stack.top() - base;
    let refusal: Option<&[u8]> = if thread.raw() == stack.raw() {
        Some(b"cannot resume running coroutine")
    } else if thread.is_yielded() {
        None
    } else if !thread.is_fresh() || (!thread.has_frames() && thread.top() == 0) {
        Some(b"cannot resume dead coroutine")
    } else if thread.has_frames() {
        Some(b"cannot resume normal coroutine")
    } else {
        None
    };
    if let Some(text) = refusal {
        stack.set_top(base);
        stack.reserve(2)?;
        stack.push_bytes(text);
        return Ok(false);
    }
    if !thread.try_reserve(arguments + 1) {
        return Err(stack.error("too many arguments to resume"));
    }
    stack.move_to(thread, arguments);
    let went_well = thread.resume(arguments);
    doomed(stack)?;
    let results = if went_well { thread.top() } else { 1 };
    if !stack.try_reserve(results + 1) {
        thread.pop(results);
        return Err(stack.error("too many results to resume"));
    }
    thread.move_to(stack, results);
    Ok(went_well)
}
