//! SELECT, SWAPDB, MOVE, DBSIZE, FLUSHDB, FLUSHALL: databases as a whole.

use thali_keyspace::Db;
use thali_resp::Reply;

use crate::{
    Access, Categories, Context, ErrorReply, EventClass, Flags, Flow, Group, Keys, Outcome, Spec, is_word,
};

pub const SELECT: Spec = Spec {
    name: "select",
    summary: "Changes the selected database.",
    syntax: "index",
    group: Group::Connection,
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    categories: Categories::CONNECTION,
    ..super::BASE
};
pub const SWAPDB: Spec = Spec {
    name: "swapdb",
    summary: "Swaps two Redis databases.",
    syntax: "index1 index2",
    since: "4.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
    arity: 3,
    flags: Flags::WRITE.union(Flags::FAST).union(Flags::ALL_SHARDS),
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    ..super::BASE
};
pub const MOVE: Spec = Spec {
    name: "move",
    summary: "Moves a key to another database.",
    syntax: "key db",
    arity: 3,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: Keys::one(Access::READ_WRITE),
    ..super::BASE
};
pub const DBSIZE: Spec = Spec {
    name: "dbsize",
    summary: "Returns the number of keys in the database.",
    group: Group::Server,
    arity: 1,
    flags: Flags::READONLY.union(Flags::FAST).union(Flags::EACH_SHARD),
    ..super::BASE
};
pub const FLUSHDB: Spec = Spec {
    name: "flushdb",
    summary: "Removes all keys from the current database.",
    syntax: "[ASYNC | SYNC]",
    group: Group::Server,
    complexity: "O(N) where N is the number of keys in the selected database",
    arity: -1,
    flags: Flags::WRITE.union(Flags::ALL_SHARDS),
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    ..super::BASE
};
pub const FLUSHALL: Spec = Spec {
    name: "flushall",
    summary: "Removes all keys from all databases.",
    syntax: "[ASYNC | SYNC]",
    ..FLUSHDB
};

pub fn select(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    cx.db = super::db_number(cx, args[1])?;
    reply.ok();
    Ok(Flow::Done)
}

pub fn swapdb(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let number = |arg: &[u8], which: &'static str| {
        let index = crate::parse_i64(arg).and_then(|index| i32::try_from(index).ok());
        index.ok_or(ErrorReply::new(which))
    };
    let a = number(args[1], "ERR invalid first DB index")?;
    let b = number(args[2], "ERR invalid second DB index")?;
    let known =
        |index: i32| u32::try_from(index).ok().filter(|db| *db < cx.dbs_len).ok_or(ErrorReply::INVALID_DB);
    let (a, b) = (known(a)?, known(b)?);
    if a != b {
        cx.swap_dbs(a, b);
    }
    reply.ok();
    Ok(Flow::Done)
}

pub fn move_key(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    let to = super::db_number(cx, args[2])?;
    if to == cx.db {
        return Err(ErrorReply::SAME_OBJECT);
    }
    let access = cx.use_now(key).filter(|_| cx.peek_in(to, key).is_none());
    let moved = access.is_some();
    if let Some(access) = access
        && let Some(entry) = cx.take(key)
    {
        let expire_at = entry.expire_at();
        cx.put_value(to, key, entry.into_value().value, expire_at);
        cx.set_access(to, key, access);
        cx.modified(EventClass::GENERIC, "move_from", key);
        cx.modified_in(to, EventClass::GENERIC, "move_to", key);
    }
    reply.integer(i64::from(moved));
    Ok(Flow::Done)
}

pub fn dbsize(cx: &mut Context<'_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let db = cx.db;
    let mut keys = 0;
    for id in cx.shard_ids() {
        keys += cx.see_shard(id, |shard| shard.db(db).map_or(0, Db::len))?;
    }
    reply.integer(keys as i64);
    Ok(Flow::Done)
}

pub fn flushdb(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    parse_mode(args)?;
    cx.flush(cx.db);
    finish(cx, args, reply)
}

pub fn flushall(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    parse_mode(args)?;
    (0..cx.dbs_len).for_each(|db| cx.flush(db));
    cx.is_emptied = true;
    finish(cx, args, reply)
}

/// SYNC and ASYNC mean the same here: the tables go at once, their memory after the locks are let go.
fn parse_mode(args: &[&[u8]]) -> Result<(), ErrorReply> {
    match &args[1..] {
        [] => Ok(()),
        [mode] if is_word(mode, "SYNC") || is_word(mode, "ASYNC") => Ok(()),
        _ => Err(ErrorReply::SYNTAX),
    }
}

fn finish(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    cx.effect(&args[..1]);
    reply.ok();
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn whole_databases() {
        Store::new().check(&[
            ("MSET a 1 b 2", "+OK"),
            ("DBSIZE", ":2"),
            ("SELECT 16", "-ERR DB index is out of range"),
            ("SELECT x", "-ERR value is not an integer or out of range"),
            ("MOVE a 1", ":1"),
            ("MOVE a 1", ":0"),
            ("MOVE b 0", "-ERR source and destination objects are the same"),
            ("DBSIZE", ":1"),
            ("SWAPDB 0 1", "+OK"),
            ("GET a", "$1\n1"),
            ("SWAPDB 0 x", "-ERR invalid second DB index"),
            ("SWAPDB 99 x", "-ERR invalid second DB index"),
            ("SWAPDB 99 98", "-ERR DB index is out of range"),
            ("FLUSHDB ASYNC", "+OK"),
            ("DBSIZE", ":0"),
            ("SWAPDB 0 1", "+OK"),
            ("DBSIZE", ":1"),
            ("FLUSHALL", "+OK"),
            ("DBSIZE", ":0"),
            ("FLUSHALL x", "-ERR syntax error"),
        ]);
    }
}
