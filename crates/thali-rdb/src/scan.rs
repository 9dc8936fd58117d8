//! Where a value ends, found without building it.
//!
//! Reads lengths and counts only; the bytes of strings are passed over. So one thread can cut a file into
//! records while others build the values.

use crate::error::Error;
use crate::input::Source;
use crate::wire::{kind, module, node, score};

/// Passes over a value of type `kind`, whose byte stood at `kind_at`. Refuses the types that nothing here
/// can hold.
pub(crate) fn value<S: Source>(kind: u8, kind_at: u64, source: &mut S) -> Result<(), Error> {
    match kind {
        kind::STRING
        | kind::HASH_ZIPMAP
        | kind::LIST_ZIPLIST
        | kind::SET_INTSET
        | kind::ZSET_ZIPLIST
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::ZSET_LISTPACK
        | kind::SET_LISTPACK
        | kind::HASH_LISTPACK_EX_PRE_RELEASE => source.skip_string("a value in one string"),
        kind::LIST | kind::SET | kind::LIST_QUICKLIST => {
            for _ in 0..source.count("the length of a collection")? {
                source.skip_string("an element of a collection")?;
            }
            Ok(())
        }
        kind::HASH => {
            for _ in 0..source.count("the length of a hash")? {
                source.skip_string("a field of a hash")?;
                source.skip_string("the value of a hash's field")?;
            }
            Ok(())
        }
        kind::HASH_METADATA | kind::HASH_METADATA_PRE_RELEASE | kind::HASH_2 => timed_hash(kind, source),
        kind::HASH_LISTPACK_EX => {
            source.take(TIME_BYTES, "the smallest time of a hash's fields")?;
            source.skip_string("a value in one string")
        }
        kind::ZSET | kind::ZSET_2 => sorted_set(kind, source),
        kind::LIST_QUICKLIST_2 => {
            for _ in 0..source.count("the length of a list")? {
                let at = source.offset();
                let form = source.count("the form of a list's node")?;
                if form != node::PLAIN && form != node::PACKED {
                    return Err(Error::damaged(at, "a plain or a packed node of a list"));
                }
                source.skip_string("a node of a list")?;
            }
            Ok(())
        }
        kind::STREAM_1 | kind::STREAM_2 | kind::STREAM_3 => stream(kind, source),
        kind::MODULE | kind::MODULE_PRE_RELEASE => {
            let id = source.count("the number of a module's type")?;
            Err(Error::unsupported(kind_at, refusal_of_module(id)))
        }
        _ => check_kind(kind, kind_at),
    }
}

/// Refuses bytes that are no type of value.
pub(crate) fn check_kind(kind: u8, kind_at: u64) -> Result<(), Error> {
    match kind {
        0..=kind::MODULE | kind::HASH_ZIPMAP..=kind::HASH_LISTPACK_EX => Ok(()),
        _ => Err(Error::damaged(kind_at, format!("a type of value or an opcode that is known, not {kind}"))),
    }
}

fn refusal_of_module(id: u64) -> String {
    let name = module_name(id);
    format!("a value of the module type \"{name}\" cannot be held; delete such keys before saving")
}

/// A module's type: nine characters of six bits, then ten bits of version.
/// SOURCE: redis 7.0 `module.c`, `moduleTypeEncodeId`.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|n| char::from(LETTERS[(id >> (58 - 6 * n)) as usize & 0x3F])).collect()
}

/// Of a time that stands as such.
const TIME_BYTES: u64 = 8;

fn timed_hash<S: Source>(kind: u8, source: &mut S) -> Result<(), Error> {
    if kind == kind::HASH_METADATA {
        source.take(TIME_BYTES, "the smallest time of a hash's fields")?;
    }
    for _ in 0..source.count("the length of a hash")? {
        if kind != kind::HASH_2 {
            source.count("the time of a hash's field")?;
        }
        source.skip_string("a field of a hash")?;
        source.skip_string("the value of a hash's field")?;
        if kind == kind::HASH_2 {
            source.take(TIME_BYTES, "the time of a hash's field")?;
        }
    }
    Ok(())
}

fn sorted_set<S: Source>(kind: u8, source: &mut S) -> Result<(), Error> {
    const SCORE: &str = "the score of a member";
    for _ in 0..source.count("the length of a sorted set")? {
        source.skip_string("a member of a sorted set")?;
        let len = match kind {
            kind::ZSET_2 => 8,
            _ => match source.byte(SCORE)? {
                score::NAN.. => 0,
                len => len.into(),
            },
        };
        source.take(len, SCORE)?;
    }
    Ok(())
}

fn stream<S: Source>(kind: u8, source: &mut S) -> Result<(), Error> {
    for _ in 0..source.count("the number of a stream's nodes")? {
        source.skip_string("the ID of a stream's node")?;
        source.skip_string("a node of a stream")?;
    }
    let counters = if kind == kind::STREAM_1 { 3 } else { 8 };
    for _ in 0..counters {
        source.count("a stream's counters")?;
    }
    for _ in 0..source.count("the number of a stream's groups")? {
        source.skip_string("the name of a group")?;
        for _ in 0..if kind == kind::STREAM_1 { 2 } else { 3 } {
            source.count("a group's last ID and entries read")?;
        }
        for _ in 0..source.count("the number of a group's pending entries")? {
            source.take(24, "a pending entry")?;
            source.count("how often an entry was delivered")?;
        }
        for _ in 0..source.count("the number of a group's consumers")? {
            source.skip_string("the name of a consumer")?;
            source.take(if kind == kind::STREAM_3 { 16 } else { 8 }, "a consumer's times")?;
            for _ in 0..source.count("the number of a consumer's pending entries")? {
                source.take(16, "the ID of a pending entry")?;
            }
        }
    }
    Ok(())
}

/// Passes over what a module wrote beside the keys: its number, the moment, then a list that ends.
pub(crate) fn module_aux<S: Source>(source: &mut S) -> Result<(), Error> {
    source.count("the number of a module's type")?;
    let at = source.offset();
    if source.count("the moment of a module's data")? != module::UNSIGNED {
        return Err(Error::damaged(at, "the moment of a module's data"));
    }
    source.count("the moment of a module's data")?;
    loop {
        let at = source.offset();
        match source.count("a part of a module's data")? {
            module::END => return Ok(()),
            module::SIGNED | module::UNSIGNED => drop(source.count("a number of a module")?),
            module::FLOAT => drop(source.take(4, "a number of a module")?),
            module::DOUBLE => drop(source.take(8, "a number of a module")?),
            module::STRING => source.skip_string("a string of a module")?,
            _ => return Err(Error::damaged(at, "a part of a module's data")),
        }
    }
}
