#![allow(unsafe_code)]
//! The door to Lua's C API. Everything above it is written against [`Stack`] and has no unsafe code.
//!
//! # The contract of a C function
//! Lua errors unwind through the frames between the raise and the protected call. So:
//! - a function that Lua calls is made by [`native`] from a `fn(Stack) -> Outcome`; it reports its own errors
//!   as a plain [`Raise`] value and `native` raises it when nothing is left to destroy;
//! - methods marked *may raise* (they allocate in Lua, or call into it) must not be called while the caller,
//!   or anyone between it and Lua, owns a value with a destructor;
//! - a function has 20 stack slots; who needs more asks [`Stack::reserve`] first. Debug builds of
//!   LuaJIT check this and the indices;
//! - a slice from [`Stack::bytes`] lives as long as its string stays on the stack or in a reachable table.

use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::io::Write;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use mlua_sys as sys;
pub(crate) use mlua_sys::{lua_CFunction, lua_State};

use crate::context::Context;

/// Refers to the registry as a table index.
pub(crate) const REGISTRY: c_int = sys::LUA_REGISTRYINDEX;

/// How many results a function leaves on the stack, or the error to raise.
pub(crate) type Outcome = Result<c_int, Raise>;

/// An error on its way to being raised. Plain data: its text waits in the context's `message` buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Raise {
    /// The value on top of the stack, as it is.
    Top,
    /// The message, with the caller's position before it.
    Message,
    /// The message, as it is.
    Plain,
    /// The message, as "bad argument #n to 'f' (message)".
    Argument(c_int),
    /// `{err = message}`, as commands fail.
    Table,
    /// The run is over: only the way out is left.
    Doomed,
}

/// Types of Lua values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    None,
    Nil,
    Boolean,
    LightUserdata,
    Number,
    String,
    Table,
    Function,
    Thread,
    Other,
}

/// What an argument of a command is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument<'a> {
    /// See the contract for how long they live.
    Bytes(&'a [u8]),
    Number(f64),
    Other,
}

/// One Lua stack, seen from a C function or from the interpreter. Indices are Lua's: from 1 upwards, from -1
/// downwards.
#[derive(Clone, Copy)]
pub(crate) struct Stack<'c> {
    l: *mut lua_State,
    context: &'c Context,
}

/// Turns a function into one that Lua can call.
pub(crate) fn native<F>(function: F) -> lua_CFunction
where
    F: for<'c> Fn(Stack<'c>) -> Outcome + Copy + 'static,
{
    const { assert!(size_of::<F>() == 0, "a native function captures nothing") };
    let _ = function;
    unsafe extern "C-unwind" fn enter<F>(l: *mut lua_State) -> c_int
    where
        F: for<'c> Fn(Stack<'c>) -> Outcome + Copy + 'static,
    {
        // SAFETY: Lua calls with its own state, whose context outlives it; F is zero-sized and inhabited
        // (a value was given to `native`), so a dangling pointer is a valid reference to it.
        unsafe {
            let stack = Stack::from_raw(l);
            match NonNull::<F>::dangling().as_ref()(stack) {
                Ok(results) => results,
                Err(raise) => stack.throw(raise),
            }
        }
    }
    enter::<F>
}

impl<'c> Stack<'c> {
    /// # Safety
    /// `l` is a live state whose allocator's user data is a [`Context`] that lives for `'c`.
    pub unsafe fn from_raw(l: *mut lua_State) -> Self {
        let mut ud = ptr::null_mut();
        // SAFETY: the caller's.
        unsafe {
            sys::lua_getallocf(l, &mut ud);
            Self { l, context: &*ud.cast::<Context>() }
        }
    }

