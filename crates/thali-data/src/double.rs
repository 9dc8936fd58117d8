//! Doubles as text: the one way scores (and other doubles) are printed and read on the wire.
//!
//! Printing: integers with |d| < 2^62 print as plain integers, everything else prints the shortest digits
//! that read back to the same double, so scores near 2^53 and fractions such as 0.1 survive a round trip.
//! Reading: what C's `strtod` accepts, which includes `inf`, `infinity` and hexadecimal floats, case ignored.
//!
//! SOURCE: Redis 7.2 `util.c` (`d2string`), `object.c` (`getDoubleFromObject`), `t_zset.c` (`zslParseRange`).
//! Redis 7.0 prints `%.17g` instead: the same double, more digits (0.10000000000000001 for 0.1).

use std::fmt::Write;

/// Longest text that [`format_double`] makes, in bytes: sign, 17 digits, point, `e-308`, with room to spare.
pub const DOUBLE_TEXT_LEN_MAX: usize = 32;

/// Doubles of this size and above are no longer printed through an integer (half of `i64::MAX`, as Redis).
const INTEGER_PRINT_MAX: f64 = (i64::MAX / 2) as f64;

/// The text of a double, in a buffer on the stack.
#[derive(Clone, Copy)]
pub struct DoubleText {
    bytes: [u8; DOUBLE_TEXT_LEN_MAX],
    len: u8,
}

impl DoubleText {
    const fn empty() -> Self {
        Self { bytes: [0; DOUBLE_TEXT_LEN_MAX], len: 0 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only ASCII is pushed")
    }

    fn push(&mut self, text: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + text.len()].copy_from_slice(text);
        self.len += text.len() as u8;
    }

    fn push_zeros(&mut self, count: usize) {
        for _ in 0..count {
            self.push(b"0");
        }
    }
}

