//! The same ACL commands to Thali and to redis-server 7.0, replies compared. Needs redis-server in the PATH
//! (Debian: `apt-get install redis-server`).
//!
//! 7.2's own ways are left out here: the order of words about commands (`src/acl/tests.rs` has them) and the
//! sentences of refusals, of which only the outcome is compared.

use std::collections::BTreeSet;

use thali_testkit::{Reply, RespClient, start_redis};

mod harness;

use harness::{ask, connect, start};

/// Both servers, one question.
struct Both {
    thali: RespClient,
    redis: RespClient,
}

impl Both {
    fn ask(&mut self, args: &[&str]) -> (Reply, Reply) {
        (self.thali.command(args).unwrap(), self.redis.command(args).unwrap())
    }
}

fn with_both(check: impl FnOnce(&mut Both)) {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let redis = start_redis(&[]).unwrap();
    check(&mut Both { thali: connect(&address), redis: connect(&redis.store) });
    server.shutdown().unwrap();
}

const TRANSCRIPT: &str = "\
ACL LOG RESET
ACL WHOAMI
ACL USERS
ACL LIST
ACL GETUSER default
ACL CAT
ACL CAT nosuch
ACL SETUSER a
ACL LIST
ACL GETUSER a
ACL GETUSER nosuch
ACL SETUSER a on >foo >bar #2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
ACL GETUSER a
ACL SETUSER a <foo <foo
ACL SETUSER a <foo
ACL SETUSER a !2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
ACL SETUSER a #abc
ACL SETUSER a nopass
ACL LIST
ACL SETUSER a resetpass skip-sanitize-payload
ACL LIST
ACL SETUSER a ~x %R~r %W~w %RW~y %R
ACL SETUSER a %~
ACL SETUSER a %RR~k
ACL LIST
ACL SETUSER a allkeys ~z
ACL SETUSER a allkeys
ACL SETUSER a ~z
ACL SETUSER a resetkeys ~z
ACL SETUSER a &x &y* &x
ACL GETUSER a
ACL SETUSER a allchannels
ACL SETUSER a &z
ACL SETUSER a resetchannels
ACL SETUSER a +get -nosuch
ACL SETUSER a +nosuch
ACL SETUSER a +@nosuch
ACL SETUSER a +config|nosuch
ACL SETUSER a -config|nosuch
ACL SETUSER a +config|get|x
ACL SETUSER a -select|0
ACL SETUSER a +select|
ACL SETUSER a bad
ACL SETUSER a )
ACL SETUSER a (
ACL SETUSER a (~a +get
ACL SETUSER a (on)
ACL SETUSER a () (%R~k +@read) ( ~l +set )
ACL LIST
ACL GETUSER a
ACL SETUSER a clearselectors +@all -@dangerous
ACL GETUSER a
ACL SETUSER a reset
ACL LIST
ACL SETUSER a -@all +@string
ACL LIST
ACL DRYRUN nosuch get k
ACL DRYRUN a nosuch
ACL DRYRUN a config nosuch
ACL DRYRUN a get
ACL DRYRUN default get k
ACL DRYRUN a config
ACL GENPASS 0
ACL GENPASS 4097
ACL GENPASS x
ACL GENPASS 1 2
ACL CAT a b
ACL LOG 1 2
ACL LOG x
ACL NOSUCH
ACL SAVE x
ACL SETUSER
ACL DELUSER
ACL DELUSER default
ACL DELUSER a nosuch
ACL USERS
ACL LOG
ACL LOG RESET
AUTH a x
AUTH default anything
AUTH x
AUTH a b c
HELLO 2 AUTH a x
HELLO 2 AUTH default x SETNAME n
CLIENT KILL USER nosuch
ACL SETUSER default off
ACL SETUSER default on
ACL WHOAMI";

#[test]
fn administration_answers_as_redis_does() {
    with_both(|both| {
        for protocol in ["HELLO 2", "HELLO 3"] {
            both.ask(&protocol.split(' ').collect::<Vec<_>>());
            for line in TRANSCRIPT.lines() {
                let (thali, redis) = both.ask(&line.split(' ').collect::<Vec<_>>());
                if line.starts_with("HELLO") {
                    continue; // which server and connection it is
                }
                assert_eq!(plain(&thali), plain(&redis), "{protocol}: {line}");
            }
        }
        // Valkey's words, which name no product.
        for line in ["LOAD", "SAVE"] {
            let (thali, redis) = both.ask(&["ACL", line]);
            for reply in [&thali, &redis] {
                assert!(
                    matches!(reply, Reply::Error(text) if text.contains("not configured to use an ACL file"))
                );
            }
        }
        let (thali, redis) = both.ask(&["ACL", "SETUSER", "a b"]);
        assert_eq!(thali, redis);
        let (thali, redis) = both.ask(&["ACL", "SETUSER", "a", " () "]);
        assert_eq!(thali, redis);
        for bits in ["1", "5", "256", "4096"] {
            let (thali, redis) = both.ask(&["ACL", "GENPASS", bits]);
            assert_eq!(thali.text().len(), redis.text().len());
        }
    });
}

/// Without `sanitize-payload`, which 7.0 leaves out of a description until somebody says it.
fn plain(reply: &Reply) -> Reply {
    let all = |items: &[Reply]| {
        items.iter().filter(|item| item.text() != "sanitize-payload").map(plain).collect::<Vec<_>>()
    };
    match reply {
        Reply::Bulk(bytes) => {
            Reply::Bulk(String::from_utf8_lossy(bytes).replace(" sanitize-payload", "").into_bytes())
        }
        Reply::Array(items) => Reply::Array(all(items)),
        Reply::Set(items) => Reply::Set(all(items)),
        Reply::Map(pairs) => Reply::Map(pairs.iter().map(|(k, v)| (k.clone(), plain(v))).collect()),
        other => other.clone(),
    }
}

fn names(reply: &Reply) -> BTreeSet<String> {
    reply.items().iter().map(Reply::text).collect()
}

/// Commands and, behind a `|`, subcommands that both have.
fn common(both: &mut Both) -> BTreeSet<String> {
    fn collect(info: &Reply, into: &mut BTreeSet<String>) {
        into.insert(info.items()[0].text());
        info.items()[9].items().iter().for_each(|sub| collect(sub, into));
    }
    let (thali, redis) = both.ask(&["COMMAND"]);
    let sets = [thali, redis].map(|reply| {
        let mut set = BTreeSet::new();
        reply.items().iter().for_each(|info| collect(info, &mut set));
        set
    });
    sets[0].intersection(&sets[1]).cloned().collect()
}

/// Where Redis 7.2 put a command into another category than 7.0. SOURCE: Redis 7.2, `src/commands/*.json`.
const MOVED: &[(&str, &str)] = &[];

#[test]
fn each_category_has_the_commands_that_it_has_in_redis() {
    with_both(|both| {
        let common = common(both);
        let categories = ask(&mut both.redis, "ACL CAT");
        let mut wrong = Vec::new();
        for category in names(&categories) {
            let (thali, redis) = both.ask(&["ACL", "CAT", &category]);
            let (thali, redis) = (names(&thali), names(&redis));
            for name in thali.symmetric_difference(&redis).filter(|name| common.contains(*name)) {
                if !MOVED.contains(&(category.as_str(), name)) {
                    let side = if thali.contains(name) { "only here" } else { "only in Redis" };
                    wrong.push(format!("@{category} {name}: {side}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// Requests whose keys depend on more than the count of arguments.
const REQUESTS: &[&str] = &[
    "SET k v GET",
    "SET k v EX 10",
    "GETEX k",
    "GETEX k PERSIST",
    "XREAD STREAMS a b 0 0",
    "XREAD COUNT 1 STREAMS a 0",
    "XREADGROUP GROUP g c STREAMS a b > >",
    "BLMPOP 0 2 a b LEFT",
    "ZUNIONSTORE d 2 a b",
    "ZINTERSTORE d 9 a b",
    "ZRANGESTORE d a 0 1",
    "EVAL x 2 a b",
    "EVAL x 3 a b",
    "EVAL_RO x 1 a",
    "MSET a 1 b 2",
    "LMOVE a b LEFT LEFT",
    "SORT k STORE d",
    "SORT_RO k",
    "BITOP AND d a b",
    "BITFIELD k GET u8 0",
    "BITFIELD k SET u8 0 1",
    "GEORADIUS k 1 1 1 m STORE d",
    "GEOSEARCHSTORE d k FROMMEMBER m BYRADIUS 1 m",
    "OBJECT ENCODING k",
    "MEMORY USAGE k",
    "XINFO STREAM k",
    "XGROUP CREATE k g 0",
    "MIGRATE h 1 k 0 1",
];

/// Where 7.2 does otherwise than 7.0 with a command's keys. SOURCE: Redis 7.2, `src/commands/*.json`.
const OTHER_KEYS: &[&str] = &[];

/// Where Redis loses the keys of a request, and so asks for no right: its second range is empty.
const NO_KEYS: &[&str] = &["pfmerge 1"];

#[test]
fn each_command_needs_the_same_rights_to_keys() {
    with_both(|both| {
        for (user, keys) in [("reader", "%R~*"), ("writer", "%W~*"), ("nobody", "resetkeys")] {
            let (thali, redis) = both.ask(&["ACL", "SETUSER", user, "on", "nopass", "+@all", "&*", keys]);
            assert_eq!((thali.text(), redis.text()), ("OK".into(), "OK".into()));
        }
        let mut requests: Vec<Vec<String>> =
            REQUESTS.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
        for name in common(both) {
            let info = ask(&mut both.redis, &format!("COMMAND INFO {name}"));
            let arity = info.items()[0].items()[1].integer().unwrap();
            let least = arity.unsigned_abs() as usize;
            // Ones are keys as well as counts of keys.
            for len in least..=if arity < 0 { least + 3 } else { least } {
                let mut request: Vec<String> = name.split('|').map(str::to_owned).collect();
                if request.len() <= len {
                    request.resize(len, "1".into());
                    requests.push(request);
                }
            }
        }
        let mut wrong = Vec::new();
        for request in requests {
            let line = request.join(" ");
            let mut outcomes = [String::new(), String::new()];
            for user in ["reader", "writer", "nobody"] {
                let args: Vec<&str> =
                    ["ACL", "DRYRUN", user].into_iter().chain(request.iter().map(String::as_str)).collect();
                let (thali, redis) = both.ask(&args);
                for (outcome, reply) in outcomes.iter_mut().zip([thali, redis]) {
                    *outcome += match reply {
                        Reply::Error(_) => " error",
                        _ if reply.text() == "OK" => " yes",
                        _ => " no",
                    };
                }
            }
            let [thali, redis] = outcomes;
            let is_known = !thali.contains("error")
                && !OTHER_KEYS.contains(&request[0].as_str())
                && !NO_KEYS.contains(&line.as_str());
            if is_known && thali != redis {
                wrong.push(format!("{line}: read, write, none:{thali}, in Redis{redis}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
