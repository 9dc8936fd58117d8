//! The lock protocol.
//!
//! - A command locks the shards of its keys before it runs and lets go after its effects have their
//!   place in the journal. Those that only read share their shards with others that do ([`Hold`]).
//! - Several shards: [`Keyspace::lock`] waits for one with empty hands and tries the others; where
//!   one is taken it lets all go and waits for that one. So nobody waits while holding.
//! - Commands that run one after the other: [`Keyspace::lock_first`] takes as many of the first as are free.
//! - A script may reach a key outside its set: [`Locked::extend`] tries; where the shard is taken
//!   and nothing was written, the script lets go and starts over with the wider set.
//! - Before its first write a script needs the one [`ScriptToken`], also by trying
//!   ([`Locked::claim_token`]). Its holder may wait for a shard while holding others.
//!
//! - A script may run for long. Whoever waits says when it would rather give up: [`Patience`].
//!
//! INVARIANT: only the token's holder waits while it holds a shard. Every chain of waiting ends at
//! somebody who holds shards and waits for none, so there is no deadlock. Shards are held until the
//! end (two-phase locking), so transactions and scripts are serialisable.

use std::ops::Deref;
use std::time::Duration;

use smallvec::SmallVec;
use thali_sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::shard::Shard;
use crate::slot::slot_of;
use crate::tracking::Tracking;

/// A shard's number.
pub type ShardId = u16;

/// The right to wait for shards while holding some.
pub type ScriptToken = Mutex<()>;

/// All shards.
pub struct Keyspace {
    shards: Box<[RwLock<Shard>]>,
    token: ScriptToken,
    pub(crate) tracking: Tracking,
}

/// Whether one who waits for a shard should go on waiting; asked every few milliseconds and never by
/// those who find their shards free. Owed: true once a script runs for too long.
pub type Patience<'p> = &'p dyn Fn() -> bool;

/// For those who must have the lock, however long it takes.
pub const ENDLESS: Patience<'static> = &|| false;

/// How long a lock is waited for between two questions.
const WAIT: Duration = Duration::from_millis(20);
/// How long one waits who is told to give up: a holder other than the script is about to let go.
const LAST_WAIT: Duration = Duration::from_millis(1);

/// How shards are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Alone, to change what is there.
    #[default]
    Alone,
    /// With others that only look.
    Shared,
}

/// A shard that is held.
enum Guard<'k> {
    Shared(RwLockReadGuard<'k, Shard>),
    Alone(RwLockWriteGuard<'k, Shard>),
}

impl<'k> Guard<'k> {
    fn try_take(lock: &'k RwLock<Shard>, hold: Hold) -> Option<Self> {
        match hold {
            Hold::Shared => lock.try_read().map(Self::Shared),
            Hold::Alone => lock.try_write().map(Self::Alone),
        }
    }

    fn wait_for(lock: &'k RwLock<Shard>, hold: Hold, gives_up: Patience<'_>) -> Option<Self> {
        match hold {
            Hold::Shared => {
                wait(gives_up, || lock.try_read(), |wait| lock.try_read_for(wait)).map(Self::Shared)
            }
            Hold::Alone => {
                wait(gives_up, || lock.try_write(), |wait| lock.try_write_for(wait)).map(Self::Alone)
            }
        }
    }

    fn alone(&mut self) -> &mut Shard {
        match self {
            Self::Alone(guard) => guard,
            Self::Shared(_) => panic!("the shard is shared: a command that only reads is about to change it"),
        }
    }
}

impl Deref for Guard<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        match self {
            Self::Shared(guard) => guard,
            Self::Alone(guard) => guard,
        }
    }
}

/// What a lock gives, or nothing once patience has ended.
fn wait<G>(
    gives_up: Patience<'_>,
    try_now: impl FnOnce() -> Option<G>,
    try_for: impl Fn(Duration) -> Option<G>,
) -> Option<G> {
    if let Some(guard) = try_now() {
        return Some(guard);
    }
    loop {
        let last = gives_up();
        if let Some(guard) = try_for(if last { LAST_WAIT } else { WAIT }) {
            return Some(guard);
        }
        if last {
            return None;
        }
    }
}

