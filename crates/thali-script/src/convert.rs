//! Replies of commands into Lua values, and a script's result into a reply.
//!
//! SOURCE: redis.io, "Scripting with Lua", data type conversion; corner cases checked against redis-server 7.0.

use std::io::Write;

use crate::host::Resp;
use crate::lua::{Raise, Stack, Type};
use crate::number;

/// How deep a command's reply may nest.
const REPLY_DEPTH_MAX: usize = 128;

/// What one value takes of the stack while it is pushed.
const SLOTS: i32 = 6;

/// How deep a script's result may nest before it is cut with Redis's "reached lua stack limit".
const RESULT_DEPTH_MAX: usize = 1_000;

/// How large the reply of one script may grow: a few tables that contain each other describe any size.
const RESULT_BYTES_MAX: usize = 512 << 20;

/// Pushes the one reply that `reply` holds. May raise.
pub(crate) fn push_reply(stack: Stack<'_>, reply: &[u8]) -> Result<(), Raise> {
    let mut reader = Reader { rest: reply };
    push_value(stack, &mut reader, 0)?;
    if reader.rest.is_empty() { Ok(()) } else { Err(malformed(stack)) }
}

/// What a host owes is exactly one complete reply; a script sees the breach as an error.
fn malformed(stack: Stack<'_>) -> Raise {
    stack.table_error("the command's reply is malformed")
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Takes a line without its end.
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&b| b == b'\r')?;
        let line = &self.rest[..end];
        self.rest = self.rest[end..].strip_prefix(b"\r\n")?;
        Some(line)
    }

    /// Takes a bulk of `len` bytes and its line end.
    fn bulk(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bulk, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(bulk)
    }
}

fn integer(line: &[u8]) -> Option<i64> {
    let (digits, is_negative) = match line.split_first()? {
        (b'-', digits) => (digits, true),
        _ => (line, false),
    };
    // What has more digits is rare, or no integer.
    const DIGITS_MAX: usize = 18;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return std::str::from_utf8(line).ok()?.parse().ok();
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if is_negative { -value } else { value })
}

fn push_value(stack: Stack<'_>, reader: &mut Reader<'_>, depth: usize) -> Result<(), Raise> {
    let header = reader.line().filter(|line| !line.is_empty()).ok_or_else(|| malformed(stack))?;
    let (kind, line) = (header[0], &header[1..]);
    let length = || integer(line).ok_or_else(|| malformed(stack));
    let is_nested = matches!(kind, b'*' | b'>' | b'%' | b'~' | b'|');
    // What is not nested has room: C functions begin with more, and who nests asked for what is in it.
    if is_nested && (depth > REPLY_DEPTH_MAX || !stack.try_descend(2 * SLOTS)) {
        return Err(malformed(stack));
    }
    match kind {
        b'$' | b'=' => match usize::try_from(length()?) {
            Ok(len) => {
                let bulk = reader.bulk(len).ok_or_else(|| malformed(stack))?;
                if kind == b'$' { stack.push_bytes(bulk) } else { push_verbatim(stack, bulk) }
            }
            Err(_) => stack.push_boolean(false),
        },
        b':' => stack.push_number(length()? as f64),
        b'*' | b'>' => match usize::try_from(length()?) {
            Ok(count) => push_array(stack, reader, count, depth)?,
            Err(_) => stack.push_boolean(false),
        },
        b'+' => push_field(stack, "ok", line),
        b'-' => stack.push_error_table(line),
        b'_' => stack.push_nil(),
        b'#' => stack.push_boolean(line == b"t"),
        b',' => {
            let value = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
            stack.push_table(0, 1);
            stack.push_number(value.ok_or_else(|| malformed(stack))?);
            stack.set_field(-2, "double");
        }
        b'(' => push_field(stack, "big_number", line),
        b'%' => push_pairs(stack, reader, length()?, depth, true)?,
        b'~' => push_pairs(stack, reader, length()?, depth, false)?,
        b'|' => {
            // Attributes describe the reply that follows them; scripts never see them.
            push_pairs(stack, reader, length()?, depth, true)?;
            stack.pop(1);
            return push_value(stack, reader, depth + 1);
        }
        _ => return Err(malformed(stack)),
    }
    Ok(())
}

