//! Packets that leave: written once, with the Engine.IO type digit in front, and shared.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Frame;

/// An encoded packet; cloning shares its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The text frame, `4…`.
    pub text: Bytes,
    /// The binary frames that follow it.
    pub attachments: Option<Arc<[Bytes]>>,
}

impl Message {
    fn text(text: String) -> Self {
        Self { text: Bytes::from(text), attachments: None }
    }

    /// Bytes that it adds to a recipient's queue.
    pub fn len(&self) -> usize {
        self.text.len() + self.attachments().iter().map(Bytes::len).sum::<usize>()
    }

    /// Never true: a packet has a type.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The binary frames that follow the text.
    pub fn attachments(&self) -> &[Bytes] {
        self.attachments.as_deref().unwrap_or_default()
    }

    /// The frames in sending order.
    pub fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        let text = Frame::Text(self.text.clone());
        std::iter::once(text).chain(self.attachments().iter().cloned().map(Frame::Binary))
    }
}

/// The answer to a CONNECT that is granted. `pid` is the secret by which the client finds its session.
pub fn connected(namespace: &str, sid: &str, pid: Option<&str>) -> Message {
    let mut text = head('0', 0, namespace, None, 80);
    text.push_str("{\"sid\":");
    json_string(&mut text, sid);
    if let Some(pid) = pid {
        text.push_str(",\"pid\":");
        json_string(&mut text, pid);
    }
    text.push('}');
    Message::text(text)
}

/// The answer to a CONNECT that is refused. `data` is JSON.
pub fn connect_error(namespace: &str, message: &str, data: Option<&str>) -> Message {
    let mut text = head('4', 0, namespace, None, message.len() + 32);
    text.push_str("{\"message\":");
    json_string(&mut text, message);
    if let Some(data) = data {
        text.push_str(",\"data\":");
        text.push_str(data);
    }
    text.push('}');
    Message::text(text)
}

/// Tells the client that it was taken out of a namespace, and not to come back by itself.
pub fn disconnect(namespace: &str) -> Message {
    Message::text(head('1', 0, namespace, None, 0))
}

/// An event whose whole JSON array, name first, is given.
pub fn event_array(namespace: &str, id: Option<u64>, array: &str, attachments: Vec<Bytes>) -> Message {
    whole('2', '5', namespace, id, array, attachments)
}

/// An event with one argument, given as JSON.
pub fn event(namespace: &str, name: &str, data: &str, attachments: Vec<Bytes>) -> Message {
    let mut array = String::with_capacity(name.len() + data.len() + 8);
    array.push('[');
    json_string(&mut array, name);
    array.push(',');
    array.push_str(data);
    array.push(']');
    event_array(namespace, None, &array, attachments)
}

/// An acknowledgement whose whole JSON array is given.
pub fn acknowledge(namespace: &str, id: u64, array: &str, attachments: Vec<Bytes>) -> Message {
    whole('3', '6', namespace, Some(id), array, attachments)
}

fn whole(
    plain: char,
    binary: char,
    namespace: &str,
    id: Option<u64>,
    json: &str,
    attachments: Vec<Bytes>,
) -> Message {
    let kind = if attachments.is_empty() { plain } else { binary };
    let mut text = head(kind, attachments.len(), namespace, id, json.len());
    text.push_str(json);
    let attachments = (!attachments.is_empty()).then(|| Arc::from(attachments));
    Message { text: Bytes::from(text), attachments }
}

fn head(kind: char, attachments: usize, namespace: &str, id: Option<u64>, room: usize) -> String {
    let mut text = String::with_capacity(namespace.len() + room + 28);
    text.push('4');
    text.push(kind);
    let mut digits = itoa::Buffer::new();
    if attachments > 0 {
        text.push_str(digits.format(attachments));
        text.push('-');
    }
    if namespace != "/" {
        text.push_str(namespace);
        text.push(',');
    }
    if let Some(id) = id {
        text.push_str(digits.format(id));
    }
    text
}

/// Appends a JSON string.
pub fn json_string(out: &mut String, value: &str) {
    out.push('"');
    let mut plain_from = 0;
    for (index, byte) in value.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&value[plain_from..index]);
        plain_from = index + 1;
        if escape.is_empty() {
            out.push_str(&format!("\\u{byte:04x}"));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&value[plain_from..]);
    out.push('"');
}
