//! `Packed`: a sequence of elements in one allocation, the base of every small collection.
//!
//! # Bytes
//! Elements stand one after the other, each as `head payload back`:
//!
//! ```text
//! head                 payload                       element
//! 0x00..=0x7F          that many bytes               string of 0 to 127 bytes
//! 0x80..=0xBF          none                          integer 0 to 63 (head - 0x80)
//! 0xC1 C2 C3 C4 C6 C8  1 2 3 4 6 8 bytes, LE         signed integer
//! 0xE2                 u16 LE length, then bytes     string of 128 bytes to 64 KB
//! 0xE4                 u32 LE length, then bytes     longer string
//!
//! back: length of head + payload in base 128, most significant digit last when read backwards:
//!       the last byte holds the lowest seven bits, a set high bit says that one more digit precedes.
//! ```
//! `back` lets a walk go from the end to the front. Canonical decimal integers are always stored as
//! integers, so two elements are equal exactly when their bytes are.
//!
//! A position is the byte offset of an element's head; it stays valid until something in front of it
//! changes. The structure lives in memory only: nothing outside this file depends on the layout.

use crate::buf::Buf;
use crate::item::{IntBuf, Item, parse_canonical_int};
use crate::str::Str;

const INT_HEAD: u8 = 0x80;
const WIDE_INT_HEAD: u8 = 0xC0;
const STR16_HEAD: u8 = 0xE2;
const STR32_HEAD: u8 = 0xE4;
/// Head with payload length: 1 + 4 bytes.
const HEAD_BYTES_MAX: usize = 5;
const BACK_BYTES_MAX: usize = 5;

/// Byte offset of an element within its sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pos(u32);

#[derive(Clone, Default)]
pub struct Packed {
    buf: Buf,
    count: u32,
}

/// An element as it is to be written: everything but a string's own bytes.
struct Encoded<'a> {
    head: [u8; 9],
    head_len: usize,
    bytes: &'a [u8],
    back: [u8; BACK_BYTES_MAX],
    back_len: usize,
}

impl<'a> Encoded<'a> {
    fn new(item: Item<'a>) -> Self {
        let item = match item {
            Item::Bytes(b) => Item::parse(b),
            int => int,
        };
        let mut head = [0; 9];
        let (head_len, bytes): (usize, &[u8]) = match item {
            Item::Int(n @ 0..=63) => {
                head[0] = INT_HEAD + n as u8;
                (1, &[])
            }
            Item::Int(n) => {
                let width = int_width(n);
                head[0] = WIDE_INT_HEAD + width as u8;
                head[1..9].copy_from_slice(&n.to_le_bytes());
                (1 + width, &[])
            }
            Item::Bytes(b) if b.len() <= 0x7F => {
                head[0] = b.len() as u8;
                (1, b)
            }
            Item::Bytes(b) if b.len() <= u16::MAX as usize => {
                head[0] = STR16_HEAD;
                head[1..3].copy_from_slice(&(b.len() as u16).to_le_bytes());
                (3, b)
            }
            Item::Bytes(b) => {
                head[0] = STR32_HEAD;
                head[1..5].copy_from_slice(&(b.len() as u32).to_le_bytes());
                (HEAD_BYTES_MAX, b)
            }
        };
        let (back, back_len) = encode_back(head_len + bytes.len());
        Encoded { head, head_len, bytes, back, back_len }
    }

    fn len(&self) -> usize {
        self.head_len + self.bytes.len() + self.back_len
    }

    fn write(&self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(self.head_len);
        let (bytes, back) = rest.split_at_mut(self.bytes.len());
        head.copy_from_slice(&self.head[..self.head_len]);
        bytes.copy_from_slice(self.bytes);
        back.copy_from_slice(&self.back[..self.back_len]);
    }
}

fn int_width(n: i64) -> usize {
    let bits = 65 - (if n < 0 { !n } else { n }).leading_zeros();
    match bits.div_ceil(8) {
        5 => 6,
        7 => 8,
        width => width as usize,
    }
}

fn encode_back(mut len: usize) -> ([u8; BACK_BYTES_MAX], usize) {
    let mut back = [0; BACK_BYTES_MAX];
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(7).max(1) as usize;
    for (i, digit) in back[..digits].iter_mut().enumerate().rev() {
        *digit = (len & 0x7F) as u8 | if i > 0 { 0x80 } else { 0 };
        len >>= 7;
    }
    (back, digits)
}

fn back_len(element_len: usize) -> usize {
    (usize::BITS - element_len.leading_zeros()).div_ceil(7).max(1) as usize
}

