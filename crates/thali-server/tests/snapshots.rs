//! Claims about dumps and rewrites while clients write: each snapshot is a point in time, and nothing
//! acknowledged is lost on the way.

mod harness;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::{ask, config, start};
use thali_server::{Server, StartError};
use thali_testkit::{Reply, RespClient, start_redis};

fn ok(client: &mut RespClient, line: &str) {
    let reply = ask(client, line);
    assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
}

/// A figure of INFO persistence.
fn figure(client: &mut RespClient, name: &str) -> String {
    let info = ask(client, "INFO persistence").text();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
}

fn wait_for(client: &mut RespClient, name: &str, value: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while figure(client, name) != value {
        assert!(std::time::Instant::now() < deadline, "{name} stays {}", figure(client, name));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

const FILL: &[&str] = &[
    "SET number 12345",
    "SET text some-text-that-is-longer-than-a-small-one-some-text-that-is-longer",
    "SET dying soon PXAT 32503680000000",
    "RPUSH list a b c 1 2 3",
    "SADD ints 1 2 3",
    "SADD words a b c",
    "HSET hash f1 v1 f2 v2",
    "ZADD zset 1 one 2.5 two -inf low",
    "XADD stream 1-1 a b",
    "XADD stream 2-1 c d",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >",
    "SELECT 3",
    "SET elsewhere 1",
    "SELECT 0",
];
const LOOK: &[&str] = &[
    "GET number",
    "GET text",
    "PEXPIRETIME dying",
    "LRANGE list 0 -1",
    "SORT_RO_SMEMBERS",
    "HGETALL hash",
    "ZRANGE zset 0 -1 WITHSCORES",
    "XRANGE stream - +",
    "XPENDING stream group - + 10",
    "DBSIZE",
    "SELECT 3",
    "GET elsewhere",
    "SELECT 0",
];

fn look(client: &mut RespClient) -> Vec<String> {
    let mut seen = Vec::new();
    for line in LOOK.iter().filter(|line| **line != "SORT_RO_SMEMBERS") {
        let reply = ask(client, line);
        // The idle time of a pending entry goes on.
        seen.push(match *line {
            "XPENDING stream group - + 10" => format!("{:?}", &reply.items()[0].items()[..2]),
            _ => format!("{reply:?}"),
        });
    }
    for set in ["ints", "words"] {
        let reply = ask(client, &format!("SMEMBERS {set}"));
        let mut members: Vec<String> = reply.items().iter().map(Reply::text).collect();
        members.sort();
        seen.push(format!("{members:?}"));
    }
    seen
}

#[test]
fn a_dump_brings_every_type_back_here_and_in_redis_server() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("appendonly", "no"), ("save", ""), ("enable-debug-command", "local")];
    let (server, address) = start(&dir, &settings);
    let mut client = RespClient::connect(&address).unwrap();
    FILL.iter().for_each(|line| ok(&mut client, line));
    let before = look(&mut client);
    let digest = ask(&mut client, "DEBUG DIGEST");
    assert_eq!(ask(&mut client, "DEBUG RELOAD"), Reply::Status("OK".into()));
    assert_eq!((look(&mut client), ask(&mut client, "DEBUG DIGEST")), (before.clone(), digest.clone()));
    assert_eq!(ask(&mut client, "SAVE"), Reply::Status("OK".into()));
    ok(&mut client, "FLUSHALL");
    client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    server.wait();
    server.shutdown().unwrap();

    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
    assert_eq!(look(&mut RespClient::connect(&address).unwrap()), before);
    server.shutdown().unwrap();

    let arguments = ["--dir", dir.path().to_str().unwrap(), "--enable-debug-command", "local"];
    let redis = start_redis(&arguments).unwrap();
    let mut client = RespClient::connect(&redis.store).unwrap();
    assert_eq!((look(&mut client), ask(&mut client, "DEBUG DIGEST")), (before, digest));
}

#[test]
fn an_append_only_file_without_data_takes_over_the_dump() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let mut client = RespClient::connect(&address).unwrap();
    FILL.iter().for_each(|line| ok(&mut client, line));
    let before = look(&mut client);
    drop(client);
    // `save` has rules, so the end makes a dump.
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(look(&mut client), before);
    ok(&mut client, "SET later 1");
    drop(client);
    server.shutdown().unwrap();
    std::fs::remove_file(dir.path().join("dump.rdb")).unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "DEL later").integer(), Some(1));
    assert_eq!(look(&mut client), before);
    server.shutdown().unwrap();
}

const ACCOUNTS: usize = 3000;

