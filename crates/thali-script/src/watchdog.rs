#![allow(unsafe_code)]
//! Stops scripts that run too long, at no cost to those that do not.
//!
//! A count hook that is always on costs a script 20 to 170%. So one thread watches all interpreters: a run
//! that lasts longer than the threshold gets a signal on its own thread, whose handler arms the hook there
//! (`lua_sethook` may be called from a signal handler; the VM sees the new dispatch table at its next
//! instruction). The hook then asks the host what to do. The signal repeats every tick until the run ends,
//! so an arming that fell into an update of the hook's mask is made good.
//!
//! SIGURG is the signal: its default is to be ignored, nobody else here uses it, and Go's runtime preempts
//! with it for the same reasons. Handlers are installed with SA_RESTART.
//!
//! A run announces itself with two atomic stores. While no script runs, the watchdog sleeps without ticking;
//! the first run wakes it.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::context::Doom;
use crate::host::Verdict;
use crate::lua::{self, HOOK_INSTRUCTIONS, Raise, Stack, lua_State};
use crate::state::note_place;

/// How often runs are looked at while there are any; also how much later than the threshold a run may be
/// interrupted.
const TICK: Duration = Duration::from_millis(20);

/// Ticks without any run after which the watchdog sleeps.
const IDLE_TICKS_MAX: u32 = 50;

thread_local! {
    /// The state that runs a script on this thread, for the signal handler. No destructor, so reading it in
    /// a handler is safe.
    static RUNNING: Cell<*mut lua_State> = const { Cell::new(ptr::null_mut()) };

    /// This thread's number: a system call, asked once.
    // SAFETY: always succeeds.
    static THREAD: libc::pid_t = unsafe { libc::gettid() };
}

/// Watches the runs of all interpreters of a process, on one thread of its own.
pub struct Watchdog {
    shared: Arc<Shared>,
}

struct Shared {
    /// Runs longer than this are interrupted; 0 is never.
    threshold_ms: AtomicU64,
    /// The thread sleeps until it is notified.
    asleep: AtomicBool,
    stopped: AtomicBool,
    watched: Mutex<Vec<Arc<Run>>>,
    wake: Condvar,
}

/// The state of one interpreter, as its watchdog sees it.
struct Run {
    /// Counts up when a run begins and when it ends: odd while a script runs.
    count: AtomicU64,
    /// The thread of the last run, by the kernel's number.
    thread: AtomicI32,
}

impl Watchdog {
    /// Starts the thread. `threshold` is Redis's `busy-reply-threshold`; zero lets scripts run for ever.
    pub fn start(threshold: Duration) -> std::io::Result<Arc<Self>> {
        install_handler();
        let shared = Arc::new(Shared {
            threshold_ms: AtomicU64::new(millis(threshold)),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            watched: Mutex::default(),
            wake: Condvar::new(),
        });
        let seen = Arc::clone(&shared);
        thread::Builder::new().name("script-watchdog".into()).spawn(move || seen.watch())?;
        Ok(Arc::new(Self { shared }))
    }

    /// Changes the threshold; a run in progress is measured against the new one.
    pub fn set_threshold(&self, threshold: Duration) {
        self.shared.threshold_ms.store(millis(threshold), Ordering::Relaxed);
    }

    pub(crate) fn watch(&self, l: *mut lua_State) -> Watch {
        let run = Arc::new(Run { count: AtomicU64::new(0), thread: AtomicI32::new(0) });
        self.shared.lock().push(Arc::clone(&run));
        Watch { l, run, shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.notify();
    }
}

fn millis(threshold: Duration) -> u64 {
    u64::try_from(threshold.as_millis()).unwrap_or(u64::MAX)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Run>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        let _held = self.lock();
        self.asleep.store(false, Ordering::SeqCst);
        self.wake.notify_all();
    }

