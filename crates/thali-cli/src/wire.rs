//! Requests written, replies read: bytes of a connection in, [`Reply`] out.
//!
//! Numbers of every kind stay the text that the server sent, as they are only shown. Reading takes memory as
//! bytes arrive, whatever lengths a server announces.
//!
//! SOURCE: redis.io, "Redis serialization protocol specification".

use std::io::{self, BufRead};

/// Replies inside replies; deeper ones end the connection.
pub(crate) const DEPTH_MAX: usize = 512;
/// Bytes of one whole reply; a longer one ends the connection.
pub(crate) const REPLY_BYTES_MAX: usize = 4 << 30;
/// Bytes of a line: a status, an error, a number, a length.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// A reply, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(Vec<u8>),
    Error(Vec<u8>),
    Integer(Vec<u8>),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Double(Vec<u8>),
    Boolean(bool),
    BigNumber(Vec<u8>),
    /// The text without its format.
    Verbatim(Vec<u8>),
    /// What a reply is annotated with, and the reply.
    Annotated(Vec<(Reply, Reply)>, Box<Reply>),
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("Server closed the connection")]
    Closed,
    #[error("{}", io_words(.0))]
    Io(io::Error),
    #[error("Protocol error, got {} as reply type byte", quoted_byte(*.0))]
    Marker(u8),
    #[error("Protocol error, {0}")]
    Malformed(&'static str),
    #[error("The reply is larger than {REPLY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("The reply is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

impl WireError {
    /// Whether the server went away, so that dialling again may help.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_))
    }

    /// Whether somebody pressed Ctrl-C.
    pub fn is_interrupt(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::Interrupted)
    }
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// An error of the system in its own words alone, as strerror gives them.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error ").map_or(text.as_str(), |(words, _)| words);
    text.strip_prefix("failed to lookup address information: ").unwrap_or(text).to_owned()
}

