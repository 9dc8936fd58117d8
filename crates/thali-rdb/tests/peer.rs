//! Against Debian's redis-server: its files and payloads read here, ours load there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use thali_data::Limits;
use thali_keyspace::Value;
use thali_rdb::{Checksum, ChecksumVerdict, Encoder, KeyMeta, Reader, Record, Version, inspect, restore};
use thali_testkit::{Reply, RespClient, Running, start_redis};

mod support;
use support::text_of;

/// Commands that fill a server with every type in every encoding. `RAW` stands for bytes of every value.
fn filling() -> Vec<Vec<Vec<u8>>> {
    let mut all: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut add = |words: &[&str]| all.push(words.iter().map(|word| word.as_bytes().to_vec()).collect());
    for (n, value) in ["", "0", "-1", "127", "-128", "128", "32767", "-32769", "2147483647", "2147483648"]
        .into_iter()
        .chain(["-9223372036854775808", "007", "text", "a text of more than twenty bytes, not repeating"])
        .chain(["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])
        .enumerate()
    {
        add(&["SET", &format!("str:{n}"), value]);
    }
    add(&["SET", "str:expiring", "v", "PXAT", "33000000000000"]);
    add(&["APPEND", "str:appended", "1"]);
    add(&["APPEND", "str:appended", "2"]);
    add(&["SETBIT", "str:bits", "100000", "1"]);
    let long = "x".repeat(70_000);
    add(&["RPUSH", "list:small", "a", "1", "-5", "300", "70000", "9000000", "5000000000", ""]);
    add(&["RPUSH", "list:plain", "a", &long, "b"]);
    add(&["SADD", "set:int16", "1", "-5", "300"]);
    add(&["SADD", "set:int32", "1", "-70000"]);
    add(&["SADD", "set:int64", "1", "5000000000", "-9223372036854775808"]);
    add(&["SADD", "set:small", "a", "1", "b"]);
    add(&["HSET", "hash:small", "a", "1", "b", "300", "1", "text"]);
    add(&["HSET", "hash:long", "a", &long[..100]]);
    add(&["ZADD", "zset:small", "1", "a", "-2.5", "b", "inf", "c", "-inf", "d", "0.1", "e", "1e300", "f"]);
    add(&["ZADD", "zset:long", "1.5", &long[..100], "3", "1"]);
    for n in 0..1000 {
        let n = n.to_string();
        add(&["RPUSH", "list:large", &n, &format!("element {n}")]);
        add(&["SADD", "set:large", &format!("member {n}")]);
        add(&["SADD", "set:ints", &n]);
        add(&["HSET", "hash:large", &format!("field {n}"), &n]);
        add(&["ZADD", "zset:large", &format!("{n}.25"), &format!("member {n}")]);
        add(&["XADD", "stream:large", &format!("{}-{n}", 1000 + n.len()), "name", &n, "other", "same"]);
    }
    for n in 0..50 {
        let (ms, other) = (n.to_string(), format!("other{}", n % 3));
        add(&["XADD", "stream", &format!("5-{}", n + 1), &other, &ms, "1", "2"]);
    }
    for words in [
        "XDEL stream 5-1 5-7 5-50",
        "XTRIM stream:large MAXLEN 500",
        "XGROUP CREATE stream g 0",
        "XGROUP CREATE stream unread $",
        "XGROUP CREATECONSUMER stream g idle",
        "XREADGROUP GROUP g alice COUNT 7 STREAMS stream >",
        "XREADGROUP GROUP g bob COUNT 3 STREAMS stream >",
        "XACK stream g 5-3",
        "XCLAIM stream g alice 0 5-10",
        "XADD stream:empty 7-7 a b",
        "XDEL stream:empty 7-7",
        "XGROUP CREATE stream:empty g 0 ENTRIESREAD 1",
        "SELECT 9",
        "SET other-db 1",
        "SELECT 0",
    ] {
        add(&words.split(' ').collect::<Vec<_>>());
    }
    let raw: Vec<u8> = (0..=255).collect();
    all.push(vec![b"HSET".to_vec(), raw.clone(), raw.clone(), raw.clone()]);
    all
}

fn fill(client: &mut RespClient) {
    for command in filling() {
        let reply = client.command(&command).unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}");
    }
}

fn save(client: &mut RespClient, folder: &Path) -> Vec<u8> {
    assert_eq!(client.command(&["SAVE"]).unwrap(), Reply::Status("OK".into()));
    fs::read(folder.join("dump.rdb")).unwrap()
}

struct Key {
    db: u32,
    name: Vec<u8>,
    meta: KeyMeta,
    value: Value,
}

fn read(file: &[u8]) -> Vec<Key> {
    let mut reader = Reader::new(file).unwrap();
    let mut keys = Vec::new();
    loop {
        match reader.next().unwrap_or_else(|error| panic!("{error}")) {
            Record::Key(key) => keys.push(Key {
                db: key.db,
                name: key.key.to_vec(),
                meta: key.meta,
                value: key.value(&Limits::default()).unwrap().unwrap(),
            }),
            Record::End { checksum } => {
                assert_eq!(checksum, ChecksumVerdict::Verified);
                return keys;
            }
            _ => {}
        }
    }
}

fn write(keys: &[Key]) -> Vec<u8> {
    let (mut encoder, mut file, mut checksum) = (Encoder::new(Version::V10), Vec::new(), Checksum::new());
    encoder.header(&mut file);
    encoder.aux(&mut file, b"redis-ver", b"7.0.15");
    encoder.aux(&mut file, b"redis-bits", b"64");
    for key in keys {
        encoder.select_db(&mut file, key.db);
        encoder.key(&mut file, &key.name, &key.value, key.meta);
    }
    checksum.update(&file);
    encoder.end(&mut file, Some(checksum));
    file
}

/// DEBUG DIGEST of each database's content: equal for equal data, whatever its encoding.
fn digest(client: &mut RespClient) -> String {
    let reply = client.command(&["DEBUG", "DIGEST"]).unwrap();
    assert!(!reply.text().is_empty(), "{reply:?}");
    reply.text()
}

fn client(server: &Running) -> RespClient {
    RespClient::connect(&server.store).unwrap()
}

fn redis(args: &[&str]) -> Running {
    start_redis(&[&["--enable-debug-command", "yes", "--sanitize-dump-payload", "yes"], args].concat())
        .unwrap()
}

/// A server that loads this file at its start.
fn redis_on(file: &[u8]) -> (Running, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dump.rdb"), file).unwrap();
    let accepted = Command::new("redis-check-rdb").arg(folder.path().join("dump.rdb")).output().unwrap();
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stdout));
    let mut server = redis(&["--dir", folder.path().to_str().unwrap()]);
    server.process.wait_for_log("Ready to accept", Duration::from_secs(20)).unwrap();
    (server, folder)
}

