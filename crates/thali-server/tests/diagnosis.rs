//! Claims about what tells an operator where time and memory go and what the server is: LATENCY, MEMORY, LOLWUT,
//! MODULE, CLUSTER, REPLICAOF.

use std::collections::BTreeMap;

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start};

const NO_FILE: (&str, &str) = ("appendonly", "no");

/// A flat reply as names with values.
fn pairs(reply: &Reply) -> BTreeMap<String, Reply> {
    reply.items().as_chunks::<2>().0.iter().map(|[name, value]| (name.text(), value.clone())).collect()
}

fn names(client: &mut RespClient) -> Vec<String> {
    ask(client, "LATENCY LATEST").items().iter().map(|event| event.items()[0].text()).collect()
}

#[test]
fn slow_commands_are_latency_events_from_the_threshold_on() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("enable-debug-command", "yes")]);
    let mut client = connect(&address);
    ask(&mut client, "DEBUG SLEEP 0.03");
    assert_eq!(names(&mut client), [""; 0]);
    ask(&mut client, "CONFIG SET latency-monitor-threshold 20");
    ask(&mut client, "DEBUG SLEEP 0.03");
    assert_eq!(names(&mut client), ["command"]);
    let latest = ask(&mut client, "LATENCY LATEST").items()[0].clone();
    let [_, at, last_ms, max_ms] = latest.items() else { panic!("{latest:?}") };
    assert!(at.integer().unwrap() > 1_700_000_000 && last_ms.integer().unwrap() >= 30 && last_ms <= max_ms);
    let history = ask(&mut client, "LATENCY HISTORY command");
    assert_eq!(history.items()[0].items(), &[at.clone(), last_ms.clone()]);
    assert_eq!(ask(&mut client, "LATENCY HISTORY aof-write").items().len(), 0);
    assert!(ask(&mut client, "LATENCY GRAPH command").text().starts_with("command - high "));
    let none = "ERR No samples available for event 'nothing'";
    assert_eq!(ask(&mut client, "LATENCY GRAPH nothing"), Reply::Error(none.into()));
    assert!(ask(&mut client, "LATENCY DOCTOR").text().contains("command: 1 in memory"));
    assert_eq!(ask(&mut client, "LATENCY RESET nothing command").integer(), Some(1));
    assert_eq!(names(&mut client), [""; 0]);
    server.shutdown().unwrap();
}

#[test]
fn writes_and_syncs_of_the_file_are_latency_events() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) =
        start(&dir, &[("appendonly", "yes"), ("appendfsync", "always"), ("latency-monitor-threshold", "1")]);
    let mut client = connect(&address);
    let value = vec![b'x'; 8 << 20];
    // A sync of some megabytes takes a millisecond; where the disk is faster, more of them.
    for _ in 0..100 {
        client.command(&[b"SET", &b"k"[..], &value]).unwrap();
        if names(&mut client).iter().any(|name| name.starts_with("aof-")) {
            return server.shutdown().unwrap();
        }
    }
    panic!("no event in 800 MB: {:?}", names(&mut client));
}

#[test]
fn histograms_count_each_command_and_subcommand() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    ask(&mut client, "CONFIG RESETSTAT");
    for line in ["SET a 1", "SET b 2", "GET a", "CLIENT ID", "CLIENT LIST"] {
        ask(&mut client, line);
    }
    let check = |client: &mut RespClient, line: &str, expected: &[(&str, i64)]| {
        let found = pairs(&ask(client, line));
        let calls = |reply: &Reply| pairs(reply)["calls"].integer().unwrap();
        let found: Vec<(&str, i64)> =
            found.iter().map(|(name, reply)| (name.as_str(), calls(reply))).collect();
        assert_eq!(found, expected, "{line}");
    };
    check(&mut client, "LATENCY HISTOGRAM nothing set get", &[("get", 1), ("set", 2)]);
    check(&mut client, "LATENCY HISTOGRAM client", &[("client|id", 1), ("client|list", 1)]);
    check(&mut client, "LATENCY HISTOGRAM client|id", &[("client|id", 1)]);
    let set = pairs(&ask(&mut client, "LATENCY HISTOGRAM set"));
    let steps = pairs(&set["set"])["histogram_usec"].clone();
    assert_eq!(steps.items().last().unwrap().integer(), Some(2));
    server.shutdown().unwrap();
}

