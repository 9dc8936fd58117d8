//! What is in a file, and where it is damaged.

use std::collections::BTreeMap;
use std::io::Read;

use thali_data::Limits;

use crate::error::Error;
use crate::reader::{ChecksumVerdict, Reader, Record};
use crate::wire::{CHECKSUM_VERSION_MIN, kind, opcode};

/// Notes beyond so many are read, but not listed.
const AUX_LISTED_MAX: usize = 64;

/// What a file holds up to its end or its first damage.
#[derive(Debug, Default)]
pub struct Summary {
    /// Of the format.
    pub version: u32,
    /// Notes with their values, the first 64.
    pub aux: Vec<(Vec<u8>, Vec<u8>)>,
    /// Libraries of functions.
    pub functions: u64,
    /// By number.
    pub dbs: BTreeMap<u32, DbSummary>,
    /// By the name that TYPE replies.
    pub types: BTreeMap<&'static str, TypeSummary>,
    /// Collections without elements, which loading leaves out. Not counted elsewhere.
    pub empty_keys: u64,
    /// What the end of the file says; `None` where it was not reached.
    pub checksum: Option<ChecksumVerdict>,
    /// The first damage; nothing behind it was looked at.
    pub damage: Option<Error>,
    /// Bytes in front of the end mark or the damaged record.
    pub intact_bytes: u64,
    /// What makes the first [`Summary::intact_bytes`] a whole file of their own.
    pub tail: Vec<u8>,
    /// Bytes of the file, from the magic to the end mark and checksum, or to the damage.
    pub bytes: u64,
}

/// Of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbSummary {
    pub keys: u64,
    /// Keys with a time to live.
    pub expiring: u64,
    /// Hashes with fields that have times.
    pub timed_hashes: u64,
}

/// Of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeSummary {
    pub keys: u64,
    /// Bytes of the values in the file.
    pub bytes: u64,
    pub largest_bytes: u64,
}

impl Summary {
    /// All keys.
    pub fn keys(&self) -> u64 {
        self.dbs.values().map(|db| db.keys).sum()
    }

    fn count(&mut self, record: Record<'_>, limits: &Limits) -> Result<(), Error> {
        match record {
            Record::Aux { name, value } if self.aux.len() < AUX_LISTED_MAX => {
                self.aux.push((name.into_owned(), value.into_owned()));
            }
            Record::Function(_) => self.functions += 1,
            Record::Key(key) => {
                let Some(value) = key.value(limits)? else {
                    self.empty_keys += 1;
                    return Ok(());
                };
                let db = self.dbs.entry(key.db).or_default();
                db.keys += 1;
                db.expiring += u64::from(key.meta.expire_at_unix_ms.is_some());
                db.timed_hashes += u64::from(value.next_field_time().is_some());
                let of_type = self.types.entry(key.type_name()).or_default();
                let bytes = key.body_len() as u64;
                of_type.keys += 1;
                of_type.bytes += bytes;
                of_type.largest_bytes = of_type.largest_bytes.max(bytes);
            }
            Record::End { checksum } => self.checksum = Some(checksum),
            Record::Aux { .. } | Record::SelectDb(_) | Record::ResizeDb { .. } => {}
        }
        Ok(())
    }
}

/// Reads a whole file and builds each of its values, one at a time. An error says that there is not even
/// the beginning of an RDB file; any other damage stands in the summary.
pub fn inspect(source: impl Read, limits: &Limits) -> Result<Summary, Error> {
    let mut reader = Reader::new(source)?;
    let mut summary = Summary { version: reader.version(), ..Summary::default() };
    let mut checksum = reader.checksum().clone();
    while summary.checksum.is_none() {
        summary.intact_bytes = reader.offset();
        checksum.clone_from(reader.checksum());
        let outcome = reader.next().and_then(|record| summary.count(record, limits));
        if let Err(error) = outcome {
            summary.damage = Some(error);
            break;
        }
    }
    summary.bytes = reader.offset();
    summary.tail.push(opcode::EOF);
    if summary.version >= CHECKSUM_VERSION_MIN {
        checksum.update(&[opcode::EOF]);
        summary.tail.extend_from_slice(&checksum.value().to_le_bytes());
    }
    Ok(summary)
}

/// The name that TYPE replies for a value of type `kind`.
pub(crate) fn type_name(kind: u8) -> &'static str {
    match kind {
        kind::STRING => "string",
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => "list",
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => "set",
        kind::ZSET | kind::ZSET_2 | kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => "zset",
        kind::STREAM_1 | kind::STREAM_2 | kind::STREAM_3 => "stream",
        _ => "hash",
    }
}