#[test]
fn files_of_redis_read_here_and_ours_load_there() {
    let server = redis(&[]);
    let mut there = client(&server);
    fill(&mut there);
    for compression in ["yes", "no"] {
        there.command(&["CONFIG", "SET", "rdbcompression", compression]).unwrap();
        let keys = read(&save(&mut there, server.folder.path()));
        let size = there.command(&["DBSIZE"]).unwrap().integer().unwrap();
        assert_eq!(keys.iter().filter(|key| key.db == 0).count() as i64, size);
        for key in keys.iter().filter(|key| key.db == 0) {
            let Reply::Bulk(payload) = there.command(&[b"DUMP", &key.name[..]]).unwrap() else {
                panic!("{:?} is not there", key.name)
            };
            let restored = restore(&payload, &Limits::default()).unwrap();
            assert_eq!(text_of(&restored), text_of(&key.value), "{:?}", key.name);
            let ttl = there.command(&[b"PEXPIRETIME", &key.name[..]]).unwrap().integer().unwrap();
            assert_eq!(key.meta.expire_at_unix_ms, u64::try_from(ttl).ok(), "{:?}", key.name);
        }
        let (loaded, folder) = redis_on(&write(&keys));
        assert_eq!(digest(&mut client(&loaded)), digest(&mut there));
        // What it saves of ours reads back the same.
        let again = read(&save(&mut client(&loaded), folder.path()));
        assert_eq!(again.len(), keys.len());
        for key in &keys {
            let same = again.iter().find(|other| (&other.name, other.db) == (&key.name, key.db)).unwrap();
            assert_eq!(text_of(&same.value), text_of(&key.value), "{:?}", key.name);
            assert_eq!(same.meta, key.meta);
        }
    }
}

