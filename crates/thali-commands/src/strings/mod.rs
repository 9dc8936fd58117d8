//! Strings and counters.

pub mod append;
pub mod get;
pub mod getdel;
pub mod getex;
pub mod getrange;
pub mod getset;
pub mod incr;
pub mod incrbyfloat;
pub mod lcs;
pub mod mget;
pub mod mset;
pub mod set;
pub mod setex;
pub mod setnx;
pub mod setrange;
pub mod strlen;

use thali_data::{IntBuf, Str};
use thali_resp::Reply;

use crate::{Access, Categories, Command, Context, ErrorReply, EventClass, Flags, Group, Keys, Spec};

/// What the reading commands of this group share.
const READ: Spec = Spec {
    group: Group::String,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::READ),
    categories: Categories::STRING,
    ..Spec::BASE
};

/// What the writing commands of this group share.
const WRITE: Spec = Spec {
    group: Group::String,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::one(Access::READ_WRITE),
    categories: Categories::STRING,
    ..Spec::BASE
};

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &append::SPEC, run: append::run },
    Command { spec: &get::SPEC, run: get::run },
    Command { spec: &getdel::SPEC, run: getdel::run },
    Command { spec: &getex::SPEC, run: getex::run },
    Command { spec: &getrange::GETRANGE, run: getrange::run },
    Command { spec: &getrange::SUBSTR, run: getrange::run },
    Command { spec: &getset::SPEC, run: getset::run },
    Command { spec: &incr::INCR, run: incr::incr },
    Command { spec: &incr::DECR, run: incr::decr },
    Command { spec: &incr::INCRBY, run: incr::incrby },
    Command { spec: &incr::DECRBY, run: incr::decrby },
    Command { spec: &incrbyfloat::SPEC, run: incrbyfloat::run },
    Command { spec: &lcs::SPEC, run: lcs::run },
    Command { spec: &mget::SPEC, run: mget::run },
    Command { spec: &mset::MSET, run: mset::mset },
    Command { spec: &mset::MSETNX, run: mset::msetnx },
    Command { spec: &set::SPEC, run: set::run },
    Command { spec: &setex::SETEX, run: setex::setex },
    Command { spec: &setex::PSETEX, run: setex::psetex },
    Command { spec: &setnx::SPEC, run: setnx::run },
    Command { spec: &setrange::SPEC, run: setrange::run },
    Command { spec: &strlen::SPEC, run: strlen::run },
];

/// Puts a string that stays.
fn put(cx: &mut Context<'_>, key: &[u8], value: &[u8]) {
    cx.put_text(key, value, None);
    cx.modified(EventClass::STRING, "set", key);
}

/// Replies the string that is there, or null; whether there is one.
fn reply_old(cx: &Context<'_>, key: &[u8], reply: &mut Reply<'_>) -> Result<bool, ErrorReply> {
    let old = cx.read::<Str>(key)?;
    match old {
        Some(value) => reply.bulk(value.bytes(&mut IntBuf::new())),
        None => reply.null(),
    }
    Ok(old.is_some())
}
