//! What RESTORE and FUNCTION RESTORE take: a value, or libraries, in a payload of their own.

use thali_data::Limits;
use thali_keyspace::Value;

use crate::error::{Error, Fault};
use crate::input::{Input, Source};
use crate::reader::is_known_version;
use crate::wire::{FOOTER_BYTES, kind, opcode};
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

/// Why libraries are refused. Redis has words for each.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFunctionsError {
    /// Version or checksum: the payload was made by a newer server, or damaged on its way.
    #[error("version or checksum: {0}")]
    Footer(Error),
    /// Libraries in the form of a release candidate of Redis 7.0.
    #[error("at byte {0}: a library in a form that is not known any more")]
    PreRelease(u64),
    #[error("at byte {0}: something else than a library")]
    Other(u64),
    #[error("{0}")]
    Damaged(Error),
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
        kind::HASH_LISTPACK | kind::HASH_LISTPACK_EX | kind::HASH_LISTPACK_EX_PRE_RELEASE => "Hash listpack",
        kind::ZSET_LISTPACK => "Zset listpack",
        kind::SET_LISTPACK => "Set listpack",
        kind::STREAM_1 | kind::STREAM_2 | kind::STREAM_3 => "Stream listpack",
        _ => "value",
    }
}

fn restore_with(payload: &[u8], limits: &Limits, checks_checksum: bool) -> Result<Value, RestoreError> {
    let (content, version) = check_footer(payload, checks_checksum).map_err(RestoreError::Footer)?;
    let (&kind, body) =
        content.split_first().ok_or_else(|| RestoreError::Footer(truncated(payload.len())))?;
    value(version, kind, body, limits).map_err(RestoreError::Data)
}

/// The texts of the libraries in a payload that FUNCTION DUMP made.
pub fn restore_functions(payload: &[u8]) -> Result<Vec<Vec<u8>>, RestoreFunctionsError> {
    let (content, _) = check_footer(payload, true).map_err(RestoreFunctionsError::Footer)?;
    let mut input = Input::new(content, 0);
    let mut libraries = Vec::new();
    while !input.is_empty() {
        let at = input.offset();
        match input.byte("a library").map_err(RestoreFunctionsError::Damaged)? {
            opcode::FUNCTION => {}
            opcode::FUNCTION_PRE_RELEASE => return Err(RestoreFunctionsError::PreRelease(at)),
            _ => return Err(RestoreFunctionsError::Other(at)),
        }
        let text = input.text("the text of a library").map_err(RestoreFunctionsError::Damaged)?;
        libraries.push(text.into_bytes().into_owned());
    }
    Ok(libraries)
}

fn truncated(len: usize) -> Error {
    Error { offset: len as u64, fault: Fault::Truncated { expected: "a payload" } }
}

/// What stands before the footer, and the version in it.
fn check_footer(payload: &[u8], checks_checksum: bool) -> Result<(&[u8], u32), Error> {
    let truncated = || truncated(payload.len());
    let (content, footer) = payload.split_last_chunk::<FOOTER_BYTES>().ok_or_else(truncated)?;
    let at = content.len() as u64;
    let version = u32::from(u16::from_le_bytes([footer[0], footer[1]]));
    if !is_known_version(version) {
        return Err(Error::unsupported(at, format!("version {version} of the format is not known")));
    }
    let (summed, stored) = payload.split_last_chunk::<8>().ok_or_else(truncated)?;
    let (stored, computed) = (u64::from_le_bytes(*stored), Checksum::of(summed));
    if checks_checksum && stored != computed {
        return Err(Error { offset: at + 2, fault: Fault::Checksum { stored, computed } });
    }
    Ok((content, version))
}

fn value(version: u32, kind: u8, body: &[u8], limits: &Limits) -> Result<Value, Error> {
    let mut input = Input::new(body, 1);
    scan::check_kind(kind, 0)?;
    let kind = kind::of(version, kind);
    scan::value(kind, 0, &mut input.clone())?;
    let value = decode::value(kind, &mut input, limits)?;
    if !input.is_empty() {
        return Err(Error::damaged(input.offset(), "the end of the payload after the value"));
    }
    value.ok_or_else(|| Error::damaged(1, "a collection with elements"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoder, Version};

    #[test]
    fn libraries_come_back_from_their_payload() {
        let long = [b"#!lua name=long\n".as_slice(), &b"-- same again\n".repeat(100)].concat();
        for libraries in [vec![], vec![b"#!lua name=a\n".to_vec()], vec![long.clone(), b"12".to_vec(), long]]
        {
            for mut encoder in [Encoder::new(Version::V10), Encoder::uncompressed(Version::V10)] {
                let payload = encoder.dump_functions(libraries.iter().map(Vec::as_slice));
                assert_eq!(restore_functions(&payload).unwrap(), libraries);
            }
        }
    }

    #[test]
    fn what_is_no_payload_of_libraries_is_refused() {
        let signed = |content: &[u8]| {
            let mut out = [content, &10u16.to_le_bytes()].concat();
            out.extend_from_slice(&Checksum::of(&out).to_le_bytes());
            out
        };
        let check = |payload: &[u8]| match restore_functions(payload).unwrap_err() {
            RestoreFunctionsError::Footer(_) => "footer",
            RestoreFunctionsError::PreRelease(_) => "pre-release",
            RestoreFunctionsError::Other(_) => "other",
            RestoreFunctionsError::Damaged(_) => "damaged",
        };
        assert_eq!(check(b""), "footer");
        assert_eq!(check(&[0; 10]), "footer");
        assert_eq!(check(&signed(b"\0\x01a")), "other");
        assert_eq!(check(&signed(b"\xf6\x01a")), "pre-release");
        assert_eq!(check(&signed(b"\xf5")), "damaged");
        assert_eq!(check(&signed(b"\xf5\x05abc")), "damaged");
        assert_eq!(check(&signed(b"\xf5\x81\x7f\xff\xff\xff\xff\xff\xff\xff")), "damaged");
        let mut flipped = signed(b"\xf5\x01a");
        flipped[2] ^= 1;
        assert_eq!(check(&flipped), "footer");
    }
}