/// The element at the front of `bytes`, and the length of its head and payload.
fn decode(bytes: &[u8]) -> (Item<'_>, usize) {
    let head = bytes[0];
    match head {
        0..=0x7F => {
            let end = 1 + head as usize;
            (Item::Bytes(&bytes[1..end]), end)
        }
        0x80..=0xBF => (Item::Int((head - INT_HEAD) as i64), 1),
        0xC1..=0xC8 => {
            let width = (head - WIDE_INT_HEAD) as usize;
            let mut raw = [0; 8];
            raw[..width].copy_from_slice(&bytes[1..1 + width]);
            let unused_bits = 64 - 8 * width as u32;
            (Item::Int(i64::from_le_bytes(raw) << unused_bits >> unused_bits), 1 + width)
        }
        STR16_HEAD => {
            let end = 3 + u16::from_le_bytes([bytes[1], bytes[2]]) as usize;
            (Item::Bytes(&bytes[3..end]), end)
        }
        STR32_HEAD => {
            let len = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
            (Item::Bytes(&bytes[5..5 + len]), 5 + len)
        }
        _ => unreachable!("head byte {head:#x} is never written"),
    }
}

/// Length of head and payload alone, without touching the payload.
fn decode_len(bytes: &[u8]) -> usize {
    match bytes[0] {
        head @ 0..=0x7F => 1 + head as usize,
        0x80..=0xBF => 1,
        head @ 0xC1..=0xC8 => 1 + (head - WIDE_INT_HEAD) as usize,
        STR16_HEAD => 3 + u16::from_le_bytes([bytes[1], bytes[2]]) as usize,
        _ => 5 + u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize,
    }
}

impl Packed {
    pub const fn new() -> Self {
        Packed { buf: Buf::new(), count: 0 }
    }

    pub fn with_capacity(bytes: usize) -> Self {
        Packed { buf: Buf::with_capacity(bytes), count: 0 }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Length of all elements in bytes.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        self.buf.memory_bytes()
    }

    /// Bytes that `item` would take here.
    pub fn encoded_len(item: Item<'_>) -> usize {
        Encoded::new(item).len()
    }

    pub fn first(&self) -> Option<Pos> {
        (self.count > 0).then_some(Pos(0))
    }

    pub fn last(&self) -> Option<Pos> {
        self.before(self.buf.len())
    }

