//! How loops and threads talk to a loop: a queue and a waker.

#[cfg(feature = "shuttle")]
use shuttle::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(feature = "shuttle"))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::Mutex;

/// Makes a loop look at its mail, where it waits for events or is about to.
pub trait Wake {
    /// Not lost: a loop that begins to wait afterwards does not wait.
    fn wake(&self);
}

/// One loop's queue. How long it may grow is up to who sends.
#[derive(Debug)]
pub struct Mailbox<M, W> {
    queue: Mutex<Vec<M>>,
    waker: W,
    /// A wake-up is under way: no need for a second system call.
    woken: AtomicBool,
    /// The loop wants to be told when something else gets further.
    is_asking: AtomicBool,
}

impl<M, W: Wake> Mailbox<M, W> {
    pub fn new(waker: W) -> Self {
        Self {
            queue: Mutex::default(),
            waker,
            woken: AtomicBool::new(false),
            is_asking: AtomicBool::new(false),
        }
    }

    /// Queues a message and wakes the loop.
    pub fn send(&self, message: M) {
        self.queue.lock().push(message);
        self.wake();
    }

    /// Wakes the loop.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// The mailbox's own waker.
    pub fn waker(&self) -> &W {
        &self.waker
    }

    /// Asks, once, for the message of [`Mailbox::tell`]. To be followed by another look at what is waited for: what
    /// happened before this call was told to nobody.
    pub fn ask(&self) {
        self.is_asking.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Sends a message if the loop has asked. To be called when that which it waits for has happened.
    pub fn tell(&self, message: impl FnOnce() -> M) {
        fence(Ordering::SeqCst);
        if self.is_asking.load(Ordering::SeqCst) && self.is_asking.swap(false, Ordering::SeqCst) {
            self.send(message());
        }
    }

    /// Whether something has come that the loop has not taken. True for all that was sent before this call.
    pub fn has_mail(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Takes what has come, into an empty `into`.
    pub fn take(&self, into: &mut Vec<M>) {
        self.woken.store(false, Ordering::Release);
        std::mem::swap(&mut *self.queue.lock(), into);
    }
}
