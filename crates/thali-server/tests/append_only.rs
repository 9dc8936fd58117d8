//! Claims about the append-only file of a running server, and about clients that come while data is loaded.

mod harness;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness::data::{ACCOUNTS, FILL, look, sum, transfer};
use harness::{ask, config, figure, ok, start, wait_for, wait_for_blocked};
use thali_server::{Server, StartError};
use thali_testkit::{Port, Reply, RespClient, start_redis, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

fn connect_when_open(port: &Port) -> RespClient {
    let mut client = None;
    wait_until("the port", PATIENCE, || {
        client = RespClient::connect(&port.address()).ok();
        client.is_some()
    })
    .unwrap();
    client.unwrap()
}

fn fill_for_a_slow_load(dir: &tempfile::TempDir, appendonly: &str) {
    let (server, address) = start(dir, &[("appendonly", appendonly), ("save", "3600 1")]);
    let mut client = RespClient::connect(&address).unwrap();
    for at in 0..400 {
        ok(&mut client, &format!("SET k{at} {at}"));
    }
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn clients_get_loading_until_the_data_is_there() {
    for appendonly in ["yes", "no"] {
        let dir = tempfile::tempdir().unwrap();
        fill_for_a_slow_load(&dir, appendonly);
        let port = Port::free().unwrap();
        let number = port.number().to_string();
        let settings = [("appendonly", appendonly), ("key-load-delay", "2000"), ("port", &number)];
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| Server::start(config(dir.path(), &settings)).unwrap());
            let mut client = connect_when_open(&port);
            assert_eq!(
                ask(&mut client, "GET k1"),
                Reply::Error("LOADING Redis is loading the dataset in memory".into())
            );
            assert_eq!(figure(&mut client, "loading"), "1");
            let total: u64 = figure(&mut client, "loading_total_bytes").parse().unwrap();
            let mut loaded = || figure(&mut client, "loading_loaded_bytes").parse::<u64>().unwrap();
            wait_until("something to be loaded", PATIENCE, || loaded() > 0).unwrap();
            assert!(loaded() <= total, "more than {total} bytes");
            // What needs no data is answered, as is a transaction of such.
            assert_eq!(ask(&mut client, "ECHO hello").text(), "hello");
            ok(&mut client, "MULTI");
            assert!(
                matches!(ask(&mut client, "SET k1 new"), Reply::Error(text) if text.starts_with("LOADING"))
            );
            assert!(matches!(ask(&mut client, "EXEC"), Reply::Error(text) if text.starts_with("EXECABORT")));
            let server = starting.join().unwrap();
            assert_eq!(ask(&mut client, "GET k399").text(), "399");
            assert_eq!(figure(&mut client, "loading"), "0");
            drop(client);
            server.shutdown().unwrap();
        });
    }
}

#[test]
fn shutdown_ends_a_start_that_loads() {
    for appendonly in ["yes", "no"] {
        let dir = tempfile::tempdir().unwrap();
        fill_for_a_slow_load(&dir, appendonly);
        let port = Port::free().unwrap();
        let number = port.number().to_string();
        let settings = [("appendonly", appendonly), ("key-load-delay", "100000"), ("port", &number)];
        let ended = std::thread::scope(|scope| {
            let starting = scope.spawn(|| Server::start(config(dir.path(), &settings)).map(drop));
            let mut client = connect_when_open(&port);
            client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
            starting.join().unwrap()
        });
        assert!(matches!(ended, Err(StartError::GivenUp)), "{ended:?}");
        let (server, address) = start(&dir, &[("appendonly", appendonly)]);
        assert_eq!(ask(&mut RespClient::connect(&address).unwrap(), "DBSIZE").integer(), Some(400));
        server.shutdown().unwrap();
    }
}

