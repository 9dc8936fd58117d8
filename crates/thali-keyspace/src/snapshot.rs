//! A point in time of the keyspace, saved key by key while writes go on.
//!
//! Every entry bears a mark, one bit. A snapshot begins while all shards are held: each database turns
//! the meaning of the bit around, so that no entry is marked. From then on an entry is saved and marked
//! once, by whoever comes first: the walk, which goes through the tables in hash order, or the one who is
//! about to change or remove it. New entries are born marked. Once the walk is through, all are marked,
//! and the next snapshot may begin.
//!
//! So nobody copies a table and no key is saved twice; what a snapshot costs in memory is what was saved
//! and is not written yet. A write outside of a snapshot pays one branch. A database that is emptied
//! meanwhile is kept aside ([`Shard::retire`]) and walked there.
//!
//! A large value is saved in parts, between which the shard is let go. Whoever changes it meanwhile saves the
//! rest first; who can wait asks before ([`Db::is_unsaved_large`]) and lets the walk get through with it.
//!
//! A snapshot cannot be broken off: whoever has no more use for it lets the walk run to its end and
//! saves into nothing. Only databases that were kept for it alone need no walk then ([`Shard::forget_retired`]).

use std::sync::Arc;

use crate::{Access, Db, Entry, Shard};

/// Takes entries as they were at the point in time, from those who are about to change them.
pub trait SnapshotSink: Send + Sync {
    /// Called with the key's shard locked: to be quick, and to take no other lock that anybody holds
    /// while it waits for a shard.
    fn save(&self, db: u32, key: &[u8], entry: &Entry, access: Access);

    /// As [`SnapshotSink::save`], of the rest of a value whose parts up to `place` the walk has saved.
    fn save_rest(&self, db: u32, key: &[u8], entry: &Entry, place: u128);

    /// Whether a value is to be saved in parts.
    fn is_large(&self, entry: &Entry) -> bool;
}

/// Takes entries from the walk.
pub trait Saver {
    fn save(&mut self, db: u32, key: &[u8], entry: &Entry, access: Access);

    /// Saves a part of a large value, the first where there is no `place`.
    fn save_part(&mut self, db: u32, key: &[u8], entry: &Entry, access: Access, place: Option<u128>) -> Part;
}

/// How far a large value is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next part begins there.
    Next(u128),
    Last,
    /// It cannot be begun now.
    NotNow,
}

/// A database's part in a running snapshot.
pub(crate) struct Unfinished {
    /// The database's number when the snapshot began.
    number: u32,
    /// Up to where the walk has come; `None`: to the end.
    cursor: Option<u64>,
    /// Large values that the walk has come upon and not saved, the next one last.
    large: Vec<Box<[u8]>>,
    /// How far the last of them is saved, once it is begun.
    place: Option<u128>,
    sink: Arc<dyn SnapshotSink>,
}

impl Unfinished {
    /// Saves an entry, or what the walk has left of it.
    pub fn save(&mut self, key: &[u8], entry: &Entry, access: Access) {
        match self.place.take_if(|_| self.large.last().is_some_and(|begun| **begun == *key)) {
            Some(place) => {
                self.large.pop();
                self.sink.save_rest(self.number, key, entry, place);
            }
            None => self.sink.save(self.number, key, entry, access),
        }
    }
}

/// How a step of a walk ended.
pub enum Walked {
    /// There is more in this shard.
    More,
    /// There is, and it cannot be saved now.
    NotNow,
    /// The shard is done with a database that was emptied meanwhile; it is to be dropped once the shard
    /// is let go.
    Retired(Db),
    /// All of the shard is saved.
    Done,
}

impl Walked {
    /// Of a shard, of which one database is done.
    fn or_more(self) -> Self {
        if matches!(self, Self::Done) { Self::More } else { self }
    }
}

impl Db {
    /// Begins a snapshot of what is there now.
    fn begin_snapshot(&mut self, number: u32, sink: &Arc<dyn SnapshotSink>) {
        assert!(self.snapshot.is_none(), "the snapshot before is not through");
        // Without entries there is nothing to save and nothing to mark.
        if !self.is_empty() {
            self.mark = !self.mark;
            let sink = Arc::clone(sink);
            let (cursor, large, place) = (Some(0), Vec::new(), None);
            self.snapshot = Some(Box::new(Unfinished { number, cursor, large, place, sink }));
        }
    }

