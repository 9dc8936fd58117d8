//! Keys of any type: existence, names, times to live, iteration; whole databases.

pub mod copy;
pub mod databases;
pub mod del;
pub mod dump;
pub mod echo;
pub mod exists;
pub mod expire;
pub mod keys;
pub mod kind;
pub mod memory;
pub mod object;
pub mod persist;
pub mod rename;
pub mod restore;
pub mod scan;
pub mod sort;
pub mod ttl;

use crate::{Categories, Command, Context, ErrorReply, Group, Spec, integer};

/// What the commands of this group share.
const BASE: Spec = Spec { group: Group::Generic, categories: Categories::KEYSPACE, ..Spec::BASE };

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &copy::SPEC, run: copy::run },
    Command { spec: &databases::SELECT, run: databases::select },
    Command { spec: &databases::SWAPDB, run: databases::swapdb },
    Command { spec: &databases::MOVE, run: databases::move_key },
    Command { spec: &databases::DBSIZE, run: databases::dbsize },
    Command { spec: &databases::FLUSHDB, run: databases::flushdb },
    Command { spec: &databases::FLUSHALL, run: databases::flushall },
    Command { spec: &del::DEL, run: del::run },
    Command { spec: &del::UNLINK, run: del::run },
    Command { spec: &dump::SPEC, run: dump::run },
    Command { spec: &echo::PING, run: echo::ping },
    Command { spec: &echo::ECHO, run: echo::echo },
    Command { spec: &echo::TIME, run: echo::time },
    Command { spec: &exists::EXISTS, run: exists::exists },
    Command { spec: &exists::TOUCH, run: exists::touch },
    Command { spec: &expire::EXPIRE, run: expire::expire },
    Command { spec: &expire::PEXPIRE, run: expire::pexpire },
    Command { spec: &expire::EXPIREAT, run: expire::expireat },
    Command { spec: &expire::PEXPIREAT, run: expire::pexpireat },
    Command { spec: &keys::SPEC, run: keys::run },
    Command { spec: &kind::SPEC, run: kind::run },
    Command { spec: &object::SPEC, run: object::run },
    Command { spec: &persist::SPEC, run: persist::run },
    Command { spec: &rename::RENAME, run: rename::rename },
    Command { spec: &rename::RENAMENX, run: rename::renamenx },
    Command { spec: &restore::SPEC, run: restore::run },
    Command { spec: &scan::SCAN, run: scan::scan },
    Command { spec: &scan::RANDOMKEY, run: scan::randomkey },
    Command { spec: &sort::SORT, run: sort::sort },
    Command { spec: &sort::SORT_RO, run: sort::sort_ro },
    Command { spec: &ttl::TTL, run: ttl::ttl },
    Command { spec: &ttl::PTTL, run: ttl::pttl },
    Command { spec: &ttl::EXPIRETIME, run: ttl::expiretime },
    Command { spec: &ttl::PEXPIRETIME, run: ttl::pexpiretime },
];

/// A database's number, as SELECT takes it.
fn db_number(cx: &Context<'_>, arg: &[u8]) -> Result<u32, ErrorReply> {
    let index = integer(arg)?;
    u32::try_from(index).ok().filter(|db| *db < cx.dbs_len).ok_or(ErrorReply::INVALID_DB)
}
