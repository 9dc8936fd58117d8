//! DEBUG DIGEST: 20 bytes that two servers share exactly when they hold the same data, as Redis computes
//! them. Elements without an order are combined by exclusive or.
//!
//! SOURCE: redis 7.0 `debug.c`, `computeDatasetDigest` and `xorObjectDigest`; redis 7.4 for fields with times.

use sha1::{Digest as _, Sha1};
use thali_data::stream::StreamId;
use thali_keyspace::{Entry, Locked, Value};
use thali_script::write_significant;

/// A digest of all databases, or of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest([u8; 20]);

impl Digest {
    /// Of all data; every shard is held.
    pub fn of_all(locked: &Locked<'_>, dbs_len: u32) -> Self {
        let mut all = Digest::default();
        for number in 0..dbs_len {
            let parts = || locked.shards().filter_map(|(_, shard)| shard.db(number));
            if parts().all(|db| db.is_empty()) {
                continue;
            }
            all.mix(&number.to_be_bytes());
            for (key, entry) in parts().flat_map(|db| db.iter()) {
                let mut one = Digest::default();
                one.mix(key);
                one.add_entry(entry);
                all.xor(&one.0);
            }
        }
        all
    }

    /// Of one key's value and time to live.
    pub fn of_entry(entry: &Entry) -> Self {
        let mut digest = Digest::default();
        digest.add_entry(entry);
        digest
    }

    fn xor(&mut self, bytes: &[u8]) {
        let hash = Sha1::digest(bytes);
        self.0.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    fn add_entry(&mut self, entry: &Entry) {
        self.mix(&type_number(&entry.value).to_be_bytes());
        self.add_value(&entry.value);
        if entry.expire_at().is_some() {
            self.xor(b"!!expire!!");
        }
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::Str(text) => self.mix(&text.to_vec()),
            Value::List(list) => list.iter().for_each(|item| self.mix(&item.to_vec())),
            Value::Set(set) => set.iter().for_each(|item| self.xor(&item.to_vec())),
            Value::SortedSet(zset) => {
                for (member, score) in zset.iter() {
                    let mut text = Vec::new();
                    write_significant(score, 17, &mut text);
                    self.xor_mixed(&[member, &text]);
                }
            }
            Value::Hash(hash) => {
                for (field, value, at) in hash.iter_timed() {
                    let mut element = Digest::default();
                    element.mix(&field.to_vec());
                    element.mix(&value.to_vec());
                    if at.is_some() {
                        element.xor(b"!!hexpire!!");
                    }
                    self.xor(&element.0);
                }
            }
            Value::Stream(stream) => {
                for entry in stream.log.range(StreamId::MIN, StreamId::MAX) {
                    self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                    for (field, value) in entry.fields() {
                        self.mix(field);
                        self.mix(value);
                    }
                }
            }
        }
    }

    fn xor_mixed(&mut self, parts: &[&[u8]]) {
        let mut element = Digest::default();
        parts.iter().for_each(|part| element.mix(part));
        self.xor(&element.0);
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Redis's `OBJ_STRING` and so on.
fn type_number(value: &Value) -> u32 {
    match value {
        Value::Str(_) => 0,
        Value::List(_) => 1,
        Value::Set(_) => 2,
        Value::SortedSet(_) => 3,
        Value::Hash(_) => 4,
        Value::Stream(_) => 6,
    }
}
