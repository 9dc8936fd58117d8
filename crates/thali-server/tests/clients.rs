//! Claims about the CLIENT family over several loops: pauses, kills, lists, limits, ports, protocol types.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start, wait_for_blocked};

const NO_FILE: (&str, &str) = ("appendonly", "no");

fn refused(reply: &Reply, text: &str) {
    assert!(matches!(reply, Reply::Error(error) if error.starts_with(text)), "{reply:?}");
}

/// A field of CLIENT LIST's line of the client with this name.
fn field(client: &mut RespClient, name: &str, field: &str) -> Option<String> {
    let list = ask(client, "CLIENT LIST").text();
    let line = list.lines().find(|line| line.contains(&format!(" name={name} ")))?;
    let value = line.split(' ').find_map(|pair| pair.strip_prefix(&format!("{field}=")));
    Some(value.unwrap_or_else(|| panic!("no {field} in {line}")).to_owned())
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_pause_of_writes_holds_back_what_writes_and_loses_no_reply() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    let mut queued = connect(&address);
    ask(&mut queued, "MULTI");
    ask(&mut queued, "SET in_transaction 1");
    assert_eq!(ask(&mut client, "CLIENT PAUSE 100000 WRITE").text(), "OK");
    let mut waiting: Vec<RespClient> = (0..5).map(|_| connect(&address)).collect();
    waiting[0].send_raw(b"SET a 1\r\nGET a\r\nnonsense\r\n").unwrap();
    waiting[1].send(&["EVAL", "return redis.call('INCR', 'n')", "0"]).unwrap();
    waiting[2].send(&["PUBLISH", "c", "m"]).unwrap();
    waiting[3].send(&["EVAL", "#!lua\nreturn 1", "0"]).unwrap();
    // Cut in the middle: the rest comes while it waits.
    waiting[4].send_raw(b"*2\r\n$4\r\nINCR\r\n$1\r\nm\r\n*2\r\n$4\r\nINCR\r\n$1").unwrap();
    queued.send(&["EXEC"]).unwrap();
    wait_for_blocked(&mut client, 6);
    waiting[4].send_raw(b"\r\nm\r\n").unwrap();
    assert_eq!(ask(&mut client, "GET a"), Reply::Nil);
    assert_eq!(ask(&mut client, "MGET n m in_transaction").items(), [Reply::Nil, Reply::Nil, Reply::Nil]);
    refused(&ask(&mut client, "SET a"), "ERR wrong number of arguments");
    // What says that it does not write goes on, as do transactions that only read.
    let reads = ["#!lua flags=no-writes\nreturn 2", "return 2"];
    assert_eq!(client.command(&["EVAL", reads[0], "0"]).unwrap().integer(), Some(2));
    assert_eq!(client.command(&["EVAL_RO", reads[1], "0"]).unwrap().integer(), Some(2));
    for line in ["MULTI", "GET a", "PING"] {
        ask(&mut client, line);
    }
    assert_eq!(ask(&mut client, "EXEC").items().len(), 2);
    assert_eq!(ask(&mut client, "CLIENT UNPAUSE").text(), "OK");
    assert_eq!(waiting[0].read().unwrap().text(), "OK");
    assert_eq!(waiting[0].read().unwrap().text(), "1");
    refused(&waiting[0].read().unwrap(), "ERR unknown command");
    for (at, expected) in [(1, 1), (2, 0), (3, 1), (4, 1), (4, 2)] {
        assert_eq!(waiting[at].read().unwrap().integer(), Some(expected), "{at}");
    }
    assert_eq!(queued.read().unwrap().items().len(), 1);
    wait_for_blocked(&mut client, 0);
    server.shutdown().unwrap();
}

