//! SCAN, RANDOMKEY: finding keys.
//!
//! They look at one shard after the other, so what changes meanwhile may be found or not.
//! SCAN's cursor holds the shard in its low bits and the place in that shard's table above them.

use thali_keyspace::locks::ShardId;
use thali_keyspace::{Db, glob};
use thali_resp::Reply;

use crate::{
    Context, ErrorReply, ExpiredSeen, Flags, Flow, Group, Outcome, Random, Spec, cursor, integer, is_word,
};

pub const SCAN: Spec = Spec {
    name: "scan",
    summary: "Iterates over the key names in the database.",
    syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor \
                 to return back to 0.",
    arity: -2,
    flags: Flags::READONLY.union(Flags::EACH_SHARD),
    ..super::BASE
};
pub const RANDOMKEY: Spec = Spec {
    name: "randomkey",
    summary: "Returns a random key name from the database.",
    group: Group::Generic,
    arity: 1,
    flags: Flags::READONLY.union(Flags::EACH_SHARD),
    ..super::BASE
};

/// What TYPE replies.
const TYPES: [&str; 6] = ["string", "list", "set", "zset", "hash", "stream"];

const COUNT_DEFAULT: usize = 10;
/// Shards without keys that one call passes over without ending.
const EMPTY_SHARDS_MAX: usize = 256;

#[derive(Debug)]
struct Args<'a> {
    pattern: Option<&'a [u8]>,
    type_name: Option<String>,
    count: usize,
}

fn parse<'a>(options: &[&'a [u8]]) -> Result<Args<'a>, ErrorReply> {
    let mut args = Args { pattern: None, type_name: None, count: COUNT_DEFAULT };
    if !options.len().is_multiple_of(2) {
        return Err(ErrorReply::SYNTAX);
    }
    for pair in options.chunks_exact(2) {
        if is_word(pair[0], "MATCH") {
            args.pattern = Some(pair[1]).filter(|pattern| *pattern != b"*");
        } else if is_word(pair[0], "COUNT") {
            args.count = usize::try_from(integer(pair[1])?).unwrap_or(0);
            if args.count == 0 {
                return Err(ErrorReply::SYNTAX);
            }
        } else if is_word(pair[0], "TYPE") {
            let name = String::from_utf8_lossy(pair[1]).to_lowercase();
            if !TYPES.contains(&name.as_str()) {
                return Err(ErrorReply::owned(format!("ERR unknown type name '{name}'")));
            }
            args.type_name = Some(name);
        } else {
            return Err(ErrorReply::SYNTAX);
        }
    }
    Ok(args)
}

pub fn scan(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let start = cursor(args[1])?;
    let options = parse(&args[2..])?;
    let shards_len = cx.shard_ids().len() as u64;
    let (mut shard, mut place) = ((start % shards_len) as ShardId, start / shards_len);
    let mut found: Vec<Box<[u8]>> = Vec::new();
    let (mut seen, mut passed) = (0, 0);
    let mut expired: Vec<Box<[u8]>> = Vec::new();
    let next = loop {
        place = cx.see_shard(shard, |shard| {
            let Some(db) = shard.db(cx.db).filter(|db| !db.is_empty()) else { return 0 };
            db.scan(place, options.count.saturating_sub(seen).max(1), |key, entry| {
                seen += 1;
                let wanted = options.pattern.is_none_or(|pattern| glob::matches(pattern, key))
                    && options.type_name.as_ref().is_none_or(|name| name == entry.value.type_name());
                match (wanted, entry.is_expired(cx.now_ms)) {
                    (false, _) => {}
                    (true, false) => found.push(key.into()),
                    (true, true) => expired.push(key.into()),
                }
            })
        })?;
        if place == 0 {
            shard += 1;
            passed += 1;
            if shard == cx.shard_ids().end {
                break 0;
            }
        }
        if seen >= options.count || passed > EMPTY_SHARDS_MAX {
            break place * shards_len + u64::from(shard);
        }
    };
    // Whoever holds all shards removes them with the rest that it has seen, the others afterwards.
    let (db, holds) = (cx.db, !cx.locked.ids().is_empty());
    let list = if holds { cx.expired_seen.get_mut() } else { &mut cx.expired_elsewhere };
    list.extend(expired.into_iter().map(|key| ExpiredSeen::key(db, key)));
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
    reply.array(found.len());
    found.iter().for_each(|key| reply.bulk(key));
    Ok(Flow::Done)
}

/// Keys drawn before RANDOMKEY takes an expired one for an answer, as Redis does.
const DRAWS_MAX: usize = 100;

pub fn randomkey(cx: &mut Context<'_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (db, now_ms) = (cx.db, cx.now_ms);
    let mut lens = Vec::with_capacity(cx.shard_ids().len());
    for id in cx.shard_ids() {
        lens.push(cx.see_shard(id, |shard| shard.db(db).map_or(0, Db::len))?);
    }
    let total: usize = lens.iter().sum();
    for _ in 0..if total == 0 { 0 } else { DRAWS_MAX } {
        // A shard by its share of the keys, then a key of it.
        let mut at = cx.random.below(total);
        let chosen = cx.shard_ids().zip(&lens).find(|(_, len)| {
            let here = at < **len;
            at = at.wrapping_sub(if here { 0 } else { **len });
            here
        });
        let Some((id, _)) = chosen else { break };
        let random = Random::new(cx.random.next_u64());
        let drawn = cx.see_shard(id, |shard| {
            let (key, entry) = shard.db(db)?.random(|| random.next_u64())?;
            (!entry.is_expired(now_ms)).then(|| key.to_vec())
        })?;
        if let Some(key) = drawn {
            reply.bulk(&key);
            return Ok(Flow::Done);
        }
    }
    reply.null();
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn a_scan_sees_every_key_once_a_calm_round() {
        let mut store = Store::new();
        for i in 0..500 {
            store.run(&format!("SET key:{i} v"));
        }
        let (mut cursor, mut seen) = ("0".to_owned(), std::collections::BTreeSet::new());
        loop {
            let reply = store.run(&format!("SCAN {cursor} COUNT 20"));
            let lines: Vec<&str> = reply.split("\r\n").collect();
            cursor = lines[2].to_owned();
            seen.extend(lines[4..].iter().filter(|l| l.starts_with("key:")).map(|l| (*l).to_owned()));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 500);
    }

    #[test]
    fn filters() {
        let mut store = Store::new();
        store.check(&[
            ("SET a 1", "+OK"),
            ("RPUSH l 1", ":1"),
            ("SCAN 0 TYPE list", "*2\n$1\n0\n*1\n$1\nl"),
            ("SCAN 0 MATCH a* COUNT 100", "*2\n$1\n0\n*1\n$1\na"),
            ("SCAN 0 TYPE lists", "-ERR unknown type name 'lists'"),
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("KEYS [^a]", "*1\n$1\nl"),
            ("DEL l", ":1"),
            ("RANDOMKEY", "$1\na"),
            ("DEL a", ":1"),
            ("RANDOMKEY", "$-1"),
        ]);
    }
}
