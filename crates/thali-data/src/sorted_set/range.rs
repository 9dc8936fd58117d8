//! Intervals of scores and of member bytes, and the cuts that they make in a sorted set.
//!
//! Every range question becomes a pair of ranks: how many elements lie before the range, and how many lie
//! before its end. The structures therefore know only one search, "how many elements are before this cut".

use crate::double::parse_double_bound;
use std::cmp::Ordering;
use std::ops::Range;

/// A place between two elements of a sorted set.
///
/// Elements are ordered by score, then by member bytes; a cut says for each element whether it lies before
/// the place, and answers `true` for a prefix of that order only.
#[derive(Clone, Copy, Debug)]
pub enum Cut<'a> {
    /// Before the element (score, member), whether or not it is there.
    Element(f64, &'a [u8]),
    /// After the element (score, member), whether or not it is there.
    AfterElement(f64, &'a [u8]),
    /// Before the first element with this score.
    BeforeScore(f64),
    /// After the last element with this score.
    AfterScore(f64),
    /// Before the member, in a set whose scores are all equal.
    BeforeMember(&'a [u8]),
    /// After the member, in a set whose scores are all equal.
    AfterMember(&'a [u8]),
    /// Before everything.
    Start,
    /// After everything.
    End,
}

impl<'a> Cut<'a> {
    /// Whether an element lies before the cut. `member` is asked only where the score does not decide.
    pub(super) fn is_after<'m>(&self, score: f64, member: impl FnOnce() -> &'m [u8]) -> bool {
        match *self {
            Cut::Element(cut_score, cut_member) => match compare_scores(score, cut_score) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => member() < cut_member,
            },
            Cut::AfterElement(cut_score, cut_member) => match compare_scores(score, cut_score) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => member() <= cut_member,
            },
            Cut::BeforeScore(cut) => score < cut,
            Cut::AfterScore(cut) => score <= cut,
            Cut::BeforeMember(cut) => member() < cut,
            Cut::AfterMember(cut) => member() <= cut,
            Cut::Start => false,
            Cut::End => true,
        }
    }
}

impl Cut<'_> {
    /// How many of a node's elements, whose scores are given in order, lie before the cut. Members are asked only among
    /// equal scores, as each stands elsewhere in memory.
    pub(super) fn position<'m>(
        &self,
        scores: impl ExactSizeIterator<Item = f64> + Clone,
        member: impl Fn(usize) -> &'m [u8],
    ) -> usize {
        let len = scores.len();
        // All are compared: that is a few instructions for several at once, of which none waits for another. A search in
        // halves waits for each score before it knows which one is next.
        let below = |cut: f64| scores.clone().map(|score| usize::from(score < cut)).sum();
        let up_to = |cut: f64| scores.clone().map(|score| usize::from(score <= cut)).sum();
        let with_score = |cut: f64| {
            let from = below(cut);
            let is_there = scores.clone().nth(from) == Some(cut);
            from..if is_there { up_to(cut) } else { from }
        };
        match *self {
            Cut::Element(cut, wanted) => end_of(with_score(cut), |at| member(at) < wanted),
            Cut::AfterElement(cut, wanted) => end_of(with_score(cut), |at| member(at) <= wanted),
            Cut::BeforeScore(cut) => below(cut),
            Cut::AfterScore(cut) => up_to(cut),
            Cut::BeforeMember(cut) => end_of(0..len, |at| member(at) < cut),
            Cut::AfterMember(cut) => end_of(0..len, |at| member(at) <= cut),
            Cut::Start => 0,
            Cut::End => len,
        }
    }
}

/// The end of those at the beginning of a range for which `is_before` holds: it holds for none behind one for which it
/// does not. No branch depends on what it finds: a processor would guess half of them wrong.
fn end_of(range: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut base, mut len) = (range.start, range.len());
    while len > 1 {
        let half = len / 2;
        base = std::hint::select_unpredictable(is_before(base + half), base + half, base);
        len -= half;
    }
    if len == 1 { base + usize::from(is_before(base)) } else { base }
}

/// The order of scores. -0 equals 0; NaN never enters a sorted set.
pub(super) fn compare_scores(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).expect("a sorted set holds no NaN")
}

/// One end of a score range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    pub score: f64,
    /// Whether the score itself is left out, `(5` in commands.
    pub exclusive: bool,
}

impl ScoreBound {
    /// Reads `5`, `(5`, `-inf`, `(+inf` … as ZRANGEBYSCORE does.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (exclusive, number) = match text.split_first() {
            Some((b'(', number)) => (true, number),
            _ => (false, text),
        };
        Some(Self { score: parse_double_bound(number)?, exclusive })
    }
}

/// An interval of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    pub min: ScoreBound,
    pub max: ScoreBound,
}

impl ScoreRange {
    /// Reads both ends; `None` is Redis's "min or max is not a float".
    pub fn parse(min: &[u8], max: &[u8]) -> Option<Self> {
        Some(Self { min: ScoreBound::parse(min)?, max: ScoreBound::parse(max)? })
    }

    pub fn contains(&self, score: f64) -> bool {
        let above = if self.min.exclusive { score > self.min.score } else { score >= self.min.score };
        let below = if self.max.exclusive { score < self.max.score } else { score <= self.max.score };
        above && below
    }

    pub(super) fn cuts(&self) -> (Cut<'static>, Cut<'static>) {
        let start = match self.min.exclusive {
            true => Cut::AfterScore(self.min.score),
            false => Cut::BeforeScore(self.min.score),
        };
        let end = match self.max.exclusive {
            true => Cut::BeforeScore(self.max.score),
            false => Cut::AfterScore(self.max.score),
        };
        (start, end)
    }
}

/// One end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// `-`: before every member.
    Min,
    /// `+`: after every member.
    Max,
    /// `[member`
    Inclusive(&'a [u8]),
    /// `(member`
    Exclusive(&'a [u8]),
}

impl<'a> LexBound<'a> {
    /// Reads `-`, `+`, `[member`, `(member`; `None` is Redis's "min or max not valid string range item".
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match text.split_first()? {
            (b'-', []) => Some(Self::Min),
            (b'+', []) => Some(Self::Max),
            (b'[', member) => Some(Self::Inclusive(member)),
            (b'(', member) => Some(Self::Exclusive(member)),
            _ => None,
        }
    }
}

/// An interval of members, meaningful where all scores are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    pub min: LexBound<'a>,
    pub max: LexBound<'a>,
}

impl<'a> LexRange<'a> {
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Option<Self> {
        Some(Self { min: LexBound::parse(min)?, max: LexBound::parse(max)? })
    }

    pub(super) fn cuts(&self) -> (Cut<'a>, Cut<'a>) {
        let start = match self.min {
            LexBound::Min => Cut::Start,
            LexBound::Max => Cut::End,
            LexBound::Inclusive(member) => Cut::BeforeMember(member),
            LexBound::Exclusive(member) => Cut::AfterMember(member),
        };
        let end = match self.max {
            LexBound::Min => Cut::Start,
            LexBound::Max => Cut::End,
            LexBound::Inclusive(member) => Cut::AfterMember(member),
            LexBound::Exclusive(member) => Cut::BeforeMember(member),
        };
        (start, end)
    }
}
