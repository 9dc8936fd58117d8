//! Claims about MIGRATE, between two stores and to peers that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;

use thali_testkit::Reply;

mod harness;

use harness::{ask, connect, start};

const NO_FILE: (&str, &str) = ("appendonly", "no");

fn ok() -> Reply {
    Reply::Status("OK".into())
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

#[test]
fn keys_move_with_their_times_to_live() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    let (other, other_address) = start(&other_dir, &[NO_FILE, ("requirepass", "secret")]);
    let (mut here, mut there) = (connect(&address), connect(&other_address));
    ask(&mut there, "AUTH secret");
    ask(&mut there, "SELECT 3");
    let to = port(&other_address).to_owned();
    ask(&mut here, "RPUSH l a b c");
    ask(&mut here, "SET k v PX 100000");
    let move_all = ["MIGRATE", "127.0.0.1", &to, "", "3", "5000", "AUTH", "secret", "KEYS", "l", "none", "k"];
    assert_eq!(here.command(&move_all).unwrap(), ok());
    assert_eq!(ask(&mut here, "EXISTS l k").integer(), Some(0));
    assert_eq!(ask(&mut there, "LRANGE l 0 -1").items().len(), 3);
    let ttl_ms = ask(&mut there, "PTTL k").integer().unwrap();
    assert!((1..=100_000).contains(&ttl_ms), "{ttl_ms}");
    assert_eq!(here.command(&move_all).unwrap(), Reply::Status("NOKEY".into()));
    // A copy stays; what is there already is replaced only when asked.
    ask(&mut here, "SET k new");
    let copy = format!("MIGRATE 127.0.0.1 {to} k 3 5000 COPY AUTH2 default secret");
    assert!(matches!(ask(&mut here, &copy), Reply::Error(text) if text.contains("BUSYKEY")));
    assert_eq!(ask(&mut here, &format!("{copy} REPLACE")), ok());
    assert_eq!(
        (ask(&mut here, "GET k").text(), ask(&mut there, "GET k").text()),
        ("new".into(), "new".into())
    );
    let refused = ask(&mut here, &format!("MIGRATE 127.0.0.1 {to} k 3 5000 REPLACE AUTH wrong"));
    assert!(
        matches!(&refused, Reply::Error(text) if text.starts_with("ERR Target instance replied with error: WRONGPASS")),
        "{refused:?}"
    );
    assert_eq!(ask(&mut here, "EXISTS k").integer(), Some(1));
    drop((here, there));
    server.shutdown().unwrap();
    other.shutdown().unwrap();
    // What was moved is not in the file any more.
    let (server, address) = start(&dir, &[("appendonly", "yes")]);
    assert_eq!(ask(&mut connect(&address), "EXISTS l").integer(), Some(0));
    server.shutdown().unwrap();
}

#[test]
fn while_keys_are_on_their_way_others_go_on_and_what_they_change_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap().port().to_string();
    let (mut moving, mut other) = (connect(&address), connect(&address));
    ask(&mut other, "MSET {t}a 1 {t}b 2 {t}c 3");
    moving.send(&["MIGRATE", "127.0.0.1", &to, "", "0", "10000", "KEYS", "{t}a", "{t}b", "{t}c"]).unwrap();
    let (mut stream, _) = peer.accept().unwrap();
    let mut sent = Vec::new();
    while sent.windows(7).filter(|word| *word == b"RESTORE").count() < 3 || !sent.ends_with(b"\r\n") {
        let mut piece = [0; 4096];
        let len = stream.read(&mut piece).unwrap();
        sent.extend_from_slice(&piece[..len]);
    }
    // Nothing is locked, and nothing is gone yet.
    assert_eq!(ask(&mut other, "GET {t}a").text(), "1");
    ask(&mut other, "SET {t}b changed");
    stream.write_all(b"+OK\r\n+OK\r\n+OK\r\n-ERR no room\r\n").unwrap();
    let reply = moving.read().unwrap();
    assert!(
        matches!(&reply, Reply::Error(text) if text == "ERR Target instance replied with error: ERR no room"),
        "{reply:?}"
    );
    assert_eq!(ask(&mut other, "EXISTS {t}a").integer(), Some(0));
    assert_eq!(ask(&mut other, "MGET {t}b {t}c").items()[0].text(), "changed");
    assert_eq!(ask(&mut moving, "GET {t}c").text(), "3");
    server.shutdown().unwrap();
}

#[test]
fn peers_that_are_away_or_end_early_cost_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap().port().to_string();
    let mut client = connect(&address);
    ask(&mut client, "SET k v");
    let request = format!("MIGRATE 127.0.0.1 {to} k 0 5000");
    client.send(&request.split(' ').collect::<Vec<_>>()).unwrap();
    drop(peer.accept().unwrap());
    let text = "IOERR error or timeout reading from target instance";
    let is_io_error =
        |reply: Reply| matches!(reply, Reply::Error(text) if text.starts_with("IOERR error or timeout "));
    let reply = client.read().unwrap();
    assert!(is_io_error(reply), "{text}");
    client.send(&format!("MIGRATE 127.0.0.1 {to} k 0 50").split(' ').collect::<Vec<_>>()).unwrap();
    let silent = peer.accept().unwrap();
    assert_eq!(client.read().unwrap(), Reply::Error(text.into()));
    drop((silent, peer));
    assert!(is_io_error(ask(&mut client, &request)));
    assert_eq!(ask(&mut client, "GET k").text(), "v");
    ask(&mut client, "MULTI");
    assert!(matches!(ask(&mut client, &request), Reply::Error(_)));
    assert!(matches!(ask(&mut client, "EXEC"), Reply::Error(text) if text.starts_with("EXECABORT")));
    server.shutdown().unwrap();
}
