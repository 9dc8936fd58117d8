//! One file of the journal as a stream of groups: single requests, or all of a MULTI … EXEC.
//!
//! Owns the grammar and the verdict on a bad end; decides nothing about it. A batch is read as a whole, and
//! no group of it is handed over before its checksum was found right. Memory: one batch or one group at a
//! time, and no length found in the file is believed beyond the length of the file.

use std::io::{self, Read};
use std::ops::Range;

use smallvec::SmallVec;

use crate::batch::{self, HEADER_LEN, Header};

/// One request with the database that it runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect<'a> {
    pub db: u32,
    /// The command's name and its arguments; never empty.
    pub args: &'a [&'a [u8]],
}

/// Bytes asked of the file at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// SOURCE: redis 7.0 `aof.c`, `AOF_ANNOTATION_LINE_MAX_LEN`; ours may be longer.
const LINE_BYTES_MAX: usize = 1024;

/// What stands at the reader's place.
#[derive(Debug)]
pub(crate) enum Next {
    /// A group is ready for [`GroupReader::with_effects`].
    Group,
    /// The file ended where a group may end.
    End,
    /// From [`GroupReader::offset`] on, the file holds the beginning of a group and perhaps zeros, or batches
    /// that no sync is known to have covered and of which the first is not whole.
    Torn,
    /// Bytes that are no record, at this offset, and not the end.
    Damaged(u64, String),
}

