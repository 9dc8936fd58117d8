//! Ziplists: the small collections and list nodes of Redis 2.4 to 6.2. Read only.
//!
//! ```text
//! total bytes (u32 LE)   offset of the last element (u32 LE)   elements (u16 LE, 65535 = unknown)
//! elements   0xFF
//! an element: length of the one before, head, payload
//! length before          one byte below 254, or 254 and u32 LE
//! head                   payload
//! 00nnnnnn               n bytes
//! 01nnnnnn nnnnnnnn      n bytes
//! 10……                   u32 BE length, bytes
//! C0 D0 E0 F0 FE         signed integer of 2, 4, 8, 3, 1 bytes, LE
//! F1 to FD               none: integer 0 to 12
//! ```
//! SOURCE: redis 6.2 `ziplist.c`.

use thali_data::Item;

use super::{Elements, signed_le};
use crate::error::PartFault;

const HEADER_BYTES: usize = 10;
const END: u8 = 0xFF;
const COUNT_UNKNOWN: u16 = u16::MAX;
const WIDE_BEFORE: u8 = 254;

/// Reads a ziplist.
#[derive(Debug)]
pub(crate) struct Ziplist<'a> {
    bytes: &'a [u8],
    at: usize,
    last_at: usize,
    seen: usize,
    promised: u16,
    promised_last_at: usize,
}

impl<'a> Ziplist<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, PartFault> {
        let fault = |expected| PartFault { part: "ziplist", at: 0, expected };
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(fault("a header of ten bytes"))?;
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if number(0) as usize != bytes.len() {
            return Err(fault("the length that its string has"));
        }
        if bytes.len() == HEADER_BYTES || bytes.last() != Some(&END) {
            return Err(fault("an end mark at its end"));
        }
        Ok(Self {
            bytes,
            at: HEADER_BYTES,
            last_at: HEADER_BYTES,
            seen: 0,
            promised: u16::from_le_bytes([header[8], header[9]]),
            promised_last_at: number(4) as usize,
        })
    }

    fn get(&self, at: usize, len: usize) -> Result<&'a [u8], PartFault> {
        at.checked_add(len).and_then(|end| self.bytes.get(at..end)).ok_or(self.fault("a whole element"))
    }

    /// The length of the element before, and of the field that says so.
    fn before(&self) -> Result<(usize, usize), PartFault> {
        match self.bytes[self.at] {
            WIDE_BEFORE => {
                let len = self.get(self.at + 1, 4)?;
                Ok((u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize, 5))
            }
            len => Ok((len as usize, 1)),
        }
    }

    /// The element whose head stands at `at`, and where it ends.
    fn decode(&self, at: usize) -> Result<(Item<'a>, usize), PartFault> {
        let string = |head: usize, len: usize| {
            let start = at + head;
            Ok((Item::Bytes(self.get(start, len)?), start + len))
        };
        let integer = |len: usize| Ok((Item::Int(signed_le(self.get(at + 1, len)?)), at + 1 + len));
        match self.get(at, 1)?[0] {
            head @ 0..=0x3F => string(1, head as usize),
            head @ 0x40..=0x7F => string(2, (head as usize & 0x3F) << 8 | self.get(at + 1, 1)?[0] as usize),
            0x80..=0xBF => {
                let len = self.get(at + 1, 4)?;
                string(5, u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize)
            }
            0xC0 => integer(2),
            0xD0 => integer(4),
            0xE0 => integer(8),
            0xF0 => integer(3),
            0xFE => integer(1),
            head @ 0xF1..=0xFD => Ok((Item::Int(i64::from(head & 0x0F) - 1), at + 1)),
            _ => Err(self.fault("an element or the end")),
        }
    }
}

