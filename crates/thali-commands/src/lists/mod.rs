//! Lists, blocking commands included.
//!
//! A blocking command that finds an element acts and is journaled as its plain counterpart; else it
//! parks and is run again, whole, when one of its keys has changed.

pub mod blpop;
pub mod lindex;
pub mod linsert;
pub mod llen;
pub mod lmove;
pub mod lmpop;
pub mod lpop;
pub mod lpos;
pub mod lpush;
pub mod lrange;
pub mod lrem;
pub mod lset;
pub mod ltrim;

use thali_data::list::End;

use crate::{
    Access, Categories, Command, Context, ErrorReply, EventClass, Flags, Group, Keys, Spec, is_word,
};

/// What the reading commands of this group share.
const READ: Spec = Spec {
    group: Group::List,
    flags: Flags::READONLY,
    keys: Keys::one(Access::READ),
    categories: Categories::LIST,
    ..Spec::BASE
};

/// What the writing commands of this group share.
const WRITE: Spec = Spec { flags: Flags::WRITE, keys: Keys::one(Access::WRITE), ..READ };

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &lmove::BLMOVE, run: lmove::blmove },
    Command { spec: &lmpop::BLMPOP, run: lmpop::blmpop },
    Command { spec: &blpop::BLPOP, run: blpop::blpop },
    Command { spec: &blpop::BRPOP, run: blpop::brpop },
    Command { spec: &lmove::BRPOPLPUSH, run: lmove::brpoplpush },
    Command { spec: &lindex::SPEC, run: lindex::run },
    Command { spec: &linsert::SPEC, run: linsert::run },
    Command { spec: &llen::SPEC, run: llen::run },
    Command { spec: &lmove::LMOVE, run: lmove::lmove },
    Command { spec: &lmpop::LMPOP, run: lmpop::lmpop },
    Command { spec: &lpop::LPOP, run: lpop::lpop },
    Command { spec: &lpos::SPEC, run: lpos::run },
    Command { spec: &lpush::LPUSH, run: lpush::lpush },
    Command { spec: &lpush::LPUSHX, run: lpush::lpushx },
    Command { spec: &lrange::SPEC, run: lrange::run },
    Command { spec: &lrem::SPEC, run: lrem::run },
    Command { spec: &lset::SPEC, run: lset::run },
    Command { spec: &ltrim::SPEC, run: ltrim::run },
    Command { spec: &lpop::RPOP, run: lpop::rpop },
    Command { spec: &lmove::RPOPLPUSH, run: lmove::rpoplpush },
    Command { spec: &lpush::RPUSH, run: lpush::rpush },
    Command { spec: &lpush::RPUSHX, run: lpush::rpushx },
];

/// `LEFT` or `RIGHT`.
fn parse_end(arg: &[u8]) -> Result<End, ErrorReply> {
    match arg {
        _ if is_word(arg, "LEFT") => Ok(End::Front),
        _ if is_word(arg, "RIGHT") => Ok(End::Back),
        _ => Err(ErrorReply::SYNTAX),
    }
}

/// The word for an end, as LMOVE and LMPOP take it.
fn end_word(end: End) -> &'static [u8] {
    match end {
        End::Front => b"LEFT",
        End::Back => b"RIGHT",
    }
}

/// Says that elements were taken from an end of a list, and removes the list if it is empty now.
fn popped(cx: &mut Context<'_>, key: &[u8], end: End) {
    let event = match end {
        End::Front => "lpop",
        End::Back => "rpop",
    };
    cx.modified(EventClass::LIST, event, key);
    cx.remove_if_empty(key);
}

/// Says that an element was added at an end of a list.
fn pushed(cx: &mut Context<'_>, key: &[u8], end: End) {
    let event = match end {
        End::Front => "lpush",
        End::Back => "rpush",
    };
    cx.modified(EventClass::LIST, event, key);
}
