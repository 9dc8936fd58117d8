//! The string of an entry, for the table: it may stand beside its key.
#![allow(unsafe_code)]

use thali_data::Stored;
use thali_data::table::{StringOf, Tail};

use crate::{Entry, Value};

impl Stored for Entry {
    // SAFETY: a part of the entry; by a shared reference nothing of an entry changes but its time to live.
    const TAIL: Tail<Self> = Tail::OfString(unsafe {
        StringOf::new(|entry| match &entry.value {
            Value::Str(string) => Some(string),
            _ => None,
        })
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use thali_data::{New, Str};

    use super::*;
    use crate::{Access, Part, Saver, Shard, SnapshotSink, Typed, Uses, Walked};

    const TEXT: &[u8] = b"32 bytes, beside a key or apart.";

    struct Sink;

    impl SnapshotSink for Sink {
        fn save(&self, _: u32, _: &[u8], _: &Entry, _: Access) {}
        fn save_rest(&self, _: u32, _: &[u8], _: &Entry, _: u128) {}
        fn is_large(&self, _: &Entry) -> bool {
            false
        }
    }

    impl Saver for &Sink {
        fn save(&mut self, _: u32, _: &[u8], entry: &Entry, _: Access) {
            assert_eq!(Str::of(&entry.value).map(Str::to_vec).as_deref(), Some(TEXT));
        }
        fn save_part(&mut self, _: u32, _: &[u8], _: &Entry, _: Access, _: Option<u128>) -> Part {
            Part::Last
        }
    }

    /// What the string takes: beside its key its bytes and one more.
    fn bytes(shard: &Shard, key: &[u8]) -> usize {
        Str::of(&shard.db(0).unwrap().get(key).unwrap().value).unwrap().memory_bytes()
    }

    #[test]
    fn only_a_change_of_the_value_takes_a_string_from_beside_its_key() {
        let (mut shard, uses) = (Shard::default(), Uses::new(0, None));
        let entry = || Entry::new(Str::new().into_value());
        for key in [b"a", b"b", b"c"] {
            shard.db_mut(0).insert(key, New::with_bytes(entry(), TEXT), &uses);
        }
        shard.begin_snapshot(&(Arc::new(Sink) as Arc<dyn SnapshotSink>));
        assert!(shard.db_mut(0).set_expire_at(b"a", Some(5)));
        while !matches!(shard.walk_snapshot(1, &mut &Sink), Walked::Done) {}
        let removed = shard.db_mut(0).remove(b"c").unwrap();
        shard.db_mut(0).insert(b"d", removed.into_value(), &uses);
        for key in [b"a", b"b", b"d"] {
            assert_eq!(bytes(&shard, key), TEXT.len() + 1);
        }
        assert!(shard.db_mut(0).get_mut(b"b").is_some());
        assert_ne!(bytes(&shard, b"b"), TEXT.len() + 1);
        assert_eq!(shard.db(0).unwrap().get(b"a").unwrap().expire_at(), Some(5));
    }
}
