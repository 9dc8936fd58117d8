//! COMMAND's key specifications: where a command's keys stand, and what it does with them.
//!
//! The words for the latter are RO, RW, OW (written over) or RM (removed), then how. Rights to keys, waiting and
//! tracking depend on [`Access`] alone, so only that stands in the commands' specifications; the finer words are for
//! clients. SOURCE: Redis 7.2.4 and, for fields that expire, 7.4.0: `key_specs` in `src/commands/*.json`.

use thali_commands::{Access, Keys, Spec};
use thali_resp::Reply;

/// The words of one key.
type Words = &'static [&'static str];

const INSERTS: Words = &["RW", "insert"];
const UPDATES: Words = &["RW", "update"];
const DELETES: Words = &["RW", "delete"];
const TAKES: Words = &["RW", "access", "delete"];
const READS: Words = &["RO", "access"];
const MAKES: Words = &["OW", "insert"];
const OVERWRITES: Words = &["OW", "update"];

/// The words of a command's first key, its second, and so on; the last are those of all further ones.
const FINER: &[(&[Words], &[&str])] = &[
    (
        &[INSERTS],
        &[
            "append",
            "hsetnx",
            "linsert",
            "lpush",
            "lpushx",
            "pfadd",
            "rpush",
            "rpushx",
            "sadd",
            "xgroup|create",
            "xgroup|createconsumer",
        ],
    ),
    (
        &[UPDATES],
        &[
            "expire",
            "expireat",
            "geoadd",
            "hexpire",
            "hexpireat",
            "hmset",
            "hpersist",
            "hpexpire",
            "hpexpireat",
            "hset",
            "lset",
            "persist",
            "pexpire",
            "pexpireat",
            "setrange",
            "xack",
            "xadd",
            "xclaim",
            "xgroup|setid",
            "xsetid",
            "zadd",
        ],
    ),
    (
        &[DELETES],
        &[
            "hdel",
            "lrem",
            "ltrim",
            "srem",
            "xautoclaim",
            "xdel",
            "xgroup|delconsumer",
            "xgroup|destroy",
            "xtrim",
            "zrem",
            "zremrangebylex",
            "zremrangebyrank",
            "zremrangebyscore",
        ],
    ),
    (
        &[TAKES],
        &[
            "blmpop", "blpop", "brpop", "bzmpop", "bzpopmax", "bzpopmin", "getdel", "lmpop", "lpop", "rpop",
            "spop", "zmpop", "zpopmax", "zpopmin",
        ],
    ),
    (&[TAKES, INSERTS], &["blmove", "brpoplpush", "lmove", "rpoplpush", "smove"]),
    (&[TAKES, OVERWRITES], &["rename"]),
    (&[TAKES, MAKES], &["renamenx"]),
    (&[MAKES], &["msetnx", "setnx"]),
    (&[&["RM", "delete"]], &["del", "unlink"]),
    // They may write what they have counted.
    (&[&["RW", "access"]], &["pfcount", "pfdebug"]),
    (&[&["RW", "access", "insert"], READS], &["pfmerge"]),
    (&[UPDATES, READS], &["sinterstore"]),
];

/// The words of the key, or of the range of keys, that is number `index` among those of the command of this full name.
pub(super) fn words(name: &str, index: usize, access: Access) -> Words {
    match FINER.iter().find(|(_, names)| names.contains(&name)) {
        Some((words, _)) => words[index.min(words.len() - 1)],
        None if access == Access::PRESENCE => &["RO"],
        None if access == Access::READ => READS,
        None if access == Access::WRITE => OVERWRITES,
        None => &["RW", "access", "update"],
    }
}

/// Where keys stand: the first, the last beyond it, the step, and what is done with them.
type Range = (usize, isize, usize, Access);

fn ranges(keys: &Keys) -> Vec<Range> {
    match *keys {
        Keys::None | Keys::Found(_) | Keys::Streams { .. } => Vec::new(),
        Keys::Range { first, last, step, access } => {
            let last = if last < 0 { last } else { last - first as isize };
            vec![(first, last, step, access)]
        }
        Keys::Varying { access, .. } => vec![(1, 0, 1, access)],
        Keys::Pair { first, second } => vec![(first.0, 0, 1, first.1), (second.0, 0, 1, second.1)],
        Keys::Into { at, access } => vec![(at, 0, 1, access), (at + 1, -1, 1, Access::READ)],
        Keys::Counted { before, .. } => before.iter().map(|(at, access)| (*at, 0, 1, *access)).collect(),
    }
}

/// How many specifications [`write()`] writes.
pub(super) fn count(spec: &Spec) -> usize {
    ranges(&spec.keys).len() + usize::from(matches!(spec.keys, Keys::Counted { .. }))
}

/// A function's keys are not to be found this way, and are left out.
pub(super) fn write(name: &str, spec: &Spec, reply: &mut Reply<'_>) {
    let ranges = ranges(&spec.keys);
    let varies = matches!(spec.keys, Keys::Varying { .. });
    reply.set(count(spec));
    for (index, (first, last, step, access)) in ranges.iter().enumerate() {
        head(words(name, index, *access), varies, *first, reply);
        reply.bulk(b"find_keys");
        typed(reply, "range", &[("lastkey", *last as i64), ("keystep", *step as i64), ("limit", 0)]);
    }
    if let Keys::Counted { at, first, access, .. } = spec.keys {
        head(words(name, ranges.len(), access), varies, at, reply);
        reply.bulk(b"find_keys");
        typed(reply, "keynum", &[("keynumidx", 0), ("firstkey", (first - at) as i64), ("keystep", 1)]);
    }
}

fn head(words: Words, varies: bool, at: usize, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(words.len() + usize::from(varies));
    words.iter().for_each(|word| reply.simple(word));
    if varies {
        reply.simple("variable_flags");
    }
    reply.bulk(b"begin_search");
    typed(reply, "index", &[("index", at as i64)]);
}

fn typed(reply: &mut Reply<'_>, kind: &str, fields: &[(&str, i64)]) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields.len());
    for (field, value) in fields {
        reply.bulk(field.as_bytes());
        reply.integer(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn words_are_for_commands_that_are_here() {
        for name in FINER.iter().flat_map(|(_, names)| *names) {
            assert!(table::named(name.as_bytes()).is_some(), "{name}");
        }
    }
}
