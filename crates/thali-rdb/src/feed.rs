//! A file's bytes, kept from the start of the record in hand to what was read ahead.
//!
//! A record is looked at as one slice, so the largest one decides the memory taken. It grows only by bytes
//! that were really read: a length that lies costs nothing.

use std::io::{ErrorKind, Read};

use crate::Checksum;
use crate::error::{Error, Fault};
use crate::input::Source;

/// Bytes read at a time; more when a record is larger.
const READ_BYTES: usize = 256 << 10;
/// After a record that took more, the memory is given back.
const KEPT_BYTES_MAX: usize = 4 * READ_BYTES;

/// Bytes of a file, read as they are asked for.
pub(crate) struct Feed<R> {
    source: R,
    /// INVARIANT: `summed`, `record_at` <= `at` <= its length.
    buffer: Vec<u8>,
    /// The next byte.
    at: usize,
    /// The first byte that must stay.
    record_at: usize,
    /// The first byte that the checksum has not seen.
    summed: usize,
    /// Where the buffer's first byte stands in the file.
    buffer_offset: u64,
    checksum: Checksum,
}

impl<R: Read> Feed<R> {
    pub fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            at: 0,
            record_at: 0,
            summed: 0,
            buffer_offset: 0,
            checksum: Checksum::new(),
        }
    }

    /// Lets go of what was taken so far.
    pub fn begin_record(&mut self) {
        self.record_at = self.at;
    }

    /// What was taken since the record began.
    pub fn record(&self) -> &[u8] {
        &self.buffer[self.record_at..self.at]
    }

    /// Where the record began.
    pub fn record_offset(&self) -> u64 {
        self.buffer_offset + self.record_at as u64
    }

    /// The checksum over everything taken so far.
    pub fn checksum(&mut self) -> &Checksum {
        self.sum_up();
        &self.checksum
    }

    fn sum_up(&mut self) {
        self.checksum.update(&self.buffer[self.summed..self.at]);
        self.summed = self.at;
    }

    /// What was read ahead and not taken, and the source.
    pub fn into_rest(mut self) -> (Vec<u8>, R) {
        (self.buffer.split_off(self.at), self.source)
    }

    /// Reads until `len` bytes are ahead; false where the file ends before.
    fn fill(&mut self, len: u64) -> Result<bool, Error> {
        self.make_room();
        loop {
            let ahead = self.buffer.len() - self.at;
            let Some(missing) = len.checked_sub(ahead as u64).filter(|missing| *missing > 0) else {
                return Ok(true);
            };
            // At most as much again as is there: memory follows the bytes that came.
            let most = READ_BYTES.max(self.buffer.len() - self.record_at) as u64;
            let wanted = missing.clamp(READ_BYTES as u64, most);
            self.buffer.reserve_exact(wanted as usize);
            let read = self.source.by_ref().take(wanted).read_to_end(&mut self.buffer);
            match read {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let offset = self.buffer_offset + self.buffer.len() as u64;
                    return Err(Error { offset, fault: Fault::Io(error) });
                }
            }
        }
    }

    fn make_room(&mut self) {
        if self.record_at == 0 {
            return;
        }
        self.sum_up();
        self.buffer.drain(..self.record_at);
        self.buffer_offset += self.record_at as u64;
        self.at -= self.record_at;
        self.summed -= self.record_at;
        self.record_at = 0;
        if self.buffer.len() <= KEPT_BYTES_MAX {
            self.buffer.shrink_to(KEPT_BYTES_MAX);
        }
    }
}

impl<R: Read> Source for Feed<R> {
    fn offset(&self) -> u64 {
        self.buffer_offset + self.at as u64
    }

    fn take(&mut self, len: u64, expected: &'static str) -> Result<&[u8], Error> {
        if ((self.buffer.len() - self.at) as u64) < len && !self.fill(len)? {
            return Err(Error { offset: self.offset(), fault: Fault::Truncated { expected } });
        }
        let start = self.at;
        self.at += len as usize;
        Ok(&self.buffer[start..self.at])
    }
}

impl<R> std::fmt::Debug for Feed<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("offset", &(self.buffer_offset + self.at as u64)).finish_non_exhaustive()
    }
}
