//! Values as they stand in JSON and MessagePack, and readers of both that know nothing of Lua.
//!
//! SOURCE: RFC 8259; the MessagePack specification. Strings are bytes, as in Lua.

/// A value; a map's pairs in the order of the text.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    Null,
    Bool(bool),
    Number(f64),
    Text(Vec<u8>),
    Array(Vec<Plain>),
    Map(Vec<(Plain, Plain)>),
}

impl Plain {
    /// Bytes that are the same for values that are the same, in whatever order the pairs of maps come.
    pub fn canonical(&self) -> Vec<u8> {
        let framed = |kind: u8, parts: Vec<Vec<u8>>| {
            let len = parts.iter().map(Vec::len).sum::<usize>() as u64;
            [&[kind][..], &len.to_be_bytes(), &parts.concat()].concat()
        };
        match self {
            Self::Null => vec![0],
            Self::Bool(value) => vec![1, u8::from(*value)],
            Self::Number(value) if value.is_nan() => vec![2],
            Self::Number(value) => [&[3][..], &value.to_be_bytes()].concat(),
            Self::Text(text) => framed(4, vec![text.clone()]),
            Self::Array(items) => framed(5, items.iter().map(Self::canonical).collect()),
            Self::Map(pairs) => {
                let pair = |(name, value): &(Self, Self)| [name.canonical(), value.canonical()].concat();
                let mut pairs: Vec<Vec<u8>> = pairs.iter().map(pair).collect();
                pairs.sort();
                framed(6, pairs)
            }
        }
    }

    /// How deep arrays and maps nest.
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(pairs) => {
                1 + pairs.iter().map(|(name, value)| name.depth().max(value.depth())).max().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// Reads a JSON text; `None` where it is none.
pub fn json(text: &[u8]) -> Option<Plain> {
    let mut reader = Reader { rest: text };
    let value = reader.json()?;
    reader.skip_spaces();
    reader.rest.is_empty().then_some(value)
}

/// Reads MessagePack values up to the end. Of the formats, binary strings and extensions are refused.
pub fn msgpack(bytes: &[u8]) -> Option<Vec<Plain>> {
    let mut reader = Reader { rest: bytes };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.msgpack()?);
    }
    Some(values)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// Takes a word where it is next.
    fn has(&mut self, word: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_spaces(&mut self) {
        while self.rest.first().is_some_and(|byte| b" \t\n\r".contains(byte)) {
            self.rest = &self.rest[1..];
        }
    }

    fn json(&mut self) -> Option<Plain> {
        self.skip_spaces();
        Some(match self.rest.first()? {
            b'n' if self.has(b"null") => Plain::Null,
            b't' if self.has(b"true") => Plain::Bool(true),
            b'f' if self.has(b"false") => Plain::Bool(false),
            b'"' => Plain::Text(self.json_string()?),
            b'[' => Plain::Array(self.json_items(b']', Self::json)?),
            b'{' => Plain::Map(self.json_items(b'}', |reader| {
                reader.skip_spaces();
                let name = reader.json_string()?;
                reader.skip_spaces();
                reader.has(b":").then_some(())?;
                Some((Plain::Text(name), reader.json()?))
            })?),
            b'-' | b'0'..=b'9' => Plain::Number(self.json_number()?),
            _ => return None,
        })
    }

    fn json_items<T>(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        self.byte();
        self.skip_spaces();
        if self.has(&[end]) {
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            self.skip_spaces();
            match self.byte()? {
                b',' => {}
                byte if byte == end => return Some(items),
                _ => return None,
            }
        }
    }

    fn json_number(&mut self) -> Option<f64> {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = self.rest;
        let mut len = usize::from(text[0] == b'-');
        let whole = digits(&text[len..]);
        if whole == 0 || (whole > 1 && text[len] == b'0') {
            return None;
        }
        len += whole;
        if text.get(len) == Some(&b'.') {
            let places = digits(&text[len + 1..]);
            len += 1 + (places > 0).then_some(places)?;
        }
        if matches!(text.get(len), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
            let places = digits(text.get(len + 1 + sign..)?);
            len += 1 + sign + (places > 0).then_some(places)?;
        }
        std::str::from_utf8(self.take(len)?).ok()?.parse().ok()
    }

    fn json_string(&mut self) -> Option<Vec<u8>> {
        self.has(b"\"").then_some(())?;
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                b'"' => return Some(text),
                b'\\' => match self.byte()? {
                    byte @ (b'"' | b'\\' | b'/') => text.push(byte),
                    b'b' => text.push(8),
                    b'f' => text.push(12),
                    b'n' => text.push(b'\n'),
                    b'r' => text.push(b'\r'),
                    b't' => text.push(b'\t'),
                    b'u' => {
                        let mut units = vec![self.json_unit()?];
                        if (0xd800..0xdc00).contains(&units[0]) {
                            self.has(b"\\u").then_some(())?;
                            units.push(self.json_unit()?);
                        }
                        text.extend(String::from_utf16(&units).ok()?.bytes());
                    }
                    _ => return None,
                },
                0..32 => return None,
                byte => text.push(byte),
            }
        }
    }

    fn json_unit(&mut self) -> Option<u16> {
        let digits = self.take(4)?;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn msgpack(&mut self) -> Option<Plain> {
        let code = self.byte()?;
        Some(match code {
            0x00..=0x7f => Plain::Number(code.into()),
            0x80..=0x8f => self.msgpack_map((code & 15).into())?,
            0x90..=0x9f => self.msgpack_array((code & 15).into())?,
            0xa0..=0xbf => Plain::Text(self.take((code & 31).into())?.to_vec()),
            0xc0 => Plain::Null,
            0xc2 | 0xc3 => Plain::Bool(code == 0xc3),
            0xca => Plain::Number(f32::from_be_bytes(self.number()?).into()),
            0xcb => Plain::Number(f64::from_be_bytes(self.number()?)),
            0xcc => Plain::Number(u8::from_be_bytes(self.number()?).into()),
            0xcd => Plain::Number(u16::from_be_bytes(self.number()?).into()),
            0xce => Plain::Number(u32::from_be_bytes(self.number()?).into()),
            // Redis reads 64 unsigned bits as signed ones, and so does Thali.
            0xcf => Plain::Number(i64::from_be_bytes(self.number()?) as f64),
            0xd0 => Plain::Number(i8::from_be_bytes(self.number()?).into()),
            0xd1 => Plain::Number(i16::from_be_bytes(self.number()?).into()),
            0xd2 => Plain::Number(i32::from_be_bytes(self.number()?).into()),
            0xd3 => Plain::Number(i64::from_be_bytes(self.number()?) as f64),
            0xd9..=0xdb => {
                let len = self.msgpack_len(1 << (code - 0xd9))?;
                Plain::Text(self.take(len)?.to_vec())
            }
            0xdc | 0xdd => {
                let len = self.msgpack_len(2 << (code - 0xdc))?;
                self.msgpack_array(len)?
            }
            0xde | 0xdf => {
                let len = self.msgpack_len(2 << (code - 0xde))?;
                self.msgpack_map(len)?
            }
            0xe0..=0xff => Plain::Number((code as i8).into()),
            _ => return None,
        })
    }

    fn msgpack_len(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }

    fn msgpack_array(&mut self, len: usize) -> Option<Plain> {
        (0..len).map(|_| self.msgpack()).collect::<Option<_>>().map(Plain::Array)
    }

    fn msgpack_map(&mut self, len: usize) -> Option<Plain> {
        (0..len).map(|_| Some((self.msgpack()?, self.msgpack()?))).collect::<Option<_>>().map(Plain::Map)
    }
}