#[test]
fn the_append_only_file_is_turned_on_and_off_while_clients_write() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    for at in 0..ACCOUNTS {
        ok(&mut client, &format!("SET a{at} 1000"));
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (address, stop, done) = (&address, &stop, &done);
            scope.spawn(move || transfer(address, seed, stop, done));
        }
        for round in 0..6 {
            if round > 0 {
                ok(&mut client, "CONFIG SET appendonly no");
                assert_eq!(figure(&mut client, "aof_enabled"), "0");
            }
            ok(&mut client, &format!("SET round {round}"));
            let policy = ["everysec", "always"][round % 2];
            ok(&mut client, &format!("CONFIG SET appendonly yes appendfsync {policy}"));
            wait_for(&mut client, "aof_rewrite_in_progress", "0");
            assert_eq!(figure(&mut client, "aof_last_bgrewrite_status"), "ok");
            let before = done.load(Ordering::Relaxed);
            while done.load(Ordering::Relaxed) < before + 50 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let accounts: Vec<_> = (0..ACCOUNTS).map(|at| ask(&mut client, &format!("GET a{at}"))).collect();
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "GET round").text(), "5");
    assert_eq!(sum(&mut client), 1000 * ACCOUNTS as i64);
    for (at, value) in accounts.iter().enumerate() {
        assert_eq!(ask(&mut client, &format!("GET a{at}")), *value);
    }
    server.shutdown().unwrap();
}

#[test]
fn an_append_only_file_that_is_off_is_not_written_and_what_it_held_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    ok(&mut client, "SET before 1");
    ok(&mut client, "CONFIG SET appendonly no");
    ok(&mut client, "SET after 1");
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(
        ask(&mut client, "MGET before after"),
        Reply::Array(vec![Reply::Bulk(b"1".into()), Reply::Nil])
    );
    server.shutdown().unwrap();
}

#[test]
fn debug_loadaof_brings_back_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("enable-debug-command", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    FILL.iter().for_each(|line| ok(&mut client, line));
    let before = (look(&mut client), ask(&mut client, "DEBUG DIGEST"));
    for round in 0..3 {
        assert_eq!(ask(&mut client, "DEBUG LOADAOF"), Reply::Status("OK".into()));
        assert_eq!((look(&mut client), ask(&mut client, "DEBUG DIGEST")), before, "round {round}");
        ok(&mut client, "BGREWRITEAOF");
        wait_for(&mut client, "aof_rewrite_in_progress", "0");
    }
    ok(&mut client, "SET later 1");
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "DEL later").integer(), Some(1));
    assert_eq!(look(&mut client), before.0);
    server.shutdown().unwrap();
}

/// The lines of the manifest, without what all names begin with.
fn manifest(dir: &tempfile::TempDir) -> Vec<String> {
    let path = dir.path().join("appendonlydir/appendonly.aof.manifest");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.replace("appendonly.aof.", "")).collect()
}

#[test]
fn the_first_start_makes_a_base_of_nothing_or_of_the_dump() {
    for (preamble, suffix) in [("yes", "rdb"), ("no", "aof")] {
        let dir = tempfile::tempdir().unwrap();
        let settings = [("appendonly", "yes"), ("aof-use-rdb-preamble", preamble), ("save", "")];
        let expected = [&format!("file 1.base.{suffix} seq 1 type b"), "file 1.incr.aof seq 1 type i"];
        start(&dir, &settings).0.shutdown().unwrap();
        assert_eq!(manifest(&dir), expected);
        std::fs::remove_dir_all(dir.path().join("appendonlydir")).unwrap();
        let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "3600 1")]);
        ok(&mut RespClient::connect(&address).unwrap(), "SET k v");
        server.shutdown().unwrap();
        for _ in 0..2 {
            let (server, address) = start(&dir, &settings);
            assert_eq!(ask(&mut RespClient::connect(&address).unwrap(), "GET k").text(), "v");
            server.shutdown().unwrap();
            assert_eq!(manifest(&dir), expected);
        }
    }
}

