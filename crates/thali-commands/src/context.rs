//! What a command works on: the locked part of the keyspace, time, chance, and the list of what it
//! changed.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use thali_data::{Before, Limits, New, Removed, Str};
use thali_keyspace::locks::ShardId;
use thali_keyspace::{
    Access, AccessNote, Db, ENDLESS, Entry, Locked, Patience, Plain, SessionAddress, Shard, Tracker, Typed,
    Uses, Value, WaitKind,
};

use crate::{Effects, ErrorReply, EventClass, ExpiredSeen, Flow, Stale};

/// Keys whose memory commands that name many ask for together ([`Context::touch`]).
pub(crate) const KEYS_TOGETHER: usize = 16;
/// Strings that take no more than this are freed where they are replaced.
const DISCARDED_AT_ONCE_BYTES_MAX: usize = 4096;

/// Who runs the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: it may be parked.
    Client,
    /// A script or a transaction: nothing may wait, blocking commands reply as if their time was up.
    Unit,
    /// A parked client whose key has changed; a reply is for it, another Park leaves it waiting.
    Waiter,
    /// The journal, at start: no expiry but what it says itself.
    Replay,
}

/// A small random generator (xorshift64*), seeded by the caller.
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    /// A generator; any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed | 1))
    }

    /// The next number.
    pub fn next_u64(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

/// A command that has nothing to give yet.
#[derive(Debug)]
pub struct Wait {
    pub kind: WaitKind,
    /// Keys whose change brings another try.
    pub keys: Vec<Box<[u8]>>,
    /// When to give up, in Unix milliseconds; `None` = never.
    pub deadline_ms: Option<u64>,
    /// The request to run again, its name first: with concrete values for what was relative (`$`).
    pub request: Vec<Vec<u8>>,
    /// The reply when the time is up: a null array, or (BLMOVE) a null.
    pub null_array: bool,
}

/// A keyspace notification to be.
#[derive(Debug)]
pub struct KeyspaceEvent {
    pub class: EventClass,
    pub event: &'static str,
    pub db: u32,
    pub key: Box<[u8]>,
}

/// What one command, transaction or script works on and leaves behind.
pub struct Context<'a> {
    pub locked: Locked<'a>,
    pub db: u32,
    /// Databases that exist.
    pub dbs_len: u32,
    /// Milliseconds since 1970; one unit of work sees one time.
    pub now_ms: u64,
    /// When small collections grow up. A copy of the reference can be kept while a value is borrowed.
    pub limits: &'a Limits,
    pub random: &'a mut Random,
    /// How uses of keys are noted and read.
    pub uses: Uses,
    /// What is read and changed counts as used; not so for clients in no-touch mode.
    pub notes_uses: bool,
    pub origin: Origin,
    /// RESTORE takes payloads whatever their checksum is.
    pub trusts_checksums: bool,
    /// A reply longer than this ends the connection (`client-output-buffer-limit normal`): what draws any
    /// number of elements stops there.
    pub reply_bytes_max: usize,
    /// When to give up waiting for a shard; see [`Context::see_shard`].
    pub gives_up: Patience<'a>,
    pub effects: &'a mut Effects,
    /// Which notifications anybody wants.
    pub events_wanted: EventClass,
    pub events: Vec<KeyspaceEvent>,
    /// Keys that changed and that somebody waits for, in the order of their change.
    pub ready: Vec<(u32, Box<[u8]>)>,
    /// Changes so far (Redis's `dirty`).
    pub dirty: u64,
    /// Effects were named for the running command: the request itself is not journaled.
    pub effects_named: bool,
    /// What reading has found expired; whoever made the context has it removed.
    pub expired_seen: RefCell<Vec<ExpiredSeen>>,
    /// The same in shards that were looked at one after the other and are not held any more.
    pub expired_elsewhere: Vec<ExpiredSeen>,
    /// What the log should say.
    pub notes: Vec<String>,
    /// Values to be freed after the locks are let go.
    pub garbage: Vec<Value>,
    /// Whole databases to be freed likewise.
    pub dropped_dbs: Vec<Db>,
    /// FLUSHALL was among the commands.
    pub is_emptied: bool,
    /// Lookups that found a key, and that did not.
    pub hits: std::cell::Cell<u64>,
    pub misses: std::cell::Cell<u64>,
    /// Keys that expired, and that were evicted.
    pub expired: u64,
    pub evicted: u64,
    /// Fields of hashes that expired.
    pub expired_fields: u64,
    /// Expired keys count as missing and stay: CLIENT PAUSE.
    pub keeps_expired: bool,
    /// Expired keys count as there: for who copies data in.
    pub sees_expired: bool,
    /// The client for whom the running command works; `None`: nobody asked.
    pub session: Option<SessionAddress>,
    /// As `session`, where that client may cache what it reads.
    pub reader: Option<Arc<Tracker>>,
    /// What has changed under those who cache; see [`Stale`].
    pub stale: Option<Box<Stale>>,
}

