//! Keys on their way from the thread that cuts a file to one that builds values.

use std::borrow::Cow;

use crate::{KeyMeta, KeyRecord};

/// Copies of keys' bytes, one after the other in one allocation.
#[derive(Debug, Default)]
pub struct Batch {
    /// Name and value of each key.
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    db: u32,
    kind: u8,
    meta: KeyMeta,
    key_len: usize,
    body_len: usize,
    body_offset: u64,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    pub fn push(&mut self, record: &KeyRecord<'_>) {
        self.bytes.extend_from_slice(&record.key);
        self.bytes.extend_from_slice(record.body);
        self.places.push(Place {
            db: record.db,
            kind: record.kind,
            meta: record.meta,
            key_len: record.key.len(),
            body_len: record.body.len(),
            body_offset: record.body_offset,
        });
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of names and values: when to hand the batch on.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the keys and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// The keys in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = KeyRecord<'_>> {
        let mut rest = self.bytes.as_slice();
        self.places.iter().map(move |place| {
            let (key, tail) = rest.split_at(place.key_len);
            let (body, tail) = tail.split_at(place.body_len);
            rest = tail;
            KeyRecord {
                db: place.db,
                key: Cow::Borrowed(key),
                meta: place.meta,
                kind: place.kind,
                body,
                body_offset: place.body_offset,
            }
        })
    }
}
