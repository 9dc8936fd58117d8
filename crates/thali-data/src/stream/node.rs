//! Up to a hundred stream entries in one run of bytes.
//!
//! Layout, numbers in LEB128, strings as length and bytes:
//! ```text
//! field count, field names            the template: the names of the node's first entry
//! then for each entry
//!   flags (1 byte)                    1 = deleted, 2 = has the template's field names, 4 = next ID
//!   ms − base.ms                      unless its ID is the one that follows the ID of the entry in front
//!   seq − base.seq, folded            neither then; wrapping difference, so that small ones stay short
//!   length of what follows            so that a reader may skip the entry; not in front of a single value of
//!                                     the template, which begins with its length
//!   values                            if it has the template's names, else
//!   field count, (name, value)…
//! ```
//! The base is the ID of the node's first entry and the node's key in the log. Deleting sets a flag: the bytes
//! go when the node's last live entry does, at most a hundred entries later.

use super::id::StreamId;
use crate::{Limits, varint};

/// A node grows no further, even where the configuration sets no bound. A single larger entry has a node of
/// its own.
const NODE_BYTES_MAX: usize = 1 << 30;

const DELETED: u8 = 1;
const TEMPLATE_NAMES: u8 = 2;
const NEXT_ID: u8 = 4;

#[derive(Clone)]
pub(super) struct Node {
    bytes: Vec<u8>,
    /// Where the entries begin.
    entries_at: u32,
    live: u32,
    deleted: u32,
    last: StreamId,
}

impl Node {
    /// A node whose template is this entry's names; the entry itself is still to be pushed.
    pub fn new<F: AsRef<[u8]>>(base: StreamId, fields: &[F]) -> Self {
        let mut bytes = Vec::new();
        varint::push(&mut bytes, (fields.len() / 2) as u64);
        for pair in fields.chunks_exact(2) {
            push_string(&mut bytes, pair[0].as_ref());
        }
        Self { entries_at: bytes.len() as u32, bytes, live: 0, deleted: 0, last: base }
    }

    pub fn live(&self) -> u64 {
        u64::from(self.live)
    }

    /// The greatest ID that was ever pushed, deleted or not.
    pub fn last(&self) -> StreamId {
        self.last
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether an entry may still go here: `stream-node-max-bytes` and `-entries`, where 0 is no bound.
    pub fn has_room(&self, payload_bytes: usize, limits: &Limits) -> bool {
        let or_unbounded = |limit: usize, unbounded: usize| if limit == 0 { unbounded } else { limit };
        let bytes_max = or_unbounded(limits.stream_node_max_bytes, NODE_BYTES_MAX).min(NODE_BYTES_MAX);
        let entries_max = or_unbounded(limits.stream_node_max_entries, usize::MAX);
        let entries = (self.live + self.deleted) as usize;
        self.bytes.len() + payload_bytes < bytes_max && entries < entries_max
    }

    /// No entry will follow: gives spare room back.
    pub fn seal(&mut self) {
        self.bytes.shrink_to_fit();
    }

    pub fn push<F: AsRef<[u8]>>(&mut self, base: StreamId, id: StreamId, fields: &[F]) {
        let same_names = self.template_is(fields);
        let is_next = self.last.next() == Some(id);
        self.bytes.push(if same_names { TEMPLATE_NAMES } else { 0 } | if is_next { NEXT_ID } else { 0 });
        if !is_next {
            varint::push(&mut self.bytes, id.ms - base.ms);
            varint::push(&mut self.bytes, varint::fold(id.seq.wrapping_sub(base.seq) as i64));
        }
        let count = (fields.len() / 2) as u64;
        let strings = || fields.iter().skip(usize::from(same_names)).step_by(1 + usize::from(same_names));
        if !(same_names && count == 1) {
            let count_len = if same_names { 0 } else { varint::len(count) };
            let strings_len: usize = strings().map(|string| string_len(string.as_ref())).sum();
            varint::push(&mut self.bytes, (count_len + strings_len) as u64);
        }
        if !same_names {
            varint::push(&mut self.bytes, count);
        }
        strings().for_each(|string| push_string(&mut self.bytes, string.as_ref()));
        self.live += 1;
        self.last = id;
    }

    /// Whether an entry with the template's names is one value.
    fn has_one_name(&self) -> bool {
        self.bytes[0] == 1
    }

    fn template_is<F: AsRef<[u8]>>(&self, fields: &[F]) -> bool {
        let mut rest = self.bytes.as_slice();
        let count = varint::take(&mut rest) as usize;
        count == fields.len() / 2
            && fields.chunks_exact(2).all(|pair| take_string(&mut rest) == pair[0].as_ref())
    }

    /// The live entries in order.
    pub fn walk(&self, base: StreamId) -> NodeWalk<'_> {
        NodeWalk { node: self, base, last: base, offset: self.entries_at as usize }
    }

