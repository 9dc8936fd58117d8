//! A shard: the part of every database whose slots fold into it, and who watches, waits or caches there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;
use thali_data::{Before, New, Removed, Table};

use crate::field_times::{FieldTimes, HashMut};
use crate::snapshot::Unfinished;
use crate::tracking::ReadKeys;
use crate::{Access, AccessNote, Entry, Uses, Value, Waiter};

type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Keys whose places are looked up together, so that the waiting for memory overlaps.
const INSERTED_TOGETHER: usize = 16;

/// A key of a database.
type DbKey = (u32, Box<[u8]>);

/// Raised when a watched key changes; a session holds one and EXEC looks at it.
#[derive(Debug, Default)]
pub struct WatchFlag(AtomicBool);

impl WatchFlag {
    /// Whether a watched key has changed.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Says that a watched key has changed.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Brings what stands at these keys into the cache, and the elements of their values that are named, so that the waiting
/// for memory overlaps: for who is about to work on them one after the other. More than [`INSERTED_TOGETHER`] are of no
/// more use.
pub fn touch<'a>(keys: impl IntoIterator<Item = (&'a Db, &'a [u8], Option<&'a [u8]>)>) {
    type Lot<T> = SmallVec<[T; INSERTED_TOGETHER]>;
    let keys = keys.into_iter().map(|(db, key, element)| (db, db.table.hash(key), element));
    let keys: Lot<(&Db, u64, Option<&[u8]>)> = keys.inspect(|(db, hash, _)| db.table.touch(*hash)).collect();
    let values =
        keys.iter().filter_map(|(db, hash, element)| Some((&db.table.touch_likely(*hash)?.value, *element)));
    let values: Lot<(&Value, Option<&[u8]>)> = values.collect();
    values.iter().for_each(|(value, _)| value.touch());
    let elements = values.iter().filter_map(|(value, element)| Some((*value, (*element)?)));
    let places = elements.filter_map(|(value, element)| Some((value, value.touch_place_of(element)?)));
    let places: Lot<(&Value, u64)> = places.collect();
    places.iter().for_each(|(value, hash)| value.touch_element(*hash));
}

/// One database's keys in one shard.
#[derive(Default)]
pub struct Db {
    pub(crate) table: Table<Entry, AccessNote>,
    /// What the mark of an entry is once a snapshot needs it no more; see [`crate::snapshot`].
    pub(crate) mark: bool,
    /// The running snapshot, until the walk is through here.
    pub(crate) snapshot: Option<Box<Unfinished>>,
    /// Keys with a time to live.
    volatile_len: usize,
    /// Where active expiry goes on.
    expiry_cursor: u64,
    field_times: FieldTimes,
}

impl Db {
    /// Keys, expired ones that nobody looked at included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys with a time to live.
    pub fn volatile_len(&self) -> usize {
        self.volatile_len
    }

    /// Hashes with fields that vanish.
    pub fn timed_hashes_len(&self) -> usize {
        self.field_times.len()
    }

    /// Up to `max` hashes with fields whose times lie before `now_ms`, the earliest first.
    pub fn hashes_due(&self, now_ms: u64, max: usize) -> Vec<Box<[u8]>> {
        self.field_times.due(now_ms, max)
    }

    /// Bytes that keeping the keys takes beside themselves and their values.
    pub fn overhead_bytes(&self) -> usize {
        self.table.overhead_bytes()
    }