#[test]
fn the_longer_and_stricter_pause_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut other) = (connect(&address), connect(&address));
    ask(&mut other, "PING");
    let begun = Instant::now();
    client.send_raw(b"MULTI\r\nCLIENT PAUSE 300 ALL\r\nCLIENT PAUSE 10 WRITE\r\nEXEC\r\n").unwrap();
    (0..3).for_each(|_| drop(client.read().unwrap()));
    assert_eq!(client.read().unwrap().items().len(), 2);
    // It begins behind the transaction, and all wait for its end.
    assert_eq!(ask(&mut other, "PING").text(), "PONG");
    assert!(begun.elapsed() >= Duration::from_millis(295), "{:?}", begun.elapsed());
    for (line, error) in [
        ("CLIENT PAUSE x", "ERR timeout is not an integer or out of range"),
        ("CLIENT PAUSE -1", "ERR timeout is negative"),
        ("CLIENT PAUSE 9223372036854775807", "ERR timeout is out of range"),
        ("CLIENT PAUSE 1 SOME", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
    ] {
        refused(&ask(&mut client, line), error);
    }
    server.shutdown().unwrap();
}

#[test]
fn nothing_expires_in_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut other) = (connect(&address), connect(&address));
    for line in ["MULTI", "SET {t}a 1 PX 10", "SET {t}b 1 PX 10", "CLIENT PAUSE 100000 WRITE", "EXEC"] {
        ask(&mut client, line);
    }
    wait_until(|| ask(&mut other, "MGET {t}a {t}b").items() == [Reply::Nil, Reply::Nil]);
    // Longer than active expiry takes to come by.
    std::thread::sleep(Duration::from_millis(250));
    assert!(ask(&mut other, "INFO stats").text().contains("expired_keys:0\r\n"));
    assert_eq!(ask(&mut other, "DBSIZE").integer(), Some(2));
    ask(&mut client, "CLIENT UNPAUSE");
    wait_until(|| ask(&mut other, "INFO stats").text().contains("expired_keys:2\r\n"));
    server.shutdown().unwrap();
}

/// Seeded by its thread: some write, one pauses and looks whether anything moves.
#[test]
fn after_a_pause_is_acknowledged_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops", "3")]);
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..4usize {
            let (address, is_over, written) = (&address, &is_over, &written);
            scope.spawn(move || {
                let mut client = connect(address);
                // Declared and undeclared keys, alone and with others.
                let script = "for i = 1, 50 do redis.call('GET', 'g' .. i) end redis.call('GET', ARGV[1]) \
                              return redis.call('INCR', ARGV[1])";
                while !is_over.load(SeqCst) {
                    let reply = match writer {
                        0 => ask(&mut client, "INCR w0"),
                        1 => client.command(&["EVAL", script, "0", "w1"]).unwrap(),
                        2 => {
                            ask(&mut client, "MULTI");
                            ask(&mut client, "INCR w2");
                            ask(&mut client, "INCR w3");
                            ask(&mut client, "EXEC")
                        }
                        _ => client.command(&["EVAL", script, "1", "w4", "w4"]).unwrap(),
                    };
                    assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
                    written.fetch_add(1, SeqCst);
                }
            });
        }
        let mut client = connect(&address);
        let sums = "MGET w0 w1 w2 w3 w4";
        for round in 0..60 {
            let before = written.load(SeqCst);
            wait_until(|| written.load(SeqCst) > before + 20);
            assert_eq!(ask(&mut client, "CLIENT PAUSE 60000 WRITE").text(), "OK");
            let (first, second) = (ask(&mut client, sums), ask(&mut client, sums));
            std::thread::sleep(Duration::from_millis(3));
            let third = ask(&mut client, sums);
            assert!(first == second && second == third, "round {round}: {first:?} {third:?}");
            ask(&mut client, "CLIENT UNPAUSE");
        }
        is_over.store(true, SeqCst);
    });
    server.shutdown().unwrap();
}

#[test]
fn who_leaves_in_a_pause_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut leaving, mut killed) = (connect(&address), connect(&address), connect(&address));
    ask(&mut leaving, "PING");
    let id = ask(&mut killed, "CLIENT ID").integer().unwrap();
    ask(&mut client, "CLIENT PAUSE 100000 WRITE");
    leaving.send(&["SET", "a", "1"]).unwrap();
    killed.send(&["SET", "b", "1"]).unwrap();
    wait_for_blocked(&mut client, 2);
    assert_eq!(ask(&mut client, &format!("CLIENT UNBLOCK {id}")).integer(), Some(0));
    assert_eq!(ask(&mut client, &format!("CLIENT KILL ID {id}")).integer(), Some(1));
    drop(leaving);
    wait_for_blocked(&mut client, 0);
    ask(&mut client, "CLIENT UNPAUSE");
    assert!(killed.read().is_err());
    assert_eq!(ask(&mut client, "MGET a b").items(), [Reply::Nil, Reply::Nil]);
    server.shutdown().unwrap();
}

