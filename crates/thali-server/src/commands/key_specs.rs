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

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug)]
enum Begin {
    Index(usize),
    /// Behind a word, looked for from this argument on; from the end where it is negative.
    Keyword(&'static str, i64),
    Unknown,
}

/// How keys are found from there.
#[derive(Clone, Copy, Debug)]
enum Find {
    /// `last` counts from the first key, or from the end of the request where it is negative. With `limit` 2 only
    /// the first half are keys.
    Range {
        last: i64,
        step: usize,
        limit: i64,
    },
    /// Their number stands there, and they `first` arguments behind it.
    Counted {
        first: usize,
    },
    Unknown,
}

/// One specification: one key, or a run of keys.
#[derive(Clone, Copy, Debug)]
struct KeySpec {
    words: Words,
    /// A word about the specification itself.
    note: Option<&'static str>,
    begin: Begin,
    find: Find,
}

const ONE: Find = Find::Range { last: 0, step: 1, limit: 0 };
const FIRST: KeySpec = KeySpec { words: READS, note: None, begin: Begin::Index(1), find: ONE };
const STREAMS: KeySpec = KeySpec {
    find: Find::Range { last: -1, step: 1, limit: 2 },
    begin: Begin::Keyword("STREAMS", 1),
    ..FIRST
};
const PATTERNS: KeySpec = KeySpec { begin: Begin::Unknown, find: Find::Unknown, ..FIRST };
const MOVED: KeySpec = KeySpec { words: &["RW", "access", "delete"], begin: Begin::Index(3), ..FIRST };

const fn stored(word: &'static str, from: i64) -> KeySpec {
    KeySpec { words: OVERWRITES, begin: Begin::Keyword(word, from), ..FIRST }
}

/// Commands with keys behind words.
const BY_WORDS: &[(&str, &[KeySpec])] = &[
    ("georadius", &[FIRST, stored("STORE", 6), stored("STOREDIST", 6)]),
    ("georadiusbymember", &[FIRST, stored("STORE", 5), stored("STOREDIST", 5)]),
    (
        "migrate",
        &[
            MOVED,
            KeySpec {
                note: Some("incomplete"),
                begin: Begin::Keyword("KEYS", -2),
                find: Find::Range { last: -1, step: 1, limit: 0 },
                ..MOVED
            },
        ],
    ),
    ("sort", &[FIRST, PATTERNS, KeySpec { words: OVERWRITES, ..PATTERNS }]),
    ("sort_ro", &[FIRST, PATTERNS]),
    ("xread", &[STREAMS]),
    ("xreadgroup", &[KeySpec { begin: Begin::Keyword("STREAMS", 4), ..STREAMS }]),
];

/// The specifications of the command of this full name.
fn specs(name: &str, spec: &Spec) -> Vec<KeySpec> {
    if let Some((_, specs)) = BY_WORDS.iter().find(|(one, _)| *one == name) {
        return specs.to_vec();
    }
    let mut specs = Vec::new();
    let mut add = |begin: usize, find: Find, access: Access| {
        let words = words(name, specs.len(), access);
        specs.push(KeySpec { words, note: None, begin: Begin::Index(begin), find });
    };
    match spec.keys {
        Keys::None | Keys::Found(_) | Keys::Streams { .. } => {}
        Keys::Range { first, last, step, access } => {
            let last = if last < 0 { last } else { last - first as isize };
            add(first, Find::Range { last: last as i64, step, limit: 0 }, access);
        }
        Keys::Varying { access, .. } => {
            add(1, ONE, access);
            specs[0].note = Some("variable_flags");
        }
        Keys::Pair { first, second } => {
            [first, second].iter().for_each(|(at, access)| add(*at, ONE, *access))
        }
        Keys::Into { at, access } => {
            add(at, ONE, access);
            add(at + 1, Find::Range { last: -1, step: 1, limit: 0 }, Access::READ);
        }
        Keys::Counted { at, first, access, before } => {
            before.iter().for_each(|(at, access)| add(*at, ONE, *access));
            add(at, Find::Counted { first: first - at }, access);
        }
    }
    specs
}

/// How many specifications [`write()`] writes.
pub(super) fn count(name: &str, spec: &Spec) -> usize {
    specs(name, spec).len()
}

/// The first three numbers of COMMAND INFO: the first key, the last and the step.
pub(super) fn positions(name: &str, spec: &Spec) -> (i64, i64, i64) {
    if let Keys::Into { at, .. } = spec.keys {
        return (at as i64, -1, 1);
    }
    if let Keys::Pair { first, second } = spec.keys {
        return (first.0 as i64, second.0 as i64, 1);
    }
    match specs(name, spec).first() {
        Some(&KeySpec { begin: Begin::Index(first), find: Find::Range { last, step, .. }, .. }) => {
            let first = first as i64;
            (first, if last < 0 { last } else { first + last }, step as i64)
        }
        _ => (0, 0, 0),
    }
}

/// A function's keys are not to be found this way, and are left out.
pub(super) fn write(name: &str, spec: &Spec, reply: &mut Reply<'_>) {
    let specs = specs(name, spec);
    reply.set(specs.len());
    for KeySpec { words, note, begin, find } in specs {
        reply.map(3);
        reply.bulk(b"flags");
        reply.set(words.len() + usize::from(note.is_some()));
        words.iter().copied().chain(note).for_each(|word| reply.simple(word));
        reply.bulk(b"begin_search");
        match begin {
            Begin::Index(index) => typed(reply, "index", &[("index", index as i64)]),
            Begin::Keyword(word, from) => {
                head(reply, "keyword", 2);
                reply.bulk(b"keyword");
                reply.bulk(word.as_bytes());
                reply.bulk(b"startfrom");
                reply.integer(from);
            }
            Begin::Unknown => typed(reply, "unknown", &[]),
        }
        reply.bulk(b"find_keys");
        match find {
            Find::Range { last, step, limit } => {
                typed(reply, "range", &[("lastkey", last), ("keystep", step as i64), ("limit", limit)]);
            }
            Find::Counted { first } => {
                typed(reply, "keynum", &[("keynumidx", 0), ("firstkey", first as i64), ("keystep", 1)]);
            }
            Find::Unknown => typed(reply, "unknown", &[]),
        }
    }
}

fn head(reply: &mut Reply<'_>, kind: &str, fields: usize) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields);
}

fn typed(reply: &mut Reply<'_>, kind: &str, fields: &[(&str, i64)]) {
    head(reply, kind, fields.len());
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
        let by_words = BY_WORDS.iter().map(|(name, _)| name);
        for name in FINER.iter().flat_map(|(_, names)| *names).chain(by_words) {
            assert!(table::named(name.as_bytes()).is_some(), "{name}");
        }
    }
}
