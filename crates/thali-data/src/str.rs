//! `Str`: one byte string in 16 bytes: an integer, up to 13 bytes inline, or a heap buffer. In a table it may stand
//! beside its key ([`crate::table`]): so only until somebody is about to change it or takes it out.
//!
//! Reads go through [`Str::item`] or [`Str::bytes`]. `encoding` answers what Redis's OBJECT ENCODING
//! would: "int" for canonical integers, "embstr" up to 44 bytes, else "raw"; a string edited in place
//! (APPEND, SETRANGE, SETBIT) is "raw" from then on.

use crate::buf::Buf;
use crate::item::{INT_BYTES_MAX, IntBuf, Item, parse_canonical_int};
use crate::prefetch::prefetch_two;
use crate::run::{Beside, size_of_run};

const INLINE_BYTES_MAX: usize = 13;
/// SOURCE: redis 7.2 `object.c`, `OBJ_ENCODING_EMBSTR_SIZE_LIMIT`.
const EMBSTR_BYTES_MAX: usize = 44;
/// Appending doubles a heap string up to this size and adds as much at a time beyond.
/// SOURCE: redis 7.2 `sds.h`, `SDS_MAX_PREALLOC`.
const APPEND_SLACK_BYTES_MAX: usize = 1024 * 1024;

pub struct Str(Repr);

enum Repr {
    Int(i64),
    Inline {
        len: u8,
        edited: bool,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    Heap {
        edited: bool,
        buf: Buf,
    },
    /// Not edited: that is on the heap from then on.
    Beside(Beside),
}

const _: () = assert!(size_of::<Str>() == 16);

impl Str {
    pub const fn new() -> Self {
        Str(Repr::Inline { len: 0, edited: false, bytes: [0; INLINE_BYTES_MAX] })
    }

    pub fn from_int(n: i64) -> Self {
        Str(Repr::Int(n))
    }

