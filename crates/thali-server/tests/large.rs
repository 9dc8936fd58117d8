//! Claims about large values: requests that come in any pieces, and replies that clients take slowly or never.

use std::time::{Duration, Instant};

use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, connect, start};

const NO_FILE: (&str, &str) = ("appendonly", "no");
/// Of values that one read may bring, and of those that need several.
const LENS: [usize; 5] = [16 << 10, 32 << 10, 64 << 10, 200_000, 1 << 20];

/// Bytes in which each place shows.
fn value(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn bulk(bytes: &[u8]) -> Reply {
    Reply::Bulk(bytes.to_vec())
}

/// Sends `bytes` in two parts that come one after the other: the second leaves when the server has the first.
fn send_cut(client: &mut RespClient, witness: &mut RespClient, bytes: &[u8], at: usize) {
    client.send_raw(&bytes[..at]).unwrap();
    ask(witness, "PING");
    client.send_raw(&bytes[at..]).unwrap();
}

#[test]
fn a_large_request_is_the_same_wherever_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops", "1")]);
    let (mut client, mut witness) = (connect(&address), connect(&address));
    for (seed, len) in LENS.into_iter().enumerate() {
        let value = value(len, seed as u8);
        let mut bytes = request(&[b"SET", b"key", &value]);
        let end = bytes.len();
        bytes.extend_from_slice(&request(&[b"GET", b"key"]));
        let begin = end - len - 2;
        // In the count, a length, its line end, the key; around and in the value; in its line end; behind it.
        for at in [1, 5, 16, begin - 2, begin - 1, begin, begin + 1, begin + len / 2].into_iter().chain([
            end - 3,
            end - 2,
            end - 1,
            end,
            end + 1,
            bytes.len() - 1,
        ]) {
            send_cut(&mut client, &mut witness, &bytes, at);
            assert_eq!(client.read().unwrap(), Reply::Status("OK".into()), "{len} {at}");
            assert_eq!(client.read().unwrap(), bulk(&value), "{len} {at}");
            ask(&mut witness, "DEL key");
        }
    }
    server.shutdown().unwrap();
}

#[test]
fn several_large_arguments_keep_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops", "1")]);
    let (mut client, mut witness) = (connect(&address), connect(&address));
    let (one, other) = (value(64 << 10, 1), value(200_000, 2));
    let mset = request(&[b"MSET", b"one", &one, b"other", &other, b"small", b"s"]);
    let mut bytes = mset.clone();
    bytes.extend_from_slice(&request(&[b"MGET", b"one", b"other", b"small"]));
    let mut unit = request(&[b"MULTI"]);
    unit.extend_from_slice(&mset);
    unit.extend_from_slice(&request(&[b"APPEND", b"one", &other]));
    unit.extend_from_slice(&request(&[b"EXEC"]));
    for at in (1..bytes.len()).step_by(bytes.len() / 7) {
        send_cut(&mut client, &mut witness, &bytes, at);
        assert_eq!(client.read().unwrap(), Reply::Status("OK".into()));
        assert_eq!(client.read().unwrap().items(), [bulk(&one), bulk(&other), bulk(b"s")], "{at}");
        ask(&mut witness, "FLUSHALL");
    }
    let both = [&one[..], &other[..]].concat();
    for at in (1..unit.len()).step_by(unit.len() / 7) {
        send_cut(&mut client, &mut witness, &unit, at);
        for expected in ["OK", "QUEUED", "QUEUED"] {
            assert_eq!(client.read().unwrap().text(), expected, "{at}");
        }
        assert_eq!(client.read().unwrap().items()[1].integer(), Some(both.len() as i64), "{at}");
        assert_eq!(ask(&mut witness, "GET one"), bulk(&both), "{at}");
        ask(&mut witness, "FLUSHALL");
    }
    server.shutdown().unwrap();
}

#[test]
fn a_client_that_dies_in_the_middle_of_a_value_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut witness = connect(&address);
    let bytes = request(&[b"SET", b"key", &value(1 << 20, 0)]);
    for at in [20, 40_000, 300_000, bytes.len() - 1] {
        let mut client = connect(&address);
        client.send_raw(&bytes[..at]).unwrap();
    }
    let alone =
        |witness: &mut RespClient| ask(witness, "INFO clients").text().contains("connected_clients:1\r\n");
    wait_until(|| alone(&mut witness));
    assert_eq!(ask(&mut witness, "EXISTS key").integer(), Some(0));
    server.shutdown().unwrap();
}