/// How [`Locked::extend`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    Held,
    /// Somebody has the shard: let go and start over with it in the set.
    Taken(ShardId),
}

impl Keyspace {
    /// A keyspace of `shards` shards, rounded up to a power of two.
    pub fn new(shards: usize) -> Self {
        let len = shards.next_power_of_two().min(4096);
        let shards = (0..len).map(|_| RwLock::default()).collect();
        Self { shards, token: Mutex::new(()), tracking: Tracking::default() }
    }

    /// How many shards there are.
    pub fn shards_len(&self) -> usize {
        self.shards.len()
    }

    /// The shard of a key.
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        slot_of(key) & (self.shards.len() as u16 - 1)
    }

    fn shard(&self, shard: ShardId) -> &RwLock<Shard> {
        &self.shards[usize::from(shard)]
    }

    /// Locks one shard, waiting for it. The caller must hold none.
    pub fn lock_one(&self, shard: ShardId, gives_up: Patience<'_>) -> Option<Locked<'_>> {
        self.hold_one(shard, Hold::Alone, gives_up)
    }

    fn hold_one(&self, shard: ShardId, hold: Hold, gives_up: Patience<'_>) -> Option<Locked<'_>> {
        let mut held = Held::new();
        held.push((shard, Guard::wait_for(self.shard(shard), hold, gives_up)?));
        Some(Locked::new(self, hold, held))
    }

    /// Locks one shard if nobody has it.
    pub fn try_lock_one(&self, shard: ShardId) -> Option<Locked<'_>> {
        let mut held = Held::new();
        held.push((shard, Guard::try_take(self.shard(shard), Hold::Alone)?));
        Some(Locked::new(self, Hold::Alone, held))
    }

    /// No shard: for those who extend later, and to let go of what is held.
    pub fn lock_none(&self) -> Locked<'_> {
        Locked::new(self, Hold::Alone, Held::new())
    }

    /// Locks a set of shards, in any order and with repetitions. The caller must hold none.
    pub fn lock(&self, shards: &[ShardId], gives_up: Patience<'_>) -> Option<Locked<'_>> {
        self.hold(shards, Hold::Alone, gives_up)
    }

    /// As [`Keyspace::lock`], to hold them alone or together with others.
    pub fn hold(&self, shards: &[ShardId], hold: Hold, gives_up: Patience<'_>) -> Option<Locked<'_>> {
        match shards {
            [] => Some(self.lock_none()),
            [one] => self.hold_one(*one, hold, gives_up),
            many => {
                let mut wanted: SmallVec<[ShardId; 16]> = many.into();
                wanted.sort_unstable();
                wanted.dedup();
                self.hold_sorted(&wanted, hold, gives_up)
            }
        }
    }

    /// Locks every shard.
    pub fn lock_all(&self, gives_up: Patience<'_>) -> Option<Locked<'_>> {
        let all: Vec<ShardId> = (0..self.shards.len() as ShardId).collect();
        self.hold_sorted(&all, Hold::Alone, gives_up)
    }

    /// As [`Keyspace::lock`], with the token: for scripts that lost a race before their first write,
    /// and for transactions that hold scripts.
    pub fn lock_with_token(&self, shards: &[ShardId], gives_up: Patience<'_>) -> Option<Locked<'_>> {
        // Waited for with empty hands.
        let token = wait(gives_up, || self.token.try_lock(), |wait| self.token.try_lock_for(wait))?;
        let mut locked = self.lock(shards, gives_up)?;
        locked.token = Some(token);
        Some(locked)
    }

    /// Locks the shards of commands that run one after the other, and gives the place of each command's: it waits for
    /// the first one's shard, and ends before the first whose shard is taken. The caller must hold none.
    pub fn lock_first<'k>(
        &'k self,
        shards: impl IntoIterator<Item = ShardId>,
        hold: Hold,
        gives_up: Patience<'_>,
    ) -> Option<(Locked<'k>, SmallVec<[Place; 16]>)> {
        let shards = shards.into_iter();
        let mut held = Held::with_capacity(shards.size_hint().0);
        let mut places = SmallVec::new();
        for shard in shards {
            let place = match held.iter().position(|(id, _)| *id == shard) {
                Some(place) => place,
                None => {
                    let lock = self.shard(shard);
                    let guard = match held.is_empty() {
                        true => Some(Guard::wait_for(lock, hold, gives_up)?),
                        false => Guard::try_take(lock, hold),
                    };
                    let Some(guard) = guard else { break };
                    held.push((shard, guard));
                    held.len() - 1
                }
            };
            places.push(Place(place));
        }
        Some((Locked { is_grown: true, ..Locked::new(self, hold, held) }, places))
    }

    fn hold_sorted(&self, wanted: &[ShardId], hold: Hold, gives_up: Patience<'_>) -> Option<Locked<'_>> {
        let mut awaited = wanted[0];
        loop {
            // Waited for with empty hands; the others are tried.
            let mut first = Some(Guard::wait_for(self.shard(awaited), hold, gives_up)?);
            let mut held = Held::with_capacity(wanted.len());
            let mut taken = None;
            for &shard in wanted {
                let guard =
                    if shard == awaited { first.take() } else { Guard::try_take(self.shard(shard), hold) };
                match guard {
                    Some(guard) => held.push((shard, guard)),
                    None => {
                        taken = Some(shard);
                        break;
                    }
                }
            }
            match taken {
                None => return Some(Locked::new(self, hold, held)),
                Some(shard) => awaited = shard,
            }
        }
    }
}

type Held<'k> = SmallVec<[(ShardId, Guard<'k>); 4]>;

/// Where a shard stands among those that are held together, until they are let go.
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

/// Shards that the caller holds; they are let go when this is dropped.
pub struct Locked<'k> {
    keyspace: &'k Keyspace,
    hold: Hold,
    held: Held<'k>,
    token: Option<MutexGuard<'k, ()>>,
    /// The shards that are held came one by one, in any order; otherwise they are sorted.
    is_grown: bool,
    /// The place in `held` of the one shard that is worked on; `None`: any of them.
    focus: Option<usize>,
}

