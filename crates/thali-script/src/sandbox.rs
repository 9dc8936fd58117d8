//! What a script sees: Redis's globals, read-only, and nothing of another script.
//!
//! Stock Lua has no read-only tables, so scripts get proxies: an empty table whose metatable reads from the
//! true table and refuses writes. The functions that would see through a proxy (`rawget`, `rawset`, `pairs`,
//! `setmetatable`, `table.insert`) know proxies and act on the true table or refuse. The table of globals is
//! one such proxy, shared by all scripts of an interpreter; the true one's metatable refuses unknown names.
//! Strings find their methods in the true library directly.
//!
//! Libraries of functions see the same, but for KEYS, ARGV and what belongs to scripts alone. While a library
//! is being loaded, its globals are another table, which holds little more than `redis.register_function`; the
//! proxy that all code has as its globals is turned from the one to the other ([`turn_globals`]).

use std::ffi::{c_int, c_void};

use crate::lua::{GLOBALS, Outcome, REGISTRY, Raise, Stack, Type, native, open_libraries, upvalue};
use crate::redis::{self, Api};
use crate::{cjson, cmsgpack, guards, random, structs};

/// Registry slot of the true table of globals, where KEYS and ARGV are set.
pub(crate) const TRUE_GLOBALS: c_int = 1;
/// Registry slot of the table of compiled scripts, or of the tables of libraries' functions.
pub(crate) const FUNCTIONS: c_int = 2;
/// Registry slot of the globals of a library that is being loaded.
pub(crate) const LOADING_GLOBALS: c_int = 3;
/// Registry slot of the metatable of the globals' proxy.
const GLOBALS_METATABLE: c_int = 4;
/// Registry slot of the table into which a library that is being loaded puts its functions.
pub(crate) const REGISTERED: c_int = 5;

/// What code sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// Scripts, for EVAL.
    Script,
    /// Functions of libraries, for FCALL.
    Function,
}

impl Surface {
    /// What errors call the code.
    pub fn chunk(self) -> &'static str {
        match self {
            Self::Script => "user_script",
            Self::Function => "user_function",
        }
    }
}

/// Its address marks a proxy's metatable; scripts cannot make such a key.
static PROXY: u8 = 0;

const READ_ONLY: &str = "Attempt to modify a readonly table";

/// Names of the base library that scripts may use, as in Redis 7.2 (which dropped getfenv, setfenv and
/// newproxy; dofile, loadfile and print never were there).
const BASE: [&str; 22] = [
    "_VERSION",
    "assert",
    "collectgarbage",
    "error",
    "gcinfo",
    "getmetatable",
    "ipairs",
    "load",
    "loadstring",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawset",
    "select",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "xpcall",
];

/// Builds everything in a fresh state: afterwards new functions see the sandbox as their globals. Runs in
/// protected mode. May raise.
pub(crate) fn build(stack: Stack<'_>, surface: Surface) -> Outcome {
    open_libraries(stack);
    guards::register(stack)?;
    stack.push_copy(GLOBALS);
    let base = stack.top();
    for (name, function) in [
        ("collectgarbage", native(collect_garbage)),
        ("error", native(error)),
        ("load", native(load)),
        ("loadstring", native(load)),
        ("pairs", native(pairs)),
        ("rawget", native(raw_get)),
        ("rawset", native(raw_set)),
        ("setmetatable", native(set_metatable)),
    ] {
        stack.set_function(name, function);
    }

    stack.push_table(0, 64);
    let globals = stack.top();
    for name in BASE {
        stack.raw_get_field(base, name);
        stack.set_field(globals, name);
    }
    add_libraries(stack, base, globals)?;
    add_commands(stack, globals, |stack, api| redis::register(stack, api, surface));
    protect_strings(stack, base, globals);
    refuse_missing(stack, globals);
    if surface == Surface::Function {
        add_loading_globals(stack);
    }

    stack.push_copy(globals);
    stack.raw_set_index(REGISTRY, TRUE_GLOBALS);
    stack.push_table(0, 0);
    stack.raw_set_index(REGISTRY, FUNCTIONS);

    push_proxy(stack, globals);
    stack.push_metatable(-1);
    stack.raw_set_index(REGISTRY, GLOBALS_METATABLE);
    stack.push_copy(-1);
    stack.set_field(globals, "_G");
    stack.replace(GLOBALS);
    Ok(0)
}

