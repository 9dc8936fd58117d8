//! Claims about requests that a client sends at once, and that run in batches: to clients it is as if each had run
//! by itself.

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start, wait_for_blocked};

/// Sends all lines in one piece, and gives their replies.
fn at_once(client: &mut RespClient, lines: &[String]) -> Vec<Reply> {
    let mut bytes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        bytes.extend(format!("*{}\r\n", words.len()).bytes());
        words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    }
    client.send_raw(&bytes).unwrap();
    lines.iter().map(|_| client.read().unwrap()).collect()
}

fn lines(text: &[&str]) -> Vec<String> {
    text.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn who_waits_is_served_before_the_next_request_of_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[]);
    let (mut pusher, mut waiter) = (connect(&address), connect(&address));
    for _ in 0..50 {
        waiter.send(&["BLPOP", "list", "0"]).unwrap();
        wait_for_blocked(&mut pusher, 1);
        let replies =
            at_once(&mut pusher, &lines(&["SET a 1", "LPUSH list x", "RPOP list", "LLEN list", "GET a"]));
        let expected = [
            Reply::Status("OK".into()),
            Reply::Integer(1),
            Reply::Nil,
            Reply::Integer(0),
            Reply::Bulk(b"1".to_vec()),
        ];
        assert_eq!(replies, expected);
        assert_eq!(waiter.read().unwrap().items()[1].text(), "x");
    }
    server.shutdown().unwrap();
}

/// Commands that join batches and commands that do not, right and wrong ones, over few keys.
fn line(random: &mut fastrand::Rng) -> String {
    let key = |random: &mut fastrand::Rng| {
        format!("{}{}", random.choice(["s", "n", "l", "h", "z"]).unwrap(), random.u8(..4))
    };
    let (a, b, n) = (key(random), key(random), random.u16(..50));
    match random.u8(..24) {
        0..3 => format!("SET {a} v{n}"),
        3 => format!("SET {a} {n} GET"),
        4..6 => format!("GET {a}"),
        6..8 => format!("INCR {a}"),
        8 => format!("APPEND {a} x{n}"),
        9 => format!("LPUSH {a} {n} {n}"),
        10 => format!("RPOP {a}"),
        11 => format!("HSET {a} f{n} {b}"),
        12 => format!("HGET {a} f{n}"),
        13 => format!("ZADD {a} {n} m{n}"),
        14 => format!("SADD {a} {n}"),
        15 => format!("DEL {a} {b}"),
        16 => format!("MGET {a} {b}"),
        17 => "GET".into(),
        18 => format!("NOSUCH {a}"),
        19 => format!("RENAME {a} {b}"),
        20 => format!("SELECT {}", random.u8(..2)),
        21 => random.choice(["MULTI", "EXEC", "DISCARD"]).unwrap().into(),
        22 => format!("EXPIRE {a} 1000"),
        _ => format!("LRANGE {a} 0 {n}"),
    }
}

/// The same requests to two servers, to one all at once: same replies, same data, and the same after a restart.
#[test]
fn all_at_once_is_as_one_by_one() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let journaled = [("appendonly", "yes")];
    let [(quick, quick_address), (slow, slow_address)] =
        [start(&dirs[0], &journaled), start(&dirs[1], &journaled)];
    let (mut quick_client, mut slow_client) = (connect(&quick_address), connect(&slow_address));
    for round in 0..60 {
        let requests: Vec<String> = (0..random.usize(1..80)).map(|_| line(&mut random)).collect();
        let one_by_one: Vec<Reply> = requests.iter().map(|request| ask(&mut slow_client, request)).collect();
        let replies = at_once(&mut quick_client, &requests);
        for ((request, got), expected) in requests.iter().zip(&replies).zip(&one_by_one) {
            assert_eq!(got, expected, "seed {seed}, round {round}: {request} of {requests:?}");
        }
    }
    for client in [&mut quick_client, &mut slow_client] {
        // Whatever transaction is open ends.
        let _ = ask(client, "DISCARD");
    }
    let digest = ask(&mut slow_client, "DEBUG DIGEST");
    assert_eq!(ask(&mut quick_client, "DEBUG DIGEST"), digest, "seed {seed}");
    drop(quick_client);
    quick.shutdown().unwrap();
    let (quick, quick_address) = start(&dirs[0], &journaled);
    assert_eq!(ask(&mut connect(&quick_address), "DEBUG DIGEST"), digest, "seed {seed}, after a restart");
    quick.shutdown().unwrap();
    slow.shutdown().unwrap();
}

/// Each call is counted as one, whatever it ran with.
#[test]
fn calls_and_refusals_of_a_batch_are_counted_each() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let mut client = connect(&address);
    done_all(&mut client, &["ACL SETUSER app on nopass +@all ~a*"]);
    let mut app = connect(&address);
    done_all(&mut app, &["AUTH app x"]);
    let before = total_commands(&mut client);
    let replies =
        at_once(&mut app, &lines(&["SET a1 1", "SET a2 1", "SET b 1", "INCR a1", "LPUSH a1 x", "GET a2"]));
    let errors: Vec<bool> = replies.iter().map(|reply| matches!(reply, Reply::Error(_))).collect();
    assert_eq!(errors, [false, false, true, false, true, false]);
    // Six of these, and INFO itself.
    assert_eq!(total_commands(&mut client) - before, 7);
    let stats = ask(&mut client, "INFO commandstats").text();
    assert!(stats.contains("cmdstat_set:calls=2,") && stats.contains("cmdstat_lpush:calls=1,"), "{stats}");
    let stats = ask(&mut client, "INFO stats").text();
    assert!(stats.contains("acl_access_denied_key:1\r\n"), "{stats}");
    server.shutdown().unwrap();
}

fn done_all(client: &mut RespClient, lines: &[&str]) {
    for line in lines {
        let reply = ask(client, line);
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
    }
}

fn total_commands(client: &mut RespClient) -> u64 {
    let stats = ask(client, "INFO stats").text();
    let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    line.trim().parse().unwrap()
}