/// Moves units between accounts until told to stop; each transaction keeps the sum.
fn transfer(address: &str, seed: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut client = RespClient::connect(address).unwrap();
    let mut rng = seed;
    while !stop.load(Ordering::Relaxed) {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, to) = ((rng >> 33) as usize % ACCOUNTS, (rng >> 13) as usize % ACCOUNTS);
        for line in ["MULTI", &format!("DECR a{from}"), &format!("INCR a{to}"), "EXEC"] {
            ok(&mut client, line);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn sum(client: &mut RespClient) -> i64 {
    (0..ACCOUNTS)
        .map(|at| ask(client, &format!("GET a{at}")).text().parse::<i64>().expect("every account is there"))
        .sum()
}

#[test]
fn dumps_and_rewrites_under_transfers_are_points_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    for at in 0..ACCOUNTS {
        ok(&mut client, &format!("SET a{at} 1000"));
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let copies = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (address, stop, done) = (&address, &stop, &done);
            scope.spawn(move || transfer(address, seed, stop, done));
        }
        for round in 0..8 {
            let before = done.load(Ordering::Relaxed);
            ok(&mut client, if round % 2 == 0 { "BGSAVE" } else { "BGREWRITEAOF" });
            wait_for(&mut client, "rdb_bgsave_in_progress", "0");
            wait_for(&mut client, "aof_rewrite_in_progress", "0");
            assert_eq!(figure(&mut client, "rdb_last_bgsave_status"), "ok");
            assert_eq!(figure(&mut client, "aof_last_bgrewrite_status"), "ok");
            while done.load(Ordering::Relaxed) < before + 50 {
                std::thread::yield_now();
            }
            if round % 2 == 0 {
                std::fs::copy(dir.path().join("dump.rdb"), copies.path().join(format!("{round}.rdb")))
                    .unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(sum(&mut client), 1000 * ACCOUNTS as i64);
    let accounts: Vec<_> = (0..ACCOUNTS).map(|at| ask(&mut client, &format!("GET a{at}"))).collect();
    drop(client);
    server.shutdown().unwrap();
    for round in (0..8).step_by(2) {
        let name = format!("{round}.rdb");
        let settings = [("appendonly", "no"), ("save", ""), ("dbfilename", &name)];
        let (server, address) = start(&copies, &settings);
        let of_copy = sum(&mut RespClient::connect(&address).unwrap());
        assert_eq!(of_copy, 1000 * ACCOUNTS as i64, "the dump of round {round}");
        server.shutdown().unwrap();
    }
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    for (at, value) in accounts.iter().enumerate() {
        assert_eq!(ask(&mut client, &format!("GET a{at}")), *value);
    }
    server.shutdown().unwrap();
}

#[test]
fn a_database_that_is_emptied_during_a_dump_is_still_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("appendonly", "no"), ("save", "")];
    let (server, address) = start(&dir, &settings);
    let mut client = RespClient::connect(&address).unwrap();
    ok(&mut client, "EVAL for\ti=1,200000\tdo\tredis.call('SET','k'..i,i)\tend 0");
    ok(&mut client, "BGSAVE");
    ok(&mut client, "FLUSHALL");
    ok(&mut client, "SET after 1");
    wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    assert_eq!(figure(&mut client, "rdb_last_bgsave_status"), "ok");
    client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    server.wait();
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &settings);
    let mut client = RespClient::connect(&address).unwrap();
    // The point in time is before the FLUSHALL or, where the thread began late, after it.
    let size = ask(&mut client, "DBSIZE").integer().unwrap();
    assert!(size == 200_000 || size <= 1, "{size} keys: neither before nor after");
    server.shutdown().unwrap();
}

#[test]
fn a_dump_that_fails_stops_writes_until_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "3600 1"), ("dbfilename", "d.rdb")]);
    let mut client = RespClient::connect(&address).unwrap();
    ok(&mut client, "SET k 1");
    // Nothing can be renamed over a folder.
    let in_the_way = dir.path().join("d.rdb");
    std::fs::create_dir(&in_the_way).unwrap();
    ok(&mut client, "BGSAVE");
    wait_for(&mut client, "rdb_last_bgsave_status", "err");
    assert!(matches!(ask(&mut client, "SET k 2"), Reply::Error(text) if text.starts_with("MISCONF")));
    assert_eq!(ask(&mut client, "GET k").text(), "1");
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(ask(&mut client, "SAVE"), Reply::Status("OK".into()));
    ok(&mut client, "SET k 2");
    drop(client);
    server.shutdown().unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["d.rdb"], "an unfinished file is left");
}

#[test]
fn rules_of_save_make_dumps_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "1 3")]);
    let mut client = RespClient::connect(&address).unwrap();
    ["SET a 1", "SET b 1", "SET c 1"].iter().for_each(|line| ok(&mut client, line));
    wait_for(&mut client, "rdb_saves", "1");
    assert_eq!(figure(&mut client, "rdb_changes_since_last_save"), "0");
    assert!(dir.path().join("dump.rdb").exists());
    server.shutdown().unwrap();
}

#[test]
fn a_damaged_dump_stops_the_start_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    FILL.iter().for_each(|line| ok(&mut RespClient::connect(&address).unwrap(), line));
    server.shutdown().unwrap();
    let path = dir.path().join("dump.rdb");
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        match Server::start(config(dir.path(), &[("appendonly", "no")])) {
            Err(StartError::Dump { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => panic!("byte {at} is damaged, and nobody noticed"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), bad);
    }
}