    pub fn next(&self, pos: Pos) -> Option<Pos> {
        let end = self.end_of(pos);
        (end < self.buf.len()).then_some(Pos(end as u32))
    }

    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.before(pos.0 as usize)
    }

    /// The element that ends at byte `end`.
    fn before(&self, end: usize) -> Option<Pos> {
        if end == 0 {
            return None;
        }
        let (mut len, mut shift, mut digits) = (0usize, 0, 0);
        loop {
            digits += 1;
            let digit = self.buf[end - digits];
            len |= ((digit & 0x7F) as usize) << shift;
            shift += 7;
            if digit & 0x80 == 0 {
                return Some(Pos((end - digits - len) as u32));
            }
        }
    }

    fn end_of(&self, pos: Pos) -> usize {
        let at = pos.0 as usize;
        let len = decode_len(&self.buf[at..]);
        at + len + back_len(len)
    }

    pub fn get(&self, pos: Pos) -> Item<'_> {
        decode(&self.buf[pos.0 as usize..]).0
    }

    /// The element number `index`, walking from the nearer end.
    pub fn seek(&self, index: usize) -> Option<Pos> {
        if index >= self.len() {
            return None;
        }
        if index <= self.len() / 2 {
            let mut pos = Pos(0);
            for _ in 0..index {
                pos = self.next(pos)?;
            }
            Some(pos)
        } else {
            let mut pos = self.last()?;
            for _ in index + 1..self.len() {
                pos = self.prev(pos)?;
            }
            Some(pos)
        }
    }

    pub fn get_index(&self, index: usize) -> Option<Item<'_>> {
        self.seek(index).map(|p| self.get(p))
    }

    pub fn push_back(&mut self, item: Item<'_>) {
        self.insert_bytes(self.buf.len(), item);
    }

    pub fn push_front(&mut self, item: Item<'_>) {
        self.insert_bytes(0, item);
    }

    /// Puts `item` in front of the element at `pos`; `pos` is the new element's position.
    pub fn insert_before(&mut self, pos: Pos, item: Item<'_>) {
        self.insert_bytes(pos.0 as usize, item);
    }

    /// Puts `item` behind the element at `pos` and returns where it is.
    pub fn insert_after(&mut self, pos: Pos, item: Item<'_>) -> Pos {
        let at = self.end_of(pos);
        self.insert_bytes(at, item);
        Pos(at as u32)
    }

    fn insert_bytes(&mut self, at: usize, item: Item<'_>) {
        let encoded = Encoded::new(item);
        encoded.write(self.buf.splice(at, 0, encoded.len()));
        self.count += 1;
    }

    /// Puts `item` in the place of the element at `pos`.
    pub fn replace(&mut self, pos: Pos, item: Item<'_>) {
        let encoded = Encoded::new(item);
        let old_len = self.end_of(pos) - pos.0 as usize;
        encoded.write(self.buf.splice(pos.0 as usize, old_len, encoded.len()));
    }

    /// Removes the element at `pos` and returns the position of the one that followed.
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.remove_run(pos, 1)
    }

    /// Removes up to `count` elements from `pos` on and returns the position of the one that followed.
    pub fn remove_run(&mut self, pos: Pos, count: usize) -> Option<Pos> {
        let at = pos.0 as usize;
        let (mut end, mut removed) = (at, 0);
        while removed < count && end < self.buf.len() {
            end = self.end_of(Pos(end as u32));
            removed += 1;
        }
        self.buf.splice(at, end - at, 0);
        self.count -= removed as u32;
        self.give_back();
        (at < self.buf.len()).then_some(pos)
    }

    /// Removes `count` elements from number `index` on, or as many as there are.
    pub fn remove_range(&mut self, index: usize, count: usize) {
        if count > 0
            && let Some(pos) = self.seek(index)
        {
            self.remove_run(pos, count);
        }
    }

    pub fn pop_front(&mut self) -> Option<Str> {
        let pos = self.first()?;
        let value = Str::from(self.get(pos));
        self.remove(pos);
        Some(value)
    }

    pub fn pop_back(&mut self) -> Option<Str> {
        let pos = self.last()?;
        let value = Str::from(self.get(pos));
        self.buf.truncate(pos.0 as usize);
        self.count -= 1;
        self.give_back();
        Some(value)
    }

    /// Moves the elements from number `index` on into a new sequence.
    pub fn split_off(&mut self, index: usize) -> Packed {
        let Some(pos) = self.seek(index) else { return Packed::new() };
        let tail =
            Packed { buf: Buf::from_slice(&self.buf[pos.0 as usize..]), count: self.count - index as u32 };
        self.buf.truncate(pos.0 as usize);
        self.count = index as u32;
        self.give_back();
        tail
    }

    /// Adds all elements of `other` at the end.
    pub fn append(&mut self, other: &Packed) {
        self.buf.extend_from_slice(&other.buf);
        self.count += other.count;
    }

    /// Frees room once three quarters of it are unused.
    fn give_back(&mut self) {
        if self.buf.capacity() > 64 && self.buf.len() < self.buf.capacity() / 4 {
            self.buf.shrink();
        }
    }

    /// The first element equal to `bytes` at or after `from`, looking at every `stride`-th element
    /// (2 for pairs whose first half is the key).
    pub fn find(&self, from: Option<Pos>, bytes: &[u8], stride: usize) -> Option<Pos> {
        let int = parse_canonical_int(bytes);
        let mut at = from?.0 as usize;
        let mut skip = 0;
        while at < self.buf.len() {
            let rest = &self.buf[at..];
            let len = if skip == 0 {
                skip = stride - 1;
                let (item, len) = decode(rest);
                let hit = match item {
                    Item::Int(n) => int == Some(n),
                    Item::Bytes(b) => int.is_none() && b == bytes,
                };
                if hit {
                    return Some(Pos(at as u32));
                }
                len
            } else {
                skip -= 1;
                decode_len(rest)
            };
            at += len + back_len(len);
        }
        None
    }

    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.find(self.first(), bytes, 1).is_some()
    }

    /// All elements, from either end.
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: &self.buf, left: self.len() }
    }

    /// The elements from number `index` on.
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        match self.seek(index) {
            Some(pos) => Iter { bytes: &self.buf[pos.0 as usize..], left: self.len() - index },
            None => Iter { bytes: &[], left: 0 },
        }
    }

    /// The elements up to and including number `index`.
    pub fn iter_to(&self, index: usize) -> Iter<'_> {
        match self.seek(index) {
            Some(pos) => Iter { bytes: &self.buf[..self.end_of(pos)], left: index + 1 },
            None => self.iter(),
        }
    }
}

