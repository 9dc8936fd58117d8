//! Claims about libraries of functions: one namespace over all loops, changes that everybody sees at once, and
//! libraries in files, exchanged with redis-server.

mod harness;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness::{ask, connect, start};
use thali_testkit::{Reply, RespClient, start_redis};

/// A library with one function, on the line that its body begins on.
fn code(library: &str, function: &str, body: &str) -> String {
    format!("#!lua name={library}\nredis.register_function('{function}', function(keys, args) {body} end)")
}

fn load(client: &mut RespClient, code: &str) -> Reply {
    client.command(&["FUNCTION", "LOAD", "REPLACE", code]).unwrap()
}

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

/// The names of the libraries, in order.
fn libraries(client: &mut RespClient) -> Vec<String> {
    let reply = ask(client, "FUNCTION LIST");
    let mut names: Vec<_> = reply.items().iter().map(|library| library.items()[1].text()).collect();
    names.sort();
    names
}

#[test]
fn a_library_loaded_on_one_loop_is_called_on_all() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let mut clients: Vec<_> = (0..4).map(|_| connect(&address)).collect();
    assert_eq!(load(&mut clients[0], &code("lib", "f", "return redis.call('INCR', keys[1])")).text(), "lib");
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(ask(client, "FCALL F 1 k").integer(), Some(n as i64 + 1));
        assert_eq!(libraries(client), ["lib"]);
    }
    assert_eq!(ask(&mut clients[1], "FUNCTION DELETE lib"), Reply::Status("OK".into()));
    for client in &mut clients {
        assert_eq!(error(&ask(client, "FCALL f 1 k")), "ERR Function not found");
    }
    server.shutdown().unwrap();
}

#[test]
fn a_function_is_replaced_for_everybody_at_once_and_its_calls_are_whole() {
    const VERSIONS: u64 = 1500;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("loops", "3")]);
    // Writes its version to two keys of different shards, which it does not declare; replies what it found.
    let version = |n: u64| {
        code(
            "lib",
            "f",
            &format!(
                "local a, b = redis.call('GET', 'a'), redis.call('GET', 'b')
                 redis.call('SET', 'a', {n}) redis.call('SET', 'b', {n}) return {{{n}, a, b}}"
            ),
        )
    };
    let mut client = connect(&address);
    load(&mut client, &version(1));
    ask(&mut client, "FCALL f 0");
    let (asked, done, stop) = (AtomicU64::new(1), AtomicU64::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = connect(&address);
                while !stop.load(Ordering::SeqCst) {
                    let oldest = done.load(Ordering::SeqCst);
                    let reply = ask(&mut client, "FCALL f 0");
                    let newest = asked.load(Ordering::SeqCst);
                    let [ran, a, b] = reply.items() else { panic!("{reply:?}") };
                    let ran = ran.integer().unwrap() as u64;
                    assert!((oldest..=newest).contains(&ran), "{ran} is not in {oldest}..={newest}");
                    assert_eq!(a, b, "a call saw half of another");
                    let before: u64 = a.text().parse().unwrap();
                    assert!(before <= ran, "version {ran} ran after {before} had written");
                }
            });
        }
        for n in 2..=VERSIONS {
            asked.store(n, Ordering::SeqCst);
            assert_eq!(load(&mut client, &version(n)).text(), "lib");
            done.store(n, Ordering::SeqCst);
        }
        stop.store(true, Ordering::SeqCst);
    });
    server.shutdown().unwrap();
}

#[test]
fn transactions_change_and_call_libraries() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let mut client = connect(&address);
    load(&mut client, &code("lib", "f", "return 1"));
    ask(&mut client, "MULTI");
    ask(&mut client, "FCALL f 0");
    load(&mut client, &code("lib", "f", "return redis.call('INCR', 'n') + 100"));
    ask(&mut client, "FCALL f 0");
    ask(&mut client, "FUNCTION DELETE lib");
    ask(&mut client, "FCALL f 0");
    let replies = ask(&mut client, "EXEC");
    let [first, loaded, second, deleted, third] = replies.items() else { panic!("{replies:?}") };
    assert_eq!((first.integer(), second.integer()), (Some(1), Some(101)));
    assert_eq!((loaded.text(), deleted.text()), ("lib".into(), "OK".into()));
    assert_eq!(error(third), "ERR Function not found");
    server.shutdown().unwrap();
}