fn quoted_byte(byte: u8) -> String {
    let mut out = Vec::new();
    crate::format::quote(&[byte], &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

impl Reply {
    /// The words of an error.
    pub fn error(&self) -> Option<&[u8]> {
        match self {
            Self::Error(text) => Some(text),
            Self::Annotated(_, reply) => reply.error(),
            _ => None,
        }
    }

    /// The text of whatever is one.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Status(text) | Self::Bulk(text) | Self::Verbatim(text) | Self::Integer(text) => Some(text),
            Self::Double(text) | Self::BigNumber(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    pub fn items(&self) -> &[Reply] {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items,
            _ => &[],
        }
    }

    /// The value of `key` in a map, or in an array that stands for one.
    pub fn field(&self, key: &str) -> Option<&Reply> {
        match self {
            Self::Map(pairs) => {
                pairs.iter().find(|(name, _)| name.text() == Some(key.as_bytes())).map(|(_, value)| value)
            }
            _ => self
                .items()
                .chunks_exact(2)
                .find(|pair| pair[0].text() == Some(key.as_bytes()))
                .map(|pair| &pair[1]),
        }
    }
}

/// A request as an array of bulk strings.
pub(crate) fn write_request<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads one reply.
pub(crate) fn read_reply(input: &mut impl BufRead) -> Result<Reply, WireError> {
    Reader { input, left: REPLY_BYTES_MAX }.reply(0)
}

struct Reader<'a, R> {
    input: &'a mut R,
    /// Bytes that the reply may still take.
    left: usize,
}

impl<R: BufRead> Reader<'_, R> {
    fn reply(&mut self, depth: usize) -> Result<Reply, WireError> {
        if depth > DEPTH_MAX {
            return Err(WireError::TooDeep);
        }
        let mut line = self.line()?;
        if line.is_empty() {
            return Err(WireError::Marker(b'\r'));
        }
        let marker = line.remove(0);
        Ok(match marker {
            b'+' => Reply::Status(line),
            b'-' => Reply::Error(line),
            b':' => Reply::Integer(line),
            b',' => Reply::Double(line),
            b'(' => Reply::BigNumber(line),
            b'#' => Reply::Boolean(line == b"t"),
            b'_' => Reply::Nil,
            b'$' | b'!' | b'=' => match length(&line)? {
                None => Reply::Nil,
                Some(len) => self.bulk(marker, len)?,
            },
            b'*' => match length(&line)? {
                None => Reply::Nil,
                Some(len) => Reply::Array(self.many(len, depth)?),
            },
            b'~' => Reply::Set(self.many(length(&line)?.unwrap_or(0), depth)?),
            b'>' => Reply::Push(self.many(length(&line)?.unwrap_or(0), depth)?),
            b'%' => Reply::Map(self.pairs(length(&line)?.unwrap_or(0), depth)?),
            b'|' => {
                let pairs = self.pairs(length(&line)?.unwrap_or(0), depth)?;
                Reply::Annotated(pairs, Box::new(self.reply(depth + 1)?))
            }
            other => return Err(WireError::Marker(other)),
        })
    }

    fn many(&mut self, len: usize, depth: usize) -> Result<Vec<Reply>, WireError> {
        (0..len).map(|_| self.reply(depth + 1)).collect()
    }

    fn pairs(&mut self, len: usize, depth: usize) -> Result<Vec<(Reply, Reply)>, WireError> {
        (0..len).map(|_| Ok((self.reply(depth + 1)?, self.reply(depth + 1)?))).collect()
    }

    fn bulk(&mut self, marker: u8, len: usize) -> Result<Reply, WireError> {
        let mut bytes = Vec::new();
        while bytes.len() < len + 2 {
            let missing = len.checked_add(2).ok_or(WireError::TooLarge)? - bytes.len();
            let chunk = fill(self.input)?;
            let take = chunk.len().min(missing);
            bytes.extend_from_slice(&chunk[..take]);
            self.consume(take)?;
        }
        bytes.truncate(len);
        Ok(match marker {
            b'!' => Reply::Error(bytes),
            b'=' if bytes.get(3) == Some(&b':') => Reply::Verbatim(bytes.split_off(4)),
            b'=' => return Err(WireError::Malformed("a verbatim string without its format")),
            _ => Reply::Bulk(bytes),
        })
    }

    /// One line, without its end.
    fn line(&mut self) -> Result<Vec<u8>, WireError> {
        let mut line = Vec::new();
        loop {
            let chunk = fill(self.input)?;
            let end = chunk.iter().position(|b| *b == b'\n');
            let take = end.map_or(chunk.len(), |at| at + 1);
            line.extend_from_slice(&chunk[..take]);
            self.consume(take)?;
            if end.is_some() {
                break;
            }
            if line.len() > LINE_BYTES_MAX {
                return Err(WireError::Malformed("a line without an end"));
            }
        }
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    fn consume(&mut self, len: usize) -> Result<(), WireError> {
        self.input.consume(len);
        self.left = self.left.checked_sub(len).ok_or(WireError::TooLarge)?;
        Ok(())
    }
}

/// What has arrived: at least one byte.
fn fill(input: &mut impl BufRead) -> Result<&[u8], WireError> {
    let chunk = input.fill_buf()?;
    if chunk.is_empty() { Err(WireError::Closed) } else { Ok(chunk) }
}

/// A length; `None` for −1.
fn length(line: &[u8]) -> Result<Option<usize>, WireError> {
    let text = std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok());
    match text {
        Some(-1) => Ok(None),
        Some(len) => usize::try_from(len)
            .ok()
            .filter(|len| *len <= REPLY_BYTES_MAX)
            .map(Some)
            .ok_or(WireError::Malformed("a length out of range")),
        None => Err(WireError::Malformed("a length that is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Reply, WireError> {
        // One byte at a time, so that every way to continue is walked.
        read_reply(&mut io::BufReader::with_capacity(1, bytes))
    }

    #[test]
    fn every_type_is_read() {
        let text = |text: &str| text.as_bytes().to_vec();
        for (bytes, expected) in [
            ("+OK\r\n", Reply::Status(text("OK"))),
            ("-ERR no\r\n", Reply::Error(text("ERR no"))),
            (":-7\r\n", Reply::Integer(text("-7"))),
            ("$3\r\na\r\n\r\n", Reply::Bulk(text("a\r\n"))),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            ("_\r\n", Reply::Nil),
            (",1.50\r\n", Reply::Double(text("1.50"))),
            ("#f\r\n", Reply::Boolean(false)),
            ("(123\r\n", Reply::BigNumber(text("123"))),
            ("!5\r\nERR x\r\n", Reply::Error(text("ERR x"))),
            ("=5\r\ntxt:a\r\n", Reply::Verbatim(text("a"))),
            ("*1\r\n*0\r\n", Reply::Array(vec![Reply::Array(vec![])])),
            ("~1\r\n:1\r\n", Reply::Set(vec![Reply::Integer(text("1"))])),
            ("%1\r\n+k\r\n_\r\n", Reply::Map(vec![(Reply::Status(text("k")), Reply::Nil)])),
            (
                "|1\r\n+ttl\r\n:1\r\n+v\r\n",
                Reply::Annotated(
                    vec![(Reply::Status(text("ttl")), Reply::Integer(text("1")))],
                    Box::new(Reply::Status(text("v"))),
                ),
            ),
        ] {
            assert_eq!(read(bytes.as_bytes()).unwrap(), expected, "{bytes:?}");
            for cut in 0..bytes.len() {
                assert!(
                    matches!(read(&bytes.as_bytes()[..cut]), Err(WireError::Closed)),
                    "{bytes:?} to {cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_in_words() {
        let nested = "*1\r\n".repeat(DEPTH_MAX + 2);
        let endless = vec![b'a'; LINE_BYTES_MAX + 2];
        for (bytes, words) in [
            (&b"HTTP/1.1 400\r\n"[..], "Protocol error, got \"H\" as reply type byte"),
            (b"$x\r\n", "Protocol error, a length that is no number"),
            (b"$99999999999999\r\n", "Protocol error, a length out of range"),
            (b"*-5\r\n", "Protocol error, a length out of range"),
            (b"=2\r\nab\r\n", "Protocol error, a verbatim string without its format"),
            (nested.as_bytes(), "The reply is nested deeper than 512 levels"),
            (&endless, "Protocol error, a line without an end"),
        ] {
            assert_eq!(read(bytes).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        assert!(matches!(read(b"*2000000000\r\n"), Err(WireError::Closed)));
        assert!(matches!(read(b"$2000000000\r\nabc"), Err(WireError::Closed)));
    }
}
