//! From the bytes of a value to the value.

use thali_data::hash::TIME_MAX_UNIX_MS;
use thali_data::list::End;
use thali_data::sorted_set::Inserted;
use thali_data::{Hash, IntBuf, Item, Limits, List, Set, SortedSet, Str, double};
use thali_keyspace::{Typed, Value};

use crate::blob::Form;
use crate::error::Error;
use crate::input::{Input, Source};
use crate::stream::{self, Layout};
use crate::wire::{kind, node, score};

/// Reads a value of type `kind`; the limits decide its form. `None` is a collection without elements: old
/// servers wrote some.
///
/// A type that cannot be held here is refused by [`crate::scan::value`], which runs before.
pub(crate) fn value(kind: u8, input: &mut Input<'_>, limits: &Limits) -> Result<Option<Value>, Error> {
    match kind {
        kind::STRING => {
            let text = input.text("a string")?;
            Ok(Some(Value::Str(Str::from(text.item()))))
        }
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => {
            let list = list(kind, input, limits)?;
            Ok((!list.is_empty()).then(|| list.into_value()))
        }
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => {
            let set = set(kind, input, limits)?;
            Ok((!set.is_empty()).then(|| set.into_value()))
        }
        kind::HASH | kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            let hash = hash(kind, input, limits)?;
            Ok((!hash.is_empty()).then(|| hash.into_value()))
        }
        kind::HASH_METADATA | kind::HASH_METADATA_PRE_RELEASE | kind::HASH_2 => {
            let hash = timed_hash(kind, input, limits)?;
            Ok((!hash.is_empty()).then(|| hash.into_value()))
        }
        kind::HASH_LISTPACK_EX | kind::HASH_LISTPACK_EX_PRE_RELEASE => {
            let hash = timed_listpack(kind, input, limits)?;
            Ok((!hash.is_empty()).then(|| hash.into_value()))
        }
        kind::ZSET | kind::ZSET_2 | kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => {
            let sorted_set = sorted_set(kind, input, limits)?;
            Ok((!sorted_set.is_empty()).then(|| sorted_set.into_value()))
        }
        kind::STREAM_1 => stream::read(Layout::One, input, limits).map(|s| Some(s.into_value())),
        kind::STREAM_2 => stream::read(Layout::Two, input, limits).map(|s| Some(s.into_value())),
        kind::STREAM_3 => stream::read(Layout::Three, input, limits).map(|s| Some(s.into_value())),
        _ => Err(Error::damaged(input.offset(), "a type of value that can be read")),
    }
}

fn list(kind: u8, input: &mut Input<'_>, limits: &Limits) -> Result<List, Error> {
    let mut list = List::new();
    let node = |form: Form, list: &mut List, input: &mut Input<'_>| {
        let blob = input.blob("a node of a list")?;
        form.each(&blob, |item| {
            list.push_item(End::Back, item, limits);
            Ok(())
        })
    };
    if kind == kind::LIST_ZIPLIST {
        node(Form::Ziplist, &mut list, input)?;
        return Ok(list);
    }
    for _ in 0..input.count("the length of a list")? {
        let at = input.offset();
        let packed = match kind {
            kind::LIST => None,
            kind::LIST_QUICKLIST => Some(Form::Ziplist),
            _ => match input.count("the form of a list's node")? {
                node::PLAIN => None,
                node::PACKED => Some(Form::Listpack),
                _ => return Err(Error::damaged(at, "a plain or a packed node of a list")),
            },
        };
        match packed {
            Some(form) => node(form, &mut list, input)?,
            None => {
                let element = input.text("an element of a list")?;
                // Plain nodes are for large elements.
                if kind == kind::LIST_QUICKLIST_2 && element.item().with_bytes(<[u8]>::is_empty) {
                    return Err(Error::damaged(at, "a plain node with an element"));
                }
                list.push_item(End::Back, element.item(), limits);
            }
        }
    }
    Ok(list)
}

fn set(kind: u8, input: &mut Input<'_>, limits: &Limits) -> Result<Set, Error> {
    const DUPLICATE: &str = "a member that the set does not have yet";
    let mut set = Set::new();
    let form = match kind {
        kind::SET_INTSET => Form::Intset,
        kind::SET_LISTPACK => Form::Listpack,
        _ => {
            let count = input.count("the length of a set")?;
            // A hint for the form only: it takes no memory before members come.
            set.anticipate(usize::try_from(count).unwrap_or(usize::MAX), limits);
            for _ in 0..count {
                let at = input.offset();
                if !set.add_item(input.text("a member of a set")?.item(), limits) {
                    return Err(Error::damaged(at, DUPLICATE));
                }
            }
            return Ok(set);
        }
    };
    let blob = input.blob("a set in one string")?;
    form.each(&blob, |item| if set.add_item(item, limits) { Ok(()) } else { Err(DUPLICATE) })?;
    Ok(set)
}

const DUPLICATE_FIELD: &str = "a field that the hash does not have yet";
const FIELD_TIME: &str = "the time of a hash's field, below 2^48";