    /// A key's entry, expired or not.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.table.get(key)
    }

    /// As [`Db::get`], with the note of its uses: whoever uses the key changes that.
    pub fn find(&self, key: &[u8]) -> Option<(&Entry, &AccessNote)> {
        self.table.get_noted(key)
    }

    /// As [`Db::get`], to change it.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.find_mut(key).map(|(entry, _)| entry)
    }

    /// As [`Db::find`], to change the entry; but a hash only by [`Db::hash_mut`].
    pub fn find_mut(&mut self, key: &[u8]) -> Option<(&mut Entry, &AccessNote)> {
        self.find_mut_beside_times(key).map(|(entry, access, _)| (entry, access))
    }

    /// As [`Db::find_mut`], for hashes: what changes of their fields' times is noted. `None` within where the value
    /// is of another type.
    pub fn hash_mut<'a>(&'a mut self, key: &'a [u8]) -> Option<(Option<HashMut<'a>>, &'a AccessNote)> {
        let (entry, access, times) = self.find_mut_beside_times(key)?;
        Some((HashMut::of(key, entry, times), access))
    }

    fn find_mut_beside_times(&mut self, key: &[u8]) -> Option<(&mut Entry, &AccessNote, &mut FieldTimes)> {
        let (entry, access) = self.table.get_mut_noted(key)?;
        save_before_change(&mut self.snapshot, self.mark, key, entry, access.get());
        Some((entry, access, &mut self.field_times))
    }

    /// A key's entry, to be changed, and whether it was made just now; but a hash only by [`Db::hash_or_insert`]. What
    /// is made has no time to live.
    pub fn find_or_insert(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> Entry,
        uses: &Uses,
    ) -> (&mut Entry, &AccessNote, bool) {
        let (entry, access, _, is_new) = self.find_or_insert_beside_times(key, make, uses);
        (entry, access, is_new)
    }

    /// As [`Db::find_or_insert`], for hashes. `None` within where the value is of another type.
    pub fn hash_or_insert<'a>(
        &'a mut self,
        key: &'a [u8],
        make: impl FnOnce() -> Entry,
        uses: &Uses,
    ) -> (Option<HashMut<'a>>, &'a AccessNote, bool) {
        let (entry, access, times, is_new) = self.find_or_insert_beside_times(key, make, uses);
        (HashMut::of(key, entry, times), access, is_new)
    }

    fn find_or_insert_beside_times(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> Entry,
        uses: &Uses,
    ) -> (&mut Entry, &AccessNote, &mut FieldTimes, bool) {
        let mark = self.mark;
        let make = || {
            let entry = make();
            debug_assert!(entry.expire_at().is_none() && entry.value.next_field_time().is_none());
            entry.set_mark(mark);
            (entry, uses.fresh().into())
        };
        let (entry, access, is_new) = self.table.get_or_insert_noted(key, make);
        save_before_change(&mut self.snapshot, mark, key, entry, access.get());
        (entry, access, &mut self.field_times, is_new)
    }

    /// Puts an entry, gives back what it replaced.
    pub fn insert<'b>(&mut self, key: &[u8], entry: impl Into<New<'b, Entry>>, uses: &Uses) -> Before<Entry> {
        self.insert_hashed(self.table.hash(key), key, entry.into(), |old| match old {
            None => uses.fresh(),
            Some(old) => uses.replaced(old),
        })
    }

    fn insert_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        new: New<'_, Entry>,
        access: impl FnOnce(Option<Access>) -> Access,
    ) -> Before<Entry> {
        let Self { table, mark, snapshot, volatile_len, field_times, .. } = self;
        *volatile_len += usize::from(new.value.expire_at().is_some());
        new.value.set_mark(*mark);
        let next_time = new.value.value.next_field_time();
        table.put(hash, key, new, |old| {
            let old_next_time = old.and_then(|(old, _)| old.value.next_field_time());
            field_times.note(key, old_next_time, next_time);
            if let Some((old, old_access)) = old {
                save_before_change(snapshot, *mark, key, old, old_access.get());
                *volatile_len -= usize::from(old.expire_at().is_some());
            }
            access(old.map(|(_, access)| access.get())).into()
        })
    }

    /// Makes room for about `len` keys, where there are none yet.
    pub fn reserve(&mut self, len: usize) {
        self.table.reserve(len);
    }

    /// As [`Db::insert`] for many keys at once, which costs less for each; `replaced` is told of those that
    /// were there.
    pub fn insert_all<K: AsRef<[u8]>>(
        &mut self,
        entries: impl IntoIterator<Item = (K, Entry, Access)>,
        mut replaced: impl FnMut(K),
    ) {
        let mut entries = entries.into_iter();
        let mut group: SmallVec<[(u64, K, Entry, Access); INSERTED_TOGETHER]> = SmallVec::new();
        loop {
            let next = entries.by_ref().take(INSERTED_TOGETHER);
            group
                .extend(next.map(|(key, entry, access)| (self.table.hash(key.as_ref()), key, entry, access)));
            if group.is_empty() {
                return;
            }
            group.iter().for_each(|(hash, ..)| self.table.touch(*hash));
            for (hash, key, entry, access) in group.drain(..) {
                if !self.insert_hashed(hash, key.as_ref(), entry.into(), |_| access).is_nothing() {
                    replaced(key);
                }
            }
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &[u8]) -> Option<Removed<Entry, AccessNote>> {
        let old = self.table.remove(key)?;
        save_before_change(&mut self.snapshot, self.mark, key, &old, old.note().get());
        self.volatile_len -= usize::from(old.expire_at().is_some());
        self.field_times.note(key, old.value.next_field_time(), None);
        Some(old)
    }

    /// Sets or clears a key's time to live; false where there is no such key.
    pub fn set_expire_at(&mut self, key: &[u8], at_unix_ms: Option<u64>) -> bool {
        let Some((entry, access)) = self.table.get_noted(key) else { return false };
        save_before_change(&mut self.snapshot, self.mark, key, entry, access.get());
        let before = entry.expire_at().is_some();
        entry.set_expire_at(at_unix_ms);
        self.volatile_len += usize::from(at_unix_ms.is_some());
        self.volatile_len -= usize::from(before);
        true
    }

    /// Looks at about `budget` keys from `cursor` on; 0 starts and ends. A key that is there during
    /// the whole iteration is seen at least once.
    pub fn scan(&self, cursor: u64, budget: usize, mut see: impl FnMut(&[u8], &Entry)) -> u64 {
        self.table.scan(cursor, budget, &mut see)
    }

    /// Every key, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.table.iter()
    }

    /// A key chosen by chance.
    pub fn random(&self, mut random: impl FnMut() -> u64) -> Option<(&[u8], &Entry)> {
        self.table.random(&mut random)
    }

    /// Collects up to `found_max` expired keys, looking at about `budget` keys from where the last
    /// call stopped. Gives the keys and how many with a time to live were seen.
    pub fn expired(&mut self, now_ms: u64, budget: usize, found_max: usize) -> (Vec<Box<[u8]>>, usize) {
        let (mut found, mut volatile_seen) = (Vec::new(), 0);
        if self.volatile_len == 0 {
            return (found, 0);
        }
        let mut left = budget;
        while left > 0 && found.len() < found_max {
            let step = left.min(64);
            left -= step;
            self.expiry_cursor =
                self.table.scan(self.expiry_cursor, step, &mut |key: &[u8], entry: &Entry| {
                    volatile_seen += usize::from(entry.expire_at().is_some());
                    if entry.is_expired(now_ms) {
                        found.push(key.into());
                    }
                });
            if self.expiry_cursor == 0 {
                break;
            }
        }
        (found, volatile_seen)
    }
}

