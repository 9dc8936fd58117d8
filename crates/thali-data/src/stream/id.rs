//! Stream entry IDs: milliseconds and a sequence number, and the texts that commands accept for them.

use smallvec::SmallVec;
use std::fmt;

/// The ID of a stream entry, printed `ms-seq`. Ordered by milliseconds, then sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

/// An ID as text, on the stack: two numbers of up to 20 digits and a dash.
pub type StreamIdText = SmallVec<[u8; 48]>;

impl StreamId {
    pub const MIN: Self = Self::new(0, 0);
    pub const MAX: Self = Self::new(u64::MAX, u64::MAX);

    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    pub fn is_zero(self) -> bool {
        self == Self::MIN
    }

    /// The ID right after this one.
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The ID right before this one.
    pub fn prev(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// Reads `ms-seq`, or `ms` with the sequence that the place of use assumes.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<Self> {
        match text.iter().position(|&byte| byte == b'-') {
            None => Some(Self::new(parse_number(text)?, missing_seq)),
            Some(dash) => Some(Self::new(parse_number(&text[..dash])?, parse_number(&text[dash + 1..])?)),
        }
    }

    /// Reads an ID, `-` or `+`.
    pub fn parse_or_edge(text: &[u8], missing_seq: u64) -> Option<Self> {
        match text {
            b"-" => Some(Self::MIN),
            b"+" => Some(Self::MAX),
            _ => Self::parse(text, missing_seq),
        }
    }

    /// Reads the start of a range: an ID, `-`, `+` or `(ID`.
    pub fn parse_range_start(text: &[u8]) -> Result<Self, RangeBoundError> {
        match text.strip_prefix(b"(") {
            None => Self::parse_or_edge(text, 0).ok_or(RangeBoundError::Invalid),
            Some(id) => {
                let id = Self::parse(id, 0).ok_or(RangeBoundError::Invalid)?;
                id.next().ok_or(RangeBoundError::NothingBeyond)
            }
        }
    }

    /// Reads the end of a range: an ID, `-`, `+` or `(ID`.
    pub fn parse_range_end(text: &[u8]) -> Result<Self, RangeBoundError> {
        match text.strip_prefix(b"(") {
            None => Self::parse_or_edge(text, u64::MAX).ok_or(RangeBoundError::Invalid),
            Some(id) => {
                let id = Self::parse(id, u64::MAX).ok_or(RangeBoundError::Invalid)?;
                id.prev().ok_or(RangeBoundError::NothingBeyond)
            }
        }
    }

    pub fn text(self) -> StreamIdText {
        let mut text = StreamIdText::new();
        text.extend_from_slice(itoa::Buffer::new().format(self.ms).as_bytes());
        text.push(b'-');
        text.extend_from_slice(itoa::Buffer::new().format(self.seq).as_bytes());
        text
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Why the bound of a range could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeBoundError {
    /// Not an ID.
    Invalid,
    /// `(` before the greatest ID at the start of a range, or before the smallest at its end.
    NothingBeyond,
}

/// The ID that XADD asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`: the clock's milliseconds, or the last ID plus one when the clock is behind.
    Auto,
    /// `ms-*`: the next sequence number in this millisecond.
    AutoSeq {
        ms: u64,
    },
    Exact(StreamId),
}

impl NewId {
    /// Reads `*`, `ms-*`, `ms-seq` or `ms` (which is `ms-0`).
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text == b"*" {
            return Some(Self::Auto);
        }
        match text.strip_suffix(b"-*") {
            Some(ms) => Some(Self::AutoSeq { ms: parse_number(ms)? }),
            None => StreamId::parse(text, 0).map(Self::Exact),
        }
    }

    /// The concrete ID after `last`, or `None` where none greater than `last` is possible.
    pub fn resolve(self, last: StreamId, now_ms: u64) -> Option<StreamId> {
        let id = match self {
            Self::Auto if now_ms > last.ms => StreamId::new(now_ms, 0),
            Self::Auto => last.next()?,
            Self::AutoSeq { ms } if ms == last.ms => StreamId::new(ms, last.seq.checked_add(1)?),
            Self::AutoSeq { ms } => StreamId::new(ms, 0),
            Self::Exact(id) => id,
        };
        (id > last).then_some(id)
    }
}

/// Decimal digits and nothing else.
fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_commands_write_them() {
        let id = StreamId::new;
        for (text, expected) in [
            ("5-3", Some(id(5, 3))),
            ("5", Some(id(5, 9))),
            ("0-0", Some(id(0, 0))),
            ("18446744073709551615-18446744073709551615", Some(StreamId::MAX)),
            ("18446744073709551616-0", None),
            ("", None),
            ("-", None),
            ("+", None),
            ("5-", None),
            ("-5", None),
            ("5-3-1", None),
            ("5-*", None),
            ("a-1", None),
            (" 5-1", None),
        ] {
            assert_eq!(StreamId::parse(text.as_bytes(), 9), expected, "{text:?}");
        }
        assert_eq!(StreamId::parse_or_edge(b"-", 0), Some(StreamId::MIN));
        assert_eq!(StreamId::parse_or_edge(b"+", 0), Some(StreamId::MAX));
    }

    #[test]
    fn range_bounds_may_leave_their_id_out() {
        let max = b"(18446744073709551615-18446744073709551615";
        assert_eq!(StreamId::parse_range_start(b"5"), Ok(StreamId::new(5, 0)));
        assert_eq!(StreamId::parse_range_end(b"5"), Ok(StreamId::new(5, u64::MAX)));
        assert_eq!(StreamId::parse_range_start(b"(5-3"), Ok(StreamId::new(5, 4)));
        assert_eq!(StreamId::parse_range_end(b"(5-0"), Ok(StreamId::new(4, u64::MAX)));
        assert_eq!(StreamId::parse_range_start(max), Err(RangeBoundError::NothingBeyond));
        assert_eq!(StreamId::parse_range_end(b"(0-0"), Err(RangeBoundError::NothingBeyond));
        assert_eq!(StreamId::parse_range_start(b"(-"), Err(RangeBoundError::Invalid));
    }

    #[test]
    fn new_ids_are_greater_than_the_last() {
        let last = StreamId::new(100, 5);
        for (text, now_ms, expected) in [
            ("*", 200, Some(StreamId::new(200, 0))),
            ("*", 100, Some(StreamId::new(100, 6))),
            ("*", 50, Some(StreamId::new(100, 6))),
            ("100-*", 0, Some(StreamId::new(100, 6))),
            ("101-*", 0, Some(StreamId::new(101, 0))),
            ("99-*", 0, None),
            ("100-5", 0, None),
            ("100-6", 0, Some(StreamId::new(100, 6))),
            ("100", 0, None),
        ] {
            let new = NewId::parse(text.as_bytes()).unwrap();
            assert_eq!(new.resolve(last, now_ms), expected, "{text} at {now_ms}");
        }
        assert_eq!(NewId::Auto.resolve(StreamId::MAX, 5), None);
        assert_eq!(NewId::AutoSeq { ms: 7 }.resolve(StreamId::new(7, u64::MAX), 5), None);
        assert_eq!(NewId::parse(b"-*"), None);
        assert_eq!(NewId::parse(b"*-1"), None);
    }
}
