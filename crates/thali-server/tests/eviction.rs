//! Claims about `maxmemory`: what is in use stays below it, the right keys go, and everybody hears of it.

use std::alloc::System;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start};

#[global_allocator]
static ALLOCATOR: thali_server::Counting<System> = thali_server::Counting(System);

const NO_FILE: (&str, &str) = ("appendonly", "no");
const DEBUG: (&str, &str) = ("enable-debug-command", "yes");
const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

fn info(client: &mut RespClient, section: &str) -> HashMap<String, String> {
    let text = ask(client, &format!("INFO {section}")).text();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn number(client: &mut RespClient, section: &str, name: &str) -> u64 {
    info(client, section)[name].parse().unwrap()
}

fn used(client: &mut RespClient) -> u64 {
    number(client, "memory", "used_memory")
}

/// Sets `maxmemory` so much above what is in use.
fn limit(client: &mut RespClient, policy: &str, above: u64) -> u64 {
    let max = used(client) + above;
    assert_eq!(ask(client, &format!("CONFIG SET maxmemory-policy {policy} maxmemory {max}")).text(), "OK");
    max
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn under_load_on_two_loops_the_limit_holds_and_only_keys_with_an_end_go() {
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        let dir = tempfile::tempdir().unwrap();
        let (server, address) = start(&dir, &[DEBUG, ("appendfsync", "no")]);
        let mut client = connect(&address);
        for n in 0..500 {
            ask(&mut client, &format!("SET stays:{n} {n}"));
        }
        let max = limit(&mut client, policy, 4 << 20);
        let stop = AtomicBool::new(false);
        let mut highest = 0;
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (address, stop) = (&address, &stop);
                    scope.spawn(move || {
                        let mut client = connect(address);
                        let value = "v".repeat(1000);
                        for n in 0.. {
                            if stop.load(Relaxed) {
                                return n;
                            }
                            let reply =
                                client.command(&["SET", &format!("goes:{writer}:{n}"), &value, "EX", "1000"]);
                            assert_eq!(reply.unwrap(), Reply::Status("OK".into()));
                        }
                        unreachable!("a writer stops when told")
                    })
                })
                .collect();
            // Ten times as much as there is room for.
            wait_until("enough keys are evicted", || {
                let figures = info(&mut client, "memory");
                let counted = figures["used_memory"].parse::<u64>().unwrap()
                    - figures["mem_not_counted_for_evict"].parse::<u64>().unwrap();
                highest = highest.max(counted);
                number(&mut client, "stats", "evicted_keys") > 40_000
            });
            stop.store(true, Relaxed);
            let written: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
            assert!(written > 40_000, "{written}");
        });
        // What commands under way have read and not run is beyond it for a moment.
        assert!(highest < max + (1 << 20), "{policy}: {highest} with a limit of {max}");
        let stays = (0..500).filter(|n| ask(&mut client, &format!("GET stays:{n}")).text() == n.to_string());
        assert_eq!(stays.count(), 500, "{policy}");
        let digest = ask(&mut client, "DEBUG DIGEST").text();
        assert_eq!(digest.len(), 40, "{digest}");
        server.shutdown().unwrap();
        // What is in the file is what was left.
        let (server, address) = start(&dir, &[DEBUG, ("appendfsync", "no")]);
        let mut client = connect(&address);
        wait_until("loading", || !matches!(ask(&mut client, "DBSIZE"), Reply::Error(_)));
        assert_eq!(ask(&mut client, "DEBUG DIGEST").text(), digest, "{policy}");
        server.shutdown().unwrap();
    }
}

