//! Zipmaps: the small hashes of Redis before 2.6. Read only.
//!
//! ```text
//! fields (1 byte, 254 and 255 = unknown)   fields   0xFF
//! a field: length, name, length, unused bytes (1 byte), value, unused bytes
//! a length: one byte below 254, or 254 and u32 LE
//! ```
//! SOURCE: redis 7.0 `zipmap.c`.

use thali_data::Item;

use super::Elements;
use crate::error::PartFault;

const END: u8 = 0xFF;
const WIDE: u8 = 254;

/// Reads a zipmap: names and values in turn.
#[derive(Debug)]
pub(crate) struct Zipmap<'a> {
    bytes: &'a [u8],
    at: usize,
    seen: usize,
}

impl<'a> Zipmap<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, PartFault> {
        if bytes.len() < 2 || bytes.last() != Some(&END) {
            return Err(PartFault { part: "zipmap", at: 0, expected: "a count and an end mark" });
        }
        Ok(Self { bytes, at: 1, seen: 0 })
    }

    fn get(&self, at: usize, len: usize) -> Result<&'a [u8], PartFault> {
        at.checked_add(len).and_then(|end| self.bytes.get(at..end)).ok_or(self.fault("a whole element"))
    }

    /// A length, and the bytes that it takes.
    fn length(&self) -> Result<(usize, usize), PartFault> {
        match self.get(self.at, 1)?[0] {
            WIDE => {
                let len = self.get(self.at + 1, 4)?;
                Ok((u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize, 5))
            }
            END => Err(self.fault("a value after the name")),
            len => Ok((len as usize, 1)),
        }
    }
}

impl<'a> Elements<'a> for Zipmap<'a> {
    fn next_element(&mut self) -> Result<Option<Item<'a>>, PartFault> {
        let is_value = self.seen % 2 == 1;
        if !is_value && self.get(self.at, 1)?[0] == END {
            if self.at + 1 != self.bytes.len() {
                return Err(self.fault("no end mark before the end"));
            }
            if self.bytes[0] < WIDE && usize::from(self.bytes[0]) != self.seen / 2 {
                return Err(self.fault("as many fields as its first byte says"));
            }
            return Ok(None);
        }
        let (len, len_bytes) = self.length()?;
        let start = self.at + len_bytes + usize::from(is_value);
        let bytes = self.get(start, len)?;
        let mut end = start + len;
        if is_value {
            let unused = self.get(start - 1, 1)?[0] as usize;
            self.get(end, unused)?;
            end += unused;
        }
        self.at = end;
        self.seen += 1;
        Ok(Some(Item::Bytes(bytes)))
    }

    fn at(&self) -> usize {
        self.at
    }

    fn part(&self) -> &'static str {
        "zipmap"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PartFault> {
        let mut zipmap = Zipmap::new(bytes)?;
        let mut items = Vec::new();
        while let Some(item) = zipmap.next_element()? {
            items.push(item.to_vec());
        }
        Ok(items)
    }

    #[test]
    fn names_and_values_come_in_turn() {
        // SOURCE: redis 7.0 `zipmap.c`, the example of its head comment.
        let bytes = b"\x02\x03foo\x03\x00bar\x05hello\x05\x00world\xff";
        let texts = ["foo", "bar", "hello", "world"].map(|s| s.as_bytes().to_vec());
        assert_eq!(read(bytes).unwrap(), texts);
        assert_eq!(read(b"\x01\x01a\x01\x02b??\xff").unwrap(), [b"a".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn damage_at_any_byte_is_no_panic() {
        let bytes = b"\x02\x03foo\x03\x00bar\xfe\x05\0\0\0hello\x05\x00world\xff";
        assert_eq!(read(bytes).unwrap().len(), 4);
        for at in 0..bytes.len() {
            for byte in 0..=255 {
                let mut damaged = bytes.to_vec();
                damaged[at] = byte;
                let _ = read(&damaged);
            }
            assert!(read(&bytes[..at]).is_err());
        }
    }
}
