//! Listpacks: the small collections of Redis 7, and the nodes of lists and streams.
//!
//! ```text
//! total bytes (u32 LE)   elements (u16 LE, 65535 = unknown)   elements   0xFF
//! an element: head, payload, back
//! head                   payload                        element
//! 0nnnnnnn               none                           integer 0 to 127
//! 10nnnnnn               n bytes                        string of up to 63 bytes
//! 110nnnnn nnnnnnnn      none                           signed integer of 13 bits
//! 1110nnnn nnnnnnnn      n bytes                        string of up to 4095 bytes
//! F0 F1 F2 F3 F4         u32 length and bytes, or signed integer of 2, 3, 4, 8 bytes, all LE
//! back: the length of head and payload, seven bits a byte, high bits first, all but the first byte with
//!       their top bit set
//! ```
//! SOURCE: redis 7.0 `listpack.c`.

use thali_data::Item;

use super::{Elements, signed_le};
use crate::error::PartFault;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xFF;
const COUNT_UNKNOWN: u16 = u16::MAX;
const BACK_BYTES_MAX: usize = 5;

/// Reads a listpack.
#[derive(Debug)]
pub(crate) struct Listpack<'a> {
    bytes: &'a [u8],
    at: usize,
    seen: usize,
    promised: u16,
}

impl<'a> Listpack<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, PartFault> {
        let fault = |expected| PartFault { part: "listpack", at: 0, expected };
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(fault("a header of six bytes"))?;
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if total as usize != bytes.len() {
            return Err(fault("the length that its string has"));
        }
        if bytes.len() == HEADER_BYTES || bytes.last() != Some(&END) {
            return Err(fault("an end mark at its end"));
        }
        let promised = u16::from_le_bytes([header[4], header[5]]);
        Ok(Self { bytes, at: HEADER_BYTES, seen: 0, promised })
    }

    /// The next element and the length of its head and payload.
    fn decode(&self) -> Result<(Item<'a>, usize), PartFault> {
        let rest = &self.bytes[self.at..];
        let get = |range: std::ops::Range<usize>| rest.get(range).ok_or(self.fault("a whole element"));
        let string = |head: usize, len: usize| Ok((Item::Bytes(get(head..head + len)?), head + len));
        let integer = |len: usize| Ok((Item::Int(signed_le(get(1..1 + len)?)), 1 + len));
        match rest[0] {
            head @ 0..=0x7F => Ok((Item::Int(head.into()), 1)),
            head @ 0x80..=0xBF => string(1, (head & 0x3F) as usize),
            head @ 0xC0..=0xDF => {
                let bits = i64::from(head & 0x1F) << 8 | i64::from(get(1..2)?[0]);
                Ok((Item::Int(bits << 51 >> 51), 2))
            }
            head @ 0xE0..=0xEF => string(2, (head as usize & 0x0F) << 8 | get(1..2)?[0] as usize),
            0xF0 => {
                let len = get(1..5)?;
                string(5, u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize)
            }
            0xF1 => integer(2),
            0xF2 => integer(3),
            0xF3 => integer(4),
            0xF4 => integer(8),
            _ => Err(self.fault("an element or the end")),
        }
    }
}

impl<'a> Elements<'a> for Listpack<'a> {
    fn next_element(&mut self) -> Result<Option<Item<'a>>, PartFault> {
        let Some(&head) = self.bytes.get(self.at) else {
            return Err(self.fault("an element or the end"));
        };
        if head == END {
            if self.at + 1 != self.bytes.len() {
                return Err(self.fault("no end mark before the end"));
            }
            if self.promised != COUNT_UNKNOWN && usize::from(self.promised) != self.seen {
                return Err(self.fault("as many elements as its header says"));
            }
            return Ok(None);
        }
        let (item, len) = self.decode()?;
        let (back, back_len) = back_of(len);
        let end = self.at + len + back_len;
        if self.bytes.get(self.at + len..end) != Some(&back[..back_len]) {
            return Err(self.fault("an element followed by its length"));
        }
        self.at = end;
        self.seen += 1;
        Ok(Some(item))
    }

    fn at(&self) -> usize {
        self.at
    }

    fn part(&self) -> &'static str {
        "listpack"
    }
}

/// The length of an element as it stands behind it. The bounds are Redis's, off by one as they are.
fn back_of(len: usize) -> ([u8; BACK_BYTES_MAX], usize) {
    let digits = match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    };
    let mut back = [0; BACK_BYTES_MAX];
    for (n, byte) in back[..digits].iter_mut().enumerate() {
        let bits = (len >> (7 * (digits - 1 - n))) as u8 & 0x7F;
        *byte = if n == 0 { bits } else { bits | 0x80 };
    }
    (back, digits)
}

