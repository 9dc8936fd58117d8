//! Claims about dumps and rewrites while clients write: each snapshot is a point in time, and nothing
//! acknowledged is lost on the way.

mod harness;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::data::{ACCOUNTS, FILL, look, sum, transfer};
use harness::{ask, config, figure, ok, start, wait_for};
use thali_server::{Server, StartError};
use thali_testkit::{Reply, RespClient, start_redis};

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
    // FLUSHALL would end the dump.
    ok(&mut client, "FLUSHDB");
    ok(&mut client, "SET after 1");
    wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    assert_eq!(figure(&mut client, "rdb_last_bgsave_status"), "ok");
    client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    server.wait();
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &settings);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "DBSIZE").integer(), Some(200_000));
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

/// Large values are saved in parts; whoever changes one meanwhile saves its rest.
#[test]
fn large_values_that_change_during_a_dump_are_in_it_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("appendonly", "no"), ("save", ""), ("enable-debug-command", "yes")];
    let (server, address) = start(&dir, &settings);
    let mut client = RespClient::connect(&address).unwrap();
    let fill = "for\ti=1,20000\tdo\tredis.call('RPUSH','list'..i%4,i)\tredis.call('SADD','set'..i%4,'m'..i)\t\
                redis.call('HSET','hash'..i%4,i,i)\tredis.call('ZADD','zset'..i%4,i,i)\t\
                redis.call('XADD','stream'..i%4,i..'-1','f',i)\tend";
    ok(&mut client, &format!("EVAL {fill} 0"));
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..12 {
        let before = ask(&mut client, "DEBUG DIGEST");
        ok(&mut client, "CONFIG SET rdb-key-save-delay 1");
        ok(&mut client, "BGSAVE");
        std::thread::sleep(std::time::Duration::from_millis(rng.u64(0..20)));
        let running = figure(&mut client, "rdb_bgsave_in_progress");
        for kind in ["RPUSH list", "SADD set", "ZADD zset"] {
            let at = rng.u32(0..4);
            let score = if kind.starts_with('Z') { "1 " } else { "" };
            ok(&mut client, &format!("{kind}{at} {score}new{round}"));
        }
        ok(&mut client, &format!("DEL hash{}", round % 4));
        ok(&mut client, &format!("XTRIM stream{} MAXLEN 100", round % 4));
        ok(&mut client, &format!("RENAME list{} other{}", round % 4, round % 4));
        ok(&mut client, &format!("RENAME other{} list{}", round % 4, round % 4));
        wait_for(&mut client, "rdb_bgsave_in_progress", "0");
        assert_eq!(figure(&mut client, "rdb_last_bgsave_status"), "ok");
        let copies = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("dump.rdb"), copies.path().join("dump.rdb")).unwrap();
        let (copy, address) = start(&copies, &settings);
        let found = ask(&mut RespClient::connect(&address).unwrap(), "DEBUG DIGEST");
        copy.shutdown().unwrap();
        assert_eq!(found, before, "round {round}, running: {running}");
    }
    drop(client);
    server.shutdown().unwrap();
}