impl<'k> Locked<'k> {
    fn new(keyspace: &'k Keyspace, hold: Hold, held: Held<'k>) -> Self {
        let focus = (held.len() == 1).then_some(0);
        Self { keyspace, hold, held, token: None, is_grown: false, focus }
    }

    /// Whether others may look at the shards meanwhile, so that nothing there can be changed.
    pub fn is_shared(&self) -> bool {
        self.hold == Hold::Shared
    }

    /// Where a shard stands; `None` where it is not held.
    pub fn place_of(&self, shard: ShardId) -> Option<Place> {
        self.position(shard).map(Place)
    }

    /// Says that until further notice all keys are of the shard in this place: finding the shard of a key costs a
    /// checksum of it, and one command looks its key up several times. `None`: keys are of any shard that is held.
    pub fn focus(&mut self, on: Option<Place>) {
        self.focus = match on {
            Some(Place(position)) => Some(position),
            None => (self.held.len() == 1).then_some(0),
        };
    }

    /// The keyspace that the shards belong to.
    pub fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// Whether no shard is held.
    pub fn holds_none(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether the shard is held.
    pub fn holds(&self, shard: ShardId) -> bool {
        self.position(shard).is_some()
    }

    /// The shard of a key.
    ///
    /// # Panics
    /// Where the shard is not held: the command's key specification is wrong. Where one alone is, only a build with
    /// assertions looks.
    pub fn shard(&self, key: &[u8]) -> &Shard {
        let position = self.held_position(key);
        &self.held[position].1
    }

    /// As [`Locked::shard`], to change it.
    ///
    /// # Panics
    /// As it does, and where the shards are shared: the command's flags are wrong.
    pub fn shard_mut(&mut self, key: &[u8]) -> &mut Shard {
        let position = self.held_position(key);
        self.held[position].1.alone()
    }

    /// A shard by its number, where it is held.
    pub fn by_id(&self, shard: ShardId) -> Option<&Shard> {
        self.position(shard).map(|position| &*self.held[position].1)
    }

    /// The shard in this place.
    pub fn at(&self, Place(position): Place) -> &Shard {
        &self.held[position].1
    }

    /// All held shards, lowest first where they were locked as a set.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &Shard)> {
        self.held.iter().map(|(id, shard)| (*id, &**shard))
    }

