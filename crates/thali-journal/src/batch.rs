//! The line before each batch: how long the batch is, what its bytes sum up to, and how much of the file
//! was synced when it was written. A comment to Redis.
//!
//! ```text
//! header = "#thali:" payload_len ":" synced_len ":" payload_crc ":" check CRLF       48 bytes
//! ```
//!
//! All numbers are lower-case hexadecimal, ten digits for lengths and eight for sums. `payload_crc` is the
//! CRC-32C of the bytes behind the line, `check` that of the line before it and of the line's own offset in
//! the file (8 bytes, little-endian): a batch that was moved, repeated, or left over from a file that lay
//! there before is no batch. The line stands first, so that a reader knows the extent of what it is about
//! to believe. SOURCE: redis 7.0 `aof.c` and `redis-check-aof.c` skip lines that begin with `#`.

/// Bytes of the line.
pub(crate) const HEADER_LEN: usize = 48;
pub(crate) const PREFIX: &[u8] = b"#thali:";
/// A batch that has this many bytes takes no further group. One group may be longer.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

const LENGTH_DIGITS: usize = 10;
const SUM_DIGITS: usize = 8;
const LENGTH_MAX: u64 = (1 << (4 * LENGTH_DIGITS)) - 1;
const CHECKED_LEN: usize = HEADER_LEN - SUM_DIGITS - 2;
const PAYLOAD_LEN_AT: usize = PREFIX.len();
const SYNCED_LEN_AT: usize = PAYLOAD_LEN_AT + LENGTH_DIGITS + 1;
const PAYLOAD_CRC_AT: usize = SYNCED_LEN_AT + LENGTH_DIGITS + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub payload_len: u64,
    /// Up to here at least, the file was synced when the batch was written.
    pub synced_len: u64,
    pub payload_crc: u32,
}

impl Header {
    /// The line, for `offset` in the file.
    pub fn format(&self, offset: u64) -> [u8; HEADER_LEN] {
        let mut line = [b':'; HEADER_LEN];
        line[..PREFIX.len()].copy_from_slice(PREFIX);
        hex(&mut line[PAYLOAD_LEN_AT..][..LENGTH_DIGITS], self.payload_len);
        hex(&mut line[SYNCED_LEN_AT..][..LENGTH_DIGITS], self.synced_len);
        hex(&mut line[PAYLOAD_CRC_AT..][..SUM_DIGITS], self.payload_crc.into());
        let mut checked = [0; CHECKED_LEN + 8];
        checked[..CHECKED_LEN].copy_from_slice(&line[..CHECKED_LEN]);
        checked[CHECKED_LEN..].copy_from_slice(&offset.to_le_bytes());
        hex(&mut line[CHECKED_LEN..][..SUM_DIGITS], checksum(&checked).into());
        line[HEADER_LEN - 2..].copy_from_slice(b"\r\n");
        line
    }

    /// Reads the line at `offset` in the file; `None` for any other bytes than `format` makes there.
    pub fn parse(line: &[u8], offset: u64) -> Option<Self> {
        let line: &[u8; HEADER_LEN] = line.get(..HEADER_LEN)?.try_into().ok()?;
        let header = Header {
            payload_len: from_hex(&line[PAYLOAD_LEN_AT..][..LENGTH_DIGITS])?,
            synced_len: from_hex(&line[SYNCED_LEN_AT..][..LENGTH_DIGITS])?,
            payload_crc: from_hex(&line[PAYLOAD_CRC_AT..][..SUM_DIGITS])? as u32,
        };
        (header.format(offset) == *line).then_some(header)
    }
}

/// An empty batch. An increment begins with one, so that what no sync covered never stands at its beginning.
/// An increment that another one of ours follows ends with one, as does a base in AOF form, so that neither
/// passes for whole where it is not.
pub(crate) fn mark(offset: u64) -> [u8; HEADER_LEN] {
    Header { payload_len: 0, synced_len: 0, payload_crc: checksum(&[]) }.format(offset)
}

/// An empty batch that says that all before it is synced: a file that was closed in peace ends with one.
pub(crate) fn synced_mark(offset: u64) -> [u8; HEADER_LEN] {
    Header { payload_len: 0, synced_len: offset, payload_crc: checksum(&[]) }.format(offset)
}

/// Whether a file holds nothing but the beginning of an increment, or less.
pub(crate) fn is_unused(content: &[u8]) -> bool {
    let kept = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    content.len() <= HEADER_LEN && content[..kept] == mark(0)[..kept]
}

