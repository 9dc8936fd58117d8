//! An allocator that knows at any moment how much it has handed out, for `maxmemory` and INFO.
//!
//! The allocator's own statistics are gathered on request, from every arena and with locks; what decides whether a
//! write is let in must cost next to nothing. So each thread counts for itself, on a cache line of its own and
//! without a locked instruction, and who wants to know adds up.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Threads that count for themselves, in the order in which they first allocate; all others share the last place.
const COUNTS_LEN: usize = 64;
const SHARED: usize = COUNTS_LEN - 1;

/// Bytes that a thread has taken less those that it gave back, which others may have taken: the sum counts alone.
#[repr(align(128))]
struct Count(AtomicUsize);

static COUNTS: [Count; COUNTS_LEN] = [const { Count(AtomicUsize::new(0)) }; COUNTS_LEN];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's place and 1; 0: it has none yet.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// Bytes in use, as the allocator rounds them. Zero where another allocator is in use.
pub(crate) fn used_bytes() -> usize {
    let counts = &COUNTS[..THREADS.load(Relaxed).min(COUNTS_LEN)];
    // While others allocate, the sum may pass below zero.
    let sum = counts.iter().fold(0usize, |sum, Count(bytes)| sum.wrapping_add(bytes.load(Relaxed)));
    usize::try_from(sum as isize).unwrap_or(0)
}

/// What `run` gives back, in bytes, less what it takes; 0 where it takes more. Beyond [`COUNTS_LEN`] threads what
/// others do meanwhile counts, too.
pub(crate) fn freed_by<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let Count(count) = &COUNTS[own_place()];
    let before = count.load(Relaxed);
    let result = run();
    let freed = before.wrapping_sub(count.load(Relaxed)) as isize;
    (result, usize::try_from(freed).unwrap_or(0))
}

fn own_place() -> usize {
    OWN.with(|own| match own.get() {
        0 => {
            let at = THREADS.fetch_add(1, Relaxed).min(SHARED);
            own.set(at + 1);
            at
        }
        taken => taken - 1,
    })
}

fn add(bytes: usize) {
    let at = own_place();
    let Count(count) = &COUNTS[at];
    if at == SHARED {
        count.fetch_add(bytes, Relaxed);
    } else {
        // No other writer: a load and a store cost less than a locked addition.
        count.store(count.load(Relaxed).wrapping_add(bytes), Relaxed);
    }
}

/// What an allocation takes: jemalloc's classes, four to a doubling, and steps of 16 bytes up to 128.
fn class_bytes(bytes: usize) -> usize {
    match bytes {
        0..=8 => 8,
        9..=128 => (bytes + 15) & !15,
        _ => {
            let step = (1 << (usize::BITS - 1 - (bytes - 1).leading_zeros())) / 4;
            (bytes + step - 1) & !(step - 1)
        }
    }
}

/// Counts what `A` hands out.
pub struct Counting<A>(pub A);

// SAFETY: every call goes to `A` as it came, and its answer is handed on as it is. Counting allocates nothing: the
// counts are static, and the thread's place is made with the thread and has no destructor.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `A` asks for.
        let given = unsafe { self.0.alloc(layout) };
        if !given.is_null() {
            add(class_bytes(layout.size()));
        }
        given
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let given = unsafe { self.0.alloc_zeroed(layout) };
        if !given.is_null() {
            add(class_bytes(layout.size()));
        }
        given
    }

    unsafe fn dealloc(&self, given: *mut u8, layout: Layout) {
        add(class_bytes(layout.size()).wrapping_neg());
        // SAFETY: as above.
        unsafe { self.0.dealloc(given, layout) };
    }

    unsafe fn realloc(&self, given: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { self.0.realloc(given, layout, size) };
        if !moved.is_null() {
            add(class_bytes(size).wrapping_sub(class_bytes(layout.size())));
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_jemalloc() {
        for (bytes, class) in [
            (1, 8),
            (8, 8),
            (9, 16),
            (49, 64),
            (128, 128),
            (129, 160),
            (160, 160),
            (256, 256),
            (257, 320),
            (449, 512),
            (513, 640),
            (100_001, 114_688),
            (1 << 20, 1 << 20),
        ] {
            assert_eq!(class_bytes(bytes), class, "{bytes}");
        }
    }
}
