//! What a look finds expired: it counts as missing at once, and is removed when the shards may be changed.

use crate::{Context, EventClass, Origin};

/// A key, or something in it, whose time is over.
#[derive(Debug)]
pub struct ExpiredSeen {
    db: u32,
    key: Box<[u8]>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Key,
    /// One field of a hash, or whatever else there has expired, too.
    Fields(Option<Box<[u8]>>),
}

impl ExpiredSeen {
    pub(crate) fn key(db: u32, key: impl Into<Box<[u8]>>) -> Self {
        Self { db, key: key.into(), part: Part::Key }
    }

    /// A field of a hash; `None`: any.
    pub(crate) fn field(db: u32, key: &[u8], field: Option<&[u8]>) -> Self {
        Self { db, key: key.into(), part: Part::Fields(field.map(Into::into)) }
    }

    /// Of the shard that it is in.
    pub fn in_key(&self) -> &[u8] {
        &self.key
    }
}

impl Context<'_> {
    /// Removes the keys, and the fields of hashes, that reading found expired.
    pub fn remove_expired_seen(&mut self) {
        if !self.expired_seen.get_mut().is_empty() {
            self.expired_seen.take().iter().for_each(|seen| self.remove_seen(seen));
        }
    }

    /// Removes what a look found expired, where it is so still.
    pub fn remove_seen(&mut self, ExpiredSeen { db, key, part }: &ExpiredSeen) {
        if self.keeps_expired {
            return;
        }
        match part {
            Part::Key => self.remove_expired_if_cheap(*db, key),
            Part::Fields(field) => self.remove_expired_fields(*db, key, field.as_deref()),
        }
    }

    /// As [`Context::remove_expired`], later where a snapshot still has to save much of the value: a key counts as
    /// missing without that, too.
    pub fn remove_expired_if_cheap(&mut self, db: u32, key: &[u8]) {
        if !self.locked.shard(key).db(db).is_some_and(|db| db.is_unsaved_large(key)) {
            self.remove_expired(db, key);
        }
    }

    /// Removes a key if its time is over: with effect `DEL` and event `expired`.
    pub fn remove_expired(&mut self, db: u32, key: &[u8]) -> bool {
        if self.origin == Origin::Replay || self.sees_expired {
            return false;
        }
        let now_ms = self.now_ms;
        let table = self.locked.shard_mut(key).db_mut(db);
        if table.volatile_len() == 0 || !table.get(key).is_some_and(|entry| entry.is_expired(now_ms)) {
            return false;
        }
        if let Some(entry) = table.remove(key) {
            self.discard(entry);
        }
        self.expired += 1;
        self.effects.push(db, &[&b"DEL"[..], key]);
        self.changed_by(None, db, key);
        self.event_in(db, EventClass::EXPIRED, "expired", key);
        true
    }
}
