//! The broadcast packet: `[uid, {type, data: [event, …], nsp}, {rooms, except, flags}]` in msgpack.

use bytes::Bytes;
use rmpv::ValueRef;

use super::msgpack::{DEPTH_MAX, Writer, text_of, to_json};
use crate::hub::Selection;
use crate::packet::PacketError;

/// Socket.IO's EVENT; receivers choose the binary form themselves.
const TYPE_EVENT: u64 = 2;

/// A broadcast from another node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broadcast {
    /// The namespace it is for.
    pub(crate) namespace: String,
    /// The event's JSON array, its name first.
    pub(crate) array: String,
    /// Binary values, by placeholder number.
    pub(crate) attachments: Vec<Bytes>,
    /// Who shall have it.
    pub(crate) selection: Selection,
}

/// Writes a broadcast. `array` is the event's JSON array.
pub(crate) fn encode_broadcast(
    uid: &str,
    namespace: &str,
    selection: &Selection,
    array: &str,
    attachments: &[Bytes],
) -> Result<Vec<u8>, PacketError> {
    let mut writer = Writer::default();
    writer.array(3);
    writer.string(uid);
    writer.map(3);
    writer.string("type");
    writer.unsigned(TYPE_EVENT);
    writer.string("data");
    writer.json(array, attachments)?;
    writer.string("nsp");
    writer.string(namespace);
    writer.map(3);
    writer.string("rooms");
    writer.strings(&selection.rooms);
    writer.string("except");
    writer.strings(&selection.except);
    writer.string("flags");
    writer.map(0);
    Ok(writer.out)
}

/// Reads a broadcast; none if this node sent it.
pub(crate) fn decode_broadcast(own_uid: &str, mut data: &[u8]) -> Result<Option<Broadcast>, PacketError> {
    let value = rmpv::decode::read_value_ref_with_max_depth(&mut data, DEPTH_MAX)
        .map_err(|_| PacketError::Payload)?;
    let ValueRef::Array(parts) = &value else { return Err(PacketError::Payload) };
    let [uid, packet, options, ..] = parts.as_slice() else { return Err(PacketError::Payload) };
    if text_of(uid) == Some(own_uid) {
        return Ok(None);
    }
    let (namespace, array, attachments) = packet_parts(packet)?;
    let selection =
        Selection { rooms: names(field(options, "rooms")), except: names(field(options, "except")) };
    Ok(Some(Broadcast { namespace, array, attachments, selection }))
}

/// Namespace, JSON array and attachments of a packet object.
pub(super) fn packet_parts(packet: &ValueRef<'_>) -> Result<(String, String, Vec<Bytes>), PacketError> {
    let data = field(packet, "data").ok_or(PacketError::Payload)?;
    if !matches!(data, ValueRef::Array(items) if !items.is_empty()) {
        return Err(PacketError::Payload);
    }
    let (mut array, mut attachments) = (String::new(), Vec::new());
    to_json(data, &mut array, &mut attachments)?;
    let namespace = field(packet, "nsp").and_then(text_of).unwrap_or("/");
    Ok((namespace.to_owned(), array, attachments))
}

pub(super) fn field<'a, 'b>(map: &'a ValueRef<'b>, name: &str) -> Option<&'a ValueRef<'b>> {
    let ValueRef::Map(entries) = map else { return None };
    entries.iter().find(|(key, _)| text_of(key) == Some(name)).map(|(_, value)| value)
}

/// Room names; Node lets them be numbers.
pub(super) fn names(value: Option<&ValueRef<'_>>) -> Vec<String> {
    let Some(ValueRef::Array(items)) = value else { return Vec::new() };
    items
        .iter()
        .filter_map(|item| match item {
            ValueRef::String(text) => text.as_str().map(str::to_owned),
            ValueRef::Integer(number) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selection() -> Selection {
        Selection { rooms: vec!["r".into()], except: vec!["x".into()] }
    }

    #[test]
    fn broadcasts_read_back_and_own_ones_are_dropped() {
        let array = r#"["hello",{"a":[1,null]}]"#;
        let data = encode_broadcast("abcdef", "/n", &selection(), array, &[]).unwrap();
        assert_eq!(decode_broadcast("abcdef", &data), Ok(None));
        let read = decode_broadcast("other1", &data).unwrap().unwrap();
        assert_eq!((read.namespace.as_str(), read.array.as_str()), ("/n", array));
        assert_eq!(read.selection, selection());
    }

    #[test]
    fn an_emitters_packet_is_read() {
        // What notepack writes for ["emitter",{type:2,data:["e","x"],nsp:"/"},{rooms:[1],flags:{},except:[]}].
        let mut data = vec![0x93, 0xa7];
        data.extend_from_slice(b"emitter\x83\xa4type\x02\xa4data\x92\xa1e\xa1x\xa3nsp\xa1/");
        data.extend_from_slice(b"\x83\xa5rooms\x91\x01\xa5flags\x80\xa6except\x90");
        let read = decode_broadcast("abcdef", &data).unwrap().unwrap();
        assert_eq!((read.namespace.as_str(), read.array.as_str()), ("/", r#"["e","x"]"#));
        assert_eq!(read.selection.rooms, ["1"]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_broadcast("abcdef", &data);
        }
    }
}
