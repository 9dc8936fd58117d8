//! Claims about fields of hashes that vanish: what is journaled and saved brings the same back, and whoever watches
//! or caches is told.

mod harness;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::{ask, connect, ok, start, wait_for};
use thali_testkit::{Reply, RespClient, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
/// The year 2100.
const FAR_UNIX_MS: u64 = 4_102_444_800_000;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// All fields, values and times of all hashes, without what has expired.
fn look(client: &mut RespClient) -> Vec<String> {
    let mut seen = Vec::new();
    let mut keys: Vec<String> = ask(client, "KEYS *").items().iter().map(Reply::text).collect();
    keys.sort();
    for key in keys {
        let pairs: Vec<String> =
            ask(client, &format!("HGETALL {key}")).items().iter().map(Reply::text).collect();
        for [field, value] in pairs.as_chunks::<2>().0 {
            let time = ask(client, &format!("HPEXPIRETIME {key} FIELDS 1 {field}")).items()[0].integer();
            seen.push(format!("{key} {field} {value} {}", time.unwrap()));
        }
    }
    seen.sort();
    seen
}

/// One change of any kind to fields and their times.
fn change(rng: &mut fastrand::Rng, large: usize) -> String {
    let key = format!("h{}", rng.u8(..4));
    let field = |rng: &mut fastrand::Rng| format!("f{}", rng.usize(..large));
    let (one, other) = (field(rng), field(rng));
    let now = now_ms();
    let at = match rng.u8(..4) {
        0 => now + rng.u64(1..30),
        1 => now - rng.u64(..10),
        _ => FAR_UNIX_MS + rng.u64(..1000),
    };
    match rng.u8(..16) {
        0..4 => format!("HSET {key} {one} {} {other} v", rng.u8(..)),
        4 | 5 => format!("HPEXPIREAT {key} {at} FIELDS 2 {one} {other}"),
        6 => format!("HPEXPIRE {key} {} LT FIELDS 1 {one}", rng.u64(..40)),
        7 => format!("HSETEX {key} PXAT {at} FIELDS 2 {one} a {other} b"),
        8 => format!("HSETEX {key} FNX EX 1000000 FIELDS 1 {one} c"),
        9 => format!("HGETEX {key} PX {} FIELDS 2 {one} {other}", rng.u64(..40)),
        10 => format!("HGETEX {key} PERSIST FIELDS 1 {one}"),
        11 => format!("HPERSIST {key} FIELDS 1 {one}"),
        12 => format!("HINCRBYFLOAT {key} {one} 1.5"),
        13 => format!("HINCRBY {key} {one} 1"),
        14 => format!("HGETDEL {key} FIELDS 1 {one}"),
        _ if rng.u8(..4) == 0 => format!("COPY {key} h{} REPLACE", rng.u8(..4)),
        _ => format!("HMGET {key} {one} {other}"),
    }
}

#[test]
fn journal_bases_and_dumps_bring_the_same_fields_with_the_same_times_back() {
    for (seed, fields, preamble) in [(1, 10, "yes"), (2, 10, "no"), (3, 4000, "yes"), (4, 4000, "no")] {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let settings = [("appendonly", "yes"), ("aof-use-rdb-preamble", preamble), ("save", "")];
        let (mut server, mut address) = start(&dir, &settings);
        let mut client = connect(&address);
        for round in 0..4 {
            for n in 0..1500 {
                // Some are refused, as what they find is no number.
                ask(&mut client, &change(&mut rng, fields));
                if round == 1 && n == 700 {
                    ok(&mut client, "BGREWRITEAOF");
                }
            }
            wait_for(&mut client, "aof_rewrite_in_progress", "0");
            // What is about to expire is gone on both sides of the restart.
            let latest = now_ms() + 60;
            wait_until("the last of the short times", PATIENCE, || now_ms() > latest).unwrap();
            let before = look(&mut client);
            assert!(before.iter().any(|line| line.ends_with(" -1")) && before.len() > 10, "seed {seed}");
            if round == 3 {
                ok(&mut client, "SAVE");
            }
            drop(client);
            server.shutdown().unwrap();
            (server, address) = start(&dir, &settings);
            client = connect(&address);
            assert_eq!(look(&mut client), before, "seed {seed}, round {round}");
        }
        let before = look(&mut client);
        drop(client);
        server.shutdown().unwrap();
        let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
        assert_eq!(look(&mut connect(&address)), before, "the dump, seed {seed}");
        server.shutdown().unwrap();
    }
}

#[test]
fn a_dump_has_the_version_that_its_hashes_need() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("save", "")]);
    let mut client = connect(&address);
    let mut version = |line: &str| {
        ok(&mut client, line);
        ok(&mut client, "SAVE");
        let dump = std::fs::read(dir.path().join("dump.rdb")).unwrap();
        String::from_utf8(dump[..9].to_vec()).unwrap()
    };
    assert_eq!(version("HSET h a 1 b 2"), "REDIS0010");
    assert_eq!(version("HEXPIRE h 1000 FIELDS 1 a"), "REDIS0012");
    assert_eq!(version("HPERSIST h FIELDS 1 a"), "REDIS0010");
    assert_eq!(version("HSETEX h EX 1000 FIELDS 1 c 3"), "REDIS0012");
    assert_eq!(version("RENAME h g"), "REDIS0012");
    assert_eq!(version("HDEL g c"), "REDIS0010");
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn fields_vanish_by_themselves_and_the_key_with_the_last_one() {
    const FIELDS: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("save", "")]);
    let mut client = connect(&address);
    ok(&mut client, "HSET small stays v goes v");
    for from in (0..FIELDS).step_by(1000) {
        let fields: Vec<String> = (from..from + 1000).map(|n| format!("f{n}")).collect();
        ok(&mut client, &format!("HSET large {} v", fields.join(" v ")));
        ok(&mut client, &format!("HPEXPIRE large 2000 FIELDS 1000 {}", fields.join(" ")));
    }
    ok(&mut client, "HPEXPIRE small 1 FIELDS 1 goes");
    let mut info = |section: &str| ask(&mut client, &format!("INFO {section}")).text();
    wait_until("the small one's", PATIENCE, || info("stats").contains("expired_subkeys:1\r\n")).unwrap();
    assert!(info("keyspace").contains("subexpiry=1\r\n"), "{}", info("keyspace"));
    let all = format!("expired_subkeys:{}\r\n", FIELDS + 1);
    wait_until("all of the large one's", PATIENCE, || info("stats").contains(&all)).unwrap();
    assert!(info("keyspace").contains("keys=1,expires=0,avg_ttl=0,subexpiry=0\r\n"), "{}", info("keyspace"));
    assert_eq!(ask(&mut client, "HGETALL small").items().len(), 2);
    assert_eq!(ask(&mut client, "OBJECT ENCODING small").text(), "listpackex");
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("save", "")]);
    assert_eq!(look(&mut connect(&address)), ["small stays v -1"]);
    server.shutdown().unwrap();
}

