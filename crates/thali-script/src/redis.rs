//! The `redis` table, and `server`, which is Valkey's name for it: commands, logging, replies, protocol version.
//!
//! SOURCE: redis.io "Redis Lua API reference"; wordings checked against redis-server 7.0.

use std::ffi::c_int;

use crate::convert::{c_string, push_reply};
use crate::host::{LogLevel, Resp};
use crate::lua::{Argument, Outcome, Raise, Stack, Type, native};
use crate::number::{self, NUMBER_LEN_MAX};
use crate::sandbox::Surface;
use crate::script::Sha;
use crate::{libraries, watchdog};

/// What scripts are told that they run on.
const VERSION: &str = "7.2.4";
const VERSION_NUMBER: u32 = 0x0007_0204;

/// Under which name the code reached the table: Redis's, or Valkey's. Errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Redis,
    Server,
}

impl Api {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Server => "server",
        }
    }

    const fn of(is_server: bool) -> Self {
        if is_server { Self::Server } else { Self::Redis }
    }
}

/// Puts everything that running code sees into the table on top. May raise.
pub(crate) fn register(stack: Stack<'_>, api: Api, surface: Surface) {
    match api {
        Api::Redis => register_functions::<false>(stack),
        Api::Server => register_functions::<true>(stack),
    }
    if surface == Surface::Script {
        for (name, function) in [
            ("replicate_commands", native(replicate_commands)),
            ("breakpoint", native(breakpoint)),
            ("debug", native(debug)),
        ] {
            stack.set_function(name, function);
        }
    }
    for (name, value) in
        [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)]
    {
        stack.push_number(f64::from(value));
        stack.set_field(-2, name);
    }
    register_facts(stack);
}

/// Puts what a library sees while it is loaded into the table on top. May raise.
pub(crate) fn register_loading(stack: Stack<'_>, api: Api) {
    match api {
        Api::Redis => {
            stack.set_function("register_function", native(libraries::register_function::<false>));
            stack.set_function("log", native(log::<false>));
        }
        Api::Server => {
            stack.set_function("register_function", native(libraries::register_function::<true>));
            stack.set_function("log", native(log::<true>));
        }
    }
    register_facts(stack);
}

fn register_functions<const SERVER: bool>(stack: Stack<'_>) {
    for (name, function) in [
        ("call", native(call)),
        ("pcall", native(pcall)),
        ("error_reply", native(error_reply)),
        ("status_reply", native(status_reply)),
        ("sha1hex", native(sha1hex)),
        ("log", native(log::<SERVER>)),
        ("setresp", native(setresp::<SERVER>)),
        ("set_repl", native(set_repl::<SERVER>)),
        ("acl_check_cmd", native(acl_check_cmd::<SERVER>)),
    ] {
        stack.set_function(name, function);
    }
}

/// Levels of the log, and what the code runs on.
fn register_facts(stack: Stack<'_>) {
    for (name, value) in [
        ("LOG_DEBUG", 0),
        ("LOG_VERBOSE", 1),
        ("LOG_NOTICE", 2),
        ("LOG_WARNING", 3),
        ("REDIS_VERSION_NUM", VERSION_NUMBER),
    ] {
        stack.push_number(f64::from(value));
        stack.set_field(-2, name);
    }
    for (name, text) in [("REDIS_VERSION", VERSION), ("SERVER_NAME", "redis")] {
        stack.push_bytes(text.as_bytes());
        stack.set_field(-2, name);
    }
}

fn call(stack: Stack<'_>) -> Outcome {
    perform(stack)?;
    // An error reply is the only reply that redis.call raises.
    if stack.context().reply.with(|reply| reply.first() == Some(&b'-')) { Err(Raise::Top) } else { Ok(1) }
}

fn pcall(stack: Stack<'_>) -> Outcome {
    match perform(stack) {
        Ok(()) => Ok(1),
        // The script's own mistakes come back as values too.
        Err(Raise::Table) => {
            stack.set_top(0);
            stack
                .context()
                .message
                .with(|message| stack.context().scratch.with(|text| text.clone_from(message)));
            stack.push_table(0, 1);
            stack.push_scratch();
            stack.set_field(-2, "err");
            Ok(1)
        }
        Err(raise) => Err(raise),
    }
}