#[test]
fn a_limit_that_is_lowered_evicts_at_once_and_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, DEBUG]);
    let (mut one, mut other) = (connect(&address), connect(&address));
    assert_eq!(ask(&mut one, "DEBUG POPULATE 200000 k 100").text(), "OK");
    let half = used(&mut one) / 2;
    ask(&mut one, "CONFIG SET maxmemory-policy allkeys-lru");
    assert_eq!(ask(&mut one, &format!("CONFIG SET maxmemory {half}")).text(), "OK");
    // A write is let in while keys go.
    let mut longest = Duration::ZERO;
    wait_until("half of the memory is free", || {
        let begun = Instant::now();
        assert_eq!(ask(&mut other, "SET new value").text(), "OK");
        longest = longest.max(begun.elapsed());
        used(&mut one) <= half
    });
    assert!(longest < Duration::from_millis(250), "{longest:?}");
    let evicted = number(&mut one, "stats", "evicted_keys");
    let left = ask(&mut one, "DBSIZE").integer().unwrap() as u64;
    assert!(left + evicted >= 200_000 && left > 50_000, "{left} are left, {evicted} are gone");
    wait_until("the time beyond the limit ends", || {
        number(&mut one, "stats", "current_eviction_exceeded_time") == 0
    });
    assert!(number(&mut one, "stats", "total_eviction_exceeded_time") > 0);
    ask(&mut one, "CONFIG RESETSTAT");
    let stats = info(&mut one, "stats");
    assert_eq!((&*stats["evicted_keys"], &*stats["total_eviction_exceeded_time"]), ("0", "0"));
    server.shutdown().unwrap();
}

#[test]
fn where_nothing_may_go_writes_are_refused_and_reads_and_deletes_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    ask(&mut client, "SET k v");
    for policy in ["noeviction", "volatile-lru", "volatile-ttl", "volatile-random"] {
        assert_eq!(
            ask(&mut client, &format!("CONFIG SET maxmemory-policy {policy} maxmemory 1")).text(),
            "OK"
        );
        for line in ["SET k w", "INCR n", "LPUSH l a", "SETRANGE k 0 x"] {
            assert_eq!(ask(&mut client, line), Reply::Error(OOM.into()), "{policy}: {line}");
        }
        assert_eq!(ask(&mut client, "GET k").text(), "v");
        assert_eq!(
            client.command(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "k"]).unwrap().text(),
            "v"
        );
        let refused = client.command(&["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "k"]).unwrap();
        assert!(matches!(&refused, Reply::Error(text) if text.starts_with(OOM)), "{refused:?}");
        // What is queued takes memory, and what lets go of it does not.
        ask(&mut client, "MULTI");
        assert_eq!(ask(&mut client, "GET k"), Reply::Error(OOM.into()), "{policy}");
        assert!(matches!(ask(&mut client, "EXEC"), Reply::Error(text) if text.starts_with("EXECABORT")));
        assert_eq!(ask(&mut client, "EXISTS k").integer(), Some(1));
    }
    // A transaction that was queued while there was room.
    ask(&mut client, "CONFIG SET maxmemory 0");
    ask(&mut client, "MULTI");
    assert_eq!(ask(&mut client, "SET k w").text(), "QUEUED");
    let mut other = connect(&address);
    ask(&mut other, "CONFIG SET maxmemory 1");
    let aborted = format!("EXECABORT Transaction discarded because of: {OOM}");
    assert_eq!(ask(&mut client, "EXEC"), Reply::Error(aborted));
    assert_eq!(ask(&mut client, "DEL k").integer(), Some(1));
    server.shutdown().unwrap();
}

