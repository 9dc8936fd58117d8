//! Forms that only older servers wrote, read here and by redis-server alike.

use thali_data::Limits;
use thali_rdb::{Checksum, restore};
use thali_testkit::{Reply, RespClient, start_redis};

mod support;
use support::text_of;

/// A string of less than 64 bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

fn payload(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut payload = [&[kind][..], body, b"\x06\0"].concat();
    payload.extend(Checksum::of(&payload).to_le_bytes());
    payload
}

/// Small integers and short strings.
fn ziplist(items: &[&str]) -> Vec<u8> {
    let mut out = vec![0; 10];
    let (mut last_at, mut before) = (10, 0);
    for item in items {
        last_at = out.len();
        out.push(before);
        match item.parse::<u8>() {
            Ok(n @ 0..=12) => out.push(0xF1 + n),
            Ok(n) => out.extend_from_slice(&[0xC0, n, 0]),
            Err(_) => out.extend(string(item.as_bytes())),
        }
        before = (out.len() - last_at) as u8;
    }
    out.push(0xFF);
    let total = out.len() as u8;
    (out[0], out[4], out[8]) = (total, last_at as u8, items.len() as u8);
    out
}

fn listpack(items: &[&str]) -> Vec<u8> {
    let mut out = vec![0; 6];
    for item in items {
        let start = out.len();
        match item.parse::<u8>() {
            Ok(n @ 0..=127) => out.push(n),
            _ => {
                out.push(0x80 | item.len() as u8);
                out.extend_from_slice(item.as_bytes());
            }
        }
        out.push((out.len() - start) as u8);
    }
    out.push(0xFF);
    (out[0], out[4]) = (out.len() as u8, items.len() as u8);
    out
}

/// A stream as Redis 5 wrote it: one node, a group, a consumer with a pending entry.
fn stream() -> Vec<u8> {
    let id = |seq: u8| [&[0; 7][..], &[5], &[0; 7], &[seq]].concat();
    let time = 1_700_000_000_000u64.to_le_bytes();
    let node = ["2", "1", "1", "name", "0"];
    let entries =
        ["2", "0", "0", "a", "4", "3", "0", "1", "gone", "4", "0", "0", "2", "1", "other", "b", "6"];
    let node = listpack(&[&node[..], &entries].concat());
    let nodes =
        [&[1][..], &string(&id(1)), &[0x40 | (node.len() >> 8) as u8, node.len() as u8], &node].concat();
    let group = [&[1][..], b"\x01g", &[5, 1], &[1], &id(1), &time, &[3]].concat();
    let consumer = [&[1][..], b"\x05alice", &time, &[1], &id(1)].concat();
    [&nodes[..], &[2, 5, 3], &group, &consumer].concat()
}

#[test]
fn old_forms_read_as_redis_reads_them() {
    let server = start_redis(&["--sanitize-dump-payload", "yes"]).unwrap();
    let mut there = RespClient::connect(&server.store).unwrap();
    let two = |a: &[&str], b: &[&str]| [&[2][..], &string(&ziplist(a)), &string(&ziplist(b))].concat();
    for (name, kind, body) in [
        ("list", 1, b"\x03\x01a\xC0\x05\xC3\x04\x04\0a\x20\x00".to_vec()),
        ("zset with scores as text", 3, b"\x04\x01a\x031.5\x01b\xFE\x01c\xFF\x01d\x02-7".to_vec()),
        ("zipmap", 9, string(b"\x02\x01a\x01\x00b\x03foo\x03\x01bar?\xFF")),
        ("list ziplist", 10, string(&ziplist(&["a", "5", "100", "text"]))),
        ("intset", 11, string(b"\x02\0\0\0\x02\0\0\0\xFF\xFF\x05\0")),
        ("zset ziplist", 12, string(&ziplist(&["b", "1", "a", "1.5"]))),
        ("hash ziplist", 13, string(&ziplist(&["a", "1", "b", "text"]))),
        ("quicklist of ziplists", 14, two(&["a", "5"], &["100", "text"])),
        ("stream", 15, stream()),
        ("hash listpack", 16, string(&listpack(&["a", "1", "b", "text"]))),
        ("zset listpack", 17, string(&listpack(&["b", "1", "a", "1.5"]))),
        (
            "quicklist with a plain node",
            18,
            [&[2, 1][..], b"\x05plain\x02", &string(&listpack(&["1"]))].concat(),
        ),
    ] {
        let payload = payload(kind, &body);
        let ours = restore(&payload, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let reply = there.command(&[b"RESTORE", name.as_bytes(), b"0", &payload]).unwrap();
        assert_eq!(reply, Reply::Status("OK".into()), "{name}");
        let Reply::Bulk(theirs) = there.command(&["DUMP", name]).unwrap() else { panic!("{name} is there") };
        let theirs = restore(&theirs, &Limits::default()).unwrap();
        assert_eq!(text_of(&ours), text_of(&theirs), "{name}");
    }
}

/// The bytes of a payload as Redis 7.0.15 makes it, where there is no freedom.
#[test]
fn payloads_are_those_of_redis() {
    let server = start_redis(&[]).unwrap();
    let mut there = RespClient::connect(&server.store).unwrap();
    for command in [
        &["SET", "k", "12345"][..],
        &["SET", "k", "a text that does not shrink"],
        &["RPUSH", "k", "a", "1", "300"],
        &["SADD", "k", "1", "70000"],
        &["HSET", "k", "a", "1", "b", "300"],
        &["ZADD", "k", "1.5", "a", "3", "b"],
        &["XADD", "k", "5-1", "a", "1"],
    ] {
        there.command(&["DEL", "k"]).unwrap();
        there.command(command).unwrap();
        let Reply::Bulk(theirs) = there.command(&["DUMP", "k"]).unwrap() else { panic!("k is there") };
        let value = restore(&theirs, &Limits::default()).unwrap();
        let ours = thali_rdb::Encoder::new(thali_rdb::Version::V10).dump(&value);
        assert_eq!(ours, theirs, "{command:?}");
    }
}
