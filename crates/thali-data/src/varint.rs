//! LEB128 numbers: seven bits a byte, low bits first, the top bit set on all bytes but the last.
//!
//! For structures in memory that this crate wrote itself: a malformed number is a bug and panics.

/// Appends a number.
pub(crate) fn push(out: &mut impl Extend<u8>, mut value: u64) {
    let mut bytes = [0u8; 10];
    let mut len = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes[len] = if value == 0 { low } else { low | 0x80 };
        len += 1;
        if value == 0 {
            break;
        }
    }
    out.extend(bytes[..len].iter().copied());
}

/// Bytes that [`push`] appends.
pub(crate) fn len(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()).div_ceil(7).max(1) as usize
}

/// Takes a number off the front.
#[inline]
pub(crate) fn take(rest: &mut &[u8]) -> u64 {
    // Most numbers are lengths below 128.
    if let Some((&byte, tail)) = rest.split_first()
        && byte < 0x80
    {
        *rest = tail;
        return u64::from(byte);
    }
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let (&byte, tail) = rest.split_first().expect("a number ends within its run of bytes");
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
        shift += 7;
    }
}

/// Folds a signed number so that small magnitudes stay short: 0, -1, 1, -2 … become 0, 1, 2, 3 …
pub(crate) fn fold(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`fold`].
pub(crate) fn unfold(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(values in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut bytes = Vec::new();
            values.iter().for_each(|&value| push(&mut bytes, value));
            prop_assert_eq!(bytes.len(), values.iter().map(|&value| len(value)).sum::<usize>());
            let mut rest = bytes.as_slice();
            for value in values {
                prop_assert_eq!(take(&mut rest), value);
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn folding_loses_nothing(value in any::<i64>()) {
            prop_assert_eq!(unfold(fold(value)), value);
        }
    }
}
