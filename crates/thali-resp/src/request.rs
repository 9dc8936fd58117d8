//! Requests: an array of bulk strings, or one inline line.
//!
//! The parser can be resumed: it remembers how far it came in an unfinished request, so that a
//! request that arrives in many pieces is looked at once. It holds offsets into the caller's buffer,
//! never bytes, except for inline words, which lose their quotes on the way.

use memchr::memchr;
use smallvec::SmallVec;

use crate::split_inline;

/// The arguments of one request, the command's name first.
pub type Args<'a> = SmallVec<[&'a [u8]; 8]>;

/// What a client may claim before its bytes have come.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arguments in one request (`client-multibulk-max`; Redis allows 2³¹−1, before AUTH 10).
    pub args_max: usize,
    /// Bytes in one argument (`proto-max-bulk-len`, 512 MB by default; before AUTH 16,384).
    pub bulk_len_max: usize,
    /// Bytes in an inline line or in a length line.
    pub line_len_max: usize,
}

impl Limits {
    /// Redis's defaults for a client that may send commands.
    pub const OPEN: Limits =
        Limits { args_max: i32::MAX as usize, bulk_len_max: 512 << 20, line_len_max: 64 << 10 };
    /// What a client that has not said its password may send.
    pub const UNAUTHENTICATED: Limits = Limits { args_max: 10, bulk_len_max: 16_384, line_len_max: 64 << 10 };
}

/// A request that cannot be read; the connection ends after the message. The wording is Redis's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    TooBigInline,
    TooBigCountString,
    TooBigBulkCountString,
    InvalidMultibulkLength,
    InvalidBulkLength,
    UnauthenticatedMultibulk,
    UnauthenticatedBulk,
    ExpectedDollar(u8),
    UnbalancedQuotes,
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooBigInline => f.write_str("too big inline request"),
            Self::TooBigCountString => f.write_str("too big mbulk count string"),
            Self::TooBigBulkCountString => f.write_str("too big bulk count string"),
            Self::InvalidMultibulkLength => f.write_str("invalid multibulk length"),
            Self::InvalidBulkLength => f.write_str("invalid bulk length"),
            Self::UnauthenticatedMultibulk => f.write_str("unauthenticated multibulk length"),
            Self::UnauthenticatedBulk => f.write_str("unauthenticated bulk length"),
            Self::ExpectedDollar(got) => write!(f, "expected '$', got '{}'", char::from(*got)),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// How a call of [`Parser::parse`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed; at least so many in all before another look pays.
    Incomplete { total_len_min: usize },
    /// A request is there: [`Parser::args`] gives it, and it ends at this offset. It may have no
    /// arguments (an empty line, `*0`), which asks for nothing and gets no reply.
    Request { end: usize },
}

/// A resumable parser for one connection.
#[derive(Debug, Default)]
pub struct Parser {
    /// Where each argument read so far starts and ends.
    spans: Vec<(usize, usize)>,
    /// Words of an inline request.
    inline: Vec<Vec<u8>>,
    /// Arguments still to come; `None` between requests.
    remaining: Option<usize>,
    /// Where reading goes on.
    at: usize,
}

/// Arguments whose spans are reserved before they arrive: a claim of a billion costs nothing.
const SPANS_RESERVED_MAX: usize = 1024;

impl Parser {
    /// Reads the request that starts at offset `start` of `buffer`, going on where the last call
    /// stopped. The bytes between `start` and the end of `buffer` must stay in place until the
    /// request is complete; [`Parser::rebase`] says that they moved to the front. An error ends the request:
    /// nothing of it is remembered.
    pub fn parse(&mut self, buffer: &[u8], start: usize, limits: &Limits) -> Result<Step, ProtocolError> {
        self.go_on(buffer, start, limits).inspect_err(|_| self.remaining = None)
    }

    fn go_on(&mut self, buffer: &[u8], start: usize, limits: &Limits) -> Result<Step, ProtocolError> {
        if self.remaining.is_none() {
            match buffer.get(start) {
                None => return Ok(Step::Incomplete { total_len_min: start + 1 }),
                Some(b'*') => {
                    self.at = start;
                    let Some(count) = self.count_line(buffer, limits)? else {
                        return Ok(Step::Incomplete { total_len_min: buffer.len() + 1 });
                    };
                    self.spans.clear();
                    self.inline.clear();
                    self.spans.reserve(count.min(SPANS_RESERVED_MAX));
                    self.remaining = Some(count);
                }
                Some(_) => return self.inline_line(buffer, start, limits),
            }
        }
        self.bulks(buffer, limits)
    }

    /// The arguments of the request that was just completed.
    pub fn args<'a>(&'a self, buffer: &'a [u8]) -> Args<'a> {
        let mut args = Args::new();
        if !self.add_args(buffer, &mut args) {
            args.extend(self.inline.iter().map(Vec::as_slice));
        }
        args
    }

