//! `Counted`: a run of elements with their number in front, behind one thin pointer.
//!
//! ```text
//! [count: u16 LE][elements]
//! ```
//! What an element is, its owner knows. The base of small collections, which are rarely larger than a few
//! hundred bytes: hence two bytes for the number. Where there are more elements than these can say, the owner
//! walks over them.

use crate::buf::Buf;

const COUNT_BYTES: usize = size_of::<u16>();
/// So many elements, or more.
const MANY: usize = u16::MAX as usize;

/// INVARIANT: the buffer is empty, and then so is the run, or begins with the count.
#[derive(Clone, Default)]
#[repr(transparent)]
pub(crate) struct Counted {
    buf: Buf,
}

impl Counted {
    pub const fn new() -> Self {
        Counted { buf: Buf::new() }
    }

    pub fn with_capacity(bytes: usize) -> Self {
        Counted { buf: Buf::with_capacity(COUNT_BYTES + bytes) }
    }

    /// A copy of `elements`, of which there are `count`.
    pub fn of(count: usize, elements: &[u8]) -> Self {
        let mut run = Self::with_capacity(elements.len());
        run.append(elements);
        run.set_count(count);
        run
    }

    /// How many elements there are; `None` where only a walk can tell.
    pub fn count(&self) -> Option<usize> {
        let stored = self.buf.first_chunk().map_or(0, |count| u16::from_le_bytes(*count).into());
        (stored < MANY).then_some(stored)
    }

    pub fn set_count(&mut self, count: usize) {
        if let Some(stored) = self.buf.first_chunk_mut() {
            *stored = (count.min(MANY) as u16).to_le_bytes();
        }
    }

    /// The elements' bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buf.get(COUNT_BYTES..).unwrap_or(&[])
    }

    /// As [`Buf::splice`], within the elements.
    pub fn splice(&mut self, at: usize, remove: usize, insert: usize) -> &mut [u8] {
        if self.buf.is_empty() {
            // A new gap is zeroes, and so is the count.
            return &mut self.buf.splice(0, 0, COUNT_BYTES + insert)[COUNT_BYTES..];
        }
        self.buf.splice(COUNT_BYTES + at, remove, insert)
    }

    pub fn append(&mut self, elements: &[u8]) {
        if self.buf.is_empty() {
            self.buf.resize(COUNT_BYTES);
        }
        self.buf.extend_from_slice(elements);
    }

    /// Cuts behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(COUNT_BYTES + len);
    }

    /// Frees room once three quarters of it are unused.
    pub fn give_back(&mut self) {
        if self.buf.capacity() > 64 && self.buf.len() < self.buf.capacity() / 4 {
            self.buf.shrink();
        }
    }

    /// Frees all unused room.
    pub fn shrink(&mut self) {
        self.buf.shrink();
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        self.buf.memory_bytes()
    }
}
