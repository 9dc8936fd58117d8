//! `Buf`: a growable byte buffer behind one thin pointer.
//!
//! A `Vec<u8>` handle takes 24 bytes; this one takes 8 and keeps length and capacity in front of the
//! bytes, so that a string value fits 16 bytes and a packed collection needs one allocation.
//!
//! ```text
//! [len: u32][cap: u32][cap bytes, the first len of them initialised]
//! ```
//! An empty buffer that never held a byte owns no allocation. Lengths stop at 4 GiB less the header;
//! callers bound theirs far below (a string is at most 512 MB).
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

#[repr(C)]
struct Head {
    len: u32,
    cap: u32,
}

const HEAD_BYTES: usize = size_of::<Head>();

pub struct Buf {
    /// `None`: empty, nothing allocated. Else the start of an allocation of `HEAD_BYTES + cap` bytes
    /// that this value alone owns, beginning with an initialised `Head`.
    ptr: Option<NonNull<Head>>,
}

// SAFETY: a Buf owns its allocation alone and hands it out only by the usual borrow rules.
unsafe impl Send for Buf {}
// SAFETY: as above; `&Buf` gives read access only.
unsafe impl Sync for Buf {}

/// Rounds an allocation up to the allocator's next class (four to a doubling), so that growth uses
/// what the allocator would give anyway and needs few reallocations.
pub(crate) fn class_bytes(bytes: usize) -> usize {
    if bytes <= 128 {
        return bytes.next_multiple_of(16);
    }
    let step = (bytes - 1).next_power_of_two() / 8;
    let step = if (bytes - 1).is_power_of_two() { step * 2 } else { step };
    bytes.next_multiple_of(step.max(16))
}

impl Buf {
    pub const fn new() -> Self {
        Buf { ptr: None }
    }

    /// A copy of `bytes` in an allocation of just its size class.
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut buf = Buf::new();
        buf.extend_from_slice(bytes);
        buf
    }

    pub fn with_capacity(cap: usize) -> Self {
        let mut buf = Buf::new();
        buf.reserve(cap);
        buf
    }

    pub fn len(&self) -> usize {
        // SAFETY: a present pointer leads to an initialised head.
        self.ptr.map_or(0, |p| unsafe { p.as_ref().len as usize })
    }

    pub fn capacity(&self) -> usize {
        // SAFETY: as in `len`.
        self.ptr.map_or(0, |p| unsafe { p.as_ref().cap as usize })
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        if self.ptr.is_some() { HEAD_BYTES + self.capacity() } else { 0 }
    }

    fn layout(cap: usize) -> Layout {
        Layout::from_size_align(HEAD_BYTES + cap, align_of::<Head>()).expect("capacity is below 4 GiB")
    }

    /// Makes room for `extra` more bytes, by size class only: appending callers that want more slack
    /// ask for it.
    pub fn reserve(&mut self, extra: usize) {
        let need = self.len().checked_add(extra).expect("buffer length overflow");
        if need > self.capacity() {
            self.set_capacity(class_bytes(HEAD_BYTES + need) - HEAD_BYTES);
        }
    }

    /// Gives back the allocation's unused classes.
    pub fn shrink(&mut self) {
        let len = self.len();
        let fit = if len == 0 { 0 } else { class_bytes(HEAD_BYTES + len) - HEAD_BYTES };
        if fit < self.capacity() {
            self.set_capacity(fit);
        }
    }

    fn set_capacity(&mut self, cap: usize) {
        let len = self.len();
        assert!(len <= cap && cap <= u32::MAX as usize - HEAD_BYTES, "a buffer stays below 4 GiB");
        let new_layout = Self::layout(cap);
        let raw = match self.ptr {
            // SAFETY: allocated with this layout; not used afterwards.
            Some(old) if cap == 0 => unsafe {
                dealloc(old.as_ptr().cast(), Self::layout(old.as_ref().cap as usize));
                self.ptr = None;
                return;
            },
            // SAFETY: allocated with the old layout; the new size is not zero.
            Some(old) => unsafe {
                let old_layout = Self::layout(old.as_ref().cap as usize);
                realloc(old.as_ptr().cast(), old_layout, new_layout.size())
            },
            // SAFETY: the size is at least HEAD_BYTES.
            None => unsafe { alloc(new_layout) },
        };
        let Some(ptr) = NonNull::new(raw.cast::<Head>()) else { handle_alloc_error(new_layout) };
        // SAFETY: freshly (re)allocated for at least a head, aligned by the layout.
        unsafe { ptr.write(Head { len: len as u32, cap: cap as u32 }) };
        self.ptr = Some(ptr);
    }

    fn data(ptr: NonNull<Head>) -> *mut u8 {
        // SAFETY: the allocation reaches at least to the end of the head.
        unsafe { ptr.as_ptr().cast::<u8>().add(HEAD_BYTES) }
    }

    /// INVARIANT of the callers: the first `len` bytes are initialised and `len <= capacity`.
    fn set_len(&mut self, len: usize) {
        if let Some(mut p) = self.ptr {
            // SAFETY: initialised head, exclusively borrowed.
            unsafe { p.as_mut().len = len as u32 };
        }
    }

    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let len = self.len();
        self.reserve(bytes.len());
        let ptr = self.ptr.expect("reserved above");
        // SAFETY: `reserve` left room for these bytes after `len`; the borrow of `bytes` cannot
        // overlap an exclusively borrowed buffer.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), Self::data(ptr).add(len), bytes.len()) };
        self.set_len(len + bytes.len());
    }

    /// Replaces the `remove` bytes at `at` by a gap of `insert` bytes, which the caller fills: they
    /// hold old content or zeroes.
    pub fn splice(&mut self, at: usize, remove: usize, insert: usize) -> &mut [u8] {
        let len = self.len();
        assert!(at + remove <= len, "splice past the end");
        if insert > remove {
            self.resize(len + insert - remove);
        }
        self.copy_within(at + remove..len, at + insert);
        if insert < remove {
            self.set_len(len + insert - remove);
        }
        &mut self[at..at + insert]
    }

    /// Grows with zeroes or cuts.
    pub fn resize(&mut self, new_len: usize) {
        let len = self.len();
        if new_len > len {
            self.reserve(new_len - len);
            let ptr = self.ptr.expect("reserved above");
            // SAFETY: `reserve` left room up to `new_len`.
            unsafe { std::ptr::write_bytes(Self::data(ptr).add(len), 0, new_len - len) };
        }
        self.set_len(new_len);
    }

    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.set_len(len);
        }
    }
}

