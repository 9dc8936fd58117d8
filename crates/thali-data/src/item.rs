//! `Item`: one element of a collection as a borrowed view, integer or bytes.
//!
//! Collections store canonical integers in binary. Whoever reads them asks for bytes and gets the
//! decimal form written into a stack buffer of the caller.

use std::fmt;

/// Longest decimal form of an `i64`.
pub const INT_BYTES_MAX: usize = 20;

/// Stack room for the decimal form of an integer.
#[derive(Clone)]
pub struct IntBuf(itoa::Buffer);

impl IntBuf {
    pub fn new() -> Self {
        IntBuf(itoa::Buffer::new())
    }

    pub fn format(&mut self, n: i64) -> &[u8] {
        self.0.format(n).as_bytes()
    }
}

impl Default for IntBuf {
    fn default() -> Self {
        Self::new()
    }
}

/// The integer whose canonical decimal form is exactly `bytes`: no plus sign, no leading zeroes, no
/// "-0". Only such strings may be stored as integers, since reading must give back the same bytes.
pub fn parse_canonical_int(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() < INT_BYTES_MAX => {}
        _ => return None,
    }
    let mut n: i64 = 0;
    for &d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        // Counting downwards reaches i64::MIN, which has no positive counterpart.
        n = n.checked_mul(10)?.checked_sub((d - b'0') as i64)?;
    }
    if negative { Some(n) } else { n.checked_neg() }
}

/// Length of the decimal form.
pub fn int_len(n: i64) -> usize {
    let magnitude = n.unsigned_abs();
    let digits = magnitude.checked_ilog10().map_or(1, |l| l as usize + 1);
    digits + usize::from(n < 0)
}

/// A borrowed element. `Int` and `Bytes` with the same decimal form are equal.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> Item<'a> {
    /// The view in which canonical integers are `Int`.
    pub fn parse(bytes: &'a [u8]) -> Self {
        parse_canonical_int(bytes).map_or(Item::Bytes(bytes), Item::Int)
    }

    pub fn bytes<'b>(&'b self, scratch: &'b mut IntBuf) -> &'b [u8] {
        match *self {
            Item::Int(n) => scratch.format(n),
            Item::Bytes(b) => b,
        }
    }

    /// Hands the bytes to `f`.
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match *self {
            Item::Int(n) => f(itoa::Buffer::new().format(n).as_bytes()),
            Item::Bytes(b) => f(b),
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        self.with_bytes(|b| b.to_vec())
    }

    /// Appends the bytes.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.with_bytes(|b| out.extend_from_slice(b));
    }

    /// Length of the byte form.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match *self {
            Item::Int(n) => int_len(n),
            Item::Bytes(b) => b.len(),
        }
    }

    /// The canonical integer that this element is, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            Item::Int(n) => Some(n),
            Item::Bytes(b) => parse_canonical_int(b),
        }
    }
}

impl PartialEq for Item<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Item::Int(a), Item::Int(b)) => a == b,
            (Item::Bytes(a), Item::Bytes(b)) => a == b,
            (Item::Int(n), Item::Bytes(b)) | (Item::Bytes(b), Item::Int(n)) => {
                parse_canonical_int(b) == Some(n)
            }
        }
    }
}

impl Eq for Item<'_> {}

impl<'a> From<&'a [u8]> for Item<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Item::parse(bytes)
    }
}

impl From<i64> for Item<'_> {
    fn from(n: i64) -> Self {
        Item::Int(n)
    }
}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Int(n) => write!(f, "{n}"),
            Item::Bytes(b) => write!(f, "b\"{}\"", b.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_decimals_are_integers() {
        for (text, want) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            ("", None),
            ("-", None),
            ("1a", None),
            (" 1", None),
            ("123456789012345678901234567890", None),
        ] {
            assert_eq!(parse_canonical_int(text.as_bytes()), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_integer_survives(n: i64) {
            let text = n.to_string();
            prop_assert_eq!(parse_canonical_int(text.as_bytes()), Some(n));
            prop_assert_eq!(int_len(n), text.len());
            prop_assert_eq!(Item::Int(n), Item::Bytes(text.as_bytes()));
        }

        #[test]
        fn what_parses_prints_the_same(text in "-?[0-9]{0,22}") {
            if let Some(n) = parse_canonical_int(text.as_bytes()) {
                prop_assert_eq!(n.to_string(), text);
            }
        }
    }
}
