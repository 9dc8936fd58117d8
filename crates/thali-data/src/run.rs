//! Runs: bytes behind their length, as keys and the tails of values stand in an entry of a table.
//!
//! ```text
//! [length: u8, or 255 and a u32 LE][bytes]
//! ```
#![allow(unsafe_code)]

use std::ptr::NonNull;

use crate::prefetch::prefetch_two;

/// Marks a run whose length stands in the four bytes behind the mark.
const LONG: u8 = u8::MAX;

/// What a run of `len` bytes takes.
pub(crate) fn size_of_run(len: usize) -> usize {
    len + if len < LONG as usize { 1 } else { 5 }
}

/// # Safety
/// `at` must lead to [`size_of_run`] writable bytes that `bytes` is no part of, and `bytes` be below 4 GiB.
pub(crate) unsafe fn write(at: NonNull<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= u32::MAX as usize, "a run is below 4 GiB");
    // SAFETY: length and bytes lie within what the caller promises; none of it needs an alignment.
    unsafe {
        let bytes_at = if bytes.len() < LONG as usize {
            at.write(bytes.len() as u8);
            at.add(1)
        } else {
            at.write(LONG);
            at.add(1).cast::<[u8; 4]>().write((bytes.len() as u32).to_le_bytes());
            at.add(5)
        };
        bytes_at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
    }
}

/// # Safety
/// `at` must lead to a run that nobody writes to or frees during `'a`.
pub(crate) unsafe fn read<'a>(at: NonNull<u8>) -> &'a [u8] {
    // SAFETY: the length says how many bytes follow it.
    unsafe {
        match at.read() {
            LONG => {
                let len = u32::from_le_bytes(at.add(1).cast::<[u8; 4]>().read());
                std::slice::from_raw_parts(at.add(5).as_ptr(), len as usize)
            }
            len => std::slice::from_raw_parts(at.add(1).as_ptr(), len as usize),
        }
    }
}

/// A run that stands beside what holds this: a string's bytes behind their key.
///
/// INVARIANT: it leads to a run in the allocation of the table's entry in which it stands itself. Entries alone make
/// one, show it by shared reference alone, and take it out before they change or free that run. It is no `Clone`.
pub(crate) struct Beside(NonNull<u8>);

// SAFETY: goes wherever its entry goes, which owns the run.
unsafe impl Send for Beside {}
// SAFETY: shared access reads alone.
unsafe impl Sync for Beside {}

impl Beside {
    /// # Safety
    /// The invariant.
    pub unsafe fn new(run: NonNull<u8>) -> Self {
        Self(run)
    }

    /// Asks for the bytes.
    pub fn touch(&self) {
        prefetch_two(self.0.as_ptr());
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: by the invariant a run that stays as it is while this is borrowed.
        unsafe { read(self.0) }
    }
}