#[test]
fn our_values_are_what_commands_of_redis_see() {
    let server = redis(&[]);
    let mut there = client(&server);
    fill(&mut there);
    for key in read(&save(&mut there, server.folder.path())).iter().filter(|key| key.db == 0) {
        let mut ask = |words: &[&[u8]]| there.command(words).unwrap();
        let bulks = |reply: Reply| -> Vec<Vec<u8>> {
            reply.items().iter().map(|item| item.text().into_bytes()).collect()
        };
        let name = key.name.as_slice();
        if name.len() == 256 {
            continue; // the client's texts are UTF-8
        }
        match &key.value {
            Value::Str(v) => assert_eq!(ask(&[b"GET", name]), Reply::Bulk(v.to_vec())),
            Value::List(v) => {
                let elements: Vec<Vec<u8>> = v.iter().map(|element| element.to_vec()).collect();
                assert_eq!(bulks(ask(&[b"LRANGE", name, b"0", b"-1"])), elements);
            }
            Value::Set(v) => {
                let mut members: Vec<Vec<u8>> = v.iter().map(|member| member.to_vec()).collect();
                let mut theirs = bulks(ask(&[b"SMEMBERS", name]));
                members.sort();
                theirs.sort();
                assert_eq!(theirs, members);
            }
            Value::Hash(v) => {
                for (field, value) in v.iter() {
                    assert_eq!(ask(&[b"HGET", name, &field.to_vec()]), Reply::Bulk(value.to_vec()));
                }
                assert_eq!(ask(&[b"HLEN", name]).integer(), Some(v.len() as i64));
            }
            Value::SortedSet(v) => {
                let members: Vec<Vec<u8>> = v.iter().map(|(member, _)| member.to_vec()).collect();
                assert_eq!(bulks(ask(&[b"ZRANGE", name, b"0", b"-1"])), members);
                for (member, score) in v.iter() {
                    let theirs: f64 = ask(&[b"ZSCORE", name, member]).text().parse().unwrap();
                    assert_eq!(theirs, score);
                }
            }
            Value::Stream(v) => {
                assert_eq!(ask(&[b"XLEN", name]).integer(), Some(v.log.len() as i64));
                let ids: Vec<Vec<u8>> = ask(&[b"XRANGE", name, b"-", b"+"])
                    .items()
                    .iter()
                    .map(|entry| entry.items()[0].text().into_bytes())
                    .collect();
                let ours: Vec<Vec<u8>> = v
                    .log
                    .range(thali_data::stream::StreamId::MIN, thali_data::stream::StreamId::MAX)
                    .map(|entry| entry.id.text().to_vec())
                    .collect();
                assert_eq!(ids, ours);
            }
        }
    }
}

#[test]
fn our_payloads_restore_there() {
    let server = redis(&[]);
    let mut there = client(&server);
    fill(&mut there);
    let keys = read(&save(&mut there, server.folder.path()));
    let before = digest(&mut there);
    for mut encoder in [Encoder::new(Version::V10), Encoder::uncompressed(Version::V10)] {
        for key in keys.iter().filter(|key| key.db == 0) {
            let ttl = key.meta.expire_at_unix_ms.unwrap_or(0).to_string();
            let payload = encoder.dump(&key.value);
            let request: [&[u8]; 6] =
                [b"RESTORE", &key.name, ttl.as_bytes(), &payload, b"REPLACE", b"ABSTTL"];
            assert_eq!(there.command(&request).unwrap(), Reply::Status("OK".into()), "{:?}", key.name);
        }
        assert_eq!(digest(&mut there), before);
    }
}

#[test]
fn a_summary_counts_what_redis_counts() {
    let server = redis(&[]);
    let mut there = client(&server);
    fill(&mut there);
    let file = save(&mut there, server.folder.path());
    let summary = inspect(&file[..], &Limits::default()).unwrap();
    assert!(summary.damage.is_none(), "{:?}", summary.damage);
    assert_eq!((summary.version, summary.checksum), (10, Some(ChecksumVerdict::Verified)));
    assert_eq!(summary.bytes, file.len() as u64);
    let size = there.command(&["DBSIZE"]).unwrap().integer().unwrap();
    assert_eq!(summary.dbs[&0].keys, size as u64);
    assert_eq!((summary.dbs[&0].expiring, summary.dbs[&9].keys), (1, 1));
    let aux = |name: &str| summary.aux.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.clone());
    assert_eq!(aux("redis-bits"), Some(b"64".to_vec()));
    assert_eq!(summary.types["stream"].keys, 3);
}

#[test]
fn damaged_files_are_cut_to_whole_ones() {
    let server = redis(&[]);
    let mut there = client(&server);
    fill(&mut there);
    let file = save(&mut there, server.folder.path());
    let summary = inspect(&file[..file.len() / 2], &Limits::default()).unwrap();
    assert!(summary.damage.is_some());
    let mut cut = file[..summary.intact_bytes as usize].to_vec();
    cut.extend_from_slice(&summary.tail);
    assert_eq!(read(&cut).len() as u64, summary.keys());
    let (loaded, _folder) = redis_on(&cut);
    let size = client(&loaded).command(&["DBSIZE"]).unwrap().integer().unwrap();
    assert_eq!(size as u64, summary.dbs[&0].keys);
}
