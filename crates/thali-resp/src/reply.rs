//! Replies: appended to an output buffer in the client's protocol version.

/// What stands around a bulk string: the marker, its length, and two line ends.
const BULK_FRAME_BYTES_MAX: usize = 1 + 20 + 2 + 2;

/// The version that a client chose with HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Writes one reply. Aggregates are announced by their length and followed by their elements.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The client's protocol version.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Goes on in another version: HELLO, and redis.setresp.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// Bytes in the buffer; with [`Reply::truncate`], undoes a reply.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written to the buffer.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Forgets all that was written after `len`.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// `+OK`
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string; `text` holds no line break.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: `CODE message`. Line breaks become blanks, as a reply is one line.
    pub fn error(&mut self, message: &[u8]) {
        self.out.push(b'-');
        self.out.extend(message.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
        self.end();
    }

    /// `:n`
    pub fn integer(&mut self, n: i64) {
        self.header(b':', n);
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        // Once for all: a buffer that grows for the last two bytes of a large one takes twice its room.
        self.out.reserve(BULK_FRAME_BYTES_MAX + bytes.len());
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.end();
    }

    /// A bulk string, or the null of this protocol.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// An integer as a bulk string.
    pub fn bulk_integer(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// The missing value: `$-1`, in RESP3 `_`.
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// The missing array: `*-1`, in RESP3 `_`.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// An array of `len` elements, which follow.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// A map of `pairs` keys, each followed by its value; in RESP2 a flat array.
    pub fn map(&mut self, pairs: usize) {
        if self.is_resp3() { self.header(b'%', pairs as i64) } else { self.header(b'*', pairs as i64 * 2) }
    }

    /// A set of `len` elements; in RESP2 an array.
    pub fn set(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'~' } else { b'*' }, len as i64);
    }

    /// Data sent without a request; in RESP2 an array.
    pub fn push(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'>' } else { b'*' }, len as i64);
    }

    /// A double that is already printed as Redis prints it; in RESP2 a bulk string.
    pub fn double_text(&mut self, text: &[u8]) {
        if self.is_resp3() { self.line(b',', text) } else { self.bulk(text) }
    }

    /// A whole number of any size, in decimal; in RESP2 a bulk string.
    pub fn big_number(&mut self, text: &str) {
        if self.is_resp3() { self.line(b'(', text.as_bytes()) } else { self.bulk(text.as_bytes()) }
    }

    /// What a client may leave aside: `pairs` keys, each followed by its value, and then the reply itself. RESP2 has
    /// nothing like it, so the caller writes it in RESP3 alone.
    pub fn attribute(&mut self, pairs: usize) {
        debug_assert!(self.is_resp3());
        self.header(b'|', pairs as i64);
    }

    /// A boolean; in RESP2 1 or 0.
    pub fn boolean(&mut self, value: bool) {
        let bytes: &[u8] = match (self.protocol, value) {
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
        };
        self.out.extend_from_slice(bytes);
    }

    /// A text with a three-letter format; in RESP2 a bulk string.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if !self.is_resp3() {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as i64 + 4);
        self.out.extend_from_slice(format.as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.end();
    }

    /// Lends the buffer to who writes replies by other means, behind what is there.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Bytes that are a complete reply already.
    pub fn raw(&mut self, reply: &[u8]) {
        self.out.extend_from_slice(reply);
    }

    /// An array whose length is known only after its elements: `write` returns the count.
    pub fn array_of(&mut self, write: impl FnOnce(&mut Self) -> usize) {
        self.deferred(write, |reply, len| reply.array(len));
    }

    /// A map whose length is known only after its pairs: `write` returns the count of pairs.
    pub fn map_of(&mut self, write: impl FnOnce(&mut Self) -> usize) {
        self.deferred(write, |reply, len| reply.map(len));
    }

    /// A set whose length is known only after its elements: `write` returns the count.
    pub fn set_of(&mut self, write: impl FnOnce(&mut Self) -> usize) {
        self.deferred(write, |reply, len| reply.set(len));
    }

    fn deferred(
        &mut self,
        write: impl FnOnce(&mut Self) -> usize,
        header: impl FnOnce(&mut Reply<'_>, usize),
    ) {
        let start = self.out.len();
        let len = write(self);
        let mut head = Vec::with_capacity(16);
        header(&mut Reply::new(&mut head, self.protocol), len);
        self.out.splice(start..start, head);
    }

    fn header(&mut self, marker: u8, n: i64) {
        self.line(marker, itoa::Buffer::new().format(n).as_bytes());
    }

    fn line(&mut self, marker: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.push(marker);
        self.out.extend_from_slice(text);
        self.end();
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, protocol));
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{protocol:?}");
        }
    }

    #[test]
    fn both_protocols() {
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.map(2), "*4\r\n", "%2\r\n");
        check(|r| r.set(2), "*2\r\n", "~2\r\n");
        check(|r| r.double_text(b"1.5"), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(|r| r.big_number("-99"), "$3\r\n-99\r\n", "(-99\r\n");
        check(|r| r.boolean(true), ":1\r\n", "#t\r\n");
        check(|r| r.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(|r| r.error(b"ERR a\nb"), "-ERR a b\r\n", "-ERR a b\r\n");
    }

    #[test]
    fn a_deferred_length_stands_before_its_elements() {
        let write = |r: &mut Reply<'_>| {
            r.integer(7);
            r.array_of(|r| {
                r.bulk(b"a");
                r.bulk(b"b");
                2
            });
        };
        check(write, ":7\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", ":7\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    }
}