impl Deref for Buf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self.ptr {
            // SAFETY: `len` bytes after the head are initialised and live as long as `self`.
            Some(p) => unsafe { std::slice::from_raw_parts(Self::data(p), p.as_ref().len as usize) },
            None => &[],
        }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.ptr {
            // SAFETY: as in `deref`, and the borrow is exclusive.
            Some(p) => unsafe { std::slice::from_raw_parts_mut(Self::data(p), p.as_ref().len as usize) },
            None => &mut [],
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some(p) = self.ptr {
            // SAFETY: allocated with this layout and never used again.
            unsafe { dealloc(p.as_ptr().cast(), Self::layout(p.as_ref().cap as usize)) };
        }
    }
}

impl Default for Buf {
    fn default() -> Self {
        Buf::new()
    }
}

impl Clone for Buf {
    fn clone(&self) -> Self {
        Buf::from_slice(self)
    }
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn class_never_undershoots_and_wastes_at_most_a_quarter() {
        for n in 1..100_000usize {
            let c = class_bytes(n);
            assert!(c >= n && c.is_multiple_of(16), "{n} -> {c}");
            assert!(n <= 128 || c - n < n / 4 + 16, "{n} -> {c}");
        }
    }

    #[test]
    fn empty_buffer_owns_nothing() {
        let mut b = Buf::new();
        assert_eq!((b.len(), b.memory_bytes()), (0, 0));
        b.extend_from_slice(b"abc");
        b.truncate(0);
        b.shrink();
        assert_eq!(b.memory_bytes(), 0);
    }

    proptest! {
        #[test]
        fn splice_acts_as_on_a_vec(ops in prop::collection::vec((0usize..100, 0usize..20, prop::collection::vec(any::<u8>(), 0..40)), 0..40)) {
            let mut model: Vec<u8> = Vec::new();
            let mut buf = Buf::new();
            for (at, remove, new) in ops {
                let at = at.min(model.len());
                let remove = remove.min(model.len() - at);
                model.splice(at..at + remove, new.iter().copied());
                buf.splice(at, remove, new.len()).copy_from_slice(&new);
                prop_assert_eq!(&buf[..], &model[..]);
                prop_assert_eq!(&buf.clone()[..], &model[..]);
            }
        }
    }
}
