//! Errors that a client sees. Their wording is wire contract: Redis's own.

use std::borrow::Cow;

/// `CODE message`, without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply(Cow<'static, [u8]>);

impl ErrorReply {
    pub const WRONG_TYPE: Self =
        Self::new("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const SYNTAX: Self = Self::new("ERR syntax error");
    pub const NOT_INTEGER: Self = Self::new("ERR value is not an integer or out of range");
    pub const NOT_FLOAT: Self = Self::new("ERR value is not a valid float");
    pub const OUT_OF_RANGE: Self = Self::new("ERR value is out of range");
    pub const POSITIVE: Self = Self::new("ERR value is out of range, must be positive");
    pub const NO_SUCH_KEY: Self = Self::new("ERR no such key");
    pub const INDEX_OUT_OF_RANGE: Self = Self::new("ERR index out of range");
    pub const OVERFLOW: Self = Self::new("ERR increment or decrement would overflow");
    pub const NAN_OR_INFINITY: Self = Self::new("ERR increment would produce NaN or Infinity");
    pub const SAME_OBJECT: Self = Self::new("ERR source and destination objects are the same");
    pub const INVALID_CURSOR: Self = Self::new("ERR invalid cursor");
    pub const INVALID_DB: Self = Self::new("ERR DB index is out of range");
    pub const TIMEOUT_NOT_FLOAT: Self = Self::new("ERR timeout is not a float or out of range");
    pub const TIMEOUT_NOT_INTEGER: Self = Self::new("ERR timeout is not an integer or out of range");
    pub const TIMEOUT_NEGATIVE: Self = Self::new("ERR timeout is negative");
    pub const TIMEOUT_OUT_OF_RANGE: Self = Self::new("ERR timeout is out of range");
    pub const STRING_TOO_LONG: Self =
        Self::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    /// A script has run for too long and holds what the command needs.
    pub const BUSY: Self =
        Self::new("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
    /// As [`ErrorReply::BUSY`], where it is a function.
    pub const BUSY_FUNCTION: Self =
        Self::new("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.");

    /// An error whose text is known at compile time.
    pub const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    /// An error whose text is made for the occasion.
    pub fn owned(text: impl Into<Vec<u8>>) -> Self {
        Self(Cow::Owned(text.into()))
    }

    /// `ERR wrong number of arguments for 'name' command`
    pub fn wrong_arity(name: &str) -> Self {
        Self::owned(format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()))
    }

    /// The reply to an unknown subcommand of `container`.
    pub fn unknown_subcommand(container: &str, given: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(&given[..given.len().min(128)]);
        let container = container.to_ascii_uppercase();
        Self::owned(format!("ERR unknown subcommand '{shown}'. Try {container} HELP."))
    }

    /// The text as it goes on the wire, code first.
    pub fn text(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl std::error::Error for ErrorReply {}