#[test]
fn a_rewrite_of_a_file_that_is_off_makes_one_base_of_that_moment() {
    let dir = tempfile::tempdir().unwrap();
    let off = [("appendonly", "no"), ("save", ""), ("enable-debug-command", "yes")];
    let (server, address) = start(&dir, &off);
    let mut client = RespClient::connect(&address).unwrap();
    assert!(matches!(ask(&mut client, "DEBUG LOADAOF"), Reply::Error(_)), "there is none");
    FILL.iter().for_each(|line| ok(&mut client, line));
    let seen = (look(&mut client), ask(&mut client, "DEBUG DIGEST"));
    for n in 1..3 {
        assert_eq!(ask(&mut client, "BGREWRITEAOF").text(), "Background append only file rewriting started");
        wait_for(&mut client, "aof_rewrite_in_progress", "0");
        assert_eq!(figure(&mut client, "aof_last_bgrewrite_status"), "ok");
        assert_eq!(manifest(&dir), [format!("file {n}.base.rdb seq {n} type b")]);
    }
    ok(&mut client, "SET later 1");
    assert_eq!(ask(&mut client, "DEBUG LOADAOF").text(), "OK");
    assert_eq!((look(&mut client), ask(&mut client, "DEBUG DIGEST")), seen);
    assert_eq!(manifest(&dir), ["file 2.base.rdb seq 2 type b"], "it was only read");
    ok(&mut client, "SET later 1");
    drop(client);
    server.shutdown().unwrap();
    // As in Redis, a start takes the append-only file, whatever came after it.
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("enable-debug-command", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!((look(&mut client), ask(&mut client, "DEBUG DIGEST")), seen);
    assert_eq!(manifest(&dir), ["file 2.base.rdb seq 2 type b", "file 1.incr.aof seq 1 type i"]);
    server.shutdown().unwrap();
}

/// Every type beyond what fits one request, and what a stream's counters say.
const LARGE: &[&str] = &[
    "EVAL for\ti=1,300\tdo\tredis.call('RPUSH','long',i,'x'..i)\tredis.call('SADD','many','m'..i)\t\
     redis.call('SADD','numbers',i)\tredis.call('HSET','map',i,'v'..i)\tredis.call('ZADD','sorted',i/7,'m'..i)\tend 0",
    "XADD gone 5-1 a b",
    "XDEL gone 5-1",
    "XGROUP CREATE gone g $ ENTRIESREAD 1",
    "XGROUP CREATECONSUMER gone g idle",
    "XGROUP CREATE fresh g $ MKSTREAM",
    "HSET dying-hash f v",
    "PEXPIREAT dying-hash 32503680000000",
    "SET bytes \u{1}\r\n$-1",
];

#[test]
fn a_base_of_requests_brings_every_type_back_here_and_in_redis_server() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("appendonly", "yes"), ("aof-use-rdb-preamble", "no"), ("enable-debug-command", "yes")];
    let (server, address) = start(&dir, &settings);
    let mut client = RespClient::connect(&address).unwrap();
    FILL.iter().chain(LARGE).for_each(|line| ok(&mut client, line));
    let library = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)";
    client.command(&["FUNCTION", "LOAD", library]).unwrap();
    let streams = ["XINFO STREAM gone", "XINFO GROUPS gone", "XINFO STREAM fresh", "XINFO GROUPS fresh"];
    let all = |client: &mut RespClient| {
        let streams = streams.map(|line| ask(client, line));
        (look(client), ask(client, "DEBUG DIGEST"), streams, ask(client, "FCALL answer 0"))
    };
    let before = all(&mut client);
    ok(&mut client, "BGREWRITEAOF");
    wait_for(&mut client, "aof_rewrite_in_progress", "0");
    assert_eq!(manifest(&dir), ["file 2.base.aof seq 2 type b", "file 2.incr.aof seq 2 type i"]);
    assert_eq!(ask(&mut client, "DEBUG LOADAOF").text(), "OK");
    assert_eq!(all(&mut client), before);
    drop(client);
    server.shutdown().unwrap();
    let path = dir.path().to_str().unwrap();
    let arguments = ["--dir", path, "--appendonly", "yes", "--save", "", "--enable-debug-command", "yes"];
    let redis = start_redis(&arguments).unwrap();
    let mut client = RespClient::connect(&redis.store).unwrap();
    assert_eq!((look(&mut client), ask(&mut client, "DEBUG DIGEST")), (before.0, before.1));
    assert_eq!(ask(&mut client, "FCALL answer 0").integer(), Some(42));
}