/// Makes the table in the registry's `slot` what all code sees as its globals from here on. May raise, and
/// does not where the metatable holds another target already.
pub(crate) fn turn_globals(stack: Stack<'_>, slot: c_int) {
    stack.raw_get_index(REGISTRY, GLOBALS_METATABLE);
    stack.raw_get_index(REGISTRY, slot);
    stack.push_copy(-1);
    stack.set_field(-3, "__index");
    stack.push_pointer((&raw const PROXY).cast::<c_void>());
    stack.insert(-2);
    stack.raw_set(-3);
    stack.pop(1);
}

/// What is not in the table is an error.
fn refuse_missing(stack: Stack<'_>, table: c_int) {
    stack.push_table(0, 1);
    stack.set_function("__index", native(missing_global));
    stack.set_metatable(table);
}

/// `redis`, and Valkey's name for it. They are two tables, since errors name the one that was used.
fn add_commands(stack: Stack<'_>, globals: c_int, register: impl Fn(Stack<'_>, Api)) {
    for api in [Api::Redis, Api::Server] {
        stack.push_table(0, 24);
        register(stack, api);
        seal(stack, globals, api.name());
    }
}

fn add_loading_globals(stack: Stack<'_>) {
    stack.push_table(0, 2);
    let globals = stack.top();
    add_commands(stack, globals, |stack, api| {
        redis::register_loading(stack, api);
        let table = stack.top();
        refuse_missing(stack, table);
    });
    refuse_missing(stack, globals);
    stack.raw_set_index(REGISTRY, LOADING_GLOBALS);
}

