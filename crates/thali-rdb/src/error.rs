//! What can be wrong with RDB bytes, and where.

use std::borrow::Cow;
use std::io;

/// What is wrong, and at which byte of the file or payload.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {fault}")]
pub struct Error {
    /// Counted from the first byte of the file or payload.
    pub offset: u64,
    pub fault: Fault,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the bytes cannot be read: {0}")]
    Io(io::Error),
    #[error("the data ends where {expected} was expected")]
    Truncated { expected: &'static str },
    #[error("expected {expected}")]
    Damaged { expected: Cow<'static, str> },
    /// Within an encoded collection, which may have been compressed: `at` counts its own bytes.
    #[error("damaged {part}: at its byte {at}, expected {expected}")]
    DamagedPart { part: &'static str, at: usize, expected: &'static str },
    /// Intact as far as is known, but nothing that can be held here.
    #[error("{0}")]
    Unsupported(String),
    #[error(
        "CRC error, the checksum does not match: {stored:016x} is stored, the bytes give {computed:016x}"
    )]
    Checksum { stored: u64, computed: u64 },
}

impl Error {
    pub(crate) fn damaged(offset: u64, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { offset, fault: Fault::Damaged { expected: expected.into() } }
    }

    pub(crate) fn unsupported(offset: u64, what: impl Into<String>) -> Self {
        Self { offset, fault: Fault::Unsupported(what.into()) }
    }
}

/// What is wrong within an encoded collection, before its place in the file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartFault {
    pub part: &'static str,
    pub at: usize,
    pub expected: &'static str,
}

impl PartFault {
    /// With the offset of the string that holds the collection.
    pub fn at_offset(self, offset: u64) -> Error {
        let Self { part, at, expected } = self;
        Error { offset, fault: Fault::DamagedPart { part, at, expected } }
    }
}
