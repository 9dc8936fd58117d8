//! The walk of a running snapshot: from the point in time to the last shard, in short holds, by whoever has
//! time.
//!
//! The event loops walk at the end of their ticks: they hold shards anyway, and give the walk a share of the
//! time that they spend on clients. A thread of its own would compete with them for the cores and be put off
//! while it holds a shard (65 ms seen on a full machine, 0.26 ms of them its own). The thread that writes the
//! file walks as well only where a loop waits for it ([`Pace::InHaste`]) or where no loop gets to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use thali_keyspace::{Access, Db, ENDLESS, Entry, Keyspace, Locked, Part, Saver, SnapshotSink, Uses, Walked};
use thali_rdb::{Place, Version, is_large};

use super::pieces::{KeyForm, Keys, Pieces};

/// Keys that are saved between two looks at the clock.
const KEYS_A_STEP: usize = 8;
/// Elements of a large value that are saved between two looks at the clock.
const ELEMENTS_A_STEP: usize = 256;
/// Bytes that a shard is held for at most, but for a key or element that alone has more.
const HOLD_BYTES: usize = 64 << 10;
/// How long a loop walks in a tick in which nobody asked anything, and the thread in one go.
pub(super) const HOLD: Duration = Duration::from_micros(200);
/// How long a loop walks at least in a tick.
const HOLD_MIN: Duration = Duration::from_micros(20);
/// A loop walks for the time that its tick took, divided by this.
const SHARE: u32 = 4;

/// Who walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The loops.
    Shared,
    /// The thread and the loops: somebody waits for the end, or there are no loops.
    InHaste,
    /// The thread, with a pause for each key: `rdb-key-save-delay`.
    Delayed(Duration),
}

/// How the walk is to go on; may change while it runs.
#[derive(Debug)]
struct Course {
    pause: Duration,
    /// Somebody waits for the end.
    in_haste: bool,
    /// Nobody wants what it saves.
    is_broken_off: bool,
}

/// The form of what is saved.
#[derive(Clone, Copy, Debug)]
pub(super) enum Saves {
    Rdb {
        compressed: bool,
        /// Where uses of keys are saved, too: as they are at the point in time.
        uses: Option<Uses>,
    },
    /// Each value whole, as it comes, however large: requests have no parts.
    Requests,
}

impl Saves {
    fn by_walkers(self) -> KeyForm {
        match self {
            Self::Rdb { compressed, uses } => KeyForm::rdb(compressed, uses),
            Self::Requests => KeyForm::Requests,
        }
    }

    fn by_writers(self) -> KeyForm {
        match self {
            // They are clients' commands, with no time to compress.
            Self::Rdb { uses, .. } => KeyForm::rdb(false, uses),
            Self::Requests => KeyForm::Requests,
        }
    }
}

/// A running snapshot.
pub(crate) struct Walk {
    pub(super) pieces: Pieces,
    course: Mutex<Course>,
    /// Wakes the thread from a pause.
    course_changed: Condvar,
    saves: Saves,
    /// Shards of which everything is saved.
    through: Box<[AtomicBool]>,
    /// How many are not.
    left: AtomicUsize,
    /// The shard with a large value of which a part is saved, and 1; 0: there is none.
    begun: AtomicU32,
    /// The shard with a large value that somebody waits for, and 1; 0: there is none.
    awaited: AtomicU32,
    /// Holds by loops, for the thread to see whether they get to it.
    holds_of_loops: AtomicU64,
    longest_hold_nanos: AtomicU64,
    /// Some hash has fields with times.
    has_timed_hashes: AtomicBool,
}

/// One who walks: where, and with which scratch memory.
pub(crate) struct Walker {
    walk: Arc<Walk>,
    keys: Keys,
    shard: usize,
    /// Of what this hold has saved, some is a part of a large value.
    has_parts: bool,
    /// And there is more of it.
    goes_on: bool,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    More,
    /// What was saved must be written first, or others hold the shards that are left.
    NotNow,
    Through,
}

impl Walk {
    /// Fixes the point in time. `at_the_cut` runs while every shard is held.
    pub(super) fn begin(
        keyspace: &Keyspace,
        pause: Duration,
        in_haste: bool,
        saves: Saves,
        at_the_cut: impl FnOnce(),
    ) -> Arc<Self> {
        let walk = Arc::new(Self {
            pieces: Pieces::new(saves.by_writers()),
            course: Mutex::new(Course { pause, in_haste, is_broken_off: false }),
            course_changed: Condvar::new(),
            saves,
            through: (0..keyspace.shards_len()).map(|_| AtomicBool::new(false)).collect(),
            left: AtomicUsize::new(keyspace.shards_len()),
            begun: AtomicU32::new(0),
            awaited: AtomicU32::new(0),
            holds_of_loops: AtomicU64::new(0),
            longest_hold_nanos: AtomicU64::new(0),
            has_timed_hashes: AtomicBool::new(false),
        });
        let sink: Arc<dyn SnapshotSink> = Arc::clone(&walk) as _;
        let mut locked = keyspace.lock_all(ENDLESS).expect("patience without end");
        locked.shards_mut().for_each(|(_, shard)| shard.begin_snapshot(&sink));
        let has_timed_hashes = locked.shards().any(|(_, shard)| shard.has_timed_hashes());
        walk.has_timed_hashes.store(has_timed_hashes, Ordering::Relaxed);
        at_the_cut();
        walk
    }

