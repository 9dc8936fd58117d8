//! Bits of a byte string, counted as SETBIT and its relatives do: bit 0 is the highest of the first byte,
//! so that a field over whole bytes is big-endian. Reading behind the end finds zeroes; writing needs the
//! room to be there already.

use std::ops::Range;

/// How many bits are set.
pub fn count(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let ones = |word: &[u8; 8]| u64::from(u64::from_ne_bytes(*word).count_ones());
    words.iter().map(ones).sum::<u64>() + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// How many bits of `range` are set; it ends within the bytes.
pub fn count_in(bytes: &[u8], range: Range<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = ((range.start / 8) as usize, ((range.end - 1) / 8) as usize);
    let outside = bytes[first] & !from_bit(range.start);
    let behind = bytes[last] & !up_to_bit(range.end - 1);
    count(&bytes[first..=last]) - u64::from(outside.count_ones()) - u64::from(behind.count_ones())
}

/// The place of the first bit of `range` that is `bit`; the range ends within the bytes.
pub fn find(bytes: &[u8], bit: bool, range: Range<u64>) -> Option<u64> {
    if range.is_empty() {
        return None;
    }
    let skip = if bit { 0 } else { u8::MAX };
    let (first, last) = ((range.start / 8) as usize, ((range.end - 1) / 8) as usize);
    let head = (bytes[first] ^ skip) & from_bit(range.start);
    let found = if head != 0 {
        first as u64 * 8 + u64::from(head.leading_zeros())
    } else {
        first_other_than(skip, &bytes[first + 1..=last])? + (first as u64 + 1) * 8
    };
    (found < range.end).then_some(found)
}

/// The place of the first bit in a byte other than `skip`, which is all zeroes or all ones.
fn first_other_than(skip: u8, bytes: &[u8]) -> Option<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    let alike = words.iter().take_while(|word| u64::from_ne_bytes(**word) == u64::from_ne_bytes([skip; 8]));
    let from = alike.count() * 8;
    let at = from + bytes[from..].iter().position(|byte| *byte != skip)?;
    Some(at as u64 * 8 + u64::from((bytes[at] ^ skip).leading_zeros()))
}

/// The mask of a byte's bits from this one on.
fn from_bit(at: u64) -> u8 {
    u8::MAX >> (at % 8)
}

/// The mask of a byte's bits up to this one.
fn up_to_bit(at: u64) -> u8 {
    u8::MAX << (7 - at % 8)
}

/// One bit.
pub fn get(bytes: &[u8], at: u64) -> bool {
    bytes.get((at / 8) as usize).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

/// Sets one bit and gives the old one.
pub fn set(bytes: &mut [u8], at: u64, on: bool) -> bool {
    let (byte, mask) = (&mut bytes[(at / 8) as usize], 0x80 >> (at % 8));
    let old = *byte & mask != 0;
    *byte = if on { *byte | mask } else { *byte & !mask };
    old
}

/// What BITOP does with several strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    And,
    Or,
    Xor,
}

/// Bytes that all sources go through before the next ones: they stay in the nearest cache.
const COMBINE_BLOCK_BYTES: usize = 16 << 10;

/// Combines strings into `out`, which has the longest one's length; shorter ones go on with zeroes.
pub fn combine(how: Combine, sources: &[&[u8]], out: &mut [u8]) {
    let Some((first, others)) = sources.split_first() else { return out.fill(0) };
    for (n, block) in out.chunks_mut(COMBINE_BLOCK_BYTES).enumerate() {
        let part = |source: &'_ [u8]| {
            let at = (n * COMBINE_BLOCK_BYTES).min(source.len());
            at..source.len().min(at + block.len())
        };
        let begun = &first[part(first)];
        let parts: smallvec::SmallVec<[&[u8]; 8]> =
            others.iter().map(|source| &source[part(source)]).collect();
        block[..begun.len()].copy_from_slice(begun);
        block[begun.len()..].fill(0);
        for part in parts {
            let pairs = block.iter_mut().zip(part);
            match how {
                Combine::And => {
                    pairs.for_each(|(byte, other)| *byte &= other);
                    block[part.len()..].fill(0);
                }
                Combine::Or => pairs.for_each(|(byte, other)| *byte |= other),
                Combine::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            }
        }
    }
}

/// Turns every bit around.
pub fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

/// What becomes of a number that its field cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The lowest bits stay.
    Wrap,
    /// The nearest number that the field can hold.
    Saturate,
    /// Nothing is written.
    Fail,
}

/// The integer type of a field: `i1` to `i64`, `u1` to `u63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    is_signed: bool,
    /// INVARIANT: 1 to 64, or 63 where unsigned; every value is an i64.
    bits: u32,
}

impl Field {
    /// Nothing where there is no such type.
    pub fn new(is_signed: bool, bits: u32) -> Option<Self> {
        let most = if is_signed { 64 } else { 63 };
        (1..=most).contains(&bits).then_some(Self { is_signed, bits })
    }