#[test]
fn kills_choose_by_every_filter_and_are_done_when_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    for (line, error) in [
        ("CLIENT KILL", "ERR wrong number of arguments for 'client|kill' command"),
        ("CLIENT KILL ID 10 wrong", "ERR syntax error"),
        ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
        ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
        ("CLIENT KILL TYPE wrong", "ERR Unknown client type 'wrong'"),
        ("CLIENT KILL USER nobody", "ERR No such user 'nobody'"),
        ("CLIENT KILL SKIPME maybe", "ERR syntax error"),
        ("CLIENT KILL MAXAGE x", "ERR maxage is not an integer or out of range"),
        ("CLIENT KILL MAXAGE -1", "ERR maxage should be greater than 0"),
        ("CLIENT KILL 000.123.321.567:0", "ERR No such client"),
        ("CLIENT LIST TYPE wrong", "ERR Unknown client type 'wrong'"),
        ("CLIENT LIST ID x", "ERR Invalid client ID"),
        ("CLIENT LIST ID", "ERR syntax error"),
    ] {
        refused(&ask(&mut client, line), error);
    }
    let connected = |client: &mut RespClient| ask(client, "CLIENT LIST").text().lines().count();
    let victims = || -> Vec<RespClient> {
        (0..3)
            .map(|i| {
                let mut victim = connect(&address);
                ask(&mut victim, &format!("CLIENT SETNAME v{i}"));
                victim
            })
            .collect()
    };
    let three = victims();
    let peer = field(&mut client, "v0", "addr").unwrap();
    assert_eq!(ask(&mut client, &format!("CLIENT KILL {peer}")).text(), "OK");
    let peer = field(&mut client, "v1", "addr").unwrap();
    assert_eq!(ask(&mut client, &format!("CLIENT KILL ADDR {peer} TYPE pubsub")).integer(), Some(0));
    assert_eq!(
        ask(&mut client, &format!("CLIENT KILL ADDR {peer} TYPE normal USER default")).integer(),
        Some(1)
    );
    assert_eq!(ask(&mut client, "CLIENT KILL MAXAGE 1000").integer(), Some(0));
    assert_eq!(ask(&mut client, &format!("CLIENT KILL LADDR {address}")).integer(), Some(1));
    assert_eq!(connected(&mut client), 1);
    three.into_iter().for_each(|mut victim| assert!(victim.read().is_err()));
    let mut three = victims();
    ask(&mut three[2], "SUBSCRIBE c");
    assert_eq!(ask(&mut client, "CLIENT KILL TYPE pubsub").integer(), Some(1));
    assert_eq!(ask(&mut client, "CLIENT KILL SKIPME yes").integer(), Some(2));
    assert_eq!(connected(&mut client), 1);
    // Who kills itself has its reply, and nothing behind it runs.
    client.send_raw(b"CLIENT KILL SKIPME no\r\nSET a 1\r\n").unwrap();
    assert_eq!(client.read().unwrap().integer(), Some(1));
    assert!(client.read().is_err());
    assert_eq!(ask(&mut connect(&address), "EXISTS a").integer(), Some(0));
    server.shutdown().unwrap();
}