    pub fn context(self) -> &'c Context {
        self.context
    }

    pub fn raw(self) -> *mut lua_State {
        self.l
    }

    /// Raises. Never returns; no frame between here and Lua may own anything.
    ///
    /// # Safety
    /// Called inside a protected call.
    unsafe fn throw(self, raise: Raise) -> ! {
        // SAFETY: the message buffer is not lent out while an error is raised from it.
        unsafe {
            match raise {
                Raise::Top => {}
                Raise::Doomed => sys::lua_pushnil(self.l),
                Raise::Message => {
                    self.push_where(1);
                    self.push_bytes(self.context.message.bytes());
                    sys::lua_concat(self.l, 2);
                }
                Raise::Plain => self.push_bytes(self.context.message.bytes()),
                Raise::Argument(index) => {
                    self.push_bytes(self.context.message.bytes());
                    let text = sys::lua_tolstring(self.l, -1, ptr::null_mut());
                    sys::luaL_argerror(self.l, index, text);
                }
                Raise::Table => self.push_error_table(self.context.message.bytes()),
            }
            sys::lua_error(self.l)
        }
    }

    /// Writes the message of the error about to be raised.
    fn say(self, message: fmt::Arguments<'_>) {
        self.context.message.with(|text| {
            text.clear();
            let _ = text.write_fmt(message);
        });
    }

    /// An error with the script's position before it, like `luaL_error`.
    pub fn error(self, message: impl fmt::Display) -> Raise {
        self.say(format_args!("{message}"));
        Raise::Message
    }

    pub fn plain_error(self, message: impl fmt::Display) -> Raise {
        self.say(format_args!("{message}"));
        Raise::Plain
    }

    pub fn argument_error(self, index: c_int, message: impl fmt::Display) -> Raise {
        self.say(format_args!("{message}"));
        Raise::Argument(index)
    }

    /// An error as Redis's own functions raise it: a table whose `err` reads `ERR message`.
    pub fn table_error(self, message: impl fmt::Display) -> Raise {
        self.say(format_args!("ERR {message}"));
        Raise::Table
    }

    /// Refuses to go on with a text that the state could never hold as a string. A few tables that hold each
    /// other describe a text of any length.
    pub fn check_text_len(self, len: usize) -> Result<(), Raise> {
        if len <= self.context.memory.limit_bytes() {
            Ok(())
        } else {
            Err(self.plain_error("not enough memory"))
        }
    }

    fn type_error(self, index: c_int, expected: &str) -> Raise {
        let found = match self.kind(index) {
            Type::None => "no value",
            _ => self.type_name(index),
        };
        self.argument_error(index, format_args!("{expected} expected, got {found}"))
    }

    /// Makes room for `slots` more values, or reports that the stack is full.
    pub fn try_reserve(self, slots: c_int) -> bool {
        // SAFETY: lua_checkstack grows the stack in protected mode and answers 0 when it cannot.
        unsafe { sys::lua_checkstack(self.l, slots) != 0 }
    }

    pub fn reserve(self, slots: c_int) -> Result<(), Raise> {
        if self.try_reserve(slots) { Ok(()) } else { Err(self.error("stack overflow")) }
    }

    /// Makes room for one more level of a walk through nested data, on both stacks.
    pub fn try_descend(self, slots: c_int) -> bool {
        self.context.has_native_room() && self.try_reserve(slots)
    }

    /// Refuses to nest C calls deeper than the C stack allows.
    pub fn check_native_room(self) -> Result<(), Raise> {
        if self.context.has_native_room() { Ok(()) } else { Err(self.error("C stack overflow")) }
    }

    // Reading. None of these raises.

    pub fn top(self) -> c_int {
        // SAFETY: reads only.
        unsafe { sys::lua_gettop(self.l) }
    }

    /// A relative index as one that stays true when the stack grows.
    pub fn absolute(self, index: c_int) -> c_int {
        if index < 0 && index > REGISTRY { self.top() + index + 1 } else { index }
    }

    pub fn kind(self, index: c_int) -> Type {
        // SAFETY: reads only; an index above the top is none.
        match unsafe { sys::lua_type(self.l, index) } {
            sys::LUA_TNONE => Type::None,
            sys::LUA_TNIL => Type::Nil,
            sys::LUA_TBOOLEAN => Type::Boolean,
            sys::LUA_TLIGHTUSERDATA => Type::LightUserdata,
            sys::LUA_TNUMBER => Type::Number,
            sys::LUA_TSTRING => Type::String,
            sys::LUA_TTABLE => Type::Table,
            sys::LUA_TFUNCTION => Type::Function,
            sys::LUA_TTHREAD => Type::Thread,
            _ => Type::Other,
        }
    }

    pub fn type_name(self, index: c_int) -> &'static str {
        match self.kind(index) {
            Type::None => "no value",
            Type::Nil => "nil",
            Type::Boolean => "boolean",
            Type::LightUserdata => "userdata",
            Type::Number => "number",
            Type::String => "string",
            Type::Table => "table",
            Type::Function => "function",
            Type::Thread => "thread",
            Type::Other => "cdata",
        }
    }

    pub fn boolean(self, index: c_int) -> bool {
        // SAFETY: reads only.
        unsafe { sys::lua_toboolean(self.l, index) != 0 }
    }

    /// The number, or the number that a string spells, else 0.
    pub fn number(self, index: c_int) -> f64 {
        // SAFETY: reads only.
        unsafe { sys::lua_tonumber(self.l, index) }
    }

    pub fn looks_like_number(self, index: c_int) -> bool {
        // SAFETY: reads only.
        unsafe { sys::lua_isnumber(self.l, index) != 0 }
    }

    pub fn is_null_pointer(self, index: c_int) -> bool {
        // SAFETY: reads only.
        self.kind(index) == Type::LightUserdata && unsafe { sys::lua_touserdata(self.l, index).is_null() }
    }

    /// The string at `index`; `None` for all other types, numbers too. See the contract for how long the
    /// bytes live.
    pub fn bytes(self, index: c_int) -> Option<&'c [u8]> {
        (self.kind(index) == Type::String).then(|| {
            let mut len = 0;
            // SAFETY: the value is a string, so nothing is converted and the pointer is not null.
            unsafe {
                let start = sys::lua_tolstring(self.l, index, &mut len);
                std::slice::from_raw_parts(start.cast(), len)
            }
        })
    }

    pub fn argument(self, index: c_int) -> Argument<'c> {
        // SAFETY: reads only.
        match unsafe { sys::lua_type(self.l, index) } {
            sys::LUA_TSTRING => {
                let mut len = 0;
                // SAFETY: as in `bytes`.
                Argument::Bytes(unsafe {
                    let start = sys::lua_tolstring(self.l, index, &mut len);
                    std::slice::from_raw_parts(start.cast(), len)
                })
            }
            sys::LUA_TNUMBER => Argument::Number(self.number(index)),
            _ => Argument::Other,
        }
    }

    /// Length of a table's array or of a string.
    pub fn raw_len(self, index: c_int) -> usize {
        // SAFETY: reads only.
        unsafe { sys::lua_objlen(self.l, index) }
    }

    /// Identity of a table or function.
    pub fn address(self, index: c_int) -> *const c_void {
        // SAFETY: reads only.
        unsafe { sys::lua_topointer(self.l, index) }
    }

    // Moving values about. None of these raises.

    pub fn set_top(self, index: c_int) {
        // SAFETY: within the reserved slots by contract.
        unsafe { sys::lua_settop(self.l, index) }
    }

    pub fn pop(self, count: c_int) {
        self.set_top(-count - 1);
    }

    pub fn push_copy(self, index: c_int) {
        // SAFETY: as `set_top`.
        unsafe { sys::lua_pushvalue(self.l, index) }
    }

    pub fn insert(self, index: c_int) {
        // SAFETY: as `set_top`.
        unsafe { sys::lua_insert(self.l, index) }
    }

    pub fn remove(self, index: c_int) {
        // SAFETY: as `set_top`.
        unsafe { sys::lua_remove(self.l, index) }
    }

    pub fn replace(self, index: c_int) {
        // SAFETY: as `set_top`; Lua's barrier covers pseudo-indices.
        unsafe { sys::lua_replace(self.l, index) }
    }

    pub fn push_nil(self) {
        // SAFETY: as `set_top`.
        unsafe { sys::lua_pushnil(self.l) }
    }

    pub fn push_boolean(self, value: bool) {
        // SAFETY: as `set_top`.
        unsafe { sys::lua_pushboolean(self.l, c_int::from(value)) }
    }

    pub fn push_number(self, value: f64) {
        // SAFETY: as `set_top`.
        unsafe { sys::lua_pushnumber(self.l, value) }
    }

    /// cjson.null. May raise.
    pub fn push_null_pointer(self) {
        self.push_pointer(ptr::null());
    }

    /// May raise.
    pub fn push_pointer(self, pointer: *const c_void) {
        // SAFETY: as `set_top`; the pointer is a name, never followed.
        unsafe { sys::lua_pushlightuserdata(self.l, pointer.cast_mut()) }
    }

    // Making and filling values. All of these may raise for want of memory.

    /// May raise.
    pub fn push_bytes(self, bytes: &[u8]) {
        // SAFETY: as `set_top`; Lua copies the bytes.
        unsafe { sys::lua_pushlstring_(self.l, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// Pushes what the scratch buffer holds. May raise.
    pub fn push_scratch(self) {
        // SAFETY: pushing a string does not touch the buffer.
        self.push_bytes(unsafe { self.context.scratch.bytes() });
    }

    /// May raise.
    pub fn push_function(self, function: lua_CFunction) {
        self.push_closure(function, 0);
    }

    /// A function that keeps the `upvalues` values on top, which are popped. May raise.
    pub fn push_closure(self, function: lua_CFunction, upvalues: c_int) {
        // SAFETY: the function came from `native`, or is one of Lua's own.
        unsafe { sys::lua_pushcclosure(self.l, function, upvalues) }
    }

    /// May raise.
    pub fn push_table(self, array: usize, hash: usize) {
        let bound = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
        // SAFETY: sizes are hints.
        unsafe { sys::lua_createtable(self.l, bound(array), bound(hash)) }
    }

    /// `{err = message}`. May raise.
    pub fn push_error_table(self, message: &[u8]) {
        self.push_table(0, 1);
        self.push_bytes(message);
        self.set_field(-2, "err");
    }

    /// `table[key]` for the key on top, which it replaces; no metamethods.
    pub fn raw_get(self, table: c_int) {
        debug_assert_eq!(self.kind(table), Type::Table);
        // SAFETY: the index is a table by contract, which debug builds check.
        unsafe { sys::lua_rawget_(self.l, table) }
    }

    pub fn raw_get_index(self, table: c_int, index: c_int) {
        // SAFETY: as `raw_get`.
        unsafe { sys::lua_rawgeti_(self.l, table, index) }
    }

    /// `table[name]`; may raise.
    pub fn raw_get_field(self, table: c_int, name: &str) {
        let table = self.absolute(table);
        self.push_bytes(name.as_bytes());
        self.raw_get(table);
    }

    /// `table[key] = value` for the two values on top, which are popped. The key is neither nil nor NaN. May
    /// raise.
    pub fn raw_set(self, table: c_int) {
        // SAFETY: as `raw_get`.
        unsafe { sys::lua_rawset(self.l, table) }
    }

    /// May raise.
    pub fn raw_set_index(self, table: c_int, index: c_int) {
        // SAFETY: as `raw_get`.
        unsafe { sys::lua_rawseti_(self.l, table, index) }
    }

    /// `table[name] = value` for the value on top, which is popped. May raise.
    pub fn set_field(self, table: c_int, name: &str) {
        let table = self.absolute(table);
        self.push_bytes(name.as_bytes());
        self.insert(-2);
        self.raw_set(table);
    }

    /// Puts a function into the table on top. May raise.
    pub fn set_function(self, name: &str, function: lua_CFunction) {
        self.push_function(function);
        self.set_field(-2, name);
    }

    /// Steps over a table: replaces the key on top by the next key and its value, or pops it at the end. The
    /// key came from this table, so nothing is raised.
    pub fn next(self, table: c_int) -> bool {
        // SAFETY: as `raw_get`.
        unsafe { sys::lua_next(self.l, table) != 0 }
    }

    /// Pushes the metatable, if there is one.
    pub fn push_metatable(self, index: c_int) -> bool {
        // SAFETY: reads only.
        unsafe { sys::lua_getmetatable(self.l, index) != 0 }
    }

    /// Sets the table or nil on top as metatable.
    pub fn set_metatable(self, index: c_int) {
        // SAFETY: the value on top is a table or nil by contract.
        unsafe {
            sys::lua_setmetatable(self.l, index);
        }
    }

    /// Joins the values on top into one string. May raise.
    pub fn concat(self, count: c_int) {
        // SAFETY: the values are strings or numbers by contract, so no metamethod runs.
        unsafe { sys::lua_concat(self.l, count) }
    }

    // Calling. May raise whatever the callee raises.

    pub fn call(self, arguments: c_int, results: c_int) {
        // SAFETY: the callee and its arguments are on the stack by contract.
        unsafe { sys::lua_call(self.l, arguments, results) }
    }

    /// Calls in protected mode and says whether it went well; an error leaves its value on top. `handler` is
    /// the absolute index of a function that sees the error first, or 0.
    pub fn protected_call(self, arguments: c_int, results: c_int, handler: c_int) -> Result<(), c_int> {
        // SAFETY: as `call`.
        match unsafe { sys::lua_pcall(self.l, arguments, results, handler) } {
            sys::LUA_OK => Ok(()),
            status => Err(status),
        }
    }

    /// Compiles source text (never bytecode) and pushes the function, or pushes the error's text.
    /// May raise for want of memory.
    pub fn load(self, code: &[u8], name: &[u8]) -> bool {
        if code.first() == Some(&sys::LUA_SIGNATURE[0]) {
            self.push_bytes(b"attempt to load a binary chunk");
            return false;
        }
        // The name must end in NUL; the copy lives on the Lua stack.
        self.push_bytes(name);
        // SAFETY: Lua's own strings end in NUL; code is a valid slice; compilation is protected inside.
        unsafe {
            let name = sys::lua_tolstring(self.l, -1, ptr::null_mut());
            let status = sys::luaL_loadbuffer(self.l, code.as_ptr().cast::<c_char>(), code.len(), name);
            self.remove(-2);
            status == sys::LUA_OK
        }
    }

    /// Pushes the position of the function at `level`, as `user_script:1: `. Where LuaJIT dropped the frame of
    /// the script or function (it ended in a tail call), that is its last line. May raise.
    pub fn push_where(self, level: c_int) {
        // SAFETY: pushes one string.
        unsafe { sys::luaL_where(self.l, level) };
        if self.raw_len(-1) == 0 && self.innermost_place().is_none() {
            let mut text = [0; 48];
            let mut rest = &mut text[..];
            let _ = write!(rest, "{}:{}: ", self.context.chunk.get(), self.context.last_line.get());
            let left = rest.len();
            self.pop(1);
            self.push_bytes(&text[..text.len() - left]);
        }
    }

    // Arguments of functions.

    pub fn check_number(self, index: c_int) -> Result<f64, Raise> {
        if self.looks_like_number(index) {
            Ok(self.number(index))
        } else {
            Err(self.type_error(index, "number"))
        }
    }

    pub fn check_i32(self, index: c_int) -> Result<i32, Raise> {
        self.check_number(index).map(|value| value as i32)
    }

    /// A string, or a number made into one in its place. May raise.
    pub fn check_bytes(self, index: c_int) -> Result<&'c [u8], Raise> {
        match self.kind(index) {
            Type::String => {}
            Type::Number => {
                // SAFETY: converts the number in its own slot.
                unsafe { sys::lua_tolstring(self.l, index, ptr::null_mut()) };
            }
            _ => return Err(self.type_error(index, "string")),
        }
        Ok(self.bytes(index).unwrap_or_default())
    }

    pub fn check_table(self, index: c_int) -> Result<(), Raise> {
        if self.kind(index) == Type::Table { Ok(()) } else { Err(self.type_error(index, "table")) }
    }

    pub fn check_function(self, index: c_int) -> Result<(), Raise> {
        if self.kind(index) == Type::Function { Ok(()) } else { Err(self.type_error(index, "function")) }
    }

    pub fn check_any(self, index: c_int) -> Result<(), Raise> {
        if self.kind(index) == Type::None {
            Err(self.argument_error(index, "value expected"))
        } else {
            Ok(())
        }
    }

    // Coroutines and the collector.

    pub fn push_new_thread(self) -> Stack<'c> {
        // SAFETY: the new thread shares the state's context and lives on this stack.
        Stack { l: unsafe { sys::lua_newthread(self.l) }, context: self.context }
    }

    pub fn thread(self, index: c_int) -> Option<Stack<'c>> {
        // SAFETY: reads only.
        let l = unsafe { sys::lua_tothread(self.l, index) };
        (!l.is_null()).then_some(Stack { l, context: self.context })
    }

    /// Moves the top values to another thread's stack, which has room for them.
    pub fn move_to(self, other: Stack<'c>, count: c_int) {
        // SAFETY: both belong to one state; room is the caller's duty.
        unsafe { sys::lua_xmove(self.l, other.l, count) }
    }

    pub fn is_yielded(self) -> bool {
        // SAFETY: reads only.
        unsafe { sys::lua_status(self.l) == sys::LUA_YIELD }
    }

    pub fn is_fresh(self) -> bool {
        // SAFETY: reads only.
        unsafe { sys::lua_status(self.l) == sys::LUA_OK }
    }

    /// Whether any function is running on this thread.
    pub fn has_frames(self) -> bool {
        // SAFETY: a zeroed lua_Debug is valid memory for lua_getstack to fill.
        unsafe {
            let mut record: sys::lua_Debug = std::mem::zeroed();
            sys::lua_getstack(self.l, 0, &mut record) != 0
        }
    }

    /// Resumes this thread; false when it ended in an error, whose value is then on its stack.
    pub fn resume(self, arguments: c_int) -> bool {
        // SAFETY: the thread is suspended and its arguments are on its stack by contract.
        let status = unsafe { sys::lua_resume_(self.l, arguments) };
        status == sys::LUA_OK || status == sys::LUA_YIELD
    }

    /// Frees what nothing refers to.
    pub fn collect_garbage(self) {
        // SAFETY: no finalizers exist in this state, so no Lua code runs.
        unsafe {
            sys::lua_gc(self.l, sys::LUA_GCCOLLECT, 0);
        }
    }

    /// The last line of the Lua function at `index` that is not just its `end`. May raise.
    pub fn last_line(self, index: c_int) -> usize {
        self.push_copy(index);
        // SAFETY: a function is on top, which lua_getinfo pops; it fills the fields that "S" names.
        let record = unsafe {
            let mut record: sys::lua_Debug = std::mem::zeroed();
            sys::lua_getinfo(self.l, c">S".as_ptr(), &mut record);
            record
        };
        let last = if record.linedefined == record.lastlinedefined {
            record.lastlinedefined
        } else {
            record.lastlinedefined - 1
        };
        usize::try_from(last).unwrap_or(1)
    }

    /// Where the innermost Lua function stands, seen from an error handler or a hook. Raises nothing.
    pub fn innermost_place(self) -> Option<Place> {
        const LEVELS_MAX: c_int = 16;
        // SAFETY: as `has_frames`; lua_getinfo fills the fields that "Sl" names, and the source outlives the
        // function that is on the stack.
        unsafe {
            let mut record: sys::lua_Debug = std::mem::zeroed();
            for level in 0..LEVELS_MAX {
                if sys::lua_getstack(self.l, level, &mut record) == 0 {
                    return None;
                }
                if sys::lua_getinfo(self.l, c"Sl".as_ptr(), &mut record) != 0 && record.currentline >= 0 {
                    return Some(Place {
                        source: record.source,
                        line: record.currentline,
                        _stack: PhantomData,
                    });
                }
            }
        }
        None
    }
}

