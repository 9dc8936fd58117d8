//! The extended doubles of INCRBYFLOAT and HINCRBYFLOAT, in software.
//!
//! Redis adds in C's `long double` and prints `%.17Lf` without trailing zeroes, so 1 + -1.1 is -0.1
//! where a double gives -0.10000000000000009. On x86-64 a `long double` has a mantissa of 64 bits; here
//! it is a mantissa and a power of two, and every step is exact up to one rounding (half to even), as
//! in the hardware. SOURCE: redis 7.2 `util.c`, `string2ld`, `ld2string`.
//!
//! Exponents are bounded by [`EXPONENT_MAX`]; what is larger is infinite. Below, values shrink to zero
//! far under the 17 printed places, so denormals need no care.

use std::cmp::Ordering;

/// Largest power of two of an 80-bit float.
const EXPONENT_MAX: i64 = 16383;
const MANTISSA_BITS: usize = 64;
/// Places printed behind the point.
const PLACES: usize = 17;
/// Longest text that is read; Redis's limit is 5 KB, of which only zeroes could be meaningful.
const TEXT_BYTES_MAX: usize = 512;
/// Decimal exponents past this are zero or infinite whatever the digits are.
const DECIMAL_EXPONENT_MAX: i64 = 6000;

/// `±mantissa × 2^exponent`; infinite and not-a-number values are not represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i64,
}

/// Why a text is no finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    Invalid,
    /// "inf", "infinity".
    Infinite,
}

impl LongDouble {
    /// Reads decimal text as C's `strtold` does: no blanks, the whole text. Hexadecimal text and
    /// numbers out of range are invalid.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Err(ParseError::Infinite);
        }
        let (digits, exponent) = decimal(rest).ok_or(ParseError::Invalid)?;
        if digits.is_zero() {
            return Ok(LongDouble { negative, mantissa: 0, exponent: 0 });
        }
        if exponent.abs() > DECIMAL_EXPONENT_MAX {
            return Err(ParseError::Invalid);
        }
        let power = Big::power_of_ten(exponent.unsigned_abs() as usize);
        let value = if exponent >= 0 {
            Self::round(negative, digits.times(&power), 0)
        } else {
            // Enough quotient bits for the mantissa and one more; what is left over decides ties.
            let shift = (power.bits() + MANTISSA_BITS + 2).saturating_sub(digits.bits());
            let (mut quotient, rest) = digits.shifted_left(shift).divided(&power);
            if !rest.is_zero() {
                quotient = quotient.shifted_left(1);
                quotient.add_small(1);
                Self::round(negative, quotient, -(shift as i64) - 1)
            } else {
                Self::round(negative, quotient, -(shift as i64))
            }
        };
        value.ok_or(ParseError::Invalid)
    }

    /// The sum; `None` where it is infinite.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.mantissa == 0 {
            return Some(other);
        }
        if other.mantissa == 0 {
            return Some(self);
        }
        let low = self.exponent.min(other.exponent);
        let widen = |v: Self| Big::from(v.mantissa).shifted_left((v.exponent - low) as usize);
        let (a, b) = (widen(self), widen(other));
        if self.negative == other.negative {
            return Self::round(self.negative, a.plus(&b), low);
        }
        match a.cmp(&b) {
            Ordering::Equal => Some(LongDouble { negative: false, mantissa: 0, exponent: 0 }),
            Ordering::Greater => Self::round(self.negative, a.minus(&b), low),
            Ordering::Less => Self::round(other.negative, b.minus(&a), low),
        }
    }

    /// `big × 2^exponent`, rounded to the mantissa.
    fn round(negative: bool, big: Big, exponent: i64) -> Option<Self> {
        let bits = big.bits();
        let excess = bits.saturating_sub(MANTISSA_BITS);
        let rounded = big.shifted_right_to_even(excess);
        let mut exponent = exponent + excess as i64;
        let mantissa = match rounded.to_u64() {
            Some(mantissa) => mantissa,
            None => {
                // All ones were rounded up to the next power of two.
                exponent += 1;
                1 << 63
            }
        };
        let top_bit = exponent + 63 - i64::from(mantissa.leading_zeros());
        (top_bit <= EXPONENT_MAX).then_some(LongDouble { negative, mantissa, exponent })
    }
}