enum Stop {
    Eof,
    Bad(usize, String),
    /// At the place where a batch should begin stands none, or one whose bytes are not those that were summed
    /// up.
    Batch(BatchFault),
    Io(io::Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BatchFault {
    /// The file ends before the batch does.
    Short,
    /// The line before it is not what was written.
    Header,
    /// Its bytes are not what was written; so many follow the line.
    Payload(u64),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

fn bad<T>(at: usize, why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Bad(at, why.into()))
}

fn is_command_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

#[derive(Debug)]
struct Request {
    db: u32,
    /// A range of `GroupReader::args`.
    args: Range<usize>,
}

pub(crate) struct GroupReader {
    source: Box<dyn Read + Send>,
    file_len: u64,
    /// The end of the batch being read, in the file; what lies before was found right.
    batch_end: Option<u64>,
    /// Where the batch before ended.
    last_batch_end: Option<u64>,
    /// Behind the last byte read that is not zero.
    data_end: u64,
    /// The last batch was empty.
    is_batch_empty: bool,
    batches: u64,
    checked_bytes: u64,
    /// What the batches say was synced.
    synced_len: u64,
    buf: Vec<u8>,
    /// Offset in the file of `buf[0]`.
    buf_offset: u64,
    /// Where the group began, in `buf`.
    start: usize,
    /// Where the record being read began, in `buf`.
    record: usize,
    /// The next byte to look at, in `buf`.
    at: usize,
    db: u32,
    args: Vec<Range<usize>>,
    requests: Vec<Request>,
    atomic: bool,
}

impl GroupReader {
    /// Reads a file of `file_len` bytes from `offset` on, where `source` stands.
    pub fn new(source: Box<dyn Read + Send>, offset: u64, file_len: u64) -> Self {
        GroupReader {
            source,
            file_len,
            batch_end: None,
            last_batch_end: None,
            data_end: offset,
            is_batch_empty: false,
            batches: 0,
            checked_bytes: 0,
            synced_len: 0,
            buf: Vec::new(),
            buf_offset: offset,
            start: 0,
            record: 0,
            at: 0,
            db: 0,
            args: Vec::new(),
            requests: Vec::new(),
            atomic: false,
        }
    }

    /// Where the group began; after `End` the end of the file, after `Torn` the place to cut.
    pub fn offset(&self) -> u64 {
        self.buf_offset + self.start as u64
    }

    /// Bytes read so far that a checksum vouches for, with its line.
    pub fn checked_bytes(&self) -> u64 {
        self.checked_bytes
    }

    /// Batches read so far.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Up to here at least the file was synced, as its batches say.
    pub fn synced_len(&self) -> u64 {
        self.synced_len
    }

    /// What was read so far ends with an empty batch.
    pub fn has_end_mark(&self) -> bool {
        self.is_batch_empty && self.last_batch_end == Some(self.offset())
    }

    pub fn next_group(&mut self) -> io::Result<Next> {
        self.begin_group();
        let stop = match self.group() {
            Ok(true) => return Ok(Next::Group),
            Ok(false) => return Ok(Next::End),
            Err(stop) => stop,
        };
        let began = self.offset();
        let damaged = |at: u64, why: String| {
            Ok(Next::Damaged(
                at,
                if at == began { why } else { format!("{why} (the record begins at {began})") },
            ))
        };
        match stop {
            Stop::Io(error) => Err(error),
            Stop::Eof | Stop::Bad(..) if self.batch_end.is_some() => {
                let at = if let Stop::Bad(at, _) = stop { at } else { self.record };
                damaged(
                    self.buf_offset + at as u64,
                    "a batch with the right checksum holds no whole groups".into(),
                )
            }
            Stop::Eof => self.torn(),
            Stop::Batch(fault) => self.judge_batch(fault),
            Stop::Bad(at, why) => {
                let offset = self.buf_offset + at as u64;
                if self.last_batch_end == Some(offset) && self.buf[at] == 0 {
                    self.judge_batch(BatchFault::Header)
                } else if self.only_zeros_from(at)? {
                    self.torn()
                } else {
                    damaged(offset, why)
                }
            }
        }
    }

    /// Hands over the requests of the group that `next_group` announced.
    pub fn with_effects<R>(&self, run: impl FnOnce(&[Effect<'_>]) -> R) -> R {
        let args: SmallVec<[&[u8]; 16]> = self.args.iter().map(|range| &self.buf[range.clone()]).collect();
        let effects: SmallVec<[Effect<'_>; 2]> =
            self.requests.iter().map(|r| Effect { db: r.db, args: &args[r.args.clone()] }).collect();
        run(&effects)
    }

    fn begin_group(&mut self) {
        if self.at == self.buf.len() || self.at >= CHUNK_BYTES {
            self.buf.drain(..self.at);
            self.buf_offset += self.at as u64;
            self.at = 0;
            // One huge record should not be paid for until the end.
            self.buf.shrink_to(self.buf.len() + 4 * CHUNK_BYTES);
        }
        self.start = self.at;
        self.clear_group();
    }

    fn clear_group(&mut self) {
        self.args.clear();
        self.requests.clear();
        self.atomic = false;
    }

    /// Reads to the end of a group; `false` at the end of the file.
    fn group(&mut self) -> Result<bool, Stop> {
        loop {
            self.record = self.at;
            self.leave_batch()?;
            if self.at == self.buf.len() && !self.fill()? {
                return if self.atomic { Err(Stop::Eof) } else { Ok(false) };
            }
            if self.buf[self.at] == b'#' {
                if self.batch_end.is_some() || self.atomic || !self.enter_batch()? {
                    self.line()?;
                    self.settle();
                }
                continue;
            }
            let args = self.request()?;
            let name = &self.buf[self.args[args.start].clone()];
            let count = args.len();
            if name.eq_ignore_ascii_case(b"SELECT") {
                self.select(&args)?;
                self.args.truncate(args.start);
                self.settle();
            } else if name.eq_ignore_ascii_case(b"MULTI") {
                if self.atomic || count != 1 {
                    return bad(self.record, "a MULTI inside a MULTI");
                }
                self.args.truncate(args.start);
                self.atomic = true;
            } else if name.eq_ignore_ascii_case(b"EXEC") {
                if !self.atomic || count != 1 {
                    return bad(self.record, "an EXEC without a MULTI");
                }
                self.args.truncate(args.start);
                if !self.requests.is_empty() {
                    return Ok(true);
                }
                self.atomic = false;
                self.settle();
            } else {
                self.requests.push(Request { db: self.db, args });
                if !self.atomic {
                    return Ok(true);
                }
            }
        }
    }

    /// Reads a batch whole where one begins and finds it right; `false`: an annotation of another kind.
    fn enter_batch(&mut self) -> Result<bool, Stop> {
        let offset = self.buf_offset + self.at as u64;
        while self.buf.len() < self.at + HEADER_LEN && self.fill()? {}
        let line = &self.buf[self.at..self.buf.len().min(self.at + HEADER_LEN)];
        let known_len = line.len().min(batch::PREFIX.len());
        let Some(header) = Header::parse(line, offset) else {
            // A damaged prefix must not make an ordinary comment of the line; one half of which was lost, neither.
            let is_ours =
                line[..known_len] == batch::PREFIX[..known_len] || is_header_but_for_its_prefix(line, offset);
            let lost_len = line.iter().position(|byte| *byte == 0).unwrap_or(known_len).min(known_len);
            let is_lost = lost_len < known_len && line[..lost_len] == batch::PREFIX[..lost_len];
            return match is_ours || is_lost {
                true if line.len() < HEADER_LEN => Err(Stop::Batch(BatchFault::Short)),
                true => Err(Stop::Batch(BatchFault::Header)),
                false => Ok(false),
            };
        };
        let payload_at = self.at + HEADER_LEN;
        if header.payload_len > self.file_len.saturating_sub(offset + HEADER_LEN as u64) {
            return Err(Stop::Batch(BatchFault::Short));
        }
        let end = payload_at + header.payload_len as usize;
        while self.buf.len() < end {
            if !self.fill()? {
                return Err(Stop::Batch(BatchFault::Short));
            }
        }
        if batch::checksum(&self.buf[payload_at..end]) != header.payload_crc {
            return Err(Stop::Batch(BatchFault::Payload(header.payload_len)));
        }
        self.batch_end = Some(self.buf_offset + end as u64);
        self.is_batch_empty = header.payload_len == 0;
        self.synced_len = self.synced_len.max(header.synced_len);
        self.batches += 1;
        self.checked_bytes += HEADER_LEN as u64 + header.payload_len;
        self.at = payload_at;
        self.settle();
        Ok(true)
    }

    /// Notes that the batch has come to its end, where a group must end.
    fn leave_batch(&mut self) -> Result<(), Stop> {
        let at = self.buf_offset + self.at as u64;
        match self.batch_end {
            Some(end) if at > end || (at == end && self.atomic) => {
                bad(self.record, "a group beyond its batch")
            }
            Some(end) if at == end => {
                self.last_batch_end = self.batch_end.take();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Outside of a MULTI, what was read so far is whole: a tear behind it does not concern it.
    fn settle(&mut self) {
        if !self.atomic {
            self.start = self.at;
        }
    }

    fn select(&mut self, args: &Range<usize>) -> Result<(), Stop> {
        let db = (args.len() == 2).then(|| &self.buf[self.args[args.start + 1].clone()]);
        match db.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()) {
            Some(db) => self.db = db,
            None => return bad(self.record, "a SELECT without a database number"),
        }
        Ok(())
    }

    /// One request; its arguments are appended to `self.args`.
    fn request(&mut self) -> Result<Range<usize>, Stop> {
        let first = self.args.len();
        let count = self.header(b'*')?;
        if count == 0 {
            return bad(self.record, "a request without a name");
        }
        for _ in 0..count {
            let len = self.header(b'$')?;
            let end = self.batch_end.unwrap_or(self.file_len);
            let rest = end.saturating_sub(self.buf_offset + self.at as u64);
            if len.saturating_add(2) > rest {
                return Err(Stop::Eof);
            }
            let bytes = self.at..self.at + len as usize;
            while self.buf.len() < bytes.end + 2 {
                if !self.fill()? {
                    return Err(Stop::Eof);
                }
            }
            if &self.buf[bytes.end..bytes.end + 2] != b"\r\n" {
                let off = usize::from(self.buf[bytes.end] == b'\r');
                return bad(bytes.end + off, "an argument is not as long as its length says");
            }
            self.at = bytes.end + 2;
            self.args.push(bytes);
        }
        Ok(first..self.args.len())
    }

    /// `*123\r\n`
    fn header(&mut self, mark: u8) -> Result<u64, Stop> {
        let line = self.line()?;
        if line.is_empty() || self.buf[line.start] != mark {
            return bad(line.start, format!("expected `{}`", mark as char));
        }
        let digits = line.start + 1..line.end.saturating_sub(1).max(line.start + 1);
        let mut value: u64 = 0;
        for at in digits.clone() {
            let byte = self.buf[at];
            if !byte.is_ascii_digit() {
                return bad(at, format!("a number is expected after `{}`", mark as char));
            }
            // Saturated numbers pass the file's end and are refused there.
            value = value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
        }
        if digits.is_empty() || self.buf[digits.end] != b'\r' {
            return bad(digits.end.min(line.end), "a number is expected, then CR LF");
        }
        Ok(value)
    }

    /// The range of a line without its LF; `at` moves behind the LF.
    fn line(&mut self) -> Result<Range<usize>, Stop> {
        let begin = self.at;
        let mut searched = begin;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buf[searched..]) {
                let end = searched + found;
                self.at = end + 1;
                return Ok(begin..end);
            }
            searched = self.buf.len();
            // A line of zeros is a padded tail: the first zero is where it goes wrong.
            if let Some(zero) = memchr::memchr(0, &self.buf[begin..]) {
                return bad(begin + zero, "a line that does not end");
            }
            if self.buf.len() - begin > LINE_BYTES_MAX {
                return bad(begin, "a line that does not end");
            }
            if !self.fill()? {
                return Err(Stop::Eof);
            }
        }
    }

    /// Reads on; `false` at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        let len = self.buf.len();
        self.buf.resize(len + CHUNK_BYTES, 0);
        let read = loop {
            match self.source.read(&mut self.buf[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => break other,
            }
        };
        self.buf.truncate(len + *read.as_ref().unwrap_or(&0));
        if let Some(last) = self.buf[len..].iter().rposition(|byte| *byte != 0) {
            self.data_end = self.buf_offset + (len + last) as u64 + 1;
        }
        read.map(|n| n > 0)
    }

    fn only_zeros_from(&mut self, at: usize) -> io::Result<bool> {
        while self.buf[at..].iter().all(|b| *b == 0) {
            // Zeros hide no request, and there may be gigabytes of them.
            self.buf.truncate(at);
            if !self.fill()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A tear, unless whole requests stand behind the beginning of the torn record.
    fn torn(&mut self) -> io::Result<Next> {
        let cut_offset = self.offset();
        self.at = (self.record + 1).min(self.buf.len());
        let verdict = loop {
            let Some(candidate) = self.find(b"\n*", 1)? else { break Next::Torn };
            self.clear_group();
            self.at = candidate;
            match self.request() {
                Ok(args) if is_command_name(&self.buf[self.args[args.start].clone()]) => {
                    let found = self.buf_offset + candidate as u64;
                    let why = format!(
                        "the record there stops short, yet whole requests follow it, from offset {found} on \
                         (unless they are part of its value)"
                    );
                    break Next::Damaged(cut_offset, why);
                }
                Err(Stop::Io(error)) => return Err(error),
                _ => self.at = candidate + 1,
            }
        };
        self.stop_at(cut_offset);
        Ok(verdict)
    }

    /// The verdict on a batch that is not as it was written. It is torn, as the death of a machine leaves it,
    /// if no batch behind it says that a sync had covered it, and if it lacks what such a death takes: its
    /// end, or whole sectors, which read as zeros.
    fn judge_batch(&mut self, fault: BatchFault) -> io::Result<Next> {
        self.at = self.start;
        let offset = self.offset();
        let (lost_sector, end) = match fault {
            BatchFault::Short => (false, u64::MAX),
            BatchFault::Header => (self.begins_with_lost_sector()?, offset + HEADER_LEN as u64),
            BatchFault::Payload(len) => {
                let end = self.at + HEADER_LEN + len as usize;
                (has_lost_sector(&self.buf[self.at..end], offset), self.buf_offset + end as u64)
            }
        };
        let mut synced_len = self.synced_len;
        let mut last_found = None;
        self.at += 1;
        while let Some(candidate) = self.find(batch::PREFIX, 0)? {
            while self.buf.len() < candidate + HEADER_LEN && self.fill()? {}
            let found = self.buf_offset + candidate as u64;
            if let Some(header) = Header::parse(&self.buf[candidate..], found) {
                synced_len = synced_len.max(header.synced_len);
                last_found = Some(found);
            }
            self.at = candidate + 1;
        }
        self.stop_at(offset);
        // What comes before the end of the batch is all that there is, but for zeros.
        let lost_end = self.data_end < end;
        if (lost_sector || lost_end) && synced_len <= offset {
            return Ok(Next::Torn);
        }
        let what = match fault {
            BatchFault::Short => "the batch there stops short",
            BatchFault::Header => "the line before the batch there is damaged",
            BatchFault::Payload(_) => "the bytes of the batch there do not match their checksum",
        };
        let why = match last_found {
            Some(found) if synced_len > offset => {
                format!("{what}, although the batch at {found} says that it was synced up to {synced_len}")
            }
            _ => what.to_owned(),
        };
        Ok(Next::Damaged(offset, why))
    }

    /// The line at `at` is zeros from its beginning or the next sector's on, to the end of that sector.
    fn begins_with_lost_sector(&mut self) -> io::Result<bool> {
        while self.buf.len() < self.at + 2 * SECTOR_BYTES && self.fill()? {}
        let bytes = &self.buf[self.at..];
        let offset = self.buf_offset + self.at as u64;
        let first_len = (SECTOR_BYTES - (offset % SECTOR_BYTES as u64) as usize).min(bytes.len());
        let (first, rest) = bytes.split_at(first_len);
        let known_len = first_len.min(batch::PREFIX.len());
        let begins_well = first_len < HEADER_LEN && first[..known_len] == batch::PREFIX[..known_len];
        Ok(is_zeros(first) || (begins_well && is_zeros(&rest[..rest.len().min(SECTOR_BYTES)])))
    }

    /// Ends reading: `offset` is the place to cut from here on.
    fn stop_at(&mut self, offset: u64) {
        self.clear_group();
        self.buf.clear();
        (self.buf_offset, self.start, self.at) = (offset, 0, 0);
    }

    /// The next `pattern` from `at` on; gives the place of its byte `back`. Forgets what it has passed.
    fn find(&mut self, pattern: &[u8], back: usize) -> io::Result<Option<usize>> {
        loop {
            let found = memchr::memmem::find(&self.buf[self.at.min(self.buf.len())..], pattern);
            if let Some(found) = found {
                return Ok(Some(self.at + found + back));
            }
            let keep = self.buf.len().saturating_sub(pattern.len() - 1).max(self.at.min(self.buf.len()));
            self.buf.drain(..keep);
            self.buf_offset += keep as u64;
            (self.start, self.record, self.at) = (0, 0, 0);
            if !self.fill()? {
                return Ok(None);
            }
        }
    }
}

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Whether `bytes`, which stand at `offset` in their file, lack a sector, or the part of one that is theirs.
fn has_lost_sector(bytes: &[u8], offset: u64) -> bool {
    let first_len = (SECTOR_BYTES - (offset % SECTOR_BYTES as u64) as usize).min(bytes.len());
    let (first, rest) = bytes.split_at(first_len);
    is_zeros(first) || rest.chunks(SECTOR_BYTES).any(is_zeros)
}

fn is_zeros(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0)
}

fn is_header_but_for_its_prefix(line: &[u8], offset: u64) -> bool {
    let mut mended = [0; HEADER_LEN];
    if line.len() < HEADER_LEN {
        return false;
    }
    mended.copy_from_slice(&line[..HEADER_LEN]);
    mended[..batch::PREFIX.len()].copy_from_slice(batch::PREFIX);
    Header::parse(&mended, offset).is_some()
}