    /// Adds the arguments, as [`Parser::args`] gives them, borrowed from the buffer alone. Not those of an inline
    /// request; false then.
    pub fn add_args<'a>(&self, buffer: &'a [u8], args: &mut impl Extend<&'a [u8]>) -> bool {
        if self.inline.is_empty() {
            args.extend(self.spans.iter().map(|&(from, to)| &buffer[from..to]));
        }
        self.inline.is_empty()
    }

    /// Forgets the request that was begun: its beginning will be read again.
    pub fn start_over(&mut self) {
        self.remaining = None;
    }

    /// Says that the unfinished request now starts `by` bytes earlier in the buffer.
    pub fn rebase(&mut self, by: usize) {
        if self.remaining.is_some() {
            self.at -= by;
            for span in &mut self.spans {
                span.0 -= by;
                span.1 -= by;
            }
        }
    }

    /// Whether a request has begun and is not complete.
    pub fn is_mid_request(&self) -> bool {
        self.remaining.is_some()
    }

    /// How much of the buffer stands before the argument that is arriving: arguments that are there, and lengths.
    pub fn read_len(&self, buffer: &[u8]) -> usize {
        match self.remaining {
            Some(_) => line(buffer, self.at + 1).map_or(self.at, |(_, from)| from),
            None => 0,
        }
    }

    /// Gives back memory that one large request took.
    pub fn shrink(&mut self) {
        if self.remaining.is_none() && self.spans.capacity() > SPANS_RESERVED_MAX {
            self.spans = Vec::new();
        }
        if self.remaining.is_none() && !self.inline.is_empty() {
            self.inline = Vec::new();
        }
    }

    fn count_line(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        if let Some((count, next)) =
            short_number(buffer, self.at + 1).filter(|(count, _)| *count <= limits.args_max)
        {
            self.at = next;
            return Ok(Some(count));
        }
        let Some((line, next)) = line(buffer, self.at + 1) else {
            let too_long = buffer.len() - self.at > limits.line_len_max;
            return if too_long { Err(ProtocolError::TooBigCountString) } else { Ok(None) };
        };
        let count = integer(line).ok_or(ProtocolError::InvalidMultibulkLength)?;
        if count > limits.args_max as i64 {
            let unauthenticated = limits.args_max == Limits::UNAUTHENTICATED.args_max;
            return Err(if unauthenticated && count <= i64::from(i32::MAX) {
                ProtocolError::UnauthenticatedMultibulk
            } else {
                ProtocolError::InvalidMultibulkLength
            });
        }
        self.at = next;
        Ok(Some(count.max(0) as usize))
    }

    fn bulks(&mut self, buffer: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let mut remaining = self.remaining.unwrap_or(0);
        while remaining > 0 {
            let Some(&marker) = buffer.get(self.at) else {
                return Ok(self.incomplete(remaining, self.at + 1));
            };
            if marker != b'$' {
                return Err(ProtocolError::ExpectedDollar(marker));
            }
            let (len, from) = match short_number(buffer, self.at + 1) {
                Some(found) => found,
                None => {
                    let Some((line, from)) = line(buffer, self.at + 1) else {
                        if buffer.len() - self.at > limits.line_len_max {
                            return Err(ProtocolError::TooBigBulkCountString);
                        }
                        return Ok(self.incomplete(remaining, buffer.len() + 1));
                    };
                    let len = integer(line).and_then(|len| usize::try_from(len).ok());
                    (len.ok_or(ProtocolError::InvalidBulkLength)?, from)
                }
            };
            if len > limits.bulk_len_max {
                let unauthenticated = limits.bulk_len_max == Limits::UNAUTHENTICATED.bulk_len_max;
                return Err(if unauthenticated && len <= Limits::OPEN.bulk_len_max {
                    ProtocolError::UnauthenticatedBulk
                } else {
                    ProtocolError::InvalidBulkLength
                });
            }
            if buffer.len() < from + len + 2 {
                return Ok(self.incomplete(remaining, from + len + 2));
            }
            self.spans.push((from, from + len));
            self.at = from + len + 2;
            remaining -= 1;
        }
        self.remaining = None;
        Ok(Step::Request { end: self.at })
    }

    fn incomplete(&mut self, remaining: usize, total_len_min: usize) -> Step {
        self.remaining = Some(remaining);
        Step::Incomplete { total_len_min }
    }

    fn inline_line(&mut self, buffer: &[u8], start: usize, limits: &Limits) -> Result<Step, ProtocolError> {
        let Some(len) = memchr(b'\n', &buffer[start..]) else {
            if buffer.len() - start > limits.line_len_max {
                return Err(ProtocolError::TooBigInline);
            }
            return Ok(Step::Incomplete { total_len_min: buffer.len() + 1 });
        };
        let line = &buffer[start..start + len];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.spans.clear();
        self.inline = split_inline(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        Ok(Step::Request { end: start + len + 1 })
    }
}