    /// Marks as deleted, from the front, up to `count_max` live entries whose IDs `doomed` accepts, stopping at
    /// the first that it refuses. Gives their number.
    pub fn delete_front(&mut self, base: StreamId, count_max: u64, doomed: impl Fn(StreamId) -> bool) -> u64 {
        let mut walk = self.walk(base);
        let mut flag_offsets = Vec::new();
        while (flag_offsets.len() as u64) < count_max
            && let Some((offset, entry)) = walk.next_with_offset()
        {
            if !doomed(entry.id) {
                break;
            }
            flag_offsets.push(offset);
        }
        for &offset in &flag_offsets {
            self.mark_deleted(offset);
        }
        flag_offsets.len() as u64
    }

    /// Marks one entry as deleted.
    pub fn delete(&mut self, base: StreamId, id: StreamId) -> bool {
        let mut walk = self.walk(base);
        while let Some((offset, entry)) = walk.next_with_offset() {
            if entry.id == id {
                self.mark_deleted(offset);
                return true;
            }
            if entry.id > id {
                return false;
            }
        }
        false
    }

    fn mark_deleted(&mut self, flag_offset: usize) {
        self.bytes[flag_offset] |= DELETED;
        self.live -= 1;
        self.deleted += 1;
    }
}

/// A stream entry, borrowed from its stream.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub id: StreamId,
    fields: Fields<'a>,
}

impl<'a> Entry<'a> {
    /// Names and values in the order in which they were added.
    pub fn fields(&self) -> Fields<'a> {
        self.fields
    }
}

/// The fields of an entry: (name, value) pairs.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    /// What is left of the template's names, if the entry has them.
    template: Option<&'a [u8]>,
    body: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.template {
            Some(names) => take_string(names),
            None => take_string(&mut self.body),
        };
        Some((name, take_string(&mut self.body)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

#[derive(Clone)]
pub(super) struct NodeWalk<'a> {
    node: &'a Node,
    base: StreamId,
    /// The ID of the entry in front.
    last: StreamId,
    offset: usize,
}

impl<'a> NodeWalk<'a> {
    fn next_with_offset(&mut self) -> Option<(usize, Entry<'a>)> {
        let node = self.node;
        loop {
            let offset = self.offset;
            let (&flags, mut rest) = node.bytes[offset..].split_first()?;
            let id = if flags & NEXT_ID != 0 {
                self.last.next().expect("an entry with this ID was pushed")
            } else {
                let ms = self.base.ms + varint::take(&mut rest);
                StreamId::new(ms, self.base.seq.wrapping_add(varint::unfold(varint::take(&mut rest)) as u64))
            };
            self.last = id;
            let body_len = if flags & TEMPLATE_NAMES != 0 && node.has_one_name() {
                let mut behind = rest;
                take_string(&mut behind);
                rest.len() - behind.len()
            } else {
                varint::take(&mut rest) as usize
            };
            let (mut body, rest) = rest.split_at(body_len);
            self.offset = node.bytes.len() - rest.len();
            if flags & DELETED != 0 {
                continue;
            }
            let fields = if flags & TEMPLATE_NAMES != 0 {
                let mut names = &node.bytes[..node.entries_at as usize];
                let left = varint::take(&mut names) as usize;
                Fields { template: Some(names), body, left }
            } else {
                let left = varint::take(&mut body) as usize;
                Fields { template: None, body, left }
            };
            return Some((offset, Entry { id, fields }));
        }
    }
}

impl<'a> Iterator for NodeWalk<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.next_with_offset().map(|(_, entry)| entry)
    }
}

fn push_string(out: &mut Vec<u8>, string: &[u8]) {
    varint::push(out, string.len() as u64);
    out.extend_from_slice(string);
}

fn string_len(string: &[u8]) -> usize {
    varint::len(string.len() as u64) + string.len()
}

fn take_string<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = varint::take(rest) as usize;
    let (string, tail) = rest.split_at(len);
    *rest = tail;
    string
}
