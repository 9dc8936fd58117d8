//! Intsets: sets of integers in ascending order, all equally wide.
//!
//! ```text
//! bytes of an integer: 2, 4 or 8 (u32 LE)   integers (u32 LE)   integers, LE
//! ```
//! SOURCE: redis 7.0 `intset.c`.

use thali_data::Item;

use super::{Elements, signed_le};
use crate::error::PartFault;

const HEADER_BYTES: usize = 8;

/// Reads an intset.
#[derive(Debug)]
pub(crate) struct Intset<'a> {
    bytes: &'a [u8],
    at: usize,
    width: usize,
    last: Option<i64>,
}

impl<'a> Intset<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, PartFault> {
        let fault = |expected| PartFault { part: "intset", at: 0, expected };
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(fault("a header of eight bytes"))?;
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let width = number(0) as usize;
        if !matches!(width, 2 | 4 | 8) {
            return Err(fault("integers of 2, 4 or 8 bytes"));
        }
        if (bytes.len() - HEADER_BYTES) as u64 != u64::from(number(4)) * width as u64 {
            return Err(fault("as many integers as its string has room for"));
        }
        Ok(Self { bytes, at: HEADER_BYTES, width, last: None })
    }
}

impl<'a> Elements<'a> for Intset<'a> {
    fn next_element(&mut self) -> Result<Option<Item<'a>>, PartFault> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let n = signed_le(&self.bytes[self.at..self.at + self.width]);
        if self.last.is_some_and(|last| last >= n) {
            return Err(self.fault("integers in ascending order"));
        }
        self.last = Some(n);
        self.at += self.width;
        Ok(Some(Item::Int(n)))
    }

    fn at(&self) -> usize {
        self.at
    }

    fn part(&self) -> &'static str {
        "intset"
    }
}

/// Appends the intset of these integers, which come in ascending order.
pub(crate) fn push_intset(out: &mut Vec<u8>, integers: impl Iterator<Item = i64> + Clone) {
    let (mut len, mut width) = (0u32, 2usize);
    for n in integers.clone() {
        len += 1;
        width = width.max(match n {
            _ if i16::try_from(n).is_ok() => 2,
            _ if i32::try_from(n).is_ok() => 4,
            _ => 8,
        });
    }
    out.extend_from_slice(&(width as u32).to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    integers.for_each(|n| out.extend_from_slice(&n.to_le_bytes()[..width]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<i64>, PartFault> {
        let mut intset = Intset::new(bytes)?;
        let mut all = Vec::new();
        while let Some(item) = intset.next_element()? {
            all.extend(item.as_int());
        }
        Ok(all)
    }

    #[test]
    fn every_width_reads_back() {
        for integers in
            [vec![], vec![1, 2, 3], vec![-32769, 5], vec![i64::MIN, -1, 0, i64::MAX], vec![1 << 31]]
        {
            let mut out = Vec::new();
            push_intset(&mut out, integers.iter().copied());
            assert_eq!(read(&out).unwrap(), integers);
        }
    }

    #[test]
    fn disorder_and_wrong_lengths_are_refused() {
        for bytes in [
            &b""[..],
            b"\x03\0\0\0\0\0\0\0",
            b"\x02\0\0\0\x02\0\0\0\x01\0",
            b"\x02\0\0\0\x01\0\0\0\x01\0\x02\0",
            b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0",
            b"\x02\0\0\0\x02\0\0\0\x02\0\x01\0",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
