//! Numbers as text, as C's `printf` writes them.

use std::io::Write;

/// Longest text of a number argument: `-1.7976931348623157e+308` is 24 bytes.
pub const NUMBER_LEN_MAX: usize = 32;

/// A number as an argument of a command: integers as integers, the rest as `%.17g`.
///
/// SOURCE: Redis 7.0 `script_lua.c`. Integers are those that a 63-bit half range holds exactly; beyond it
/// Redis prints an exponent too.
pub fn argument(value: f64, text: &mut [u8; NUMBER_LEN_MAX]) -> usize {
    const HALF: f64 = (i64::MAX / 2) as f64;
    let mut out = &mut text[..];
    if value.abs() <= HALF && value.trunc() == value {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(value as i64).as_bytes();
        out[..digits.len()].copy_from_slice(digits);
        return digits.len();
    }
    significant(value, 17, &mut out);
    let left = out.len();
    NUMBER_LEN_MAX - left
}

/// `%.{precision}g`; `precision` is 1 to 17.
pub fn write_significant(value: f64, precision: usize, out: &mut Vec<u8>) {
    // Below 2^53 and within the precision, an integer's digits are all that %g prints.
    if precision == 14
        && value.abs() < 1e14
        && value.trunc() == value
        && (value != 0.0 || !value.is_sign_negative())
    {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
        return;
    }
    significant(value, precision, out);
}

fn significant(value: f64, precision: usize, out: &mut impl Write) {
    let written = if value.is_nan() {
        out.write_all(if value.is_sign_negative() { b"-nan" } else { b"nan" })
    } else if value.is_infinite() {
        out.write_all(if value < 0.0 { b"-inf" } else { b"inf" })
    } else {
        finite(value, precision, out)
    };
    written.expect("a number fits its buffer");
}

fn finite(value: f64, precision: usize, out: &mut impl Write) -> std::io::Result<()> {
    // `d.ddde-x` with exactly `precision` digits, correctly rounded; %g rearranges them.
    let mut text = [0u8; 40];
    let mut rest = &mut text[..];
    write!(rest, "{:.*e}", precision - 1, value.abs())?;
    let left = rest.len();
    let text = &text[..40 - left];
    let at = text.iter().position(|&b| b == b'e').unwrap_or(text.len());
    let exponent: i32 = std::str::from_utf8(&text[at + 1..]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    let mut digits = [0u8; 20];
    let mut count = 0;
    for &digit in text[..at].iter().filter(|b| b.is_ascii_digit()) {
        digits[count] = digit;
        count += 1;
    }
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
    }
    let digits = &digits[..count];
    if value.is_sign_negative() {
        out.write_all(b"-")?;
    }
    if exponent < -4 || exponent >= precision as i32 {
        out.write_all(&digits[..1])?;
        if count > 1 {
            out.write_all(b".")?;
            out.write_all(&digits[1..])?;
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(out, "e{sign}{:02}", exponent.abs());
    }
    if exponent < 0 {
        out.write_all(b"0.")?;
        (1..-exponent).try_for_each(|_| out.write_all(b"0"))?;
        return out.write_all(digits);
    }
    let whole = exponent as usize + 1;
    if count <= whole {
        out.write_all(digits)?;
        return (count..whole).try_for_each(|_| out.write_all(b"0"));
    }
    out.write_all(&digits[..whole])?;
    out.write_all(b".")?;
    out.write_all(&digits[whole..])
}

/// What x86's conversion of a double to a 64-bit integer gives, which Redis's replies show: truncation, and
/// the smallest integer for everything that does not fit.
pub fn truncate(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) { value as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(value: f64) -> String {
        let mut text = [0; NUMBER_LEN_MAX];
        let len = argument(value, &mut text);
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    fn g(value: f64, precision: usize) -> String {
        let mut out = Vec::new();
        write_significant(value, precision, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn arguments_print_as_redis_prints_them() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (9007199254740992.0, "9007199254740992"),
            (3e15, "3000000000000000"),
            (1e20, "1e+20"),
            (f64::INFINITY, "inf"),
            (-0.0, "0"),
            (-12.0, "-12"),
            (1.5, "1.5"),
            (-f64::MAX, "-1.7976931348623157e+308"),
        ] {
            assert_eq!(arg(value), text);
        }
    }

    #[test]
    fn significant_digits_follow_printf() {
        for (value, precision, text) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (100.0, 14, "100"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (1e14, 14, "1e+14"),
            (123456789012345.0, 14, "1.2345678901234e+14"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (99.99, 3, "100"),
            (123456.0, 3, "1.23e+05"),
            (1e100, 14, "1e+100"),
            (9.5, 1, "1e+01"),
        ] {
            assert_eq!(g(value, precision), text);
        }
    }

    #[test]
    fn integers_truncate_as_the_machine_does() {
        assert_eq!(truncate(3.99), 3);
        assert_eq!(truncate(-3.99), -3);
        assert_eq!(truncate(1e300), i64::MIN);
        assert_eq!(truncate(f64::NAN), i64::MIN);
    }
}
