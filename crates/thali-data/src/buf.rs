//! `Buf`: a growable byte buffer behind one thin pointer.
//!
//! A `Vec<u8>` handle takes 24 bytes; this one takes 8 and keeps length and capacity in front of the
//! bytes, so that a string value fits 16 bytes and a packed collection needs one allocation.
//!
//! ```text
//! [len: u32][class: u8][bytes, the first len of them initialised]
//! ```
//! The class is that of the allocator which the allocation fills, so it says the capacity in one byte.
//! An empty buffer that never held a byte owns no allocation. Lengths stop at 4 GiB less the header;
//! callers bound theirs far below (a string is at most 512 MB).
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

#[repr(C, packed)]
struct Head {
    len: u32,
    class: u8,
}

const HEAD_BYTES: usize = size_of::<Head>();
/// More than a head needs: [`crate::form`] marks a pointer in its lowest bit.
const ALIGN: usize = 8;

#[repr(transparent)]
pub struct Buf {
    /// `None`: empty, nothing allocated. Else the start of an allocation of its head's class, aligned to
    /// [`ALIGN`], that this value alone owns, beginning with an initialised `Head`.
    ptr: Option<NonNull<Head>>,
}

// SAFETY: a Buf owns its allocation alone and hands it out only by the usual borrow rules.
unsafe impl Send for Buf {}
// SAFETY: as above; `&Buf` gives read access only.
unsafe impl Sync for Buf {}

/// The first of the allocator's classes with room for so many bytes: 16 apart up to 128, then four to a
/// doubling. So growth uses what the allocator would give anyway and needs few reallocations.
fn class_for(bytes: usize) -> u8 {
    if bytes <= 128 {
        return bytes.div_ceil(16) as u8;
    }
    let doubling = (bytes - 1).ilog2() - 7;
    let quarter = ((bytes - 1) >> (doubling + 5)) as u32 % 4;
    (9 + 4 * doubling + quarter) as u8
}

/// What the allocator gives for so many bytes.
pub(crate) fn rounded_to_class(bytes: usize) -> usize {
    class_bytes(class_for(bytes))
}

/// How large an allocation of a class is.
fn class_bytes(class: u8) -> usize {
    match usize::from(class) {
        class @ 0..=8 => 16 * class,
        class => (5 + (class - 9) % 4) << ((class - 9) / 4 + 5),
    }
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
        self.ptr.map_or(0, |p| class_bytes(unsafe { p.as_ref().class }) - HEAD_BYTES)
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        if self.ptr.is_some() { HEAD_BYTES + self.capacity() } else { 0 }
    }

    /// Of an allocation of so many bytes.
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGN).expect("a class is below 5 GiB")
    }

    /// Makes room for `extra` more bytes, by size class only: appending callers that want more slack
    /// ask for it.
    pub fn reserve(&mut self, extra: usize) {
        let need = self.len().checked_add(extra).expect("buffer length overflow");
        if need > self.capacity() {
            self.set_class(class_for(HEAD_BYTES + need));
        }
    }

    /// Gives back the allocation's unused classes.
    pub fn shrink(&mut self) {
        let len = self.len();
        let fit = if len == 0 { 0 } else { class_for(HEAD_BYTES + len) };
        if class_bytes(fit) < self.memory_bytes() {
            self.set_class(fit);
        }
    }

    /// Class 0 is no allocation.
    fn set_class(&mut self, class: u8) {
        let (len, bytes) = (self.len(), class_bytes(class));
        assert!(len == 0 || HEAD_BYTES + len <= bytes, "the class has room for the bytes");
        assert!(bytes <= 1 << 32, "a buffer stays below 4 GiB");
        let new_layout = Self::layout(bytes);
        let raw = match self.ptr {
            // SAFETY: allocated with this layout; not used afterwards.
            Some(old) if class == 0 => unsafe {
                dealloc(old.as_ptr().cast(), Self::layout(class_bytes(old.as_ref().class)));
                self.ptr = None;
                return;
            },
            // SAFETY: allocated with the old layout; the new size is not zero.
            Some(old) => unsafe {
                let old_layout = Self::layout(class_bytes(old.as_ref().class));
                realloc(old.as_ptr().cast(), old_layout, bytes)
            },
            None if class == 0 => return,
            // SAFETY: the size of a class other than 0 is not zero.
            None => unsafe { alloc(new_layout) },
        };
        let Some(ptr) = NonNull::new(raw.cast::<Head>()) else { handle_alloc_error(new_layout) };
        // SAFETY: freshly (re)allocated for at least a head, aligned by the layout.
        unsafe { ptr.write(Head { len: len as u32, class }) };
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
        assert!(at <= len && remove <= len - at, "splice past the end");
        if insert > remove {
            self.reserve(insert - remove);
        }
        let Some(ptr) = self.ptr else { return &mut [] };
        // SAFETY: `at` and `at + remove` are at most `len`, and `reserve` left room for what the bytes behind
        // them become. What of the gap lies behind the old end is zeroed, so that all up to the new one is
        // initialised. The slice borrows self.
        unsafe {
            let gap = Self::data(ptr).add(at);
            std::ptr::copy(gap.add(remove), gap.add(insert), len - at - remove);
            if at + insert > len {
                std::ptr::write_bytes(Self::data(ptr).add(len), 0, at + insert - len);
            }
            self.set_len(len - remove + insert);
            std::slice::from_raw_parts_mut(gap, insert)
        }
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
            unsafe { dealloc(p.as_ptr().cast(), Self::layout(class_bytes(p.as_ref().class))) };
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
        let large = (20..32).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for n in (1..100_000usize).chain(large) {
            let class = class_for(n);
            let c = class_bytes(class);
            assert!(c >= n && c.is_multiple_of(16), "{n} -> {c}");
            assert!(class_bytes(class - 1) < n, "{n} -> {c}");
            assert!(n <= 128 || c - n < n / 4 + 16, "{n} -> {c}");
        }
        let classes: Vec<_> = (0..16).map(class_bytes).collect();
        assert_eq!(classes, [0, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448]);
    }

    #[test]
    fn a_buffer_costs_its_bytes_and_five() {
        assert_eq!(Buf::from_slice(&[1; 59]).memory_bytes(), 64);
        assert_eq!(Buf::from_slice(&[1; 60]).memory_bytes(), 80);
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
