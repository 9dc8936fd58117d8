//! Dense registers: 6 bits each, from the lowest bit of the first byte on, so that four fill three bytes.
//!
//! ```text
//! 11000000 22221111 33333322
//! ```

use super::REGISTERS;

pub(super) const BYTES: usize = REGISTERS * BITS / 8;
const BITS: usize = 6;
const VALUE_MAX: u32 = (1 << BITS) - 1;

/// Each register's number and value.
pub(super) fn each(registers: &[u8], mut see: impl FnMut(usize, u8)) {
    let (groups, _) = registers.as_chunks::<3>();
    for (n, [low, middle, high]) in groups.iter().enumerate() {
        let four = u32::from_le_bytes([*low, *middle, *high, 0]);
        for place in 0..4 {
            see(n * 4 + place, (four >> (place * BITS) & VALUE_MAX) as u8);
        }
    }
}

/// Raises a register to `value`, which has at most 6 bits; whether it was lower.
pub(super) fn raise(registers: &mut [u8], at: usize, value: u8) -> bool {
    let shift = at % 4 * BITS;
    let group = &mut registers[at / 4 * 3..at / 4 * 3 + 3];
    let four = u32::from_le_bytes([group[0], group[1], group[2], 0]);
    let is_lower = four >> shift & VALUE_MAX < u32::from(value);
    if is_lower {
        let four = four & !(VALUE_MAX << shift) | u32::from(value) << shift;
        group.copy_from_slice(&four.to_le_bytes()[..3]);
    }
    is_lower
}