/// A line of a chunk.
pub(crate) struct Place {
    source: *const c_char,
    pub line: c_int,
    _stack: PhantomData<*const ()>,
}

impl Place {
    pub fn source(&self) -> &[u8] {
        // SAFETY: LuaJIT gives a NUL-terminated string that lives as long as the function on the stack.
        unsafe { std::ffi::CStr::from_ptr(self.source) }.to_bytes()
    }
}

/// The upvalue `index` (from 1) of the running closure.
pub(crate) fn upvalue(index: c_int) -> c_int {
    sys::lua_upvalueindex(index)
}

/// Opens the standard libraries that the sandbox picks from; package, io, debug, jit and ffi stay shut.
/// They land in the global table. May raise.
pub(crate) fn open_libraries(stack: Stack<'_>) {
    for (name, open) in [
        ("", sys::luaopen_base as lua_CFunction),
        ("table", sys::luaopen_table),
        ("string", sys::luaopen_string),
        ("math", sys::luaopen_math),
        ("os", sys::luaopen_os),
        ("bit", sys::luaopen_bit),
    ] {
        stack.push_function(open);
        stack.push_bytes(name.as_bytes());
        stack.call(1, 0);
    }
}

/// Refers to the table of globals of the running thread.
pub(crate) const GLOBALS: c_int = sys::LUA_GLOBALSINDEX;

