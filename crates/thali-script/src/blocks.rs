#![allow(unsafe_code)]
//! Small blocks of one Lua state. A script makes and drops hundreds of small objects, and the collector gives them back
//! in bursts, which the process's allocator passes on between its thread's cache and its arenas. So some are kept here,
//! in a list for each size.
//!
//! Each block comes from the process's allocator by itself, and what is beyond [`KEPT_BYTES_MAX`] goes back to it:
//! a script that filled the state leaves nothing behind.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Lua objects want the alignment of C's malloc; sizes are rounded up to it.
const ALIGNMENT: usize = 16;

/// Larger blocks are the process's allocator's alone.
const SMALL_BYTES_MAX: usize = 512;

/// What is kept at most: a collector's cycle of BullMQ's scripts gives back about half of it.
const KEPT_BYTES_MAX: usize = 1 << 20;

const SIZES: usize = SMALL_BYTES_MAX / ALIGNMENT;

/// A kept block holds the next one of its size.
type Kept = Option<NonNull<Next>>;

struct Next(Kept);

#[derive(Default)]
pub(crate) struct Blocks {
    kept: [Cell<Kept>; SIZES],
    kept_bytes: Cell<usize>,
}

/// The list of a small size; its blocks are `(at + 1) * ALIGNMENT` bytes long.
fn list_of(bytes: usize) -> Option<usize> {
    let at = bytes.wrapping_sub(1) / ALIGNMENT;
    (at < SIZES).then_some(at)
}

/// # Safety
/// `bytes` is below 2^63.
unsafe fn layout(bytes: usize) -> Layout {
    let bytes = list_of(bytes).map_or(bytes, |at| (at + 1) * ALIGNMENT);
    // SAFETY: the caller's.
    unsafe { Layout::from_size_align_unchecked(bytes, ALIGNMENT) }
}

impl Blocks {
    /// A block of at least `bytes`, or null.
    ///
    /// # Safety
    /// `bytes` is neither 0 nor beyond 2^47.
    pub unsafe fn take(&self, bytes: usize) -> *mut u8 {
        if let Some(at) = list_of(bytes)
            && let Some(block) = self.kept[at].get()
        {
            // SAFETY: what is in the list is a block of this size that nobody else refers to.
            self.kept[at].set(unsafe { block.read() }.0);
            self.kept_bytes.set(self.kept_bytes.get() - (at + 1) * ALIGNMENT);
            return block.as_ptr().cast();
        }
        // SAFETY: the caller's.
        unsafe { alloc(layout(bytes)) }
    }

    /// # Safety
    /// `block` came from here with `bytes` and is not used any more.
    pub unsafe fn give_back(&self, block: NonNull<u8>, bytes: usize) {
        let kept_bytes = self.kept_bytes.get();
        // SAFETY: the caller's; a small block has room for a pointer, and its alignment.
        unsafe {
            match list_of(bytes) {
                Some(at) if kept_bytes < KEPT_BYTES_MAX => {
                    let next = block.cast::<Next>();
                    next.write(Next(self.kept[at].replace(Some(next))));
                    self.kept_bytes.set(kept_bytes + (at + 1) * ALIGNMENT);
                }
                _ => dealloc(block.as_ptr(), layout(bytes)),
            }
        }
    }

    /// The block with another size, moved if need be; null, and the block as it was, where there is no memory.
    ///
    /// # Safety
    /// `block` came from here with `old_bytes`; `new_bytes` as for [`Blocks::take`].
    pub unsafe fn resize(&self, block: NonNull<u8>, old_bytes: usize, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller's; both blocks are as long as the shorter size.
        unsafe {
            let (old, new) = (list_of(old_bytes), list_of(new_bytes));
            if old.is_none() && new.is_none() {
                return realloc(block.as_ptr(), layout(old_bytes), new_bytes);
            }
            if old == new {
                return block.as_ptr();
            }
            let moved = self.take(new_bytes);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block.as_ptr(), moved, old_bytes.min(new_bytes));
                self.give_back(block, old_bytes);
            }
            moved
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for (at, list) in self.kept.iter().enumerate() {
            while let Some(block) = list.get() {
                // SAFETY: as in `take` and `give_back`.
                unsafe {
                    list.set(block.read().0);
                    dealloc(block.as_ptr().cast(), layout((at + 1) * ALIGNMENT));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(blocks: &Blocks, bytes: usize, filled_with: u8) -> NonNull<u8> {
        // SAFETY: the sizes of the tests are none of the forbidden ones, and a block is as long as was asked.
        unsafe {
            let block = NonNull::new(blocks.take(bytes)).unwrap();
            block.write_bytes(filled_with, bytes);
            block
        }
    }

    /// # Safety
    /// As [`Blocks::give_back`].
    unsafe fn check_and_give_back(blocks: &Blocks, block: NonNull<u8>, bytes: usize, filled_with: u8) {
        // SAFETY: the caller's.
        unsafe {
            let all = std::slice::from_raw_parts(block.as_ptr(), bytes);
            assert!(all.iter().all(|byte| *byte == filled_with), "{bytes} bytes");
            blocks.give_back(block, bytes);
        }
    }

    #[test]
    fn a_block_that_came_back_is_the_next_of_its_size() {
        let blocks = Blocks::default();
        let first = take(&blocks, 17, 1);
        // SAFETY: given back once, with its size.
        unsafe { blocks.give_back(first, 17) };
        assert_eq!(blocks.kept_bytes.get(), 32);
        let other = take(&blocks, 16, 2);
        let again = take(&blocks, 32, 3);
        assert!(again == first && other != first);
        assert_eq!(blocks.kept_bytes.get(), 0);
        // SAFETY: as above.
        unsafe {
            check_and_give_back(&blocks, other, 16, 2);
            check_and_give_back(&blocks, again, 32, 3);
        }
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let blocks = Blocks::default();
        let taken: Vec<_> = (0..10_000).map(|at| take(&blocks, 500, at as u8)).collect();
        for (at, block) in taken.into_iter().enumerate() {
            // SAFETY: given back once, with its size.
            unsafe { check_and_give_back(&blocks, block, 500, at as u8) };
        }
        let kept_bytes = blocks.kept_bytes.get();
        assert!((KEPT_BYTES_MAX..KEPT_BYTES_MAX + SMALL_BYTES_MAX).contains(&kept_bytes), "{kept_bytes}");
    }

    #[test]
    fn what_a_block_holds_goes_along_with_it() {
        let blocks = Blocks::default();
        let sizes = [1, 16, 17, 512, 513, 5_000, 600, 512, 40, 33, 3];
        let mut block = take(&blocks, sizes[0], 7);
        for pair in sizes.windows(2) {
            // SAFETY: the block is the one of the size before.
            unsafe {
                block = NonNull::new(blocks.resize(block, pair[0], pair[1])).unwrap();
                let kept = std::slice::from_raw_parts(block.as_ptr(), pair[0].min(pair[1]));
                assert!(kept.iter().all(|byte| *byte == 7), "{pair:?}");
                block.write_bytes(7, pair[1]);
            }
        }
        // SAFETY: given back once, with its size.
        unsafe { check_and_give_back(&blocks, block, sizes[sizes.len() - 1], 7) };
    }
}
