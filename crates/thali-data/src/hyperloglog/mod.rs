//! HyperLogLog: how many different elements were seen, within about 0.81%, in a string of at most 12,304
//! bytes. The bytes are Redis's, so that GET, DUMP and files are exchangeable.
//!
//! ```text
//! "HYLL"  encoding: u8  0 0 0  count: u64 little-endian   header, 16 bytes
//! registers
//! ```
//! Encoding 0 is dense ([`dense`]), 1 sparse ([`sparse`]). An element's hash names one of 16,384 registers and
//! proposes a value for it, the register keeps the highest ([`estimate`]). The count is that of the last
//! estimate; its highest bit says that registers have changed since.
//!
//! A string comes from anywhere: [`HyperLogLog::of`] looks at its header, and what walks over sparse
//! registers says [`Corrupt`] where they are not as many as there should be.
//!
//! SOURCE: Redis 7.2 `hyperloglog.c`, for the layout and when it changes; Ertl, "New cardinality estimation
//! algorithms for HyperLogLog sketches" (arXiv:1702.01284), for the estimate.

mod dense;
mod estimate;
mod self_test;
mod sparse;
#[cfg(test)]
mod tests;

use crate::buf::Buf;
use crate::item::Item;
use crate::str::Str;

pub use self_test::{SelfTest, self_test};

/// How many registers there are: 2^14.
pub const REGISTERS: usize = 1 << 14;

const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const COUNT_AT: usize = 8;
const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + dense::BYTES;
/// In the count's last byte: it is out of date.
const STALE: u8 = 0x80;

/// The registers of a sparse string are not 16,384.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Dense,
    Sparse,
}

/// Registers of one or several HyperLogLogs, a byte each.
pub struct Registers([u8; REGISTERS]);

impl Registers {
    pub fn new() -> Self {
        Self([0; REGISTERS])
    }

    /// The register values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u8> {
        self.0.iter().copied()
    }

    /// The estimate over these registers.
    pub fn count(&self) -> u64 {
        let mut histogram = estimate::Histogram::default();
        self.iter().for_each(|value| histogram.add(value, 1));
        histogram.count()
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registers({})", self.count())
    }
}

/// A string that is a HyperLogLog, for reading.
#[derive(Clone, Copy, Debug)]
pub struct HyperLogLog<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
}

impl<'a> HyperLogLog<'a> {
    /// Nothing where the string is something else: too short, another magic or encoding, or dense and of a
    /// wrong length.
    pub fn of(string: &'a Str) -> Option<Self> {
        match string.item() {
            Item::Bytes(bytes) => Self::of_bytes(bytes),
            Item::Int(_) => None,
        }
    }

    fn of_bytes(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return None;
        }
        let encoding = match bytes[ENCODING_AT] {
            0 if bytes.len() == DENSE_BYTES => Encoding::Dense,
            1 => Encoding::Sparse,
            _ => return None,
        };
        Some(Self { bytes, encoding })
    }

    pub fn encoding(self) -> Encoding {
        self.encoding
    }

    fn registers(self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The count that is kept, unless it is out of date.
    pub fn kept_count(self) -> Option<u64> {
        let count = self.bytes[COUNT_AT..HEADER_BYTES].try_into().map(u64::from_le_bytes);
        count.ok().filter(|_| self.bytes[HEADER_BYTES - 1] & STALE == 0)
    }

    /// The estimate, made anew.
    pub fn count(self) -> Result<u64, Corrupt> {
        let mut histogram = estimate::Histogram::default();
        match self.encoding {
            Encoding::Dense => dense::each(self.registers(), |_, value| histogram.add(value, 1)),
            Encoding::Sparse => sparse::each(self.registers(), |run| histogram.add(run.value, run.len))?,
        }
        Ok(histogram.count())
    }

    /// Raises each of `registers` to this one's; after an error some are raised.
    pub fn merge_into(self, registers: &mut Registers) -> Result<(), Corrupt> {
        let mut raise = |at: usize, value: u8| registers.0[at] = registers.0[at].max(value);
        match self.encoding {
            Encoding::Dense => dense::each(self.registers(), raise),
            Encoding::Sparse => sparse::each(self.registers(), |run| {
                run.registers_above_zero().for_each(|at| raise(at, run.value));
            })?,
        }
        Ok(())
    }

    /// A sparse one's runs in PFDEBUG DECODE's words; nothing where it is dense.
    pub fn decode(self) -> Option<Result<String, Corrupt>> {
        (self.encoding == Encoding::Sparse).then(|| sparse::describe(self.registers()))
    }
}

