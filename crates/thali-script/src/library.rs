//! A library of functions: its text, the `#!` line that opens it, and what it registers.

use std::sync::Arc;

use thali_resp::split_inline;

use crate::script::{Flags, header_end, printable};

/// What libraries and functions may be called.
pub(crate) const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// A function, as its library registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub description: Option<Vec<u8>>,
    pub flags: Flags,
}

/// Why a library cannot be had, worded for the client (without the leading dash).
///
/// SOURCE: checked against redis-server 7.0; the same in Valkey 8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    #[error("ERR Missing library metadata")]
    NoHeader,
    #[error("ERR Invalid library metadata")]
    Header,
    #[error("ERR Invalid metadata value given: {0}")]
    Option(String),
    #[error("ERR Invalid metadata value, name argument was given multiple times")]
    TwoNames,
    #[error("ERR Library name was not given")]
    NoName,
    #[error("ERR {BAD_NAME}")]
    Name,
    #[error("ERR Engine '{0}' not found")]
    Engine(String),
    #[error("ERR Error compiling function: {0}")]
    Compile(String),
    /// With the error's own code.
    #[error("ERR Error registering functions: {0}")]
    Register(String),
    #[error("ERR No functions registered")]
    Empty,
}

/// The text of a library, with the name that its first line gives. Clones share the text.
#[derive(Debug, Clone)]
pub struct LibraryText {
    name: String,
    text: Arc<[u8]>,
    /// Where the Lua code starts: at the newline that ends the `#!` line, so that line numbers stay true.
    code_start: usize,
}

impl LibraryText {
    /// Reads the `#!` line; [`crate::Libraries::load`] runs the rest.
    pub fn new(text: impl Into<Arc<[u8]>>) -> Result<Self, LibraryError> {
        let text = text.into();
        let end = header_end(&text).ok_or(LibraryError::Header)?.ok_or(LibraryError::NoHeader)?;
        let words = split_inline(&text[..end]).ok_or(LibraryError::Header)?;
        let (engine, options) = words.split_first().ok_or(LibraryError::Header)?;
        let mut name = None;
        for option in options {
            match option.split_at_checked(5) {
                Some((word, value)) if word.eq_ignore_ascii_case(b"name=") => match name.replace(value) {
                    None => {}
                    Some(_) => return Err(LibraryError::TwoNames),
                },
                _ => return Err(LibraryError::Option(printable(option))),
            }
        }
        let name = good_name(name.ok_or(LibraryError::NoName)?).ok_or(LibraryError::Name)?.to_owned();
        let engine = engine.get(2..).unwrap_or_default();
        if !engine.eq_ignore_ascii_case(b"lua") {
            return Err(LibraryError::Engine(printable(engine)));
        }
        Ok(Self { name, text, code_start: end })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text, the `#!` line included.
    pub fn text(&self) -> &Arc<[u8]> {
        &self.text
    }

    pub(crate) fn code(&self) -> &[u8] {
        &self.text[self.code_start..]
    }
}

/// A library that was loaded once, and so is known to work.
#[derive(Debug)]
pub struct Library {
    text: LibraryText,
    /// In the order of their registration.
    functions: Vec<Function>,
}

impl Library {
    pub(crate) fn new(text: LibraryText, functions: Vec<Function>) -> Self {
        Self { text, functions }
    }

    pub fn name(&self) -> &str {
        self.text.name()
    }

    /// The whole text, as FUNCTION LOAD takes it.
    pub fn text(&self) -> &Arc<[u8]> {
        self.text.text()
    }

    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    pub(crate) fn source(&self) -> &LibraryText {
        &self.text
    }
}

/// The bytes as a name, if libraries and functions may be called so.
pub(crate) fn good_name(name: &[u8]) -> Option<&str> {
    let is_good = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    std::str::from_utf8(name).ok().filter(|_| is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_gives_engine_and_name() {
        for (line, name) in [
            ("#!lua name=a", "a"),
            ("#!LUA NAME=a", "a"),
            ("#!lua  name=a  ", "a"),
            ("#!lua name=\"a_1\"", "a_1"),
            ("#!lua name='a'", "a"),
            ("#!lua name=\"\\x41\"", "A"),
        ] {
            let text = LibraryText::new(format!("{line}\nreturn 1").as_bytes()).unwrap();
            assert_eq!(text.name(), name, "{line}");
            assert_eq!(text.code(), b"\nreturn 1", "{line}");
        }
    }

    #[test]
    fn bad_first_lines_are_worded_as_redis_words_them() {
        let bad_name = format!("ERR {BAD_NAME}");
        for (text, error) in [
            ("return 1", "ERR Missing library metadata"),
            ("", "ERR Missing library metadata"),
            ("#!lua name=a", "ERR Invalid library metadata"),
            ("#!lua name=a\0b\n", "ERR Invalid library metadata"),
            ("#!lua \"unb\n", "ERR Invalid library metadata"),
            ("#!lua name=\"a\"b\n", "ERR Invalid library metadata"),
            ("#!lua\n", "ERR Library name was not given"),
            ("#!\n", "ERR Library name was not given"),
            ("#!lua name=\n", &bad_name),
            ("#!lua name=a-b\n", &bad_name),
            ("#!lua name=a\\\n", &bad_name),
            ("#!py name=a\n", "ERR Engine 'py' not found"),
            ("#! name=a\n", "ERR Engine '' not found"),
            ("#!lua name=a x=1\n", "ERR Invalid metadata value given: x=1"),
            ("#!lua name=a name=b\n", "ERR Invalid metadata value, name argument was given multiple times"),
        ] {
            assert_eq!(LibraryText::new(text.as_bytes()).unwrap_err().to_string(), error, "{text}");
        }
    }
}
