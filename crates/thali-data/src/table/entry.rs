//! One entry of a table: value, note, key and what of the value stands behind the key, in a single allocation behind
//! a thin pointer.
//!
//! ```text
//! [value: V][note: N][key: run][tail: run, where V may have one]
//! ```
//! The address never changes while the entry stays as it is; growth of the table moves only the pointer. A note is a
//! few bytes without alignment, so that none are lost between value and key, and changes while the value is
//! borrowed. [`crate::run`] draws a run.
//!
//! A string's bytes in the tail are the string's own while the value is only looked at. Before it can be changed or
//! moved, the string gets them on the heap and the tail is cut off.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::stored::{BESIDE_BYTES_MAX, New, NewTail, Stored, Tail};
use crate::buf::rounded_to_class;
use crate::prefetch::prefetch_two;
use crate::run::{self, Beside, size_of_run};
use crate::str::Str;

/// INVARIANT: owns the allocation at `ptr`, which holds an initialised `V`, `N`, key and tail as drawn above. Where the
/// tail is a string's, the string of the `V` is a [`Beside`] of it, or the tail is empty.
pub(super) struct Entry<V: Stored, N> {
    ptr: NonNull<u8>,
    owns: PhantomData<(V, N)>,
}

// SAFETY: an Entry owns its value and note alone, as a Box<(V, N)> would.
unsafe impl<V: Stored + Send, N: Send> Send for Entry<V, N> {}
// SAFETY: shared access reaches value and note only as `&V` and `&N`.
unsafe impl<V: Stored + Sync, N: Sync> Sync for Entry<V, N> {}

impl<V: Stored, N> Entry<V, N> {
    const NOTE_AT: usize = size_of::<V>();
    const KEY_AT: usize = {
        assert!(align_of::<N>() == 1, "a note stands at any address");
        assert!(!std::mem::needs_drop::<N>(), "a note is forgotten with its entry");
        Self::NOTE_AT + size_of::<N>()
    };
    const HAS_TAIL: bool = !matches!(V::TAIL, Tail::None);

    /// With a tail, of the allocator's classes, so that another one of about the same length finds room.
    fn layout(key_len: usize, tail_len: usize) -> Layout {
        assert!(key_len.max(tail_len) <= u32::MAX as usize, "key and tail are below 4 GiB");
        let size = Self::KEY_AT + size_of_run(key_len);
        let size = if Self::HAS_TAIL { rounded_to_class(size + size_of_run(tail_len)) } else { size };
        Layout::from_size_align(size, align_of::<V>()).expect("as looked at above")
    }

    fn own_layout(&self) -> Layout {
        let key_len = self.key().len();
        Self::layout(key_len, self.tail_behind(key_len).len())
    }

    /// With the value as it is and an empty tail.
    pub fn bare(key: &[u8], value: V, note: N) -> Self {
        Self::made(key, value, note, &[])
    }

    pub fn new(key: &[u8], new: New<'_, V>, note: N) -> Self {
        let (value, tail) = settle(new);
        Self::made(key, value, note, &tail)
    }

    /// With the note that others begin with.
    pub fn copy(&self) -> Self
    where
        V: Clone,
        N: Default,
    {
        let bytes = matches!(V::TAIL, Tail::Bytes).then(|| self.tail());
        Self::new(self.key(), New { value: self.value().clone(), bytes }, N::default())
    }

    fn made(key: &[u8], value: V, note: N, tail: &[u8]) -> Self {
        let layout = Self::layout(key.len(), tail.len());
        // SAFETY: the layout has at least a length byte, so its size is not zero.
        let raw = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        // SAFETY: the allocation is aligned for V and has room for V, N and the runs in this order, N needs no alignment,
        // and nothing else refers to it yet.
        unsafe {
            ptr.cast::<V>().write(value);
            ptr.add(Self::NOTE_AT).cast::<N>().write(note);
            run::write(ptr.add(Self::KEY_AT), key);
        }
        let mut entry = Entry { ptr, owns: PhantomData };
        entry.write_tail(key.len(), tail);
        entry
    }

