//! Values as text, to compare them by.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fmt::Write;

use thali_data::stream::StreamId;
use thali_keyspace::Value;

/// All that a value holds, independent of its form and of the order in which tables give elements.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::Str(v) => format!("string {:?}", v.item()),
        Value::List(v) => format!("list {:?}", v.iter().map(|e| e.to_vec()).collect::<Vec<_>>()),
        Value::Set(v) => {
            let mut members: Vec<Vec<u8>> = v.iter().map(|m| m.to_vec()).collect();
            members.sort();
            format!("set {members:?}")
        }
        Value::Hash(v) => {
            let fields: BTreeMap<Vec<u8>, Vec<u8>> =
                v.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
            let times: BTreeMap<Vec<u8>, u64> =
                v.iter_timed().filter_map(|(field, _, at)| Some((field.to_vec(), at?))).collect();
            format!("hash {fields:?} with times {times:?}")
        }
        Value::SortedSet(v) => {
            // -0 is kept as such by some forms and not by others; they compare equal.
            let members: Vec<_> = v.iter().map(|(member, score)| (member.to_vec(), score + 0.0)).collect();
            format!("zset {members:?}")
        }
        Value::Stream(v) => stream(v),
    }
}

fn stream(stream: &thali_data::Stream) -> String {
    let log = &stream.log;
    let mut text = format!(
        "stream len {} first {} last {} deleted {} added {}\n",
        log.len(),
        log.first_id(),
        log.last_id(),
        log.max_deleted_id(),
        log.entries_added()
    );
    for entry in log.range(StreamId::MIN, StreamId::MAX) {
        let fields: Vec<_> = entry.fields().collect();
        writeln!(text, "  {} {fields:?}", entry.id).unwrap();
    }
    for (name, group) in &stream.groups {
        writeln!(text, " group {name:?} last {} read {:?}", group.last_id, group.entries_read).unwrap();
        for consumer in group.consumers() {
            let times = (consumer.seen_at_unix_ms, consumer.active_at_unix_ms);
            writeln!(text, "  consumer {:?} {times:?}", consumer.name()).unwrap();
        }
        for (id, pending) in group.pending_range(StreamId::MIN..=StreamId::MAX) {
            let owner = group.consumer(pending.consumer).name();
            let (at, times) = (pending.delivered_at_unix_ms, pending.deliveries);
            writeln!(text, "  pending {id} of {owner:?} at {at} times {times}").unwrap();
        }
    }
    text
}
