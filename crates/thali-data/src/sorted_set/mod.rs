//! Sorted sets: members with scores, ordered by (score, member bytes).
//!
//! A small set is one run of bytes ([`packed`]). A large one stores each member once ([`members`]), finds it
//! by hash ([`index`]) and orders it in a counting B+tree ([`tree`]). A set that has become large stays so.
//! Every range, by rank, score or member, is first turned into a range of ranks in O(log n); everything
//! else (reading forwards or backwards, counting, removing) works on ranks.
//!
//! Refuses: NaN scores (a bug of the caller), flags such as NX or GT (the command's affair).

mod index;
mod members;
mod packed;
mod range;
mod tree;

pub use range::{LexBound, LexRange, ScoreBound, ScoreRange};

use crate::Limits;
use crate::form::{Form, Mut, Ref};
use index::MemberIndex;
use members::{MemberId, Members};
pub(crate) use packed::PackedElements;
use packed::PackedWalk;
use range::Cut;
use std::convert::Infallible;
use std::ops::Range;
use tree::{Position, Target, Tree};

/// What an insertion did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Inserted {
    Added,
    Updated {
        old_score: f64,
    },
    /// The member was there with an equal score.
    Unchanged,
}

/// A sorted set.
#[derive(Clone)]
pub struct SortedSet(Form<PackedElements, Large>);

#[derive(Clone)]
struct Large {
    members: Members,
    index: MemberIndex,
    tree: Tree,
}

impl Default for SortedSet {
    fn default() -> Self {
        Self::new()
    }
}

impl SortedSet {
    pub fn new() -> Self {
        Self(Form::small(PackedElements::default()))
    }