/// Every how many instructions an armed hook asks the host.
pub(crate) const HOOK_INSTRUCTIONS: c_int = 10_000;

/// Arms `hook` to run every `instructions` instructions.
///
/// # Safety
/// Called on the thread that the state belongs to, from C functions or from a signal handler.
pub(crate) unsafe fn set_hook(l: *mut lua_State, hook: sys::lua_Hook, instructions: c_int) {
    // SAFETY: the caller's.
    unsafe {
        sys::lua_sethook(l, Some(hook), sys::LUA_MASKCOUNT, instructions);
    }
}

/// Takes the hook away, if one is armed.
///
/// # Safety
/// As [`set_hook`].
pub(crate) unsafe fn disarm(l: *mut lua_State) {
    // SAFETY: the caller's.
    unsafe {
        if sys::lua_gethookmask(l) != 0 {
            sys::lua_sethook(l, None, 0, 0);
        }
    }
}

/// Runs a check at a hook's event and ends the run if it says so.
///
/// # Safety
/// Called by Lua, as a hook.
pub(crate) unsafe extern "C-unwind" fn hook(l: *mut lua_State, _event: *mut sys::lua_Debug) {
    // SAFETY: Lua passes its own state; the check leaves nothing to destroy behind.
    unsafe {
        let stack = Stack::from_raw(l);
        if let Err(raise) = crate::watchdog::on_hook(stack) {
            stack.throw(raise)
        }
    }
}