/// A string that is a HyperLogLog, to be changed. It is "raw" from then on, as after every edit.
#[derive(Debug)]
pub struct HyperLogLogMut<'a> {
    bytes: &'a mut Buf,
    encoding: Encoding,
}

impl<'a> HyperLogLogMut<'a> {
    /// As [`HyperLogLog::of`]. Sparse registers are checked as a whole, so that no change stops halfway.
    pub fn of(string: &'a mut Str) -> Option<Result<Self, Corrupt>> {
        let view = HyperLogLog::of(string)?;
        if view.encoding == Encoding::Sparse && sparse::check(view.registers()).is_err() {
            return Some(Err(Corrupt));
        }
        let encoding = view.encoding;
        Some(Ok(Self { bytes: string.edit(), encoding }))
    }

    /// Adds an element; whether a register has changed, and the count is out of date. Sparse registers that
    /// would make the string longer than `sparse_bytes_max` become dense.
    pub fn add(&mut self, element: &[u8], sparse_bytes_max: usize) -> bool {
        let (at, value) = estimate::register_of(element);
        let has_changed = self.raise(at, value, sparse_bytes_max, &mut sparse::Place::start());
        if has_changed {
            self.forget_count();
        }
        has_changed
    }

    /// Raises each register to that of `registers`. The count is out of date afterwards, whatever has changed.
    pub fn merge(&mut self, registers: &Registers, sparse_bytes_max: usize) {
        // Ascending, so each search goes on where the last one ended.
        let mut place = sparse::Place::start();
        for (at, value) in registers.iter().enumerate().filter(|(_, value)| *value > 0) {
            self.raise(at, value, sparse_bytes_max, &mut place);
        }
        self.forget_count();
    }

    /// The count is the caller's to forget.
    fn raise(&mut self, at: usize, value: u8, sparse_bytes_max: usize, place: &mut sparse::Place) -> bool {
        if self.encoding == Encoding::Sparse {
            match sparse::raise(self.bytes, at, value, sparse_bytes_max, place) {
                sparse::Raised::No => return false,
                sparse::Raised::Yes => return true,
                sparse::Raised::DoesNotFit => self.make_dense(),
            };
        }
        dense::raise(&mut self.bytes[HEADER_BYTES..], at, value)
    }

    /// Turns sparse registers into dense ones; whether they were sparse. The kept count stays.
    pub fn make_dense(&mut self) -> bool {
        if self.encoding == Encoding::Dense {
            return false;
        }
        let mut registers = [0; dense::BYTES];
        let made = sparse::each(&self.bytes[HEADER_BYTES..], |run| {
            for at in run.registers_above_zero() {
                dense::raise(&mut registers, at, run.value);
            }
        });
        debug_assert!(made.is_ok(), "sparse registers were checked before they were changed");
        self.bytes.resize(DENSE_BYTES);
        self.bytes[HEADER_BYTES..].copy_from_slice(&registers);
        self.bytes[ENCODING_AT] = 0;
        self.encoding = Encoding::Dense;
        true
    }

    /// For reading.
    pub fn view(&self) -> HyperLogLog<'_> {
        HyperLogLog { bytes: self.bytes, encoding: self.encoding }
    }

    pub fn keep_count(&mut self, count: u64) {
        self.bytes[COUNT_AT..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
    }

    pub fn forget_count(&mut self) {
        self.bytes[HEADER_BYTES - 1] |= STALE;
    }
}

/// A HyperLogLog that has seen nothing: sparse, with a count of 0 that holds.
pub fn new_string() -> Str {
    let mut bytes = [0; HEADER_BYTES + sparse::EMPTY.len()];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = 1;
    bytes[HEADER_BYTES..].copy_from_slice(&sparse::EMPTY);
    let mut string = Str::new();
    string.append(&bytes);
    string
}
