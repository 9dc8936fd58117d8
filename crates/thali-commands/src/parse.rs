//! Reading arguments: numbers as Redis reads them, cursors, timeouts.

use thali_data::double::parse_double;

use crate::ErrorReply;

/// A canonical integer: digits with an optional `-`, no blanks, no leading zeros, no `+`.
pub fn parse_i64(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// An integer argument, or `ERR value is not an integer or out of range`.
pub fn integer(bytes: &[u8]) -> Result<i64, ErrorReply> {
    parse_i64(bytes).ok_or(ErrorReply::NOT_INTEGER)
}

/// A SCAN cursor.
pub fn cursor(bytes: &[u8]) -> Result<u64, ErrorReply> {
    let text = std::str::from_utf8(bytes).map_err(|_| ErrorReply::INVALID_CURSOR)?;
    text.parse().map_err(|_| ErrorReply::INVALID_CURSOR)
}

/// A blocking command's timeout in seconds, as the moment when it ends; `None` = never. Read as a double
/// and rounded up to milliseconds, so that a negative fraction of one is 0.
/// SOURCE: Redis 7.2 `timeout.c`, getTimeoutFromObjectOrReply.
pub fn deadline_from_seconds(bytes: &[u8], now_ms: u64) -> Result<Option<u64>, ErrorReply> {
    let ms = (parse_double(bytes).ok_or(ErrorReply::TIMEOUT_NOT_FLOAT)? * 1000.0).ceil();
    if ms < 0.0 {
        return Err(ErrorReply::TIMEOUT_NEGATIVE);
    }
    if ms > (i64::MAX as u64 - now_ms) as f64 {
        return Err(ErrorReply::TIMEOUT_OUT_OF_RANGE);
    }
    Ok((ms > 0.0).then_some(now_ms + ms as u64))
}

/// Whether an argument is this word, in any case.
pub fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// Turns a possibly negative index into an offset: −1 is the last of `len`.
pub fn from_end(index: i64, len: usize) -> i64 {
    if index < 0 { index.saturating_add(len as i64) } else { index }
}

/// Redis's inclusive range `start stop` over `len` elements as a half-open one; `None` = empty.
pub fn range(start: i64, stop: i64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = from_end(start, len).max(0);
    let stop = from_end(stop, len).min(len as i64 - 1);
    (start <= stop && start < len as i64).then(|| start as usize..stop as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical() {
        let check =
            |text: &str, expected: Option<i64>| assert_eq!(parse_i64(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("-0", None);
        check("007", None);
        check("+1", None);
        check(" 1", None);
        check("9223372036854775807", Some(i64::MAX));
        check("9223372036854775808", None);
        check("-9223372036854775808", Some(i64::MIN));
        check("-9223372036854775809", None);
        check("", None);
    }

    #[test]
    fn timeouts_are_any_double_that_c_reads() {
        const NOW: u64 = 1_000;
        let check = |text: &str, expected: Result<Option<u64>, ErrorReply>| {
            assert_eq!(deadline_from_seconds(text.as_bytes(), NOW), expected, "{text}");
        };
        check("0", Ok(None));
        check("1.5", Ok(Some(NOW + 1_500)));
        check("1e-4", Ok(Some(NOW + 1)));
        check("0x1", Ok(Some(NOW + 1_000)));
        check("-0.0001", Ok(None));
        check("-1", Err(ErrorReply::TIMEOUT_NEGATIVE));
        check("-inf", Err(ErrorReply::TIMEOUT_NEGATIVE));
        check("inf", Err(ErrorReply::TIMEOUT_OUT_OF_RANGE));
        check("9223372036854775807", Err(ErrorReply::TIMEOUT_OUT_OF_RANGE));
        for text in ["", " 1", "1x", "0x", "nan"] {
            check(text, Err(ErrorReply::TIMEOUT_NOT_FLOAT));
        }
    }

    #[test]
    fn ranges_count_from_both_ends() {
        assert_eq!(range(0, -1, 3), Some(0..3));
        assert_eq!(range(-2, -1, 3), Some(1..3));
        assert_eq!(range(-100, 0, 3), Some(0..1));
        assert_eq!(range(5, 9, 3), None);
        assert_eq!(range(2, 1, 3), None);
        assert_eq!(range(0, -1, 0), None);
    }
}