    /// Stores canonical integers as such.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match parse_canonical_int(bytes) {
            Some(n) => Str(Repr::Int(n)),
            None => Self::verbatim(bytes, false),
        }
    }

    /// Keeps the bytes as they are, an integer's too.
    pub fn from_text(bytes: &[u8]) -> Self {
        Self::verbatim(bytes, false)
    }

    fn verbatim(src: &[u8], edited: bool) -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX];
        match bytes.get_mut(..src.len()) {
            Some(room) => {
                room.copy_from_slice(src);
                Str(Repr::Inline { len: src.len() as u8, edited, bytes })
            }
            None => Str(Repr::Heap { edited, buf: Buf::from_slice(src) }),
        }
    }

    /// What takes no memory beside itself, stored as by [`Str::from_bytes`]; `None`: these bytes do.
    pub(crate) fn without_heap(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > INT_BYTES_MAX {
            return None;
        }
        let of_int = parse_canonical_int(bytes).map(Str::from_int);
        of_int.or_else(|| (bytes.len() <= INLINE_BYTES_MAX).then(|| Self::verbatim(bytes, false)))
    }

    pub(crate) fn beside(bytes: Beside) -> Self {
        Str(Repr::Beside(bytes))
    }

    #[cfg(test)]
    pub(crate) fn is_beside(&self) -> bool {
        matches!(self.0, Repr::Beside(_))
    }

    /// Takes out up to `len_max` bytes that are on the heap and were not edited there. What stays is empty.
    pub(crate) fn take_heap(&mut self, len_max: usize) -> Option<Buf> {
        match &mut self.0 {
            Repr::Heap { edited: false, buf } if buf.len() <= len_max => {
                let buf = std::mem::take(buf);
                self.0 = Self::new().0;
                Some(buf)
            }
            _ => None,
        }
    }

    /// Asks for what stands elsewhere.
    pub fn touch(&self) {
        match &self.0 {
            Repr::Int(_) | Repr::Inline { .. } => {}
            Repr::Heap { buf, .. } => prefetch_two(buf.as_ptr()),
            Repr::Beside(beside) => beside.touch(),
        }
    }

    pub fn item(&self) -> Item<'_> {
        match &self.0 {
            Repr::Int(n) => Item::Int(*n),
            Repr::Inline { len, bytes, .. } => Item::Bytes(&bytes[..*len as usize]),
            Repr::Heap { buf, .. } => Item::Bytes(buf),
            Repr::Beside(beside) => Item::Bytes(beside.bytes()),
        }
    }

    /// The bytes, with `scratch` as room for an integer's decimal form.
    pub fn bytes<'a>(&'a self, scratch: &'a mut IntBuf) -> &'a [u8] {
        match self.item() {
            Item::Int(n) => scratch.format(n),
            Item::Bytes(b) => b,
        }
    }

    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        self.item().with_bytes(f)
    }

    pub fn to_vec(&self) -> Vec<u8> {
        self.item().to_vec()
    }

    pub fn len(&self) -> usize {
        self.item().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer, where the bytes are one in canonical form.
    pub fn as_int(&self) -> Option<i64> {
        self.item().as_int()
    }

    /// "int", "embstr" or "raw".
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Int(_) => "int",
            Repr::Inline { edited, .. } => {
                if *edited {
                    "raw"
                } else {
                    "embstr"
                }
            }
            Repr::Heap { edited, buf } => long_encoding(*edited, buf),
            Repr::Beside(beside) => long_encoding(false, beside.bytes()),
        }
    }

    /// Bytes taken from the allocator; what stands beside a key takes a part of an allocation.
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Repr::Heap { buf, .. } => buf.memory_bytes(),
            Repr::Beside(beside) => size_of_run(beside.bytes().len()),
            _ => 0,
        }
    }

    /// Adds at the end and returns the new length.
    pub fn append(&mut self, tail: &[u8]) -> usize {
        let old_len = self.len();
        let new_len = old_len + tail.len();
        if new_len <= INLINE_BYTES_MAX {
            let mut joined = [0; INLINE_BYTES_MAX];
            self.with_bytes(|b| joined[..old_len].copy_from_slice(b));
            joined[old_len..new_len].copy_from_slice(tail);
            *self = Self::verbatim(&joined[..new_len], true);
            return new_len;
        }
        let buf = self.edit();
        if new_len > buf.capacity() {
            buf.reserve(tail.len() + new_len.min(APPEND_SLACK_BYTES_MAX));
        }
        buf.extend_from_slice(tail);
        new_len
    }

    /// Overwrites from `offset` on, padding a gap with zeroes, and returns the new length.
    pub fn set_range(&mut self, offset: usize, patch: &[u8]) -> usize {
        let end = offset + patch.len();
        let buf = self.edit();
        if end > buf.len() {
            buf.resize(end);
        }
        buf[offset..end].copy_from_slice(patch);
        buf.len()
    }

    /// The bytes for editing in place, grown with zeroes to at least `len_min`. The string is "raw"
    /// from then on.
    pub fn bytes_mut(&mut self, len_min: usize) -> &mut [u8] {
        let buf = self.edit();
        if buf.len() < len_min {
            buf.resize(len_min);
        }
        buf
    }

    /// The bytes from `start` to `end` inclusive, by GETRANGE's rules: negative counts from the end,
    /// both are clamped, an empty range is empty.
    pub fn range<'a>(&'a self, start: i64, end: i64, scratch: &'a mut IntBuf) -> &'a [u8] {
        let bytes = self.bytes(scratch);
        let len = bytes.len() as i64;
        if start < 0 && end < 0 && start > end {
            return &[];
        }
        let from_end = |i: i64| if i < 0 { (len + i).max(0) } else { i };
        let (start, end) = (from_end(start), from_end(end).min(len - 1));
        if start > end || len == 0 { &[] } else { &bytes[start as usize..=end as usize] }
    }

    /// Turns into an edited heap string.
    pub(crate) fn edit(&mut self) -> &mut Buf {
        if !matches!(self.0, Repr::Heap { .. }) {
            let buf = self.with_bytes(Buf::from_slice);
            self.0 = Repr::Heap { edited: true, buf };
        }
        match &mut self.0 {
            Repr::Heap { edited, buf } => {
                *edited = true;
                buf
            }
            _ => unreachable!("made a heap string above"),
        }
    }
}