    pub fn bits(self) -> u32 {
        self.bits
    }

    /// The number at bit `at`.
    pub fn read(self, bytes: &[u8], at: u64) -> i64 {
        let window = u128::from_be_bytes(window(bytes, at));
        self.cut(((window << (at % 8)) >> (128 - self.bits)) as u64)
    }

    /// Writes a number that the field can hold. The bytes reach to the field's end.
    pub fn write(self, bytes: &mut [u8], at: u64, value: i64) {
        let shift = 128 - (at % 8) as u32 - self.bits;
        let mask = ((1u128 << self.bits) - 1) << shift;
        let old = u128::from_be_bytes(window(bytes, at));
        let new = (old & !mask | ((value as u128) << shift) & mask).to_be_bytes();
        let room = &mut bytes[(at / 8) as usize..];
        let len = room.len().min(WINDOW_BYTES);
        room[..len].copy_from_slice(&new[..len]);
    }

    /// `value + by`; nothing where that does not fit and must not be written.
    pub fn add(self, value: i64, by: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(value) + i128::from(by), overflow)
    }

    /// What is written for `value`. For an unsigned field a negative number counts as one beyond all bounds, and for
    /// a signed one of less than 64 bits what lies more than an i64 below its highest number.
    /// SOURCE: Redis 7.2 `bitops.c`, checkUnsignedBitfieldOverflow and checkSignedBitfieldOverflow.
    pub fn admit(self, value: i64, overflow: Overflow) -> Option<i64> {
        let wide = if self.is_signed { i128::from(value) } else { i128::from(value as u64) };
        let (min, max) = self.bounds();
        if overflow == Overflow::Saturate && wide < min && max - wide > i128::from(i64::MAX) {
            return Some(max as i64);
        }
        self.fit(wide, overflow)
    }

    fn fit(self, wide: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = self.bounds();
        match overflow {
            _ if (min..=max).contains(&wide) => Some(wide as i64),
            Overflow::Wrap => Some(self.cut(wide as u64)),
            Overflow::Saturate => Some(wide.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }

    fn bounds(self) -> (i128, i128) {
        if self.is_signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }

    /// The number that the lowest bits stand for.
    fn cut(self, low: u64) -> i64 {
        let unused = 64 - self.bits;
        let high = low << unused;
        if self.is_signed { high as i64 >> unused } else { (high >> unused) as i64 }
    }
}

/// As many bytes as a field of 64 bits can touch.
const WINDOW_BYTES: usize = 9;

/// The bytes that a field at `at` can touch, in front, and zeroes.
fn window(bytes: &[u8], at: u64) -> [u8; 16] {
    let mut window = [0; 16];
    let rest = bytes.get((at / 8) as usize..).unwrap_or_default();
    let len = rest.len().min(WINDOW_BYTES);
    window[..len].copy_from_slice(&rest[..len]);
    window
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bools(bytes: &[u8]) -> Vec<bool> {
        bytes.iter().flat_map(|byte| (0..8).map(move |n| byte >> (7 - n) & 1 == 1)).collect()
    }

    /// Long runs of zeroes and ones, so that searches have something to skip.
    fn bitmap() -> impl Strategy<Value = Vec<u8>> {
        let run = (prop_oneof![Just(0u8), Just(255), any::<u8>()], 0usize..40);
        prop::collection::vec(run, 0..6)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, len)| vec![byte; len]).collect())
    }

    fn field() -> impl Strategy<Value = Field> {
        (any::<bool>(), 1u32..=64).prop_filter_map("a type", |(signed, bits)| Field::new(signed, bits))
    }

    #[test]
    fn unsigned_fields_end_at_63_bits() {
        for (is_signed, bits, there) in
            [(true, 64, true), (true, 65, false), (false, 63, true), (false, 64, false), (true, 0, false)]
        {
            assert_eq!(Field::new(is_signed, bits).is_some(), there, "{is_signed} {bits}");
        }
    }

    #[test]
    fn overflow_is_that_of_redis() {
        let (u2, i5, i64_) =
            (Field::new(false, 2).unwrap(), Field::new(true, 5).unwrap(), Field::new(true, 64).unwrap());
        for (field, value, by, wrap, saturate) in [
            (u2, 3, 1, 0, 3),
            (u2, 0, -1, 3, 0),
            (i5, 15, 1, -16, 15),
            (i5, -16, -1, 15, -16),
            (i64_, i64::MAX, 1, i64::MIN, i64::MAX),
            (i64_, i64::MIN, i64::MIN, 0, i64::MIN),
        ] {
            let add = |overflow| field.add(value, by, overflow);
            assert_eq!(add(Overflow::Wrap), Some(wrap));
            assert_eq!(add(Overflow::Saturate), Some(saturate));
            assert_eq!(add(Overflow::Fail), None);
        }
        assert_eq!(u2.admit(-1, Overflow::Saturate), Some(3), "a negative number is a large one");
        assert_eq!(u2.admit(-1, Overflow::Wrap), Some(3));
        assert_eq!(i5.admit(-17, Overflow::Saturate), Some(-16));
        assert_eq!(i5.admit(i64::MIN + 16, Overflow::Saturate), Some(-16));
        assert_eq!(
            i5.admit(i64::MIN + 15, Overflow::Saturate),
            Some(15),
            "so far below that Redis's check wraps"
        );
        assert_eq!(i64_.admit(i64::MIN, Overflow::Saturate), Some(i64::MIN));
    }

    proptest! {
        #[test]
        fn counting_and_finding_act_as_bit_by_bit(bytes in bitmap(), a: u64, b: u64, bit: bool) {
            let model = bools(&bytes);
            let len = model.len() as u64;
            let (a, b) = (a % (len + 1), b % (len + 1));
            let range = a.min(b)..a.max(b);
            let part = &model[range.start as usize..range.end as usize];
            prop_assert_eq!(count(&bytes), model.iter().filter(|bit| **bit).count() as u64);
            prop_assert_eq!(count_in(&bytes, range.clone()), part.iter().filter(|bit| **bit).count() as u64);
            let found = part.iter().position(|there| *there == bit).map(|at| range.start + at as u64);
            prop_assert_eq!(find(&bytes, bit, range), found);
        }

        #[test]
        fn single_bits_act_as_bools(mut bytes in bitmap(), sets in prop::collection::vec((any::<u64>(), any::<bool>()), 0..30)) {
            let mut model = bools(&bytes);
            for (at, on) in sets {
                prop_assert_eq!(get(&bytes, at % 3000), model.get((at % 3000) as usize).copied().unwrap_or_default());
                if !model.is_empty() {
                    let at = at % model.len() as u64;
                    prop_assert_eq!(set(&mut bytes, at, on), std::mem::replace(&mut model[at as usize], on));
                }
            }
            prop_assert_eq!(bools(&bytes), model);
        }

        #[test]
        fn strings_combine_byte_by_byte(sources in prop::collection::vec((bitmap(), 1usize..400), 1..5)) {
            let sources: Vec<Vec<u8>> = sources.into_iter().map(|(bytes, times)| bytes.repeat(times)).collect();
            let len = sources.iter().map(Vec::len).max().unwrap_or_default();
            let views: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            for (how, one) in [
                (Combine::And, (|a, b| a & b) as fn(u8, u8) -> u8),
                (Combine::Or, |a, b| a | b),
                (Combine::Xor, |a, b| a ^ b),
            ] {
                let byte = |source: &Vec<u8>, at: usize| source.get(at).copied().unwrap_or_default();
                let model: Vec<u8> = (0..len)
                    .map(|at| sources.iter().map(|source| byte(source, at)).reduce(one).unwrap_or_default())
                    .collect();
                let mut out = vec![7; len];
                combine(how, &views, &mut out);
                prop_assert!(out == model);
            }
        }

        #[test]
        fn fields_act_as_bits_in_a_row(mut bytes in prop::collection::vec(any::<u8>(), 0..24), at in 0u64..200, field in field(), value: i64) {
            let model = bools(&bytes);
            let bit = |at: u64| model.get(at as usize).copied().unwrap_or_default();
            let read = (at..at + u64::from(field.bits)).fold(0u64, |number, at| number << 1 | u64::from(bit(at)));
            let negative = field.is_signed && bit(at);
            let expected = if negative { i128::from(read) - (1i128 << field.bits) } else { i128::from(read) };
            prop_assert_eq!(i128::from(field.read(&bytes, at)), expected);

            let value = field.cut(value as u64);
            let end = at + u64::from(field.bits);
            let len = bytes.len().max(end.div_ceil(8) as usize);
            bytes.resize(len, 0);
            let mut model = bools(&bytes);
            for n in 0..field.bits {
                model[(at + u64::from(n)) as usize] = value >> (field.bits - 1 - n) & 1 == 1;
            }
            field.write(&mut bytes, at, value);
            prop_assert_eq!(bools(&bytes), model);
            prop_assert_eq!(field.read(&bytes, at), value);
        }

        #[test]
        fn what_wraps_is_the_same_modulo_the_fields_size(field in field(), value: i64, by: i64) {
            let value = field.cut(value as u64);
            let wrapped = i128::from(field.add(value, by, Overflow::Wrap).unwrap());
            prop_assert_eq!((wrapped - i128::from(value) - i128::from(by)) % (1i128 << field.bits), 0);
            let exact = field.add(value, by, Overflow::Fail);
            prop_assert_eq!(exact.is_some(), wrapped == i128::from(value) + i128::from(by));
        }
    }
}
