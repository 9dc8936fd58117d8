//! Streams: nodes of entries, counters, groups with consumers and pending entries.
//!
//! ```text
//! nodes: their number, then for each a string with the base ID (16 bytes BE) and a string with a listpack
//! length, last ID; since layout 2: first ID, greatest deleted ID, entries added
//! groups: their number, then for each
//!   name, last ID; since layout 2: entries read (2^64 - 1 = unknown)
//!   pending entries: their number, then ID (16 bytes BE), delivery time (ms, 8 bytes LE), deliveries
//!   consumers: their number, then name, seen time; since layout 3: active time (ms, 8 bytes LE, -1 = never)
//!     their pending entries: the number, then the IDs (16 bytes BE)
//!
//! a node's listpack: live entries, deleted entries, field count, field names, 0; then for each entry
//!   flags (1 = deleted, 2 = has the node's field names), ms - base.ms, seq - base.seq,
//!   values; or field count, then names and values in turn
//!   elements of this entry so far
//! ```
//! Deleted entries are not taken over. SOURCE: redis 7.2 `rdb.c`, `t_stream.c`.

use std::collections::BTreeMap;

use thali_data::stream::{Entry, Group, Log, Pending, StreamId};
use thali_data::{IntBuf, Item, Limits, Stream};

use crate::Version;
use crate::blob::{Elements, Listpack, ListpackWriter};
use crate::encode::Strings;
use crate::error::{Error, PartFault};
use crate::input::{Blob, Input, Source};
use crate::wire::entry;

/// Which fields are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    One,
    Two,
    Three,
}

impl Layout {
    /// The one that is written.
    pub fn of(version: Version) -> Self {
        if version >= Version::V11 { Self::Three } else { Self::Two }
    }
}

/// Entries may share the names of their node, and names may be long: unshared, the fields of a node take at
/// most so many times the node's bytes, else it is refused. Redis's nodes of up to 100 entries stay below.
const EXPANSION_MAX: usize = 256;
const EXPANDED_BYTES_FREE: usize = 64 << 10;

const ENTRIES_READ_UNKNOWN: u64 = u64::MAX;
const NEVER_ACTIVE: i64 = -1;

pub(crate) fn read(layout: Layout, input: &mut Input<'_>, limits: &Limits) -> Result<Stream, Error> {
    let mut stream = Stream::new();
    for _ in 0..input.count("the number of a stream's nodes")? {
        let base = input.blob("the ID of a stream's node")?;
        let base_id = base.bytes.as_ref().try_into().map(id_from_bytes);
        let base_id = base_id.map_err(|_| Error::damaged(base.offset, "an ID of 16 bytes"))?;
        let blob = input.blob("a node of a stream")?;
        read_node(&mut stream.log, base_id, &blob, limits)?;
    }
    read_counters(&mut stream.log, layout, input)?;
    for _ in 0..input.count("the number of a stream's groups")? {
        let at = input.offset();
        let name = input.text("the name of a group")?.into_bytes();
        let group = read_group(&stream.log, layout, input)?;
        if stream.groups.insert(name.as_ref().into(), group).is_some() {
            return Err(Error::damaged(at, "a group that the stream does not have yet"));
        }
    }
    Ok(stream)
}

fn read_counters(log: &mut Log, layout: Layout, input: &mut Input<'_>) -> Result<(), Error> {
    let at = input.offset();
    if input.count("the length of a stream")? != log.len() {
        return Err(Error::damaged(at, format!("the length of a stream with {} entries", log.len())));
    }
    let at = input.offset();
    let last_id = read_id(input, "the last ID of a stream")?;
    if last_id < log.last_id() {
        return Err(Error::damaged(at, "a last ID that is not before the last entry"));
    }
    log.set_last_id(last_id);
    if layout == Layout::One {
        log.set_entries_added(log.len());
        return Ok(());
    }
    // The first ID follows from the entries.
    read_id(input, "the first ID of a stream")?;
    log.set_max_deleted_id(read_id(input, "the greatest deleted ID of a stream")?);
    log.set_entries_added(input.count("the entries added to a stream")?);
    Ok(())
}

