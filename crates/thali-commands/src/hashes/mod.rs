//! Hashes: fields with values under one key.

mod field_args;
pub mod hdel;
pub mod hexists;
pub mod hexpire;
pub mod hget;
pub mod hgetall;
pub mod hgetdel;
pub mod hgetex;
pub mod hincrby;
pub mod hincrbyfloat;
pub mod hlen;
pub mod hmget;
pub mod hpersist;
pub mod hrandfield;
pub mod hscan;
pub mod hset;
pub mod hsetex;
pub mod hsetnx;
pub mod hstrlen;
pub mod httl;

use crate::{Access, Categories, Command, Flags, Group, Keys, Spec};

/// What the reading commands of this group share.
const READ: Spec = Spec {
    since: "2.0.0",
    group: Group::Hash,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: Keys::one(Access::READ),
    categories: Categories::HASH,
    ..Spec::BASE
};

/// What the writing commands of this group share.
const WRITE: Spec = Spec {
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    keys: Keys::one(Access::WRITE),
    ..READ
};

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &hdel::SPEC, run: hdel::run },
    Command { spec: &hexists::SPEC, run: hexists::run },
    Command { spec: &hexpire::HEXPIRE, run: hexpire::hexpire },
    Command { spec: &hexpire::HEXPIREAT, run: hexpire::hexpireat },
    Command { spec: &httl::HEXPIRETIME, run: httl::hexpiretime },
    Command { spec: &hget::SPEC, run: hget::run },
    Command { spec: &hgetall::HGETALL, run: hgetall::hgetall },
    Command { spec: &hgetdel::SPEC, run: hgetdel::run },
    Command { spec: &hgetex::SPEC, run: hgetex::run },
    Command { spec: &hincrby::SPEC, run: hincrby::run },
    Command { spec: &hincrbyfloat::SPEC, run: hincrbyfloat::run },
    Command { spec: &hgetall::HKEYS, run: hgetall::hkeys },
    Command { spec: &hlen::SPEC, run: hlen::run },
    Command { spec: &hmget::SPEC, run: hmget::run },
    Command { spec: &hset::HMSET, run: hset::hmset },
    Command { spec: &hpersist::SPEC, run: hpersist::run },
    Command { spec: &hexpire::HPEXPIRE, run: hexpire::hpexpire },
    Command { spec: &hexpire::HPEXPIREAT, run: hexpire::hpexpireat },
    Command { spec: &httl::HPEXPIRETIME, run: httl::hpexpiretime },
    Command { spec: &httl::HPTTL, run: httl::hpttl },
    Command { spec: &hrandfield::SPEC, run: hrandfield::run },
    Command { spec: &hscan::SPEC, run: hscan::run },
    Command { spec: &hset::HSET, run: hset::hset },
    Command { spec: &hsetex::SPEC, run: hsetex::run },
    Command { spec: &hsetnx::SPEC, run: hsetnx::run },
    Command { spec: &hstrlen::SPEC, run: hstrlen::run },
    Command { spec: &httl::HTTL, run: httl::httl },
    Command { spec: &hgetall::HVALS, run: hgetall::hvals },
];