impl<'a> Context<'a> {
    /// A context over locked shards with nothing done yet.
    pub fn new(
        locked: Locked<'a>,
        db: u32,
        now_ms: u64,
        uses: Uses,
        limits: &'a Limits,
        random: &'a mut Random,
        effects: &'a mut Effects,
    ) -> Self {
        Self {
            locked,
            db,
            dbs_len: 16,
            now_ms,
            limits,
            uses,
            notes_uses: true,
            random,
            origin: Origin::Client,
            trusts_checksums: false,
            reply_bytes_max: usize::MAX,
            gives_up: ENDLESS,
            effects,
            events_wanted: EventClass::empty(),
            events: Vec::new(),
            ready: Vec::new(),
            dirty: 0,
            effects_named: false,
            expired_seen: Default::default(),
            expired_elsewhere: Vec::new(),
            notes: Vec::new(),
            garbage: Vec::new(),
            dropped_dbs: Vec::new(),
            is_emptied: false,
            hits: Default::default(),
            misses: Default::default(),
            expired: 0,
            evicted: 0,
            expired_fields: 0,
            keeps_expired: false,
            sees_expired: false,
            session: None,
            reader: None,
            stale: None,
        }
    }

    /// Looks at one shard, which is locked for that long where it is not held: for commands with
    /// [`crate::Flags::EACH_SHARD`], whose unit holds all shards or none.
    pub fn see_shard<R>(&self, id: ShardId, see: impl FnOnce(&Shard) -> R) -> Result<R, ErrorReply> {
        if let Some(shard) = self.locked.by_id(id) {
            return Ok(see(shard));
        }
        debug_assert!(self.locked.ids().is_empty(), "who holds shards may not wait for another");
        let locked = self.locked.keyspace().lock_one(id, self.gives_up).ok_or(ErrorReply::BUSY)?;
        let (_, shard) = locked.shards().next().expect("it was locked just now");
        Ok(see(shard))
    }

    /// The numbers of all shards.
    pub fn shard_ids(&self) -> std::ops::Range<ShardId> {
        0..self.locked.keyspace().shards_len() as ShardId
    }

