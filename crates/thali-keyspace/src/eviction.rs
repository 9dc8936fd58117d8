//! Which keys go when memory runs out: chosen among some that are looked at by chance.
//!
//! Whoever needs room looks at a few keys of one shard after the other, keeps the best of them in a [`Pool`] and
//! removes the best of all. So the choice gets better with each step, and no step looks at more than a few keys.
//! A pool belongs to one event loop; what it holds may have changed meanwhile, and [`Shard::is_still`] says so.
//! SOURCE: Redis 7.2 `evict.c`, where one pool looks at one table.

use thali_data::table::CURSOR_BITS;

use crate::locks::ShardId;
use crate::shard::{Db, Shard};
use crate::{Access, Entry, Uses};

/// Candidates that a pool keeps. SOURCE: Redis 7.2 `evict.c`, `EVPOOL_SIZE`.
pub const CANDIDATES_MAX: usize = 16;
/// Keys that are looked at in one database of one shard where only those with a time to live may go. What is not
/// found among them is looked for elsewhere in the next step.
const LOOKS_MAX: usize = 512;
/// Draws before a key is taken that is as likely only where keys are evenly spread.
const DRAWS_MAX: usize = 16;

/// What makes a key go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// That it was not used for long, or not often.
    Uses,
    /// That its time is over soon.
    TimeToLive,
    Chance,
}

/// Which keys may go, and which go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    pub by: By,
    /// Keys without a time to live stay.
    pub only_volatile: bool,
}

impl Preference {
    fn allows(&self, entry: &Entry) -> bool {
        !self.only_volatile || entry.expire_at().is_some()
    }

    /// How many keys of a database may go.
    fn len_of(&self, db: &Db) -> usize {
        if self.only_volatile { db.volatile_len() } else { db.len() }
    }

    /// The higher, the sooner a key goes.
    fn score(&self, uses: &Uses, entry: &Entry, access: Access) -> u64 {
        match self.by {
            By::Uses => uses.score(access),
            By::TimeToLive => u64::MAX - entry.expire_at().unwrap_or(u64::MAX),
            By::Chance => 0,
        }
    }
}

/// A key that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub db: u32,
    pub key: Box<[u8]>,
    score: u64,
}

/// The best candidates so far, and where keys are.
pub struct Pool {
    preference: Preference,
    /// The best one last.
    candidates: Vec<Candidate>,
    /// Keys that might go in each shard, as of the last look; `None` before the first.
    lens: Box<[Option<usize>]>,
}

impl Pool {
    /// An empty pool over `shards_len` shards.
    pub fn new(shards_len: usize) -> Self {
        let preference = Preference { by: By::Chance, only_volatile: false };
        Self { preference, candidates: Vec::new(), lens: vec![None; shards_len].into() }
    }

    /// Forgets everything where another preference holds now.
    pub fn prefer(&mut self, preference: Preference) {
        if self.preference != preference {
            self.preference = preference;
            self.forget();
        }
    }

    /// Forgets everything: uses mean something else now.
    pub fn forget(&mut self) {
        self.candidates.clear();
        self.lens.fill(None);
    }

    /// The shard to look into next: by chance, those with more keys more often.
    pub fn next_shard(&self, mut random: impl FnMut() -> u64) -> ShardId {
        let len_max = self.lens.iter().flatten().max().map_or(1, |len| *len as u64).max(1);
        let mut below = |bound: u64| random() % bound;
        let shards_len = self.lens.len() as u64;
        let mut shard = below(shards_len);
        for _ in 0..DRAWS_MAX {
            if self.lens[shard as usize].is_none_or(|len| below(len_max) < len as u64) {
                break;
            }
            shard = below(shards_len);
        }
        shard as ShardId
    }