    /// The thread's life.
    fn watch(&self) {
        let mut seen: Vec<(u64, Instant)> = Vec::new();
        let mut idle_ticks = 0;
        let mut watched = self.lock();
        while !self.stopped.load(Ordering::SeqCst) {
            if self.look(&watched, &mut seen) {
                idle_ticks = 0;
            } else {
                idle_ticks += 1;
            }
            if idle_ticks < IDLE_TICKS_MAX {
                drop(watched);
                thread::sleep(TICK);
                watched = self.lock();
                continue;
            }
            // First say that we sleep, then look once more: a run that begins either is seen or sees us.
            self.asleep.store(true, Ordering::SeqCst);
            if self.look(&watched, &mut seen) {
                self.asleep.store(false, Ordering::SeqCst);
            }
            while self.asleep.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
                watched = self.wake.wait(watched).unwrap_or_else(PoisonError::into_inner);
            }
            idle_ticks = 0;
        }
    }

    /// Interrupts what runs too long; says whether anything ran since the last look.
    fn look(&self, watched: &[Arc<Run>], seen: &mut Vec<(u64, Instant)>) -> bool {
        let now = Instant::now();
        let threshold_ms = self.threshold_ms.load(Ordering::Relaxed);
        seen.resize(watched.len(), (0, now));
        let mut any = false;
        for (run, (count, since)) in watched.iter().zip(seen) {
            let current = run.count.load(Ordering::SeqCst);
            any |= current % 2 == 1 || current != *count;
            if current != *count {
                (*count, *since) = (current, now);
            } else if current % 2 == 1 && threshold_ms > 0 && millis(now - *since) >= threshold_ms {
                interrupt(run.thread.load(Ordering::SeqCst));
            }
        }
        any
    }
}

/// One interpreter's registration. Goes with it from thread to thread.
pub(crate) struct Watch {
    l: *mut lua_State,
    run: Arc<Run>,
    shared: Arc<Shared>,
}

// SAFETY: the state moves with its interpreter (see `State`); what else there is may be shared.
unsafe impl Send for Watch {}

/// A run in progress; ends when dropped.
pub(crate) struct Watched<'a>(&'a Watch);

/// A run whose host is asked from its start on; ends when dropped.
pub(crate) struct Supervised<'a>(&'a Watch);

impl Watch {
    pub fn begin(&self) -> Watched<'_> {
        self.run.thread.store(THREAD.with(|thread| *thread), Ordering::SeqCst);
        RUNNING.set(self.l);
        compiler_fence(Ordering::SeqCst);
        self.run.count.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.notify();
        }
        Watched(self)
    }

    /// For runs with a bound of their own, instead of [`Watch::begin`].
    pub fn supervise(&self) -> Supervised<'_> {
        // SAFETY: the thread that has the state, outside of any run.
        unsafe { lua::set_hook(self.l, lua::hook, HOOK_INSTRUCTIONS) };
        Supervised(self)
    }
}

impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        // SAFETY: the state is alive.
        unsafe { lua::disarm(self.0.l) };
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.run.count.fetch_add(1, Ordering::SeqCst);
        RUNNING.set(ptr::null_mut());
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the state is alive, and from here on no handler touches it.
        unsafe { lua::disarm(self.0.l) };
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().retain(|run| !Arc::ptr_eq(run, &self.run));
    }
}

/// Sends the signal. By numbers, since the run may have ended meanwhile, and its thread with it: a number that is free
/// is refused by the kernel, and a thread of this process that has it now runs no script, or has its host asked early.
fn interrupt(thread: libc::pid_t) {
    // SAFETY: three numbers, no memory.
    unsafe {
        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG);
    }
}

fn install_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: a zeroed sigaction is valid; the handler does only what signal handlers may.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGURG, &action, ptr::null_mut());
        }
    });
}

extern "C" fn on_signal(_signal: libc::c_int) {
    let l = RUNNING.get();
    if !l.is_null() {
        // SAFETY: this thread runs the state right now; LuaJIT allows this call in signal handlers.
        unsafe { lua::set_hook(l, lua::hook, HOOK_INSTRUCTIONS) };
    }
}

/// At a hook's event: asks the host, and dooms the run if it says so.
pub(crate) fn on_hook(stack: Stack<'_>) -> Result<(), Raise> {
    let context = stack.context();
    if context.doom().is_none() {
        match context.host(|host| Ok(host.busy())) {
            Some(Verdict::Continue) => return Ok(()),
            Some(Verdict::Kill) => context.set_doom(Doom::Killed),
            Some(Verdict::Abort) => context.set_doom(Doom::Aborted),
            None => {}
        }
    }
    note_place(stack);
    Err(doom(stack))
}

/// Makes every further instruction of a doomed run raise, so that nothing the script catches keeps it alive.
pub(crate) fn doom(stack: Stack<'_>) -> Raise {
    // SAFETY: the running thread's own state.
    unsafe { lua::set_hook(stack.raw(), lua::hook, 1) };
    Raise::Doomed
}