impl Write for DoubleText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if usize::from(self.len) + text.len() > DOUBLE_TEXT_LEN_MAX {
            return Err(std::fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}

impl std::fmt::Debug for DoubleText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Prints a double as Redis does in replies: `3`, `0.1`, `1e+20`, `inf`, `-inf`, `-0`, `nan`.
pub fn format_double(value: f64) -> DoubleText {
    let mut text = DoubleText::empty();
    if value.is_nan() {
        text.push(b"nan");
    } else if value.is_infinite() {
        text.push(if value < 0.0 { b"-inf" } else { b"inf" });
    } else if value == 0.0 {
        text.push(if value.is_sign_negative() { b"-0" } else { b"0" });
    } else if value.abs() <= INTEGER_PRINT_MAX && value.trunc() == value {
        text.push(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        push_shortest(&mut text, value);
    }
    text
}

/// The shortest digits in the layout of Redis's `fpconv`: plain while it is short, else with an exponent.
fn push_shortest(text: &mut DoubleText, value: f64) {
    let mut scientific = DoubleText::empty();
    write!(scientific, "{:e}", value.abs()).expect("shortest digits fit the buffer");
    let (mantissa, exponent) = scientific.as_str().split_once('e').expect("{:e} always prints an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} prints a decimal exponent");

    let mut digits = [0u8; DOUBLE_TEXT_LEN_MAX];
    let mut digit_count = 0;
    for digit in mantissa.bytes().filter(u8::is_ascii_digit) {
        digits[digit_count] = digit;
        digit_count += 1;
    }
    let digits = &digits[..digit_count];
    // The value is digits × 10^scale.
    let scale = exponent - (digit_count as i32 - 1);
    let magnitude = exponent.unsigned_abs() as usize;

    if value < 0.0 {
        text.push(b"-");
    }
    if scale >= 0 && magnitude < digit_count + 7 {
        text.push(digits);
        text.push_zeros(scale as usize);
    } else if scale < 0 && (scale > -7 || magnitude < 4) {
        let point = digit_count as i32 + scale;
        if point <= 0 {
            text.push(b"0.");
            text.push_zeros(point.unsigned_abs() as usize);
            text.push(digits);
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            text.push(whole);
            text.push(b".");
            text.push(fraction);
        }
    } else {
        text.push(&digits[..1]);
        if digit_count > 1 {
            text.push(b".");
            text.push(&digits[1..]);
        }
        text.push(if exponent < 0 { b"e-" } else { b"e+" });
        text.push(itoa::Buffer::new().format(magnitude).as_bytes());
    }
}

/// Reads a score: the whole text must be a number without leading white space; NaN is refused, and so is a
/// number that over- or underflows the double (`1e400`, `1e-400`).
pub fn parse_double(text: &[u8]) -> Option<f64> {
    match parse_strtod(text)? {
        Parsed::Exact(value) if !value.is_nan() => Some(value),
        _ => None,
    }
}

/// Reads a bound of a score range, where `strtod` is asked less strictly: white space may lead, the empty
/// text is 0, and a number out of range becomes an infinity or 0. NaN is refused.
pub fn parse_double_bound(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return Some(0.0);
    }
    match parse_strtod(text)? {
        Parsed::Exact(value) | Parsed::OutOfRange(value) if !value.is_nan() => Some(value),
        _ => None,
    }
}

enum Parsed {
    Exact(f64),
    /// The text is a number, but no double is near: what it saturates to.
    OutOfRange(f64),
}

fn parse_strtod(text: &[u8]) -> Option<Parsed> {
    let (negative, magnitude) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let hex = magnitude.len() > 2 && magnitude[0] == b'0' && (magnitude[1] | 0x20) == b'x';
    let parsed = if hex { parse_hex(&magnitude[2..])? } else { parse_decimal(magnitude)? };
    let sign = if negative { -1.0 } else { 1.0 };
    Some(match parsed {
        Parsed::Exact(value) => Parsed::Exact(sign * value),
        Parsed::OutOfRange(value) => Parsed::OutOfRange(sign * value),
    })
}

fn parse_decimal(text: &[u8]) -> Option<Parsed> {
    let first = *text.first()?;
    if first.is_ascii_alphabetic() {
        let infinite = text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity");
        return infinite.then_some(Parsed::Exact(f64::INFINITY));
    }
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let digits_are_zero = text.iter().take_while(|b| (**b | 0x20) != b'e').all(|b| matches!(b, b'0' | b'.'));
    if value.is_infinite() || (value == 0.0 && !digits_are_zero) {
        return Some(Parsed::OutOfRange(value));
    }
    Some(Parsed::Exact(value))
}

/// Hexadecimal floats: `1F`, `1.8p3`, `.8p-1`. Bits beyond the 64th are dropped, not rounded.
fn parse_hex(text: &[u8]) -> Option<Parsed> {
    let mut bits: u64 = 0;
    let mut exponent: i64 = 0;
    let mut digits = 0usize;
    let mut after_point = false;
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'.' && !after_point {
            after_point = true;
        } else if let Some(digit) = char::from(byte).to_digit(16) {
            digits += 1;
            if bits >> 60 == 0 {
                bits = (bits << 4) | u64::from(digit);
                exponent -= if after_point { 4 } else { 0 };
            } else {
                exponent += if after_point { 0 } else { 4 };
            }
        } else {
            break;
        }
        rest = tail;
    }
    if digits == 0 {
        return None;
    }
    if let Some((&mark, tail)) = rest.split_first() {
        if (mark | 0x20) != b'p' {
            return None;
        }
        let power: i64 = std::str::from_utf8(tail).ok()?.parse().ok()?;
        exponent = exponent.saturating_add(power);
    }
    // Two steps, so that a subnormal result does not pass through a power of two that is itself zero.
    let half = exponent.clamp(-4000, 4000) as i32 / 2;
    let value = bits as f64 * 2f64.powi(half) * 2f64.powi(exponent.clamp(-4000, 4000) as i32 - half);
    if value.is_infinite() || (value == 0.0 && bits != 0) {
        return Some(Parsed::OutOfRange(value));
    }
    Some(Parsed::Exact(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_print_as_redis_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.5, "-3.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (9007199254740991.0, "9007199254740991"),
            (9007199254740992.0, "9007199254740992"),
            (1e17, "100000000000000000"),
            (4611686018427387904.0, "4611686018427387904"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (12345678901234567890.0, "12345678901234567000"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (0.000123, "0.000123"),
            (1e300, "1e+300"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(format_double(value).as_str(), expected);
        }
    }

    #[test]
    fn scores_read_as_strtod_reads_them() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("+5", Some(5.0)),
            ("-5.5e1", Some(-55.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("0x10", Some(16.0)),
            ("0x1.8p3", Some(12.0)),
            ("-0X.8p1", Some(-1.0)),
            ("inf", Some(f64::INFINITY)),
            ("+INF", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0e400", Some(0.0)),
            ("nan", None),
            ("", None),
            ("-", None),
            ("+-5", None),
            (" 1", None),
            ("1 ", None),
            ("1e", None),
            ("1_0", None),
            ("0x", None),
            ("0x1p", None),
            ("infin", None),
            ("1e400", None),
            ("1e-400", None),
        ] {
            assert_eq!(parse_double(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn bounds_read_more_kindly_than_scores() {
        assert_eq!(parse_double_bound(b""), Some(0.0));
        assert_eq!(parse_double_bound(b" 5"), Some(5.0));
        assert_eq!(parse_double_bound(b"1e400"), Some(f64::INFINITY));
        assert_eq!(parse_double_bound(b"-1e400"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_double_bound(b"nan"), None);
        assert_eq!(parse_double_bound(b"5x"), None);
    }

    proptest! {
        #[test]
        fn every_double_reads_back_as_itself(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let text = format_double(value);
            prop_assert_eq!(parse_double(text.as_bytes()).map(f64::to_bits), Some(bits), "{}", text.as_str());
        }

        #[test]
        fn integers_below_two_to_the_53_print_plainly(value in -(1i64 << 53)..(1i64 << 53)) {
            let text = format_double(value as f64);
            prop_assert_eq!(text.as_str(), value.to_string());
        }
    }
}
