//! Which hashes have fields that vanish, in the order in which the next one does; and the way to change a hash,
//! which keeps that order.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use thali_data::Hash;

use crate::{Entry, Value};

/// The hashes of one database in one shard. A hash without times is not in it and takes nothing here.
#[derive(Debug, Default)]
pub(crate) struct FieldTimes {
    /// INVARIANT: the smallest time and the key of each hash that has any.
    hashes: BTreeSet<(u64, Box<[u8]>)>,
}

impl FieldTimes {
    /// The smallest time of a key's fields was `before` and is `after` now; `None` where there is none.
    pub fn note(&mut self, key: &[u8], before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            let was_there = self.hashes.remove(&(at, key.into()));
            debug_assert!(was_there, "a hash changed its times past its guard");
        }
        self.hashes.extend(after.map(|at| (at, key.into())));
    }

    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Up to `max` keys whose hashes have fields with times before `now_ms`, the earliest first.
    pub fn due(&self, now_ms: u64, max: usize) -> Vec<Box<[u8]>> {
        self.hashes.range(..(now_ms, Box::default())).take(max).map(|(_, key)| key.clone()).collect()
    }
}

/// A hash that may be changed. When this is dropped, its database knows when its next field vanishes.
pub struct HashMut<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) hash: &'a mut Hash,
    pub(crate) before: Option<u64>,
    pub(crate) times: &'a mut FieldTimes,
}

impl<'a> HashMut<'a> {
    /// `None` where the value is of another type.
    pub(crate) fn of(key: &'a [u8], entry: &'a mut Entry, times: &'a mut FieldTimes) -> Option<Self> {
        match &mut entry.value {
            Value::Hash(hash) => Some(Self { key, before: hash.next_time(), hash, times }),
            _ => None,
        }
    }
}

impl Deref for HashMut<'_> {
    type Target = Hash;

    fn deref(&self) -> &Hash {
        self.hash
    }
}

impl DerefMut for HashMut<'_> {
    fn deref_mut(&mut self) -> &mut Hash {
        self.hash
    }
}

impl Drop for HashMut<'_> {
    fn drop(&mut self) {
        self.times.note(self.key, self.before, self.hash.next_time());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thali_data::{Item, Limits};

    use crate::{Db, Entry, Typed, Uses};

    /// Seeded changes of any kind, beside the times of all fields as they stand in the hashes.
    #[test]
    fn the_order_knows_each_hash_with_times_whatever_happens_to_it() {
        for seed in 0..100 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut db, uses, limits) = (Db::default(), Uses::new(0, None), Limits::default());
            for _ in 0..400 {
                let key = [b'a' + rng.u8(..6)];
                let field = [b'a' + rng.u8(..4)];
                match rng.u8(..10) {
                    0 => drop(db.remove(&key)),
                    1 => {
                        let text = thali_data::Str::from_bytes(b"v").into_value();
                        db.insert(&key, Entry::new(text), &uses);
                    }
                    2 => {
                        if let Some(entry) = db.remove(&key) {
                            db.insert(&[b'a' + rng.u8(..6)], entry.into_value(), &uses);
                        }
                    }
                    _ if db.get(&key).is_none() => {
                        db.insert(&key, Entry::new(thali_data::Hash::new().into_value()), &uses);
                    }
                    change => {
                        let Some((Some(mut hash), _)) = db.hash_mut(&key) else { continue };
                        match change {
                            3..6 => _ = hash.set(&field, Item::Int(1), &limits),
                            6..9 => _ = hash.set_time(&field, rng.bool().then(|| rng.u64(1..20))),
                            _ => _ = hash.remove_expired(rng.u64(1..20), 2),
                        }
                    }
                }
            }
            let times =
                db.iter().filter_map(|(key, entry)| Some((entry.value.next_field_time()?, key.to_vec())));
            let expected: BTreeMap<_, _> = times.map(|time| (time, ())).collect();
            assert_eq!(db.timed_hashes_len(), expected.len(), "seed {seed}");
            for now in 0..21 {
                let due: Vec<_> = db.hashes_due(now, usize::MAX).iter().map(|key| key.to_vec()).collect();
                let expected = expected.keys().filter(|(at, _)| *at < now).map(|(_, key)| key.clone());
                assert_eq!(due, expected.collect::<Vec<_>>(), "seed {seed}, at {now}");
            }
        }
    }
}
