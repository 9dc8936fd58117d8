//! Claims about clients on different loops that do things at the same moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use thali_testkit::Reply;

mod harness;

use harness::{ask, connect, start, wait_for_blocked};

const NO_FILE: (&str, &str) = ("appendonly", "no");

#[test]
fn a_watched_counter_loses_no_increment() {
    const CLIENTS: usize = 4;
    const RUNS: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = connect(&address);
                let mut done = 0;
                while done < RUNS {
                    ask(&mut client, "WATCH n");
                    let n: u64 = ask(&mut client, "GET n").text().parse().unwrap_or(0);
                    ask(&mut client, "MULTI");
                    // The second key lives in another shard.
                    ask(&mut client, &format!("SET n {}", n + 1));
                    ask(&mut client, "INCR runs");
                    done += usize::from(ask(&mut client, "EXEC") != Reply::Nil);
                }
            });
        }
    });
    let mut client = connect(&address);
    let total = (CLIENTS * RUNS).to_string();
    assert_eq!(ask(&mut client, "GET n").text(), total);
    assert_eq!(ask(&mut client, "GET runs").text(), total);
    server.shutdown().unwrap();
}

#[test]
fn elements_pass_a_chain_of_blmoves_in_order() {
    const LINKS: usize = 5;
    const ELEMENTS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    std::thread::scope(|scope| {
        for link in 0..LINKS {
            let address = &address;
            scope.spawn(move || {
                let mut client = connect(address);
                for element in 0..ELEMENTS {
                    let moved = ask(&mut client, &format!("BLMOVE l{link} l{} RIGHT LEFT 0", link + 1));
                    assert_eq!(moved.text(), element.to_string());
                }
            });
        }
        let mut client = connect(&address);
        wait_for_blocked(&mut client, LINKS);
        for element in 0..ELEMENTS {
            ask(&mut client, &format!("LPUSH l0 {element}"));
        }
        for element in 0..ELEMENTS {
            let popped = ask(&mut client, &format!("BRPOP l{LINKS} 0"));
            assert_eq!(popped.items()[1].text(), element.to_string());
        }
    });
    server.shutdown().unwrap();
}

#[test]
fn each_subscriber_hears_each_publisher_in_order() {
    const MESSAGES: usize = 400;
    const PUBLISHERS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut subscribers: Vec<_> = (0..4).map(|_| connect(&address)).collect();
    for subscriber in &mut subscribers {
        ask(subscriber, "SUBSCRIBE news");
    }
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let address = &address;
            scope.spawn(move || {
                let mut client = connect(address);
                for message in 0..MESSAGES {
                    let heard = ask(&mut client, &format!("PUBLISH news {publisher}:{message}"));
                    assert_eq!(heard.integer(), Some(4));
                }
            });
        }
    });
    for subscriber in &mut subscribers {
        let mut next: HashMap<String, usize> = HashMap::new();
        for _ in 0..MESSAGES * PUBLISHERS {
            let text = subscriber.read().unwrap().items()[2].text();
            let (publisher, message) = text.split_once(':').unwrap();
            let expected = next.entry(publisher.to_owned()).or_default();
            assert_eq!(message, expected.to_string(), "of publisher {publisher}");
            *expected += 1;
        }
    }
    server.shutdown().unwrap();
}

#[test]
fn who_leaves_a_channel_has_heard_what_was_published_before() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    // On different loops.
    let (mut subscriber, mut publisher) = (connect(&address), connect(&address));
    for message in 0..500 {
        ask(&mut subscriber, "SUBSCRIBE news");
        assert_eq!(ask(&mut publisher, &format!("PUBLISH news {message}")).integer(), Some(1));
        let first = ask(&mut subscriber, "UNSUBSCRIBE news");
        assert_eq!(first.items()[2].text(), message.to_string(), "it left without the message");
        assert_eq!(subscriber.read().unwrap().items()[0].text(), "unsubscribe");
    }
    server.shutdown().unwrap();
}

