//! Claims about several loops at once, over real sockets: connections are dealt out in turn, so two
//! in a row live on different loops.

use std::time::Duration;

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, start, wait_for_blocked};

#[test]
fn scripts_with_undeclared_keys_on_two_loops_lose_no_step() {
    const RUNS: i64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    // Both move one unit between accounts in different shards, in opposite orders.
    let script = "local from, to = 'a' .. ARGV[1], 'a' .. ARGV[2]; redis.call('GET', from); \
                  redis.call('DECR', from); redis.call('INCR', to); return redis.call('INCR', 'runs')";
    std::thread::scope(|scope| {
        for thread in 0..4i64 {
            let address = &address;
            scope.spawn(move || {
                let mut client = RespClient::connect(address).unwrap();
                for run in 0..RUNS {
                    let (from, to) = ((run + thread) % 7, (run * 3 + thread * 2) % 7);
                    let reply =
                        client.command(&["EVAL", script, "0", &from.to_string(), &to.to_string()]).unwrap();
                    assert!(reply.integer().is_some(), "{reply:?}");
                }
            });
        }
    });
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "GET runs").text(), (4 * RUNS).to_string());
    let sum: i64 = ask(&mut client, "MGET a0 a1 a2 a3 a4 a5 a6")
        .items()
        .iter()
        .map(|value| value.text().parse::<i64>().unwrap_or(0))
        .sum();
    assert_eq!(sum, 0);
    server.shutdown().unwrap();
}

#[test]
fn a_busy_script_is_killed_from_another_loop_and_others_learn_that_it_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no"), ("busy-reply-threshold", "50")]);
    let mut busy = RespClient::connect(&address).unwrap();
    let mut other = RespClient::connect(&address).unwrap();
    ask(&mut other, "PING");
    busy.send(&["EVAL", "while true do redis.call('GET', KEYS[1]) end", "1", "k"]).unwrap();
    while ask(&mut other, "SCRIPT KILL") != Reply::Status("OK".into()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(busy.read().unwrap(), Reply::Error(text) if text.contains("SCRIPT KILL")));
    assert_eq!(ask(&mut other, "GET k"), Reply::Nil);
    busy.send(&["EVAL", "while true do redis.call('GET', KEYS[1]) end", "1", "k"]).unwrap();
    while !matches!(ask(&mut other, "GET k"), Reply::Error(text) if text.starts_with("BUSY")) {}
    // A connection that comes now finds a loop that is free.
    assert_eq!(ask(&mut RespClient::connect(&address).unwrap(), "PING"), Reply::Status("PONG".into()));
    server.shutdown().unwrap();
}

#[test]
fn sort_sees_the_keys_that_it_does_not_name_at_one_moment() {
    const ROUNDS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let names: Vec<String> = (0..8).map(|at| at.to_string()).collect();
    let all_set = |value: usize| {
        let pairs = names.iter().flat_map(|name| [format!("w_{name}"), value.to_string()]);
        std::iter::once("MSET".to_owned()).chain(pairs).collect::<Vec<_>>()
    };
    let mut client = RespClient::connect(&address).unwrap();
    ask(&mut client, &format!("RPUSH l {}", names.join(" ")));
    client.command(&all_set(0)).unwrap();
    let requests: [&[&str]; 3] = [
        &["SORT", "l", "BY", "w_*", "GET", "w_*"],
        &["EVAL", "return redis.call('SORT', 'l', 'BY', 'nosort', 'GET', 'w_*')", "0"],
        &["SORT_RO", "l", "BY", "nosort", "GET", "w_*"],
    ];
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (address, all_set) = (&address, &all_set);
            scope.spawn(move || {
                let mut client = RespClient::connect(address).unwrap();
                (0..ROUNDS).for_each(|round| drop(client.command(&all_set(round * 2 + writer)).unwrap()));
            });
        }
        for request in requests {
            let address = &address;
            scope.spawn(move || {
                let mut client = RespClient::connect(address).unwrap();
                for _ in 0..ROUNDS {
                    let reply = client.command(request).unwrap();
                    let first = reply.items()[0].text();
                    assert!(
                        reply.items().len() == 8 && reply.items().iter().all(|item| item.text() == first),
                        "{request:?}: {reply:?}"
                    );
                }
            });
        }
    });
    // The same within a transaction.
    for line in ["MULTI", "SET w_0 x", "SORT l LIMIT 0 1 GET w_*"] {
        ask(&mut client, line);
    }
    assert_eq!(ask(&mut client, "EXEC").items()[1].items()[0].text(), "x");
    server.shutdown().unwrap();
}

#[test]
fn waiters_of_two_loops_are_served_in_the_order_of_their_coming() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let mut client = RespClient::connect(&address).unwrap();
    let mut waiters: Vec<RespClient> = Vec::new();
    for waiting in 1..=6 {
        let mut waiter = RespClient::connect(&address).unwrap();
        waiter.send(&["BLPOP", "q1", "q2", "0"]).unwrap();
        wait_for_blocked(&mut client, waiting);
        waiters.push(waiter);
    }
    for at in 0..6 {
        ask(&mut client, &format!("RPUSH q{} {at}", at % 2 + 1));
    }
    for (at, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(waiter.read().unwrap().items()[1].text(), at.to_string());
    }
    server.shutdown().unwrap();
}

#[test]
fn a_restart_keeps_data_and_times_to_live() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    ask(&mut client, "SET k v PXAT 32503680000000");
    ask(&mut client, "RPUSH l 1 2 3");
    ask(&mut client, "EVAL redis.call('INCR','n')redis.call('INCR','n') 0");
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let mut client = RespClient::connect(&address).unwrap();
    assert_eq!(ask(&mut client, "PEXPIRETIME k").integer(), Some(32_503_680_000_000));
    assert_eq!(ask(&mut client, "LLEN l").integer(), Some(3));
    assert_eq!(ask(&mut client, "GET n").text(), "2");
    drop(client);
    server.shutdown().unwrap();
}