    /// All held shards, to change them.
    pub fn shards_mut(&mut self) -> impl Iterator<Item = (ShardId, &mut Shard)> {
        self.held.iter_mut().map(|(id, shard)| (*id, shard.alone()))
    }

    /// The numbers of the held shards.
    pub fn ids(&self) -> SmallVec<[ShardId; 16]> {
        self.held.iter().map(|(id, _)| *id).collect()
    }

    /// Holds one shard more: by trying, or, with the token, by waiting.
    pub fn extend(&mut self, shard: ShardId, gives_up: Patience<'_>) -> Extend {
        if self.holds(shard) {
            return Extend::Held;
        }
        let lock = self.keyspace.shard(shard);
        let guard = match self.token.is_some() {
            true => Guard::wait_for(lock, self.hold, gives_up),
            false => Guard::try_take(lock, self.hold),
        };
        let Some(guard) = guard else { return Extend::Taken(shard) };
        self.hold_too(shard, guard);
        Extend::Held
    }

    /// Holds one shard more if nobody has it, token or not.
    pub fn try_extend(&mut self, shard: ShardId) -> Extend {
        if self.holds(shard) {
            return Extend::Held;
        }
        match Guard::try_take(self.keyspace.shard(shard), self.hold) {
            Some(guard) => {
                self.hold_too(shard, guard);
                Extend::Held
            }
            None => Extend::Taken(shard),
        }
    }

    fn hold_too(&mut self, shard: ShardId, guard: Guard<'k>) {
        self.held.push((shard, guard));
        self.is_grown = true;
        self.focus = (self.held.len() == 1).then_some(0);
    }

    /// Takes the token by trying; true where it is held now.
    pub fn claim_token(&mut self) -> bool {
        if self.token.is_none() {
            self.token = self.keyspace.token.try_lock();
        }
        self.token.is_some()
    }

    fn held_position(&self, key: &[u8]) -> usize {
        if let Some(position) = self.focus {
            debug_assert_eq!(self.held[position].0, self.keyspace.shard_of(key), "a key of another shard");
            return position;
        }
        let shard = self.keyspace.shard_of(key);
        match self.position(shard) {
            Some(position) => position,
            None => panic!("shard {shard} is not held: the command's key specification misses a key"),
        }
    }