#[test]
fn transfers_by_scripts_and_transactions_keep_the_sum_at_every_moment() {
    const ACCOUNTS: usize = 8;
    const RUNS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut setup = connect(&address);
    (0..ACCOUNTS).for_each(|account| drop(ask(&mut setup, &format!("SET a{account} 100"))));
    // The keys are not declared, and a metatable's function calls the store: the run starts over from there.
    let script = "local account = setmetatable({}, {__index = function(_, n) return redis.call('GET', 'a' .. n) end}) \
                  local from, to = account[ARGV[1]], account[ARGV[2]] \
                  redis.call('DECR', 'a' .. ARGV[1]) redis.call('INCR', 'a' .. ARGV[2]) return from + to";
    let is_over = AtomicBool::new(false);
    let all = (0..ACCOUNTS).map(|account| format!("a{account}")).collect::<Vec<_>>().join(" ");
    std::thread::scope(|scope| {
        let movers: Vec<_> = (0..4usize)
            .map(|mover| {
                let address = &address;
                scope.spawn(move || {
                    let mut client = connect(address);
                    for run in 0..RUNS {
                        let from = ((run + mover) % ACCOUNTS).to_string();
                        let to = ((run * 3 + mover * 5 + 1) % ACCOUNTS).to_string();
                        if mover % 2 == 0 {
                            let reply = client.command(&["EVAL", script, "0", &from, &to]).unwrap();
                            assert!(reply.integer().is_some(), "{reply:?}");
                        } else {
                            ask(&mut client, "MULTI");
                            ask(&mut client, &format!("DECR a{from}"));
                            ask(&mut client, &format!("INCR a{to}"));
                            assert_eq!(ask(&mut client, "EXEC").items().len(), 2);
                        }
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut client = connect(&address);
            let mut looks = 0;
            while !is_over.load(SeqCst) || looks == 0 {
                let balances = ask(&mut client, &format!("MGET {all}"));
                let sum: i64 = balances.items().iter().map(|b| b.text().parse::<i64>().unwrap()).sum();
                assert_eq!(sum, 100 * ACCOUNTS as i64);
                looks += 1;
            }
        });
        movers.into_iter().for_each(|mover| mover.join().unwrap());
        is_over.store(true, SeqCst);
        reader.join().unwrap();
    });
    server.shutdown().unwrap();
}

#[test]
fn a_wait_ends_by_unblock_or_kill_from_another_loop_and_takes_nothing_along() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let (mut client, mut waiting) = (connect(&address), connect(&address));
    let id = ask(&mut waiting, "CLIENT ID").integer().unwrap();
    for (how, expected) in [
        ("", Reply::Nil),
        (" TIMEOUT", Reply::Nil),
        (" ERROR", Reply::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())),
    ] {
        waiting.send(&["BLPOP", "q", "0"]).unwrap();
        wait_for_blocked(&mut client, 1);
        assert_eq!(ask(&mut client, &format!("CLIENT UNBLOCK {id}{how}")).integer(), Some(1));
        assert_eq!(waiting.read().unwrap(), expected);
        assert_eq!(ask(&mut client, &format!("CLIENT UNBLOCK {id}")).integer(), Some(0));
    }
    waiting.send(&["BLPOP", "q", "0"]).unwrap();
    wait_for_blocked(&mut client, 1);
    assert_eq!(ask(&mut client, &format!("CLIENT KILL ID {id}")).integer(), Some(1));
    assert!(waiting.read().is_err());
    ask(&mut client, "RPUSH q 1");
    assert_eq!(ask(&mut client, "LLEN q").integer(), Some(1));
    server.shutdown().unwrap();
}

#[test]
fn who_wants_no_replies_gets_none() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    client.send_raw(b"CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n").unwrap();
    assert_eq!(client.read().unwrap().text(), "1");
    client
        .send_raw(b"CLIENT REPLY OFF\r\nINCR a\r\nnonsense\r\nBLPOP q 0.01\r\nCLIENT REPLY ON\r\nGET a\r\n")
        .unwrap();
    assert_eq!(client.read().unwrap().text(), "OK");
    assert_eq!(client.read().unwrap().text(), "2");
    server.shutdown().unwrap();
}

#[test]
fn a_pipeline_cut_at_any_byte_gives_the_same_replies() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops", "1")]);
    let pipeline: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nline\r\nbreaks\r\nGET k\r\n*0\r\n*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\n";
    let (mut client, mut other) = (connect(&address), connect(&address));
    for cut in 1..pipeline.len() {
        client.send_raw(&pipeline[..cut]).unwrap();
        // One loop has both: when it has answered this, it has read the first part.
        ask(&mut other, "PING");
        client.send_raw(&pipeline[cut..]).unwrap();
        assert_eq!(client.read().unwrap().text(), "OK", "cut {cut}");
        assert_eq!(client.read().unwrap().text(), "line\r\nbreaks", "cut {cut}");
        assert_eq!(client.read().unwrap().integer(), Some(12), "cut {cut}");
    }
    server.shutdown().unwrap();
}

#[test]
fn a_value_of_64_megabytes_comes_back_as_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let value: Vec<u8> = (0..64u32 << 20).map(|i| (i % 251) as u8).collect();
    let mut client = connect(&address);
    assert_eq!(client.command(&[b"SET", &b"k"[..], &value]).unwrap().text(), "OK");
    assert!(client.command(&["GET", "k"]).unwrap() == Reply::Bulk(value.clone()));
    drop(client);
    server.shutdown().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    assert!(connect(&address).command(&["GET", "k"]).unwrap() == Reply::Bulk(value));
    server.shutdown().unwrap();
}