fn push_field(stack: Stack<'_>, name: &str, value: &[u8]) {
    stack.push_table(0, 1);
    stack.push_bytes(value);
    stack.set_field(-2, name);
}

fn push_verbatim(stack: Stack<'_>, bulk: &[u8]) {
    let (format, text) = bulk.split_at_checked(4).unwrap_or((b"txt:", bulk));
    stack.push_table(0, 1);
    stack.push_table(0, 2);
    stack.push_bytes(text);
    stack.set_field(-2, "string");
    stack.push_bytes(&format[..3]);
    stack.set_field(-2, "format");
    stack.set_field(-2, "verbatim_string");
}

fn push_array(stack: Stack<'_>, reader: &mut Reader<'_>, count: usize, depth: usize) -> Result<(), Raise> {
    // An element takes three bytes at least, so a lying header cannot ask for much memory.
    stack.push_table(count.min(reader.rest.len() / 3), 0);
    for index in 1..=count {
        push_value(stack, reader, depth + 1)?;
        stack.raw_set_index(-2, index as i32);
    }
    Ok(())
}

/// `{map = {k = v}}` or `{set = {k = true}}`.
fn push_pairs(
    stack: Stack<'_>,
    reader: &mut Reader<'_>,
    count: i64,
    depth: usize,
    map: bool,
) -> Result<(), Raise> {
    let count = usize::try_from(count).map_err(|_| malformed(stack))?;
    stack.push_table(0, 1);
    stack.push_table(0, count.min(reader.rest.len() / 3));
    for _ in 0..count {
        push_value(stack, reader, depth + 1)?;
        if map {
            push_value(stack, reader, depth + 1)?;
        } else {
            stack.push_boolean(true);
        }
        if stack.kind(-2) == Type::Nil {
            stack.pop(2);
        } else {
            stack.raw_set(-3);
        }
    }
    stack.set_field(-2, if map { "map" } else { "set" });
    Ok(())
}

/// Appends the value on top as a reply and pops it. `client_resp3` is what the client speaks, `script` what
/// the script chose with `redis.setresp`. May raise.
pub(crate) fn write_result(
    stack: Stack<'_>,
    out: &mut Vec<u8>,
    client_resp3: bool,
    script: Resp,
) -> Result<(), Raise> {
    let start = out.len();
    Writer { stack, out, start, resp3: client_resp3, script }.value(0)
}

struct Writer<'a, 'c> {
    stack: Stack<'c>,
    out: &'a mut Vec<u8>,
    start: usize,
    resp3: bool,
    script: Resp,
}