/// Runs the command that the arguments spell and pushes its reply.
fn perform(stack: Stack<'_>) -> Result<(), Raise> {
    let context = stack.context();
    let done = with_arguments(stack, |args| {
        context.reply.with(|reply| {
            reply.clear();
            context.host(|host| host.call(args, reply))
        })
    })?;
    if done.is_none() {
        return Err(watchdog::doom(stack));
    }
    // A full `unpack` leaves no slot for the reply.
    stack.set_top(0);
    push_reply(stack, context.reply_bytes())
}

/// Lends the function's arguments out as slices: strings where Lua keeps them, numbers formatted aside.
/// `work` must not touch Lua.
fn with_arguments<R>(stack: Stack<'_>, work: impl FnOnce(&[&[u8]]) -> R) -> Result<R, Raise> {
    /// Arguments up to this many need no allocation.
    const INLINE: usize = 16;
    /// Numbers up to this many do not become strings of Lua.
    const NUMBERS: usize = 4;
    let count = stack.top() as usize;
    if count == 0 {
        return Err(stack.table_error("Please specify at least one argument for this redis lib call"));
    }
    let mut texts = [[0u8; NUMBER_LEN_MAX]; NUMBERS];
    let mut texts = texts.iter_mut();
    let mut inline_args = [&[][..]; INLINE];
    if count <= INLINE {
        // May raise, and nothing is owned.
        fill(stack, &mut texts, &mut inline_args[..count])?;
        return Ok(work(&inline_args[..count]));
    }
    for index in 1..=stack.top() {
        if let Argument::Number(value) = stack.argument(index) {
            spell(stack, index, value);
        }
    }
    // No number is left, so nothing raises from here on.
    let mut args = vec![&[][..]; count];
    fill(stack, &mut texts, &mut args)?;
    Ok(work(&args))
}

/// May raise where there are more numbers than `texts`.
fn fill<'a>(
    stack: Stack<'a>,
    texts: &mut std::slice::IterMut<'a, [u8; NUMBER_LEN_MAX]>,
    args: &mut [&'a [u8]],
) -> Result<(), Raise> {
    for (arg, index) in args.iter_mut().zip(1..) {
        *arg = match (stack.argument(index), texts.as_slice().is_empty()) {
            (Argument::Bytes(bytes), _) => bytes,
            (Argument::Number(value), true) => spell(stack, index, value),
            (Argument::Number(value), false) => {
                let text = texts.next().expect("there is one more");
                let len = number::argument(value, text);
                &text[..len]
            }
            (Argument::Other, _) => {
                let message = "Lua redis lib command arguments must be strings or integers";
                return Err(stack.table_error(message));
            }
        };
    }
    Ok(())
}

/// Makes a number its text, in its place. May raise.
fn spell(stack: Stack<'_>, index: c_int, value: f64) -> &[u8] {
    let mut text = [0; NUMBER_LEN_MAX];
    let len = number::argument(value, &mut text);
    stack.push_bytes(&text[..len]);
    stack.replace(index);
    stack.bytes(index).unwrap_or_default()
}

fn error_reply(stack: Stack<'_>) -> Outcome {
    single_field(stack, "err")
}

fn status_reply(stack: Stack<'_>) -> Outcome {
    single_field(stack, "ok")
}

/// `{field = text}`; an error of one word has no code and gets ERR. SOURCE: Redis 7.0 `script_lua.c`, luaPushErrorBuff.
fn single_field(stack: Stack<'_>, field: &str) -> Outcome {
    let text = stack.bytes(1).filter(|_| stack.top() == 1);
    let (field, text) = match text {
        None => ("err", &b"ERR wrong number or type of arguments"[..]),
        Some(text) => (field, c_string(text)),
    };
    stack.context().scratch.with(|out| {
        out.clear();
        if field == "ok" {
            return out.extend_from_slice(text);
        }
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let (code, message) = match text.iter().position(|byte| *byte == b' ') {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (&b"ERR"[..], text),
        };
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let start = message.iter().position(|byte| !is_line_end(byte)).unwrap_or(message.len());
        let end = message.iter().rposition(|byte| !is_line_end(byte)).map_or(start, |last| last + 1);
        out.extend_from_slice(code);
        out.push(b' ');
        out.extend_from_slice(&message[start..end]);
    });
    stack.push_table(0, 1);
    stack.push_scratch();
    stack.set_field(-2, field);
    Ok(1)
}

