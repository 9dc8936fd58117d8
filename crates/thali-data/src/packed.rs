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
//! `back` lets a walk go from the end to the front. Only a sequence that needs it has it ([`Packed`]'s
//! parameter): a list, but no hash and no set, which are searched from the front. Canonical decimal integers are always stored as
//! integers, so two elements are equal exactly when their bytes are.
//!
//! A position is the byte offset of an element's head; it stays valid until something in front of it
//! changes. The structure lives in memory only: nothing outside this file depends on the layout.

use crate::counted::Counted;
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

/// With `BOTH_WAYS`, it can be walked from the end as well, for a byte an element.
#[derive(Clone, Default)]
#[repr(transparent)]
pub struct Packed<const BOTH_WAYS: bool = false> {
    run: Counted,
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
    fn new(item: Item<'a>, both_ways: bool) -> Self {
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
        let (back, back_len) =
            if both_ways { encode_back(head_len + bytes.len()) } else { ([0; BACK_BYTES_MAX], 0) };
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

/// With `back`, of an element whose head and payload have `len` bytes.
fn element_len<const BOTH_WAYS: bool>(len: usize) -> usize {
    if BOTH_WAYS { len + (usize::BITS - len.leading_zeros()).div_ceil(7).max(1) as usize } else { len }
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

/// The length of the element that ends where `bytes` do, and of its `back`.
fn decode_back(bytes: &[u8]) -> (usize, usize) {
    let (mut len, mut shift, mut digits) = (0usize, 0, 0);
    loop {
        digits += 1;
        let digit = bytes[bytes.len() - digits];
        len |= ((digit & 0x7F) as usize) << shift;
        shift += 7;
        if digit & 0x80 == 0 {
            return (len, digits);
        }
    }
}

impl<const BOTH_WAYS: bool> Packed<BOTH_WAYS> {
    pub const fn new() -> Self {
        Packed { run: Counted::new() }
    }

    pub fn with_capacity(bytes: usize) -> Self {
        Packed { run: Counted::with_capacity(bytes) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.run.count().unwrap_or_else(|| self.walk_len())
    }

    fn walk_len(&self) -> usize {
        let (mut at, mut len) = (0, 0);
        while at < self.bytes() {
            at = self.end_of(Pos(at as u32));
            len += 1;
        }
        len
    }

    pub fn is_empty(&self) -> bool {
        self.run.bytes().is_empty()
    }

    /// Length of all elements in bytes.
    pub fn bytes(&self) -> usize {
        self.run.bytes().len()
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        self.run.memory_bytes()
    }

    /// Bytes that `item` would take here.
    pub fn encoded_len(item: Item<'_>) -> usize {
        Encoded::new(item, BOTH_WAYS).len()
    }

    pub fn first(&self) -> Option<Pos> {
        (!self.is_empty()).then_some(Pos(0))
    }

    pub fn next(&self, pos: Pos) -> Option<Pos> {
        let end = self.end_of(pos);
        (end < self.bytes()).then_some(Pos(end as u32))
    }

    fn end_of(&self, pos: Pos) -> usize {
        let at = pos.0 as usize;
        at + element_len::<BOTH_WAYS>(decode_len(&self.run.bytes()[at..]))
    }

    pub fn get(&self, pos: Pos) -> Item<'_> {
        decode(&self.run.bytes()[pos.0 as usize..]).0
    }

    /// The element number `index`, walking from the nearer end where there are ways from both.
    pub fn seek(&self, index: usize) -> Option<Pos> {
        let len = self.len();
        if index >= len {
            return None;
        }
        if BOTH_WAYS && index > len / 2 {
            let mut end = self.bytes();
            for _ in index..len {
                end = start_of(self.run.bytes(), end);
            }
            return Some(Pos(end as u32));
        }
        let mut pos = Pos(0);
        for _ in 0..index {
            pos = self.next(pos)?;
        }
        Some(pos)
    }

    pub fn get_index(&self, index: usize) -> Option<Item<'_>> {
        self.seek(index).map(|p| self.get(p))
    }

    pub fn push_back(&mut self, item: Item<'_>) {
        self.insert_bytes(self.bytes(), item);
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
        let encoded = Encoded::new(item, BOTH_WAYS);
        encoded.write(self.run.splice(at, 0, encoded.len()));
        self.count_more(1);
    }

    /// Where only a walk tells the count, more elements change nothing about that.
    fn count_more(&mut self, added: usize) {
        if let Some(count) = self.run.count() {
            self.run.set_count(count + added);
        }
    }

    fn count_fewer(&mut self, removed: usize) {
        let count = self.run.count().map_or_else(|| self.walk_len(), |count| count - removed);
        self.run.set_count(count);
    }

    /// Frees all unused room.
    pub fn shrink(&mut self) {
        self.run.shrink();
    }

    /// Puts `item` in the place of the element at `pos`.
    pub fn replace(&mut self, pos: Pos, item: Item<'_>) {
        let encoded = Encoded::new(item, BOTH_WAYS);
        let old_len = self.end_of(pos) - pos.0 as usize;
        encoded.write(self.run.splice(pos.0 as usize, old_len, encoded.len()));
    }

    /// Removes the element at `pos` and returns the position of the one that followed.
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.remove_run(pos, 1)
    }

    /// Removes up to `count` elements from `pos` on and returns the position of the one that followed.
    pub fn remove_run(&mut self, pos: Pos, count: usize) -> Option<Pos> {
        let at = pos.0 as usize;
        let (mut end, mut removed) = (at, 0);
        while removed < count && end < self.bytes() {
            end = self.end_of(Pos(end as u32));
            removed += 1;
        }
        self.run.splice(at, end - at, 0);
        self.count_fewer(removed);
        self.run.give_back();
        (at < self.bytes()).then_some(pos)
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

    /// Moves the elements from number `index` on into a new sequence.
    pub fn split_off(&mut self, index: usize) -> Self {
        let Some(pos) = self.seek(index) else { return Packed::new() };
        let at = pos.0 as usize;
        let tail = Packed { run: Counted::of(self.len() - index, &self.run.bytes()[at..]) };
        self.run.truncate(at);
        self.run.set_count(index);
        self.run.give_back();
        tail
    }

    /// Adds all elements of `other` at the end.
    pub fn append(&mut self, other: &Self) {
        self.run.append(other.run.bytes());
        self.count_more(other.len());
    }

    /// The first element equal to `bytes` at or after `from`, looking at every `stride`-th element
    /// (2 for pairs whose first half is the key).
    pub fn find(&self, from: Option<Pos>, bytes: &[u8], stride: usize) -> Option<Pos> {
        let int = parse_canonical_int(bytes);
        let mut at = from?.0 as usize;
        let mut skip = 0;
        let elements = self.run.bytes();
        while at < elements.len() {
            let rest = &elements[at..];
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
            at += element_len::<BOTH_WAYS>(len);
        }
        None
    }

    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.find(self.first(), bytes, 1).is_some()
    }

    /// All elements, where there are ways from both ends from either.
    pub fn iter(&self) -> Iter<'_, BOTH_WAYS> {
        Iter { bytes: self.run.bytes(), left: self.len() }
    }

