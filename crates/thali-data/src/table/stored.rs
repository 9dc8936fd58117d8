//! What a table keeps at a key, and how bytes of it come to stand behind the key, in one allocation for both.

use super::entry::StringOf;
use crate::buf::Buf;

/// A string of up to so many bytes stands beside its key. Of longer ones the allocator's classes take as much for one
/// allocation as for two: counted over keys of 8 to 55 bytes, it is 0.85 times as much for strings of 14 to 29 bytes,
/// 0.94 for 64 to 79, 0.98 for 176 to 191 and 1.01 for 192 to 223.
pub const BESIDE_BYTES_MAX: usize = 192;

/// A value of a table.
pub trait Stored: Sized {
    /// Which bytes of it stand behind the key.
    const TAIL: Tail<Self> = Tail::None;
}

/// The tail of an entry: bytes behind its key that belong to its value.
pub enum Tail<V> {
    None,
    /// Any bytes: what there is of the value beside the `V`, which knows nothing of them.
    Bytes,
    /// The bytes of a string that the `V` holds.
    OfString(StringOf<V>),
}

impl Stored for () {}

/// What is to stand at a key.
pub struct New<'b, V> {
    pub value: V,
    /// What becomes of the string of the value, or of its tail; `None`: the value holds its string itself.
    pub bytes: Option<&'b [u8]>,
}

impl<V> From<V> for New<'_, V> {
    fn from(value: V) -> Self {
        Self { value, bytes: None }
    }
}

impl<'b, V> New<'b, V> {
    pub fn with_bytes(value: V, bytes: &'b [u8]) -> Self {
        Self { value, bytes: Some(bytes) }
    }
}

/// The tail to be.
pub(super) enum NewTail<'b> {
    Borrowed(&'b [u8]),
    /// From a string that had it on the heap.
    Taken(Buf),
}

impl std::ops::Deref for NewTail<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Taken(buf) => buf,
        }
    }
}

/// What stood at a key before.
#[derive(Debug, PartialEq, Eq)]
pub enum Before<V> {
    Nothing,
    /// A value with its string beside the key; both are gone.
    Gone,
    Value(V),
}

impl<V> Before<V> {
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}