#[test]
fn lists_show_true_figures_of_clients_on_other_loops() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut other) = (connect(&address), connect(&address));
    ask(&mut client, "SELECT 3");
    ask(&mut other, "CLIENT SETNAME other");
    ask(&mut other, "CLIENT SETINFO lib-ver 1.2");
    refused(&ask(&mut other, "CLIENT SETINFO LIB-Name a\nb"), "ERR LIB-Name cannot contain spaces, newlines");
    refused(&ask(&mut other, "CLIENT SETINFO lib x"), "ERR Unrecognized option 'lib'");
    ask(&mut other, "SELECT 5");
    ask(&mut other, "WATCH a b");
    ask(&mut client, "SELECT 5");
    ask(&mut client, "SET a 1");
    ask(&mut other, "MULTI");
    ask(&mut other, "SET a 2");
    let mut is = |name: &str, expected: &str| {
        assert_eq!(field(&mut client, "other", name).as_deref(), Some(expected), "{name}");
    };
    is("db", "5");
    is("watch", "2");
    is("multi", "1");
    is("flags", "xd");
    is("resp", "2");
    is("lib-ver", "1.2");
    is("cmd", "set");
    is("user", "default");
    is("redir", "-1");
    ask(&mut other, "DISCARD");
    ask(&mut other, "HELLO 3");
    ask(&mut other, "SUBSCRIBE x");
    ask(&mut other, "SUBSCRIBE y");
    ask(&mut other, "PSUBSCRIBE p*");
    ask(&mut other, "CLIENT NO-EVICT ON");
    ask(&mut other, "CLIENT NO-TOUCH ON");
    ask(&mut other, "CLIENT TRACKING ON BCAST");
    let mut is = |name: &str, expected: &str| {
        assert_eq!(field(&mut client, "other", name).as_deref(), Some(expected), "{name}");
    };
    is("flags", "PtBeT");
    is("sub", "2");
    is("psub", "1");
    is("multi", "-1");
    is("redir", "0");
    is("cmd", "client|tracking");
    // Half an argument waits in its buffer, behind what has come of the request.
    other.send_raw(b"*2\r\n$4\r\nECHO\r\n$100000\r\n").unwrap();
    other.send_raw(&[b'x'; 50_000]).unwrap();
    wait_until(|| field(&mut client, "other", "qbuf").is_some_and(|len| len == "50000"));
    let memory: u64 = field(&mut client, "other", "tot-mem").unwrap().parse().unwrap();
    assert!((50_023..60_000).contains(&memory), "{memory}");
    other.send_raw(&[b'x'; 50_000]).unwrap();
    other.send_raw(b"\r\n").unwrap();
    assert_eq!(other.read().unwrap().text().len(), 100_000);
    // As RESET leaves it: the library's name stays.
    ask(&mut other, "RESET");
    let info = ask(&mut other, "CLIENT INFO").text();
    for part in [" name= ", " flags=N ", " db=0 ", " resp=2 ", " lib-ver=1.2 ", " argv-mem=10 ", " qbuf=0 "] {
        assert!(info.contains(part), "{part} in {info}");
    }
    server.shutdown().unwrap();
}

#[test]
fn a_client_counts_its_bytes_and_commands() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut other) = (connect(&address), connect(&address));
    ask(&mut other, "CLIENT SETNAME other");
    let mut figures = || {
        ["tot-net-in", "tot-net-out", "tot-cmds"]
            .map(|name| field(&mut client, "other", name).unwrap().parse::<u64>().unwrap())
    };
    // What was sent is counted once it has left: its reader may be first.
    wait_until(|| figures()[1] >= 5);
    let [input, output, commands] = figures();
    other.send(&["BLPOP", "mylist", "0"]).unwrap();
    let mut now = figures();
    wait_until(|| {
        now = figures();
        now[0] == input + 34
    });
    assert_eq!(now, [input + 34, output, commands]);
    ask(&mut connect(&address), "LPUSH mylist a");
    other.read().unwrap();
    wait_until(|| figures() == [input + 34, output + 23, commands + 1]);
    other.command(&["EVAL", "redis.call('PING')", "0"]).unwrap();
    wait_until(|| figures()[2] == commands + 3);
    server.shutdown().unwrap();
}

