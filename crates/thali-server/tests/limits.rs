//! Claims about what bounds clients and scripts, and about the figures that show it.

use std::time::Duration;

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start};

const NO_FILE: (&str, &str) = ("appendonly", "no");

fn info(client: &mut RespClient, section: &str) -> HashMapOfInfo {
    let text = ask(client, &format!("INFO {section}")).text();
    text.lines()
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

type HashMapOfInfo = std::collections::HashMap<String, String>;

#[test]
fn who_sends_more_than_the_query_limit_before_it_can_run_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("client-query-buffer-limit", "1mb")]);
    let mut large = connect(&address);
    let value = vec![b'x'; 4 << 20];
    // The close may come while the rest is still being written.
    let _ = large.send(&[b"SET", &b"k"[..], &value]);
    assert!(large.read().is_err());
    let mut queueing = connect(&address);
    ask(&mut queueing, "MULTI");
    let piece = "x".repeat(100_000);
    let queued = (0..40)
        .take_while(|_| queueing.command(&["SET", "k", &piece]).is_ok_and(|reply| reply.text() == "QUEUED"))
        .count();
    assert!((5..=11).contains(&queued), "{queued}");
    let mut client = connect(&address);
    assert_eq!(info(&mut client, "stats")["client_query_buffer_limit_disconnections"], "2");
    assert_eq!(ask(&mut client, "EXISTS k").integer(), Some(0));
    server.shutdown().unwrap();
}

#[test]
fn a_script_that_keeps_every_loop_busy_can_be_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops", "1"), ("busy-reply-threshold", "50")]);
    let mut busy = connect(&address);
    busy.send(&["EVAL", "while true do redis.call('GET', KEYS[1]) end", "1", "k"]).unwrap();
    // A connection of before the threshold may wait with the loop; one of after it is answered.
    std::thread::sleep(Duration::from_millis(200));
    let mut client = connect(&address);
    assert!(matches!(ask(&mut client, "GET k"), Reply::Error(text) if text.starts_with("BUSY")));
    // What needs none of its shards is answered.
    assert!(ask(&mut client, "INFO").text().contains("# Keyspace"));
    assert_eq!(ask(&mut client, "SCRIPT KILL"), Reply::Status("OK".into()));
    assert!(matches!(busy.read().unwrap(), Reply::Error(text) if text.contains("SCRIPT KILL")));
    assert_eq!(ask(&mut client, "GET k"), Reply::Nil);
    server.shutdown().unwrap();
}

#[test]
fn script_flush_frees_what_every_loop_has_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut one, mut other) = (connect(&address), connect(&address));
    let memory = |client: &mut RespClient| info(client, "memory")["used_memory_lua"].parse::<u64>().unwrap();
    ask(&mut one, "EVAL return 0");
    one.command(&["EVAL", "return 1", "0"]).unwrap();
    let before = memory(&mut one);
    for i in 0..20 {
        let body = format!("local t = {{{}}} return {i}", "1,".repeat(5_000));
        one.command(&["SCRIPT", "LOAD", &body]).unwrap();
    }
    let loaded = memory(&mut one);
    assert!(loaded > before + 200_000, "{before} {loaded}");
    assert_eq!(ask(&mut other, "SCRIPT FLUSH").text(), "OK");
    while memory(&mut one) > before + 100_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.shutdown().unwrap();
}

#[test]
fn info_counts_calls_failures_refusals_and_errors_over_all_loops() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut one, mut other) = (connect(&address), connect(&address));
    for client in [&mut one, &mut other] {
        ask(client, "SET s v");
        ask(client, "LPUSH s v");
        ask(client, "SET s");
        ask(client, "CONFIG GET maxclients");
        client.command(&["EVAL", "return redis.call('GET', 's')", "0"]).unwrap();
        ask(client, "nonsense");
    }
    let commands = info(&mut one, "commandstats");
    let has = |name: &str, parts: [&str; 2]| parts.iter().all(|part| commands[name].contains(part));
    assert!(has("cmdstat_set", ["calls=2,", "rejected_calls=2,failed_calls=0"]), "{commands:?}");
    assert!(has("cmdstat_lpush", ["calls=2,", "rejected_calls=0,failed_calls=2"]), "{commands:?}");
    assert!(has("cmdstat_get", ["calls=2,", "usec_per_call="]), "{commands:?}");
    assert!(has("cmdstat_config|get", ["calls=2,", "failed_calls=0"]), "{commands:?}");
    let errors = info(&mut other, "errorstats");
    assert_eq!((&*errors["errorstat_WRONGTYPE"], &*errors["errorstat_ERR"]), ("count=2", "count=4"));
    assert_eq!(info(&mut one, "stats")["total_error_replies"], "6");
    let latencies = info(&mut one, "latencystats");
    assert!(latencies["latency_percentiles_usec_set"].starts_with("p50="), "{latencies:?}");
    assert!(!ask(&mut one, "INFO").text().contains("cmdstat_"));
    ask(&mut one, "CONFIG RESETSTAT");
    let after = info(&mut one, "everything");
    assert!(!after.contains_key("cmdstat_lpush") && !after.contains_key("errorstat_WRONGTYPE"), "{after:?}");
    server.shutdown().unwrap();
}

