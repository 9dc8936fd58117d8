//! A script's text, its name (SHA1) and the `#!lua` line that may open it.

use std::fmt;
use std::sync::Arc;

use sha1::{Digest, Sha1};
use thali_resp::split_inline;

/// SHA1 of a script's body: its name everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha([u8; 20]);

impl Sha {
    pub fn of(body: &[u8]) -> Self {
        Self(Sha1::digest(body).into())
    }

    /// Reads 40 hexadecimal digits of either case, as EVALSHA accepts them.
    pub fn parse(hex: &[u8]) -> Option<Self> {
        if hex.len() != 40 {
            return None;
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self(bytes))
    }

    /// The name as SCRIPT LOAD answers it.
    pub fn hex(&self) -> [u8; 40] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 40];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hex().iter().try_for_each(|&digit| fmt::Write::write_char(f, char::from(digit)))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a script's `#!lua flags=…` line declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// The script has a `#!` line. Without one Redis applies its older, laxer rules.
    pub declared: bool,
    pub no_writes: bool,
    pub allow_oom: bool,
    pub allow_stale: bool,
    pub no_cluster: bool,
    pub allow_cross_slot_keys: bool,
}

impl Flags {
    /// Each flag under the name that Redis gives it, in Redis's order.
    fn by_name(&mut self) -> [(&'static str, &mut bool); 5] {
        [
            ("no-writes", &mut self.no_writes),
            ("allow-oom", &mut self.allow_oom),
            ("allow-stale", &mut self.allow_stale),
            ("no-cluster", &mut self.no_cluster),
            ("allow-cross-slot-keys", &mut self.allow_cross_slot_keys),
        ]
    }

    /// The names of the flags that are set.
    pub fn names(mut self) -> impl Iterator<Item = &'static str> {
        self.by_name().map(|(name, is_set)| is_set.then_some(name)).into_iter().flatten()
    }

    /// Sets the flag whose name `is_named` accepts; false where there is none.
    pub(crate) fn raise(&mut self, is_named: impl Fn(&str) -> bool) -> bool {
        let found = self.by_name().into_iter().find(|(name, _)| is_named(name));
        found.is_some_and(|(_, is_set)| {
            *is_set = true;
            true
        })
    }

    /// Whether a run may change the data.
    pub fn may_write(&self) -> bool {
        !self.no_writes
    }

    /// Whether a run is refused while memory is short. Who writes nothing needs none.
    pub fn needs_memory(&self) -> bool {
        self.declared && !self.allow_oom && !self.no_writes
    }
}

/// What is wrong with a `#!` line, worded for the client (without the leading dash).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("ERR Invalid script shebang")]
    NoNewline,
    #[error("ERR Invalid engine in script shebang")]
    UnbalancedQuotes,
    #[error("ERR Unexpected engine in script shebang: {0}")]
    Engine(String),
    #[error("ERR Unknown lua shebang option: {0}")]
    Option(String),
    #[error("ERR Unexpected flag in script shebang: {0}")]
    Flag(String),
}

/// A script's text with its name and flags. Clones share the text.
#[derive(Debug, Clone)]
pub struct Script {
    sha: Sha,
    body: Arc<[u8]>,
    /// Where the Lua code starts: at the newline that ends the `#!` line, so that line numbers stay true.
    code_start: usize,
    /// Counted once: errors name it, and every run sets it.
    last_line: usize,
    flags: Flags,
}

impl Script {
    /// Names the body and reads its `#!` line; [`crate::Interpreter::compile`] checks the Lua code.
    pub fn new(body: impl Into<Arc<[u8]>>) -> Result<Self, HeaderError> {
        let body = body.into();
        let (flags, code_start) = read_header(&body)?;
        let last_line = body.trim_ascii_end().iter().filter(|&&byte| byte == b'\n').count() + 1;
        Ok(Self { sha: Sha::of(&body), body, code_start, last_line, flags })
    }

    pub fn sha(&self) -> &Sha {
        &self.sha
    }