#[test]
fn the_largest_clients_go_when_all_together_take_too_much() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    ask(&mut client, "CLIENT SETNAME control");
    ask(&mut client, "CLIENT NO-EVICT ON");
    let sizes = [100 << 10, 500 << 10, 2 << 20];
    let mut held = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        for copy in 0..2 {
            let mut one = connect(&address);
            ask(&mut one, &format!("CLIENT SETNAME c{i}{copy}"));
            one.send_raw(format!("*2\r\n${size}\r\n").as_bytes()).unwrap();
            one.send_raw(&vec![b'x'; *size]).unwrap();
            wait_until(|| {
                let qbuf = field(&mut client, &format!("c{i}{copy}"), "qbuf");
                qbuf.is_some_and(|len| len.parse::<usize>().unwrap() >= *size)
            });
            held.push(one);
        }
    }
    let mut left = |limit: usize| {
        assert_eq!(ask(&mut client, &format!("CONFIG SET maxmemory-clients {limit}")).text(), "OK");
        let list = ask(&mut client, "CLIENT LIST").text();
        list.lines().filter(|line| line.contains(" name=c")).count() - 1
    };
    assert_eq!(left(6 << 20), 6);
    assert_eq!(left(1_400 << 10), 4);
    assert_eq!(left(800 << 10), 3);
    // No less than 128 KiB.
    assert_eq!(left(1), 1);
    // It is protected, and too much alone.
    let big = vec![b'y'; 1 << 20];
    assert_eq!(client.command(&[b"SET", &b"k"[..], &big]).unwrap().text(), "OK");
    assert!(ask(&mut client, "INFO stats").text().contains("evicted_clients:6\r\n"));
    // A request that is too much never runs.
    let mut greedy = connect(&address);
    let _ = greedy.send(&[b"SET", &b"greedy"[..], &big]);
    assert!(greedy.read().is_err());
    assert_eq!(ask(&mut client, "EXISTS greedy").integer(), Some(0));
    // Subscriptions count, too.
    let mut listener = connect(&address);
    let mut names = 0;
    while listener.command(&["SUBSCRIBE", &format!("channel:{names}")]).is_ok() {
        names += 1;
        assert!(names < 10_000);
    }
    drop(held);
    server.shutdown().unwrap();
}

#[test]
fn a_reply_beyond_the_hard_limit_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut other) = (connect(&address), connect(&address));
    ask(&mut client, "SETRANGE k 300000 v");
    client.command(&["CONFIG", "SET", "client-output-buffer-limit", "normal 200000 0 0"]).unwrap();
    wait_until(|| {
        let reply = other.command(&["GET", "k"]);
        let is_closed = reply.is_err();
        if is_closed {
            other = connect(&address);
        }
        is_closed
    });
    let info = ask(&mut client, "INFO stats").text();
    assert!(info.contains("client_output_buffer_limit_disconnections:"), "{info}");
    assert!(!info.contains("client_output_buffer_limit_disconnections:0"), "{info}");
    server.shutdown().unwrap();
}

#[test]
fn ports_and_addresses_change_while_clients_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy_port = busy.local_addr().unwrap().port();
    refused(
        &ask(&mut client, &format!("CONFIG SET maxmemory 10000001 port {busy_port}")),
        "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port",
    );
    refused(
        &ask(&mut client, "CONFIG SET bind 999.999.999.999"),
        "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses",
    );
    // Nothing of a refused change stays, and the old port goes on.
    assert_eq!(ask(&mut client, "CONFIG GET maxmemory").items()[1].text(), "0");
    (0..4).for_each(|_| assert_eq!(ask(&mut connect(&address), "PING").text(), "PONG"));
    assert_eq!(ask(&mut client, &format!("CONFIG SET port {port}")).text(), "OK");
    let moved = format!("127.0.0.1:{port}");
    (0..4).for_each(|_| assert_eq!(ask(&mut connect(&moved), "PING").text(), "PONG"));
    assert!(RespClient::connect(&address).is_err());
    assert!(ask(&mut client, "INFO server").text().contains(&format!("tcp_port:{port}\r\n")));
    // Addresses that overlap, and back; who is connected stays.
    client.command(&["CONFIG", "SET", "bind", "*"]).unwrap();
    assert_eq!(ask(&mut connect(&format!("127.0.0.2:{port}")), "PING").text(), "PONG");
    client.command(&["CONFIG", "SET", "bind", "127.0.0.1"]).unwrap();
    assert!(RespClient::connect(&format!("127.0.0.2:{port}")).is_err());
    client.command(&["CONFIG", "SET", "bind", ""]).unwrap();
    assert!(RespClient::connect(&moved).is_err());
    client.command(&["CONFIG", "SET", "bind", "127.0.0.1"]).unwrap();
    assert_eq!(ask(&mut connect(&moved), "PING").text(), "PONG");
    refused(
        &ask(&mut client, "CONFIG SET unixsocket /tmp/x"),
        "ERR CONFIG SET failed (possibly related to argument 'unixsocket') - can't set immutable config",
    );
    server.shutdown().unwrap();
}

