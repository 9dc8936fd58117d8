//! What a key holds.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use thali_data::{Hash, List, Set, SortedSet, Str, Stream};

/// A value of one of Redis's types, in 16 bytes. But for strings and streams it is one pointer, which in a small
/// collection leads to the elements.
#[derive(Clone)]
pub enum Value {
    Str(Str),
    List(List),
    Set(Set),
    Hash(Hash),
    SortedSet(SortedSet),
    Stream(Box<Stream>),
}

const _: () = assert!(size_of::<Value>() == 16 && size_of::<Entry>() == 24);

impl Value {
    /// The name that TYPE replies.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Str(_) => "string",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Hash(_) => "hash",
            Self::SortedSet(_) => "zset",
            Self::Stream(_) => "stream",
        }
    }

    /// Elements, members, fields or entries; a string counts as one.
    pub fn elements_len(&self) -> usize {
        match self {
            Self::Str(_) => 1,
            Self::List(v) => v.len(),
            Self::Set(v) => v.len(),
            Self::Hash(v) => v.len(),
            Self::SortedSet(v) => v.len(),
            Self::Stream(v) => v.log.len() as usize,
        }
    }

    /// When the next field of a hash vanishes, in Unix milliseconds; `None` where none does.
    pub fn next_field_time(&self) -> Option<u64> {
        match self {
            Self::Hash(hash) => hash.next_time(),
            _ => None,
        }
    }

    /// Reads the beginning of what the value has on the heap.
    pub(crate) fn touch(&self) {
        std::hint::black_box(match self {
            Self::Str(v) => return v.touch(),
            other => other.elements_len(),
        });
    }

    /// Asks for the memory of an element's place; gives what [`Value::touch_element`] goes on with.
    pub(crate) fn touch_place_of(&self, element: &[u8]) -> Option<u64> {
        match self {
            Self::Hash(v) => v.touch(element),
            Self::Set(v) => v.touch(element),
            Self::SortedSet(v) => {
                v.touch(element);
                None
            }
            _ => None,
        }
    }

    /// Asks for the memory of the element itself.
    pub(crate) fn touch_element(&self, hash: u64) {
        match self {
            Self::Hash(v) => v.touch_likely(hash),
            Self::Set(v) => v.touch_likely(hash),
            _ => {}
        }
    }

    /// The name that OBJECT ENCODING replies.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Str(v) => v.encoding(),
            Self::List(v) => v.encoding(),
            Self::Set(v) => v.encoding(),
            Self::Hash(v) => v.encoding(),
            Self::SortedSet(v) => v.encoding(),
            Self::Stream(_) => "stream",
        }
    }
}

impl std::fmt::Debug for Value {
    /// Names the type only: a value may be large.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({})", self.type_name())
    }
}

/// The bit of an entry's time to live that is a snapshot's mark.
const MARK: u64 = 1 << 63;

/// A key's value and what is kept beside it.
pub struct Entry {
    pub value: Value,
    /// When the key vanishes, in Unix milliseconds below 2^63, 0 = never; and the snapshot's [`MARK`]. Both change while
    /// the value is only looked at.
    expire_at_unix_ms: AtomicU64,
}

impl Entry {
    /// A value that stays until it is removed.
    pub fn new(value: Value) -> Self {
        Self { value, expire_at_unix_ms: AtomicU64::new(0) }
    }

    /// As [`Entry::new`], with a time to live.
    pub fn expiring(value: Value, at_unix_ms: Option<u64>) -> Self {
        let entry = Self::new(value);
        entry.set_expire_at(at_unix_ms);
        entry
    }

    /// When the key vanishes, in Unix milliseconds.
    pub fn expire_at(&self) -> Option<u64> {
        let at = self.expire_at_unix_ms.load(Relaxed) & !MARK;
        (at != 0).then_some(at)
    }

    /// See [`crate::snapshot`].
    pub(crate) fn mark(&self) -> bool {
        self.expire_at_unix_ms.load(Relaxed) & MARK != 0
    }

    pub(crate) fn set_mark(&self, mark: bool) {
        self.change_time(|at| at & !MARK | u64::from(mark) << 63);
    }

    /// Whether the key is logically gone. Redis counts a key as expired only after its time.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expire_at().is_some_and(|at| now_ms > at)
    }

    /// Only [`crate::Db`] changes the time, as it counts the keys that have one.
    pub(crate) fn set_expire_at(&self, at: Option<u64>) {
        let at = at.map_or(0, |at| at.clamp(1, !MARK));
        self.change_time(|before| before & MARK | at);
    }

    /// In two steps: whoever changes the time has the shard to itself.
    fn change_time(&self, change: impl FnOnce(u64) -> u64) {
        self.expire_at_unix_ms.store(change(self.expire_at_unix_ms.load(Relaxed)), Relaxed);
    }
}

/// A structure that a key can hold; lets commands ask for the type that they work on.
pub trait Typed: Sized {
    /// The structure, where the value is of this type.
    fn of(value: &Value) -> Option<&Self>;
    /// The value that holds this structure.
    fn into_value(self) -> Value;
}

/// A structure whose elements stay until somebody removes them, so that it is read and changed as it is. A hash is
/// none: its fields may have times, see [`crate::HashMut`].
pub trait Plain: Typed {
    /// As [`Typed::of`], to change it.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
}

macro_rules! typed {
    ($($type:ident),*) => {$(
        impl Typed for $type {
            fn of(value: &Value) -> Option<&Self> {
                match value { Value::$type(v) => Some(v), _ => None }
            }
            fn into_value(self) -> Value {
                Value::$type(self.into())
            }
        }
    )*};
}
typed!(Str, List, Set, Hash, SortedSet, Stream);

macro_rules! plain {
    ($($type:ident),*) => {$(
        impl Plain for $type {
            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                match value { Value::$type(v) => Some(v), _ => None }
            }
        }
    )*};
}
plain!(Str, List, Set, SortedSet, Stream);
