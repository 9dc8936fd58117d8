//! What the generator counts, against redis-server and Thali.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use thali_load::{Kind, Length, LoadError, Pace, Plan, PubSub, Template, publish, run};
use thali_testkit::{Engine, RespClient, Running, start_redis, thali_bin};

const ENGINES: [Engine; 2] = [Engine::Redis, Engine::Thali];

fn address(engine: &Running) -> SocketAddr {
    engine.store.parse().unwrap()
}

fn go(plan: &Plan) -> thali_load::Outcome {
    run(plan, &AtomicBool::new(false)).unwrap()
}

fn calls(engine: &Running, command: &str) -> u64 {
    let info = RespClient::connect(&engine.store).unwrap().command(&["INFO", "commandstats"]).unwrap().text();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn each_request_is_sent_and_counted_once() {
    for engine in ENGINES {
        let server = engine.start().unwrap();
        // A command and a database that the layers above Thali's store leave alone.
        let kinds = vec![Kind::of_line("SETEX key:__rand_int__ 1000 __data__", 100)];
        let plan = Plan {
            greeting: vec![Template::of_line("SELECT 1", 0)],
            clients: 7,
            pipeline: 5,
            threads: 2,
            keys: 1000,
            sequential: true,
            length: Length::Requests(10_003),
            ..Plan::new(address(&server), kinds)
        };
        let outcome = go(&plan);
        assert_eq!((outcome.requests(), outcome.errors(), outcome.unanswered), (10_003, 0, 0), "{engine:?}");
        assert_eq!(outcome.latency().len(), 10_003);
        assert_eq!(calls(&server, "setex"), 10_003, "{engine:?}");
        let mut client = RespClient::connect(&server.store).unwrap();
        client.command(&["SELECT", "1"]).unwrap();
        assert_eq!(client.command(&["DBSIZE"]).unwrap().integer(), Some(1000));
        assert_eq!(client.command(&["STRLEN", "key:000000000999"]).unwrap().integer(), Some(100));
    }
}

#[test]
fn values_larger_than_a_sockets_buffer_arrive_whole() {
    for engine in ENGINES {
        let server = engine.start().unwrap();
        let kinds = vec![Kind::of_line("SET big __data__", 3_000_000), Kind::of_line("GET big", 0)];
        let plan = Plan {
            clients: 3,
            pipeline: 4,
            length: Length::Requests(120),
            ..Plan::new(address(&server), kinds)
        };
        let outcome = go(&plan);
        assert_eq!((outcome.requests(), outcome.errors()), (120, 0), "{engine:?}");
        let mut client = RespClient::connect(&server.store).unwrap();
        assert_eq!(client.command(&["STRLEN", "big"]).unwrap().integer(), Some(3_000_000));
    }
}

#[test]
fn open_loop_keeps_its_rate_and_its_mix() {
    for engine in ENGINES {
        let server = engine.start().unwrap();
        let mut kinds = vec![Kind::of_line("GET k", 0), Kind::of_line("SET k v", 0)];
        kinds[0].weight = 80;
        kinds[1].weight = 20;
        let plan = Plan {
            clients: 10,
            threads: 2,
            pace: Pace::Open { rate: 2000.0 },
            warm_up: Duration::from_millis(100),
            length: Length::Time(Duration::from_secs(1)),
            ..Plan::new(address(&server), kinds)
        };
        let outcome = go(&plan);
        // A timetable is kept to the request, however slow the machine is.
        assert!((1999..=2001).contains(&outcome.requests()), "{engine:?}: {outcome}");
        assert_eq!(outcome.late.len(), outcome.requests());
        let reads = outcome.kinds[0].requests;
        assert!((1500..1700).contains(&reads), "{engine:?}: {reads} of 2000 are GETs");
    }
}

#[test]
fn a_stall_is_charged_to_all_that_was_due_meanwhile() {
    let server = start_redis(&["--enable-debug-command", "yes"]).unwrap();
    let address = address(&server);
    let plan = Plan {
        clients: 2,
        pace: Pace::Open { rate: 1000.0 },
        length: Length::Time(Duration::from_millis(1500)),
        ..Plan::new(address, vec![Kind::of_line("PING", 0)])
    };
    let outcome = std::thread::scope(|scope| {
        let stalls = scope.spawn(move || {
            let kinds = vec![Kind::of_line("DEBUG SLEEP 0.5", 0)];
            go(&Plan { clients: 1, length: Length::Requests(1), ..Plan::new(address, kinds) })
        });
        let outcome = go(&plan);
        assert_eq!(stalls.join().unwrap().errors(), 0);
        outcome
    });
    assert!((1499..=1501).contains(&outcome.requests()), "{outcome}");
    // Due every millisecond of half a second: some 400 waited for more than 100 ms, not just one for each client.
    let slow = outcome.latency().count_between(100_000_000, u64::MAX);
    assert!(slow > 300, "{slow} waited: {outcome}");
}

#[test]
fn errors_are_counted_and_the_first_is_shown() {
    for engine in ENGINES {
        let server = engine.start().unwrap();
        RespClient::connect(&server.store).unwrap().command(&["SET", "k", "v"]).unwrap();
        let kinds = vec![Kind::of_line("LPUSH k a", 0), Kind::of_line("GET k", 0)];
        let plan = Plan { length: Length::Requests(1000), ..Plan::new(address(&server), kinds) };
        let outcome = go(&plan);
        assert_eq!(outcome.requests(), 1000);
        assert_eq!(outcome.errors(), outcome.kinds[0].requests, "{engine:?}");
        assert_eq!(outcome.kinds[1].errors, 0);
        assert!(outcome.first_error.as_ref().unwrap().starts_with("WRONGTYPE"), "{outcome}");
        assert!(outcome.to_string().contains("errors, the first: WRONGTYPE"), "{outcome}");
    }
}

#[test]
fn refused_greetings_and_missing_servers_are_told() {
    let server = Engine::Redis.start().unwrap();
    let plan = Plan {
        greeting: vec![Template::of_line("SELECT 99", 0)],
        ..Plan::new(address(&server), vec![Kind::of_line("PING", 0)])
    };
    let error = run(&plan, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(&error, LoadError::Greeting { words, .. } if words.contains("out of range")), "{error}");
    let port = thali_testkit::Port::free().unwrap();
    let plan = Plan::new(port.address().parse().unwrap(), vec![Kind::of_line("PING", 0)]);
    let error = run(&plan, &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("is a server running there?"), "{error}");
}

#[test]
fn a_server_that_goes_away_ends_the_run() {
    for engine in ENGINES {
        let mut server = engine.start().unwrap();
        let plan = Plan {
            length: Length::Time(Duration::from_secs(3600)),
            threads: 2,
            ..Plan::new(address(&server), vec![Kind::of_line("GET k", 0)])
        };
        let error = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&plan, &AtomicBool::new(false)));
            thali_testkit::wait_until("requests", Duration::from_secs(20), || calls(&server, "get") > 1000)
                .unwrap();
            server.process.kill9().unwrap();
            running.join().unwrap().unwrap_err()
        });
        assert!(error.to_string().contains("went away"), "{error}");
    }
}