    pub fn len(&self) -> usize {
        match self.0.get() {
            Ref::Small(packed) => packed.len(),
            Ref::Large(large) => large.tree.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name that OBJECT ENCODING gives this form.
    pub fn encoding(&self) -> &'static str {
        match self.0.get() {
            Ref::Small(_) => "listpack",
            Ref::Large(_) => "skiplist",
        }
    }

    /// Bytes on the heap, as far as the structures know them.
    pub fn memory_bytes(&self) -> usize {
        match self.0.get() {
            Ref::Small(packed) => packed.memory_bytes(),
            Ref::Large(large) => {
                let parts =
                    large.members.memory_bytes() + large.index.memory_bytes() + large.tree.memory_bytes();
                size_of::<Large>() + parts
            }
        }
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.0.get() {
            Ref::Small(packed) => packed.score(member),
            Ref::Large(large) => large.index.find(&large.members, member).map(|id| large.members.score(id)),
        }
    }

    /// Asks for the memory of a member.
    pub fn touch(&self, member: &[u8]) {
        if let Ref::Large(large) = self.0.get() {
            large.index.touch(&large.members, member);
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        self.score(member).is_some()
    }

    /// Adds a member or moves it to a new score. Panics when the score is NaN.
    ///
    /// The limits decide when a packed set grows up.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> Inserted {
        let Ok((old, _)) = self.update(member, limits, |_| Ok::<_, Infallible>(Some(score)));
        match old {
            None => Inserted::Added,
            Some(old_score) if old_score == score => Inserted::Unchanged,
            Some(old_score) => Inserted::Updated { old_score },
        }
    }

    /// As [`SortedSet::insert`], with a score that depends on the one that the member has; `None` and errors leave all as
    /// it is. Gives the scores before and after.
    pub fn update<E>(
        &mut self,
        member: &[u8],
        limits: &Limits,
        score: impl FnOnce(Option<f64>) -> Result<Option<f64>, E>,
    ) -> Result<(Option<f64>, Option<f64>), E> {
        let (id, old) = match self.0.get() {
            Ref::Small(packed) => (None, packed.score(member)),
            Ref::Large(large) => {
                let id = large.index.find(&large.members, member);
                (id, id.map(|id| large.members.score(id)))
            }
        };
        let new = score(old)?;
        let Some(score) = new.filter(|_| new != old) else { return Ok((old, old)) };
        assert!(!score.is_nan(), "a score is a number");
        if old.is_none()
            && let Ref::Small(packed) = self.0.get()
            && (packed.len() >= limits.zset_max_listpack_entries
                || member.len() > limits.zset_max_listpack_value)
        {
            self.0 = Form::large(Large::from_packed(packed));
        }
        match (self.0.get_mut(), id) {
            (Mut::Small(packed), _) => {
                if old.is_some() {
                    packed.remove(member);
                }
                packed.insert(member, score);
            }
            (Mut::Large(large), Some(id)) => large.move_to(id, member, score),
            (Mut::Large(large), None) => large.add(member, score),
        }
        Ok((old, new))
    }

    /// Removes a member; gives its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self.0.get_mut() {
            Mut::Small(packed) => packed.remove(member),
            Mut::Large(large) => large.remove(member),
        }
    }

    /// Rank (0 is the lowest) and score of a member.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.0.get() {
            Ref::Small(packed) => packed.rank(member),
            Ref::Large(large) => {
                let id = large.index.find(&large.members, member)?;
                let score = large.members.score(id);
                Some((large.tree.count_before(&large.members, Cut::Element(score, member)), score))
            }
        }
    }

    /// Rank from the top (0 is the highest) and score of a member.
    pub fn reverse_rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        self.rank(member).map(|(rank, score)| (self.len() - 1 - rank, score))
    }

    /// The element with this rank.
    pub fn at(&self, rank: usize) -> Option<(&[u8], f64)> {
        self.range(rank..rank.saturating_add(1)).next()
    }

    /// The ranks of the elements whose scores lie in a range; empty where it is.
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        let (start, end) = range.cuts();
        self.ranks_between(start, end)
    }

    /// The ranks of the members in a range, in a set whose scores are all equal.
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        let (start, end) = range.cuts();
        self.ranks_between(start, end)
    }

    fn ranks_between(&self, start: Cut<'_>, end: Cut<'_>) -> Range<usize> {
        let start = self.count_before(start);
        start..self.count_before(end).max(start)
    }

    fn count_before(&self, cut: Cut<'_>) -> usize {
        match self.0.get() {
            Ref::Small(packed) => packed.count_before(cut),
            Ref::Large(large) => large.tree.count_before(&large.members, cut),
        }
    }

    /// All elements, lowest first. Reversible.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// The elements with these ranks, lowest first; ranks past the end are left out. `rev()` gives them
    /// highest first at the same cost: O(log n) to start, O(1) a step (packed sets collect their elements).
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        let end = ranks.end.min(self.len());
        let count = end.saturating_sub(ranks.start);
        let walk = match self.0.get() {
            _ if count == 0 => Walk::Packed(PackedElements::empty_walk(), Vec::new()),
            Ref::Small(packed) => {
                let mut walk = packed.walk();
                if ranks.start > 0 {
                    walk.nth(ranks.start - 1);
                }
                Walk::Packed(walk, Vec::new())
            }
            Ref::Large(large) => Walk::Large(large, large.tree.seek(ranks.start), large.tree.seek(end - 1)),
        };
        Iter { walk, count }
    }

    /// Removes the elements with these ranks, reporting each before it goes.
    pub fn remove_range(&mut self, ranks: Range<usize>, mut removed: impl FnMut(&[u8], f64)) -> usize {
        let end = ranks.end.min(self.len());
        let count = end.saturating_sub(ranks.start);
        if count == 0 {
            return 0;
        }
        self.range(ranks.start..end).for_each(|(member, score)| removed(member, score));
        match self.0.get_mut() {
            Mut::Small(packed) => packed.remove_ranks(ranks.start, end),
            Mut::Large(large) => (0..count).for_each(|_| large.remove_rank(ranks.start)),
        }
        count
    }

    /// Takes the element with the lowest score.
    pub fn pop_min(&mut self) -> Option<(Vec<u8>, f64)> {
        self.pop(0)
    }

    /// Takes the element with the highest score.
    pub fn pop_max(&mut self) -> Option<(Vec<u8>, f64)> {
        self.pop(self.len().checked_sub(1)?)
    }

    fn pop(&mut self, rank: usize) -> Option<(Vec<u8>, f64)> {
        let mut popped = None;
        self.remove_range(rank..rank + 1, |member, score| popped = Some((member.to_vec(), score)));
        popped
    }

    /// One step of SCAN: visits about `count` elements and gives the next cursor, 0 at the end.
    ///
    /// An element that is in the set from the first step to the last is visited; none is visited twice unless
    /// the set changes. A packed set is visited in one step.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(&'a [u8], f64)) -> u64 {
        let large = match self.0.get() {
            Ref::Small(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                return 0;
            }
            Ref::Large(large) => large,
        };
        // Walking over vacant numbers is bounded too, as Redis bounds empty buckets.
        let mut visits_left = count.max(1);
        let mut steps_left = count.max(1).saturating_mul(10);
        let end = large.members.id_end();
        let mut at = cursor;
        while at < end && visits_left > 0 && steps_left > 0 {
            if let Some((member, score)) = large.members.live(at as u32) {
                visit(member, score);
                visits_left -= 1;
            }
            steps_left -= 1;
            at += 1;
        }
        if at < end { at } else { 0 }
    }
}