    /// Asks for the memory of up to [`KEYS_TOGETHER`] keys that are about to be looked at one after the other, so that the
    /// waiting overlaps.
    pub(crate) fn touch<'k>(&self, keys: impl ExactSizeIterator<Item = &'k [u8]>) {
        if keys.len() > 1 {
            let known = |key| Some((self.locked.shard(key).db(self.db)?, key, None));
            thali_keyspace::touch(keys.filter_map(known));
        }
    }

    /// A key's entry for reading; an expired one counts as missing.
    pub fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let (entry, access) = self.count_look(self.find_in(self.db, key))?;
        self.note_use(access);
        Some(entry)
    }

    /// As [`Context::entry`], for those who do not use what they look at.
    pub fn look(&self, key: &[u8]) -> Option<&Entry> {
        self.count_look(self.find_in(self.db, key)).map(|(entry, _)| entry)
    }

    /// As [`Context::look`], without counting a hit or a miss.
    pub fn peek(&self, key: &[u8]) -> Option<&Entry> {
        self.peek_in(self.db, key)
    }

    /// As [`Context::peek`], in another database.
    pub fn peek_in(&self, db: u32, key: &[u8]) -> Option<&Entry> {
        self.find_in(db, key).map(|(entry, _)| entry)
    }

    /// The note of a key's uses.
    pub fn access(&self, key: &[u8]) -> Option<&AccessNote> {
        self.find_in(self.db, key).map(|(_, access)| access)
    }

    /// Uses a key, and gives what stands in its note then.
    pub fn use_now(&self, key: &[u8]) -> Option<Access> {
        let (_, access) = self.find_in(self.db, key)?;
        self.note_use(access);
        Some(access.get())
    }

    fn find_in(&self, db: u32, key: &[u8]) -> Option<(&Entry, &AccessNote)> {
        let (entry, access) = self.locked.shard(key).db(db)?.find(key)?;
        if entry.is_expired(self.now_ms) && self.origin != Origin::Replay && !self.sees_expired {
            self.expired_seen.borrow_mut().push(ExpiredSeen::key(db, key));
            return None;
        }
        Some((entry, access))
    }

    fn count_look<T>(&self, found: Option<T>) -> Option<T> {
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        found
    }

    pub(crate) fn note_use(&self, access: &AccessNote) {
        note_use(&self.uses, self.notes_uses, self.random, access);
    }

    /// The value of a key, for reading.
    pub fn read<T: Plain>(&self, key: &[u8]) -> Result<Option<&T>, ErrorReply> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => T::of(&entry.value).map(Some).ok_or(ErrorReply::WRONG_TYPE),
        }
    }

    /// The value of a key, to be changed in place. An expired key is removed first.
    pub fn write<T: Plain>(&mut self, key: &[u8]) -> Result<Option<&mut T>, ErrorReply> {
        match self.entry_mut(key) {
            None => Ok(None),
            Some(entry) => T::of_mut(&mut entry.value).map(Some).ok_or(ErrorReply::WRONG_TYPE),
        }
    }

    /// The value of a key, to be changed in place; where the key is missing it begins as `new()`.
    /// The caller leaves nothing empty behind ([`Context::remove_if_empty`]).
    pub fn write_or_insert<T: Plain>(
        &mut self,
        key: &[u8],
        new: impl FnOnce() -> T,
    ) -> Result<&mut T, ErrorReply> {
        let db = self.db;
        self.remove_expired(db, key);
        let new = || Entry::new(new().into_value());
        let (uses, shard) = (&self.uses, self.locked.shard_mut(key));
        let (entry, access, is_new) = shard.db_mut(db).find_or_insert(key, new, uses);
        match is_new {
            true => note_event(&mut self.events, self.events_wanted, db, (EventClass::NEW, "new"), key),
            false => note_use(uses, self.notes_uses, self.random, access),
        }
        T::of_mut(&mut entry.value).ok_or(ErrorReply::WRONG_TYPE)
    }

    /// A key's entry, to be changed. An expired key is removed first.
    pub fn entry_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let db = self.db;
        self.remove_expired(db, key);
        let (entry, access) = self.locked.shard_mut(key).db_mut(db).find_mut(key)?;
        note_use(&self.uses, self.notes_uses, self.random, access);
        Some(entry)
    }

    /// A key's entry, to change no more than its time to live ([`Context::set_expire_at`]) or all of it. An expired key
    /// is removed first.
    pub fn entry_kept(&mut self, key: &[u8]) -> Option<&Entry> {
        let db = self.db;
        self.remove_expired(db, key);
        let (entry, access) = self.locked.shard(key).db(db)?.find(key)?;
        self.note_use(access);
        Some(entry)
    }

    /// Whether the key is there.
    pub fn exists(&self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Puts a value, with its time to live (`None` = stays). What was there goes.
    pub fn put(&mut self, key: &[u8], value: impl Typed, expire_at_unix_ms: Option<u64>) {
        self.put_value(self.db, key, value.into_value(), expire_at_unix_ms);
    }

    /// As [`Context::put`], of a string of these bytes, without a copy on the way to where it stands.
    pub fn put_text(&mut self, key: &[u8], text: &[u8], expire_at_unix_ms: Option<u64>) {
        let entry = Entry::expiring(Str::new().into_value(), expire_at_unix_ms);
        self.put_new(self.db, key, New::with_bytes(entry, text));
    }

    /// As [`Context::put`], for any value and database.
    pub fn put_value(&mut self, db: u32, key: &[u8], value: Value, expire_at_unix_ms: Option<u64>) {
        self.put_new(db, key, Entry::expiring(value, expire_at_unix_ms).into());
    }

    fn put_new(&mut self, db: u32, key: &[u8], new: New<'_, Entry>) {
        self.remove_expired(db, key);
        match self.locked.shard_mut(key).db_mut(db).insert(key, new, &self.uses) {
            Before::Nothing => self.event_in(db, EventClass::NEW, "new", key),
            Before::Gone => {}
            Before::Value(old) => {
                if !is_short(&old.value) {
                    self.garbage.push(old.value);
                }
            }
        }
    }

    /// Frees what was removed once the shards are let go; a short string now, which costs less than to keep it.
    pub(crate) fn discard(&mut self, removed: Removed<Entry, AccessNote>) {
        if !is_short(&removed.value) {
            self.garbage.push(removed.into_value().value);
        }
    }

    /// Takes a key out; an expired one counts as missing. Says nothing: see [`Context::delete`].
    pub fn take(&mut self, key: &[u8]) -> Option<Removed<Entry, AccessNote>> {
        let db = self.db;
        self.remove_expired(db, key);
        self.locked.shard_mut(key).db_mut(db).remove(key)
    }

    /// Removes a key and says so with event `del`; false where it was missing.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.take(key) else { return false };
        self.discard(entry);
        self.modified(EventClass::GENERIC, "del", key);
        true
    }

    /// Removes a key whose collection has become empty, with event `del`, and gives true.
    pub fn remove_if_empty(&mut self, key: &[u8]) -> bool {
        self.remove_if_empty_in(self.db, key, self.session)
    }

    /// As [`Context::remove_if_empty`], in another database and whoever has emptied it.
    pub(crate) fn remove_if_empty_in(&mut self, db: u32, key: &[u8], by: Option<SessionAddress>) -> bool {
        let shard = self.locked.shard_mut(key).db_mut(db);
        let empty = shard.get(key).is_some_and(|entry| match &entry.value {
            Value::List(v) => v.is_empty(),
            Value::Set(v) => v.is_empty(),
            Value::Hash(v) => v.is_empty(),
            Value::SortedSet(v) => v.is_empty(),
            Value::Str(_) | Value::Stream(_) => false,
        });
        if empty {
            shard.remove(key);
            self.event_in(db, EventClass::GENERIC, "del", key);
            self.locked.shard_mut(key).touch(db, key);
            self.note_stale(key, by);
        }
        empty
    }

    /// Says how a key was used before it came here.
    pub fn set_access(&mut self, db: u32, key: &[u8], access: Access) {
        if let Some((_, note)) = self.locked.shard(key).db(db).and_then(|db| db.find(key)) {
            note.set(access);
        }
    }

    /// Sets or clears a key's time to live; false where the key is missing.
    pub fn set_expire_at(&mut self, key: &[u8], at_unix_ms: Option<u64>) -> bool {
        let db = self.db;
        self.locked.shard_mut(key).db_mut(db).set_expire_at(key, at_unix_ms)
    }

    /// Says that a key has changed: counts it, raises watches, remembers who waits for it, and
    /// notifies. To be called once for each event that Redis would notify of, after the change.
    pub fn modified(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        self.modified_in(self.db, class, event, key);
    }

    /// As [`Context::modified`], in another database.
    pub fn modified_in(&mut self, db: u32, class: EventClass, event: &'static str, key: &[u8]) {
        self.dirty += 1;
        self.changed_in(db, key);
        self.event_in(db, class, event, key);
    }

    /// The part of [`Context::modified_in`] without an event and without counting.
    pub fn changed_in(&mut self, db: u32, key: &[u8]) {
        self.changed_by(self.session, db, key);
    }

    pub(crate) fn changed_by(&mut self, by: Option<SessionAddress>, db: u32, key: &[u8]) {
        self.note_stale(key, by);
        let shard = self.locked.shard_mut(key);
        shard.touch(db, key);
        if shard.has_waiters(db, key) && !self.ready.iter().any(|(d, k)| *d == db && **k == *key) {
            self.ready.push((db, key.into()));
        }
    }

    /// Only notifies: for events that change nothing by themselves.
    pub fn event(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        self.event_in(self.db, class, event, key);
    }

    pub(crate) fn event_in(&mut self, db: u32, class: EventClass, event: &'static str, key: &[u8]) {
        note_event(&mut self.events, self.events_wanted, db, (class, event), key);
    }

    /// Journals this request in the place of the client's; may be called several times.
    pub fn effect<A: AsRef<[u8]>>(&mut self, request: &[A]) {
        self.effects_named = true;
        self.effects.push(self.db, request);
    }

    /// Journals nothing for the running command, although it changed something by `dirty`'s count.
    pub fn no_effect(&mut self) {
        self.effects_named = true;
    }

    /// Ends a command that has nothing to give: parks a client, replies null where nobody may wait.
    pub fn park(&self, reply: &mut thali_resp::Reply<'_>, wait: Wait) -> Flow {
        if self.origin == Origin::Unit {
            if wait.null_array {
                reply.null_array()
            } else {
                reply.null()
            }
            return Flow::Done;
        }
        Flow::Park(wait)
    }

    /// A key was removed for its memory: effect `DEL`, or `UNLINK` where it is freed later, and event `evicted`.
    pub fn note_evicted(&mut self, db: u32, key: &[u8], lazily: bool) {
        self.evicted += 1;
        self.effects.push(db, &[if lazily { &b"UNLINK"[..] } else { b"DEL" }, key]);
        self.changed_by(None, db, key);
        self.event_in(db, EventClass::EVICTED, "evicted", key);
    }
}