    /// Looks at some keys of each database of a shard: at `samples` at least, where there are so many. Gives how
    /// many might go from this shard in all.
    pub fn look(
        &mut self,
        id: ShardId,
        shard: &Shard,
        uses: &Uses,
        samples: usize,
        random: &mut impl FnMut() -> u64,
    ) -> usize {
        let dbs = (0..shard.dbs_len()).filter_map(|number| Some((number, shard.db(number)?)));
        let preference = self.preference;
        let len = dbs.clone().map(|(_, db)| preference.len_of(db)).sum();
        self.lens[usize::from(id)] = Some(len);
        if len == 0 {
            return 0;
        }
        if preference.by == By::Chance {
            // One is enough, and none is better than another.
            let mut at = random() % len as u64;
            for (number, db) in dbs {
                let of_db = preference.len_of(db) as u64;
                if at < of_db {
                    let found = db.any_evictable(preference, random);
                    self.candidates.clear();
                    self.candidates.extend(found.map(|key| Candidate { db: number, key, score: 0 }));
                    break;
                }
                at -= of_db;
            }
            return len;
        }
        for (number, db) in dbs.filter(|(_, db)| preference.len_of(db) > 0) {
            db.sample(preference, samples, random, |key, entry, access| {
                self.consider(number, key, preference.score(uses, entry, access));
            });
        }
        len
    }

    fn consider(&mut self, db: u32, key: &[u8], score: u64) {
        let is_full = self.candidates.len() == CANDIDATES_MAX;
        if is_full && score <= self.candidates[0].score
            || self.candidates.iter().any(|known| known.db == db && *known.key == *key)
        {
            return;
        }
        if is_full {
            self.candidates.remove(0);
        }
        let at = self.candidates.partition_point(|known| known.score < score);
        self.candidates.insert(at, Candidate { db, key: key.into(), score });
    }

    /// Takes the best candidate out.
    pub fn take(&mut self) -> Option<Candidate> {
        self.candidates.pop()
    }
}

impl Shard {
    /// Whether a candidate is still as good as when it was found.
    pub fn is_still(&self, candidate: &Candidate, preference: Preference, uses: &Uses) -> bool {
        let Some(db) = self.db(candidate.db) else { return false };
        let Some((entry, access)) = db.find(&candidate.key) else { return false };
        db.is_evictable(preference, entry) && preference.score(uses, entry, access.get()) >= candidate.score
    }
}

impl Db {
    /// Whether a key may go: a large value that a snapshot has begun and not saved would hold up everybody.
    fn is_evictable(&self, preference: Preference, entry: &Entry) -> bool {
        preference.allows(entry) && !self.is_entry_unsaved_large(entry)
    }

    /// Shows some keys that may go, beginning anywhere.
    fn sample(
        &self,
        preference: Preference,
        samples: usize,
        random: &mut impl FnMut() -> u64,
        mut see: impl FnMut(&[u8], &Entry, Access),
    ) {
        let samples = samples.min(preference.len_of(self));
        let mut cursor = random() >> (64 - CURSOR_BITS);
        let (mut seen, mut looks, mut turns) = (0, 0, 0);
        // Keys stand in the order of their hashes, which has nothing to do with their use.
        while seen < samples && looks < LOOKS_MAX.max(samples) && turns < 2 {
            cursor = self.table.scan_noted(cursor, samples - seen, |key, entry, access| {
                looks += 1;
                if self.is_evictable(preference, entry) {
                    seen += 1;
                    see(key, entry, access.get());
                }
            });
            // Round the end once.
            turns += usize::from(cursor == 0);
        }
    }

