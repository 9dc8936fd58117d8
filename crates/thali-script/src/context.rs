#![allow(unsafe_code)]
//! What the C functions of one interpreter share: memory accounting, reused buffers, and the run in progress.
//!
//! The context hangs on the allocator's user data of the Lua state, so that every C function finds it without
//! an upvalue. All fields are cells: C functions see the context through shared references only.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use crate::blocks::Blocks;
use crate::cjson;
use crate::host::{Abort, Host, Resp};
use crate::libraries::Registered;
use crate::lua::{Outcome, Stack};
use crate::random::Random;

/// A reused buffer larger than this is given back after the run that needed it.
const BUFFER_KEPT_BYTES_MAX: usize = 1 << 20;

/// C stack that nested C calls of one run may use; checked where Lua can call back into Lua. The thread
/// needs room for this and for one more level: the parser and `string.gsub` take up to half a megabyte.
const NATIVE_STACK_BYTES_MAX: usize = 512 << 10;

/// What a protected call does.
pub(crate) type Work<'a> = dyn FnMut(Stack<'_>) -> Outcome + 'a;

/// Why the run must end, whatever the script catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doom {
    Aborted,
    Killed,
    /// The host panicked; the payload waits in the context.
    Panicked,
}

/// A byte buffer that is reused from call to call.
#[derive(Default)]
pub(crate) struct Buffer(UnsafeCell<Vec<u8>>);

impl Buffer {
    /// Lends the buffer out. The closure must not raise Lua errors nor reach the same buffer again.
    pub fn with<R>(&self, work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        // The buffer is moved out while it is lent, so a nested use would see an empty one: wrong, but sound.
        // SAFETY: no reference into the cell lives across this statement; the type is not Sync.
        let mut bytes = unsafe { std::mem::take(&mut *self.0.get()) };
        let result = work(&mut bytes);
        // SAFETY: as above.
        unsafe { *self.0.get() = bytes };
        result
    }

    /// # Safety
    /// The caller must not lend out or shrink the buffer while the slice is in use.
    pub unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: the caller keeps the buffer unchanged.
        unsafe { (*self.0.get()).as_slice() }
    }

    fn trim(&self) {
        self.with(|bytes| {
            bytes.clear();
            bytes.shrink_to(BUFFER_KEPT_BYTES_MAX);
        });
    }
}

/// Memory of one Lua state, as counted at its allocator.
#[derive(Default)]
pub(crate) struct Memory {
    used_bytes: Cell<usize>,
    limit_bytes: Cell<usize>,
    blocks: Blocks,
}

impl Memory {
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }

    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes.get()
    }

    pub fn set_limit_bytes(&self, limit_bytes: usize) {
        self.limit_bytes.set(limit_bytes);
    }
}

pub(crate) struct Context {
    pub memory: Memory,
    /// Replies of the host, parsed in place.
    pub reply: Buffer,
    /// Text on its way to a Lua string or an error.
    pub scratch: Buffer,
    /// The text of the error being raised, or of the error that ended the run.
    pub message: Buffer,
    /// Where the error that ended the run was raised: `source:line`.
    pub place: Buffer,
    pub json: Cell<cjson::Config>,
    pub random: Cell<Random>,
    pub resp: Cell<Resp>,
    /// What errors call the running code: `user_script` or `user_function`.
    pub chunk: Cell<&'static str>,
    /// The last line of the running code, for errors whose place LuaJIT has dropped.
    pub last_line: Cell<usize>,
    /// What the library that is being loaded has registered so far; `None` at all other times.
    pub registered: RefCell<Option<Vec<Registered>>>,
    doom: Cell<Option<Doom>>,
    panic: Cell<Option<Box<dyn Any + Send>>>,
    host: Cell<Option<NonNull<dyn Host>>>,
    /// What the next protected call does.
    pub work: Cell<Option<NonNull<Work<'static>>>>,
    /// Where the C stack stood when the run began.
    stack_base: Cell<usize>,
}

impl Context {
    pub fn new(memory_bytes_max: usize) -> Self {
        Self {
            memory: Memory { limit_bytes: Cell::new(memory_bytes_max), ..Memory::default() },
            reply: Buffer::default(),
            scratch: Buffer::default(),
            message: Buffer::default(),
            place: Buffer::default(),
            json: Cell::new(cjson::Config::default()),
            random: Cell::new(Random::default()),
            resp: Cell::new(Resp::V2),
            chunk: Cell::new("user_script"),
            last_line: Cell::new(1),
            registered: RefCell::new(None),
            doom: Cell::new(None),
            panic: Cell::new(None),
            host: Cell::new(None),
            work: Cell::new(None),
            stack_base: Cell::new(0),
        }
    }

