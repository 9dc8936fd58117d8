//! A small sorted set in one run of bytes, sorted by (score, member).
//!
//! Layout of an element: score, member length (LEB128), member bytes. A score is one byte `n` and `n` bytes:
//! `n` ≤ 8 is a little-endian signed integer of that many bytes, `n` = 9 announces the 8 raw bytes of the
//! double (fractions, infinities, -0). Every operation walks the run from its start: the set is small.

use super::range::{Cut, compare_scores};
use crate::counted::Counted;
use crate::varint;
use std::cmp::Ordering;

const RAW_SCORE: u8 = 9;

#[derive(Clone, Default)]
#[repr(transparent)]
pub(crate) struct PackedElements {
    run: Counted,
}

impl PackedElements {
    pub fn len(&self) -> usize {
        self.run.count().unwrap_or_else(|| self.walk().count())
    }

    pub fn memory_bytes(&self) -> usize {
        self.run.memory_bytes()
    }

    pub fn walk(&self) -> PackedWalk<'_> {
        PackedWalk { rest: self.run.bytes() }
    }

    pub fn empty_walk() -> PackedWalk<'static> {
        PackedWalk { rest: &[] }
    }

    /// Rank, offset, length and score of a member. Skips scores and compares members of the same length only.
    fn find(&self, member: &[u8]) -> Option<Found> {
        let all = self.run.bytes();
        let mut rest = all;
        let mut rank = 0;
        while !rest.is_empty() {
            let element = rest;
            rest = &rest[1 + score_width(rest[0])..];
            let len = varint::take(&mut rest) as usize;
            let (other, tail) = rest.split_at(len);
            rest = tail;
            if other == member {
                let score = take_score(&mut &*element);
                let offset = all.len() - element.len();
                return Some(Found { rank, offset, len: element.len() - tail.len(), score });
            }
            rank += 1;
        }
        None
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(member).map(|found| found.score)
    }

    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        self.find(member).map(|found| (found.rank, found.score))
    }

    pub fn count_before(&self, cut: Cut<'_>) -> usize {
        self.walk().take_while(|&(member, score)| cut.is_after(score, || member)).count()
    }

    /// Adds a member that is not there yet.
    pub fn insert(&mut self, member: &[u8], score: f64) {
        let mut walk = self.walk();
        let end = self.run.bytes().len();
        let mut offset = end;
        loop {
            let here = end - walk.rest.len();
            let Some((other, other_score)) = walk.next() else { break };
            let order = compare_scores(other_score, score).then_with(|| other.cmp(member));
            if order == Ordering::Greater {
                offset = here;
                break;
            }
        }
        let mut element = smallvec::SmallVec::<[u8; 96]>::new();
        push_score(&mut element, score);
        varint::push(&mut element, member.len() as u64);
        element.extend_from_slice(member);
        self.run.splice(offset, 0, element.len()).copy_from_slice(&element);
        if let Some(count) = self.run.count() {
            self.run.set_count(count + 1);
        }
    }

    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let found = self.find(member)?;
        self.cut(found.offset, found.len, 1);
        Some(found.score)
    }

    /// Removes the elements with ranks `start..end`.
    pub fn remove_ranks(&mut self, start: usize, end: usize) {
        let mut walk = self.walk();
        for _ in 0..start {
            walk.next();
        }
        let end_of_run = self.run.bytes().len();
        let from = end_of_run - walk.rest.len();
        for _ in start..end {
            walk.next();
        }
        let to = end_of_run - walk.rest.len();
        self.cut(from, to - from, end - start);
    }

    /// Removes `removed` elements, which have these bytes.
    fn cut(&mut self, offset: usize, len: usize, removed: usize) {
        self.run.splice(offset, len, 0);
        let count = self.run.count().map_or_else(|| self.walk().count(), |count| count - removed);
        self.run.set_count(count);
        self.run.give_back();
    }
}

struct Found {
    rank: usize,
    offset: usize,
    len: usize,
    score: f64,
}

/// Elements in order.
#[derive(Clone)]
pub(crate) struct PackedWalk<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for PackedWalk<'a> {
    type Item = (&'a [u8], f64);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let score = take_score(&mut self.rest);
        let len = varint::take(&mut self.rest) as usize;
        let (member, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some((member, score))
    }
}

fn push_score(out: &mut smallvec::SmallVec<[u8; 96]>, score: f64) {
    let integer = score as i64;
    let exact = integer as f64 == score && integer != i64::MAX && !(score == 0.0 && score.is_sign_negative());
    if !exact {
        out.push(RAW_SCORE);
        out.extend_from_slice(&score.to_le_bytes());
        return;
    }
    let bytes = integer.to_le_bytes();
    // Bytes that a sign extension gives back are left out.
    let significant_bits = 64 - (integer ^ (integer >> 63)).leading_zeros() + 1;
    let count = if integer == 0 { 0 } else { significant_bits.div_ceil(8) as usize };
    out.push(count as u8);
    out.extend_from_slice(&bytes[..count]);
}

/// Bytes of a score after its first one.
fn score_width(first: u8) -> usize {
    if first == RAW_SCORE { 8 } else { usize::from(first) }
}

fn take_score(rest: &mut &[u8]) -> f64 {
    let (&count, tail) = rest.split_first().expect("an element opens with its score");
    let width = score_width(count);
    let (raw, tail) = tail.split_at(width);
    *rest = tail;
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(raw);
    if count == RAW_SCORE {
        return f64::from_le_bytes(bytes);
    }
    if width == 0 {
        return 0.0;
    }
    let unused_bits = 64 - 8 * width as u32;
    (i64::from_le_bytes(bytes) << unused_bits >> unused_bits) as f64
}
