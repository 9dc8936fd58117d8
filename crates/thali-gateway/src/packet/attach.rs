//! Placeholders: where in the JSON a binary message belongs.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::PacketError;

/// The number in `{"_placeholder":true,"num":n}`.
fn is_placeholder(object: &Map<String, Value>) -> Option<u64> {
    if object.get("_placeholder") != Some(&Value::Bool(true)) {
        return None;
    }
    Some(object.get("num").and_then(Value::as_u64).unwrap_or(u64::MAX))
}

/// Numbers the placeholders of a part of a packet anew, from 0, and gives the part's own attachments.
///
/// A recipient's parser throws on a number without its message, which would cost every recipient its
/// connection. So JSON from a client is not passed on with attachments before this has checked it.
pub fn renumber(json: &str, attachments: &[Bytes]) -> Result<(String, Vec<Bytes>), PacketError> {
    let mut value: Value = serde_json::from_str(json).map_err(|_| PacketError::Payload)?;
    let mut own = Vec::new();
    walk(&mut value, attachments, &mut own)?;
    Ok((value.to_string(), own))
}

/// Recursion is bounded: the reader refuses JSON nested deeper than 128.
fn walk(value: &mut Value, attachments: &[Bytes], own: &mut Vec<Bytes>) -> Result<(), PacketError> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| walk(item, attachments, own)),
        Value::Object(object) => {
            let Some(number) = is_placeholder(object) else {
                return object.values_mut().try_for_each(|item| walk(item, attachments, own));
            };
            let index = usize::try_from(number).map_err(|_| PacketError::Attachments)?;
            let data = attachments.get(index).ok_or(PacketError::Attachments)?;
            // The same message may stand in two places; more places than a packet may announce may not.
            if own.len() >= super::ATTACHMENTS_MAX {
                return Err(PacketError::Attachments);
            }
            object.insert("num".to_owned(), own.len().into());
            own.push(data.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}