/// Saves and marks an entry that a running snapshot still needs.
fn save_before_change(
    snapshot: &mut Option<Box<Unfinished>>,
    mark: bool,
    key: &[u8],
    entry: &Entry,
    access: Access,
) {
    if let Some(snapshot) = snapshot
        && entry.mark() != mark
    {
        snapshot.save(key, entry, access);
        entry.set_mark(mark);
    }
}

/// One shard's state, behind its lock.
#[derive(Default)]
pub struct Shard {
    /// The databases that were touched here and not taken out since, with their numbers, in no order.
    pub(crate) dbs: Vec<(u32, Db)>,
    /// Emptied databases that the running snapshot still needs.
    pub(crate) retired: Vec<Db>,
    /// The journal's place behind the last change of anything here, for those who read it before it is
    /// durable; whoever changes notes it. 0: none.
    pub written_at: u64,
    watches: Map<DbKey, SmallVec<[Arc<WatchFlag>; 1]>>,
    waiters: Map<DbKey, VecDeque<Arc<Waiter>>>,
    /// Who caches what; see [`crate::tracking`].
    pub(crate) read_keys: ReadKeys,
}

impl Shard {
    /// A database; one that was never touched takes no memory.
    pub fn db(&self, db: u32) -> Option<&Db> {
        self.dbs.iter().find(|(number, _)| *number == db).map(|(_, db)| db)
    }

    /// A database, to change it.
    pub fn db_mut(&mut self, db: u32) -> &mut Db {
        let at = self.dbs.iter().position(|(number, _)| *number == db).unwrap_or_else(|| {
            self.dbs.reserve_exact(1);
            self.dbs.push((db, Db::default()));
            self.dbs.len() - 1
        });
        &mut self.dbs[at].1
    }

    /// Beyond the highest number of a database that was touched here.
    pub fn dbs_len(&self) -> u32 {
        self.dbs.iter().map(|(number, _)| number + 1).max().unwrap_or(0)
    }

    /// Takes a whole database out.
    pub fn take_db(&mut self, db: u32) -> Db {
        let at = self.dbs.iter().position(|(number, _)| *number == db);
        at.map_or_else(Db::default, |at| self.dbs.swap_remove(at).1)
    }

