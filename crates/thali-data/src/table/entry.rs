//! One entry of a table: value, note and key in a single allocation behind a thin pointer.
//!
//! ```text
//! [value: V][note: N][key length: u8, or 255 and a u32 LE][key]
//! ```
//! The address never changes while the entry lives; growth of the table moves only the pointer. A note is a
//! few bytes without alignment, so that none are lost between value and key, and changes while the value is
//! borrowed.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Marks a key whose length stands in the four bytes behind the mark.
const LONG_KEY: u8 = u8::MAX;

/// INVARIANT: owns the allocation at `ptr`, which holds an initialised `V`, `N` and key as drawn above.
pub(super) struct Entry<V, N: Copy> {
    ptr: NonNull<u8>,
    owns: PhantomData<(V, Cell<N>)>,
}

// SAFETY: an Entry owns its value and note alone, as a Box<(V, Cell<N>)> would.
unsafe impl<V: Send, N: Copy + Send> Send for Entry<V, N> {}
// SAFETY: shared access reaches the value only as `&V`, and there is no note that could change.
unsafe impl<V: Sync> Sync for Entry<V, ()> {}

fn len_bytes(key_len: usize) -> usize {
    if key_len < LONG_KEY as usize { 1 } else { 5 }
}

impl<V, N: Copy> Entry<V, N> {
    const NOTE_AT: usize = size_of::<V>();
    const KEY_LEN_AT: usize = {
        assert!(align_of::<N>() == 1, "a note stands at any address");
        Self::NOTE_AT + size_of::<N>()
    };

    fn layout(key_len: usize) -> Layout {
        let size = Self::KEY_LEN_AT + len_bytes(key_len) + key_len;
        Layout::from_size_align(size, align_of::<V>()).expect("a key is below 4 GiB")
    }

    pub fn new(key: &[u8], value: V, note: N) -> Self {
        assert!(key.len() <= u32::MAX as usize, "a key is below 4 GiB");
        let layout = Self::layout(key.len());
        // SAFETY: the layout has at least the length byte, so its size is not zero.
        let raw = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        // SAFETY: the allocation is aligned for V and has room for V, N, the length and the key in this
        // order, N needs no alignment, and nothing else refers to it yet.
        unsafe {
            ptr.cast::<V>().write(value);
            ptr.add(Self::NOTE_AT).cast::<N>().write(note);
            let mut at = ptr.as_ptr().add(Self::KEY_LEN_AT);
            if key.len() < LONG_KEY as usize {
                at.write(key.len() as u8);
                at = at.add(1);
            } else {
                at.write(LONG_KEY);
                at.add(1).cast::<[u8; 4]>().write((key.len() as u32).to_le_bytes());
                at = at.add(5);
            }
            std::ptr::copy_nonoverlapping(key.as_ptr(), at, key.len());
        }
        Entry { ptr, owns: PhantomData }
    }

    pub fn key(&self) -> &[u8] {
        // SAFETY: by the invariant the length and that many key bytes follow value and note.
        unsafe {
            let at = self.ptr.as_ptr().add(Self::KEY_LEN_AT);
            match at.read() {
                LONG_KEY => {
                    let len = u32::from_le_bytes(at.add(1).cast::<[u8; 4]>().read());
                    std::slice::from_raw_parts(at.add(5), len as usize)
                }
                len => std::slice::from_raw_parts(at.add(1), len as usize),
            }
        }
    }

    /// Brings the key into the cache.
    pub fn touch(&self) {
        std::hint::black_box(self.key().len());
    }

    pub fn value(&self) -> &V {
        // SAFETY: by the invariant an initialised V, borrowed with self.
        unsafe { self.ptr.cast::<V>().as_ref() }
    }

    pub fn value_mut(&mut self) -> &mut V {
        // SAFETY: as in `value`, exclusively.
        unsafe { self.ptr.cast::<V>().as_mut() }
    }

    pub fn note(&self) -> &Cell<N> {
        // SAFETY: by the invariant an initialised N, which a Cell of it has the layout of; it is never
        // borrowed otherwise.
        unsafe { self.ptr.add(Self::NOTE_AT).cast::<Cell<N>>().as_ref() }
    }

    /// Key, value and note at once; key and note stay shared.
    pub fn parts_mut(&mut self) -> (&[u8], &mut V, &Cell<N>) {
        let (key, note): (*const [u8], *const Cell<N>) = (self.key(), self.note());
        // SAFETY: these are disjoint parts of the allocation; all borrows end with self's.
        unsafe { (&*key, self.ptr.cast::<V>().as_mut(), &*note) }
    }

    pub fn into_parts(self) -> (V, N) {
        let note = self.note().get();
        let layout = Self::layout(self.key().len());
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: the value is moved out once, and `this` is not dropped, so the allocation is freed
        // exactly here with the layout it was made with.
        unsafe {
            let value = this.ptr.cast::<V>().read();
            dealloc(this.ptr.as_ptr(), layout);
            (value, note)
        }
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        Self::layout(self.key().len()).size()
    }
}

impl<V, N: Copy> Drop for Entry<V, N> {
    fn drop(&mut self) {
        let layout = Self::layout(self.key().len());
        // SAFETY: the value is initialised and dropped once; then the allocation is freed with the
        // layout it was made with.
        unsafe {
            self.ptr.cast::<V>().drop_in_place();
            dealloc(self.ptr.as_ptr(), layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_come_back() {
        for len in [0, 1, 15, 254, 255, 256, 70_000] {
            let key = vec![7u8; len];
            let mut e = Entry::new(&key, vec![len], [1u8, 2, 3]);
            assert_eq!(e.key(), &key[..]);
            let (_, value, note) = e.parts_mut();
            value.push(1);
            note.set([4, 5, 6]);
            assert_eq!(e.key(), &key[..]);
            assert_eq!(e.into_parts(), (vec![len, 1], [4, 5, 6]));
            drop(Entry::new(&key, "dropped".to_string(), ()));
        }
    }

    #[test]
    fn an_entry_costs_value_note_key_and_one_byte() {
        assert_eq!(Entry::new(b"0123456789abcde", [0u64; 2], ()).memory_bytes(), 32);
        assert_eq!(Entry::new(b"0123456789ab", [0u64; 2], [0u8; 3]).memory_bytes(), 32);
        assert_eq!(size_of::<Option<Entry<u64, [u8; 3]>>>(), 8);
    }
}