    /// Saves about `keys` entries, or a part of a large value.
    fn walk(&mut self, keys: usize, saver: &mut dyn Saver) -> Walked {
        let Some(snapshot) = &mut self.snapshot else { return Walked::Done };
        let (number, mark) = (snapshot.number, self.mark);
        if let Some(key) = snapshot.large.last() {
            let entry = self.table.get_noted(key).filter(|(entry, _)| entry.mark() != mark);
            let part = entry.as_ref().map_or(Part::Last, |(entry, access)| {
                saver.save_part(number, key, entry, access.get(), snapshot.place)
            });
            match part {
                Part::Next(place) => snapshot.place = Some(place),
                Part::NotNow => return Walked::NotNow,
                Part::Last => {
                    entry.into_iter().for_each(|(entry, _)| entry.set_mark(mark));
                    snapshot.large.pop();
                    snapshot.place = None;
                }
            }
        } else if let Some(cursor) = snapshot.cursor {
            let Unfinished { large, sink, .. } = &mut **snapshot;
            let next = self.table.scan_noted(cursor, keys, |key, entry, access| {
                if entry.mark() != mark {
                    if sink.is_large(entry) {
                        large.push(key.into());
                    } else {
                        saver.save(number, key, entry, access.get());
                        entry.set_mark(mark);
                    }
                }
            });
            snapshot.cursor = Some(next).filter(|next| *next != 0);
        }
        if snapshot.cursor.is_some() || !snapshot.large.is_empty() {
            return Walked::More;
        }
        self.snapshot = None;
        Walked::Done
    }

    /// Whether a snapshot still needs the key's value, which is large: who changes it now saves all of it.
    pub fn is_unsaved_large(&self, key: &[u8]) -> bool {
        self.snapshot.is_some() && self.table.get(key).is_some_and(|entry| self.is_entry_unsaved_large(entry))
    }

    pub(crate) fn is_entry_unsaved_large(&self, entry: &Entry) -> bool {
        let is_unsaved = |snapshot: &Unfinished| entry.mark() != self.mark && snapshot.sink.is_large(entry);
        self.snapshot.as_deref().is_some_and(is_unsaved)
    }

    /// Lets the walk save a large value next.
    pub fn hurry(&mut self, key: &[u8]) {
        let Some(snapshot) = &mut self.snapshot else { return };
        let is_next = snapshot.large.last().is_some_and(|next| **next == *key);
        // What is begun comes to its end first.
        if !is_next && snapshot.place.is_none() {
            snapshot.large.push(key.into());
        }
    }
}

impl Shard {
    /// Begins a snapshot of the shard. Every shard must be held, and the snapshot before be through.
    pub fn begin_snapshot(&mut self, sink: &Arc<dyn SnapshotSink>) {
        assert!(self.retired.is_empty(), "the snapshot before is not through");
        for (number, db) in &mut self.dbs {
            db.begin_snapshot(*number, sink);
        }
    }

    /// Gives back a database that was taken out, unless a running snapshot still needs it.
    pub fn retire(&mut self, db: Db) -> Option<Db> {
        if db.snapshot.is_none() {
            return Some(db);
        }
        self.retired.push(db);
        None
    }

    /// Gives back the databases that were kept for a snapshot which nobody has a use for any more, but for one of
    /// which a value is begun.
    pub fn forget_retired(&mut self) -> Vec<Db> {
        let is_begun = |db: &Db| db.snapshot.as_ref().is_some_and(|snapshot| snapshot.place.is_some());
        let (kept, forgotten) = std::mem::take(&mut self.retired).into_iter().partition(is_begun);
        self.retired = kept;
        forgotten
    }

    /// Saves about `keys` entries of the running snapshot, or a part of a large one.
    pub fn walk_snapshot(&mut self, keys: usize, saver: &mut dyn Saver) -> Walked {
        // What is begun comes to its end first: nobody else can begin meanwhile.
        let is_begun = |db: &Db| db.snapshot.as_ref().is_some_and(|snapshot| snapshot.place.is_some());
        if let Some((_, db)) = self.dbs.iter_mut().find(|(_, db)| is_begun(db)) {
            return db.walk(keys, saver).or_more();
        }
        if let Some(at) = self.retired.iter().position(is_begun).or(self.retired.len().checked_sub(1)) {
            return match self.retired[at].walk(keys, saver) {
                Walked::Done => Walked::Retired(self.retired.remove(at)),
                walked => walked,
            };
        }
        // One database a step: after a long one the shard should be let go.
        match self.dbs.iter_mut().find(|(_, db)| db.snapshot.is_some()) {
            Some((_, db)) => db.walk(keys, saver).or_more(),
            None => Walked::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thali_sync::Mutex;

    use super::*;
    use crate::{Uses, Value};

    type Saved = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<u64>)>;

    #[derive(Default)]
    struct Collected(Mutex<Saved>, Mutex<Option<(u32, Vec<u8>, u128)>>);

    impl SnapshotSink for Collected {
        fn save(&self, db: u32, key: &[u8], entry: &Entry, _: Access) {
            put(&mut self.0.lock(), db, key, entry);
        }

        fn save_rest(&self, db: u32, key: &[u8], entry: &Entry, place: u128) {
            let begun = self.1.lock().take();
            assert_eq!(begun, Some((db, key.to_vec(), place)), "nothing else is begun");
            put(&mut self.0.lock(), db, key, entry);
        }

        /// Values that end so take three parts.
        fn is_large(&self, entry: &Entry) -> bool {
            let Value::Str(text) = &entry.value else { panic!("only strings here") };
            text.to_vec().ends_with(b"7")
        }
    }

    /// The walk's part.
    struct ByWalk<'a> {
        saved: &'a mut Saved,
        sink: &'a Collected,
    }