    /// Every database that was touched here, to change it.
    pub fn dbs_mut(&mut self) -> impl Iterator<Item = (u32, &mut Db)> {
        self.dbs.iter_mut().map(|(number, db)| (*number, db))
    }

    /// Whether any hash has fields that vanish.
    pub fn has_timed_hashes(&self) -> bool {
        self.dbs.iter().any(|(_, db)| db.timed_hashes_len() > 0)
    }

    /// Swaps two databases. Watches and waiters stay with the numbers.
    pub fn swap_dbs(&mut self, a: u32, b: u32) {
        for (number, _) in &mut self.dbs {
            *number = match *number {
                number if number == a => b,
                number if number == b => a,
                number => number,
            };
        }
    }

    /// Raises `flag` when the key changes. False where it does so already.
    pub fn watch(&mut self, db: u32, key: &[u8], flag: &Arc<WatchFlag>) -> bool {
        let flags = self.watches.entry((db, key.into())).or_default();
        let is_new = !flags.iter().any(|other| Arc::ptr_eq(other, flag));
        if is_new {
            flags.push(Arc::clone(flag));
        }
        is_new
    }

    /// Ends what [`Shard::watch`] began.
    pub fn unwatch(&mut self, db: u32, key: &[u8], flag: &Arc<WatchFlag>) {
        let key: DbKey = (db, key.into());
        if let Some(flags) = self.watches.get_mut(&key) {
            flags.retain(|other| !Arc::ptr_eq(other, flag));
            if flags.is_empty() {
                self.watches.remove(&key);
            }
        }
    }

    /// Raises the flags of those who watch the key.
    pub fn touch(&mut self, db: u32, key: &[u8]) {
        if self.watches.is_empty() {
            return;
        }
        if let Some(flags) = self.watches.get(&(db, Box::from(key))) {
            flags.iter().for_each(|flag| flag.raise());
        }
    }

    /// Raises the flags of all who watch a key of `db` for which `changed` holds: FLUSHDB, SWAPDB.
    pub fn touch_all(&mut self, db: u32, changed: impl Fn(&[u8]) -> bool) {
        for ((of, key), flags) in &self.watches {
            if *of == db && changed(key) {
                flags.iter().for_each(|flag| flag.raise());
            }
        }
    }

    /// Raises the flags of those who watch, in one of two databases, a key that one of them has. A key whose
    /// time is over is none.
    pub fn touch_swapped(&mut self, a: u32, b: u32, now_ms: u64) {
        let lives = |db: u32, key: &[u8]| {
            self.db(db).and_then(|db| db.get(key)).is_some_and(|entry| !entry.is_expired(now_ms))
        };
        for ((of, key), flags) in &self.watches {
            if [a, b].contains(of) && (lives(a, key) || lives(b, key)) {
                flags.iter().for_each(|flag| flag.raise());
            }
        }
    }

    /// Whether anybody waits for the key.
    pub fn has_waiters(&self, db: u32, key: &[u8]) -> bool {
        !self.waiters.is_empty() && self.waiters.contains_key(&(db, Box::from(key)))
    }

    /// Keys of `db` that somebody waits for.
    pub fn awaited_keys(&self, db: u32) -> Vec<Box<[u8]>> {
        self.waiters.keys().filter(|(of, _)| *of == db).map(|(_, key)| key.clone()).collect()
    }

    /// Keys somebody watches, over all databases.
    pub fn watched_len(&self) -> usize {
        self.watches.len()
    }

    /// Keys somebody waits for, over all databases.
    pub fn awaited_len(&self) -> usize {
        self.waiters.len()
    }

    /// Puts a waiter at the end of a key's queue.
    pub fn wait(&mut self, db: u32, key: &[u8], waiter: Arc<Waiter>) {
        self.waiters.entry((db, key.into())).or_default().push_back(waiter);
    }

    /// The waiters of a key, first come first.
    pub fn waiters(&self, db: u32, key: &[u8]) -> Vec<Arc<Waiter>> {
        self.waiters
            .get(&(db, Box::from(key)))
            .map(|queue| queue.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Takes a waiter out of a key's queue.
    pub fn stop_waiting(&mut self, db: u32, key: &[u8], waiter: &Arc<Waiter>) {
        let key: DbKey = (db, key.into());
        if let Some(queue) = self.waiters.get_mut(&key) {
            queue.retain(|other| !Arc::ptr_eq(other, waiter));
            if queue.is_empty() {
                self.waiters.remove(&key);
            }
        }
    }
}