/// Whether a value is a string that is freed where it is replaced or removed.
fn is_short(value: &Value) -> bool {
    matches!(value, Value::Str(text) if text.memory_bytes() <= DISCARDED_AT_ONCE_BYTES_MAX)
}

/// Notes a notification to be, where anybody wants it.
pub(crate) fn note_event(
    events: &mut Vec<KeyspaceEvent>,
    wanted: EventClass,
    db: u32,
    (class, event): (EventClass, &'static str),
    key: &[u8],
) {
    if wanted.intersects(class) {
        events.push(KeyspaceEvent { class, event, db, key: key.into() });
    }
}

/// Notes a use. Within one second most keys' notes stay as they are, and their memory is not written.
pub(crate) fn note_use(uses: &Uses, notes_uses: bool, random: &Random, access: &AccessNote) {
    if !notes_uses {
        return;
    }
    let before = access.get();
    let now = uses.used(before, || random.next_u64());
    if now != before {
        access.set(now);
    }
}

/// Databases as a whole; every shard is held.
impl Context<'_> {
    /// Empties a database.
    pub fn flush(&mut self, db: u32) {
        let mut removed = 0;
        for (_, shard) in self.locked.shards_mut() {
            if shard.db(db).is_none_or(Db::is_empty) {
                continue;
            }
            let old = shard.take_db(db);
            shard.touch_all(db, |key| old.get(key).is_some());
            let awaited = shard.awaited_keys(db);
            self.ready.extend(awaited.into_iter().filter(|key| old.get(key).is_some()).map(|key| (db, key)));
            removed += old.len() as u64;
            // A snapshot may still need it.
            self.dropped_dbs.extend(shard.retire(old));
        }
        self.dirty += removed;
        self.note_all_stale();
    }

    /// Swaps two databases; who waits or watches stays with the number.
    pub fn swap_dbs(&mut self, a: u32, b: u32) {
        let now_ms = self.now_ms;
        for (_, shard) in self.locked.shards_mut() {
            shard.touch_swapped(a, b, now_ms);
            shard.swap_dbs(a, b);
            for db in [a, b] {
                self.ready.extend(shard.awaited_keys(db).into_iter().map(|key| (db, key)));
            }
        }
        self.dirty += 1;
        self.note_all_stale();
    }
}
