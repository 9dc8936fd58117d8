//! Reading replies back: for recovery tools, tests and the layers that look into what they answered.

use memchr::memchr;

/// A reply, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(f64),
    Boolean(bool),
    BigNumber(Vec<u8>),
    /// The format's three letters and the text.
    Verbatim(Vec<u8>, Vec<u8>),
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// The reply goes on past the end of the bytes.
    Incomplete,
    /// The byte at this offset has no business there.
    Malformed(usize),
}

impl std::fmt::Display for ValueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Incomplete => f.write_str("the reply is not complete"),
            Self::Malformed(at) => write!(f, "no RESP at byte {at}"),
        }
    }
}

impl std::error::Error for ValueError {}

/// Aggregates inside aggregates; deeper is malformed.
const DEPTH_MAX: usize = 128;

/// Reads one reply from the front of `bytes`; gives it and its length.
pub fn parse_value(bytes: &[u8]) -> Result<(Value, usize), ValueError> {
    let mut at = 0;
    let value = read(bytes, &mut at, 0)?;
    Ok((value, at))
}

fn read(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Value, ValueError> {
    let start = *at;
    let malformed = ValueError::Malformed(start);
    if depth > DEPTH_MAX {
        return Err(malformed);
    }
    let rest = bytes.get(start..).unwrap_or_default();
    let marker = *rest.first().ok_or(ValueError::Incomplete)?;
    let len = memchr(b'\n', rest).ok_or(ValueError::Incomplete)?;
    let line = rest[1..len].strip_suffix(b"\r").ok_or(malformed)?;
    *at = start + len + 1;
    let text = || std::str::from_utf8(line).map_err(|_| malformed);
    let count = || text()?.parse::<i64>().map_err(|_| malformed);
    let many = |at: &mut usize, n: i64| -> Result<Vec<Value>, ValueError> {
        (0..n).map(|_| read(bytes, at, depth + 1)).collect()
    };
    Ok(match marker {
        b'+' => Value::Simple(line.to_vec()),
        b'-' => Value::Error(line.to_vec()),
        b':' => Value::Integer(count()?),
        b'_' => Value::Null,
        b'#' => Value::Boolean(line == b"t"),
        b',' => Value::Double(text()?.parse().map_err(|_| malformed)?),
        b'(' => Value::BigNumber(line.to_vec()),
        b'$' | b'=' | b'!' => {
            let len = count()?;
            let Ok(len) = usize::try_from(len) else { return Ok(Value::Null) };
            let body = bytes.get(*at..*at + len).ok_or(ValueError::Incomplete)?;
            if bytes.len() < *at + len + 2 {
                return Err(ValueError::Incomplete);
            }
            *at += len + 2;
            match marker {
                b'$' => Value::Bulk(body.to_vec()),
                b'!' => Value::Error(body.to_vec()),
                _ if body.len() >= 4 => Value::Verbatim(body[..3].to_vec(), body[4..].to_vec()),
                _ => return Err(malformed),
            }
        }
        b'*' => match count()? {
            n if n < 0 => Value::Null,
            n => Value::Array(many(at, n)?),
        },
        b'~' => Value::Set(many(at, count()?)?),
        b'>' => Value::Push(many(at, count()?)?),
        b'%' => {
            let n = count()?;
            let mut pairs = Vec::new();
            for _ in 0..n {
                pairs.push((read(bytes, at, depth + 1)?, read(bytes, at, depth + 1)?));
            }
            Value::Map(pairs)
        }
        _ => return Err(malformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_round_trip() {
        let bytes = b"*3\r\n:1\r\n$2\r\nhi\r\n%1\r\n+a\r\n_\r\n";
        let (value, len) = parse_value(bytes).unwrap();
        assert_eq!(len, bytes.len());
        let map = Value::Map(vec![(Value::Simple(b"a".to_vec()), Value::Null)]);
        assert_eq!(value, Value::Array(vec![Value::Integer(1), Value::Bulk(b"hi".to_vec()), map]));
        for cut in 0..bytes.len() {
            assert_eq!(parse_value(&bytes[..cut]), Err(ValueError::Incomplete), "cut {cut}");
        }
    }
}