#[test]
fn a_field_that_vanishes_is_a_change_for_who_watches_or_caches() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[]);
    let (mut caching, mut watching) = (connect(&address), connect(&address));
    ok(&mut caching, "HELLO 3");
    ok(&mut caching, "HSET h a 1 b 2");
    ok(&mut caching, "HPEXPIRE h 200 FIELDS 1 a");
    ok(&mut caching, "CLIENT TRACKING ON");
    ok(&mut caching, "HGET h b");
    ok(&mut watching, "WATCH h");
    let told = caching.read().unwrap();
    let [kind, keys] = told.items() else { panic!("{told:?}") };
    assert_eq!((kind.text().as_str(), keys.items()[0].text().as_str()), ("invalidate", "h"));
    ok(&mut watching, "MULTI");
    ok(&mut watching, "HGET h b");
    assert!(ask(&mut watching, "EXEC").items().is_empty(), "it has changed since");
    drop((caching, watching));
    server.shutdown().unwrap();
}

/// What the paused command would journal must not come while it waits, and what has expired stays hidden.
#[test]
fn a_pause_keeps_expired_fields_and_shows_none() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[]);
    let mut client = connect(&address);
    ok(&mut client, "HSET h a 1 b 2");
    ok(&mut client, "HPEXPIRE h 20 FIELDS 1 a");
    ok(&mut client, "CLIENT PAUSE 60000 WRITE");
    wait_until("the time", PATIENCE, || ask(&mut client, "HGET h a") == Reply::Nil).unwrap();
    assert_eq!(ask(&mut client, "HGETALL h").items().len(), 2);
    assert_eq!(ask(&mut client, "HLEN h").integer(), Some(2));
    ok(&mut client, "CLIENT UNPAUSE");
    wait_until("its removal", PATIENCE, || ask(&mut client, "HLEN h").integer() == Some(1)).unwrap();
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn debug_looks_at_values_of_every_shard() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("enable-debug-command", "yes")]);
    let mut client = connect(&address);
    for n in 0..20 {
        ok(&mut client, &format!("HSET h{n} a 1"));
        ok(&mut client, &format!("HEXPIRE h{n} 100 FIELDS 1 a"));
        ok(&mut client, &format!("DEBUG OBJECT h{n} FAST"));
        ok(&mut client, &format!("DEBUG LISTPACK h{n}"));
    }
    drop(client);
    server.shutdown().unwrap();
}