#[test]
fn each_type_of_the_protocol_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("enable-debug-command", "yes")]);
    let mut client = connect(&address);
    let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    let numbers = || (0..3).map(Reply::Integer).collect::<Vec<_>>();
    let big = "1234567999999999999999999999999999999";
    for (kind, resp2, resp3) in [
        ("string", bulk("Hello World"), bulk("Hello World")),
        ("integer", Reply::Integer(12345), Reply::Integer(12345)),
        ("double", bulk("3.141"), Reply::Double("3.141".into())),
        ("bignum", bulk(big), Reply::BigNumber(big.into())),
        ("null", Reply::Nil, Reply::Nil),
        ("array", Reply::Array(numbers()), Reply::Array(numbers())),
        ("set", Reply::Array(numbers()), Reply::Set(numbers())),
        (
            "map",
            Reply::Array([0, 0, 1, 1, 2, 0].map(Reply::Integer).to_vec()),
            Reply::Map((0..3).map(|n| (Reply::Integer(n), Reply::Boolean(n == 1))).collect()),
        ),
        ("true", Reply::Integer(1), Reply::Boolean(true)),
        ("false", Reply::Integer(0), Reply::Boolean(false)),
        ("verbatim", bulk("This is a verbatim\nstring"), bulk("txt:This is a verbatim\nstring")),
        (
            "attrib",
            bulk("Some real reply following the attribute"),
            Reply::Attributed(
                vec![(bulk("key-popularity"), Reply::Array(vec![bulk("key:123"), Reply::Integer(90)]))],
                Box::new(bulk("Some real reply following the attribute")),
            ),
        ),
    ] {
        for (hello, expected) in [("HELLO 2", resp2), ("HELLO 3", resp3)] {
            ask(&mut client, hello);
            assert_eq!(ask(&mut client, &format!("DEBUG PROTOCOL {kind}")), expected, "{hello} {kind}");
        }
    }
    let push = Reply::Push(vec![bulk("server-cpu-usage"), Reply::Integer(42)]);
    assert_eq!(ask(&mut client, "DEBUG PROTOCOL push"), push);
    assert_eq!(client.read().unwrap(), bulk("Some real reply following the push reply"));
    ask(&mut client, "HELLO 2");
    refused(&ask(&mut client, "DEBUG PROTOCOL push"), "ERR RESP2 is not supported by this command");
    refused(&ask(&mut client, "DEBUG PROTOCOL x"), "ERR Wrong protocol type name.");
    server.shutdown().unwrap();
}

/// Redis makes no map of them in RESP3.
#[test]
fn counts_of_subscribers_are_flat_in_both_protocols() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut subscriber = connect(&address);
    ask(&mut subscriber, "SUBSCRIBE a");
    ask(&mut subscriber, "SSUBSCRIBE b");
    let mut client = connect(&address);
    let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    for hello in ["HELLO 2", "HELLO 3"] {
        ask(&mut client, hello);
        for (subcommand, subscribed) in [("NUMSUB", "a"), ("SHARDNUMSUB", "b")] {
            assert_eq!(
                ask(&mut client, &format!("PUBSUB {subcommand} {subscribed} none")),
                Reply::Array(vec![bulk(subscribed), Reply::Integer(1), bulk("none"), Reply::Integer(0)]),
                "{hello} {subcommand}",
            );
        }
        assert_eq!(ask(&mut client, "PUBSUB NUMSUB"), Reply::Array(vec![]), "{hello}");
    }
    server.shutdown().unwrap();
}

#[test]
fn who_copies_data_in_sees_what_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut source) = (connect(&address), connect(&address));
    refused(&ask(&mut source, "CLIENT IMPORT-SOURCE ON"), "ERR Server is not in import mode");
    ask(&mut client, "CONFIG SET import-mode yes");
    wait_until(|| ask(&mut source, "CLIENT IMPORT-SOURCE ON").text() == "OK");
    ask(&mut source, "SET k v PX 1");
    wait_until(|| ask(&mut client, "GET k") == Reply::Nil);
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(ask(&mut source, "APPEND k w").integer(), Some(2));
    assert_eq!(ask(&mut source, "GET k").text(), "vw");
    ask(&mut client, "CONFIG SET import-mode no");
    wait_until(|| ask(&mut source, "GET k") == Reply::Nil);
    server.shutdown().unwrap();
}
