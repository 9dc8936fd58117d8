//! HyperLogLog: counting different elements in a string of bounded size.

pub mod pfadd;
pub mod pfcount;
pub mod pfdebug;
pub mod pfmerge;
pub mod pfselftest;

use thali_data::Str;
use thali_data::hyperloglog::{Corrupt, HyperLogLog, HyperLogLogMut};

use crate::{Access, Categories, Command, Context, ErrorReply, Flags, Group, Keys, Spec};

/// What the writing commands of this group share.
const WRITE: Spec = Spec {
    since: "2.8.9",
    group: Group::HyperLogLog,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::one(Access::WRITE),
    categories: Categories::HYPERLOGLOG,
    ..Spec::BASE
};

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &pfadd::SPEC, run: pfadd::run },
    Command { spec: &pfcount::SPEC, run: pfcount::run },
    Command { spec: &pfdebug::SPEC, run: pfdebug::run },
    Command { spec: &pfmerge::SPEC, run: pfmerge::run },
    Command { spec: &pfselftest::SPEC, run: pfselftest::run },
];

const NOT_ONE: ErrorReply = ErrorReply::new("WRONGTYPE Key is not a valid HyperLogLog string value.");

/// What counting says of registers that are not as many as there should be.
fn corrupt(_: Corrupt) -> ErrorReply {
    ErrorReply::new("INVALIDOBJ Corrupted HLL object detected")
}

fn read<'a>(cx: &'a Context<'_>, key: &[u8]) -> Result<Option<HyperLogLog<'a>>, ErrorReply> {
    cx.read::<Str>(key)?.map(|string| HyperLogLog::of(string).ok_or(NOT_ONE)).transpose()
}

fn change(string: &mut Str) -> Result<HyperLogLogMut<'_>, ErrorReply> {
    HyperLogLogMut::of(string).ok_or(NOT_ONE)?.map_err(corrupt)
}