/// CRC-32C.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Groups on their way into the file, cut into batches; each with room for its line before it.
/// INVARIANT: `bytes` ends at the end of a group.
#[derive(Default)]
pub(crate) struct Batches {
    pub bytes: Vec<u8>,
    /// Where each batch's line begins, in `bytes`.
    starts: Vec<usize>,
}

impl Batches {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// To be called before the bytes of a group.
    pub fn begin_group(&mut self) {
        if self.starts.last().is_none_or(|start| self.bytes.len() - start >= BATCH_BYTES_MAX) {
            self.begin_batch();
        }
    }

    /// Begins a batch; left empty, it is a [`mark`].
    pub fn begin_batch(&mut self) {
        self.starts.push(self.bytes.len());
        self.bytes.resize(self.bytes.len() + HEADER_LEN, 0);
    }

    /// Fills in the lines, for bytes that will stand at `offset` of a file of which `synced_len` bytes are
    /// synced. May be called again for another place.
    pub fn seal(&mut self, offset: u64, synced_len: u64) {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        for (start, end) in self.starts.iter().copied().zip(ends) {
            let (line, payload) = self.bytes[start..end].split_at_mut(HEADER_LEN);
            let header = Header {
                payload_len: payload.len() as u64,
                synced_len: synced_len.min(LENGTH_MAX),
                payload_crc: checksum(payload),
            };
            line.copy_from_slice(&header.format(offset + start as u64));
        }
    }

    /// Puts `other` behind this.
    pub fn append(&mut self, mut other: Batches) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let by = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.starts.extend(other.starts.iter().map(|start| start + by));
    }

    /// Forgets everything but a capacity of `idle_bytes_max`.
    pub fn clear(&mut self, idle_bytes_max: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(idle_bytes_max);
        self.starts.clear();
    }
}

fn hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn from_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | u64::from((*digit as char).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_at_its_place_only() {
        let header = Header { payload_len: 1234, synced_len: LENGTH_MAX, payload_crc: 0xdead_beef };
        let line = header.format(77);
        assert_eq!(&line[..38], b"#thali:00000004d2:ffffffffff:deadbeef:");
        assert_eq!(Header::parse(&line, 77), Some(header));
        assert_eq!(Header::parse(&line, 78), None);
        assert_eq!(Header::parse(&line[..47], 77), None);
    }

    #[test]
    fn no_flipped_bit_passes() {
        let line = Header { payload_len: 99, synced_len: 5, payload_crc: 1 }.format(0);
        for at in 0..HEADER_LEN {
            for bit in 0..8 {
                let mut damaged = line;
                damaged[at] ^= 1 << bit;
                assert_eq!(Header::parse(&damaged, 0), None, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn batches_end_at_groups_and_are_bounded() {
        let mut batches = Batches::default();
        let group = vec![b'x'; 300_000];
        for _ in 0..9 {
            batches.begin_group();
            batches.bytes.extend_from_slice(&group);
        }
        batches.seal(1000, 7);
        let mut at = 0;
        let mut lens = Vec::new();
        while at < batches.len() {
            let header = Header::parse(&batches.bytes[at..], 1000 + at as u64).unwrap();
            let payload = &batches.bytes[at + HEADER_LEN..][..header.payload_len as usize];
            assert_eq!((header.payload_crc, header.synced_len), (checksum(payload), 7));
            lens.push(payload.len());
            at += HEADER_LEN + payload.len();
        }
        assert_eq!(lens, [1_200_000, 1_200_000, 300_000]);
    }

    #[test]
    fn the_sum_is_the_well_known_one() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
    }

    /// `cargo test --release -p thali-journal cost_of_a_batch -- --ignored --nocapture`
    #[test]
    #[ignore = "a figure, not a claim"]
    fn cost_of_a_batch() {
        for len in [50, 2_000, 100_000, 1_000_000] {
            let mut batches = Batches::default();
            batches.begin_group();
            batches.bytes.resize(HEADER_LEN + len, b'x');
            let rounds = 200_000_000 / (len + 2_000);
            let begun = std::time::Instant::now();
            for round in 0..rounds {
                std::hint::black_box(&mut batches).seal(round as u64, 0);
            }
            let nanos = begun.elapsed().as_nanos() as f64 / rounds as f64;
            println!("{len} bytes: {nanos:.0} ns, {:.2} GB/s", len as f64 / nanos);
        }
    }
}
