//! Hashes: fields with values under one key.

pub mod hdel;
pub mod hexists;
pub mod hget;
pub mod hgetall;
pub mod hincrby;
pub mod hincrbyfloat;
pub mod hlen;
pub mod hmget;
pub mod hrandfield;
pub mod hscan;
pub mod hset;
pub mod hsetnx;
pub mod hstrlen;

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
    Command { spec: &hget::SPEC, run: hget::run },
    Command { spec: &hgetall::HGETALL, run: hgetall::hgetall },
    Command { spec: &hincrby::SPEC, run: hincrby::run },
    Command { spec: &hincrbyfloat::SPEC, run: hincrbyfloat::run },
    Command { spec: &hgetall::HKEYS, run: hgetall::hkeys },
    Command { spec: &hlen::SPEC, run: hlen::run },
    Command { spec: &hmget::SPEC, run: hmget::run },
    Command { spec: &hset::HMSET, run: hset::hmset },
    Command { spec: &hrandfield::SPEC, run: hrandfield::run },
    Command { spec: &hscan::SPEC, run: hscan::run },
    Command { spec: &hset::HSET, run: hset::hset },
    Command { spec: &hsetnx::SPEC, run: hsetnx::run },
    Command { spec: &hstrlen::SPEC, run: hstrlen::run },
    Command { spec: &hgetall::HVALS, run: hgetall::hvals },
];