#[test]
fn writes_beside_a_slow_rewrite_into_requests_are_not_in_its_base_and_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("appendonly", "yes"), ("aof-use-rdb-preamble", "no"), ("enable-debug-command", "yes")];
    let (server, address) = start(&dir, &settings);
    let mut client = RespClient::connect(&address).unwrap();
    (0..ACCOUNTS).for_each(|at| ok(&mut client, &format!("SET a{at} 1000")));
    ok(&mut client, "EVAL for\ti=1,5000\tdo\tredis.call('RPUSH','large',i)\tend 0");
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| transfer(&address, 3, &stop, &done));
        for _ in 0..3 {
            ok(&mut client, "CONFIG SET rdb-key-save-delay 300");
            ok(&mut client, "BGREWRITEAOF");
            ok(&mut client, "RPUSH large x");
            let before = done.load(Ordering::Relaxed);
            while done.load(Ordering::Relaxed) < before + 100 {
                std::thread::yield_now();
            }
            ok(&mut client, "CONFIG SET rdb-key-save-delay 0");
            wait_for(&mut client, "aof_rewrite_in_progress", "0");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let digest = ask(&mut client, "DEBUG DIGEST");
    assert_eq!(ask(&mut client, "DEBUG LOADAOF").text(), "OK");
    assert_eq!(ask(&mut client, "DEBUG DIGEST"), digest);
    assert_eq!(sum(&mut client), 1000 * ACCOUNTS as i64);
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn a_file_turned_on_while_its_lone_base_is_made_begins_with_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    (0..20).for_each(|at| ok(&mut client, &format!("SET k{at} 1")));
    ok(&mut client, "CONFIG SET rdb-key-save-delay 100000000");
    ok(&mut client, "BGREWRITEAOF");
    ok(&mut client, "SET between 1");
    ok(&mut client, "CONFIG SET appendonly yes rdb-key-save-delay 0");
    wait_for(&mut client, "aof_rewrite_scheduled", "0");
    wait_for(&mut client, "aof_rewrite_in_progress", "0");
    ok(&mut client, "SET after 1");
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "EXISTS k0 k19 between after").integer(), Some(4));
    server.shutdown().unwrap();
}

#[test]
fn a_rewrite_ends_with_the_file_that_is_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    (0..20).for_each(|at| ok(&mut client, &format!("SET k{at} 1")));
    let before = manifest(&dir)[0].clone();
    ok(&mut client, "CONFIG SET rdb-key-save-delay 100000000");
    ok(&mut client, "BGREWRITEAOF");
    ok(&mut client, "CONFIG SET appendonly no");
    wait_for(&mut client, "aof_rewrite_in_progress", "0");
    assert_eq!(figure(&mut client, "aof_last_bgrewrite_status"), "ok", "it did not fail");
    assert_eq!(manifest(&dir)[0], before);
    // Scheduled behind a dump, it is forgotten, too.
    ok(&mut client, "BGSAVE");
    ok(&mut client, "CONFIG SET appendonly yes");
    assert_eq!(figure(&mut client, "aof_rewrite_scheduled"), "1");
    ok(&mut client, "CONFIG SET appendonly no rdb-key-save-delay 0");
    assert_eq!(figure(&mut client, "aof_rewrite_scheduled"), "0");
    wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    assert_eq!(figure(&mut client, "aof_rewrite_in_progress"), "0");
    assert_eq!(manifest(&dir)[0], before);
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn waitaof_ends_with_an_error_when_the_file_is_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("appendfsync", "no")]);
    let mut admin = RespClient::connect(&address).unwrap();
    for replicas in ["0", "1"] {
        let mut waiter = RespClient::connect(&address).unwrap();
        ok(&mut waiter, "INCR k");
        waiter.send(&["WAITAOF", "1", replicas, "0"]).unwrap();
        wait_for_blocked(&mut admin, 1);
        ok(&mut admin, "CONFIG SET appendonly no");
        let text = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
        assert_eq!(waiter.read().unwrap(), Reply::Error(text.into()));
        ok(&mut admin, "CONFIG SET appendonly yes");
        wait_for(&mut admin, "aof_rewrite_in_progress", "0");
    }
    // Who asked for replicas alone waits on.
    let mut waiter = RespClient::connect(&address).unwrap();
    waiter.send(&["WAITAOF", "0", "1", "0"]).unwrap();
    wait_for_blocked(&mut admin, 1);
    ok(&mut admin, "CONFIG SET appendonly no");
    wait_for_blocked(&mut admin, 1);
    drop((waiter, admin));
    server.shutdown().unwrap();
}