#[test]
fn a_set_flag_ends_the_run() {
    let server = Engine::Redis.start().unwrap();
    let plan = Plan {
        length: Length::Time(Duration::from_secs(3600)),
        ..Plan::new(address(&server), vec![Kind::of_line("GET k", 0)])
    };
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&plan, &stop));
        thali_testkit::wait_until("requests", Duration::from_secs(20), || calls(&server, "get") > 1000)
            .unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        running.join().unwrap().unwrap()
    });
    assert_eq!(outcome.unanswered, 0);
    assert_eq!(outcome.requests(), calls(&server, "get"));
}

#[test]
fn every_published_message_is_delivered_and_counted() {
    for engine in ENGINES {
        let server = engine.start().unwrap();
        for (subscribers, channels, greeting) in
            [(30, 1, vec![]), (30, 30, vec![Template::of_line("HELLO 3", 0)])]
        {
            let plan = PubSub {
                address: address(&server),
                greeting,
                publishers: 3,
                subscribers,
                channels,
                pipeline: 2,
                data_len: 16,
                time: Duration::from_millis(300),
            };
            let before = calls(&server, "publish");
            let outcome = publish(&plan).unwrap();
            assert_eq!(outcome.published, calls(&server, "publish") - before, "{engine:?}");
            assert_eq!(outcome.expected, outcome.published * (subscribers / channels) as u64);
            assert_eq!(outcome.delivered, outcome.expected, "{engine:?}");
            assert!(outcome.published > 10, "{outcome}");
        }
    }
}

#[test]
fn plans_that_cannot_be_are_refused_in_words() {
    let address = "127.0.0.1:1".parse().unwrap();
    let plan = Plan::new(address, vec![Kind::of_line("PING", 0)]);
    for (plan, words) in [
        (Plan { clients: 0, ..plan.clone() }, "at least 1"),
        (Plan { clients: 1, threads: 2, ..plan.clone() }, "more threads than clients"),
        (Plan { kinds: vec![], ..plan.clone() }, "nothing to send"),
        (Plan { keys: 0, ..plan.clone() }, "key space"),
        (Plan { pace: Pace::Open { rate: 0.0 }, ..plan.clone() }, "the rate lies"),
    ] {
        let error = run(&plan, &AtomicBool::new(false)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// `thali bench` on a redis-server: whether it ended well, and what it printed.
fn command(arguments: &[&str]) -> (bool, String, String) {
    let server = Engine::Redis.start().unwrap();
    let port = address(&server).port().to_string();
    let mut command = std::process::Command::new(thali_bin().unwrap());
    let output = command.args(["bench", "-h", "127.0.0.1", "-p", &port]).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_prints_text_or_json_and_fails_on_errors() {
    let (is_fine, text, _) = command(&["-t", "set,get", "-n", "1000", "-P", "16", "-r", "1000", "-q"]);
    assert!(is_fine && text.lines().count() == 2 && text.starts_with("SET: "), "{text}");

    let (is_fine, text, _) = command(&[
        "--mix",
        "GET=80,SET=20",
        "--rate",
        "2000",
        "--seconds",
        "0.2",
        "--warm-up",
        "0.1",
        "--json",
    ]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let result = &value["results"][0];
    assert!(is_fine, "{text}");
    assert_eq!((&result["name"], &result["errors"]), (&"GET=80,SET=20".into(), &0.into()), "{text}");
    assert_eq!(result["kinds"].as_array().unwrap().len(), 2);
    assert!(result["latency_ms"]["p99.9"].as_f64().unwrap() > 0.0);

    let (is_fine, text, _) = command(&["-n", "10", "HSET", "k:__rand_int__"]);
    assert!(!is_fine && text.contains("10 errors, the first: ERR wrong number of arguments"), "{text}");

    let (is_fine, text, _) = command(&["--subscribers", "10", "-c", "1", "--seconds", "0.1"]);
    assert!(is_fine && text.contains("deliveries/s"), "{text}");

    let (is_fine, _, error) = command(&["-t", "sett"]);
    assert!(!is_fine && error.contains("no test \"sett\"; there are ping, set"), "{error}");
}