    /// Starts a run: `work` runs with the host in reach, and every setting that scripts can change is fresh.
    pub fn during<R>(&self, host: Option<&mut dyn Host>, work: impl FnOnce() -> R) -> R {
        struct Ended<'a>(&'a Context);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.host.set(None);
                self.0.reply.trim();
                self.0.scratch.trim();
            }
        }
        let ended = Ended(self);
        self.json.set(cjson::Config::default());
        self.resp.set(Resp::V2);
        self.doom.set(None);
        self.stack_base.set(stack_address());
        // SAFETY: only the lifetime changes; `Ended` clears the pointer before the borrow ends.
        let host = host.map(|host| unsafe {
            std::mem::transmute::<NonNull<dyn Host + '_>, NonNull<dyn Host + 'static>>(NonNull::from(host))
        });
        self.host.set(host);
        let result = work();
        drop(ended);
        result
    }

    pub fn doom(&self) -> Option<Doom> {
        self.doom.get()
    }

    pub fn set_doom(&self, doom: Doom) {
        self.doom.set(Some(doom));
    }

    /// The last reply. Valid until the next command.
    pub fn reply_bytes(&self) -> &[u8] {
        // SAFETY: only a command changes the buffer, and Lua code cannot run one while the reply is parsed:
        // pushing values calls nothing back (no finalizers, no metamethods).
        unsafe { self.reply.bytes() }
    }

    pub fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        self.panic.take()
    }

    /// Runs `work` with the host; an abort or a panic dooms the run and gives `None`.
    /// `work` must not touch Lua.
    pub fn host<R>(&self, work: impl FnOnce(&mut dyn Host) -> Result<R, Abort>) -> Option<R> {
        let mut host = self.host.take().expect("a host is in reach while a script runs");
        // SAFETY: the pointer was made from an exclusive borrow that outlives the run, and taking it out of
        // the cell keeps it from being used twice at once.
        let result = catch_unwind(AssertUnwindSafe(|| work(unsafe { host.as_mut() })));
        self.host.set(Some(host));
        match result {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(Abort)) => self.set_doom(Doom::Aborted),
            Err(payload) => {
                self.panic.set(Some(payload));
                self.set_doom(Doom::Panicked);
            }
        }
        None
    }

    /// Whether one more C function that calls back into Lua may nest.
    pub fn has_native_room(&self) -> bool {
        self.stack_base.get().saturating_sub(stack_address()) < NATIVE_STACK_BYTES_MAX
    }
}

/// Roughly the stack pointer; the stack grows downwards on every platform that LuaJIT knows.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0u8;
    std::hint::black_box(&raw const here).addr()
}

/// Lua's allocator, with a bound on what one interpreter holds.
///
/// # Safety
/// `ud` is the interpreter's [`Context`], which outlives the Lua state; `block` is null or came from here
/// with size `old_bytes`.
pub(crate) unsafe extern "C" fn allocate(
    ud: *mut c_void,
    block: *mut c_void,
    old_bytes: usize,
    new_bytes: usize,
) -> *mut c_void {
    // SAFETY: see above; sizes come from Lua and are below 2^47.
    unsafe {
        let Memory { used_bytes, limit_bytes, blocks } = &(*ud.cast::<Context>()).memory;
        let Some(block) = NonNull::new(block.cast::<u8>()).filter(|_| old_bytes != 0) else {
            let used_after = used_bytes.get() + new_bytes;
            if new_bytes == 0 || used_after > limit_bytes.get() {
                return ptr::null_mut();
            }
            let new = blocks.take(new_bytes);
            if !new.is_null() {
                used_bytes.set(used_after);
            }
            return new.cast();
        };
        let used_after = used_bytes.get() - old_bytes + new_bytes;
        if new_bytes == 0 {
            blocks.give_back(block, old_bytes);
            used_bytes.set(used_after);
            return ptr::null_mut();
        }
        if new_bytes > old_bytes && used_after > limit_bytes.get() {
            return ptr::null_mut();
        }
        let new = blocks.resize(block, old_bytes, new_bytes);
        if !new.is_null() {
            used_bytes.set(used_after);
        }
        new.cast()
    }
}
