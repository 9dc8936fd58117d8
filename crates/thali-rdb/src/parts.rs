//! A large value in parts: who saves it under a lock need not hold that for all of it. Between two parts the
//! value must not change.

use thali_data::stream::StreamId;
use thali_data::{Hash, List, Set, SortedSet};
use thali_keyspace::Value;

use crate::encode::{Encoder, Strings, push_node};
use crate::stream;
use crate::wire::kind;
use crate::{KeyMeta, Version};

/// Where the next part of a value begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u128);

impl Place {
    /// As a number, for who only keeps it.
    pub fn to_bits(self) -> u128 {
        self.0
    }

    /// From [`Place::to_bits`] of the same value.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

/// Values with more elements are worth parts: that many take some 100 µs.
const LARGE_ELEMENTS_MIN: usize = 2048;

/// Whether a value is to be saved in parts. Other values are only saved whole.
pub fn is_large(value: &Value) -> bool {
    value.elements_len() > LARGE_ELEMENTS_MIN && Form::of(value).is_some()
}

/// The forms that have parts: those of values that grew beyond their packed encodings.
enum Form<'v> {
    List(&'v List),
    Set(&'v Set),
    Hash(&'v Hash),
    SortedSet(&'v SortedSet),
    Stream(&'v thali_data::Stream),
}

impl<'v> Form<'v> {
    fn of(value: &'v Value) -> Option<Self> {
        match value {
            Value::List(list) => Some(Self::List(list)),
            Value::Set(set) if set.encoding() == "hashtable" => Some(Self::Set(set)),
            Value::Hash(hash) if hash.encoding() == "hashtable" => Some(Self::Hash(hash)),
            Value::SortedSet(sorted_set) if sorted_set.encoding() == "skiplist" => {
                Some(Self::SortedSet(sorted_set))
            }
            Value::Stream(stream) => Some(Self::Stream(stream)),
            _ => None,
        }
    }
}

impl Encoder {
    /// Begins a key whose value is [`is_large`]; all its parts must follow.
    pub fn begin_key(&mut self, out: &mut Vec<u8>, key: &[u8], value: &Value, meta: KeyMeta) -> Place {
        let kind_at = self.push_head(out, key, meta);
        let (kind, place) = self.begin(out, value).expect("it is large");
        out[kind_at] = kind;
        place
    }

    /// The type of a value that has parts, and where they begin; its head is appended.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>, value: &Value) -> Option<(u8, Place)> {
        let (kind, count, first) = match Form::of(value)? {
            Form::List(list) => (kind::LIST_QUICKLIST_2, list.nodes().len(), 0),
            Form::Set(set) => (kind::SET, set.len(), 0),
            Form::Hash(hash) => match hash.next_time() {
                None => (kind::HASH, hash.len(), 0),
                Some(at) => {
                    out.extend_from_slice(&at.to_le_bytes());
                    (kind::HASH_METADATA, hash.len(), 0)
                }
            },
            // Highest first, as Redis does: its readers insert fastest at the head.
            Form::SortedSet(sorted_set) => (kind::ZSET_2, sorted_set.len(), sorted_set.len() as u128),
            Form::Stream(stream) if self.version >= Version::V11 => {
                (kind::STREAM_3, stream.log.node_count(), 0)
            }
            Form::Stream(stream) => (kind::STREAM_2, stream.log.node_count(), 0),
        };
        Strings::push_count(out, count as u64);
        Some((kind, Place(first)))
    }

    /// Appends about `elements` elements from `place` on; gives where it goes on, `None` at the end.
    pub fn part(&mut self, out: &mut Vec<u8>, value: &Value, place: Place, elements: usize) -> Option<Place> {
        let (version, strings) = (self.version, &mut self.strings);
        match Form::of(value).expect("it has parts") {
            Form::List(list) => {
                let nodes = list.nodes().skip(place.0 as usize);
                let mut left = elements;
                for (next, elements) in (place.0..).zip(nodes) {
                    if left == 0 {
                        return Some(Place(next));
                    }
                    push_node(strings, out, elements);
                    left = left.saturating_sub(elements.len());
                }
                None
            }
            Form::Set(set) => {
                let next = set.scan(place.0 as u64, elements, |member| strings.push_item(out, member));
                (next != 0).then_some(Place(next.into()))
            }
            Form::Hash(hash) => {
                let smallest = hash.next_time();
                let next = hash.scan_timed(place.0 as u64, elements, |field, value, at| {
                    if let Some(smallest) = smallest {
                        // Relative to the smallest, from 1 on; 0 is no time.
                        Strings::push_count(out, at.map_or(0, |at| at - smallest + 1));
                    }
                    strings.push_item(out, field);
                    strings.push_item(out, value);
                });
                (next != 0).then_some(Place(next.into()))
            }
            Form::SortedSet(sorted_set) => {
                let end = place.0 as usize;
                let start = end.saturating_sub(elements);
                for (member, score) in sorted_set.range(start..end).rev() {
                    strings.push(out, member);
                    out.extend_from_slice(&score.to_le_bytes());
                }
                (start > 0).then_some(Place(start as u128))
            }
            Form::Stream(stream) => {
                let from = StreamId::new((place.0 >> 64) as u64, place.0 as u64);
                let next = stream::write_nodes(&stream.log, from, elements, strings, out);
                if next.is_none() {
                    stream::write_rest(stream, stream::Layout::of(version), strings, out);
                }
                next.map(|id| Place(u128::from(id.ms) << 64 | u128::from(id.seq)))
            }
        }
    }
}
