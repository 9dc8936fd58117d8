//! Claims about commands that run in steps: others are served meanwhile, and what is there all the time is found.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start};

/// One loop, which all clients share.
const SETTINGS: [(&str, &str); 2] = [("appendonly", "no"), ("loops", "1")];

fn fill(client: &mut RespClient, prefix: &str, len: usize) {
    for lot in (0..len).collect::<Vec<_>>().chunks(1_000) {
        let pairs = lot.iter().flat_map(|n| [format!("{prefix}:{n}"), "v".into()]);
        let request: Vec<String> = ["MSET".into()].into_iter().chain(pairs).collect();
        assert_eq!(client.command(&request).unwrap().text(), "OK");
    }
}

#[test]
fn others_are_served_while_all_keys_are_collected() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &SETTINGS);
    let (mut asker, mut other) = (connect(&address), connect(&address));
    fill(&mut other, "key", 200_000);
    let id = ask(&mut asker, "CLIENT ID").integer().unwrap();
    // Its next request runs after the keys are there.
    asker.send_raw(b"*2\r\n$4\r\nKEYS\r\n$5\r\nkey:*\r\n*1\r\n$6\r\nDBSIZE\r\n").unwrap();
    let commands = |client: &mut RespClient| {
        let line = ask(client, &format!("CLIENT LIST ID {id}")).text();
        line.split_whitespace().find_map(|word| word.strip_prefix("tot-cmds=")).unwrap().to_owned()
    };
    let mut served = 0;
    while commands(&mut other) == "1" {
        served += 1;
    }
    assert!(served > 3, "{served}");
    assert_eq!(asker.read().unwrap().items().len(), 200_000);
    assert_eq!(asker.read().unwrap(), Reply::Integer(200_000));
    let stats = ask(&mut other, "INFO commandstats").text();
    assert!(stats.contains("cmdstat_keys:calls=1,"), "{stats}");
    server.shutdown().unwrap();
}

#[test]
fn what_is_there_all_the_time_is_found_once() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &SETTINGS);
    let (mut asker, mut other) = (connect(&address), connect(&address));
    fill(&mut asker, "stays", 20_000);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The tables grow and shrink under the walk.
            while !is_over.load(Relaxed) {
                fill(&mut other, "goes", 10_000);
                let names = (0..10_000).map(|n| format!("goes:{n}"));
                let request: Vec<String> = ["DEL".into()].into_iter().chain(names).collect();
                other.command(&request).unwrap();
            }
        });
        for _ in 0..30 {
            let reply = ask(&mut asker, "KEYS *");
            let keys: Vec<String> = reply.items().iter().map(Reply::text).collect();
            let stays = keys.iter().filter(|key| key.starts_with("stays:"));
            assert_eq!(stays.clone().count(), 20_000);
            assert_eq!(stays.collect::<HashSet<_>>().len(), 20_000);
        }
        is_over.store(true, Relaxed);
    });
    server.shutdown().unwrap();
}

#[test]
fn who_leaves_amid_the_steps_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &SETTINGS);
    let mut other = connect(&address);
    fill(&mut other, "key", 100_000);
    for round in 0..20 {
        let mut asker = connect(&address);
        let id = ask(&mut asker, "CLIENT ID").integer().unwrap();
        asker.send(&["KEYS", "*"]).unwrap();
        if round % 2 == 0 {
            drop(asker);
        } else {
            let killed = ask(&mut other, &format!("CLIENT KILL ID {id}"));
            assert_eq!(killed, Reply::Integer(1));
        }
    }
    while !ask(&mut other, "INFO clients").text().contains("connected_clients:1\r\n") {
        std::thread::yield_now();
    }
    // In a transaction and in a script it is one step.
    assert_eq!(ask(&mut other, "MULTI").text(), "OK");
    ask(&mut other, "KEYS *");
    assert_eq!(ask(&mut other, "EXEC").items()[0].items().len(), 100_000);
    let script = ["EVAL", "return #redis.call('KEYS', '*')", "0"];
    assert_eq!(other.command(&script).unwrap(), Reply::Integer(100_000));
    server.shutdown().unwrap();
}