/// As by [`Str::encoding`].
fn long_encoding(edited: bool, bytes: &[u8]) -> &'static str {
    if edited || bytes.len() > EMBSTR_BYTES_MAX { "raw" } else { "embstr" }
}

impl Clone for Str {
    /// With what stands beside a key on the heap.
    fn clone(&self) -> Self {
        Str(match &self.0 {
            Repr::Int(n) => Repr::Int(*n),
            Repr::Inline { len, edited, bytes } => Repr::Inline { len: *len, edited: *edited, bytes: *bytes },
            Repr::Heap { edited, buf } => Repr::Heap { edited: *edited, buf: buf.clone() },
            Repr::Beside(beside) => Repr::Heap { edited: false, buf: Buf::from_slice(beside.bytes()) },
        })
    }
}

impl Default for Str {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&[u8]> for Str {
    fn from(bytes: &[u8]) -> Self {
        Str::from_bytes(bytes)
    }
}

impl From<i64> for Str {
    fn from(n: i64) -> Self {
        Str::from_int(n)
    }
}

impl From<Item<'_>> for Str {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Int(n) => Str::from_int(n),
            Item::Bytes(b) => Str::from_bytes(b),
        }
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Self) -> bool {
        self.item() == other.item()
    }
}

impl Eq for Str {}

impl std::fmt::Debug for Str {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.item().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodings_are_those_of_redis() {
        assert_eq!(Str::from_bytes(b"123").encoding(), "int");
        assert_eq!(Str::from_bytes(b"0123").encoding(), "embstr");
        assert_eq!(Str::from_bytes(&[b'x'; 44]).encoding(), "embstr");
        assert_eq!(Str::from_bytes(&[b'x'; 45]).encoding(), "raw");
        let mut s = Str::from_bytes(b"12");
        s.append(b"3");
        assert_eq!((s.encoding(), s.as_int()), ("raw", Some(123)));
        let mut s = Str::from_bytes(b"abc");
        s.set_range(1, b"x");
        assert_eq!((s.encoding(), s.to_vec()), ("raw", b"axc".to_vec()));
    }

    #[test]
    fn ranges_clamp_as_getrange_does() {
        let s = Str::from_bytes(b"Hello World");
        let mut i = IntBuf::new();
        for (start, end, want) in [
            (0, -1, "Hello World"),
            (0, 4, "Hello"),
            (-5, -1, "World"),
            (-1, -5, ""),
            (5, 3, ""),
            (100, 200, ""),
            (0, 200, "Hello World"),
            (-200, 0, "H"),
            (-200, -100, "H"),
        ] {
            assert_eq!(s.range(start, end, &mut i), want.as_bytes(), "{start} {end}");
        }
        assert_eq!(Str::new().range(0, -1, &mut i), b"");
        assert_eq!(Str::from_int(-123).range(1, 2, &mut i), b"12");
    }

    proptest! {
        #[test]
        fn edits_act_as_on_a_vec(start in prop::collection::vec(any::<u8>(), 0..60), ops in prop::collection::vec((any::<bool>(), 0usize..70, prop::collection::vec(any::<u8>(), 0..30)), 0..20)) {
            let mut model = start.clone();
            let mut s = Str::from_bytes(&start);
            for (append, at, bytes) in ops {
                if append {
                    model.extend_from_slice(&bytes);
                    prop_assert_eq!(s.append(&bytes), model.len());
                } else {
                    if model.len() < at + bytes.len() { model.resize(at + bytes.len(), 0); }
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                    prop_assert_eq!(s.set_range(at, &bytes), model.len());
                }
                prop_assert_eq!(s.to_vec(), model.clone());
                prop_assert_eq!(s.len(), model.len());
            }
        }
    }
}