#[test]
fn a_busy_function_is_killed_by_its_own_command_and_shown_by_stats() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("busy-reply-threshold", "50")]);
    let (mut busy, mut other) = (connect(&address), connect(&address));
    load(&mut other, &code("lib", "spin", "while true do redis.call('GET', keys[1]) end"));
    busy.send(&["FCALL", "SPIN", "1", "k", "x"]).unwrap();
    let busy_words =
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
    while !matches!(ask(&mut other, "GET k"), Reply::Error(text) if text == busy_words) {}
    assert_eq!(error(&ask(&mut other, "SCRIPT KILL")), busy_words);
    assert_eq!(error(&load(&mut other, &code("lib", "spin", "return 1"))), busy_words);
    let stats = ask(&mut other, "FUNCTION STATS");
    let running = stats.items()[1].items();
    assert_eq!(running[1].text(), "spin");
    assert_eq!(
        running[3].items().iter().map(Reply::text).collect::<Vec<_>>(),
        ["FCALL", "SPIN", "1", "k", "x"]
    );
    assert!(running[5].integer().unwrap() >= 50);
    assert_eq!(ask(&mut other, "FUNCTION KILL"), Reply::Status("OK".into()));
    let killed = busy.read().unwrap();
    let words = "ERR Script killed by user with SCRIPT KILL... script: spin, on @user_function:2.";
    assert_eq!(error(&killed), words);
    assert_eq!(ask(&mut other, "FUNCTION STATS").items()[1], Reply::Nil);

    busy.send(&["EVAL", "while true do redis.call('GET', KEYS[1]) end", "1", "k"]).unwrap();
    while !matches!(ask(&mut other, "GET k"), Reply::Error(text) if text.contains("SCRIPT KILL")) {}
    for line in ["FUNCTION KILL", "FUNCTION STATS"] {
        assert!(error(&ask(&mut other, line)).contains("You can only call SCRIPT KILL"), "{line}");
    }
    assert_eq!(ask(&mut other, "SCRIPT KILL"), Reply::Status("OK".into()));
    busy.read().unwrap();
    assert_eq!(error(&ask(&mut other, "FUNCTION KILL")), "NOTBUSY No scripts in execution right now.");
    server.shutdown().unwrap();
}

#[test]
fn flags_decide_what_may_run() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let mut client = connect(&address);
    let lib = "#!lua name=lib
        local function set() return redis.call('SET', 'k', 1) end
        redis.register_function('plain', set)
        redis.register_function{function_name = 'greedy', callback = set, flags = {'allow-oom'}}
        redis.register_function{function_name = 'liar', callback = set, flags = {'no-writes'}}
        redis.register_function{function_name = 'reader', callback = function() return 1 end, flags = {'no-writes'}}
        redis.register_function{function_name = 'speaker', callback = function()
            return redis.call('PUBLISH', 'c', 'm') end, flags = {'no-writes'}}";
    load(&mut client, lib);
    let read_only = "ERR Write commands are not allowed from read-only scripts. script: ";
    let ro = "ERR Can not execute a script with write flag using *_ro command.";
    let cases: &[(&[&str], &str)] = &[
        (&["FCALL_RO", "plain", "0"], ro),
        (&["FCALL", "liar", "0"], read_only),
        (&["FCALL_RO", "liar", "0"], read_only),
        (&["FCALL", "speaker", "0"], read_only),
        (&["EVAL_RO", "#!lua\nreturn 1", "0"], ro),
        (&["EVAL_RO", "return redis.call('PUBLISH', 'c', 'm')", "0"], read_only),
        (&["EVAL", "#!lua flags=no-writes\nreturn redis.call('SET', 'k', 1)", "0"], read_only),
    ];
    for (request, words) in cases {
        let reply = client.command(request).unwrap();
        assert!(error(&reply).starts_with(words), "{request:?}: {reply:?}");
    }
    let sha = client.command(&["SCRIPT", "LOAD", "#!lua\nreturn 1"]).unwrap().text();
    assert_eq!(ask(&mut client, &format!("SCRIPT SHOW {sha}")).text(), "#!lua\nreturn 1");
    assert!(error(&ask(&mut client, "SCRIPT SHOW 0")).starts_with("NOSCRIPT"));
    ask(&mut client, "MULTI");
    ask(&mut client, "FCALL plain 0");
    let mut other = connect(&address);
    ask(&mut other, "CONFIG SET maxmemory 1");
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    while !matches!(ask(&mut other, "SET k 1"), Reply::Error(text) if text == oom) {}
    let late = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";
    assert_eq!(error(&ask(&mut client, "EXEC").items()[0]), late);
    for line in ["FCALL plain 0", "FCALL_RO plain 0", &format!("EVALSHA {sha} 0")] {
        assert_eq!(error(&ask(&mut client, line)), oom, "{line}");
    }
    assert_eq!(error(&load(&mut client, &code("other", "x", ""))), oom);
    assert_eq!(ask(&mut client, "FCALL greedy 0").text(), "OK");
    assert_eq!(ask(&mut client, "FCALL reader 0").integer(), Some(1));
    assert_eq!(ask(&mut client, "FUNCTION FLUSH").text(), "OK");
    server.shutdown().unwrap();
}