    /// The whole text, the `#!` line included.
    pub fn body(&self) -> &Arc<[u8]> {
        &self.body
    }

    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Number of the last line that is not blank.
    pub(crate) fn last_line(&self) -> usize {
        self.last_line
    }

    pub(crate) fn code(&self) -> &[u8] {
        &self.body[self.code_start..]
    }
}

fn read_header(body: &[u8]) -> Result<(Flags, usize), HeaderError> {
    let mut flags = Flags::default();
    let Some(end) = header_end(body).ok_or(HeaderError::NoNewline)? else { return Ok((flags, 0)) };
    let words = split_inline(&body[..end]).ok_or(HeaderError::UnbalancedQuotes)?;
    let (engine, options) = words.split_first().ok_or(HeaderError::UnbalancedQuotes)?;
    if engine != b"#!lua" {
        return Err(HeaderError::Engine(printable(engine)));
    }
    flags.declared = true;
    for option in options {
        let list = option.strip_prefix(b"flags=").ok_or_else(|| HeaderError::Option(printable(option)))?;
        for name in list.split(|&b| b == b',').filter(|_| !list.is_empty()) {
            if !flags.raise(|flag| flag.as_bytes() == name) {
                return Err(HeaderError::Flag(printable(name)));
            }
        }
    }
    Ok((flags, end))
}

/// Where the `#!` line of a text ends: at its newline. `Some(None)` for a text without such a line, `None`
/// where it has no end before the text's own or a NUL, as Redis looks for it.
pub(crate) fn header_end(text: &[u8]) -> Option<Option<usize>> {
    if !text.starts_with(b"#!") {
        return Some(None);
    }
    let end = text.iter().position(|&b| matches!(b, b'\n' | 0))?;
    (text[end] == b'\n').then_some(Some(end))
}

/// Text for an error reply, which is one line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(body: &str) -> Result<Flags, String> {
        Script::new(body.as_bytes()).map(|s| s.flags()).map_err(|e| e.to_string())
    }

    #[test]
    fn sha_matches_redis() {
        let sha = Sha::of(b"return 1");
        assert_eq!(sha.to_string(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Sha::parse(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(sha));
        assert_eq!(Sha::parse(b"e0e1"), None);
        assert_eq!(Sha::parse(&[b'g'; 40]), None);
    }

    #[test]
    fn a_script_without_a_header_declares_nothing() {
        assert_eq!(header("return 1"), Ok(Flags::default()));
    }

    #[test]
    fn flags_are_read() {
        let all = Flags {
            declared: true,
            no_writes: true,
            allow_oom: true,
            allow_stale: true,
            no_cluster: true,
            allow_cross_slot_keys: true,
        };
        let line = "#!lua flags=no-writes,allow-oom,allow-stale,no-cluster,allow-cross-slot-keys\nreturn 1";
        assert_eq!(header(line), Ok(all));
        assert_eq!(header("#!lua flags=\n"), Ok(Flags { declared: true, ..Flags::default() }));
    }

    #[test]
    fn bad_headers_are_worded_as_redis_words_them() {
        for (body, error) in [
            ("#!lua", "ERR Invalid script shebang"),
            ("#!py\nreturn 1", "ERR Unexpected engine in script shebang: #!py"),
            ("#!\nreturn 1", "ERR Unexpected engine in script shebang: #!"),
            ("#!lua flags=bad\nreturn 1", "ERR Unexpected flag in script shebang: bad"),
            ("#!lua foo=bad\nreturn 1", "ERR Unknown lua shebang option: foo=bad"),
            ("#!lua \"unb\nreturn 1", "ERR Invalid engine in script shebang"),
            ("#!lua flags=no-writes,\nreturn 1", "ERR Unexpected flag in script shebang: "),
            ("#!lua\0\nreturn 1", "ERR Invalid script shebang"),
        ] {
            assert_eq!(header(body).unwrap_err(), error, "{body}");
        }
    }

    #[test]
    fn code_keeps_the_line_numbers() {
        let script = Script::new(&b"#!lua\nreturn 1"[..]).unwrap();
        assert_eq!(script.code(), b"\nreturn 1");
    }
}