impl Writer<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<(), Raise> {
        let stack = self.stack;
        if self.out.len() - self.start > RESULT_BYTES_MAX {
            return Err(stack.plain_error("the script's reply is too large"));
        }
        match stack.kind(-1) {
            Type::String => self.bulk(stack.bytes(-1).unwrap_or_default()),
            Type::Number => self.header(b':', number::truncate(stack.number(-1))),
            Type::Boolean => match (stack.boolean(-1), self.script) {
                (value, Resp::V3) if self.resp3 => {
                    self.out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
                }
                (false, Resp::V2) => self.null(),
                (value, _) => self.header(b':', i64::from(value)),
            },
            Type::Table => self.table(depth)?,
            _ => self.null(),
        }
        stack.pop(1);
        Ok(())
    }

    /// Writes the table on top and leaves it there.
    fn table(&mut self, depth: usize) -> Result<(), Raise> {
        let stack = self.stack;
        if depth >= RESULT_DEPTH_MAX || !stack.try_descend(6) {
            self.out.extend_from_slice(b"-ERR reached lua stack limit\r\n");
            return Ok(());
        }
        let top = stack.top();
        if self.special(depth)? {
            stack.set_top(top);
            return Ok(());
        }
        let mut count = 0;
        let at = self.out.len();
        self.header(b'*', 0);
        loop {
            stack.raw_get_index(top, count + 1);
            if stack.kind(-1) == Type::Nil {
                stack.pop(1);
                break;
            }
            self.value(depth + 1)?;
            count += 1;
        }
        self.set_count(at, b'*', i64::from(count));
        Ok(())
    }

    /// Tables that stand for another type of reply, by the name of their field.
    fn special(&mut self, depth: usize) -> Result<bool, Raise> {
        let stack = self.stack;
        if self.text_field("err") {
            self.line(b'-', c_string(stack.bytes(-1).unwrap_or_default()));
        } else if self.text_field("ok") {
            self.line(b'+', c_string(stack.bytes(-1).unwrap_or_default()));
        } else if self.field("double", Type::Number) {
            self.double(stack.number(-1));
        } else if self.field("map", Type::Table) {
            self.pairs(depth, true)?;
        } else if self.field("set", Type::Table) {
            self.pairs(depth, false)?;
        } else if self.text_field("big_number") {
            let digits = stack.bytes(-1).unwrap_or_default();
            if self.resp3 {
                self.line(b'(', digits);
            } else {
                self.bulk(digits);
                // As in a line, for who asks in RESP3.
                let end = self.out.len() - 2;
                blank_line_ends(&mut self.out[end - digits.len()..end]);
            }
        } else if self.field("verbatim_string", Type::Table) {
            return Ok(self.verbatim());
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Pushes a field of the table on top if it has the type; else leaves nothing.
    fn field(&mut self, name: &str, kind: Type) -> bool {
        self.stack.raw_get_field(-1, name);
        let found = self.stack.kind(-1) == kind;
        if !found {
            self.stack.pop(1);
        }
        found
    }

    fn text_field(&mut self, name: &str) -> bool {
        self.field(name, Type::String)
    }

    fn double(&mut self, value: f64) {
        let mut text = [0; number::NUMBER_LEN_MAX];
        let len = number::argument(value, &mut text);
        if self.resp3 { self.line(b',', &text[..len]) } else { self.bulk(&text[..len]) }
    }

    /// Writes the table on top as a map, or its keys as a set.
    fn pairs(&mut self, depth: usize, map: bool) -> Result<(), Raise> {
        let stack = self.stack;
        let table = stack.top();
        let at = self.out.len();
        self.header(b'*', 0);
        let mut count = 0;
        stack.push_nil();
        while stack.next(table) {
            stack.push_copy(-2);
            self.value(depth + 1)?;
            if map {
                self.value(depth + 1)?;
            } else {
                stack.pop(1);
            }
            count += 1;
        }
        match (self.resp3, map) {
            (true, true) => self.set_count(at, b'%', count),
            (true, false) => self.set_count(at, b'~', count),
            (false, true) => self.set_count(at, b'*', count * 2),
            (false, false) => self.set_count(at, b'*', count),
        }
        Ok(())
    }

    /// Writes `{format = …, string = …}` on top; false if it is not one.
    fn verbatim(&mut self) -> bool {
        let stack = self.stack;
        if !self.text_field("string") {
            stack.pop(1);
            return false;
        }
        let text = stack.bytes(-1).unwrap_or_default();
        stack.insert(-2);
        if !self.text_field("format") {
            stack.pop(2);
            return false;
        }
        if self.resp3 {
            let mut format = [b' '; 3];
            for (to, from) in format.iter_mut().zip(stack.bytes(-1).unwrap_or_default()) {
                *to = *from;
            }
            self.header(b'=', text.len() as i64 + 4);
            self.out.extend_from_slice(&format);
            self.out.push(b':');
            self.out.extend_from_slice(text);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text);
        }
        true
    }

    fn null(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// One line of text; line ends within it become spaces.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let start = self.out.len();
        self.out.extend_from_slice(text);
        blank_line_ends(&mut self.out[start..]);
        self.out.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, kind: u8, value: i64) {
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Replaces the four bytes of an empty header by the true kind and count.
    fn set_count(&mut self, at: usize, kind: u8, count: i64) {
        let mut header = [0u8; 24];
        let mut rest = &mut header[..];
        let written = write!(rest, "{}{count}\r\n", char::from(kind)).is_ok();
        debug_assert!(written);
        let left = rest.len();
        let header = &header[..24 - left];
        if header.len() == 4 {
            self.out[at..at + 4].copy_from_slice(header);
        } else {
            self.out.splice(at..at + 4, header.iter().copied());
        }
    }
}

/// What a server in C would make of it: the bytes before the first NUL.
pub(crate) fn c_string(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn blank_line_ends(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|b| matches!(**b, b'\r' | b'\n')).for_each(|b| *b = b' ');
}
