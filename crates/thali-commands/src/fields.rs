//! Hashes as commands see them: a field whose time is over is not there, whether somebody has removed it yet or
//! not.
//!
//! Reading goes through [`Fields`]. What it finds expired is removed once the command is through, as with keys.
//! Changing goes through [`HashMut`]; a command whose change depends on what is there removes what has expired of
//! it first ([`Context::expire_fields`]). Each removal is journaled as HDEL, so that a replay, which expires
//! nothing by itself, does the same.
//!
//! As in Redis, fields that have expired count for HLEN and keep their key until they are removed, which active
//! expiry does soon.

use std::cell::RefCell;

use thali_data::{Hash, Item};
use thali_keyspace::{Entry, HashMut, Typed, Value};

use crate::context::{note_event, note_use};
use crate::{Context, ErrorReply, EventClass, ExpiredSeen, Origin};

/// Fields removed for one read that has come upon a hash with expired ones. Active expiry takes the others.
const REMOVED_BY_READ_MAX: usize = 512;

/// A hash for reading.
pub struct Fields<'c, 'k> {
    hash: &'c Hash,
    /// Fields with an earlier time are not there. `None`: all are.
    expired_before_ms: Option<u64>,
    db: u32,
    key: &'k [u8],
    seen: &'c RefCell<Vec<ExpiredSeen>>,
}

impl<'c> Fields<'c, '_> {
    /// A field's value.
    pub fn get(&self, field: &[u8]) -> Option<Item<'c>> {
        let Some(now) = self.expired_before_ms else { return self.hash.get(field) };
        let (value, at) = self.hash.get_timed(field)?;
        if at.is_some_and(|at| at < now) {
            self.note(Some(field));
            return None;
        }
        Some(value)
    }

    /// A field's time, in Unix milliseconds, within; `None` where there is no such field.
    pub fn time(&self, field: &[u8]) -> Option<Option<u64>> {
        let (_, at) = self.hash.get_timed(field)?;
        self.lives(at).then_some(at)
    }

    /// Fields, with those that have expired and are not removed yet.
    pub fn len_with_expired(&self) -> usize {
        self.hash.len()
    }

    /// Whether there is any that has expired.
    pub fn has_expired(&self) -> bool {
        self.expired_before_ms.is_some()
    }

    /// Fields that are there.
    pub fn live_len(&self) -> usize {
        if self.has_expired() { self.iter().count() } else { self.len_with_expired() }
    }

    /// Fields with their values; in insertion order while the hash is small.
    pub fn iter(&self) -> impl Iterator<Item = (Item<'c>, Item<'c>)> {
        let (plain, timed) = match self.expired_before_ms {
            None => (Some(self.hash.iter()), None),
            Some(now) => {
                let lives = move |at: Option<u64>| at.is_none_or(|at| at >= now);
                let living = self.hash.iter_timed().filter(move |(_, _, at)| lives(*at));
                (None, Some(living.map(|(field, value, _)| (field, value))))
            }
        };
        plain.into_iter().flatten().chain(timed.into_iter().flatten())
    }

    /// See [`Hash::scan`].
    pub fn scan(&self, cursor: u64, budget: usize, mut f: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        if !self.has_expired() {
            return self.hash.scan(cursor, budget, f);
        }
        self.hash.scan_timed(cursor, budget, |field, value, at| {
            if self.lives(at) {
                f(field, value);
            }
        })
    }

    /// A field drawn at random, with its value, of a hash in which none has expired.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<(Item<'c>, Item<'c>)> {
        debug_assert!(!self.has_expired(), "draw from what is there");
        self.hash.random(rng)
    }

    /// Has expired fields removed, where there are any.
    pub fn note_expired(&self) {
        if self.has_expired() {
            self.note(None);
        }
    }

    fn lives(&self, at: Option<u64>) -> bool {
        self.expired_before_ms.is_none_or(|now| at.is_none_or(|at| at >= now))
    }

    fn note(&self, field: Option<&[u8]>) {
        self.seen.borrow_mut().push(ExpiredSeen::field(self.db, self.key, field));
    }
}

