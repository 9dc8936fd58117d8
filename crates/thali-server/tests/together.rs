//! Claims about loops that one thread runs together, and about the changes to threads of their own and back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, ok, start, wait_for_blocked};

const NO_FILE: (&str, &str) = ("appendonly", "no");
const AUTO: (&str, &str) = ("loops-together", "auto");

fn server_figure(client: &mut RespClient, name: &str) -> u64 {
    let info = ask(client, "INFO server").text();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {info}")).parse().unwrap()
}

fn wait_for_together(client: &mut RespClient, together: bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server_figure(client, "event_loops_together") != u64::from(together) {
        assert!(Instant::now() < deadline, "the loops stay as they are");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_setting_takes_loops_apart_and_together() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, AUTO]);
    let mut clients = [connect(&address), connect(&address), connect(&address)];
    for (setting, together) in [("auto", true), ("no", false), ("auto", true)] {
        ok(&mut clients[1], &format!("CONFIG SET loops-together {setting}"));
        for client in &mut clients {
            wait_for_together(client, together);
        }
    }
    assert!(server_figure(&mut clients[0], "event_loops_changes") >= 2);
    server.shutdown().unwrap();
}

#[test]
fn a_long_script_keeps_nobody_of_another_loop_waiting() {
    const SCRIPT_TIME: Duration = Duration::from_secs(1);
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, AUTO]);
    // The first and the second one live on different loops; so each of the two has the long script once.
    for (slow, quick) in [(0, 1), (1, 0)] {
        let mut clients = [connect(&address), connect(&address)];
        clients.iter_mut().for_each(|client| ok(client, "PING"));
        wait_for_together(&mut clients[quick], true);
        let script = "local t = os.clock() while os.clock() - t < tonumber(ARGV[1]) do end return 'done'";
        let seconds = SCRIPT_TIME.as_secs_f64().to_string();
        clients[slow].send(&["EVAL", script, "0", &seconds]).unwrap();
        let begun = Instant::now();
        let (mut longest, mut was_apart) = (Duration::ZERO, false);
        while begun.elapsed() < SCRIPT_TIME * 3 / 4 {
            let asked = Instant::now();
            ok(&mut clients[quick], "PING");
            longest = longest.max(asked.elapsed());
            was_apart |= server_figure(&mut clients[quick], "event_loops_together") == 0;
        }
        assert!(was_apart);
        println!("the longest wait was {longest:?}");
        assert!(longest < SCRIPT_TIME / 2, "{longest:?}");
        assert_eq!(clients[slow].read().unwrap().text(), "done");
        wait_for_together(&mut clients[quick], true);
    }
    server.shutdown().unwrap();
}

/// Flips the setting all the time while `work` runs.
fn while_flipping(address: &str, work: impl FnOnce()) {
    struct Stop<'s>(&'s AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let is_done = AtomicBool::new(false);
    let mut client = connect(address);
    ok(&mut client, "PING");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for setting in ["no", "auto"].iter().cycle() {
                ok(&mut client, &format!("CONFIG SET loops-together {setting}"));
                if is_done.load(SeqCst) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let _stop = Stop(&is_done);
        work();
    });
}

#[test]
fn nothing_is_lost_or_out_of_order_while_threads_change() {
    const ROUNDS: i64 = 150;
    let dir = tempfile::tempdir().unwrap();
    let settings = [("appendonly", "yes"), ("loops", "3"), AUTO];
    let (server, address) = start(&dir, &settings);
    let mut control = connect(&address);
    let changes_before = server_figure(&mut control, "event_loops_changes");
    while_flipping(&address, || {
        std::thread::scope(|scope| {
            for n in 0..3 {
                let address = &address;
                scope.spawn(move || count_in_pipelines(address, n, ROUNDS));
                scope.spawn(move || move_with_scripts(address, n, ROUNDS));
                scope.spawn(move || move_in_transactions(address, n, ROUNDS));
                scope.spawn(move || take_what_is_pushed(address, n, ROUNDS));
                scope.spawn(move || push(address, n, ROUNDS));
            }
            scope.spawn(|| hear_what_is_published(&address, ROUNDS));
            scope.spawn(|| wait_in_vain(&address));
        });
    });
    let changes = server_figure(&mut control, "event_loops_changes") - changes_before;
    println!("{changes} changes");
    assert!(changes > 20, "{changes} changes");
    let look = |client: &mut RespClient| {
        let names = ["count0", "count1", "count2", "a0", "a1", "a2", "a3", "a4", "runs", "left", "right"];
        let request = std::iter::once("MGET").chain(names).collect::<Vec<_>>();
        client
            .command(&request)
            .unwrap()
            .items()
            .iter()
            .map(|n| n.text().parse().unwrap())
            .collect::<Vec<i64>>()
    };
    let seen = look(&mut control);
    assert_eq!(seen[..3], [ROUNDS * 20; 3]);
    assert_eq!(seen[3..8].iter().sum::<i64>(), 0);
    assert_eq!(seen[8..], [3 * ROUNDS, 3 * ROUNDS, -3 * ROUNDS]);
    drop(control);
    server.shutdown().unwrap();
    // The file has the same.
    let (server, address) = start(&dir, &settings);
    assert_eq!(look(&mut connect(&address)), seen);
    server.shutdown().unwrap();
}

/// The replies of a connection come in the order of its requests.
fn count_in_pipelines(address: &str, n: i64, rounds: i64) {
    let mut client = connect(address);
    let key = format!("count{n}");
    for round in 0..rounds {
        for _ in 0..20 {
            client.send(&["INCR", &key]).unwrap();
        }
        for at in 1..=20 {
            assert_eq!(client.read().unwrap().integer(), Some(round * 20 + at));
        }
    }
}

