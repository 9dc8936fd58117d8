//! Replies as text: the forms of redis-cli, byte for byte.
//!
//! Bytes in, bytes out; where they go is the caller's business. What a terminal would obey is escaped where
//! the text goes to one (`Style::terminal`), save in the raw form, which somebody asked for by name.

use crate::wire::Reply;

/// How replies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Numbered and quoted, for a person.
    Standard,
    Raw,
    Csv,
    Json,
    /// JSON of ASCII alone, with redis-cli's escapes.
    QuotedJson,
}

/// The form and its particulars.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    pub form: Form,
    /// Between the elements of a reply, raw.
    pub item_delimiter: Vec<u8>,
    /// Behind a reply, raw.
    pub reply_delimiter: Vec<u8>,
    /// Whether the text goes to a terminal.
    pub terminal: bool,
}

/// A reply and what ends it. `as_text` is for replies that are a page by themselves, as INFO's.
pub(crate) fn write(reply: &Reply, style: &Style, as_text: bool, out: &mut Vec<u8>) {
    match style.form {
        _ if as_text => {
            let start = out.len();
            raw(reply, style, out);
            if style.terminal && style.form != Form::Raw {
                let text = out.split_off(start);
                plain(&text, true, out);
            }
        }
        Form::Standard => standard(reply, style, b"", out),
        Form::Raw => {
            raw(reply, style, out);
            out.extend_from_slice(&style.reply_delimiter);
        }
        Form::Csv => {
            csv(reply, out);
            out.push(b'\n');
        }
        Form::Json | Form::QuotedJson => {
            json(reply, style.form, out);
            out.push(b'\n');
        }
    }
}

/// `"…"` with escapes for all but printable ASCII.
pub(crate) fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// Text that is shown as it is, but for what a terminal would obey.
fn plain(bytes: &[u8], terminal: bool, out: &mut Vec<u8>) {
    for (at, &byte) in bytes.iter().enumerate() {
        let line_end = byte == b'\r' && bytes.get(at + 1) == Some(&b'\n');
        let obeyed = byte == 0x7f || byte < b' ' && !matches!(byte, b'\n' | b'\t') && !line_end;
        if terminal && obeyed {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        } else {
            out.push(byte);
        }
    }
}

fn standard(reply: &Reply, style: &Style, prefix: &[u8], out: &mut Vec<u8>) {
    let mut line = |head: &str, text: &[u8]| {
        out.extend_from_slice(head.as_bytes());
        plain(text, style.terminal, out);
        out.push(b'\n');
    };
    match reply {
        Reply::Error(text) => line("(error) ", text),
        Reply::Status(text) | Reply::BigNumber(text) | Reply::Verbatim(text) => line("", text),
        Reply::Integer(text) => line("(integer) ", text),
        Reply::Double(text) => line("(double) ", text),
        Reply::Nil => line("(nil)", b""),
        Reply::Boolean(true) => line("(true)", b""),
        Reply::Boolean(false) => line("(false)", b""),
        Reply::Bulk(text) => {
            quote(text, out);
            out.push(b'\n');
        }
        Reply::Array(items) => numbered(items, ')', "(empty array)", style, prefix, out),
        Reply::Push(items) => numbered(items, ')', "(empty push)", style, prefix, out),
        Reply::Set(items) => numbered(items, '~', "(empty set)", style, prefix, out),
        Reply::Map(pairs) => pairs_numbered(pairs, '#', "(empty hash)", style, prefix, out),
        Reply::Annotated(pairs, reply) => {
            pairs_numbered(pairs, '|', "(empty attribute)", style, prefix, out);
            out.extend_from_slice(prefix);
            standard(reply, style, prefix, out);
        }
    }
}

fn numbered(items: &[Reply], mark: char, empty: &str, style: &Style, prefix: &[u8], out: &mut Vec<u8>) {
    if items.is_empty() {
        out.extend_from_slice(empty.as_bytes());
        return out.push(b'\n');
    }
    let (width, inner) = indent(items.len(), prefix);
    for (at, item) in items.iter().enumerate() {
        // Whoever holds this reply has written the first element's prefix.
        out.extend_from_slice(if at == 0 { b"" } else { prefix });
        out.extend_from_slice(format!("{:width$}{mark} ", at + 1).as_bytes());
        standard(item, style, &inner, out);
    }
}