impl Context<'_> {
    /// The hash of a key, for reading.
    pub fn fields<'k>(&self, key: &'k [u8]) -> Result<Option<Fields<'_, 'k>>, ErrorReply> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => self.fields_of(key, entry).map(Some).ok_or(ErrorReply::WRONG_TYPE),
        }
    }

    /// The hash that an entry of this database holds.
    pub fn fields_of<'c, 'k>(&'c self, key: &'k [u8], entry: &'c Entry) -> Option<Fields<'c, 'k>> {
        let hash = Hash::of(&entry.value)?;
        let has_expired = |now: &u64| hash.next_time().is_some_and(|at| at < *now);
        let expired_before_ms = self.fields_expire_before().filter(has_expired);
        Some(Fields { hash, expired_before_ms, db: self.db, key, seen: &self.expired_seen })
    }

    /// Whether the key is there; refused where it holds something else than a hash.
    pub fn has_hash(&self, key: &[u8]) -> Result<bool, ErrorReply> {
        match self.peek(key).map(|entry| &entry.value) {
            None => Ok(false),
            Some(Value::Hash(_)) => Ok(true),
            Some(_) => Err(ErrorReply::WRONG_TYPE),
        }
    }

    /// The hash of a key, to be changed in place, with what has expired in it. An expired key is removed first.
    pub fn hash_mut<'c>(&'c mut self, key: &'c [u8]) -> Result<Option<HashMut<'c>>, ErrorReply> {
        let db = self.db;
        self.remove_expired(db, key);
        let (uses, notes_uses) = (&self.uses, self.notes_uses);
        let Some((hash, access)) = self.locked.shard_mut(key).db_mut(db).hash_mut(key) else {
            return Ok(None);
        };
        note_use(uses, notes_uses, self.random, access);
        hash.map(Some).ok_or(ErrorReply::WRONG_TYPE)
    }

    /// As [`Context::hash_mut`]; where the key is missing it begins as an empty hash. The caller leaves nothing
    /// empty behind ([`Context::remove_if_empty`]).
    pub fn hash_mut_or_insert<'c>(&'c mut self, key: &'c [u8]) -> Result<HashMut<'c>, ErrorReply> {
        let db = self.db;
        self.remove_expired(db, key);
        let new = || Entry::new(Hash::new().into_value());
        let (uses, shard) = (&self.uses, self.locked.shard_mut(key));
        let (hash, access, is_new) = shard.db_mut(db).hash_or_insert(key, new, uses);
        match is_new {
            true => note_event(&mut self.events, self.events_wanted, db, (EventClass::NEW, "new"), key),
            false => note_use(uses, self.notes_uses, self.random, access),
        }
        hash.ok_or(ErrorReply::WRONG_TYPE)
    }

    /// Removes those of the fields that have expired: in front of a change that depends on what is there.
    pub fn expire_fields<'f>(&mut self, key: &[u8], fields: impl IntoIterator<Item = &'f [u8]>) {
        self.expire_fields_in(self.db, key, fields);
    }

    fn expire_fields_in<'f>(&mut self, db: u32, key: &[u8], fields: impl IntoIterator<Item = &'f [u8]>) {
        let Some((now, hash)) = self.hash_with_expired(db, key) else { return };
        let has_expired =
            |field: &&[u8]| hash.get_timed(field).is_some_and(|(_, at)| at.is_some_and(|at| at < now));
        let expired: Vec<&[u8]> = fields.into_iter().filter(has_expired).collect();
        let Some((Some(mut hash), _)) = self.locked.shard_mut(key).db_mut(db).hash_mut(key) else { return };
        // One may be named twice.
        let removed: Vec<Vec<u8>> =
            expired.into_iter().filter(|field| hash.remove(field)).map(<[u8]>::to_vec).collect();
        drop(hash);
        self.note_expired_fields(db, key, &removed);
    }

    /// Removes up to `max` expired fields of a hash, whichever they are, and gives how many it were. Later where a
    /// snapshot still has to save much of the hash.
    pub fn expire_any_fields(&mut self, db: u32, key: &[u8], max: usize) -> usize {
        let Some((now, _)) = self.hash_with_expired(db, key) else { return 0 };
        let db_mut = self.locked.shard_mut(key).db_mut(db);
        if db_mut.is_unsaved_large(key) {
            return 0;
        }
        let Some((Some(mut hash), _)) = db_mut.hash_mut(key) else { return 0 };
        let removed = hash.remove_expired(now, max);
        drop(hash);
        self.note_expired_fields(db, key, &removed);
        removed.len()
    }

    /// Removes one field that has expired, or some of all. Later where a snapshot still has to save much of the hash.
    pub(crate) fn remove_expired_fields(&mut self, db: u32, key: &[u8], field: Option<&[u8]>) {
        match field {
            _ if self.locked.shard(key).db(db).is_some_and(|db| db.is_unsaved_large(key)) => {}
            Some(field) => self.expire_fields_in(db, key, [field]),
            None => _ = self.expire_any_fields(db, key, REMOVED_BY_READ_MAX),
        }
    }

    /// A hash in which some field has expired, and the moment before which that is.
    fn hash_with_expired(&self, db: u32, key: &[u8]) -> Option<(u64, &Hash)> {
        let now = self.fields_expire_before()?;
        let entry = self.locked.shard(key).db(db)?.get(key)?;
        // With a key that has expired itself, all goes.
        let hash = Hash::of(&entry.value).filter(|_| !entry.is_expired(now))?;
        hash.next_time().filter(|at| *at < now).map(|_| (now, hash))
    }

    /// Fields with an earlier time have expired. `None`: all are there, as with keys.
    fn fields_expire_before(&self) -> Option<u64> {
        (self.origin != Origin::Replay && !self.sees_expired).then_some(self.now_ms)
    }

    fn note_expired_fields(&mut self, db: u32, key: &[u8], removed: &[Vec<u8>]) {
        if removed.is_empty() {
            return;
        }
        self.expired_fields += removed.len() as u64;
        let names = removed.iter().map(Vec::as_slice);
        let effect: Vec<&[u8]> = [&b"HDEL"[..], key].into_iter().chain(names).collect();
        self.effects.push(db, &effect);
        self.changed_by(None, db, key);
        self.event_in(db, EventClass::HASH, "hexpired", key);
        self.remove_if_empty_in(db, key, None);
    }
}
