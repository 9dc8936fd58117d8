//! A small blocking client of the Redis protocol (RESP2 and RESP3).
//!
//! Built for tests, not for speed: one command, one reply; no pipelining beyond [`RespClient::send`]
//! and [`RespClient::read`]. It deliberately shares no code with the server's codec, so that a
//! mistake in one does not hide in the other.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// A longer bulk or collection than this is taken for a broken stream.
const LENGTH_MAX: i64 = 512 << 20;

/// A reply as it came over the wire; RESP3's doubles, big numbers and verbatim strings keep their text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    Nil,
    Integer(i64),
    Boolean(bool),
    Double(String),
    BigNumber(String),
    Status(String),
    Bulk(Vec<u8>),
    Error(String),
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
    /// A reply behind an attribute.
    Attributed(Vec<(Reply, Reply)>, Box<Reply>),
}

impl Reply {
    /// The text of a status or bulk reply; empty for anything else.
    pub fn text(&self) -> String {
        match self {
            Reply::Status(text) => text.clone(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items,
            _ => &[],
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Nil => f.write_str("(nil)"),
            Reply::Integer(number) => write!(f, "(integer) {number}"),
            Reply::Boolean(value) => write!(f, "(boolean) {value}"),
            Reply::Double(text) => write!(f, "(double) {text}"),
            Reply::BigNumber(text) => write!(f, "(big number) {text}"),
            Reply::Status(text) => write!(f, "+{text}"),
            Reply::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Reply::Error(text) => write!(f, "-{text}"),
            Reply::Array(items) => f.debug_list().entries(items).finish(),
            Reply::Set(items) => f.debug_set().entries(items).finish(),
            Reply::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Reply::Push(items) => f.debug_tuple("push").field(items).finish(),
            Reply::Attributed(pairs, reply) => f.debug_tuple("attributed").field(pairs).field(reply).finish(),
        }
    }
}

#[derive(Debug)]
pub struct RespClient {
    stream: BufReader<TcpStream>,
}

impl RespClient {
    pub fn connect(address: &str) -> Result<RespClient> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(RespClient { stream: BufReader::new(stream) })
    }

    /// Sends one command and reads its reply; an error reply is a value, not an `Err`.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply> {
        self.send(args)?;
        self.read()
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<()> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.send_raw(&request)
    }

    /// Writes bytes as they are, for inline commands and malformed input.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    pub fn read(&mut self) -> Result<Reply> {
        let line = self.read_line()?;
        let (kind, rest) = line.split_at(1);
        Ok(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse()?),
            "_" => Reply::Nil,
            "#" => Reply::Boolean(rest == "t"),
            "," => Reply::Double(rest.to_owned()),
            "(" => Reply::BigNumber(rest.to_owned()),
            "$" | "=" => match length(rest)? {
                None => Reply::Nil,
                Some(length) => Reply::Bulk(self.read_bulk(length)?),
            },
            "!" => Reply::Error(String::from_utf8_lossy(&self.read_bulk(rest.parse()?)?).into_owned()),
            "*" => match length(rest)? {
                None => Reply::Nil,
                Some(length) => Reply::Array(self.read_items(length)?),
            },
            "~" => Reply::Set(self.read_items(rest.parse()?)?),
            ">" => Reply::Push(self.read_items(rest.parse()?)?),
            "%" => Reply::Map(self.read_pairs(rest.parse()?)?),
            "|" => Reply::Attributed(self.read_pairs(rest.parse()?)?, Box::new(self.read()?)),
            _ => bail!("not a RESP reply: {line:?}"),
        })
    }

    fn read_pairs(&mut self, length: usize) -> Result<Vec<(Reply, Reply)>> {
        (0..length).map(|_| Ok((self.read()?, self.read()?))).collect()
    }

    fn read_items(&mut self, length: usize) -> Result<Vec<Reply>> {
        (0..length).map(|_| self.read()).collect()
    }

    fn read_bulk(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") || line.len() < 3 {
            bail!("the connection ended within a reply: {:?}", line.escape_ascii().to_string());
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

fn length(text: &str) -> Result<Option<usize>> {
    match text.parse::<i64>()? {
        -1 => Ok(None),
        length @ 0..=LENGTH_MAX => Ok(Some(length as usize)),
        length => bail!("a reply of length {length}"),
    }
}