#[test]
fn the_slow_log_keeps_the_newest_and_shows_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [NO_FILE, ("slowlog-log-slower-than", "0"), ("slowlog-max-len", "4")];
    let (server, address) = start(&dir, &settings);
    let (mut one, mut other) = (connect(&address), connect(&address));
    ask(&mut one, "CLIENT SETNAME somebody");
    ask(&mut other, "SET first 1");
    ask(&mut one, "SLOWLOG RESET");
    ask(&mut other, "CONFIG SET masterauth secret");
    one.command(&["EVAL", "return redis.call('GET', 'inner')", "0"]).unwrap();
    ask(&mut one, "CONFIG SET slowlog-log-slower-than -1");
    let log = ask(&mut other, "SLOWLOG GET");
    let shown: Vec<String> = log
        .items()
        .iter()
        .map(|entry| entry.items()[3].items().iter().map(Reply::text).collect::<Vec<_>>().join(" "))
        .collect();
    // CONFIG SET may reach this loop before or after it logs itself.
    assert!(shown.len() == 4 && shown[0].ends_with("-1"), "{shown:?}");
    // What a script has run stands before it.
    assert!(shown[1].starts_with("EVAL ") && shown[2] == "GET inner", "{shown:?}");
    assert_eq!(shown[3], "CONFIG SET masterauth (redacted)");
    for entry in &log.items()[1..3] {
        assert_eq!(entry.items()[5].text(), "somebody");
    }
    assert_eq!(ask(&mut one, "SLOWLOG LEN").integer(), Some(4));
    assert_eq!(ask(&mut one, "SLOWLOG GET 1").items().len(), 1);
    assert!(matches!(ask(&mut one, "SLOWLOG GET -2"), Reply::Error(_)));
    server.shutdown().unwrap();
}

#[test]
fn keys_are_found_in_scripts_and_transactions_too() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    (0..50).for_each(|i| drop(ask(&mut client, &format!("SET k{i} v"))));
    let counted = "return {redis.call('DBSIZE'), #redis.call('KEYS', '*'), redis.call('RANDOMKEY')}";
    let reply = client.command(&["EVAL", counted, "0"]).unwrap();
    assert_eq!((reply.items()[0].integer(), reply.items()[1].integer()), (Some(50), Some(50)));
    for line in ["MULTI", "INCR n", "DBSIZE", "KEYS *", "INFO keyspace"] {
        ask(&mut client, line);
    }
    let reply = ask(&mut client, "EXEC");
    assert_eq!((reply.items()[1].integer(), reply.items()[2].items().len()), (Some(51), 51));
    assert!(reply.items()[3].text().contains("db0:keys=51"));
    server.shutdown().unwrap();
}

#[test]
fn the_limit_of_open_files_is_raised_at_the_start() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: before.maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let now = getrlimit(Resource::Nofile).current;
    assert!(now.is_none_or(|now| now > 128), "{now:?}");
    let mut client = connect(&address);
    let maxclients: u64 = ask(&mut client, "CONFIG GET maxclients").items()[1].text().parse().unwrap();
    assert!(now.is_none_or(|now| maxclients < now), "{maxclients} {now:?}");
    assert!(matches!(ask(&mut client, "CONFIG SET maxclients 4294967295"), Reply::Error(_)));
    server.shutdown().unwrap();
}

#[test]
fn limits_of_strings_and_hyperloglogs_can_be_changed_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    for (line, expected) in [
        ("SETBIT k 16777216 1", "(integer) 0"),
        ("CONFIG SET proto-max-bulk-len 1mb hll-sparse-max-bytes 18", "+OK"),
        ("SETBIT k 8388608 1", "-ERR bit offset is not an integer or out of range"),
        ("SETRANGE k 1048576 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("PFADD h a", "(integer) 1"),
        ("PFDEBUG ENCODING h", "+dense"),
    ] {
        assert_eq!(format!("{:?}", ask(&mut client, line)), expected, "{line}");
    }
    server.shutdown().unwrap();
}

#[test]
fn a_read_only_script_may_not_run_what_may_write_beside_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    for command in ["'PFCOUNT', 'h'", "'PUBLISH', 'c', 'm'", "'SET', 'k', 'v'"] {
        let script = format!("return redis.call({command})");
        let reply = format!("{:?}", client.command(&["EVAL_RO", &script, "0"]).unwrap());
        assert!(
            reply.contains("Write commands are not allowed from read-only scripts"),
            "{command}: {reply}"
        );
    }
    server.shutdown().unwrap();
}