    /// Fills the room behind the key. For the end of making an entry: what was there is not looked at.
    fn write_tail(&mut self, key_len: usize, tail: &[u8]) {
        if !Self::HAS_TAIL {
            return;
        }
        // SAFETY: the layout has this run behind the key's.
        let at = unsafe { self.ptr.add(Self::KEY_AT + size_of_run(key_len)) };
        // SAFETY: as above; what is borrowed from elsewhere is no part of an entry that is borrowed exclusively.
        unsafe { run::write(at, tail) };
        if !tail.is_empty()
            && let Some(string) = self.string_at()
        {
            // SAFETY: the string is a part of the value, exclusively borrowed, and the run one of this entry.
            unsafe { *string.as_ptr() = Str::beside(Beside::new(at)) };
        }
    }

    /// Puts another value and note in place of those that are there. Gives the value back, but not one whose string stood
    /// in the tail. `entry_bytes` as in [`Entry::parts_mut`].
    pub fn replace(&mut self, new: New<'_, V>, note: N, entry_bytes: &mut usize) -> Option<V> {
        let (value, tail) = settle(new);
        let key_len = self.key().len();
        let tail_len = self.tail_behind(key_len).len();
        let is_beside = matches!(V::TAIL, Tail::OfString(_)) && tail_len > 0;
        if tail.len() != tail_len {
            let (before, after) = (Self::layout(key_len, tail_len), Self::layout(key_len, tail.len()));
            if before != after {
                *entry_bytes = *entry_bytes - before.size() + after.size();
                let fresh = Self::made(self.key(), value, note, &tail);
                let old = std::mem::replace(self, fresh);
                return if is_beside { None } else { Some(old.into_value()) };
            }
        }
        *self.note_mut() = note;
        // SAFETY: by the invariant an initialised V, exclusively borrowed.
        let old = unsafe { self.ptr.cast::<V>().replace(value) };
        // A string in the tail is gone before the tail is.
        let old = if is_beside { None } else { Some(old) };
        self.write_tail(key_len, &tail);
        old
    }

    /// The place of the value's string, with the right to write to it.
    fn string_at(&self) -> Option<NonNull<Str>> {
        let Tail::OfString(string_of) = &V::TAIL else { return None };
        let offset = string_of.offset(self.value())?;
        // SAFETY: by the promise of [`StringOf`] within the value.
        Some(unsafe { self.ptr.add(offset).cast() })
    }

    /// Whether a string stands in the tail.
    fn is_beside(&self) -> bool {
        matches!(V::TAIL, Tail::OfString(_)) && !self.tail().is_empty()
    }

    /// Gives the string in the tail, where there is one, room of its own.
    fn own_string(&mut self) -> bool {
        if !self.is_beside() {
            return false;
        }
        if let Some(string) = self.string_at() {
            // SAFETY: a part of the value, exclusively borrowed.
            let string = unsafe { &mut *string.as_ptr() };
            *string = string.clone();
        }
        true
    }

    /// Cuts the tail off from a string that stood there.
    fn detach(&mut self) {
        let (key_len, before) = (self.key().len(), self.own_layout());
        if !self.own_string() {
            return;
        }
        let layout = Self::layout(key_len, 0);
        // SAFETY: allocated with the layout before; the new size is not zero and has room for value, note, key and an
        // empty run, and the string is out of the tail.
        unsafe {
            let raw = realloc(self.ptr.as_ptr(), before, layout.size());
            self.ptr = NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout));
            run::write(self.ptr.add(Self::KEY_AT + size_of_run(key_len)), &[]);
        }
    }

    pub fn key(&self) -> &[u8] {
        // SAFETY: by the invariant a run that follows value and note, borrowed with self.
        unsafe { run::read(self.ptr.add(Self::KEY_AT)) }
    }

    /// What stands behind the key.
    pub fn tail(&self) -> &[u8] {
        if Self::HAS_TAIL { self.tail_behind(self.key().len()) } else { &[] }
    }

    fn tail_behind(&self, key_len: usize) -> &[u8] {
        if !Self::HAS_TAIL {
            return &[];
        }
        // SAFETY: by the invariant a run that follows the key's, borrowed with self.
        unsafe { run::read(self.ptr.add(Self::KEY_AT + size_of_run(key_len))) }
    }

    /// Asks for value and key.
    pub fn touch(&self) {
        prefetch_two(self.ptr.as_ptr());
    }

    pub fn value(&self) -> &V {
        // SAFETY: by the invariant an initialised V, borrowed with self.
        unsafe { self.ptr.cast::<V>().as_ref() }
    }

    pub fn note(&self) -> &N {
        // SAFETY: by the invariant an initialised N, borrowed with self.
        unsafe { self.ptr.add(Self::NOTE_AT).cast::<N>().as_ref() }
    }

    fn note_mut(&mut self) -> &mut N {
        // SAFETY: as above, exclusively.
        unsafe { self.ptr.add(Self::NOTE_AT).cast::<N>().as_mut() }
    }

    /// Value and note, to be changed. `entry_bytes`, the sum of [`Entry::memory_bytes`] over a table, is kept right.
    pub fn parts_mut(&mut self, entry_bytes: &mut usize) -> (&mut V, &mut N) {
        if self.is_beside() {
            *entry_bytes -= self.memory_bytes();
            self.detach();
            *entry_bytes += self.memory_bytes();
        }
        let note = self.ptr;
        // SAFETY: these are disjoint parts of the allocation; both borrows end with self's. No string is in the tail any
        // more.
        unsafe { (self.ptr.cast::<V>().as_mut(), note.add(Self::NOTE_AT).cast::<N>().as_mut()) }
    }

    pub fn into_value(mut self) -> V {
        self.own_string();
        let layout = self.own_layout();
        let this = ManuallyDrop::new(self);
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
        self.own_layout().size()
    }
}