    /// The elements from number `index` on.
    pub fn iter_from(&self, index: usize) -> Iter<'_, BOTH_WAYS> {
        match self.seek(index) {
            Some(pos) => Iter { bytes: &self.run.bytes()[pos.0 as usize..], left: self.len() - index },
            None => Iter { bytes: &[], left: 0 },
        }
    }
}

/// Where the element that ends at byte `end` begins.
fn start_of(elements: &[u8], end: usize) -> usize {
    let (len, back) = decode_back(&elements[..end]);
    end - back - len
}

impl Packed<true> {
    pub fn last(&self) -> Option<Pos> {
        self.before(self.bytes())
    }

    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.before(pos.0 as usize)
    }

    /// The element that ends at byte `end`.
    fn before(&self, end: usize) -> Option<Pos> {
        (end > 0).then(|| Pos(start_of(self.run.bytes(), end) as u32))
    }

    pub fn pop_back(&mut self) -> Option<Str> {
        let pos = self.last()?;
        let value = Str::from(self.get(pos));
        self.run.truncate(pos.0 as usize);
        self.count_fewer(1);
        self.run.give_back();
        Some(value)
    }

    /// The elements up to and including number `index`.
    pub fn iter_to(&self, index: usize) -> Iter<'_, true> {
        match self.seek(index) {
            Some(pos) => Iter { bytes: &self.run.bytes()[..self.end_of(pos)], left: index + 1 },
            None => self.iter(),
        }
    }
}

/// Elements of a [`Packed`].
#[derive(Clone)]
pub struct Iter<'a, const BOTH_WAYS: bool = false> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a, const BOTH_WAYS: bool> Iterator for Iter<'a, BOTH_WAYS> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.left == 0 {
            return None;
        }
        let (item, len) = decode(self.bytes);
        self.bytes = &self.bytes[element_len::<BOTH_WAYS>(len)..];
        self.left -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<const BOTH_WAYS: bool> ExactSizeIterator for Iter<'_, BOTH_WAYS> {}

impl<'a> DoubleEndedIterator for Iter<'a, true> {
    fn next_back(&mut self) -> Option<Item<'a>> {
        if self.left == 0 {
            return None;
        }
        let at = start_of(self.bytes, self.bytes.len());
        let (item, _) = decode(&self.bytes[at..]);
        self.bytes = &self.bytes[..at];
        self.left -= 1;
        Some(item)
    }
}

impl<const BOTH_WAYS: bool> std::fmt::Debug for Packed<BOTH_WAYS> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, const BOTH_WAYS: bool> FromIterator<Item<'a>> for Packed<BOTH_WAYS> {
    fn from_iter<I: IntoIterator<Item = Item<'a>>>(items: I) -> Self {
        let mut packed = Packed::new();
        for item in items {
            packed.push_back(item);
        }
        packed
    }
}

