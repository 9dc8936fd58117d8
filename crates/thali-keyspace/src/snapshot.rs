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
//! A snapshot cannot be broken off: whoever has no more use for it lets the walk run to its end and
//! saves into nothing.

use std::sync::Arc;

use thali_data::Visit;

use crate::{Db, Entry, Shard};

/// Takes entries as they were at the point in time, from those who are about to change them.
pub trait SnapshotSink: Send + Sync {
    /// Called with the key's shard locked: to be quick, and to take no other lock that anybody holds
    /// while it waits for a shard.
    fn save(&self, db: u32, key: &[u8], entry: &Entry);
}

/// A database's part in a running snapshot.
pub(crate) struct Unfinished {
    /// The database's number when the snapshot began.
    number: u32,
    /// Up to where the walk has come.
    cursor: u64,
    sink: Arc<dyn SnapshotSink>,
}

impl Unfinished {
    pub fn save(&self, key: &[u8], entry: &Entry) {
        self.sink.save(self.number, key, entry);
    }
}

/// How a step of a walk ended.
pub enum Walked {
    /// There is more in this shard.
    More,
    /// The shard is done with a database that was emptied meanwhile; it is to be dropped once the shard
    /// is let go.
    Retired(Db),
    /// All of the shard is saved.
    Done,
}

impl Db {
    /// Begins a snapshot of what is there now.
    fn begin_snapshot(&mut self, number: u32, sink: &Arc<dyn SnapshotSink>) {
        assert!(self.snapshot.is_none(), "the snapshot before is not through");
        // Without entries there is nothing to save and nothing to mark.
        if !self.is_empty() {
            self.mark = !self.mark;
            self.snapshot = Some(Box::new(Unfinished { number, cursor: 0, sink: Arc::clone(sink) }));
        }
    }

    /// Saves about `keys` entries; true when the walk is through.
    fn walk(&mut self, keys: usize, save: &mut dyn FnMut(u32, &[u8], &Entry)) -> bool {
        let Some(snapshot) = &mut self.snapshot else { return true };
        let (number, mark) = (snapshot.number, self.mark);
        snapshot.cursor = self.table.visit(snapshot.cursor, keys, |key, entry| {
            if entry.mark() != mark {
                save(number, key, entry);
                entry.set_mark(mark);
            }
            Visit::Keep
        });
        let through = snapshot.cursor == 0;
        if through {
            self.snapshot = None;
        }
        through
    }
}

impl Shard {
    /// Begins a snapshot of the shard. Every shard must be held, and the snapshot before be through.
    pub fn begin_snapshot(&mut self, sink: &Arc<dyn SnapshotSink>) {
        assert!(self.retired.is_empty(), "the snapshot before is not through");
        for (number, db) in self.dbs.iter_mut().enumerate() {
            db.begin_snapshot(number as u32, sink);
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

    /// Saves about `keys` entries of the running snapshot.
    pub fn walk_snapshot(&mut self, keys: usize, save: &mut dyn FnMut(u32, &[u8], &Entry)) -> Walked {
        if let Some(db) = self.retired.last_mut() {
            return match db.walk(keys, save) {
                true => Walked::Retired(self.retired.pop().expect("it was just walked")),
                false => Walked::More,
            };
        }
        // One database a step: after a long one the shard should be let go.
        match self.dbs.iter_mut().find(|db| db.snapshot.is_some()) {
            Some(db) => {
                db.walk(keys, save);
                Walked::More
            }
            None => Walked::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;
    use crate::Value;

    type Saved = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<u64>)>;

    #[derive(Default)]
    struct Collected(Mutex<Saved>);

    impl SnapshotSink for Collected {
        fn save(&self, db: u32, key: &[u8], entry: &Entry) {
            put(&mut self.0.lock(), db, key, entry);
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
            shard.db(number).unwrap().iter().for_each(|(key, entry)| put(&mut all, number, key, entry));
        }
        all
    }

    /// One change of any kind.
    fn change(shard: &mut Shard, rng: &mut fastrand::Rng) {
        let db = rng.u32(0..3);
        let key = format!("key:{}", rng.u32(0..600)).into_bytes();
        match rng.u32(0..100) {
            0..40 => drop(shard.db_mut(db).insert(&key, text(rng.u64(..)))),
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
                    shard.db_mut((db + 1) % 3).insert(&other, entry);
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
                    let walked =
                        shard.walk_snapshot(keys, &mut |db, key, entry| put(&mut by_walk, db, key, entry));
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
        shard.db_mut(0).insert(b"k", text(1));
        shard.db_mut(0).set_expire_at(b"k", Some(i64::MAX as u64));
        let sink: Arc<dyn SnapshotSink> = Arc::new(Collected::default());
        for _ in 0..3 {
            shard.begin_snapshot(&sink);
            while !matches!(shard.walk_snapshot(10, &mut |_, _, _| {}), Walked::Done) {}
            assert_eq!(shard.db(0).unwrap().get(b"k").unwrap().expire_at(), Some(i64::MAX as u64));
        }
    }
}