fn sha1hex(stack: Stack<'_>) -> Outcome {
    if stack.top() != 1 {
        return Err(stack.table_error("wrong number of arguments"));
    }
    let text = if matches!(stack.kind(1), Type::String | Type::Number) { stack.check_bytes(1)? } else { b"" };
    stack.push_bytes(&Sha::of(text).hex());
    Ok(1)
}

fn log<const SERVER: bool>(stack: Stack<'_>) -> Outcome {
    let api = Api::of(SERVER).name();
    if stack.top() < 2 {
        return Err(stack.table_error(format_args!("{api}.log() requires two arguments or more.")));
    }
    if !stack.looks_like_number(1) {
        return Err(stack.table_error("First argument must be a number (log level)."));
    }
    let level = match stack.number(1) as i32 {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => return Err(stack.table_error("Invalid debug level.")),
    };
    for index in 2..=stack.top() {
        if matches!(stack.kind(index), Type::Number | Type::String) {
            stack.check_bytes(index)?;
        }
    }
    let context = stack.context();
    let done = context.scratch.with(|line| {
        line.clear();
        for index in 2..=stack.top() {
            if let Some(part) = stack.bytes(index) {
                if !line.is_empty() {
                    line.push(b' ');
                }
                line.extend_from_slice(part);
            }
        }
        context.host(|host| {
            host.log(level, line);
            Ok(())
        })
    });
    finish(stack, done)
}

fn setresp<const SERVER: bool>(stack: Stack<'_>) -> Outcome {
    let api = Api::of(SERVER).name();
    if stack.top() != 1 {
        return Err(stack.table_error(format_args!("{api}.setresp() requires one argument.")));
    }
    let resp = match stack.number(1) {
        2.0 => Resp::V2,
        3.0 => Resp::V3,
        _ => return Err(stack.table_error("RESP version must be 2 or 3.")),
    };
    stack.context().resp.set(resp);
    let done = stack.context().host(|host| {
        host.set_resp(resp);
        Ok(())
    });
    finish(stack, done)
}

fn set_repl<const SERVER: bool>(stack: Stack<'_>) -> Outcome {
    let api = Api::of(SERVER).name();
    if stack.top() != 1 {
        return Err(stack.table_error(format_args!("{api}.set_repl() requires two arguments.")));
    }
    let flags = stack.number(1);
    if !(0.0..=3.0).contains(&flags) {
        let message = "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(stack.table_error(message));
    }
    let done = stack.context().host(|host| {
        host.set_replication(flags as u8);
        Ok(())
    });
    finish(stack, done)
}

fn replicate_commands(stack: Stack<'_>) -> Outcome {
    stack.push_boolean(true);
    Ok(1)
}

fn acl_check_cmd<const SERVER: bool>(stack: Stack<'_>) -> Outcome {
    let api = Api::of(SERVER).name();
    let context = stack.context();
    match with_arguments(stack, |args| context.host(|host| Ok(host.acl_check(args))))? {
        Some(Some(allowed)) => {
            stack.push_boolean(allowed);
            Ok(1)
        }
        Some(None) => Err(stack.table_error(format_args!("Invalid command passed to {api}.acl_check_cmd()"))),
        None => Err(watchdog::doom(stack)),
    }
}

/// There is no debugger to stop in.
fn breakpoint(stack: Stack<'_>) -> Outcome {
    stack.push_boolean(false);
    Ok(1)
}

fn debug(_stack: Stack<'_>) -> Outcome {
    Ok(0)
}

fn finish(stack: Stack<'_>, done: Option<()>) -> Outcome {
    match done {
        Some(()) => Ok(0),
        None => Err(watchdog::doom(stack)),
    }
}