impl Large {
    fn from_packed(packed: &PackedElements) -> Self {
        let mut large = Self { members: Members::default(), index: MemberIndex::new(), tree: Tree::new() };
        packed.walk().for_each(|(member, score)| large.add(member, score));
        large
    }

    /// Adds a member that is not there yet.
    fn add(&mut self, member: &[u8], score: f64) {
        let id = self.members.insert(member, score);
        self.index.insert(&self.members, id);
        self.tree.insert(&self.members, score, id);
    }

    fn move_to(&mut self, id: MemberId, member: &[u8], score: f64) {
        let moving = Target::Moving(self.members.score(id), member, score);
        let removed = self.tree.remove(&self.members, moving);
        self.members.set_score(id, score);
        if removed.is_some() {
            self.tree.insert(&self.members, score, id);
        }
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let id = self.index.find(&self.members, member)?;
        let score = self.members.score(id);
        self.tree.remove(&self.members, Target::Element(score, member));
        self.forget(id);
        Some(score)
    }

    fn remove_rank(&mut self, rank: usize) {
        if let Some(id) = self.tree.remove(&self.members, Target::Rank(rank)) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: MemberId) {
        self.index.remove(&self.members, id);
        self.members.remove(id);
    }
}

/// Elements by rank, from both ends.
pub struct Iter<'a> {
    walk: Walk<'a>,
    count: usize,
}

enum Walk<'a> {
    /// The walk, and the elements it had left once somebody asked for the last one.
    Packed(PackedWalk<'a>, Vec<(&'a [u8], f64)>),
    Large(&'a Large, Position, Position),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        match &mut self.walk {
            Walk::Packed(walk, _) => walk.next(),
            Walk::Large(large, front, _) => {
                let (id, score) = large.tree.element(*front);
                *front = large.tree.after(*front);
                Some((large.members.bytes(id), score))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let count = self.count.checked_sub(1)?;
        let item = match &mut self.walk {
            Walk::Packed(walk, collected) => {
                if collected.is_empty() {
                    collected.extend(walk.clone().take(self.count));
                }
                collected.pop()
            }
            Walk::Large(large, _, back) => {
                let (id, score) = large.tree.element(*back);
                *back = large.tree.before(*back);
                Some((large.members.bytes(id), score))
            }
        };
        self.count = count;
        item
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests;
