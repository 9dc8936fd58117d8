//! Sparse registers: runs of equal registers, one after the other.
//!
//! ```text
//! 00nnnnnn            n + 1 registers are 0         "ZERO"
//! 01nnnnnn nnnnnnnn   n + 1 registers are 0         "XZERO"
//! 1vvvvvnn            n + 1 registers are v + 1     "VAL"
//! ```
//! Which runs stand for the same registers depends on the history. [`raise`] splits and joins them as Redis
//! does, so the same commands lead to the same bytes.

use std::fmt::Write;

use super::{Corrupt, HEADER_BYTES, REGISTERS};
use crate::buf::Buf;

/// All registers are 0.
pub(super) const EMPTY: [u8; 2] = [XZERO | ((REGISTERS - 1) >> 8) as u8, (REGISTERS - 1) as u8];

const XZERO: u8 = 0x40;
const VAL: u8 = 0x80;
const ZERO_LEN_MAX: usize = 64;
const VAL_LEN_MAX: usize = 4;
const VAL_MAX: u8 = 32;

/// Registers that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: usize,
    pub len: usize,
    pub value: u8,
    /// Bytes that it takes.
    bytes: usize,
}

impl Run {
    /// Its registers, unless they are 0.
    pub fn registers_above_zero(self) -> std::ops::Range<usize> {
        if self.value > 0 { self.first..self.first + self.len } else { 0..0 }
    }
}

/// The run at `at`, whose first register is `first`. Nothing at the end, or where the end comes too early.
fn run_at(bytes: &[u8], at: usize, first: usize) -> Option<Run> {
    let byte = *bytes.get(at)?;
    Some(if byte & VAL != 0 {
        Run { first, len: usize::from(byte & 3) + 1, value: (byte >> 2 & 0x1F) + 1, bytes: 1 }
    } else if byte & XZERO != 0 {
        let low = *bytes.get(at + 1)?;
        Run { first, len: (usize::from(byte & 0x3F) << 8 | usize::from(low)) + 1, value: 0, bytes: 2 }
    } else {
        Run { first, len: usize::from(byte) + 1, value: 0, bytes: 1 }
    })
}

/// Each run. On an error some were seen already; none reaches beyond the last register.
pub(super) fn each(registers: &[u8], mut see: impl FnMut(Run)) -> Result<(), Corrupt> {
    let (mut at, mut first) = (0, 0);
    while let Some(run) = run_at(registers, at, first) {
        if first + run.len > REGISTERS {
            return Err(Corrupt);
        }
        see(run);
        at += run.bytes;
        first += run.len;
    }
    if first == REGISTERS && at == registers.len() { Ok(()) } else { Err(Corrupt) }
}

/// Whether the runs cover all registers and no more.
pub(super) fn check(registers: &[u8]) -> Result<(), Corrupt> {
    each(registers, |_| {})
}

/// `z:` and `Z:` with a length for zeroes, `v:` with value and length.
pub(super) fn describe(registers: &[u8]) -> Result<String, Corrupt> {
    let mut words = String::new();
    each(registers, |run| {
        let gap = if words.is_empty() { "" } else { " " };
        let written = match run {
            Run { value: 0, bytes: 1, len, .. } => write!(words, "{gap}z:{len}"),
            Run { value: 0, len, .. } => write!(words, "{gap}Z:{len}"),
            Run { value, len, .. } => write!(words, "{gap}v:{value},{len}"),
        };
        debug_assert!(written.is_ok(), "a string takes all that is written");
    })?;
    Ok(words)
}

/// A run to begin a search at: its place in the string and its first register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    at: usize,
    first: usize,
}

impl Place {
    pub const fn start() -> Self {
        Self { at: HEADER_BYTES, first: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raised {
    No,
    Yes,
    /// The value is too high for a run, or the string would become longer than allowed.
    DoesNotFit,
}

/// Raises the register `index` of a whole string. `place` is a run at or before it, and becomes the one before
/// the register's. INVARIANT of the callers: the runs were checked.
pub(super) fn raise(bytes: &mut Buf, index: usize, value: u8, bytes_max: usize, place: &mut Place) -> Raised {
    if value > VAL_MAX {
        return Raised::DoesNotFit;
    }
    let (at, before, run) = find(bytes, index, *place).expect("checked runs cover all registers");
    *place = before.unwrap_or(Place::start());
    if run.value >= value {
        return Raised::No;
    }
    let mut split = Split::default();
    split.push(run.value, index - run.first);
    split.push(value, 1);
    split.push(run.value, run.first + run.len - 1 - index);
    let grows = split.len > run.bytes;
    if grows && bytes.len() + split.len - run.bytes > bytes_max {
        return Raised::DoesNotFit;
    }
    bytes.splice(at, run.bytes, split.len).copy_from_slice(&split.bytes[..split.len]);
    join(bytes, place.at);
    Raised::Yes
}

/// The run that holds a register: where it stands, the one before it, and itself.
fn find(bytes: &[u8], index: usize, from: Place) -> Option<(usize, Option<Place>, Run)> {
    let (mut place, mut before) = (from, None);
    loop {
        let run = run_at(bytes, place.at, place.first)?;
        if index < run.first + run.len {
            break if before.is_none() && from != Place::start() {
                // The run before it is wanted, too.
                find(bytes, index, Place::start())
            } else {
                Some((place.at, before, run))
            };
        }
        before = Some(place);
        place = Place { at: place.at + run.bytes, first: place.first + run.len };
    }
}

/// What takes a run's place: at most three runs, of at most five bytes.
#[derive(Default)]
struct Split {
    bytes: [u8; 5],
    len: usize,
}

impl Split {
    fn push(&mut self, value: u8, registers: usize) {
        let Some(n) = registers.checked_sub(1) else { return };
        if value > 0 {
            self.byte(val(value, registers));
        } else if registers > ZERO_LEN_MAX {
            self.byte(XZERO | (n >> 8) as u8);
            self.byte(n as u8);
        } else {
            self.byte(n as u8);
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

fn val(value: u8, registers: usize) -> u8 {
    VAL | (value - 1) << 2 | (registers - 1) as u8
}

/// Runs that [`join`] looks at: the one before the change, the three of a split, and one behind.
const JOIN_STEPS: usize = 5;

/// Joins neighbours of the same value where one run can hold both, from the run at `at` on.
fn join(bytes: &mut Buf, mut at: usize) {
    for _ in 0..JOIN_STEPS {
        let Some(run) = run_at(bytes, at, 0) else { return };
        let next = run_at(bytes, at + run.bytes, 0).filter(|next| run.value > 0 && next.value == run.value);
        match next {
            Some(next) if run.len + next.len <= VAL_LEN_MAX => {
                bytes.splice(at, 2, 1)[0] = val(run.value, run.len + next.len);
            }
            _ => at += run.bytes,
        }
    }
}