fn add_libraries(stack: Stack<'_>, base: c_int, globals: c_int) -> Result<(), Raise> {
    for name in ["string", "table", "math", "coroutine", "bit"] {
        stack.raw_get_field(base, name);
        match name {
            "table" => stack.set_function("insert", native(table_insert)),
            "math" => {
                random::register(stack);
                alias(stack, "mod", "fmod");
            }
            "string" => alias(stack, "gfind", "gmatch"),
            "bit" => {
                stack.raw_get_field(-1, "tohex");
                stack.push_closure(native(to_hex), 1);
                stack.set_field(-2, "tohex");
            }
            _ => {}
        }
        seal(stack, globals, name);
    }
    stack.raw_get_field(base, "os");
    stack.raw_get_field(-1, "clock");
    stack.push_table(0, 1);
    stack.insert(-2);
    stack.set_field(-2, "clock");
    seal(stack, globals, "os");
    stack.pop(1);
    for (name, register) in [
        ("cjson", cjson::register as fn(Stack<'_>)),
        ("cmsgpack", cmsgpack::register),
        ("struct", structs::register),
    ] {
        stack.push_table(0, 24);
        register(stack);
        seal(stack, globals, name);
    }
    Ok(())
}

/// `bit.tohex` with eight digits at most, as Redis's LuaBitOp writes them; LuaJIT pads up to 254.
fn to_hex(stack: Stack<'_>) -> Outcome {
    const DIGITS_MAX: i32 = 8;
    stack.check_number(1)?;
    let digits = if stack.top() < 2 { DIGITS_MAX } else { to_bit(stack.check_number(2)?) };
    stack.set_top(1);
    stack.push_copy(upvalue(1));
    stack.insert(1);
    stack.push_number(digits.clamp(-DIGITS_MAX, DIGITS_MAX).into());
    stack.call(2, 1);
    Ok(1)
}

/// A number as the `bit` library takes it: rounded, its low 32 bits; 0 for what is not a number.
///
/// SOURCE: <https://bitop.luajit.org/semantics.html>. 2^52 + 2^51 moves the bits of whole numbers to the end.
fn to_bit(value: f64) -> i32 {
    (value + 6_755_399_441_055_744.0).to_bits() as i32
}

/// Names of Lua 5.0 that Lua 5.1, and so Redis, still knows.
fn alias(stack: Stack<'_>, old: &str, new: &str) {
    stack.raw_get_field(-1, new);
    stack.set_field(-2, old);
}

/// `globals[name] = proxy of the table on top`, which is popped.
fn seal(stack: Stack<'_>, globals: c_int, name: &str) {
    let library = stack.top();
    push_proxy(stack, library);
    stack.set_field(globals, name);
    stack.pop(1);
}

/// Pushes a proxy of the table at `target`.
fn push_proxy(stack: Stack<'_>, target: c_int) {
    stack.push_table(0, 0);
    stack.push_table(0, 4);
    stack.push_copy(target);
    stack.set_field(-2, "__index");
    stack.set_function("__newindex", native(refuse_write));
    stack.push_pointer((&raw const PROXY).cast::<c_void>());
    stack.push_copy(target);
    stack.raw_set(-3);
    // getmetatable gives a sealed empty table instead of the true metatable.
    stack.push_table(0, 0);
    stack.push_table(0, 2);
    stack.set_function("__newindex", native(refuse_write));
    stack.push_boolean(false);
    stack.set_field(-2, "__metatable");
    stack.push_pointer((&raw const PROXY).cast::<c_void>());
    stack.push_table(0, 0);
    stack.raw_set(-3);
    stack.set_metatable(-2);
    stack.set_field(-2, "__metatable");
    stack.set_metatable(-2);
}

/// The metatable that all strings share: methods from the true library, `getmetatable("")` sealed.
fn protect_strings(stack: Stack<'_>, base: c_int, globals: c_int) {
    stack.push_bytes(b"");
    let has_metatable = stack.push_metatable(-1);
    debug_assert!(has_metatable, "the string library sets a metatable");
    stack.raw_get_field(base, "string");
    stack.set_field(-2, "__index");
    stack.push_table(0, 1);
    stack.raw_get_field(globals, "string");
    stack.set_field(-2, "__index");
    let shown = stack.top();
    push_proxy(stack, shown);
    stack.remove(-2);
    stack.set_field(-2, "__metatable");
    stack.pop(2);
}

/// If the value at `index` is a proxy, pushes its true table.
fn push_target(stack: Stack<'_>, index: c_int) -> bool {
    if stack.kind(index) != Type::Table || !stack.push_metatable(index) {
        return false;
    }
    stack.push_pointer((&raw const PROXY).cast::<c_void>());
    stack.raw_get(-2);
    stack.remove(-2);
    let found = stack.kind(-1) == Type::Table;
    if !found {
        stack.pop(1);
    }
    found
}

fn refuse_write(stack: Stack<'_>) -> Outcome {
    Err(stack.error(READ_ONLY))
}

fn missing_global(stack: Stack<'_>) -> Outcome {
    let name = match stack.kind(2) {
        Type::String => String::from_utf8_lossy(stack.bytes(2).unwrap_or_default()),
        _ => stack.type_name(2).into(),
    };
    let raise = stack.error(format_args!("Script attempted to access nonexistent global variable '{name}'"));
    drop(name);
    Err(raise)
}

/// `error`, which knows where a script stands even if it ends in `return error(…)`.
fn error(stack: Stack<'_>) -> Outcome {
    let level = if matches!(stack.kind(2), Type::None | Type::Nil) { 1 } else { stack.check_i32(2)? };
    stack.set_top(1);
    if stack.kind(1) == Type::Number {
        stack.check_bytes(1)?;
    }
    if stack.kind(1) == Type::String && level > 0 {
        stack.push_where(level);
        stack.insert(1);
        stack.concat(2);
    }
    Err(Raise::Top)
}

fn raw_get(stack: Stack<'_>) -> Outcome {
    stack.check_table(1)?;
    stack.check_any(2)?;
    stack.set_top(2);
    if push_target(stack, 1) {
        stack.replace(1);
    }
    stack.raw_get(1);
    Ok(1)
}

fn raw_set(stack: Stack<'_>) -> Outcome {
    stack.check_table(1)?;
    stack.check_any(2)?;
    stack.check_any(3)?;
    stack.set_top(3);
    if push_target(stack, 1) {
        return Err(stack.plain_error(READ_ONLY));
    }
    match stack.kind(2) {
        Type::Nil => return Err(stack.error("table index is nil")),
        Type::Number if stack.number(2).is_nan() => return Err(stack.error("table index is NaN")),
        _ => {}
    }
    stack.raw_set(1);
    Ok(1)
}

/// `pairs`: the built-in iterator over the table, or over a copy of a proxy's true table.
fn pairs(stack: Stack<'_>) -> Outcome {
    stack.check_table(1)?;
    stack.set_top(1);
    if push_target(stack, 1) {
        stack.push_table(0, 32);
        stack.push_nil();
        while stack.next(2) {
            stack.push_copy(-2);
            stack.insert(-2);
            stack.raw_set(3);
        }
        stack.replace(1);
        stack.set_top(1);
    }
    stack.raw_get_index(REGISTRY, TRUE_GLOBALS);
    stack.raw_get_field(-1, "next");
    stack.push_copy(1);
    stack.push_nil();
    Ok(3)
}

fn set_metatable(stack: Stack<'_>) -> Outcome {
    stack.check_table(1)?;
    if !matches!(stack.kind(2), Type::Nil | Type::Table) {
        return Err(stack.argument_error(2, "nil or table expected"));
    }
    stack.set_top(2);
    if push_target(stack, 1) {
        return Err(stack.plain_error(READ_ONLY));
    }
    if stack.push_metatable(1) {
        stack.raw_get_field(-1, "__metatable");
        if stack.kind(-1) != Type::Nil {
            return Err(stack.error("cannot change a protected metatable"));
        }
        stack.set_top(2);
    }
    stack.set_metatable(1);
    Ok(1)
}

fn table_insert(stack: Stack<'_>) -> Outcome {
    stack.check_table(1)?;
    if push_target(stack, 1) {
        return Err(stack.plain_error(READ_ONLY));
    }
    let end = stack.raw_len(1) as i32 + 1;
    match stack.top() {
        2 => stack.raw_set_index(1, end),
        3 => {
            let position = stack.check_i32(2)?;
            if position < 1 {
                return Err(stack.argument_error(2, "position out of bounds"));
            }
            let end = end.max(position);
            let mut index = end;
            while index > position {
                stack.raw_get_index(1, index - 1);
                stack.raw_set_index(1, index);
                index -= 1;
            }
            stack.raw_set_index(1, position);
        }
        _ => return Err(stack.error("wrong number of arguments to 'insert'")),
    }
    Ok(0)
}

/// `load` and `loadstring`: text only, whatever the mode asks for.
fn load(stack: Stack<'_>) -> Outcome {
    let from_function = stack.kind(1) == Type::Function;
    if !from_function {
        stack.check_bytes(1)?;
    }
    if matches!(stack.kind(2), Type::None | Type::Nil) {
        stack.set_top(1);
        if from_function { stack.push_bytes(b"=(load)") } else { stack.push_copy(1) }
    }
    let name = stack.check_bytes(2)?;
    stack.set_top(2);
    stack.check_native_room()?;
    if from_function {
        gather_pieces(stack)?;
        stack.replace(1);
    }
    if stack.load(stack.bytes(1).unwrap_or_default(), name) {
        return Ok(1);
    }
    stack.push_nil();
    stack.insert(-2);
    Ok(2)
}

/// Joins what the function at 1 returns until nil or an empty string.
fn gather_pieces(stack: Stack<'_>) -> Result<(), Raise> {
    stack.push_bytes(b"");
    loop {
        stack.push_copy(1);
        stack.call(0, 1);
        match stack.kind(-1) {
            Type::Nil => break,
            Type::String if stack.raw_len(-1) == 0 => break,
            Type::String => stack.concat(2),
            _ => return Err(stack.error("reader function must return a string")),
        }
    }
    stack.pop(1);
    Ok(())
}

/// `collectgarbage` without the options that would reach into other scripts' runs.
fn collect_garbage(stack: Stack<'_>) -> Outcome {
    let option = if stack.kind(1) == Type::None { &b"collect"[..] } else { stack.check_bytes(1)? };
    let answer = match option {
        b"collect" => {
            stack.collect_garbage();
            0.0
        }
        b"count" => stack.context().memory.used_bytes() as f64 / 1024.0,
        b"step" | b"stop" | b"restart" | b"setpause" | b"setstepmul" => 0.0,
        _ => return Err(stack.argument_error(1, "invalid option")),
    };
    stack.push_number(answer);
    Ok(1)
}
