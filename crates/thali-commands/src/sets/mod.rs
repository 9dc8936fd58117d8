//! Sets.

pub mod sadd;
pub mod scard;
pub mod sdiff;
pub mod sinter;
pub mod sismember;
pub mod smembers;
pub mod smove;
pub mod spop;
pub mod srandmember;
pub mod srem;
pub mod sscan;
pub mod sunion;

use thali_data::Set;
use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{
    Access, Categories, Command, Context, ErrorReply, EventClass, Flags, Flow, Group, Keys, Outcome, Spec,
};

/// What the reading commands of this group share.
const READ: Spec = Spec {
    group: Group::Set,
    flags: Flags::READONLY,
    keys: Keys::one(Access::READ),
    categories: Categories::SET,
    ..Spec::BASE
};

/// What the writing commands of this group share.
const WRITE: Spec = Spec { flags: Flags::WRITE.union(Flags::FAST), keys: Keys::one(Access::WRITE), ..READ };

/// What SINTER, SUNION and SDIFF share.
const COMBINE: Spec = Spec { arity: -2, keys: Keys::all(Access::READ), ..READ };

/// What SINTERSTORE, SUNIONSTORE and SDIFFSTORE share: a destination, then sources.
const COMBINE_AND_STORE: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::Into { at: 1, access: Access::WRITE },
    ..READ
};

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &sadd::SPEC, run: sadd::run },
    Command { spec: &scard::SPEC, run: scard::run },
    Command { spec: &sdiff::SDIFF, run: sdiff::sdiff },
    Command { spec: &sdiff::SDIFFSTORE, run: sdiff::sdiffstore },
    Command { spec: &sinter::SINTER, run: sinter::sinter },
    Command { spec: &sinter::SINTERCARD, run: sinter::sintercard },
    Command { spec: &sinter::SINTERSTORE, run: sinter::sinterstore },
    Command { spec: &sismember::SISMEMBER, run: sismember::sismember },
    Command { spec: &smembers::SPEC, run: smembers::run },
    Command { spec: &sismember::SMISMEMBER, run: sismember::smismember },
    Command { spec: &smove::SPEC, run: smove::run },
    Command { spec: &spop::SPEC, run: spop::run },
    Command { spec: &srandmember::SPEC, run: srandmember::run },
    Command { spec: &srem::SPEC, run: srem::run },
    Command { spec: &sscan::SPEC, run: sscan::run },
    Command { spec: &sunion::SUNION, run: sunion::sunion },
    Command { spec: &sunion::SUNIONSTORE, run: sunion::sunionstore },
];

/// The sets at `keys`, `None` for those that are missing. A key of another type is an error wherever
/// it stands.
fn read_all<'c>(cx: &'c Context<'_>, keys: &[&[u8]]) -> Result<Vec<Option<&'c Set>>, ErrorReply> {
    keys.iter().map(|key| cx.read::<Set>(key)).collect()
}

/// Replies all members of a set.
fn reply_set(reply: &mut Reply<'_>, set: &Set) -> Outcome {
    reply.set(set.len());
    set.iter().for_each(|member| reply.item(member));
    Ok(Flow::Done)
}

/// Puts a computed set in the place of whatever `key` holds, and replies its size; an empty one leaves
/// no key.
fn store(cx: &mut Context<'_>, key: &[u8], set: Set, event: &'static str, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(set.len() as i64);
    if set.is_empty() {
        cx.delete(key);
    } else {
        cx.put(key, set, None);
        cx.modified(EventClass::SET, event, key);
    }
    Ok(Flow::Done)
}
