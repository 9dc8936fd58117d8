//! One entry of a table: value and key in a single allocation behind a thin pointer.
//!
//! ```text
//! [value: V][key length: u8, or 255 and a u32 LE][key]
//! ```
//! The address never changes while the entry lives; growth of the table moves only the pointer.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Marks a key whose length stands in the four bytes behind the mark.
const LONG_KEY: u8 = u8::MAX;

/// INVARIANT: owns the allocation at `ptr`, which holds an initialised `V` and key as drawn above.
pub(super) struct Entry<V> {
    ptr: NonNull<u8>,
    owns: PhantomData<V>,
}

// SAFETY: an Entry owns its value alone, as a Box<V> would.
unsafe impl<V: Send> Send for Entry<V> {}
// SAFETY: shared access reaches the value only as `&V`.
unsafe impl<V: Sync> Sync for Entry<V> {}

fn len_bytes(key_len: usize) -> usize {
    if key_len < LONG_KEY as usize { 1 } else { 5 }
}

impl<V> Entry<V> {
    const KEY_LEN_AT: usize = size_of::<V>();

    fn layout(key_len: usize) -> Layout {
        let size = Self::KEY_LEN_AT + len_bytes(key_len) + key_len;
        Layout::from_size_align(size, align_of::<V>()).expect("a key is below 4 GiB")
    }

    pub fn new(key: &[u8], value: V) -> Self {
        assert!(key.len() <= u32::MAX as usize, "a key is below 4 GiB");
        let layout = Self::layout(key.len());
        // SAFETY: the layout has at least the length byte, so its size is not zero.
        let raw = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        // SAFETY: the allocation is aligned for V and has room for V, the length and the key in this
        // order; nothing else refers to it yet.
        unsafe {
            ptr.cast::<V>().write(value);
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
        // SAFETY: by the invariant the length and that many key bytes follow the value.
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

    /// Key and value at once; the key stays shared.
    pub fn parts_mut(&mut self) -> (&[u8], &mut V) {
        let key: *const [u8] = self.key();
        // SAFETY: key and value are disjoint parts of the allocation; both borrows end with self's.
        unsafe { (&*key, self.ptr.cast::<V>().as_mut()) }
    }

    pub fn into_value(self) -> V {
        let layout = Self::layout(self.key().len());
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: the value is moved out once, and `this` is not dropped, so the allocation is freed
        // exactly here with the layout it was made with.
        unsafe {
            let value = this.ptr.cast::<V>().read();
            dealloc(this.ptr.as_ptr(), layout);
            value
        }
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        Self::layout(self.key().len()).size()
    }
}

impl<V> Drop for Entry<V> {
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
            let mut e = Entry::new(&key, vec![len]);
            assert_eq!(e.key(), &key[..]);
            e.value_mut().push(1);
            assert_eq!(e.into_value(), vec![len, 1]);
            drop(Entry::new(&key, "dropped".to_string()));
        }
    }

    #[test]
    fn an_entry_costs_value_key_and_one_byte() {
        assert_eq!(Entry::new(b"0123456789abcde", [0u64; 2]).memory_bytes(), 32);
        assert_eq!(size_of::<Option<Entry<u64>>>(), 8);
    }
}