fn hash(kind: u8, input: &mut Input<'_>, limits: &Limits) -> Result<Hash, Error> {
    let mut hash = Hash::new();
    let mut scratch = IntBuf::new();
    let form = match kind {
        kind::HASH_ZIPMAP => Form::Zipmap,
        kind::HASH_ZIPLIST => Form::Ziplist,
        kind::HASH_LISTPACK => Form::Listpack,
        _ => {
            for _ in 0..input.count("the length of a hash")? {
                let at = input.offset();
                let field = input.text("a field of a hash")?;
                let value = input.text("the value of a hash's field")?;
                if !hash.set(field.item().bytes(&mut scratch), value.item(), limits) {
                    return Err(Error::damaged(at, DUPLICATE_FIELD));
                }
            }
            return Ok(hash);
        }
    };
    let blob = input.blob("a hash in one string")?;
    form.each_pair(&blob, |field, value| {
        let new = hash.set(field.bytes(&mut scratch), value, limits);
        if new { Ok(()) } else { Err(DUPLICATE_FIELD) }
    })?;
    Ok(hash)
}

/// SOURCE: redis 8.0 `rdb.c`, `rdbLoadObject`; valkey 9.0 `rdb.c`.
fn timed_hash(kind: u8, input: &mut Input<'_>, limits: &Limits) -> Result<Hash, Error> {
    let mut hash = Hash::new();
    let mut scratch = IntBuf::new();
    let smallest = match kind {
        kind::HASH_METADATA => u64::from_le_bytes(input.array(FIELD_TIME)?),
        _ => 1,
    };
    for _ in 0..input.count("the length of a hash")? {
        let at = input.offset();
        // Relative to the smallest, from 1 on; 0 is no time.
        let after_smallest = if kind == kind::HASH_2 { 0 } else { input.count(FIELD_TIME)? };
        let field = input.text("a field of a hash")?;
        let value = input.text("the value of a hash's field")?;
        let time = match kind {
            // -1 is no time.
            kind::HASH_2 => match i64::from_le_bytes(input.array(FIELD_TIME)?) {
                -1 => None,
                time => Some(u64::try_from(time).map_err(|_| Error::damaged(at, FIELD_TIME))?.max(1)),
            },
            _ => after_smallest.checked_sub(1).map(|after| after.saturating_add(smallest)),
        };
        let (field, value) = (field.item(), value.item());
        add_timed(&mut hash, field.bytes(&mut scratch), value, time, limits)
            .map_err(|expected| Error::damaged(at, expected))?;
    }
    Ok(hash)
}

fn timed_listpack(kind: u8, input: &mut Input<'_>, limits: &Limits) -> Result<Hash, Error> {
    let mut hash = Hash::new();
    let mut scratch = IntBuf::new();
    if kind == kind::HASH_LISTPACK_EX {
        input.array::<8>("the smallest time of a hash's fields")?;
    }
    let blob = input.blob("a hash in one string")?;
    Form::Listpack.each_triple(&blob, |field, value, time| {
        let time = time.as_int().and_then(|time| u64::try_from(time).ok()).ok_or(FIELD_TIME)?;
        add_timed(&mut hash, field.bytes(&mut scratch), value, Some(time).filter(|time| *time != 0), limits)
    })?;
    Ok(hash)
}

fn add_timed(
    hash: &mut Hash,
    field: &[u8],
    value: Item<'_>,
    time: Option<u64>,
    limits: &Limits,
) -> Result<(), &'static str> {
    if time.is_some_and(|time| !(1..=TIME_MAX_UNIX_MS).contains(&time)) {
        return Err(FIELD_TIME);
    }
    if !hash.set(field, value, limits) {
        return Err(DUPLICATE_FIELD);
    }
    if time.is_some() {
        hash.set_time(field, time);
    }
    Ok(())
}

fn sorted_set(kind: u8, input: &mut Input<'_>, limits: &Limits) -> Result<SortedSet, Error> {
    const DUPLICATE: &str = "a member that the sorted set does not have yet";
    const SCORE: &str = "a score that is a number";
    let mut sorted_set = SortedSet::new();
    let mut scratch = IntBuf::new();
    let form = match kind {
        kind::ZSET_ZIPLIST => Form::Ziplist,
        kind::ZSET_LISTPACK => Form::Listpack,
        _ => {
            for _ in 0..input.count("the length of a sorted set")? {
                let at = input.offset();
                let member = input.text("a member of a sorted set")?;
                let score_at = input.offset();
                let score = if kind == kind::ZSET { text_score(input)? } else { binary_score(input)? };
                if score.is_nan() {
                    return Err(Error::damaged(score_at, SCORE));
                }
                let member = member.item();
                if sorted_set.insert(member.bytes(&mut scratch), score, limits) != Inserted::Added {
                    return Err(Error::damaged(at, DUPLICATE));
                }
            }
            return Ok(sorted_set);
        }
    };
    let blob = input.blob("a sorted set in one string")?;
    form.each_pair(&blob, |member, score| {
        let score = match score {
            Item::Int(n) => Some(n as f64),
            Item::Bytes(text) => double::parse_double(text),
        };
        let inserted = sorted_set.insert(member.bytes(&mut scratch), score.ok_or(SCORE)?, limits);
        if inserted == Inserted::Added { Ok(()) } else { Err(DUPLICATE) }
    })?;
    Ok(sorted_set)
}

fn binary_score(input: &mut Input<'_>) -> Result<f64, Error> {
    Ok(f64::from_le_bytes(input.array("the score of a member")?))
}

fn text_score(input: &mut Input<'_>) -> Result<f64, Error> {
    const EXPECTED: &str = "the score of a member";
    let at = input.offset();
    Ok(match input.byte(EXPECTED)? {
        score::NAN => f64::NAN,
        score::INFINITE => f64::INFINITY,
        score::NEGATIVE_INFINITE => f64::NEG_INFINITY,
        len => {
            let text = input.slice(len.into(), EXPECTED)?;
            double::parse_double(text).ok_or_else(|| Error::damaged(at, EXPECTED))?
        }
    })
}
