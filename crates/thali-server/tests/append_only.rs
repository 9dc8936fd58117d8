//! Claims about the append-only file of a running server, and about clients that come while data is loaded.

mod harness;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness::data::{ACCOUNTS, FILL, look, sum, transfer};
use harness::{ask, config, figure, ok, start, wait_for};
use thali_server::{Server, StartError};
use thali_testkit::{Port, Reply, RespClient, wait_until};

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