    /// Which servers can read what is saved.
    pub(super) fn version(&self) -> Version {
        if self.has_timed_hashes.load(Ordering::Relaxed) { Version::V12 } else { Version::default() }
    }

    pub(super) fn pace(&self) -> Pace {
        match *self.course.lock() {
            Course { is_broken_off: true, .. } => Pace::InHaste,
            Course { pause: Duration::ZERO, in_haste: false, .. } => Pace::Shared,
            Course { pause: Duration::ZERO, in_haste: true, .. } => Pace::InHaste,
            Course { pause, .. } => Pace::Delayed(pause),
        }
    }

    /// Whether loops may join.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self.pace(), Pace::Delayed(_))
    }

    /// From now on, `rdb-key-save-delay` is this.
    pub(super) fn set_pause(&self, pause: Duration) {
        self.course.lock().pause = pause;
        self.wake();
    }

    /// What it saves from here on goes nowhere, and it comes to its end soon.
    pub(super) fn break_off(&self) {
        self.course.lock().is_broken_off = true;
        self.wake();
    }

    pub(super) fn is_broken_off(&self) -> bool {
        self.course.lock().is_broken_off
    }

    /// Ends a pause early.
    pub(super) fn wake(&self) {
        // With the lock, so that nobody is between the look and the wait.
        drop(self.course.lock());
        self.course_changed.notify_all();
        self.pieces.notify();
    }

    /// The thread's pause, unless the course changes or `gives_up` says so before.
    pub(super) fn rest(&self, pause: Duration, gives_up: &dyn Fn() -> bool) {
        let until = Instant::now() + pause;
        let mut course = self.course.lock();
        while course.pause == pause && !course.is_broken_off && !gives_up() {
            if self.course_changed.wait_until(&mut course, until).timed_out() {
                return;
            }
        }
    }

    /// Whether all that was there at the point in time is saved, and in the pieces.
    pub(super) fn is_through(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    pub(super) fn holds_of_loops(&self) -> u64 {
        self.holds_of_loops.load(Ordering::Relaxed)
    }

    /// The longest time for which a shard was held.
    pub(super) fn longest_hold(&self) -> Duration {
        Duration::from_nanos(self.longest_hold_nanos.load(Ordering::Relaxed))
    }

    /// Whether a key has a large value that is not saved yet; it is the next one then.
    pub(super) fn awaits(&self, locked: &mut Locked<'_>, db: u32, key: &[u8]) -> bool {
        let shard = locked.keyspace().shard_of(key);
        if !locked.shard(key).db(db).is_some_and(|db| db.is_unsaved_large(key)) {
            return false;
        }
        locked.shard_mut(key).db_mut(db).hurry(key);
        self.awaited.store(u32::from(shard) + 1, Ordering::Release);
        true
    }

    fn forget_awaited(&self, shard: usize) {
        let _ = self.awaited.compare_exchange(shard as u32 + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn end_shard(&self, shard: usize) {
        self.forget_awaited(shard);
        if !self.through[shard].swap(true, Ordering::AcqRel) && self.left.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.pieces.notify();
        }
    }
}

impl SnapshotSink for Walk {
    fn save(&self, db: u32, key: &[u8], entry: &Entry, access: Access) {
        self.pieces.save(db, key, entry, access);
    }

    fn save_rest(&self, _: u32, _: &[u8], entry: &Entry, place: u128) {
        self.pieces.save_rest(entry, Place::from_bits(place));
        self.begun.store(0, Ordering::Release);
    }

    fn is_large(&self, entry: &Entry) -> bool {
        !matches!(self.saves, Saves::Requests) && is_large(&entry.value)
    }
}

impl Walker {
    /// One that begins at its own part of the shards: `at` of `of`.
    pub fn new(walk: Arc<Walk>, at: usize, of: usize) -> Self {
        let shard = walk.through.len() * at / of;
        let keys = Keys::new(walk.saves.by_walkers());
        Self { walk, keys, shard, has_parts: false, goes_on: false }
    }

    /// Whether it belongs to this walk.
    pub fn is_of(&self, walk: &Arc<Walk>) -> bool {
        Arc::ptr_eq(&self.walk, walk)
    }

    /// A loop's part, after a tick that took `tick`. It waits for nobody.
    pub fn step_of_loop(
        &mut self,
        keyspace: &Keyspace,
        tick: Option<Duration>,
        retired: &mut Vec<Db>,
    ) -> Stepped {
        let budget = tick.map_or(HOLD, |tick| (tick / SHARE).clamp(HOLD_MIN, HOLD));
        self.walk.holds_of_loops.fetch_add(1, Ordering::Relaxed);
        self.step(budget, &|shard| keyspace.try_lock_one(shard), retired)
    }

    /// The thread's part; `None` where `gives_up` said so.
    pub fn step_of_thread(&mut self, keyspace: &Keyspace, gives_up: &dyn Fn() -> bool) -> Option<Stepped> {
        let budget = if self.walk.is_shared() { HOLD } else { Duration::ZERO };
        let mut retired = Vec::new();
        let stepped = self.step(budget, &|shard| keyspace.lock_one(shard, gives_up), &mut retired);
        (!gives_up()).then_some(stepped)
    }

    /// Walks on for about `budget`.
    fn step<'k>(
        &mut self,
        budget: Duration,
        lock: &dyn Fn(u16) -> Option<Locked<'k>>,
        retired: &mut Vec<Db>,
    ) -> Stepped {
        if self.walk.pieces.is_full() {
            return Stepped::NotNow;
        }
        let begun = Instant::now();
        let mut stepped = Stepped::NotNow;
        // Nothing else can be written before what is begun, and nobody should wait for long.
        let first = [&self.walk.begun, &self.walk.awaited].map(|shard| shard.load(Ordering::Acquire));
        if let Some(shard) = first.into_iter().find(|shard| *shard != 0) {
            self.shard = shard as usize - 1;
        }
        let shards = if first[0] != 0 { 1 } else { self.walk.through.len() };
        for _ in 0..shards {
            if self.walk.is_through() {
                return Stepped::Through;
            }
            if !self.walk.through[self.shard].load(Ordering::Relaxed)
                && let Some(locked) = lock(self.shard as u16)
            {
                match self.hold(locked, begun, budget, retired) {
                    Held::Spent => return Stepped::More,
                    Held::Blocked => return Stepped::NotNow,
                    Held::Through => stepped = Stepped::More,
                }
            }
            self.shard = (self.shard + 1) % self.walk.through.len();
        }
        stepped
    }

    /// Saves keys of one shard for as long as it may be held.
    fn hold(
        &mut self,
        mut locked: Locked<'_>,
        begun: Instant,
        budget: Duration,
        retired: &mut Vec<Db>,
    ) -> Held {
        let held_since = Instant::now();
        let keys_a_step = if budget.is_zero() { 1 } else { KEYS_A_STEP };
        let (_, shard) = locked.shards_mut().next().expect("it was locked just now");
        if self.walk.pieces.discards() {
            retired.append(&mut shard.forget_retired());
        }
        let held = loop {
            match shard.walk_snapshot(keys_a_step, self) {
                Walked::More if self.keys.bytes.len() < HOLD_BYTES && begun.elapsed() < budget => {}
                Walked::More => break Held::Spent,
                Walked::NotNow => break Held::Blocked,
                Walked::Retired(db) => retired.push(db),
                Walked::Done => break Held::Through,
            }
        };
        // While the shard is held: another walker may be the one that finds it through, and then everything of
        // it is to be in the pieces.
        let has_parts = std::mem::take(&mut self.has_parts);
        self.walk.pieces.append(&mut self.keys, has_parts, self.goes_on);
        if has_parts && !self.goes_on {
            self.walk.begun.store(0, Ordering::Release);
            self.walk.forget_awaited(self.shard);
        }
        drop(locked);
        let nanos = u64::try_from(held_since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.walk.longest_hold_nanos.fetch_max(nanos, Ordering::Relaxed);
        self.keys.bytes.shrink_to(2 * HOLD_BYTES);
        if matches!(held, Held::Through) {
            self.walk.end_shard(self.shard);
        }
        held
    }
}

/// How a hold ended.
enum Held {
    Spent,
    /// A large value is next, and another one is begun.
    Blocked,
    Through,
}

impl Saver for Walker {
    fn save(&mut self, db: u32, key: &[u8], entry: &Entry, access: Access) {
        if !self.walk.pieces.discards() {
            self.keys.push(db, key, entry, access);
        }
    }

    fn save_part(&mut self, db: u32, key: &[u8], entry: &Entry, access: Access, place: Option<u128>) -> Part {
        let place = match place {
            Some(place) => Place::from_bits(place),
            None if !self.walk.pieces.begin_parts() => return Part::NotNow,
            None => {
                self.walk.begun.store(self.shard as u32 + 1, Ordering::Release);
                self.keys.begin(db, key, entry, access)
            }
        };
        let next = self.keys.part(entry, place, ELEMENTS_A_STEP);
        (self.has_parts, self.goes_on) = (true, next.is_some());
        next.map_or(Part::Last, |place| Part::Next(place.to_bits()))
    }
}