impl<V: Stored, N> Drop for Entry<V, N> {
    fn drop(&mut self) {
        let layout = self.own_layout();
        // SAFETY: the value is initialised and dropped once; then the allocation is freed with the
        // layout it was made with.
        unsafe {
            self.ptr.cast::<V>().drop_in_place();
            dealloc(self.ptr.as_ptr(), layout);
        }
    }
}

/// Where a value has a string.
pub struct StringOf<V>(fn(&V) -> Option<&Str>);

impl<V> StringOf<V> {
    /// # Safety
    /// `find` gives a string that is a part of the value itself, always the same one while the value stays as it is; and
    /// nobody can take or change that string by a shared reference to the value, nor the value itself while it is dropped.
    pub const unsafe fn new(find: fn(&V) -> Option<&Str>) -> Self {
        Self(find)
    }

    fn find<'v>(&self, value: &'v V) -> Option<&'v Str> {
        self.0(value)
    }

    /// At which byte of the value the string is.
    fn offset(&self, value: &V) -> Option<usize> {
        let string = std::ptr::from_ref(self.find(value)?);
        let offset = string.addr() - std::ptr::from_ref(value).addr();
        debug_assert!(offset + size_of::<Str>() <= size_of::<V>(), "a part of the value");
        Some(offset)
    }
}

/// Splits what is to be stored into the value and its tail. A string is told of the tail once that has its place.
fn settle<V: Stored>(mut new: New<'_, V>) -> (V, NewTail<'_>) {
    let mut tail = NewTail::Borrowed(&[]);
    match &V::TAIL {
        Tail::None => debug_assert!(new.bytes.is_none(), "no room for bytes"),
        Tail::Bytes => tail = NewTail::Borrowed(new.bytes.unwrap_or(&[])),
        Tail::OfString(string_of) => {
            let Some(offset) = string_of.offset(&new.value) else { return (new.value, tail) };
            // SAFETY: by the promise of [`StringOf`] a part of the value, which is borrowed here alone.
            let string = unsafe { &mut *std::ptr::from_mut(&mut new.value).byte_add(offset).cast::<Str>() };
            match new.bytes {
                Some(bytes) => match Str::without_heap(bytes) {
                    Some(small) => *string = small,
                    None if bytes.len() <= BESIDE_BYTES_MAX => tail = NewTail::Borrowed(bytes),
                    None => *string = Str::from_text(bytes),
                },
                None => tail = string.take_heap(BESIDE_BYTES_MAX).map_or(tail, NewTail::Taken),
            }
        }
    }
    (new.value, tail)
}

/// An element that was taken out of a table.
pub struct Removed<V: Stored, N>(Entry<V, N>);

impl<V: Stored, N> Removed<V, N> {
    pub(super) fn new(entry: Entry<V, N>) -> Self {
        Self(entry)
    }

    pub fn note(&self) -> &N {
        self.0.note()
    }

