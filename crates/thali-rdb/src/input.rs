//! Bytes coming in: lengths and strings as RDB writes them, over whatever the bytes come from.

use std::borrow::Cow;

use thali_data::Item;

use crate::error::{Error, Fault};
use crate::lzf;
use crate::wire::{STRING_BYTES_MAX, length, text};

/// Where bytes come from: a slice ([`Input`]) or a file ([`crate::feed::Feed`]).
pub(crate) trait Source {
    /// Where the next byte stands.
    fn offset(&self) -> u64;

    /// The next `len` bytes. `expected` names them for the error where there are fewer.
    fn take(&mut self, len: u64, expected: &'static str) -> Result<&[u8], Error>;

    fn byte(&mut self, expected: &'static str) -> Result<u8, Error> {
        Ok(self.take(1, expected)?[0])
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], Error> {
        Ok(self.take(N as u64, expected)?.try_into().expect("took N bytes"))
    }

    fn length(&mut self, expected: &'static str) -> Result<Length, Error> {
        let at = self.offset();
        let first = self.byte(expected)?;
        let low = u64::from(first & 0x3F);
        Ok(match (first >> 6, first) {
            (length::BITS_6, _) => Length::Plain(low),
            (length::BITS_14, _) => Length::Plain(low << 8 | u64::from(self.byte(expected)?)),
            (length::WIDE, length::BITS_32) => {
                Length::Plain(u32::from_be_bytes(self.array(expected)?).into())
            }
            (length::WIDE, length::BITS_64) => Length::Plain(u64::from_be_bytes(self.array(expected)?)),
            (length::WIDE, _) => return Err(Error::damaged(at, expected)),
            _ => Length::Special(first & 0x3F),
        })
    }

    /// A length that counts something, so none of the special forms of strings.
    fn count(&mut self, expected: &'static str) -> Result<u64, Error> {
        let at = self.offset();
        match self.length(expected)? {
            Length::Plain(count) => Ok(count),
            Length::Special(_) => Err(Error::damaged(at, expected)),
        }
    }

    fn skip_string(&mut self, expected: &'static str) -> Result<(), Error> {
        let at = self.offset();
        let len = match self.length(expected)? {
            Length::Plain(len) => len,
            Length::Special(text::INT_8) => 1,
            Length::Special(text::INT_16) => 2,
            Length::Special(text::INT_32) => 4,
            Length::Special(text::LZF) => {
                let len = self.count(expected)?;
                self.count(expected)?;
                len
            }
            Length::Special(_) => return Err(Error::damaged(at, expected)),
        };
        check_string_len(at, len)?;
        self.take(len, expected).map(drop)
    }
}

/// A length, or in its place the name of a special form of string.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    Plain(u64),
    Special(u8),
}

fn check_string_len(at: u64, len: u64) -> Result<(), Error> {
    if len > STRING_BYTES_MAX {
        return Err(Error::damaged(at, "a string of at most 2 GiB"));
    }
    Ok(())
}

/// A slice that is read from front to back.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl Source for Input<'_> {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn take(&mut self, len: u64, expected: &'static str) -> Result<&[u8], Error> {
        self.slice(len, expected)
    }
}

impl<'a> Input<'a> {
    /// `offset` is where `bytes` stand in the file.
    pub fn new(bytes: &'a [u8], offset: u64) -> Self {
        Self { rest: bytes, offset }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn slice(&mut self, len: u64, expected: &'static str) -> Result<&'a [u8], Error> {
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let Some((taken, rest)) = split else {
            return Err(Error { offset: self.offset, fault: Fault::Truncated { expected } });
        };
        self.rest = rest;
        self.offset += len;
        Ok(taken)
    }

    pub fn text(&mut self, expected: &'static str) -> Result<Text<'a>, Error> {
        let at = self.offset;
        let integer = |n: i64| Ok(Text::Int(n));
        match self.length(expected)? {
            Length::Plain(len) => {
                check_string_len(at, len)?;
                Ok(Text::Bytes(Cow::Borrowed(self.slice(len, expected)?)))
            }
            Length::Special(text::INT_8) => integer(i8::from_le_bytes(self.array(expected)?).into()),
            Length::Special(text::INT_16) => integer(i16::from_le_bytes(self.array(expected)?).into()),
            Length::Special(text::INT_32) => integer(i32::from_le_bytes(self.array(expected)?).into()),
            Length::Special(text::LZF) => {
                let packed_len = self.count("the length of a compressed string")?;
                let len = self.count("the length of a string before its compression")?;
                check_string_len(at, packed_len.max(len))?;
                let packed = self.slice(packed_len, expected)?;
                let bytes = lzf::decompress(packed, len).map_err(|fault| fault.at_offset(at))?;
                Ok(Text::Bytes(Cow::Owned(bytes)))
            }
            Length::Special(_) => Err(Error::damaged(at, expected)),
        }
    }

    /// A string that holds an encoded collection.
    pub fn blob(&mut self, expected: &'static str) -> Result<Blob<'a>, Error> {
        let offset = self.offset;
        Ok(Blob { bytes: self.text(expected)?.into_bytes(), offset })
    }
}

/// A string, which may be kept as an integer.
#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    Int(i64),
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Text<'a> {
    pub fn item(&self) -> Item<'_> {
        match self {
            Text::Int(n) => Item::Int(*n),
            Text::Bytes(bytes) => Item::Bytes(bytes),
        }
    }

    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        match self {
            Text::Int(n) => Cow::Owned(Item::Int(n).to_vec()),
            Text::Bytes(bytes) => bytes,
        }
    }
}

/// The bytes of an encoded collection, and where the string that holds them begins.
#[derive(Clone, Debug)]
pub(crate) struct Blob<'a> {
    pub bytes: Cow<'a, [u8]>,
    pub offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_form() {
        let plain = |bytes: &[u8]| match Input::new(bytes, 0).length("a length") {
            Ok(Length::Plain(len)) => Some(len),
            _ => None,
        };
        assert_eq!(plain(&[0x3F]), Some(63));
        assert_eq!(plain(&[0x7F, 0xFF]), Some(16383));
        assert_eq!(plain(&[0x80, 1, 0, 0, 2]), Some((1 << 24) + 2));
        assert_eq!(plain(&[0x81, 1, 0, 0, 0, 0, 0, 0, 2]), Some((1 << 56) + 2));
        assert_eq!(plain(&[0x82, 0, 0, 0, 0]), None);
        assert_eq!(plain(&[0xC0]), None);
        assert_eq!(plain(&[0x80, 1]), None);
    }

    #[test]
    fn strings_of_every_form() {
        let read = |bytes: &[u8]| Input::new(bytes, 0).text("a string").map(|t| t.into_bytes().into_owned());
        assert_eq!(read(b"\x03abc").unwrap(), b"abc");
        assert_eq!(read(b"\xC0\xFF").unwrap(), b"-1");
        assert_eq!(read(b"\xC1\x00\x80").unwrap(), b"-32768");
        assert_eq!(read(b"\xC2\xFF\xFF\xFF\x7F").unwrap(), b"2147483647");
        assert_eq!(read(b"\xC3\x04\x04\0a\x20\x00").unwrap(), b"aaaa");
        let error = |bytes: &[u8]| Input::new(bytes, 100).text("a string").unwrap_err().to_string();
        assert_eq!(error(b"\xC4"), "at byte 100: expected a string");
        assert_eq!(error(b"\x05abc"), "at byte 101: the data ends where a string was expected");
        assert_eq!(error(b"\x81\xFF\0\0\0\0\0\0\0"), "at byte 100: expected a string of at most 2 GiB");
    }
}