/// Writes a listpack at the end of a vector.
#[derive(Debug)]
pub(crate) struct ListpackWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: usize,
}

impl<'a> ListpackWriter<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        Self { out, start, count: 0 }
    }

    pub fn push(&mut self, item: Item<'_>) {
        let start = self.out.len();
        match (item.as_int(), item) {
            (Some(n), _) => self.push_head_of_integer(n),
            (None, Item::Bytes(bytes)) => {
                match bytes.len() {
                    len @ 0..=0x3F => self.out.push(0x80 | len as u8),
                    len @ 0x40..=0xFFF => self.out.extend_from_slice(&[0xE0 | (len >> 8) as u8, len as u8]),
                    len => {
                        self.out.push(0xF0);
                        self.out.extend_from_slice(&(len as u32).to_le_bytes());
                    }
                }
                self.out.extend_from_slice(bytes);
            }
            (None, Item::Int(_)) => unreachable!("an integer is one"),
        }
        let (back, back_len) = back_of(self.out.len() - start);
        self.out.extend_from_slice(&back[..back_len]);
        self.count += 1;
    }

    fn push_head_of_integer(&mut self, n: i64) {
        let width = match n {
            0..=127 => return self.out.push(n as u8),
            -4096..=4095 => {
                return self.out.extend_from_slice(&[0xC0 | (n >> 8) as u8 & 0x1F, n as u8]);
            }
            _ if i16::try_from(n).is_ok() => 2,
            -0x80_0000..=0x7F_FFFF => 3,
            _ if i32::try_from(n).is_ok() => 4,
            _ => 8,
        };
        self.out.push(match width {
            8 => 0xF4,
            width => 0xEF + width as u8,
        });
        self.out.extend_from_slice(&n.to_le_bytes()[..width]);
    }

    pub fn finish(self) {
        self.out.push(END);
        let total = (self.out.len() - self.start) as u32;
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.out[self.start..self.start + 4].copy_from_slice(&total.to_le_bytes());
        self.out[self.start + 4..self.start + HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(items: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = ListpackWriter::new(&mut out);
        items.iter().for_each(|item| writer.push(Item::Bytes(item)));
        writer.finish();
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PartFault> {
        let mut listpack = Listpack::new(bytes)?;
        let mut items = Vec::new();
        while let Some(item) = listpack.next_element()? {
            items.push(item.to_vec());
        }
        Ok(items)
    }

    #[test]
    fn bytes_are_those_of_redis() {
        // SOURCE: redis 7.0.15, DUMP of the hash {a: 1, b: 300}, without frame.
        let items: Vec<Vec<u8>> = ["a", "1", "b", "300"].iter().map(|s| s.as_bytes().to_vec()).collect();
        let bytes = b"\x12\0\0\0\x04\0\x81a\x02\x01\x01\x81b\x02\xC1\x2C\x02\xFF";
        assert_eq!(write(&items), bytes);
        assert_eq!(read(bytes).unwrap(), items);
    }

    #[test]
    fn lengths_at_every_bound_read_back() {
        let mut items: Vec<Vec<u8>> = Vec::new();
        for len in [0, 63, 64, 125, 126, 4095, 4096, 16_376, 16_377, 16_378, 16_379, 65_536, 2_097_150] {
            items.push(vec![b'x'; len]);
        }
        for n in [0i64, 127, 128, -1, 4095, 4096, -4096, -4097, 32767, 32768, -32768, -32769, 8388607]
            .into_iter()
            .chain([8388608, -8388608, -8388609, i64::from(i32::MAX), 1 << 31, i64::MIN, i64::MAX])
        {
            items.push(n.to_string().into_bytes());
        }
        assert_eq!(read(&write(&items)).unwrap(), items);
    }

    #[test]
    fn more_than_65534_elements_are_not_counted() {
        let items = vec![b"7".to_vec(); 70_000];
        let bytes = write(&items);
        assert_eq!(bytes[4..6], [0xFF, 0xFF]);
        assert_eq!(read(&bytes).unwrap().len(), 70_000);
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(
            items in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..300),
                    any::<i64>().prop_map(|n| n.to_string().into_bytes()),
                    any::<i16>().prop_map(|n| n.to_string().into_bytes()),
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
            // Whatever it says now, it says without a panic.
            let _ = read(&bytes);
        }
    }
}