#[test]
fn libraries_survive_restarts_with_the_append_only_file_and_with_a_dump() {
    for aof in ["yes", "no"] {
        let dir = tempfile::tempdir().unwrap();
        let settings = [("appendonly", aof), ("save", "3600 1"), ("enable-debug-command", "local")];
        let (server, address) = start(&dir, &settings);
        let mut client = connect(&address);
        load(&mut client, &code("one", "f", "return 1"));
        load(&mut client, &code("two", "g", "return 2"));
        let dump = client.command(&["FUNCTION", "DUMP"]).unwrap();
        load(&mut client, &code("three", "h", "return 3"));
        if aof == "yes" {
            ask(&mut client, "BGREWRITEAOF");
            while ask(&mut client, "INFO persistence").text().contains("aof_rewrite_in_progress:1") {}
        }
        load(&mut client, &code("one", "f", "return 'new'"));
        ask(&mut client, "FUNCTION DELETE two");
        assert_eq!(ask(&mut client, "DEBUG RELOAD").text(), "OK");
        assert_eq!(libraries(&mut client), ["one", "three"]);
        drop(client);
        server.shutdown().unwrap();

        let (server, address) = start(&dir, &settings);
        let mut client = connect(&address);
        assert_eq!(libraries(&mut client), ["one", "three"], "appendonly {aof}");
        assert_eq!(ask(&mut client, "FCALL f 0").text(), "new");
        let Reply::Bulk(dump) = dump else { panic!("{dump:?}") };
        let restored = client.command(&[&b"FUNCTION"[..], b"RESTORE", &dump, b"FLUSH"]).unwrap();
        assert_eq!(restored.text(), "OK");
        drop(client);
        server.shutdown().unwrap();

        let (server, address) = start(&dir, &settings);
        let mut client = connect(&address);
        assert_eq!(libraries(&mut client), ["one", "two"], "appendonly {aof}");
        assert_eq!(ask(&mut client, "FCALL f 0").integer(), Some(1));
        server.shutdown().unwrap();
    }
}

/// A library's version and a key are changed together, over and over; dumps hold both or neither.
#[test]
fn a_library_belongs_to_the_point_in_time_of_a_dump() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("appendonly", "no"), ("save", "")];
    let (server, address) = start(&dir, &settings);
    let mut client = connect(&address);
    let change = |client: &mut RespClient, n: u64| {
        ask(client, "MULTI");
        load(client, &code("lib", "f", &format!("return {n}")));
        ask(client, &format!("SET n {n}"));
        assert_eq!(ask(client, "EXEC").items()[0].text(), "lib");
    };
    // Enough of other keys that a dump takes a while.
    ask(&mut client, "EVAL for\ti=1,100000\tdo\tredis.call('SET','k'..i,i)\tend 0");
    change(&mut client, 0);
    let copies = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = connect(&address);
            for n in 1.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                change(&mut client, n);
            }
        });
        for round in 0..5 {
            assert_eq!(ask(&mut client, "SAVE").text(), "OK");
            std::fs::copy(dir.path().join("dump.rdb"), copies.path().join(format!("{round}.rdb"))).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    server.shutdown().unwrap();
    for round in 0..5 {
        let name = format!("{round}.rdb");
        let (server, address) = start(&copies, &[("appendonly", "no"), ("save", ""), ("dbfilename", &name)]);
        let mut client = connect(&address);
        let version = ask(&mut client, "FCALL f 0").integer().unwrap();
        assert_eq!(ask(&mut client, "GET n").text(), version.to_string(), "{name}");
        server.shutdown().unwrap();
    }
}

#[test]
fn a_dump_whose_library_does_not_run_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut encoder = thali_rdb::Encoder::uncompressed(thali_rdb::Version::V10);
    let mut file = Vec::new();
    encoder.header(&mut file);
    encoder.function(&mut file, b"#!lua name=lib\nreturn 1");
    encoder.end(&mut file, None);
    std::fs::write(dir.path().join("dump.rdb"), file).unwrap();
    let config = harness::config(dir.path(), &[("appendonly", "no")]);
    let error = thali_server::Server::start(config).err().expect("it does not start").to_string();
    assert!(error.contains("No functions registered") && error.contains("at byte 9"), "{error}");
}

const LIBS: [(&str, &str, &str); 2] =
    [("one", "f", "return redis.call('INCR', keys[1])"), ("two", "g", "return {ok = 'two ' .. #args}")];

