//! Bitmaps and bit fields: strings whose bits are counted from the highest of the first byte.

pub mod bitcount;
pub mod bitfield;
pub mod bitop;
pub mod bitpos;
pub mod getbit;
pub mod setbit;

use std::ops::Range;

use thali_data::Limits;

use crate::{
    Access, Categories, Command, Context, ErrorReply, Flags, Group, Keys, Origin, Spec, is_word, parse_i64,
};

/// What the reading commands of this group share.
const READ: Spec = Spec {
    group: Group::Bitmap,
    flags: Flags::READONLY,
    keys: Keys::one(Access::READ),
    categories: Categories::BITMAP,
    ..Spec::BASE
};

/// What the writing commands of this group share.
const WRITE: Spec =
    Spec { flags: Flags::WRITE.union(Flags::DENYOOM), keys: Keys::one(Access::READ_WRITE), ..READ };

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &bitcount::SPEC, run: bitcount::run },
    Command { spec: &bitfield::BITFIELD, run: bitfield::bitfield },
    Command { spec: &bitfield::BITFIELD_RO, run: bitfield::bitfield_ro },
    Command { spec: &bitop::SPEC, run: bitop::run },
    Command { spec: &bitpos::SPEC, run: bitpos::run },
    Command { spec: &getbit::SPEC, run: getbit::run },
    Command { spec: &setbit::SPEC, run: setbit::run },
];

/// The place of a bit, below eight times `proto-max-bulk-len`. What the journal replays was within the limit
/// of its time.
fn offset(cx: &Context<'_>, arg: &[u8]) -> Result<u64, ErrorReply> {
    offset_in_units(cx, arg, 1)
}

/// As [`offset`], counted in `unit` bits.
fn offset_in_units(cx: &Context<'_>, arg: &[u8], unit: u32) -> Result<u64, ErrorReply> {
    let bytes_max = match cx.origin {
        Origin::Replay => Limits::STRING_BYTES_MAX,
        _ => cx.limits.proto_max_bulk_len,
    };
    let offset = parse_i64(arg).and_then(|n| u64::try_from(n).ok()?.checked_mul(u64::from(unit)));
    offset
        .filter(|offset| offset / 8 < bytes_max as u64)
        .ok_or(ErrorReply::new("ERR bit offset is not an integer or out of range"))
}

/// What the ends of a range count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(arg: &[u8]) -> Result<Self, ErrorReply> {
        match arg {
            _ if is_word(arg, "BYTE") => Ok(Unit::Byte),
            _ if is_word(arg, "BIT") => Ok(Unit::Bit),
            _ => Err(ErrorReply::SYNTAX),
        }
    }

    /// The bits from `start` to `end` inclusive of a string of `len` bytes. Negative ends count from behind; what
    /// is still negative is 0.
    fn bits(self, start: i64, end: i64, len: usize) -> Range<u64> {
        let (len, size) = match self {
            Unit::Byte => (len as i64, 8),
            Unit::Bit => (len as i64 * 8, 1),
        };
        let clamp = |n: i64| if n < 0 { (len + n).max(0) } else { n };
        let (start, end) = (clamp(start), clamp(end).min(len - 1));
        if start > end { 0..0 } else { start as u64 * size..(end as u64 + 1) * size }
    }
}
