//! Claims about client-side caching: who is told of what, in which words, and when.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

use thali_server::Server;
use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start, wait_for_blocked};

const NO_FILE: (&str, &str) = ("appendonly", "no");

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

/// The push that says that keys are stale.
fn stale(keys: &[&str]) -> Reply {
    Reply::Push(vec![bulk("invalidate"), Reply::Array(keys.iter().map(|key| bulk(key)).collect())])
}

fn all_stale() -> Reply {
    Reply::Push(vec![bulk("invalidate"), Reply::Nil])
}

/// A store, a client that tracks in RESP3, and one that changes things.
struct Scene {
    server: Server,
    _dir: tempfile::TempDir,
    address: String,
    reader: RespClient,
    writer: RespClient,
}

fn scene(options: &str) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) =
        start(&dir, &[NO_FILE, ("enable-debug-command", "yes"), ("notify-keyspace-events", "")]);
    let (mut reader, writer) = (connect(&address), connect(&address));
    ask(&mut reader, "HELLO 3");
    assert_eq!(ask(&mut reader, &format!("CLIENT TRACKING ON{options}")).text(), "OK");
    Scene { server, _dir: dir, address, reader, writer }
}

impl Scene {
    fn read(&mut self, line: &str) -> Reply {
        ask(&mut self.reader, line)
    }

    fn write(&mut self, line: &str) -> Reply {
        ask(&mut self.writer, line)
    }

    /// What the reader has been told by now, in order.
    fn told(&mut self) -> Vec<Reply> {
        told(&mut self.reader)
    }

    fn end(self) {
        self.server.shutdown().unwrap();
    }
}

fn told(client: &mut RespClient) -> Vec<Reply> {
    client.send(&["PING"]).unwrap();
    let mut told = Vec::new();
    loop {
        match client.read().unwrap() {
            Reply::Status(text) if text == "PONG" => return told,
            push => told.push(push),
        }
    }
}

#[test]
fn who_has_read_a_key_is_told_once_that_it_changed_and_of_no_other() {
    let mut s = scene("");
    s.write("MSET a 1 b 1 c 1");
    s.read("GET a");
    s.write("INCR b");
    assert_eq!(s.told(), []);
    s.write("INCR a");
    s.write("INCR a");
    assert_eq!(s.told(), [stale(&["a"])]);
    // What is read again is noted again, missing keys, too.
    s.read("MGET a nothing");
    s.write("MSET a 1 nothing 2");
    assert_eq!(s.told(), [stale(&["a"]), stale(&["nothing"])]);
    // Its own changes come after the reply.
    s.read("HGET h f");
    assert_eq!(s.read("HSET h f 1").integer(), Some(1));
    assert_eq!(s.told(), [stale(&["h"])]);
    s.read("CLIENT TRACKING OFF");
    s.read("GET a");
    s.write("INCR a");
    assert_eq!(s.told(), []);
    s.end();
}

#[test]
fn every_way_of_changing_a_key_tells() {
    let mut s = scene("");
    s.write("RPUSH {t}l 1");
    for change in [
        "SET {t}k 1",
        "APPEND {t}k x",
        "EXPIRE {t}k 100",
        "PERSIST {t}k",
        "GETEX {t}k EX 100",
        "RENAME {t}k {t}other",
        "COPY {t}other {t}k",
        "MOVE {t}k 1",
        "SADD {t}k a",
        "SMOVE {t}k {t}set a",
        "LMOVE {t}l {t}k LEFT LEFT",
        "DEL {t}k",
        "XADD {t}k * f v",
        "UNLINK {t}k",
        "ZADD {t}k 1 a",
        "ZPOPMIN {t}k",
        "SETNX {t}k 1",
        "GETDEL {t}k",
    ] {
        s.read("TYPE {t}k");
        s.write(change);
        assert_eq!(s.told(), [stale(&["{t}k"])], "{change}");
    }
    s.end();
}