fn fill(client: &mut RespClient) {
    for (library, function, body) in LIBS {
        assert_eq!(load(client, &code(library, function, body)).text(), library);
    }
    let described = "#!lua name=three\nredis.register_function{function_name = 'h', callback = function() end, \
                     description = 'what it is for', flags = {'no-writes', 'allow-stale'}}";
    assert_eq!(load(client, described).text(), "three");
}

/// What FUNCTION LIST WITHCODE says, in an order of its own.
fn listed(client: &mut RespClient) -> Vec<String> {
    let reply = ask(client, "FUNCTION LIST WITHCODE");
    let mut all: Vec<_> = reply.items().iter().map(|library| format!("{library:?}")).collect();
    all.sort();
    all
}

fn redis_in(dir: &Path, more: &[&str]) -> thali_testkit::Running {
    start_redis(&[&["--dir", dir.to_str().unwrap()], more].concat()).unwrap()
}

#[test]
fn payloads_are_exchanged_with_redis_server() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let redis = start_redis(&[]).unwrap();
    let (mut here, mut there) = (connect(&address), connect(&redis.store));
    fill(&mut here);
    for compressed in ["yes", "no"] {
        for (from, to) in [(true, false), (false, true)] {
            let (from, to) = if from && !to { (&mut here, &mut there) } else { (&mut there, &mut here) };
            ask(from, &format!("CONFIG SET rdbcompression {compressed}"));
            let Reply::Bulk(payload) = ask(from, "FUNCTION DUMP") else { panic!("no payload") };
            ask(to, "FUNCTION FLUSH");
            let restored = to.command(&[&b"FUNCTION"[..], b"RESTORE", &payload]).unwrap();
            assert_eq!(restored.text(), "OK");
            assert_eq!(listed(from), listed(to));
            assert_eq!(ask(to, "FCALL g 0 a b").text(), "two 2");
        }
    }
    server.shutdown().unwrap();
}

#[test]
fn dumps_with_libraries_are_exchanged_with_redis_server() {
    let settings = [("appendonly", "no"), ("save", "3600 1")];
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &settings);
    let mut client = connect(&address);
    fill(&mut client);
    ask(&mut client, "SET k 7");
    let before = listed(&mut client);
    drop(client);
    server.shutdown().unwrap();
    let mut redis = redis_in(dir.path(), &["--save", "3600 1"]);
    let mut client = connect(&redis.store);
    assert_eq!(listed(&mut client), before);
    assert_eq!(ask(&mut client, "FCALL f 1 k").integer(), Some(8));
    load(&mut client, &code("four", "i", "return 4"));
    let before = listed(&mut client);
    assert_eq!(ask(&mut client, "SAVE").text(), "OK");
    redis.process.terminate(Duration::from_secs(10)).unwrap();
    let (server, address) = start(&dir, &settings);
    let mut client = connect(&address);
    assert_eq!(listed(&mut client), before);
    assert_eq!(ask(&mut client, "FCALL f 1 k").integer(), Some(9));
    assert_eq!(ask(&mut client, "FCALL i 0").integer(), Some(4));
    server.shutdown().unwrap();
}

#[test]
fn append_only_files_with_libraries_are_exchanged_with_redis_server() {
    let aof = ["--appendonly", "yes", "--save", ""];
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = connect(&address);
    load(&mut client, &code("gone", "x", "return 1"));
    ask(&mut client, "FUNCTION FLUSH");
    fill(&mut client);
    ask(&mut client, "FCALL f 1 k");
    let before = listed(&mut client);
    drop(client);
    server.shutdown().unwrap();
    for rewritten in [false, true] {
        let mut redis = redis_in(dir.path(), &aof);
        let mut client = connect(&redis.store);
        assert_eq!(listed(&mut client), before);
        if rewritten {
            ask(&mut client, "BGREWRITEAOF");
            while ask(&mut client, "INFO persistence").text().contains("aof_rewrite_in_progress:1") {}
        }
        ask(&mut client, "FCALL f 1 k");
        load(&mut client, &code("four", "i", "return 4"));
        ask(&mut client, "FUNCTION DELETE four");
        redis.process.terminate(Duration::from_secs(10)).unwrap();
        let (server, address) = start(&dir, &[("appendonly", "yes")]);
        let mut client = connect(&address);
        assert_eq!(listed(&mut client), before);
        ask(&mut client, "FCALL f 1 k");
        if rewritten {
            assert_eq!(ask(&mut client, "GET k").text(), "5");
        }
        drop(client);
        server.shutdown().unwrap();
    }
}