#[test]
fn a_transaction_turns_the_file_on_and_off() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    for (setting, key) in [("no", "last"), ("yes", "first"), ("no", "second")] {
        for line in ["MULTI", &format!("CONFIG SET appendonly {setting}"), &format!("SET {key} 1")] {
            ok(&mut client, line);
        }
        assert_eq!(
            ask(&mut client, "EXEC").items().iter().map(Reply::text).collect::<Vec<_>>(),
            ["OK", "OK"]
        );
        ok(&mut client, &format!("SET behind-{key} 1"));
        wait_for(&mut client, "aof_rewrite_in_progress", "0");
    }
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "EXISTS last behind-last first behind-first second").integer(), Some(5));
    assert_eq!(ask(&mut client, "EXISTS behind-second").integer(), Some(0));
    server.shutdown().unwrap();
}

#[test]
fn what_scripts_write_is_in_a_file_that_was_turned_on_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    let mut run = |line: &str| ask(&mut client, line);
    let set = |key: &str| format!("EVAL redis.call('set',KEYS[1],1) 1 {key}");
    // No journal is there, so their effects are spelled out for nobody.
    run(&set("before"));
    for line in ["MULTI", &set("first"), "CONFIG SET appendonly yes", &set("second"), "SET third 1", "EXEC"] {
        assert!(!matches!(run(line), Reply::Error(_)), "{line}");
    }
    run(&set("fourth"));
    wait_for(&mut client, "aof_rewrite_in_progress", "0");
    ask(&mut client, &set("behind"));
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "EXISTS before first second third fourth behind").integer(), Some(6));
    server.shutdown().unwrap();
}

#[test]
fn the_end_is_refused_while_the_first_base_is_made_unless_somebody_insists() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    (0..20).for_each(|at| ok(&mut client, &format!("SET k{at} 1")));
    ok(&mut client, "CONFIG SET rdb-key-save-delay 100000000");
    ok(&mut client, "CONFIG SET appendonly yes");
    wait_for(&mut client, "aof_rewrite_in_progress", "1");
    for line in ["SHUTDOWN", "SHUTDOWN NOSAVE"] {
        let refused = Reply::Error("ERR Errors trying to SHUTDOWN. Check logs.".into());
        assert_eq!(ask(&mut client, line), refused);
    }
    assert!(!server.may_end(false), "nor by a signal");
    client.send(&["SHUTDOWN", "NOSAVE", "FORCE"]).unwrap();
    server.wait();
    server.shutdown().unwrap();
}

#[test]
fn waitaof_waits_for_the_first_base_of_a_file_that_was_turned_on() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
    let mut admin = RespClient::connect(&address).unwrap();
    let mut waiter = RespClient::connect(&address).unwrap();
    ok(&mut waiter, "SET k v");
    ok(&mut admin, "CONFIG SET rdb-key-save-delay 100000000");
    ok(&mut admin, "BGSAVE");
    for scheduled in ["1", "0"] {
        ok(&mut admin, "CONFIG SET appendonly yes");
        assert_eq!(figure(&mut admin, "aof_rewrite_scheduled"), scheduled);
        waiter.send(&["WAITAOF", "1", "0", "0"]).unwrap();
        wait_for_blocked(&mut admin, 1);
        ok(&mut admin, "CONFIG SET rdb-key-save-delay 0");
        assert_eq!(waiter.read().unwrap(), Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]));
        let named: Vec<String> = manifest(&dir).into_iter().filter(|line| !line.ends_with('h')).collect();
        assert!(named.len() == 2 && named[0].contains("base"), "{named:?}");
        ok(&mut admin, "CONFIG SET appendonly no rdb-key-save-delay 100000000");
        wait_for(&mut admin, "aof_rewrite_in_progress", "0");
    }
    drop((waiter, admin));
    server.shutdown().unwrap();
}

#[test]
fn what_a_transaction_asks_for_is_scheduled_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    for (ask_for, kind) in [("BGREWRITEAOF", "append only file rewriting"), ("BGSAVE", "saving")] {
        ["MULTI", "SET x 1", ask_for, "DEL x"].iter().for_each(|line| ok(&mut client, line));
        let replies = ask(&mut client, "EXEC");
        assert_eq!(replies.items()[1].text(), format!("Background {kind} scheduled"));
        wait_for(&mut client, "aof_rewrite_in_progress", "0");
        wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    }
    drop(client);
    server.shutdown().unwrap();
}
