//! MessagePack into a `Vec`, which takes every byte: BullMQ's scripts get their arguments in it.

use rmp::encode;

const FULL: &str = "a Vec takes every byte";

pub(crate) fn array_len(buf: &mut Vec<u8>, len: u32) {
    encode::write_array_len(buf, len).expect(FULL);
}

pub(crate) fn nil(buf: &mut Vec<u8>) {
    encode::write_nil(buf).expect(FULL);
}

pub(crate) fn flag(buf: &mut Vec<u8>, value: bool) {
    encode::write_bool(buf, value).expect(FULL);
}

pub(crate) fn uint(buf: &mut Vec<u8>, value: u64) {
    encode::write_uint(buf, value).expect(FULL);
}

pub(crate) fn float(buf: &mut Vec<u8>, value: f64) {
    encode::write_f64(buf, value).expect(FULL);
}

pub(crate) fn text(buf: &mut Vec<u8>, value: &str) {
    encode::write_str(buf, value).expect(FULL);
}

/// Writes a map whose length is known only at the end: it has a fixed width (`map 16`) and is filled in
/// by [`MapWriter::finish`].
pub(crate) struct MapWriter<'a> {
    buf: &'a mut Vec<u8>,
    start: usize,
    len: u16,
}

impl<'a> MapWriter<'a> {
    pub(crate) fn new(buf: &'a mut Vec<u8>) -> Self {
        let start = buf.len();
        // Of 16 entries and more rmp makes a `map 16`: one byte of marker, two of length.
        encode::write_map_len(buf, u32::from(u16::MAX)).expect(FULL);
        Self { buf, start, len: 0 }
    }

    pub(crate) fn put(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        text(self.buf, name);
        value(self.buf);
        self.len += 1;
    }

    pub(crate) fn map(&mut self, name: &str, entries: impl FnOnce(&mut MapWriter<'_>)) {
        self.put(name, |buf| {
            let mut map = MapWriter::new(buf);
            entries(&mut map);
            map.finish();
        });
    }

    pub(crate) fn uint(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.put(name, |buf| uint(buf, value));
        }
    }

    pub(crate) fn flag(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.put(name, |buf| flag(buf, value));
        }
    }

    pub(crate) fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(name, |buf| text(buf, value));
        }
    }

    pub(crate) fn finish(self) {
        self.buf[self.start + 1..self.start + 3].copy_from_slice(&self.len.to_be_bytes());
    }
}
