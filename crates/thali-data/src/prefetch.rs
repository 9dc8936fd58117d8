//! Asking for memory that is about to be read.
#![allow(unsafe_code)]

/// Asks for the cache line at an address and waits for nothing. A read instead of it would hold up all that comes
/// behind it once the processor's window of instructions is full, which is after five or six keys of a batch.
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has it; it reads nothing and faults at no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

const LINE_BYTES: usize = 64;

/// Asks for all lines of a value.
pub(crate) fn prefetch_all<T>(value: &T) {
    let at = std::ptr::from_ref(value);
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        prefetch(at.wrapping_byte_add(offset));
    }
}

/// Asks for the first two lines from an address on: most of what a table's entry or a value's end takes.
pub(crate) fn prefetch_two<T>(at: *const T) {
    prefetch(at);
    prefetch(at.wrapping_byte_add(LINE_BYTES));
}