/// Who would change a large value that a dump has not saved waits for that, with empty hands.
#[test]
fn a_write_to_a_large_value_waits_for_the_walk_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("save", ""), ("loops", "1")]);
    let mut client = RespClient::connect(&address).unwrap();
    ok(&mut client, "EVAL for\ti=1,150000\tdo\tredis.call('ZADD','large',i,i)\tend 0");
    ok(&mut client, "SET small 1");
    for write in ["ZADD large 7 new\r\n", "EVAL \"redis.call('DEL',KEYS[1])\" 1 large\r\n"] {
        ok(&mut client, "CONFIG SET rdb-key-save-delay 1000");
        ok(&mut client, "BGSAVE");
        let mut writer = std::net::TcpStream::connect(&address).unwrap();
        writer.write_all(write.as_bytes()).unwrap();
        writer.set_read_timeout(Some(std::time::Duration::from_millis(30))).unwrap();
        let mut reply = [0; 1];
        assert!(writer.read_exact(&mut reply).is_err(), "{write}: the value was not saved yet");
        // On the same loop, and in the same shard or another.
        assert_eq!(ask(&mut client, "GET small").text(), "1");
        ok(&mut client, "SET small 1");
        assert_eq!(ask(&mut client, "ZCARD large").integer(), Some(150_000));
        ok(&mut client, "CONFIG SET rdb-key-save-delay 0");
        wait_for(&mut client, "rdb_bgsave_in_progress", "0");
        writer.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        writer.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, if write.starts_with('Z') { b":" } else { b"$" }, "{write}");
        ok(&mut client, "ZREM large new");
    }
    assert_eq!(ask(&mut client, "EXISTS large").integer(), Some(0));
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn flushall_ends_the_running_dump_and_it_counts_as_neither_done_nor_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("save", "")]);
    let mut client = RespClient::connect(&address).unwrap();
    (0..2000).for_each(|at| ok(&mut client, &format!("SET k{at} 1")));
    ok(&mut client, "EVAL for\ti=1,5000\tdo\tredis.call('RPUSH','large',i)\tend 0");
    for flush in [&["FLUSHALL"][..], &["MULTI", "SET x 1", "FLUSHALL", "EXEC"]] {
        ok(&mut client, "CONFIG SET rdb-key-save-delay 1000000");
        ok(&mut client, "SET k 1");
        ok(&mut client, "BGSAVE");
        assert_eq!(figure(&mut client, "rdb_bgsave_in_progress"), "1");
        flush.iter().for_each(|line| ok(&mut client, line));
        wait_for(&mut client, "rdb_bgsave_in_progress", "0");
        assert_eq!(figure(&mut client, "rdb_last_bgsave_status"), "ok");
        assert_eq!(figure(&mut client, "rdb_saves"), "0");
        assert!(figure(&mut client, "rdb_changes_since_last_save").parse::<u64>().unwrap() > 2000);
        assert!(!dir.path().join("dump.rdb").exists());
        ok(&mut client, "SET k 1");
    }
    // The next one is as good as any.
    ok(&mut client, "CONFIG SET rdb-key-save-delay 0");
    ok(&mut client, "SAVE");
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("save", "")]);
    assert_eq!(ask(&mut RespClient::connect(&address).unwrap(), "DBSIZE").integer(), Some(1));
    server.shutdown().unwrap();
}

#[test]
fn flushall_leaves_an_empty_dump_where_dumps_are_made_by_rule() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("save", "3600 1")]);
    let mut client = RespClient::connect(&address).unwrap();
    for flush in [&["FLUSHALL"][..], &["MULTI", "FLUSHALL", "EXEC"], &["EVAL redis.call('FLUSHALL') 0"]] {
        (0..100).for_each(|at| ok(&mut client, &format!("SET k{at} 1")));
        ok(&mut client, "SAVE");
        let full = std::fs::metadata(dir.path().join("dump.rdb")).unwrap().len();
        ok(&mut client, "SET k 1");
        ok(&mut client, "CONFIG SET rdb-key-save-delay 1000000");
        ok(&mut client, "BGSAVE");
        flush.iter().for_each(|line| ok(&mut client, line));
        ok(&mut client, "CONFIG SET rdb-key-save-delay 0");
        // Before anything else is answered.
        assert_eq!(figure(&mut client, "rdb_changes_since_last_save"), "0");
        let empty = std::fs::metadata(dir.path().join("dump.rdb")).unwrap().len();
        assert!(empty + 500 < full, "{empty} bytes after {full}");
    }
    ok(&mut client, "SET k 1");
    ok(&mut client, "FLUSHDB");
    assert_eq!(figure(&mut client, "rdb_changes_since_last_save"), "2", "FLUSHDB leaves dumps alone");
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn a_shorter_delay_holds_for_the_dump_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("save", ""), ("rdb-key-save-delay", "100000000")]);
    let mut client = RespClient::connect(&address).unwrap();
    (0..3000).for_each(|at| ok(&mut client, &format!("SET k{at} 1")));
    ok(&mut client, "BGSAVE");
    assert_eq!(figure(&mut client, "rdb_bgsave_in_progress"), "1");
    ok(&mut client, "CONFIG SET rdb-key-save-delay 0");
    wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    assert_eq!(figure(&mut client, "rdb_last_bgsave_status"), "ok");
    drop(client);
    server.shutdown().unwrap();
}
