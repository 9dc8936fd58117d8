//! One file of the journal as a stream of groups: single requests, or all of a MULTI … EXEC.
//!
//! Owns the grammar and the verdict on a bad end; decides nothing about it. Memory: one group at a
//! time, and no length found in the file is believed beyond the length of the file.

use std::io::{self, Read};
use std::ops::Range;

use smallvec::SmallVec;

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
    /// From [`GroupReader::offset`] on, the file holds the beginning of a group and perhaps zeros.
    Torn,
    /// Looks torn, but whole requests stand behind the tear, at this offset.
    Hidden(u64),
    /// Bytes that are no record, at this offset, and not the end.
    Damaged(u64, String),
}

enum Stop {
    Eof,
    Bad(usize, String),
    Io(io::Error),
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
    pub fn new(source: Box<dyn Read + Send>, file_len: u64) -> Self {
        GroupReader {
            source,
            file_len,
            buf: Vec::new(),
            buf_offset: 0,
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

    /// Bytes read as RDB in the first place by Redis begin so.
    pub fn starts_with(&mut self, magic: &[u8]) -> io::Result<bool> {
        while self.buf.len() < magic.len() && self.fill()? {}
        Ok(self.buf.starts_with(magic))
    }

    pub fn next_group(&mut self) -> io::Result<Next> {
        self.begin_group();
        match self.group() {
            Ok(true) => Ok(Next::Group),
            Ok(false) => Ok(Next::End),
            Err(Stop::Io(error)) => Err(error),
            Err(Stop::Eof) => self.torn(),
            Err(Stop::Bad(at, why)) => {
                let offset = self.buf_offset + at as u64;
                if self.only_zeros_from(at)? { self.torn() } else { Ok(Next::Damaged(offset, why)) }
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
            if self.at == self.buf.len() && !self.fill()? {
                return if self.atomic { Err(Stop::Eof) } else { Ok(false) };
            }
            if self.buf[self.at] == b'#' {
                self.line()?;
                self.settle();
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
            let rest = self.file_len.saturating_sub(self.buf_offset + self.at as u64);
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
            let Some(candidate) = self.find_request_start()? else { break Next::Torn };
            self.clear_group();
            self.at = candidate;
            match self.request() {
                Ok(args) if is_command_name(&self.buf[self.args[args.start].clone()]) => {
                    break Next::Hidden(self.buf_offset + candidate as u64);
                }
                Err(Stop::Io(error)) => return Err(error),
                _ => self.at = candidate + 1,
            }
        };
        self.clear_group();
        // `offset` is the place to cut from here on.
        self.buf.clear();
        (self.buf_offset, self.start, self.at) = (cut_offset, 0, 0);
        Ok(verdict)
    }

    /// The next `*` at the beginning of a line, from `at` on. Forgets what it has passed.
    fn find_request_start(&mut self) -> io::Result<Option<usize>> {
        loop {
            let found = memchr::memmem::find(&self.buf[self.at..], b"\n*");
            if let Some(found) = found {
                return Ok(Some(self.at + found + 1));
            }
            let keep = self.buf.len().saturating_sub(1).max(self.at.min(self.buf.len()));
            self.buf.drain(..keep);
            self.buf_offset += keep as u64;
            (self.start, self.record, self.at) = (0, 0, 0);
            if !self.fill()? {
                return Ok(None);
            }
        }
    }
}