#[test]
fn keys_whose_time_is_over_are_stale() {
    let mut s = scene("");
    s.write("DEBUG SET-ACTIVE-EXPIRE 0");
    s.write("MSET {t}x 1 {t}y 2");
    s.read("PEXPIRE {t}y 30");
    s.read("GET {t}y");
    std::thread::sleep(std::time::Duration::from_millis(40));
    // Reading finds it; the reply is whole, and the news behind it.
    let both = s.read("MGET {t}x {t}y");
    assert_eq!(both.items(), [bulk("1"), Reply::Nil]);
    assert_eq!(s.told(), [stale(&["{t}y"])]);
    s.write("SET z 1 PX 30");
    s.read("GET z");
    s.write("DEBUG SET-ACTIVE-EXPIRE 1");
    assert_eq!(s.reader.read().unwrap(), stale(&["z"]));
    s.end();
}

#[test]
fn emptied_and_swapped_databases_make_all_stale() {
    for change in ["FLUSHALL", "FLUSHDB ASYNC", "SWAPDB 0 1", "DEBUG RELOAD"] {
        let mut s = scene("");
        s.write("SET a 1");
        s.read("GET a");
        assert_eq!(s.write(change).text(), "OK");
        assert_eq!(s.told(), [all_stale()], "{change}");
        assert!(s.write("INFO stats").text().contains("tracking_total_keys:0\r\ntracking_total_items:0\r\n"));
        // Its own, too, behind the reply of a transaction.
        for line in ["MULTI", "INCR a", "FLUSHDB"] {
            s.read(line);
        }
        assert_eq!(s.read("EXEC").items().len(), 2);
        assert_eq!(s.told(), [all_stale()]);
        s.end();
    }
}