    fn position(&self, shard: ShardId) -> Option<usize> {
        // One, all, and the part of a worker that loads stand without gaps.
        let from_first = usize::from(shard.wrapping_sub(self.held.first()?.0));
        if self.held.get(from_first).is_some_and(|(id, _)| *id == shard) {
            return Some(from_first);
        }
        if self.is_grown || self.held.len() <= 8 {
            return self.held.iter().position(|(id, _)| *id == shard);
        }
        self.held.binary_search_by_key(&shard, |(id, _)| *id).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn sets_in_any_order_do_not_deadlock_and_exclude_each_other() {
        let keyspace = Keyspace::new(8);
        let inside: Vec<AtomicUsize> = (0..8).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4u16 {
                let (keyspace, inside) = (&keyspace, &inside);
                scope.spawn(move || {
                    for round in 0..2_000u16 {
                        let set = [(round + thread) % 8, (round * 3 + 1) % 8, (7 - thread) % 8];
                        let locked = keyspace.lock(&set, ENDLESS).unwrap();
                        for id in locked.ids() {
                            assert_eq!(inside[usize::from(id)].fetch_add(1, Ordering::SeqCst), 0);
                        }
                        for id in locked.ids() {
                            inside[usize::from(id)].fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn those_who_only_look_share_and_keep_others_out() {
        let keyspace = Keyspace::new(4);
        let shared = keyspace.hold(&[0, 1], Hold::Shared, ENDLESS).unwrap();
        let other = keyspace.hold(&[1, 2], Hold::Shared, &|| true).unwrap();
        assert!(shared.is_shared() && other.is_shared());
        assert!(keyspace.try_lock_one(1).is_none() && keyspace.lock(&[1, 3], &|| true).is_none());
        drop(shared);
        assert!(keyspace.try_lock_one(0).is_some_and(|alone| !alone.is_shared()));
        assert!(keyspace.try_lock_one(1).is_none());
    }

    #[test]
    #[should_panic(expected = "the shard is shared")]
    fn nothing_can_be_changed_in_a_shard_that_is_shared() {
        let keyspace = Keyspace::new(1);
        keyspace.hold(&[0], Hold::Shared, ENDLESS).unwrap().shard_mut(b"key").db_mut(0);
    }

    #[test]
    fn a_row_of_commands_ends_before_the_first_whose_shard_is_taken() {
        let keyspace = Keyspace::new(8);
        let taken = keyspace.try_lock_one(5).unwrap();
        let (locked, places) = keyspace.lock_first([3, 7, 3, 0, 5, 3], Hold::Alone, ENDLESS).unwrap();
        assert_eq!(locked.ids()[..], [3, 7, 0]);
        let found: Vec<_> = places.iter().map(|place| std::ptr::from_ref(locked.at(*place))).collect();
        assert_eq!(found, [3, 7, 3, 0].map(|shard| std::ptr::from_ref(locked.by_id(shard).unwrap())));
        assert!(
            keyspace.lock_first([5, 1], Hold::Alone, &|| true).is_none(),
            "the first one's is waited for"
        );
        drop(taken);
        let (locked, places) = keyspace.lock_first([5, 1], Hold::Shared, ENDLESS).unwrap();
        assert!(locked.is_shared() && places.len() == 2);
    }

    #[test]
    fn without_the_token_a_taken_shard_is_reported() {
        let keyspace = Keyspace::new(4);
        let other = keyspace.try_lock_one(1).unwrap();
        let mut mine = keyspace.try_lock_one(0).unwrap();
        assert_eq!(mine.extend(1, ENDLESS), Extend::Taken(1));
        drop(other);
        assert_eq!(mine.extend(1, ENDLESS), Extend::Held);
        assert!(mine.claim_token());
        assert!(!keyspace.try_lock_one(2).unwrap().claim_token());
    }

    #[test]
    fn held_shards_are_found_by_number_with_gaps_and_without() {
        let keyspace = Keyspace::new(32);
        let every_second: Vec<ShardId> = (0..32).step_by(2).collect();
        for set in [&[5][..], &[5, 6, 7], &[5, 7, 9], &every_second, &(20..32).collect::<Vec<_>>()] {
            let mut locked = keyspace.lock(set, ENDLESS).unwrap();
            let free = (0..32).find(|shard| !set.contains(shard)).unwrap();
            (0..32)
                .for_each(|shard| assert_eq!(locked.by_id(shard).is_some(), set.contains(&shard), "{set:?}"));
            assert_eq!(locked.extend(free, ENDLESS), Extend::Held);
            for shard in locked.ids() {
                let found: *const Shard = locked.by_id(shard).unwrap();
                let (_, held) = locked.shards().find(|(id, _)| *id == shard).unwrap();
                assert!(std::ptr::eq(found, held), "{set:?}, {shard}");
            }
        }
    }

    #[test]
    fn who_loses_patience_holds_nothing() {
        let keyspace = Keyspace::new(4);
        let busy = keyspace.try_lock_one(2).unwrap();
        assert!(keyspace.lock(&[0, 2, 3], &|| true).is_none());
        assert!(keyspace.lock_all(&|| true).is_none());
        assert!(keyspace.try_lock_one(0).is_some() && keyspace.try_lock_one(3).is_some());
        drop(busy);
        assert!(keyspace.lock_with_token(&[0, 2, 3], &|| true).is_some());
    }
}