fn read_id(input: &mut Input<'_>, expected: &'static str) -> Result<StreamId, Error> {
    Ok(StreamId::new(input.count(expected)?, input.count(expected)?))
}

fn id_from_bytes(bytes: &[u8; 16]) -> StreamId {
    let bits = u128::from_be_bytes(*bytes);
    StreamId::new((bits >> 64) as u64, bits as u64)
}

fn id_to_bytes(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

fn read_node(log: &mut Log, base: StreamId, blob: &Blob<'_>, limits: &Limits) -> Result<(), Error> {
    let fault = |fault: PartFault| fault.at_offset(blob.offset);
    let mut elements = Listpack::new(&blob.bytes).map_err(fault)?;
    let expansion_left = blob.bytes.len().saturating_mul(EXPANSION_MAX).saturating_add(EXPANDED_BYTES_FREE);
    let mut node = NodeReader { elements: &mut elements, names: Vec::new(), expansion_left };
    node.read(log, base, limits).map_err(fault)
}

struct NodeReader<'r, 'a> {
    elements: &'r mut Listpack<'a>,
    /// The node's field names.
    names: Vec<Item<'a>>,
    /// Bytes of fields that may still come; see [`EXPANSION_MAX`].
    expansion_left: usize,
}

impl<'a> NodeReader<'_, 'a> {
    fn read(&mut self, log: &mut Log, base: StreamId, limits: &Limits) -> Result<(), PartFault> {
        let live = self.integer("the number of live entries")?;
        let deleted = self.integer("the number of deleted entries")?;
        let names = self.integer("the number of field names")?;
        for _ in 0..names {
            let name = self.elements.expect_element("a field name")?;
            self.names.push(name);
        }
        if self.integer("the end of the field names")? != 0 {
            return Err(self.elements.fault("entries after the field names"));
        }
        let (mut live_seen, mut deleted_seen) = (0, 0);
        while live_seen + deleted_seen < live.saturating_add(deleted) {
            if self.entry(log, base, limits)? {
                live_seen += 1;
            } else {
                deleted_seen += 1;
            }
        }
        if live_seen != live {
            return Err(self.elements.fault("as many live entries as the node says"));
        }
        let fault = self.elements.fault("the end after the last entry");
        match self.elements.next_element()? {
            None => Ok(()),
            Some(_) => Err(fault),
        }
    }

    fn integer(&mut self, expected: &'static str) -> Result<i64, PartFault> {
        let fault = self.elements.fault(expected);
        let n = self.elements.expect_element(expected)?.as_int().ok_or(fault)?;
        // What is negative here is never a count; IDs are told apart by their own reader.
        if n < 0 { Err(fault) } else { Ok(n) }
    }

    /// The part of an ID by which an entry is after the node's base, as Redis stores it: wrapping.
    fn difference(&mut self) -> Result<u64, PartFault> {
        let fault = self.elements.fault("an entry's ID");
        let element = self.elements.expect_element("an entry's ID")?;
        element.as_int().map(|n| n as u64).ok_or(fault)
    }

    /// Reads an entry, and adds it unless it is deleted; says whether it is live.
    fn entry(&mut self, log: &mut Log, base: StreamId, limits: &Limits) -> Result<bool, PartFault> {
        let flags = self.integer("an entry's flags")?;
        let id_fault = self.elements.fault("an ID that is greater than the one before");
        let id = StreamId::new(
            base.ms.wrapping_add(self.difference()?),
            base.seq.wrapping_add(self.difference()?),
        );
        let same_fields = flags & entry::SAME_FIELDS != 0;
        let count = if same_fields { self.names.len() as i64 } else { self.integer("the number of fields")? };
        let mut texts: Vec<Item<'a>> = Vec::new();
        for n in 0..count {
            let name = if same_fields {
                self.names[n as usize]
            } else {
                self.elements.expect_element("the name of a field")?
            };
            texts.push(name);
            texts.push(self.elements.expect_element("the value of a field")?);
        }
        let expected_len = if same_fields { count + 3 } else { 2 * count + 4 };
        if self.integer("the number of an entry's elements")? != expected_len {
            return Err(self.elements.fault("the number of an entry's elements"));
        }
        if flags & entry::DELETED != 0 {
            return Ok(false);
        }
        if id <= log.last_id() {
            return Err(id_fault);
        }
        let bytes = texts.iter().map(Item::len).sum();
        self.expansion_left = self
            .expansion_left
            .checked_sub(bytes)
            .ok_or(self.elements.fault("fewer bytes of shared names"))?;
        let mut scratch: Vec<IntBuf> = vec![IntBuf::new(); texts.len()];
        let fields: Vec<&[u8]> =
            texts.iter().zip(&mut scratch).map(|(text, scratch)| text.bytes(scratch)).collect();
        log.append(id, &fields, limits);
        Ok(true)
    }
}