impl std::fmt::Display for LongDouble {
    /// As `%.17Lf`, without zeroes at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scaled = Big::from(self.mantissa).times(&Big::power_of_ten(PLACES));
        let scaled = if self.exponent >= 0 {
            scaled.shifted_left(self.exponent as usize)
        } else {
            scaled.shifted_right_to_even(self.exponent.unsigned_abs() as usize)
        };
        let digits = format!("{:0>width$}", scaled.to_decimal(), width = PLACES + 1);
        let (whole, fraction) = digits.split_at(digits.len() - PLACES);
        let fraction = fraction.trim_end_matches('0');
        let sign = if self.negative && !(whole == "0" && fraction.is_empty()) { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

/// Digits and decimal exponent of `12.5e-3`.
fn decimal(text: &[u8]) -> Option<(Big, i64)> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let (number, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (mut digits, mut places, mut point_seen, mut any) = (Big::default(), 0i64, false, false);
    for &byte in number {
        match byte {
            b'0'..=b'9' => {
                digits.multiply_small(10);
                digits.add_small(u32::from(byte - b'0'));
                places += i64::from(point_seen);
                any = true;
            }
            b'.' if !point_seen => point_seen = true,
            _ => return None,
        }
    }
    any.then(|| (digits, exponent.saturating_sub(places)))
}

/// A natural number of any size: 32-bit digits, the lowest first, no zeroes at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(n: u64) -> Self {
        Big(vec![n as u32, (n >> 32) as u32]).trimmed()
    }
}

impl Big {
    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn bit(&self, index: usize) -> bool {
        self.0.get(index / 32).is_some_and(|digit| digit >> (index % 32) & 1 == 1)
    }

    fn to_u64(&self) -> Option<u64> {
        match *self.0 {
            [] => Some(0),
            [low] => Some(low.into()),
            [low, high] => Some(u64::from(low) | u64::from(high) << 32),
            _ => None,
        }
    }

    fn power_of_ten(exponent: usize) -> Self {
        let mut power = Big::from(1);
        for _ in 0..exponent {
            power.multiply_small(10);
        }
        power
    }

    fn multiply_small(&mut self, factor: u32) {
        let mut carry = 0u64;
        for digit in &mut self.0 {
            let wide = u64::from(*digit) * u64::from(factor) + carry;
            (*digit, carry) = (wide as u32, wide >> 32);
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn add_small(&mut self, n: u32) {
        *self = self.plus(&Big::from(u64::from(n)));
    }

    /// Divides in place and returns the rest.
    fn divide_small(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u64;
        for digit in self.0.iter_mut().rev() {
            let wide = rest << 32 | u64::from(*digit);
            (*digit, rest) = ((wide / u64::from(divisor)) as u32, wide % u64::from(divisor));
        }
        *self = std::mem::take(self).trimmed();
        rest as u32
    }

    fn times(&self, other: &Big) -> Big {
        let mut product = vec![0u32; self.0.len() + other.0.len()];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (j, &b) in other.0.iter().enumerate() {
                let wide = u64::from(a) * u64::from(b) + u64::from(product[i + j]) + carry;
                (product[i + j], carry) = (wide as u32, wide >> 32);
            }
            product[i + other.0.len()] = carry as u32;
        }
        Big(product).trimmed()
    }

    fn plus(&self, other: &Big) -> Big {
        let mut carry = 0u64;
        let mut sum = Vec::with_capacity(self.0.len().max(other.0.len()) + 1);
        for i in 0..self.0.len().max(other.0.len()) + 1 {
            let digit = |n: &Big| u64::from(n.0.get(i).copied().unwrap_or(0));
            let wide = digit(self) + digit(other) + carry;
            sum.push(wide as u32);
            carry = wide >> 32;
        }
        Big(sum).trimmed()
    }

    /// `other` must not be larger.
    fn minus(&self, other: &Big) -> Big {
        let mut borrow = 0i64;
        let mut difference = Vec::with_capacity(self.0.len());
        for (i, &a) in self.0.iter().enumerate() {
            let wide = i64::from(a) - i64::from(other.0.get(i).copied().unwrap_or(0)) - borrow;
            borrow = i64::from(wide < 0);
            difference.push(wide as u32);
        }
        Big(difference).trimmed()
    }

    fn shifted_left(&self, bits: usize) -> Big {
        let (digits, bits) = (bits / 32, bits % 32);
        let mut shifted = vec![0u32; digits + self.0.len() + 1];
        for (i, &digit) in self.0.iter().enumerate() {
            let wide = u64::from(digit) << bits;
            shifted[digits + i] |= wide as u32;
            shifted[digits + i + 1] = (wide >> 32) as u32;
        }
        Big(shifted).trimmed()
    }

    /// Divided by 2^bits, rounded half to even.
    fn shifted_right_to_even(&self, bits: usize) -> Big {
        if bits == 0 {
            return self.clone();
        }
        let digit = |i: usize| u64::from(self.0.get(i).copied().unwrap_or(0));
        let (from, within) = (bits / 32, bits % 32);
        let len = self.0.len().saturating_sub(from);
        let wide = |i: usize| digit(from + i) | digit(from + i + 1) << 32;
        let quotient = Big((0..len).map(|i| (wide(i) >> within) as u32).collect()).trimmed();
        let half = self.bit(bits - 1);
        let more = (0..bits - 1).any(|i| self.bit(i));
        if half && (more || quotient.bit(0)) { quotient.plus(&Big::from(1)) } else { quotient }
    }

    /// Quotient and rest by long division in base two.
    fn divided(&self, divisor: &Big) -> (Big, Big) {
        let (mut quotient, mut rest) = (vec![0u32; self.0.len()], self.clone());
        let Some(top) = self.bits().checked_sub(divisor.bits()) else { return (Big::default(), rest) };
        for shift in (0..=top).rev() {
            let part = divisor.shifted_left(shift);
            if rest >= part {
                rest = rest.minus(&part);
                quotient[shift / 32] |= 1 << (shift % 32);
            }
        }
        (Big(quotient).trimmed(), rest)
    }

    fn to_decimal(&self) -> String {
        let (mut left, mut groups) = (self.clone(), Vec::new());
        while !left.is_zero() {
            groups.push(left.divide_small(1_000_000_000));
        }
        let mut text = groups.pop().map_or_else(|| "0".to_string(), |top| top.to_string());
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }
}

impl PartialOrd for Big {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Big {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> String {
        let read = |t: &str| LongDouble::parse(t.as_bytes()).unwrap();
        read(a).checked_add(read(b)).unwrap().to_string()
    }