impl<'a> Elements<'a> for Ziplist<'a> {
    fn next_element(&mut self) -> Result<Option<Item<'a>>, PartFault> {
        let Some(&first) = self.bytes.get(self.at) else {
            return Err(self.fault("an element or the end"));
        };
        if first == END {
            if self.at + 1 != self.bytes.len() {
                return Err(self.fault("no end mark before the end"));
            }
            if self.promised != COUNT_UNKNOWN && usize::from(self.promised) != self.seen {
                return Err(self.fault("as many elements as its header says"));
            }
            if self.promised_last_at != self.last_at {
                return Err(self.fault("the last element where its header says"));
            }
            return Ok(None);
        }
        let (before, field_len) = self.before()?;
        if before != if self.seen == 0 { 0 } else { self.at - self.last_at } {
            return Err(self.fault("the length of the element before"));
        }
        let (item, end) = self.decode(self.at + field_len)?;
        self.last_at = self.at;
        self.at = end;
        self.seen += 1;
        Ok(Some(item))
    }

    fn at(&self) -> usize {
        self.at
    }

    fn part(&self) -> &'static str {
        "ziplist"
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ziplist as Redis would write it.
    pub(crate) fn write(items: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        let mut last_at = HEADER_BYTES;
        for (n, bytes) in items.iter().enumerate() {
            let before = if n == 0 { 0 } else { out.len() - last_at };
            last_at = out.len();
            if before < usize::from(WIDE_BEFORE) {
                out.push(before as u8);
            } else {
                out.push(WIDE_BEFORE);
                out.extend_from_slice(&(before as u32).to_le_bytes());
            }
            match (Item::parse(bytes), bytes.len()) {
                (Item::Int(n @ 0..=12), _) => out.push(0xF1 + n as u8),
                (Item::Int(n), _) => {
                    let bits = 65 - (if n < 0 { !n } else { n }).leading_zeros();
                    let (head, width) = match bits {
                        0..=8 => (0xFE, 1),
                        9..=16 => (0xC0, 2),
                        17..=24 => (0xF0, 3),
                        25..=32 => (0xD0, 4),
                        _ => (0xE0, 8),
                    };
                    out.push(head);
                    out.extend_from_slice(&n.to_le_bytes()[..width]);
                }
                (_, len @ 0..=0x3F) => out.push(len as u8),
                (_, len @ 0x40..=0x3FFF) => out.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
                (_, len) => {
                    out.push(0x80);
                    out.extend_from_slice(&(len as u32).to_be_bytes());
                }
            }
            if let Item::Bytes(bytes) = Item::parse(bytes) {
                out.extend_from_slice(bytes);
            }
        }
        out.push(END);
        let total = out.len() as u32;
        out[..4].copy_from_slice(&total.to_le_bytes());
        out[4..8].copy_from_slice(&(last_at as u32).to_le_bytes());
        out[8..10].copy_from_slice(&(items.len().min(65535) as u16).to_le_bytes());
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PartFault> {
        let mut ziplist = Ziplist::new(bytes)?;
        let mut items = Vec::new();
        while let Some(item) = ziplist.next_element()? {
            items.push(item.to_vec());
        }
        Ok(items)
    }

    #[test]
    fn the_documented_example_reads() {
        // SOURCE: redis 6.2 `ziplist.c`, the example of its head comment: "2" and "5".
        let bytes = b"\x0f\0\0\0\x0c\0\0\0\x02\0\0\xf3\x02\xf6\xff";
        assert_eq!(read(bytes).unwrap(), [b"2".to_vec(), b"5".to_vec()]);
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(
            items in prop::collection::vec(
                prop_oneof![
                    4 => prop::collection::vec(any::<u8>(), 0..300),
                    1 => prop::collection::vec(any::<u8>(), 16_000..17_000),
                    4 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
                    4 => any::<i16>().prop_map(|n| n.to_string().into_bytes()),
                    4 => (-20i64..20).prop_map(|n| n.to_string().into_bytes()),
                ],
                0..40,
            ),
            flip in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut bytes = write(&items);
            prop_assert_eq!(read(&bytes).unwrap(), items);
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = read(&bytes);
        }
    }
}
