//! What RESTORE takes: a value in a payload of its own.

use thali_data::Limits;
use thali_keyspace::Value;

use crate::error::{Error, Fault};
use crate::input::{Input, Source};
use crate::reader::is_known_version;
use crate::wire::{FOOTER_BYTES, kind};
use crate::{Checksum, decode, scan};

/// Why a payload is refused. Redis tells the two apart.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Version or checksum: the payload was made by a newer server, or damaged on its way.
    #[error("version or checksum: {0}")]
    Footer(Error),
    /// The payload is whole, but not a value that can be held.
    #[error("{0}")]
    Data(Error),
}

/// Builds the value of a payload that DUMP made. The limits decide its form.
pub fn restore(payload: &[u8], limits: &Limits) -> Result<Value, RestoreError> {
    restore_with(payload, limits, true)
}

/// As [`restore`], whatever the checksum says.
pub fn restore_unsummed(payload: &[u8], limits: &Limits) -> Result<Value, RestoreError> {
    restore_with(payload, limits, false)
}

/// What a payload that begins with this byte holds, in the words of Redis's log.
pub fn form_name(kind: u8) -> &'static str {
    match kind {
        kind::HASH_ZIPMAP => "Zipmap",
        kind::LIST_ZIPLIST => "List ziplist",
        kind::SET_INTSET => "Intset",
        kind::ZSET_ZIPLIST => "Zset ziplist",
        kind::HASH_ZIPLIST => "Hash ziplist",
        kind::LIST_QUICKLIST => "Quicklist ziplist",
        kind::LIST_QUICKLIST_2 => "Quicklist listpack",
        kind::HASH_LISTPACK => "Hash listpack",
        kind::ZSET_LISTPACK => "Zset listpack",
        kind::SET_LISTPACK => "Set listpack",
        kind::STREAM_1 | kind::STREAM_2 | kind::STREAM_3 => "Stream listpack",
        _ => "value",
    }
}

fn restore_with(payload: &[u8], limits: &Limits, checks_checksum: bool) -> Result<Value, RestoreError> {
    let (kind, body) = check_footer(payload, checks_checksum).map_err(RestoreError::Footer)?;
    value(kind, body, limits).map_err(RestoreError::Data)
}

/// The type and the bytes of the value.
fn check_footer(payload: &[u8], checks_checksum: bool) -> Result<(u8, &[u8]), Error> {
    let truncated =
        || Error { offset: payload.len() as u64, fault: Fault::Truncated { expected: "a payload" } };
    let (content, footer) = payload.split_last_chunk::<FOOTER_BYTES>().ok_or_else(truncated)?;
    let (&kind, body) = content.split_first().ok_or_else(truncated)?;
    let at = content.len() as u64;
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    if !is_known_version(version.into()) {
        return Err(Error::unsupported(at, format!("version {version} of the format is not known")));
    }
    let (summed, stored) = payload.split_last_chunk::<8>().ok_or_else(truncated)?;
    let (stored, computed) = (u64::from_le_bytes(*stored), Checksum::of(summed));
    if checks_checksum && stored != computed {
        return Err(Error { offset: at + 2, fault: Fault::Checksum { stored, computed } });
    }
    Ok((kind, body))
}

fn value(kind: u8, body: &[u8], limits: &Limits) -> Result<Value, Error> {
    let mut input = Input::new(body, 1);
    scan::check_kind(kind, 0)?;
    scan::value(kind, 0, &mut input.clone())?;
    let value = decode::value(kind, &mut input, limits)?;
    if !input.is_empty() {
        return Err(Error::damaged(input.offset(), "the end of the payload after the value"));
    }
    value.ok_or_else(|| Error::damaged(1, "a collection with elements"))
}