fn pairs_numbered(
    pairs: &[(Reply, Reply)],
    mark: char,
    empty: &str,
    style: &Style,
    prefix: &[u8],
    out: &mut Vec<u8>,
) {
    if pairs.is_empty() {
        out.extend_from_slice(empty.as_bytes());
        return out.push(b'\n');
    }
    let (width, inner) = indent(pairs.len(), prefix);
    for (at, (key, value)) in pairs.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"" } else { prefix });
        out.extend_from_slice(format!("{:width$}{mark} ", at + 1).as_bytes());
        standard(key, style, &inner, out);
        out.pop();
        out.extend_from_slice(b" => ");
        if takes_lines(value) {
            out.push(b'\n');
            out.extend_from_slice(&inner);
        }
        standard(value, style, &inner, out);
    }
}

/// The width of the numbers up to `len`, and the prefix of what stands below one.
fn indent(len: usize, prefix: &[u8]) -> (usize, Vec<u8>) {
    let width = len.to_string().len();
    (width, [prefix, &vec![b' '; width + 2]].concat())
}

fn takes_lines(reply: &Reply) -> bool {
    match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => match &items[..] {
            [] => false,
            [item] => takes_lines(item),
            _ => true,
        },
        Reply::Map(pairs) => match &pairs[..] {
            [] => false,
            [(_, value)] => takes_lines(value),
            _ => true,
        },
        Reply::Annotated(..) => true,
        _ => false,
    }
}

fn raw(reply: &Reply, style: &Style, out: &mut Vec<u8>) {
    match reply {
        Reply::Nil => {}
        Reply::Error(text) => {
            out.extend_from_slice(text);
            out.push(b'\n');
        }
        Reply::Boolean(value) => out.extend_from_slice(if *value { b"(true)" } else { b"(false)" }),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            for (at, item) in items.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { &style.item_delimiter });
                raw(item, style, out);
            }
        }
        Reply::Map(pairs) => {
            for (at, (key, value)) in pairs.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { &style.item_delimiter });
                raw(key, style, out);
                out.push(b' ');
                raw(value, style, out);
            }
        }
        Reply::Annotated(_, reply) => raw(reply, style, out),
        _ => out.extend_from_slice(reply.text().unwrap_or_default()),
    }
}

fn csv(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Error(text) => {
            out.extend_from_slice(b"ERROR,");
            quote(text, out);
        }
        Reply::Status(text) | Reply::Bulk(text) | Reply::Verbatim(text) => quote(text, out),
        Reply::Integer(text) | Reply::Double(text) | Reply::BigNumber(text) => out.extend_from_slice(text),
        Reply::Nil => out.extend_from_slice(b"NULL"),
        Reply::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            for (at, item) in items.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                csv(item, out);
            }
        }
        Reply::Map(pairs) => {
            for (at, (key, value)) in pairs.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                csv(key, out);
                out.push(b',');
                csv(value, out);
            }
        }
        Reply::Annotated(_, reply) => csv(reply, out),
    }
}

fn json(reply: &Reply, form: Form, out: &mut Vec<u8>) {
    match reply {
        Reply::Error(text) => {
            out.extend_from_slice(b"error:");
            json_string(text, form, out);
        }
        Reply::Status(text) | Reply::Bulk(text) | Reply::Verbatim(text) => json_string(text, form, out),
        Reply::Integer(text) | Reply::Double(text) | Reply::BigNumber(text) => out.extend_from_slice(text),
        Reply::Nil => out.extend_from_slice(b"null"),
        Reply::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                json(item, form, out);
            }
            out.push(b']');
        }
        Reply::Map(pairs) => {
            out.push(b'{');
            for (at, (key, value)) in pairs.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                json_key(key, form, out);
                out.push(b':');
                json(value, form, out);
            }
            out.push(b'}');
        }
        Reply::Annotated(_, reply) => json(reply, form, out),
    }
}