#[test]
fn subscribers_watchers_and_caches_hear_of_evicted_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("notify-keyspace-events", "Ee")]);
    let (mut subscriber, mut watcher) = (connect(&address), connect(&address));
    let (mut cache, mut client) = (connect(&address), connect(&address));
    ask(&mut subscriber, "SUBSCRIBE __keyevent@0__:evicted");
    for n in 0..10 {
        ask(&mut client, &format!("SET k{n} v"));
    }
    ask(&mut watcher, "WATCH k3");
    ask(&mut watcher, "MULTI");
    ask(&mut watcher, "PING");
    ask(&mut cache, "HELLO 3");
    ask(&mut cache, "CLIENT TRACKING ON");
    ask(&mut cache, "GET k5");
    // A client that waits for a key goes on waiting.
    let mut blocked = connect(&address);
    blocked.send(&["BLPOP", "list", "0"]).unwrap();
    harness::wait_for_blocked(&mut client, 1);
    ask(&mut client, "CONFIG SET maxmemory-policy allkeys-random maxmemory 1");
    let mut evicted: Vec<String> = (0..10).map(|_| subscriber.read().unwrap().items()[2].text()).collect();
    evicted.sort();
    assert_eq!(evicted, (0..10).map(|n| format!("k{n}")).collect::<Vec<_>>());
    let push = cache.read().unwrap();
    assert_eq!(
        (push.items()[0].text(), push.items()[1].items()[0].text()),
        ("invalidate".into(), "k5".into())
    );
    ask(&mut client, "CONFIG SET maxmemory 0");
    assert_eq!(ask(&mut watcher, "EXEC"), Reply::Nil);
    ask(&mut client, "RPUSH list a");
    assert_eq!(blocked.read().unwrap().items()[1].text(), "a");
    server.shutdown().unwrap();
}

#[test]
fn the_one_key_that_may_go_is_found_within_the_time_that_eviction_has() {
    const ROUNDS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops", "4")]);
    let mut client = connect(&address);
    ask(&mut client, "HELLO 3");
    ask(&mut client, "CLIENT TRACKING ON");
    let mut in_time = 0;
    for _ in 0..ROUNDS {
        ask(&mut client, "SETEX volatile 10000 x");
        ask(&mut client, "GET volatile");
        limit(&mut client, "volatile-random", 100 << 10);
        ask(&mut client, "SETBIT big 1600000 0");
        client.send(&["PING"]).unwrap();
        // What makes room is told before the next reply, or behind it where the time was up.
        let first = client.read().unwrap();
        let second = client.read().unwrap();
        in_time += usize::from(second.text() == "PONG");
        let push = if second.text() == "PONG" { first } else { second };
        assert_eq!(push.items()[0].text(), "invalidate");
        ask(&mut client, "CONFIG SET maxmemory 0");
        ask(&mut client, "DEL big");
    }
    // The scheduler may take the time away now and then.
    assert!(in_time > ROUNDS / 2, "{in_time} of {ROUNDS}");
    server.shutdown().unwrap();
}

#[test]
fn what_is_evicted_is_journaled_as_it_is_freed() {
    for (lazily, word) in [("no", "DEL"), ("yes", "UNLINK")] {
        let dir = tempfile::tempdir().unwrap();
        let (server, address) = start(&dir, &[("lazyfree-lazy-eviction", lazily)]);
        let mut client = connect(&address);
        let members: Vec<String> = (0..100_000).map(|n| format!("member:{n}")).collect();
        let mut request = vec!["SADD", "large"];
        request.extend(members.iter().map(String::as_str));
        client.command(&request).unwrap();
        let before = used(&mut client);
        ask(&mut client, "CONFIG SET maxmemory-policy allkeys-lru maxmemory 1");
        wait_until("the set is freed", || used(&mut client) + (1 << 20) < before);
        assert_eq!(ask(&mut client, "DBSIZE").integer(), Some(0));
        let freed_elsewhere = u64::from(lazily == "yes");
        wait_until("the thread's count", || {
            number(&mut client, "memory", "lazyfreed_objects") == freed_elsewhere
        });
        server.shutdown().unwrap();
        let file = std::fs::read_dir(dir.path().join("appendonlydir")).unwrap();
        let text: Vec<u8> = file.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(&format!("\r\n{word}\r\n$5\r\nlarge\r\n")), "{lazily}");
    }
}