fn read_group(log: &Log, layout: Layout, input: &mut Input<'_>) -> Result<Group, Error> {
    let last_id = read_id(input, "the last ID of a group")?;
    let entries_read = if layout == Layout::One {
        log.entries_added_up_to(last_id)
    } else {
        let at = input.offset();
        match input.count("the entries that a group has read")? {
            ENTRIES_READ_UNKNOWN => None,
            read if read <= i64::MAX as u64 => Some(read),
            _ => return Err(Error::damaged(at, "the entries that a group has read")),
        }
    };
    let mut group = Group::new(last_id, entries_read);
    let mut undealt: BTreeMap<StreamId, (u64, u64)> = BTreeMap::new();
    for _ in 0..input.count("the number of a group's pending entries")? {
        let at = input.offset();
        let id = id_from_bytes(&input.array("the ID of a pending entry")?);
        let delivered_at = read_time(input, "when an entry was delivered")?;
        let deliveries = input.count("how often an entry was delivered")?;
        if undealt.insert(id, (delivered_at.unwrap_or(0), deliveries)).is_some() {
            return Err(Error::damaged(at, "an ID that is not pending yet"));
        }
    }
    for _ in 0..input.count("the number of a group's consumers")? {
        read_consumer(&mut group, &mut undealt, layout, input)?;
    }
    if let Some(id) = undealt.keys().next() {
        return Err(Error::damaged(input.offset(), format!("a consumer for the pending entry {id}")));
    }
    Ok(group)
}

fn read_consumer(
    group: &mut Group,
    undealt: &mut BTreeMap<StreamId, (u64, u64)>,
    layout: Layout,
    input: &mut Input<'_>,
) -> Result<(), Error> {
    let at = input.offset();
    let name = input.text("the name of a consumer")?.into_bytes();
    let seen_at = read_time(input, "when a consumer was seen")?;
    let active_at = match layout {
        Layout::Three => read_time(input, "when a consumer was active")?,
        _ => seen_at,
    };
    let consumer = group.create_consumer(&name, seen_at.unwrap_or(0));
    let consumer = consumer.ok_or_else(|| {
        Error::damaged(at, "a consumer that the group does not have yet (Duplicate stream consumer detected)")
    })?;
    group.consumer_mut(consumer).active_at_unix_ms = active_at;
    for _ in 0..input.count("the number of a consumer's pending entries")? {
        let at = input.offset();
        let id = id_from_bytes(&input.array("the ID of a pending entry")?);
        let Some((delivered_at_unix_ms, deliveries)) = undealt.remove(&id) else {
            return Err(Error::damaged(at, "an entry that is pending in the group and of no other consumer"));
        };
        group.assign(id, Pending { consumer, delivered_at_unix_ms, deliveries });
    }
    Ok(())
}

/// A time in Unix milliseconds; negative ones mean that there is none.
fn read_time(input: &mut Input<'_>, expected: &'static str) -> Result<Option<u64>, Error> {
    Ok(u64::try_from(i64::from_le_bytes(input.array(expected)?)).ok())
}