#[test]
fn a_claim_beyond_the_limits_is_refused_before_its_bytes_come() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("proto-max-bulk-len", "1mb")]);
    let mut client = connect(&address);
    client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n").unwrap();
    assert!(matches!(client.read().unwrap(), Reply::Error(text) if text.contains("invalid bulk length")));
    let mut client = connect(&address);
    ask(&mut client, "CONFIG SET requirepass secret");
    let mut stranger = connect(&address);
    stranger.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$65536\r\n").unwrap();
    assert!(matches!(stranger.read().unwrap(), Reply::Error(text) if text.contains("unauthenticated bulk")));
    server.shutdown().unwrap();
}

/// With a journal, too: under `always` each reply is held until what it tells of is synced.
#[test]
fn a_large_reply_tells_what_was_there_however_slowly_it_is_taken() {
    for settings in [&[NO_FILE][..], &[("appendonly", "yes"), ("appendfsync", "always")]] {
        let dir = tempfile::tempdir().unwrap();
        let (server, address) = start(&dir, settings);
        let (mut slow, mut other) = (connect(&address), connect(&address));
        let (small, large) = (value(64 << 10, 3), value(24 << 20, 4));
        other.command(&[b"SET", &b"small"[..], &small]).unwrap();
        other.command(&[b"SET", &b"large"[..], &large]).unwrap();
        for key in ["small", "large", "small"] {
            slow.send(&["GET", key]).unwrap();
        }
        // More than the sockets hold: the rest waits in the server.
        wait_until(|| waits_to_read(&mut other, 1 << 20));
        ask(&mut other, "SETRANGE large 0 changed");
        ask(&mut other, "SET small changed");
        ask(&mut other, "DEL large");
        assert_eq!(slow.read().unwrap(), bulk(&small));
        assert_eq!(slow.read().unwrap(), bulk(&large));
        // The client did not take what it was sent, so its third request was read later.
        assert_eq!(slow.read().unwrap(), bulk(b"changed"));
        slow.send(&[b"SET", &b"own"[..], &small]).unwrap();
        slow.send(&["GET", "own"]).unwrap();
        assert_eq!(slow.read().unwrap().text(), "OK");
        assert_eq!(slow.read().unwrap(), bulk(&small));
        server.shutdown().unwrap();
    }
}

#[test]
fn who_is_killed_or_leaves_in_the_middle_of_a_large_reply_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("loops", "1")]);
    let mut other = connect(&address);
    let large = value(24 << 20, 5);
    other.command(&[b"SET", &b"large"[..], &large]).unwrap();
    for is_killed in [true, false] {
        let mut slow = connect(&address);
        let id = ask(&mut slow, "CLIENT ID").integer().unwrap();
        slow.send(&["GET", "large"]).unwrap();
        wait_until(|| waits_to_read(&mut other, 1 << 20));
        if is_killed {
            assert_eq!(ask(&mut other, &format!("CLIENT KILL ID {id}")).integer(), Some(1));
            assert!(slow.read().is_err());
        }
        drop(slow);
        wait_until(|| ask(&mut other, "INFO clients").text().contains("connected_clients:1\r\n"));
        assert_eq!(ask(&mut other, "GET large"), bulk(&large));
    }
    server.shutdown().unwrap();
}

#[test]
fn a_large_reply_over_the_output_limit_ends_the_connection_and_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("client-output-buffer-limit", "normal 100kb 0 0")]);
    let mut client = connect(&address);
    let value = value(64 << 10, 6);
    for key in ["a", "b"] {
        client.command(&[b"SET", key.as_bytes(), &value]).unwrap();
    }
    assert_eq!(ask(&mut client, "GET a"), bulk(&value));
    client.send(&["MGET", "a", "b"]).unwrap();
    assert!(client.read().is_err());
    server.shutdown().unwrap();
}

/// Whether a client has so many bytes of replies waiting in the server.
fn waits_to_read(asking: &mut RespClient, bytes: usize) -> bool {
    let list = ask(asking, "CLIENT LIST").text();
    let waiting =
        |line: &str| line.split(' ').find_map(|field| field.strip_prefix("omem=")?.parse::<usize>().ok());
    list.lines().filter_map(waiting).any(|waiting| waiting > bytes)
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come about in a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}