    /// A key that may go, chosen by chance.
    fn any_evictable(&self, preference: Preference, random: &mut impl FnMut() -> u64) -> Option<Box<[u8]>> {
        for _ in 0..DRAWS_MAX {
            let (key, entry) = self.table.random(random)?;
            if self.is_evictable(preference, entry) {
                return Some(key.into());
            }
        }
        let mut found = None;
        self.sample(preference, 1, random, |key, _, _| {
            found.get_or_insert_with(|| key.into());
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use thali_data::Str;

    use super::*;
    use crate::{Keyspace, Lfu, Locked, Typed};

    const KEYS: u64 = 4_000;
    const NOW_MS: u64 = 1_700_000_000_000;
    const LFU: Lfu = Lfu { log_factor: 10, decay_minutes: 1 };

    fn key(n: u64) -> Vec<u8> {
        format!("key:{n}").into_bytes()
    }

    /// Keys 0 to 3999 in 8 shards: the higher the number, the later and the more often it was used, and the later it
    /// is over. Every second one has a time to live.
    struct Filled {
        keyspace: Keyspace,
        uses: Uses,
        random: fastrand::Rng,
    }

    impl Filled {
        fn new(seed: u64, lfu: Option<Lfu>) -> Self {
            let keyspace = Keyspace::new(8);
            let uses = Uses::new(NOW_MS, lfu);
            for n in 0..KEYS {
                let access = match lfu {
                    None => uses.idle_for(10 * (KEYS - n)).unwrap(),
                    Some(_) => uses.counted((n * 250 / KEYS) as u8).unwrap(),
                };
                let expire_at = (n % 2 == 1).then_some(NOW_MS + 1000 + n);
                let entry = Entry::expiring(Str::from_bytes(b"v").into_value(), expire_at);
                let mut locked = keyspace.try_lock_one(keyspace.shard_of(&key(n))).unwrap();
                let db = locked.shard_mut(&key(n)).db_mut((n / 2 % 2) as u32);
                db.insert_all([(key(n), entry, access)], |_| panic!("each key once"));
            }
            Self { keyspace, uses, random: fastrand::Rng::with_seed(seed) }
        }

        /// Removes the best of what `pool` finds, `count` times.
        fn evict(&mut self, preference: Preference, samples: usize, count: usize) {
            let Self { keyspace, uses, random } = self;
            let mut pool = Pool::new(keyspace.shards_len());
            pool.prefer(preference);
            let mut evicted = 0;
            while evicted < count {
                let id = pool.next_shard(|| random.u64(..));
                let locked = keyspace.try_lock_one(id).unwrap();
                pool.look(id, locked.shards().next().unwrap().1, uses, samples, &mut || random.u64(..));
                drop(locked);
                let Some(candidate) = pool.take() else { continue };
                let mut locked: Locked<'_> =
                    keyspace.try_lock_one(keyspace.shard_of(&candidate.key)).unwrap();
                let shard = locked.shard_mut(&candidate.key);
                if shard.is_still(&candidate, preference, uses) {
                    assert!(shard.db_mut(candidate.db).remove(&candidate.key).is_some());
                    evicted += 1;
                }
            }
        }

        /// How many keys are left of those with a number in `from..to`, with a time to live and without.
        fn left(&self, from: u64, to: u64) -> [u64; 2] {
            let is_left = |n: &u64| {
                let locked = self.keyspace.try_lock_one(self.keyspace.shard_of(&key(*n))).unwrap();
                let shard = locked.shard(&key(*n));
                (0..shard.dbs_len()).any(|db| shard.db(db).is_some_and(|db| db.get(&key(*n)).is_some()))
            };
            [1, 0].map(|odd| (from..to).filter(|n| n % 2 == odd).filter(is_left).count() as u64)
        }
    }

    #[test]
    fn what_was_used_stays_and_what_was_not_goes() {
        for (lfu, by) in [(None, By::Uses), (Some(LFU), By::Uses), (None, By::TimeToLive)] {
            for only_volatile in [false, true] {
                // Keys without an end are the last ones whose end comes.
                if by == By::TimeToLive && !only_volatile {
                    continue;
                }
                for seed in 0..8 {
                    let mut filled = Filled::new(seed, lfu);
                    let evicted = if only_volatile { KEYS / 4 } else { KEYS / 2 };
                    filled.evict(Preference { by, only_volatile }, 10, evicted as usize);
                    // Half of those that may go are gone. Of the best quarter of all at most one in fifty is among
                    // them, of the worst nearly all.
                    let may_go = |[volatile, others]: [u64; 2]| volatile + u64::from(!only_volatile) * others;
                    let of_quarter = KEYS / 4 / (1 + u64::from(only_volatile));
                    let case = format!("{by:?} {lfu:?} {only_volatile} seed {seed}");
                    let (best, worst) = (filled.left(KEYS / 4 * 3, KEYS), filled.left(0, KEYS / 4));
                    assert!(may_go(best) * 50 >= of_quarter * 49, "{case}: {best:?} of {of_quarter}");
                    assert!(may_go(worst) * 10 <= of_quarter, "{case}: {worst:?} of {of_quarter}");
                    if only_volatile {
                        assert_eq!(filled.left(0, KEYS)[1], KEYS / 2, "{case}: keys without an end stay");
                    }
                }
            }
        }
    }

    #[test]
    fn chance_takes_from_everywhere_alike() {
        for only_volatile in [false, true] {
            for seed in 0..8 {
                let mut filled = Filled::new(seed, None);
                filled.evict(Preference { by: By::Chance, only_volatile }, 5, KEYS as usize / 4);
                for quarter in 0..4 {
                    let [volatile, others] = filled.left(quarter * KEYS / 4, (quarter + 1) * KEYS / 4);
                    let expected = if only_volatile { [250, 500] } else { [375, 375] };
                    let case = format!("volatile {only_volatile}, seed {seed}, quarter {quarter}");
                    assert!(volatile.abs_diff(expected[0]) < 75, "{case}: {volatile}");
                    let others_may_go = u64::from(!only_volatile) * 75;
                    assert!(others.abs_diff(expected[1]) <= others_may_go, "{case}: {others}");
                }
            }
        }
    }

    #[test]
    fn few_keys_with_an_end_are_found_among_many_without() {
        let keyspace = Keyspace::new(1);
        let uses = Uses::new(NOW_MS, None);
        let mut locked = keyspace.try_lock_one(0).unwrap();
        for n in 0..100_000u64 {
            let expire_at = (n % 20_000 == 7).then_some(NOW_MS + n);
            let entry = Entry::expiring(Str::from_bytes(b"v").into_value(), expire_at);
            locked.shard_mut(&key(n)).db_mut(0).insert(&key(n), entry, &uses);
        }
        for by in [By::Uses, By::TimeToLive, By::Chance] {
            let mut random = fastrand::Rng::with_seed(5);
            let mut pool = Pool::new(1);
            pool.prefer(Preference { by, only_volatile: true });
            let shard = locked.shards().next().unwrap().1;
            let found = (0..10_000).find_map(|_| {
                assert_eq!(pool.look(0, shard, &uses, 5, &mut || random.u64(..)), 5);
                pool.take()
            });
            let key = found.unwrap_or_else(|| panic!("{by:?} finds none")).key;
            assert!(shard.db(0).unwrap().get(&key).unwrap().expire_at().is_some());
        }
    }

    #[test]
    fn shards_are_chosen_by_what_is_in_them() {
        let keyspace = Keyspace::new(4);
        let uses = Uses::new(NOW_MS, None);
        let mut random = fastrand::Rng::with_seed(1);
        let mut pool = Pool::new(4);
        pool.prefer(Preference { by: By::Chance, only_volatile: false });
        for (id, len) in [(0, 600), (1, 0), (2, 200), (3, 200)] {
            let mut locked = keyspace.try_lock_one(id).unwrap();
            let (_, shard) = locked.shards_mut().next().unwrap();
            for n in 0..len {
                let entry = Entry::new(Str::from_bytes(b"v").into_value());
                shard.db_mut(0).insert(&key(n), entry, &uses);
            }
            assert_eq!(pool.look(id, shard, &uses, 5, &mut || random.u64(..)), len as usize);
        }
        let mut chosen = [0u32; 4];
        (0..10_000).for_each(|_| chosen[usize::from(pool.next_shard(|| random.u64(..)))] += 1);
        assert!(chosen[0].abs_diff(6000) < 300, "{chosen:?}");
        assert!(chosen[1] < 100 && chosen[2].abs_diff(chosen[3]) < 300, "{chosen:?}");
    }

    #[test]
    fn what_was_used_since_is_no_candidate_any_more() {
        let mut filled = Filled::new(1, None);
        let preference = Preference { by: By::Uses, only_volatile: false };
        let mut pool = Pool::new(8);
        pool.prefer(preference);
        let mut locked = filled.keyspace.try_lock_one(3).unwrap();
        let (_, shard) = locked.shards_mut().next().unwrap();
        pool.look(3, shard, &filled.uses, 10, &mut || filled.random.u64(..));
        let candidate = pool.take().unwrap();
        assert!(shard.is_still(&candidate, preference, &filled.uses));
        let (_, access) = shard.db(candidate.db).unwrap().find(&candidate.key).unwrap();
        access.set(filled.uses.used(access.get(), || 0));
        assert!(!shard.is_still(&candidate, preference, &filled.uses));
    }
}
