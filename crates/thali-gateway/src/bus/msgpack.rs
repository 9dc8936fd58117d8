//! JSON with placeholders ⇄ msgpack with binary values.
//!
//! SOURCE: github.com/darrachequesne/notepack, which Node's adapter uses: `undefined` is extension 0,
//! dates are extension -1 (timestamps), strings, numbers and maps are msgpack's own.

use std::borrow::Cow;

use bytes::Bytes;
use rmpv::ValueRef;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::packet::{ATTACHMENTS_MAX, PacketError, json_string};

/// Nesting that is followed; JSON.parse and serde_json stop near it too.
pub(super) const DEPTH_MAX: usize = 128;

/// Writes msgpack, shortest forms.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) out: Vec<u8>,
}

impl Writer {
    pub(super) fn array(&mut self, len: usize) {
        self.sized(len, Some((0x90, 15)), None, 0xdc, 0xdd);
    }

    pub(super) fn map(&mut self, len: usize) {
        self.sized(len, Some((0x80, 15)), None, 0xde, 0xdf);
    }

    pub(super) fn string(&mut self, text: &str) {
        self.sized(text.len(), Some((0xa0, 31)), Some(0xd9), 0xda, 0xdb);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn strings(&mut self, items: &[impl AsRef<str>]) {
        self.array(items.len());
        for item in items {
            self.string(item.as_ref());
        }
    }

    fn binary(&mut self, data: &[u8]) {
        self.sized(data.len(), None, Some(0xc4), 0xc5, 0xc6);
        self.out.extend_from_slice(data);
    }

    pub(super) fn unsigned(&mut self, number: u64) {
        if number < 0x80 {
            self.out.push(number as u8);
        } else if let Ok(small) = u8::try_from(number) {
            self.out.extend_from_slice(&[0xcc, small]);
        } else if let Ok(small) = u16::try_from(number) {
            self.out.push(0xcd);
            self.out.extend_from_slice(&small.to_be_bytes());
        } else if let Ok(small) = u32::try_from(number) {
            self.out.push(0xce);
            self.out.extend_from_slice(&small.to_be_bytes());
        } else {
            self.out.push(0xcf);
            self.out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn signed(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            self.unsigned(number);
        } else {
            self.out.push(0xd3);
            self.out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Lengths: in the type byte, then in 1, 2 or 4 bytes, whichever forms the type has.
    fn sized(&mut self, len: usize, tiny: Option<(u8, usize)>, one: Option<u8>, two: u8, four: u8) {
        match (tiny, one, u8::try_from(len), u16::try_from(len)) {
            (Some((mark, max)), ..) if len <= max => self.out.push(mark | len as u8),
            (_, Some(mark), Ok(len), _) => self.out.extend_from_slice(&[mark, len]),
            (.., Ok(len)) => {
                self.out.push(two);
                self.out.extend_from_slice(&len.to_be_bytes());
            }
            _ => {
                self.out.push(four);
                self.out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
    }

    /// Writes JSON text, its keys in their order; placeholders become the attachments they stand for.
    pub(super) fn json(&mut self, text: &str, attachments: &[Bytes]) -> Result<(), PacketError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Transcode { writer: self, attachments };
        value.deserialize(&mut reader).and_then(|_| reader.end()).map_err(|_| PacketError::Payload)
    }

    /// Leaves room for a container's head, whose length is known at its end.
    fn open(&mut self) -> usize {
        self.out.extend_from_slice(&[0; 5]);
        self.out.len() - 5
    }

    fn close(&mut self, start: usize, mark: u8, len: u32) {
        self.out[start] = mark;
        self.out[start + 1..start + 5].copy_from_slice(&len.to_be_bytes());
    }
}

/// Writes one JSON value as it is read.
struct Transcode<'a> {
    writer: &'a mut Writer,
    attachments: &'a [Bytes],
}

/// What a placeholder is recognised by.
#[derive(PartialEq)]
enum Seen {
    True,
    Number(u64),
    Other,
}

impl Transcode<'_> {
    fn again(&mut self) -> Transcode<'_> {
        Transcode { writer: self.writer, attachments: self.attachments }
    }
}

impl<'de> DeserializeSeed<'de> for Transcode<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Seen, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Transcode<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        self.writer.out.push(0xc0);
        Ok(Seen::Other)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Seen, E> {
        self.writer.out.push(if flag { 0xc3 } else { 0xc2 });
        Ok(if flag { Seen::True } else { Seen::Other })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Seen, E> {
        self.writer.unsigned(number);
        Ok(Seen::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Seen, E> {
        self.writer.signed(number);
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Seen, E> {
        self.writer.out.push(0xcb);
        self.writer.out.extend_from_slice(&number.to_be_bytes());
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        self.writer.string(text);
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Seen, A::Error> {
        let start = self.writer.open();
        let mut len = 0;
        while items.next_element_seed(self.again())?.is_some() {
            len += 1;
        }
        self.writer.close(start, 0xdd, len);
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Seen, A::Error> {
        let start = self.writer.open();
        let (mut len, mut marked, mut number) = (0, false, None);
        while let Some(key) = entries.next_key::<Cow<'de, str>>()? {
            self.writer.string(&key);
            let seen = entries.next_value_seed(self.again())?;
            len += 1;
            match (&*key, seen) {
                ("_placeholder", Seen::True) => marked = true,
                ("num", Seen::Number(found)) => number = usize::try_from(found).ok(),
                _ => {}
            }
        }
        if marked && !self.attachments.is_empty() {
            let data = number.and_then(|number| self.attachments.get(number));
            let data = data.ok_or_else(|| A::Error::custom("a placeholder stands for nothing"))?;
            self.writer.out.truncate(start);
            self.writer.binary(data);
        } else {
            self.writer.close(start, 0xdf, len);
        }
        Ok(Seen::Other)
    }
}

/// Appends a msgpack value as JSON; binary values become placeholders.
pub(super) fn to_json(
    value: &ValueRef<'_>,
    out: &mut String,
    attachments: &mut Vec<Bytes>,
) -> Result<(), PacketError> {
    match value {
        ValueRef::Nil => out.push_str("null"),
        ValueRef::Boolean(flag) => out.push_str(if *flag { "true" } else { "false" }),
        ValueRef::Integer(number) => out.push_str(&number.to_string()),
        ValueRef::F32(number) => float(f64::from(*number), out),
        ValueRef::F64(number) => float(*number, out),
        ValueRef::String(text) => json_string(out, &String::from_utf8_lossy(text.as_bytes())),
        ValueRef::Binary(data) => {
            if attachments.len() >= ATTACHMENTS_MAX {
                return Err(PacketError::Attachments);
            }
            out.push_str(&format!("{{\"_placeholder\":true,\"num\":{}}}", attachments.len()));
            attachments.push(Bytes::copy_from_slice(data));
        }
        ValueRef::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                to_json(item, out, attachments)?;
            }
            out.push(']');
        }
        ValueRef::Map(entries) => {
            let forged = |(key, _): &(ValueRef<'_>, ValueRef<'_>)| text_of(key) == Some("_placeholder");
            if entries.iter().any(forged) {
                // Beside real attachments it would be taken for one of them.
                return Err(PacketError::Attachments);
            }
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                match key {
                    ValueRef::String(text) => json_string(out, &String::from_utf8_lossy(text.as_bytes())),
                    other => json_string(out, &other.to_string()),
                }
                out.push(':');
                to_json(item, out, attachments)?;
            }
            out.push('}');
        }
        ValueRef::Ext(-1, data) => match timestamp(data) {
            Some((seconds, nanos)) => iso_date(seconds, nanos, out),
            None => out.push_str("null"),
        },
        ValueRef::Ext(..) => out.push_str("null"),
    }
    Ok(())
}

/// A string's text; none for other values and for what is not UTF-8.
pub(super) fn text_of<'a>(value: &'a ValueRef<'_>) -> Option<&'a str> {
    match value {
        ValueRef::String(text) => text.as_str(),
        _ => None,
    }
}

fn float(number: f64, out: &mut String) {
    match serde_json::Number::from_f64(number) {
        Some(number) => out.push_str(&number.to_string()),
        None => out.push_str("null"),
    }
}

/// SOURCE: github.com/msgpack/msgpack, spec.md, "Timestamp extension type".
fn timestamp(data: &[u8]) -> Option<(i64, u32)> {
    match data.len() {
        4 => Some((i64::from(u32::from_be_bytes(data.try_into().ok()?)), 0)),
        8 => {
            let both = u64::from_be_bytes(data.try_into().ok()?);
            Some(((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32))
        }
        12 => {
            let nanos = u32::from_be_bytes(data[..4].try_into().ok()?);
            Some((i64::from_be_bytes(data[4..].try_into().ok()?), nanos))
        }
        _ => None,
    }
}

/// What `JSON.stringify(new Date(…))` writes. Days to civil date after Howard Hinnant's algorithm.
fn iso_date(seconds: i64, nanos: u32, out: &mut String) {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // JavaScript knows ±100,000,000 days around 1970.
    if days.abs() > 100_000_000 {
        out.push_str("null");
        return;
    }
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let millis = nanos / 1_000_000;
    out.push_str(&format!(
        "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z\""
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn read(data: &[u8]) -> (String, Vec<Bytes>) {
        let value = rmpv::decode::read_value_ref(&mut &data[..]).unwrap();
        let (mut json, mut attachments) = (String::new(), Vec::new());
        to_json(&value, &mut json, &mut attachments).unwrap();
        (json, attachments)
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,40}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_survives_the_bus(value in json_value()) {
            let mut writer = Writer::default();
            writer.json(&value.to_string(), &[]).unwrap();
            let (json, attachments) = read(&writer.out);
            prop_assert!(attachments.is_empty());
            prop_assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
        }
    }

    #[test]
    fn attachments_survive_the_bus() {
        let mut writer = Writer::default();
        let text = r#"{"x":{"_placeholder":true,"num":0},"a":[]}"#;
        writer.json(text, &[Bytes::from_static(b"data")]).unwrap();
        let (json, attachments) = read(&writer.out);
        assert_eq!(json, text, "and keys keep their order");
        assert_eq!(attachments, [Bytes::from_static(b"data")]);
        let dangling = r#"{"_placeholder":true,"num":1}"#;
        assert!(Writer::default().json(dangling, &attachments).is_err());
        assert!(Writer::default().json("[1", &[]).is_err());
    }

    #[test]
    fn dates_read_as_javascript_writes_them() {
        let mut out = String::new();
        iso_date(1_700_000_000, 123_000_000, &mut out);
        assert_eq!(out, "\"2023-11-14T22:13:20.123Z\"");
        assert_eq!(read(&[0xd4, 0x00, 0x00]).0, "null", "undefined");
        assert_eq!(read(&[0xd6, 0xff, 0, 0, 0, 0]).0, "\"1970-01-01T00:00:00.000Z\"");
    }
}