/// Appends what follows a stream's nodes. [`Layout::Two`] knows no active times: whoever reads it takes the
/// seen times for them.
pub(crate) fn write_rest(stream: &Stream, layout: Layout, strings: &mut Strings, out: &mut Vec<u8>) {
    let log = &stream.log;
    Strings::push_count(out, log.len());
    push_id(out, log.last_id());
    push_id(out, log.first_id());
    push_id(out, log.max_deleted_id());
    Strings::push_count(out, log.entries_added());
    Strings::push_count(out, stream.groups.len() as u64);
    for (name, group) in &stream.groups {
        strings.push(out, name);
        push_id(out, group.last_id);
        Strings::push_count(out, group.entries_read.unwrap_or(ENTRIES_READ_UNKNOWN));
        write_deliveries(group, layout, strings, out);
    }
}

fn push_id(out: &mut Vec<u8>, id: StreamId) {
    Strings::push_count(out, id.ms);
    Strings::push_count(out, id.seq);
}

fn push_time(out: &mut Vec<u8>, unix_ms: Option<u64>) {
    let time = unix_ms.map_or(NEVER_ACTIVE, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
    out.extend_from_slice(&time.to_le_bytes());
}

/// Appends the log's nodes from the one that begins at `from` on, until they have had `entries` entries; gives
/// where it goes on.
pub(crate) fn write_nodes(
    log: &Log,
    from: StreamId,
    entries: usize,
    strings: &mut Strings,
    out: &mut Vec<u8>,
) -> Option<StreamId> {
    let mut left = entries;
    for (base, of_node) in log.nodes_from(from) {
        if left == 0 {
            return Some(base);
        }
        let of_node: Vec<Entry<'_>> = of_node.collect();
        strings.push_bytes(out, &id_to_bytes(of_node[0].id));
        strings.push_made(out, |node| write_node(&of_node, node));
        left = left.saturating_sub(of_node.len());
    }
    None
}

fn write_node(entries: &[Entry<'_>], node: &mut Vec<u8>) {
    let base = &entries[0];
    let mut listpack = ListpackWriter::new(node);
    let integer = |n: u64| Item::Int(n as i64);
    listpack.push(integer(entries.len() as u64));
    listpack.push(integer(0));
    listpack.push(integer(base.fields().len() as u64));
    base.fields().for_each(|(name, _)| listpack.push(Item::Bytes(name)));
    listpack.push(integer(0));
    for entry in entries {
        let count = entry.fields().len() as u64;
        let names = || entry.fields().map(|(name, _)| name);
        let same_fields = names().eq(base.fields().map(|(name, _)| name));
        listpack.push(Item::Int(if same_fields { entry::SAME_FIELDS } else { 0 }));
        listpack.push(integer(entry.id.ms.wrapping_sub(base.id.ms)));
        listpack.push(integer(entry.id.seq.wrapping_sub(base.id.seq)));
        if !same_fields {
            listpack.push(integer(count));
        }
        for (name, value) in entry.fields() {
            if !same_fields {
                listpack.push(Item::Bytes(name));
            }
            listpack.push(Item::Bytes(value));
        }
        listpack.push(integer(if same_fields { count + 3 } else { 2 * count + 4 }));
    }
    listpack.finish();
}

fn write_deliveries(group: &Group, layout: Layout, strings: &mut Strings, out: &mut Vec<u8>) {
    let everything = || StreamId::MIN..=StreamId::MAX;
    Strings::push_count(out, group.pending_len() as u64);
    for (id, pending) in group.pending_range(everything()) {
        out.extend_from_slice(&id_to_bytes(id));
        push_time(out, Some(pending.delivered_at_unix_ms));
        Strings::push_count(out, pending.deliveries);
    }
    let consumers = group.consumers();
    Strings::push_count(out, consumers.len() as u64);
    for consumer in consumers {
        strings.push(out, consumer.name());
        push_time(out, Some(consumer.seen_at_unix_ms));
        if layout == Layout::Three {
            push_time(out, consumer.active_at_unix_ms);
        }
        Strings::push_count(out, consumer.pending_len() as u64);
        for id in consumer.pending_ids(everything()) {
            out.extend_from_slice(&id_to_bytes(id));
        }
    }
}