/// The line that starts at `from`, without its `\r\n`, and where the next one starts.
fn line(buffer: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = buffer.get(from..)?;
    let len = memchr(b'\r', rest)?;
    // The `\n` must be there too before the line counts.
    (rest.len() > len + 1).then(|| (&rest[..len], from + len + 2))
}

/// The number on a line of up to eight digits that starts at `from`, and where the next line starts: what nearly all
/// lengths are. `None`: the line is something else, or not there yet.
fn short_number(buffer: &[u8], from: usize) -> Option<(usize, usize)> {
    let (mut value, mut at) = (0, from);
    loop {
        match *buffer.get(at)? {
            digit @ b'0'..=b'9' if at < from + 8 => value = value * 10 + usize::from(digit - b'0'),
            b'\r' if at > from && at + 1 < buffer.len() => return Some((value, at + 2)),
            _ => return None,
        }
        at += 1;
    }
}

fn integer(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_leaves_nothing_to_rebase() {
        for rest in ["fooz\r\n", "$-10\r\n", "$x\r\n"] {
            let input = format!("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n{rest}");
            let mut parser = Parser::default();
            assert!(parser.parse(input.as_bytes(), 0, &Limits::OPEN).is_err(), "{rest}");
            assert!(!parser.is_mid_request());
            parser.rebase(input.len());
        }
    }

    fn parse_all(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut parser = Parser::default();
        let mut requests = Vec::new();
        let mut start = 0;
        while let Step::Request { end } = parser.parse(input, start, &Limits::OPEN)? {
            requests.push(parser.args(input).iter().map(|arg| arg.to_vec()).collect());
            start = end;
        }
        Ok(requests)
    }

    #[test]
    fn arrays_inline_and_empty_requests() {
        let requests = parse_all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING x\r\n\r\n*0\r\n").unwrap();
        assert_eq!(
            requests,
            vec![vec![b"GET".to_vec(), b"k".to_vec()], vec![b"PING".to_vec(), b"x".to_vec()], vec![], vec![]]
        );
    }

    #[test]
    fn every_split_gives_the_same_request() {
        let input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n";
        for cut in 0..input.len() {
            let mut parser = Parser::default();
            let first = parser.parse(&input[..cut], 0, &Limits::OPEN).unwrap();
            assert!(matches!(first, Step::Incomplete { total_len_min } if total_len_min > cut), "cut {cut}");
            let step = parser.parse(input, 0, &Limits::OPEN).unwrap();
            assert_eq!(step, Step::Request { end: input.len() }, "cut {cut}");
            assert_eq!(parser.args(input).as_slice(), [&b"SET"[..], b"k", b"hello"]);
        }
    }

    #[test]
    fn an_unfinished_request_can_move_to_the_front() {
        let input = b"PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n";
        let mut parser = Parser::default();
        let Step::Request { end } = parser.parse(&input[..22], 0, &Limits::OPEN).unwrap() else { panic!() };
        assert!(matches!(parser.parse(&input[..22], end, &Limits::OPEN), Ok(Step::Incomplete { .. })));
        parser.rebase(end);
        let moved = &input[end..];
        assert_eq!(parser.parse(moved, 0, &Limits::OPEN), Ok(Step::Request { end: moved.len() }));
        assert_eq!(parser.args(moved).as_slice(), [&b"ECHO"[..], b"hi"]);
    }

    #[test]
    fn errors_have_redis_wording() {
        let check = |input: &[u8], expected: &str| {
            assert_eq!(parse_all(input).unwrap_err().to_string(), expected, "{input:?}");
        };
        check(b"*x\r\n", "invalid multibulk length");
        check(b"*3000000000\r\n", "invalid multibulk length");
        check(b"*1\r\nGET\r\n", "expected '$', got 'G'");
        check(b"*1\r\n$-1\r\n", "invalid bulk length");
        check(b"*1\r\n$9999999999\r\n", "invalid bulk length");
        check(b"SET \"k\r\n", "unbalanced quotes in request");
        check(&[b'a'; 70_000], "too big inline request");
    }

    #[test]
    fn limits_before_the_password() {
        let mut parser = Parser::default();
        let error = parser.parse(b"*11\r\n", 0, &Limits::UNAUTHENTICATED).unwrap_err();
        assert_eq!(error.to_string(), "unauthenticated multibulk length");
        let error = Parser::default().parse(b"*1\r\n$20000\r\n", 0, &Limits::UNAUTHENTICATED).unwrap_err();
        assert_eq!(error.to_string(), "unauthenticated bulk length");
    }
}