#[test]
fn idle_times_and_frequencies_are_kept_in_files() {
    for (policy, ask_for, expected) in
        [("allkeys-lru", "OBJECT IDLETIME k", 1000..1100), ("volatile-lfu", "OBJECT FREQ k", 100..101)]
    {
        for appendonly in ["yes", "no"] {
            let dir = tempfile::tempdir().unwrap();
            let settings = [("maxmemory-policy", policy), ("appendonly", appendonly)];
            let (server, address) = start(&dir, &settings);
            let mut client = connect(&address);
            ask(&mut client, "SET source v");
            let Reply::Bulk(dumped) = ask(&mut client, "DUMP source") else { panic!("no dump") };
            let word: [&[u8]; 2] =
                if policy == "allkeys-lru" { [b"IDLETIME", b"1000"] } else { [b"FREQ", b"100"] };
            let restored = client.command(&[&b"RESTORE"[..], b"k", b"0", &dumped, word[0], word[1]]).unwrap();
            assert_eq!(restored.text(), "OK");
            // Through a base or a dump, not only a request.
            if appendonly == "yes" {
                ask(&mut client, "BGREWRITEAOF");
                harness::wait_for(&mut client, "aof_rewrites", "1");
            } else {
                assert_eq!(ask(&mut client, "SAVE").text(), "OK");
            }
            server.shutdown().unwrap();
            let (server, address) = start(&dir, &settings);
            let mut client = connect(&address);
            wait_until("loading", || !matches!(ask(&mut client, "DBSIZE"), Reply::Error(_)));
            let kept = ask(&mut client, ask_for).integer().unwrap();
            assert!(expected.contains(&kept), "{policy}, appendonly {appendonly}: {kept}");
            server.shutdown().unwrap();
        }
    }
}

#[test]
fn a_pause_keeps_keys_and_lets_writes_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    for n in 0..100 {
        ask(&mut client, &format!("SET k{n} v"));
    }
    ask(&mut client, "CLIENT PAUSE 100000 WRITE");
    ask(&mut client, "CONFIG SET maxmemory-policy allkeys-random maxmemory 1");
    // Each loop's cron has its turn.
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(ask(&mut client, "DBSIZE").integer(), Some(100));
    ask(&mut client, "CLIENT UNPAUSE");
    wait_until("all keys go", || ask(&mut client, "DBSIZE").integer() == Some(0));
    server.shutdown().unwrap();
}

#[test]
fn no_touch_mode_leaves_idle_times_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut client = connect(&address);
    ask(&mut client, "SET k v");
    let Reply::Bulk(dumped) = ask(&mut client, "DUMP k") else { panic!("no dump") };
    client.command(&[&b"RESTORE"[..], b"k", b"0", &dumped, b"REPLACE", b"IDLETIME", b"1000"]).unwrap();
    let idle = |client: &mut RespClient| ask(client, "OBJECT IDLETIME k").integer().unwrap();
    ask(&mut client, "CLIENT NO-TOUCH ON");
    ask(&mut client, "GET k");
    ask(&mut client, "MULTI");
    ask(&mut client, "GET k");
    ask(&mut client, "EXEC");
    client.command(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "k"]).unwrap();
    assert!(idle(&mut client) >= 1000);
    ask(&mut client, "TOUCH k");
    assert!(idle(&mut client) < 1000);
    server.shutdown().unwrap();
}