/// JSON's keys are strings, whatever RESP3's are.
fn json_key(key: &Reply, form: Form, out: &mut Vec<u8>) {
    if matches!(key, Reply::Error(_) | Reply::Status(_) | Reply::Bulk(_) | Reply::Verbatim(_)) {
        return json(key, form, out);
    }
    let mut text = Vec::new();
    json(key, form, &mut text);
    out.push(b'"');
    out.extend_from_slice(&text);
    out.push(b'"');
}

fn json_string(bytes: &[u8], form: Form, out: &mut Vec<u8>) {
    if form == Form::QuotedJson {
        let mut quoted = Vec::new();
        quote(bytes, &mut quoted);
        for byte in quoted {
            out.extend_from_slice(if byte == b'\\' { b"\\\\" } else { std::slice::from_ref(&byte) });
        }
        return;
    }
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::read_reply;

    fn shown(form: Form, terminal: bool, resp: &str) -> String {
        let style = Style { form, item_delimiter: b"\n".to_vec(), reply_delimiter: b"\n".to_vec(), terminal };
        let reply = read_reply(&mut resp.as_bytes()).unwrap();
        let mut out = Vec::new();
        write(&reply, &style, false, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn standard_form_is_numbered_and_aligned() {
        for (resp, expected) in [
            ("+OK\r\n", "OK\n"),
            ("-ERR x\r\n", "(error) ERR x\n"),
            (":1\r\n", "(integer) 1\n"),
            ("$3\r\na\"\x01\r\n", "\"a\\\"\\x01\"\n"),
            (",1.5\r\n", "(double) 1.5\n"),
            ("#t\r\n", "(true)\n"),
            ("*0\r\n", "(empty array)\n"),
            ("%0\r\n", "(empty hash)\n"),
            ("*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n", "1) 1) (integer) 1\n   2) (integer) 2\n2) (integer) 3\n"),
            ("~1\r\n$1\r\na\r\n", "1~ \"a\"\n"),
            ("%1\r\n$1\r\nk\r\n*2\r\n:1\r\n:2\r\n", "1# \"k\" => \n   1) (integer) 1\n   2) (integer) 2\n"),
            ("|1\r\n+ttl\r\n:9\r\n$1\r\nv\r\n", "1| ttl => (integer) 9\n\"v\"\n"),
        ] {
            assert_eq!(shown(Form::Standard, false, resp), expected, "{resp:?}");
        }
        let ten = format!("*10\r\n{}", ":0\r\n".repeat(10));
        assert!(shown(Form::Standard, false, &ten).starts_with(" 1) (integer) 0\n 2)"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_on_one_alone() {
        assert_eq!(shown(Form::Standard, true, "-ERR \x1b[2J\r\n"), "(error) ERR \\x1b[2J\n");
        assert_eq!(shown(Form::Standard, false, "-ERR \x1b[2J\r\n"), "(error) ERR \x1b[2J\n");
        assert_eq!(shown(Form::Standard, true, "=8\r\ntxt:a\u{8}\n\t\r\n"), "a\\x08\n\t\n");
    }

    #[test]
    fn other_forms() {
        let map = "%2\r\n$1\r\nk\r\n:1\r\n:2\r\n#f\r\n";
        assert_eq!(shown(Form::Raw, false, map), "k 1\n2 (false)\n");
        assert_eq!(shown(Form::Csv, false, map), "\"k\",1,2,false\n");
        assert_eq!(shown(Form::Json, false, map), "{\"k\":1,\"2\":false}\n");
        assert_eq!(shown(Form::Json, false, "$4\r\na\x01\n\"\r\n"), "\"a\\u0001\\n\\\"\"\n");
        assert_eq!(shown(Form::QuotedJson, false, "$2\r\né\r\n"), "\"\\\\xc3\\\\xa9\"\n");
        assert_eq!(shown(Form::Raw, false, "_\r\n"), "\n");
    }
}