/// Reads an element as bytes into a caller's scratch; shorthand for tests and small callers.
impl<const BOTH_WAYS: bool> Packed<BOTH_WAYS> {
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

    fn check<const BOTH_WAYS: bool>(packed: &Packed<BOTH_WAYS>, model: &[Vec<u8>]) {
        assert_eq!(packed.len(), model.len());
        let forward: Vec<_> = packed.iter().map(|i| i.to_vec()).collect();
        assert_eq!(forward, model);
    }

    fn check_from_the_end(packed: &Packed<true>, model: &[Vec<u8>]) {
        let mut backward: Vec<_> = packed.iter().rev().map(|i| i.to_vec()).collect();
        backward.reverse();
        assert_eq!(backward, model);
    }

    type Op = (u8, prop::sample::Index, Vec<u8>);

    fn acts_as_a_vec<const BOTH_WAYS: bool>(ops: &[Op], more: fn(&Packed<BOTH_WAYS>, &[Vec<u8>])) {
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut packed = Packed::new();
        for (op, index, value) in ops.iter().cloned() {
            let item = Item::Bytes(&value);
            if model.is_empty() || op == 0 {
                packed.push_back(item);
                model.push(value);
            } else {
                let i = index.index(model.len());
                let pos = packed.seek(i).unwrap();
                match op {
                    1 => {
                        packed.push_front(item);
                        model.insert(0, value);
                    }
                    2 => {
                        packed.insert_before(pos, item);
                        model.insert(i, value);
                    }
                    3 => {
                        packed.insert_after(pos, item);
                        model.insert(i + 1, value);
                    }
                    4 => {
                        packed.replace(pos, item);
                        model[i] = value;
                    }
                    5 => {
                        packed.remove(pos);
                        model.remove(i);
                    }
                    6 => {
                        packed.remove_range(i, 3);
                        model.drain(i..(i + 3).min(model.len()));
                    }
                    _ => {
                        let tail = packed.split_off(i);
                        check(&tail, &model[i..]);
                        packed.append(&tail);
                        packed.shrink();
                    }
                }
            }
            check(&packed, &model);
            more(&packed, &model);
            for (i, want) in model.iter().enumerate() {
                assert_eq!(packed.get_index(i).unwrap().to_vec(), want.clone());
                assert!(packed.contains(want));
            }
        }
    }

    #[test]
    fn more_elements_than_the_count_can_say_are_counted() {
        const MANY: usize = u16::MAX as usize;
        let mut packed: Packed<true> = (0..MANY as i64 + 2).map(|_| Item::Int(1)).collect();
        let mut pop = || {
            packed.pop_back();
            packed.len()
        };
        assert_eq!([pop(), pop(), pop()], [MANY + 1, MANY, MANY - 1]);
        (0..3).for_each(|_| packed.push_front(Item::Int(2)));
        assert_eq!((packed.len(), packed.iter().len()), (MANY + 2, MANY + 2));
        let tail = packed.split_off(10);
        assert_eq!((packed.len(), tail.len()), (10, MANY - 8));
        packed.append(&tail);
        packed.remove_range(1, MANY);
        assert_eq!(packed.iter().collect::<Vec<_>>(), [Item::Int(2), Item::Int(1)]);
    }

    #[test]
    fn a_small_sequence_costs_its_elements_and_seven_bytes() {
        let fields = ["name", &"x".repeat(32), "age", "42", "city", "Helsinki"];
        let items = || fields.iter().map(|field| Item::parse(field.as_bytes()));
        let one_way: Packed = items().collect();
        let both_ways: Packed<true> = items().collect();
        assert_eq!((one_way.bytes(), one_way.memory_bytes()), (57, 64));
        assert_eq!((both_ways.bytes(), both_ways.memory_bytes()), (63, 80));
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
        assert_eq!(
            (Packed::<true>::encoded_len(Item::Int(5)), Packed::<false>::encoded_len(Item::Int(5))),
            (2, 1)
        );
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
        fn both_kinds_act_as_a_vec(ops in prop::collection::vec((0u8..8, any::<prop::sample::Index>(), element()), 0..60)) {
            acts_as_a_vec::<false>(&ops, |_, _| ());
            acts_as_a_vec::<true>(&ops, check_from_the_end);
        }

        #[test]
        fn pops_from_both_ends(values in prop::collection::vec(element(), 0..30), sides: Vec<bool>) {
            let mut model: std::collections::VecDeque<_> = values.iter().cloned().collect();
            let mut packed: Packed<true> = values.iter().map(|v| Item::parse(v)).collect();
            for front in sides {
                let (got, want) = if front { (packed.pop_front(), model.pop_front()) } else { (packed.pop_back(), model.pop_back()) };
                prop_assert_eq!(got.map(|s| s.to_vec()), want);
            }
        }
    }
}