/// `DUMPED` stands for what DUMP replied last. Small integers are none of these: Redis shares them, and notes no uses.
const USES: &[&str] = &[
    "OBJECT IDLETIME none",
    "OBJECT FREQ none",
    "SET k value-that-is-not-a-number",
    "DUMP k",
    "OBJECT IDLETIME k",
    "OBJECT FREQ k",
    "RESTORE k 0 DUMPED REPLACE IDLETIME 1000",
    "OBJECT IDLETIME k",
    "TTL k",
    "TYPE k",
    "EXISTS k",
    "OBJECT ENCODING k",
    "OBJECT IDLETIME k",
    "RENAME k other",
    "OBJECT IDLETIME other",
    "RESTORE k 0 DUMPED REPLACE FREQ 100",
    "OBJECT IDLETIME k",
    "RESTORE k 0 DUMPED REPLACE IDLETIME 500",
    "PERSIST k",
    "OBJECT IDLETIME k",
    "RESTORE k 0 DUMPED REPLACE IDLETIME -1",
    "RESTORE k 0 DUMPED REPLACE FREQ 256",
    "RESTORE k 0 DUMPED REPLACE IDLETIME 5 FREQ 5",
    "CONFIG SET maxmemory-policy allkeys-lfu lfu-log-factor 0",
    "OBJECT IDLETIME k",
    "OBJECT IDLETIME none",
    "SET n 100000",
    "OBJECT FREQ n",
    "GET n",
    "GET n",
    "OBJECT FREQ n",
    "INCR n",
    "OBJECT FREQ n",
    "APPEND n 1",
    "OBJECT FREQ n",
    "EXISTS n",
    "TTL n",
    "OBJECT FREQ n",
    "TOUCH n",
    "OBJECT FREQ n",
    "SET n 500000",
    "OBJECT FREQ n",
    "MGET n n none",
    "OBJECT FREQ n",
    "CLIENT NO-TOUCH ON",
    "GET n",
    "OBJECT FREQ n",
    "TOUCH n",
    "CLIENT NO-TOUCH OFF",
    "OBJECT FREQ n",
    "RPUSH l a b",
    "LLEN l",
    "LRANGE l 0 -1",
    "OBJECT FREQ l",
    "HSET h f v",
    "HGET h f",
    "HGETALL h",
    "OBJECT FREQ h",
    "SADD s a",
    "SISMEMBER s a",
    "SINTER s s",
    "OBJECT FREQ s",
    "ZADD z 1 a",
    "ZRANGE z 0 -1",
    "OBJECT FREQ z",
    "RENAME n m",
    "OBJECT FREQ m",
    "MOVE m 1",
    "SELECT 1",
    "OBJECT FREQ m",
    "SELECT 0",
    "RESTORE k 0 DUMPED REPLACE FREQ 100",
    "OBJECT FREQ k",
    "COPY k c",
    "OBJECT FREQ k",
    "OBJECT FREQ c",
    "GET c",
    "COPY k c REPLACE",
    "OBJECT FREQ c",
    "RESTORE k 0 DUMPED REPLACE IDLETIME 100",
    "OBJECT FREQ k",
];

#[test]
fn uses_are_noted_as_in_redis_server() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    // CLIENT NO-TOUCH came with Redis 7.2.
    let redis = thali_testkit::start_redis(&[]).expect("redis-server is needed");
    let mut clients = [connect(&address), connect(&redis.store)];
    let has_no_touch = !matches!(ask(&mut clients[1], "CLIENT NO-TOUCH OFF"), Reply::Error(_));
    let lines = USES.iter().scan(false, |is_left_out, line| {
        *is_left_out &= *line != "RPUSH l a b";
        *is_left_out |= !has_no_touch && *line == "CLIENT NO-TOUCH ON";
        Some((!*is_left_out).then_some(*line))
    });
    let mut dumped = [Vec::new(), Vec::new()];
    for line in lines.flatten() {
        let mut replies = Vec::new();
        for (client, dumped) in clients.iter_mut().zip(&mut dumped) {
            let args = line.split(' ').map(|word| match word {
                "DUMPED" => dumped.as_slice(),
                word => word.as_bytes(),
            });
            let reply = client.command(&args.collect::<Vec<_>>()).unwrap();
            match reply {
                Reply::Bulk(payload) if line.starts_with("DUMP ") => *dumped = payload,
                reply => replies.push(reply),
            }
        }
        let [own, theirs] = &replies[..] else { continue };
        // The second may have changed in between.
        match (own, theirs) {
            (Reply::Integer(own), Reply::Integer(theirs)) if line.contains("IDLETIME") => {
                assert!(own.abs_diff(*theirs) <= 1, "{line}: {own}, not {theirs}");
            }
            _ => assert_eq!(own, theirs, "{line}"),
        }
    }
    server.shutdown().unwrap();
}