#[test]
fn memory_figures_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    for at in 0..1_000 {
        client.command(&["SET", &format!("key{at}"), "value"]).unwrap();
    }
    let stats = pairs(&ask(&mut client, "MEMORY STATS"));
    let figure = |name: &str| stats[name].integer().unwrap_or_else(|| panic!("{name}: {:?}", stats[name]));
    assert_eq!(figure("keys.count"), 1_000);
    assert_eq!(figure("dataset.bytes"), (figure("total.allocated") - figure("overhead.total")).max(0));
    assert!(figure("peak.allocated") >= figure("total.allocated"));
    assert!(pairs(&stats["db.0"])["overhead.hashtable.main"].integer().unwrap() > 0);
    assert_eq!(ask(&mut client, "MEMORY USAGE nothing"), Reply::Nil);
    assert!(ask(&mut client, "MEMORY USAGE key1 SAMPLES 0").integer().unwrap() > 9);
    for line in ["MEMORY USAGE key1 SAMPLES", "MEMORY USAGE key1 SAMPLES -1", "MEMORY USAGE key1 LIMIT 3"] {
        assert_eq!(ask(&mut client, line), Reply::Error("ERR syntax error".into()), "{line}");
    }
    assert_eq!(ask(&mut client, "MEMORY PURGE"), Reply::Status("OK".into()));
    assert!(!ask(&mut client, "MEMORY DOCTOR").text().is_empty());
    assert!(!ask(&mut client, "MEMORY MALLOC-STATS").text().is_empty());
    server.shutdown().unwrap();
}

#[test]
fn scripts_are_not_debugged() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    assert_eq!(ask(&mut client, "SCRIPT DEBUG no").text(), "OK");
    for mode in ["YES", "SYNC", "x"] {
        let reply = ask(&mut client, &format!("SCRIPT DEBUG {mode}"));
        assert!(matches!(&reply, Reply::Error(text) if text.contains("no Lua debugger")), "{reply:?}");
    }
    server.shutdown().unwrap();
}

#[test]
fn pictures_are_served_and_modules_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    for line in
        ["LOLWUT", "LOLWUT VERSION 5", "LOLWUT VERSION 6 40 3", "LOLWUT 5 6 7 8", "LOLWUT 999999999 99999"]
    {
        let text = ask(&mut client, line).text();
        assert!(text.contains("Redis ver. 7.2.4") && text.len() < 40_000, "{line}: {text}");
    }
    let not_integer = Reply::Error("ERR value is not an integer or out of range".into());
    assert_eq!(ask(&mut client, "LOLWUT VERSION x"), not_integer);
    assert_eq!(ask(&mut client, "MODULE LIST"), Reply::Array(Vec::new()));
    for line in ["MODULE LOAD /x.so", "MODULE LOADEX /x.so", "MODULE UNLOAD x"] {
        assert!(
            matches!(ask(&mut client, line), Reply::Error(text) if text.starts_with("ERR Error ")),
            "{line}"
        );
    }
    server.shutdown().unwrap();
}

#[test]
fn a_server_that_is_alone_says_so_to_who_asks_for_a_cluster_or_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    let no_cluster = Reply::Error("ERR This instance has cluster support disabled".into());
    for line in ["CLUSTER INFO", "CLUSTER SLOTS", "CLUSTER KEYSLOT k", "READONLY", "READWRITE", "ASKING"] {
        assert_eq!(ask(&mut client, line), no_cluster, "{line}");
    }
    for line in ["REPLICAOF NO ONE", "SLAVEOF no one"] {
        assert_eq!(ask(&mut client, line).text(), "OK");
    }
    for line in ["REPLICAOF 127.0.0.1 6379", "REPLICAOF no two", "FAILOVER"] {
        assert!(matches!(ask(&mut client, line), Reply::Error(_)), "{line}");
    }
    assert_eq!(ask(&mut client, "ROLE").items()[0].text(), "master");
    server.shutdown().unwrap();
}