#[test]
fn transactions_and_scripts_tell_after_their_reply_and_note_what_they_read() {
    let mut s = scene("");
    s.write("MSET {t}a 1 {t}b 2");
    s.read("GET {t}a");
    for line in ["MULTI", "INCR {t}a", "GET {t}b", "GET {t}c"] {
        s.read(line);
    }
    assert_eq!(s.read("EXEC").items().len(), 3);
    assert_eq!(s.told(), [stale(&["{t}a"])]);
    s.write("MSET {t}b 1 {t}c 1");
    assert_eq!(s.told(), [stale(&["{t}b"]), stale(&["{t}c"])]);
    // A script's declared keys are not what it reads.
    s.reader.command(&["EVAL", "return redis.call('GET', ARGV[1])", "1", "{t}a", "{t}b"]).unwrap();
    s.reader.command(&["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "{t}c"]).unwrap();
    s.writer
        .command(&[
            "EVAL",
            "for _, k in ipairs(ARGV) do redis.call('INCR', k) end",
            "0",
            "{t}a",
            "{t}b",
            "{t}c",
        ])
        .unwrap();
    assert_eq!(s.told(), [stale(&["{t}b"]), stale(&["{t}c"])]);
    s.end();
}

#[test]
fn opting_in_and_out_holds_for_one_command_or_one_transaction() {
    let mut s = scene(" OPTIN");
    s.write("MSET {t}a 1 {t}b 1");
    s.read("GET {t}a");
    s.read("CLIENT CACHING YES");
    assert_eq!(s.read("CLIENT TRACKINGINFO"), info(&["on", "optin", "caching-yes"], 0, &[]));
    s.read("GET {t}b");
    s.read("GET {t}a");
    s.write("MSET {t}a 2 {t}b 2");
    assert_eq!(s.told(), [stale(&["{t}b"])]);
    s.read("CLIENT CACHING YES");
    for line in ["MULTI", "GET {t}a", "GET {t}b", "EXEC"] {
        s.read(line);
    }
    s.write("MSET {t}a 2 {t}b 2");
    assert_eq!(s.told(), [stale(&["{t}a"]), stale(&["{t}b"])]);
    s.read("CLIENT TRACKING OFF");
    s.read("CLIENT TRACKING ON OPTOUT");
    s.read("CLIENT CACHING NO");
    s.read("GET {t}a");
    s.read("GET {t}b");
    s.write("MSET {t}a 2 {t}b 2");
    assert_eq!(s.told(), [stale(&["{t}b"])]);
    s.end();
}

fn info(flags: &[&str], redirect: i64, prefixes: &[&str]) -> Reply {
    let list = |words: &[&str]| words.iter().map(|word| bulk(word)).collect();
    Reply::Map(vec![
        (bulk("flags"), Reply::Set(list(flags))),
        (bulk("redirect"), Reply::Integer(redirect)),
        (bulk("prefixes"), Reply::Array(list(prefixes))),
    ])
}

#[test]
fn broadcasts_tell_of_prefixes_in_one_message_a_unit() {
    let mut s = scene(" BCAST PREFIX a: PREFIX b:");
    assert_eq!(s.read("CLIENT TRACKINGINFO"), info(&["on", "bcast"], 0, &["a:", "b:"]));
    for line in ["MULTI", "INCR a:1{t}", "INCR a:2{t}", "INCR b:1{t}", "INCR c:1{t}", "INCR a:1{t}"] {
        s.write(line);
    }
    s.write("EXEC");
    assert_eq!(s.told(), [stale(&["a:1{t}", "a:2{t}"]), stale(&["b:1{t}"])]);
    assert_eq!(s.read("CLIENT TRACKING ON BCAST PREFIX c:").text(), "OK");
    s.write("INCR c:1");
    // Time changes keys, too.
    s.write("SET b:2 1 PX 1");
    assert_eq!(s.told(), [stale(&["c:1"]), stale(&["b:2"])]);
    assert_eq!(s.reader.read().unwrap(), stale(&["b:2"]));
    s.read("CLIENT TRACKING OFF");
    assert!(s.write("INFO").text().contains("tracking_total_prefixes:0"));
    s.read("CLIENT TRACKING ON BCAST");
    s.write("MSET x 1 y 2");
    assert_eq!(s.told(), [stale(&["x", "y"])]);
    s.end();
}

#[test]
fn without_loops_a_client_hears_of_others_alone() {
    for (options, reads) in [(" NOLOOP", true), (" NOLOOP BCAST", false)] {
        let mut s = scene(options);
        if reads {
            s.read("MGET {t}1 {t}2 {t}3");
        }
        s.write("SET {t}1 1");
        assert_eq!(s.told(), [stale(&["{t}1"])]);
        s.read("SET {t}2 1");
        s.reader.command(&["EVAL", "redis.call('SET', KEYS[1], 1)", "1", "{t}2"]).unwrap();
        s.write("SET {t}3 1");
        assert_eq!(s.told(), [stale(&["{t}3"])]);
        s.end();
    }
    // The time that it set itself is not its own change.
    let mut s = scene(" NOLOOP BCAST");
    s.read("SET k v PX 1");
    assert_eq!(s.reader.read().unwrap(), stale(&["k"]));
    s.end();
}

#[test]
fn a_served_waiter_is_who_changed_the_key_and_hears_after_its_reply() {
    let mut s = scene(" NOLOOP");
    s.write("RPUSH {t}to 0");
    s.read("LRANGE {t}to 0 -1");
    s.writer.send(&["BLMOVE", "{t}from", "{t}to", "LEFT", "LEFT", "0"]).unwrap();
    wait_for_blocked(&mut connect(&s.address), 1);
    // The reader's push serves the writer, who moves the element to what the reader has read.
    s.read("RPUSH {t}from 1");
    assert_eq!(s.writer.read().unwrap().text(), "1");
    assert_eq!(s.told(), [stale(&["{t}to"])]);
    s.read("CLIENT TRACKING OFF");
    s.read("CLIENT TRACKING ON");
    s.read("LRANGE {t}to 0 -1");
    s.reader.send(&["BLMOVE", "{t}from", "{t}to", "LEFT", "LEFT", "0"]).unwrap();
    wait_for_blocked(&mut connect(&s.address), 1);
    s.write("RPUSH {t}from 2");
    assert_eq!(s.reader.read().unwrap().text(), "2");
    assert_eq!(s.reader.read().unwrap(), stale(&["{t}to"]));
    s.end();
}

#[test]
fn another_connection_hears_in_its_place() {
    let mut s = scene("");
    let mut ear = connect(&s.address);
    let id = ask(&mut ear, "CLIENT ID").integer().unwrap();
    // In RESP2 it must be a subscriber, of whatever.
    ask(&mut ear, "SUBSCRIBE __redis__:invalidate");
    ask(&mut s.writer, "SET a 1");
    s.read(&format!("CLIENT TRACKING ON REDIRECT {id}"));
    assert_eq!(s.read("CLIENT GETREDIR").integer(), Some(id));
    let client = ask(&mut s.reader, "CLIENT INFO").text();
    assert!(client.contains(" flags=t ") && client.contains(&format!(" redir={id} ")), "{client}");
    s.read("GET a");
    s.write("SET a 2");
    let message = |what: Reply| Reply::Array(vec![bulk("message"), bulk("__redis__:invalidate"), what]);
    assert_eq!(ear.read().unwrap(), message(Reply::Array(vec![bulk("a")])));
    s.write("FLUSHALL");
    assert_eq!(ear.read().unwrap(), message(Reply::Nil));
    assert_eq!(s.told(), []);
    // In RESP3 it hears pushes, subscriber or not.
    ask(&mut ear, "RESET");
    ask(&mut ear, "HELLO 3");
    s.read("GET a");
    s.write("SET a 2");
    assert_eq!(ear.read().unwrap(), stale(&["a"]));
    // Once it has left, who tracks hears of that.
    s.read("GET a");
    s.write(&format!("CLIENT KILL ID {id}"));
    s.write("SET a 3");
    let broken = Reply::Push(vec![bulk("tracking-redir-broken"), Reply::Integer(id)]);
    assert_eq!(s.told(), [broken]);
    assert_eq!(s.read("CLIENT TRACKINGINFO"), info(&["on", "broken_redirect"], id, &[]));
    s.end();
}

#[test]
fn what_is_stale_is_told_to_who_wants_no_replies() {
    let mut s = scene("");
    s.read("GET a");
    s.reader.send(&["CLIENT", "REPLY", "OFF"]).unwrap();
    s.write("SET a 1");
    assert_eq!(s.reader.read().unwrap(), stale(&["a"]));
    s.reader.send(&["SUBSCRIBE", "news"]).unwrap();
    assert!(matches!(s.reader.read().unwrap(), Reply::Push(_)));
    s.reader.send(&["PING"]).unwrap();
    assert_eq!(s.read("CLIENT REPLY ON").text(), "OK");
    s.end();
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let mut s = scene("");
    s.read("CLIENT TRACKING OFF");
    let opt_in_needed = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
    for (line, expected) in [
        ("CLIENT CACHING YES", "ERR CLIENT CACHING can be called only when the client is in tracking mode"),
        ("CLIENT TRACKING MAYBE", "ERR syntax error"),
        ("CLIENT TRACKING ON PREFIX", "ERR syntax error"),
        ("CLIENT TRACKING ON PREFIX a", "ERR PREFIX option requires BCAST mode to be enabled"),
        ("CLIENT TRACKING ON BCAST OPTIN", "ERR OPTIN and OPTOUT are not compatible with BCAST"),
        ("CLIENT TRACKING ON OPTIN OPTOUT", "ERR You can't specify both OPTIN mode and OPTOUT mode"),
        ("CLIENT TRACKING ON REDIRECT 12345", "ERR The client ID you want redirect to does not exist"),
        ("CLIENT TRACKING ON REDIRECT x", "ERR value is not an integer or out of range"),
        (
            "CLIENT TRACKING ON BCAST PREFIX FOOBAR PREFIX FOO",
            "ERR Prefix 'FOOBAR' overlaps with another provided prefix 'FOO'",
        ),
        ("CLIENT TRACKING ON BCAST PREFIX FOO PREFIX BAR", ""),
        ("CLIENT TRACKING ON BCAST PREFIX FO", "ERR Prefix 'FO' overlaps with an existing prefix 'FOO'"),
        ("CLIENT TRACKING ON", "ERR You can't switch BCAST mode on/off before disabling tracking"),
        ("CLIENT TRACKING OFF", ""),
        ("CLIENT TRACKING ON OPTOUT", ""),
        ("CLIENT TRACKING ON OPTIN", "ERR You can't switch OPTIN/OPTOUT mode before disabling"),
        ("CLIENT CACHING YES", opt_in_needed),
        ("CLIENT CACHING x", "ERR syntax error"),
    ] {
        match (s.read(line), expected) {
            (Reply::Status(_), "") => {}
            (Reply::Error(text), expected) if !expected.is_empty() && text.starts_with(expected) => {}
            (reply, _) => panic!("{line}: {reply:?}"),
        }
    }
    assert_eq!(s.read("RESET").text(), "RESET");
    assert_eq!(ask(&mut s.reader, "CLIENT GETREDIR").integer(), Some(-1));
    assert!(s.write("INFO clients").text().contains("tracking_clients:0"));
    s.end();
}

#[test]
fn a_full_table_lets_keys_go_and_says_so() {
    let mut s = scene("");
    s.write("CONFIG SET tracking-table-max-keys 10");
    let mut told_of = HashSet::new();
    for i in 0..200 {
        s.reader.send(&["GET", &format!("k{i}")]).unwrap();
        while let Reply::Push(parts) = s.reader.read().unwrap() {
            assert!(told_of.insert(parts[1].items()[0].text()));
        }
    }
    let total = |s: &mut Scene| {
        let text = s.write("INFO stats").text();
        let line = text.lines().find_map(|line| line.strip_prefix("tracking_total_keys:")).unwrap();
        line.parse::<usize>().unwrap()
    };
    told(&mut s.reader).iter().for_each(|push| assert!(told_of.insert(push_key(push))));
    assert_eq!((total(&mut s), told_of.len()), (10, 190));
    // Without a command of its own, too.
    s.write("CONFIG SET tracking-table-max-keys 1");
    for _ in 0..9 {
        let push = s.reader.read().unwrap();
        assert!(told_of.insert(push_key(&push)));
    }
    assert_eq!((total(&mut s), told(&mut s.reader).len()), (1, 0));
    s.end();
}

fn push_key(push: &Reply) -> String {
    push.items()[1].items()[0].text()
}

#[test]
fn who_reads_nothing_is_told_once_that_all_is_stale() {
    let mut s = scene(" BCAST");
    let long = "k".repeat(1 << 20);
    // More than the sockets and the backlog hold.
    for i in 0..60 {
        s.write(&format!("SET {long}{i} 1"));
    }
    s.write("SET last 1");
    let told = s.told();
    assert!(told.len() < 60 && told.last() == Some(&all_stale()), "{}", told.len());
    s.write("SET more 1");
    assert_eq!(s.told(), [stale(&["more"])]);
    s.end();
}

const KEYS: usize = 12;
const READERS: usize = 3;
const WRITERS: usize = 3;
const STEPS: usize = 1_200;

/// Counters that only grow, so that a stale value is a smaller one.
fn key(at: usize) -> String {
    format!("counter:{at}")
}

/// A client with a cache of its own that follows the protocol.
struct Caching {
    client: RespClient,
    cache: HashMap<String, i64>,
    opts_in: bool,
}

impl Caching {
    fn new(address: &str, options: &str) -> Self {
        let mut client = connect(address);
        ask(&mut client, "HELLO 3");
        assert_eq!(ask(&mut client, &format!("CLIENT TRACKING ON{options}")).text(), "OK");
        Self { client, cache: HashMap::new(), opts_in: options.contains("OPTIN") }
    }

    /// The next reply; what is told before it is forgotten from the cache.
    fn reply(&mut self) -> Reply {
        loop {
            match self.client.read().unwrap() {
                Reply::Push(parts) if parts[1] == Reply::Nil => self.cache.clear(),
                Reply::Push(parts) => {
                    self.cache.retain(|key, _| !parts[1].items().contains(&bulk(key)));
                }
                reply => return reply,
            }
        }
    }

    fn get(&mut self, key: &str) -> i64 {
        if self.opts_in {
            self.client.send(&["CLIENT", "CACHING", "YES"]).unwrap();
            assert_eq!(self.reply().text(), "OK");
        }
        self.client.send(&["GET", key]).unwrap();
        let value = self.reply().text().parse().unwrap_or(0);
        self.cache.insert(key.to_owned(), value);
        value
    }

    fn sync(&mut self) {
        self.client.send(&["PING"]).unwrap();
        assert_eq!(self.reply().text(), "PONG");
    }
}

/// Makes one change or two; what is acknowledged by the time that it returns.
fn grow(client: &mut RespClient, rng: &mut fastrand::Rng, acknowledged: &[AtomicI64]) {
    let (a, b) = (rng.usize(..KEYS), rng.usize(..KEYS));
    let acknowledge = |at: usize, value: Option<i64>| {
        acknowledged[at].fetch_max(value.expect("a counter's reply"), SeqCst);
    };
    match rng.u8(..4) {
        0 | 1 => acknowledge(a, ask(client, &format!("INCR {}", key(a))).integer()),
        2 => {
            ask(client, "MULTI");
            ask(client, &format!("INCR {}", key(a)));
            ask(client, &format!("INCR {}", key(b)));
            let replies = ask(client, "EXEC");
            acknowledge(a, replies.items()[0].integer());
            acknowledge(b, replies.items()[1].integer());
        }
        // Keys that are not declared: the run may start over.
        _ => {
            let script = "local a = redis.call('INCR', ARGV[1]) return {a, redis.call('INCR', ARGV[2])}";
            let replies = client.command(&["EVAL", script, "0", &key(a), &key(b)]).unwrap();
            acknowledge(a, replies.items()[0].integer());
            acknowledge(b, replies.items()[1].integer());
        }
    }
}

/// Claim: what was acknowledged before a client asks is not in its cache any more in an older form once it has the
/// reply.
fn look(caching: &mut Caching, rng: &mut fastrand::Rng, acknowledged: &[AtomicI64]) {
    let at = rng.usize(..KEYS);
    let floor = acknowledged[at].load(SeqCst);
    if rng.bool() {
        let value = caching.get(&key(at));
        assert!(value >= floor, "{}: read {value} after {floor}", key(at));
    } else {
        caching.sync();
        if let Some(value) = caching.cache.get(&key(at)) {
            assert!(*value >= floor, "{}: cached {value} after {floor}", key(at));
        }
    }
}

#[test]
fn a_cache_that_follows_the_protocol_is_never_behind_what_was_acknowledged() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    for options in ["", " OPTIN", " NOLOOP", " BCAST PREFIX counter:"] {
        let dir = tempfile::tempdir().unwrap();
        let (server, address) = start(&dir, &[NO_FILE, ("loops", "3"), ("tracking-table-max-keys", "9")]);
        let acknowledged: Vec<AtomicI64> = (0..KEYS).map(|_| AtomicI64::new(0)).collect();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS as u64)
                .map(|reader| {
                    let (address, acknowledged, is_over) = (&address, &acknowledged, &is_over);
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(seed ^ reader);
                        let mut caching = Caching::new(address, options);
                        while !is_over.load(SeqCst) {
                            look(&mut caching, &mut rng, acknowledged);
                        }
                        caching
                    })
                })
                .collect();
            let writers: Vec<_> = (0..WRITERS as u64)
                .map(|writer| {
                    let (address, acknowledged) = (&address, &acknowledged);
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(seed ^ (writer << 32));
                        let mut client = connect(address);
                        (0..STEPS).for_each(|_| grow(&mut client, &mut rng, acknowledged));
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            is_over.store(true, SeqCst);
            for reader in readers {
                let mut caching = reader.join().unwrap();
                caching.sync();
                for (key, value) in &caching.cache {
                    let at: usize = key.strip_prefix("counter:").unwrap().parse().unwrap();
                    assert_eq!(*value, acknowledged[at].load(SeqCst), "{options} {key}");
                }
            }
        });
        server.shutdown().unwrap();
    }
}