    /// Replies of redis-server 7.0.15 on x86-64 to `HINCRBYFLOAT`.
    #[test]
    fn sums_print_as_redis_prints_them() {
        for (a, b, want) in [
            ("1", "0.1", "1.1"),
            ("1", "-1.1", "-0.1"),
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1.1", "1e20", "100000000000000000000"),
            ("0", "1e-19", "0"),
            ("0", "70381.2", "70381.20000000000000284"),
            ("-5", "5.0e0", "0"),
            ("0", "-0.0", "0"),
            ("17179869184", "1", "17179869185"),
            ("17179869184.5", "-0.25", "17179869184.25"),
            (".5", "5.", "5.5"),
            (
                "0.3",
                "1e300",
                "1000000000000000000008997324079559193870523944273290747938260082321265646596180935755849152083750\
                 4971903503725086142748359035925561846729839130962605207486462873271356418436532940842551076060\
                 1678972665293237003055138294762099454029477278188962060617926761162709741065056718738610569008\
                 9424915104006144",
            ),
        ] {
            assert_eq!(sum(a, b), want, "{a} + {b}");
        }
    }

    #[test]
    fn texts_that_are_no_finite_number_are_refused() {
        for text in ["", " 1", "1 ", "1x", "-", ".", "e5", "1e", "1..2", "nan", "0x10", "1e5000"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), Err(ParseError::Invalid), "{text}");
        }
        for text in ["inf", "-inf", "+Infinity"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), Err(ParseError::Infinite), "{text}");
        }
        let huge = LongDouble::parse(b"1.1e4932").unwrap();
        assert_eq!(huge.checked_add(huge), None);
    }

    proptest! {
        #[test]
        fn integers_add_exactly(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), (a + b).to_string());
        }

        #[test]
        fn division_is_right(a: u64, b in 1u64.., shift in 0usize..100) {
            let (big_a, big_b) = (Big::from(a).shifted_left(shift), Big::from(b));
            let (quotient, rest) = big_a.divided(&big_b);
            prop_assert!(rest < big_b);
            prop_assert_eq!(quotient.times(&big_b).plus(&rest), big_a);
        }
    }
}