/// Elements of a [`Packed`] from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.left == 0 {
            return None;
        }
        let (item, len) = decode(self.bytes);
        self.bytes = &self.bytes[len + back_len(len)..];
        self.left -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> DoubleEndedIterator for Iter<'a> {
    fn next_back(&mut self) -> Option<Item<'a>> {
        if self.left == 0 {
            return None;
        }
        let end = self.bytes.len();
        let (mut len, mut shift, mut digits) = (0usize, 0, 0);
        loop {
            digits += 1;
            let digit = self.bytes[end - digits];
            len |= ((digit & 0x7F) as usize) << shift;
            shift += 7;
            if digit & 0x80 == 0 {
                break;
            }
        }
        let at = end - digits - len;
        let (item, _) = decode(&self.bytes[at..]);
        self.bytes = &self.bytes[..at];
        self.left -= 1;
        Some(item)
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<Item<'a>> for Packed {
    fn from_iter<I: IntoIterator<Item = Item<'a>>>(items: I) -> Self {
        let mut packed = Packed::new();
        for item in items {
            packed.push_back(item);
        }
        packed
    }
}

/// Reads an element as bytes into a caller's scratch; shorthand for tests and small callers.
impl Packed {
    pub fn bytes_at<'a>(&'a self, pos: Pos, scratch: &'a mut IntBuf) -> &'a [u8] {
        match self.get(pos) {
            Item::Int(n) => scratch.format(n),
            Item::Bytes(b) => b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..20),
            2 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            2 => (-300i64..300).prop_map(|n| n.to_string().into_bytes()),
            1 => prop::collection::vec(any::<u8>(), 100..400),
            1 => Just(vec![b'x'; 70_000]),
        ]
    }

    fn check(packed: &Packed, model: &[Vec<u8>]) {
        assert_eq!(packed.len(), model.len());
        let forward: Vec<_> = packed.iter().map(|i| i.to_vec()).collect();
        assert_eq!(forward, model);
        let mut backward: Vec<_> = packed.iter().rev().map(|i| i.to_vec()).collect();
        backward.reverse();
        assert_eq!(backward, model);
    }

    #[test]
    fn integers_of_every_width_come_back() {
        let mut ints = vec![0, 63, 64, -1, i64::MIN, i64::MAX];
        for bit in 0..63 {
            for delta in [-1, 0, 1] {
                ints.push((1i64 << bit) + delta);
                ints.push(-(1i64 << bit) + delta);
            }
        }
        let packed: Packed = ints.iter().map(|&n| Item::Int(n)).collect();
        assert_eq!(packed.iter().map(|i| i.as_int().unwrap()).collect::<Vec<_>>(), ints);
        assert_eq!(Packed::encoded_len(Item::Int(5)), 2);
    }

    #[test]
    fn find_with_stride_sees_keys_only() {
        let packed: Packed = ["a", "b", "b", "a"].iter().map(|s| Item::parse(s.as_bytes())).collect();
        assert_eq!(packed.find(packed.first(), b"b", 2), packed.seek(2));
        assert_eq!(packed.find(packed.first(), b"b", 1), packed.seek(1));
        assert_eq!(packed.find(packed.first(), b"c", 1), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn acts_as_a_vec(ops in prop::collection::vec((0u8..8, any::<prop::sample::Index>(), element()), 0..60)) {
            let mut model: Vec<Vec<u8>> = Vec::new();
            let mut packed = Packed::new();
            for (op, index, value) in ops {
                let item = Item::Bytes(&value);
                if model.is_empty() || op == 0 {
                    packed.push_back(item);
                    model.push(value);
                } else {
                    let i = index.index(model.len());
                    let pos = packed.seek(i).unwrap();
                    match op {
                        1 => { packed.push_front(item); model.insert(0, value); }
                        2 => { packed.insert_before(pos, item); model.insert(i, value); }
                        3 => { packed.insert_after(pos, item); model.insert(i + 1, value); }
                        4 => { packed.replace(pos, item); model[i] = value; }
                        5 => { packed.remove(pos); model.remove(i); }
                        6 => { packed.remove_range(i, 3); model.drain(i..(i + 3).min(model.len())); }
                        _ => {
                            let tail = packed.split_off(i);
                            check(&tail, &model[i..]);
                            packed.append(&tail);
                        }
                    }
                }
                check(&packed, &model);
                for (i, want) in model.iter().enumerate() {
                    prop_assert_eq!(packed.get_index(i).unwrap().to_vec(), want.clone());
                    prop_assert!(packed.contains(want));
                }
            }
        }

        #[test]
        fn pops_from_both_ends(values in prop::collection::vec(element(), 0..30), sides: Vec<bool>) {
            let mut model: std::collections::VecDeque<_> = values.iter().cloned().collect();
            let mut packed: Packed = values.iter().map(|v| Item::parse(v)).collect();
            for front in sides {
                let (got, want) = if front { (packed.pop_front(), model.pop_front()) } else { (packed.pop_back(), model.pop_back()) };
                prop_assert_eq!(got.map(|s| s.to_vec()), want);
            }
        }
    }
}