/// Keys that are not declared: such a script starts over.
fn move_with_scripts(address: &str, n: i64, rounds: i64) {
    let script = "redis.call('GET', 'a' .. ARGV[1]); redis.call('DECR', 'a' .. ARGV[1]); \
                  redis.call('INCR', 'a' .. ARGV[2]); return redis.call('INCR', 'runs')";
    let mut client = connect(address);
    for round in 0..rounds {
        let (from, to) = ((round + n) % 5, (round * 3 + n * 2) % 5);
        let reply = client.command(&["EVAL", script, "0", &from.to_string(), &to.to_string()]).unwrap();
        assert!(reply.integer().is_some(), "{reply:?}");
    }
}

fn move_in_transactions(address: &str, _: i64, rounds: i64) {
    let mut client = connect(address);
    for _ in 0..rounds {
        for line in ["MULTI", "INCR left", "DECR right"] {
            ok(&mut client, line);
        }
        let reply = ask(&mut client, "EXEC");
        let moved: Vec<i64> = reply.items().iter().filter_map(Reply::integer).collect();
        assert!(moved.len() == 2 && moved[0] == -moved[1], "{reply:?}");
    }
}

fn push(address: &str, n: i64, rounds: i64) {
    let mut client = connect(address);
    for at in 0..rounds {
        ok(&mut client, &format!("LPUSH list{n} {at}"));
    }
}

fn take_what_is_pushed(address: &str, n: i64, rounds: i64) {
    let mut client = connect(address);
    for at in 0..rounds {
        let popped = ask(&mut client, &format!("BRPOP list{n} 0"));
        assert_eq!(popped.items()[1].text(), at.to_string());
    }
}

fn hear_what_is_published(address: &str, rounds: i64) {
    let mut subscribers: VecDeque<_> = (0..3).map(|_| connect(address)).collect();
    for subscriber in &mut subscribers {
        ask(subscriber, "SUBSCRIBE news");
    }
    let mut publisher = connect(address);
    for at in 0..rounds {
        assert_eq!(ask(&mut publisher, &format!("PUBLISH news {at}")).integer(), Some(3));
    }
    for subscriber in &mut subscribers {
        for at in 0..rounds {
            assert_eq!(subscriber.read().unwrap().items()[2].text(), at.to_string());
        }
    }
}

/// Deadlines hold on whatever thread they pass.
fn wait_in_vain(address: &str) {
    let mut client = connect(address);
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(ask(&mut client, "BLPOP nothing 0.02"), Reply::Nil);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(19) && took < Duration::from_secs(20), "{took:?}");
    }
}

#[test]
fn a_script_that_never_ends_is_killed_though_threads_change() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, AUTO, ("busy-reply-threshold", "20")]);
    while_flipping(&address, || {
        for _ in 0..10 {
            // One after the other, so that two in turn are on different loops; the script is on the other one of the two
            // each time.
            let [mut busy, mut other, _third] = std::array::from_fn(|_| {
                let mut client = connect(&address);
                ok(&mut client, "PING");
                client
            });
            busy.send(&["EVAL", "while true do redis.call('GET', KEYS[1]) end", "1", "k"]).unwrap();
            while ask(&mut other, "SCRIPT KILL") != Reply::Status("OK".into()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(matches!(busy.read().unwrap(), Reply::Error(text) if text.contains("SCRIPT KILL")));
            // The same interpreter goes on.
            assert_eq!(busy.command(&["EVAL", "return 1", "0"]).unwrap().integer(), Some(1));
        }
    });
    server.shutdown().unwrap();
}

#[test]
fn loops_that_go_together_while_the_first_thread_is_in_a_script_keep_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops-together", "no"), ("busy-reply-threshold", "20")]);
    // On different loops; each of the two has the script once.
    for (slow, quick) in [(0, 1), (1, 0)] {
        let mut clients = [connect(&address), connect(&address)];
        clients.iter_mut().for_each(|client| ok(client, "PING"));
        clients[slow].send(&["EVAL", "while true do redis.call('GET', KEYS[1]) end", "1", "k"]).unwrap();
        while !matches!(ask(&mut clients[quick], "GET k"), Reply::Error(text) if text.starts_with("BUSY")) {
            std::thread::sleep(Duration::from_millis(1));
        }
        for setting in ["auto", "no", "auto"] {
            ok(&mut clients[quick], &format!("CONFIG SET loops-together {setting}"));
        }
        ok(&mut clients[quick], "SCRIPT KILL");
        assert!(matches!(clients[slow].read().unwrap(), Reply::Error(text) if text.contains("SCRIPT KILL")));
        ok(&mut clients[quick], "CONFIG SET loops-together no");
    }
    server.shutdown().unwrap();
}

#[test]
fn the_end_comes_in_either_state_and_clients_that_wait_are_let_go() {
    for setting in ["auto", "no"] {
        let dir = tempfile::tempdir().unwrap();
        let (server, address) = start(&dir, &[NO_FILE, ("loops", "4"), ("loops-together", setting)]);
        let mut client = connect(&address);
        let mut waiting: Vec<_> = (0..6).map(|_| connect(&address)).collect();
        waiting.iter_mut().for_each(|client| client.send(&["BLPOP", "nothing", "0"]).unwrap());
        wait_for_blocked(&mut client, 6);
        server.shutdown().unwrap();
        assert!(waiting.iter_mut().all(|client| client.read().is_err()));
    }
}