    /// The value, which costs an allocation where its string stood beside the key.
    pub fn into_value(self) -> V {
        self.0.into_value()
    }
}

impl<V: Stored, N> Deref for Removed<V, N> {
    type Target = V;

    fn deref(&self) -> &V {
        self.0.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Stored for Str {
        // SAFETY: it is the value, and has nothing that changes by a shared reference.
        const TAIL: Tail<Self> = Tail::OfString(unsafe { StringOf::new(|string| Some(string)) });
    }

    impl Stored for Vec<usize> {}
    impl Stored for String {}
    impl Stored for [u64; 2] {}

    #[test]
    fn keys_of_every_length_come_back() {
        for len in [0, 1, 15, 254, 255, 256, 70_000] {
            let key = vec![7u8; len];
            let mut e = Entry::new(&key, vec![len].into(), [1u8, 2, 3]);
            assert_eq!(e.key(), &key[..]);
            let (value, note) = e.parts_mut(&mut 0);
            value.push(1);
            *note = [4, 5, 6];
            assert_eq!(e.key(), &key[..]);
            assert_eq!((*e.note(), e.into_value()), ([4, 5, 6], vec![len, 1]));
            drop(Entry::new(&key, "dropped".to_string().into(), ()));
        }
    }

    #[test]
    fn an_entry_costs_value_note_key_and_one_byte() {
        assert_eq!(Entry::new(b"0123456789abcde", [0u64; 2].into(), ()).memory_bytes(), 32);
        assert_eq!(Entry::new(b"0123456789ab", [0u64; 2].into(), [0u8; 3]).memory_bytes(), 32);
        assert_eq!(size_of::<Option<Entry<String, [u8; 3]>>>(), 8);
    }

    #[test]
    fn a_string_costs_its_bytes_and_one_more_up_to_the_allocators_class() {
        for (len, bytes) in [(0, 32), (13, 32), (14, 48), (34, 64), (35, 80), (BESIDE_BYTES_MAX, 224)] {
            let entry = Entry::new(b"0123456789ab", New::with_bytes(Str::new(), &vec![b'x'; len]), ());
            assert_eq!((entry.memory_bytes(), entry.value().len()), (bytes, len));
            assert_eq!(entry.is_beside(), len > 13);
        }
        let entry =
            Entry::new(b"0123456789ab", New::with_bytes(Str::new(), &[b'x'; BESIDE_BYTES_MAX + 1]), ());
        assert_eq!((entry.memory_bytes(), entry.is_beside()), (32, false));
    }

    #[test]
    fn a_string_that_takes_as_much_stands_where_the_old_one_stood() {
        let put = |entry: &mut Entry<Str, ()>, text: &str| {
            let old = entry.replace(New::with_bytes(Str::new(), text.as_bytes()), (), &mut 1000);
            assert_eq!((entry.value().to_vec(), entry.key()), (text.as_bytes().to_vec(), &b"key"[..]));
            (entry.ptr, old.map(|old| old.to_vec()))
        };
        let mut entry = Entry::new(b"key", New::with_bytes(Str::new(), b"a string of 22 bytes.."), ());
        let begun = entry.ptr;
        assert_eq!(put(&mut entry, "another one of 24 bytes."), (begun, None));
        // This one is shorter by a class, and the next needs no tail.
        assert_eq!(put(&mut entry, "only 14 bytes."), (entry.ptr, None));
        assert_eq!(put(&mut entry, "17"), (entry.ptr, None));
        let bare = entry.ptr;
        assert_eq!(put(&mut entry, "inline"), (bare, Some(b"17".to_vec())));
    }

    #[test]
    fn bytes_alone_are_known_to_the_entry() {
        struct Nothing;
        impl Stored for Nothing {
            const TAIL: Tail<Self> = Tail::Bytes;
        }
        for len in [0, 1, 254, 255, 256, 70_000] {
            let bytes = vec![9u8; len];
            let mut entry = Entry::new(b"key", New::with_bytes(Nothing, &bytes), ());
            assert_eq!(entry.tail(), bytes);
            entry.parts_mut(&mut 0);
            assert_eq!(entry.tail(), bytes);
            entry.replace(New::with_bytes(Nothing, b"x"), (), &mut 100_000);
            assert_eq!((entry.key(), entry.tail()), (&b"key"[..], &b"x"[..]));
        }
    }
}