    impl Saver for ByWalk<'_> {
        fn save(&mut self, db: u32, key: &[u8], entry: &Entry, _: Access) {
            put(self.saved, db, key, entry);
        }

        fn save_part(&mut self, db: u32, key: &[u8], entry: &Entry, _: Access, place: Option<u128>) -> Part {
            let mut begun = self.sink.1.lock();
            let expected = place.map(|place| (db, key.to_vec(), place));
            assert_eq!(*begun, expected, "one value at a time");
            match place {
                Some(2) => {
                    *begun = None;
                    put(self.saved, db, key, entry);
                    Part::Last
                }
                place => {
                    let next = place.unwrap_or(0) + 1;
                    *begun = Some((db, key.to_vec(), next));
                    Part::Next(next)
                }
            }
        }
    }

    fn put(saved: &mut Saved, db: u32, key: &[u8], entry: &Entry) {
        let Value::Str(text) = &entry.value else { panic!("only strings here") };
        let before = saved.insert((db, key.to_vec()), (text.to_vec(), entry.expire_at()));
        assert_eq!(before, None, "{} was saved twice", key.escape_ascii());
    }

    fn text(n: u64) -> Entry {
        Entry::new(Value::Str(format!("value {n}").as_bytes().into()))
    }

    fn all_of(shard: &Shard) -> Saved {
        let mut all = Saved::new();
        for number in 0..shard.dbs_len() {
            let db = shard.db(number).into_iter();
            db.flat_map(Db::iter).for_each(|(key, entry)| put(&mut all, number, key, entry));
        }
        all
    }

    /// One change of any kind.
    fn change(shard: &mut Shard, rng: &mut fastrand::Rng) {
        let db = rng.u32(0..3);
        let key = format!("key:{}", rng.u32(0..600)).into_bytes();
        match rng.u32(0..100) {
            0..40 => drop(shard.db_mut(db).insert(&key, text(rng.u64(..)), &Uses::new(0, None))),
            40..60 => drop(shard.db_mut(db).remove(&key)),
            60..75 => {
                if let Some(entry) = shard.db_mut(db).get_mut(&key) {
                    entry.value = text(rng.u64(..)).value;
                }
            }
            75..90 => drop(shard.db_mut(db).set_expire_at(&key, rng.bool().then(|| rng.u64(1..1 << 50)))),
            90..97 => {
                let other = format!("key:{}", rng.u32(0..600)).into_bytes();
                if let Some(entry) = shard.db_mut(db).remove(&key) {
                    shard.db_mut((db + 1) % 3).insert(&other, entry.into_value(), &Uses::new(0, None));
                }
            }
            97..99 => shard.swap_dbs(db, (db + 1) % 3),
            _ => {
                let old = shard.take_db(db);
                drop(shard.retire(old));
            }
        }
    }

    #[test]
    fn a_snapshot_is_what_was_there_when_it_began_whatever_happens_since() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut shard = Shard::default();
            for round in 0..4 {
                for _ in 0..rng.usize(0..3000) {
                    change(&mut shard, &mut rng);
                }
                let expected = all_of(&shard);
                let sink = Arc::new(Collected::default());
                shard.begin_snapshot(&(Arc::clone(&sink) as Arc<dyn SnapshotSink>));
                let mut by_walk = Saved::new();
                loop {
                    for _ in 0..rng.usize(0..40) {
                        change(&mut shard, &mut rng);
                    }
                    let keys = rng.usize(1..50);
                    let mut saver = ByWalk { saved: &mut by_walk, sink: &sink };
                    let walked = shard.walk_snapshot(keys, &mut saver);
                    if matches!(walked, Walked::Done) {
                        break;
                    }
                }
                let mut saved = sink.0.lock().clone();
                for (key, value) in by_walk {
                    assert_eq!(saved.insert(key, value), None, "saved by a writer and by the walk");
                }
                assert_eq!(saved, expected, "seed {seed}, round {round}");
            }
        }
    }

    #[test]
    fn times_to_live_keep_their_value_beside_the_mark() {
        let mut shard = Shard::default();
        shard.db_mut(0).insert(b"k", text(1), &Uses::new(0, None));
        shard.db_mut(0).set_expire_at(b"k", Some(i64::MAX as u64));
        let sink: Arc<dyn SnapshotSink> = Arc::new(Collected::default());
        for _ in 0..3 {
            shard.begin_snapshot(&sink);
            let mut saver = ByWalk { saved: &mut Saved::new(), sink: &Collected::default() };
            while !matches!(shard.walk_snapshot(10, &mut saver), Walked::Done) {}
            assert_eq!(shard.db(0).unwrap().get(b"k").unwrap().expire_at(), Some(i64::MAX as u64));
        }
    }
}
