//! The same journals by one thread and by several.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fastrand::Rng;
use thali_data::Limits;
use thali_journal::{Journal, JournalConfig, RealDisk, encode_request};
use thali_keyspace::{ENDLESS, Uses};

use super::chunk::{Chunk, Known};
use super::*;
use crate::digest::Digest;
use crate::loading::GIVEN_UP;
use crate::table::{self, Handler};

const DBS: u32 = 3;
const NOW_MS: u64 = 1_700_000_000_000;
const SHARDS: usize = 64;
const THREADS: [usize; 3] = [1, 2, 5];
const INCREMENT: &str = "appendonly.aof.1.incr.aof";

type Request = Vec<String>;
/// Of each key: when it vanishes, and a digest of its value.
type Content = BTreeMap<(u32, Vec<u8>), (Option<u64>, Digest)>;

fn words(line: &str) -> Request {
    line.split(' ').map(str::to_owned).collect()
}

fn content(keyspace: &Keyspace) -> Content {
    let locked = keyspace.lock_all(ENDLESS).unwrap();
    let mut content = Content::new();
    for number in 0..DBS {
        for db in locked.shards().filter_map(|(_, shard)| shard.db(number)) {
            let entries = db
                .iter()
                .map(|(key, entry)| ((number, key.to_vec()), (entry.expire_at(), Digest::of_entry(entry))));
            content.extend(entries);
        }
    }
    content
}

fn with_target<R>(
    keyspace: &Keyspace,
    gives_up: &(dyn Fn() -> bool + Sync),
    run: impl FnOnce(&Target<'_>) -> R,
) -> R {
    run(&Target {
        keyspace,
        limits: &Limits::default(),
        uses: Uses::new(NOW_MS, None),
        dbs_len: DBS,
        expired_before_ms: None,
        source_len: 0,
        replaces: false,
        delay: Duration::ZERO,
        gives_up,
        read: &AtomicU64::new(0),
    })
}

/// Loads the folder's journal; gives what came of it, and the content.
fn load(
    dir: &Path,
    threads: usize,
    gives_up: &(dyn Fn() -> bool + Sync),
) -> (Result<u64, JournalError>, Content) {
    let (journal, recovery) = Journal::open(JournalConfig::new(dir), Arc::new(RealDisk)).unwrap();
    let keyspace = Keyspace::new(SHARDS);
    let report = with_target(&keyspace, gives_up, |target| {
        replay_by(threads, recovery, target, NOW_MS, &mut Loader::without_server())
    });
    drop(journal);
    (report.map(|report| report.records), content(&keyspace))
}

/// A folder with a file as redis-server writes it, of these bytes.
fn folder_with(bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("appendonlydir");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("appendonly.aof.manifest"), format!("file {INCREMENT} seq 1 type i\n")).unwrap();
    fs::write(files.join(INCREMENT), bytes).unwrap();
    dir
}

fn encode(request: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, &request.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    bytes
}

/// A store of one thread without dealing: it says which requests may stand in a journal.
struct Model(Keyspace);

impl Model {
    fn apply(&self, db: u32, request: &[String]) -> bool {
        let args: Vec<&[u8]> = request.iter().map(|word| word.as_bytes()).collect();
        let row = table::find(args[0]).unwrap();
        let Handler::Data(run) = row.handler else { panic!("{} is no data command", row.spec.name) };
        assert!(row.spec.arity_fits(args.len()), "{request:?}");
        let mut chunk = Chunk::new(0..SHARDS as ShardId);
        chunk.push(Known { at: (0, 0), db, name: row.spec.name, run, key: None }, &args);
        with_target(&self.0, &|| false, |target| Applier { target, now_ms: NOW_MS }.run(&chunk).is_ok())
    }
}

/// Requests on one key or more, of all types; `{n}` stands for a number, `{k}` for one that names keys, `{d}` for
/// a database.
const SINGLE: &[&str] = &[
    "SET s{k} value-{n}-longer-than-fits-inline",
    "SET s{k} {n}",
    "SET s{k} v PXAT 17000000{n}000",
    "APPEND s{k} {n}",
    "INCRBY c{k} {n}",
    "INCRBYFLOAT c{k} {n}.5",
    "SETRANGE s{k} 20 {n}",
    "SETBIT b{k} {n} 1",
    "PFADD p{k} {n}",
    "GETDEL s{k}",
    "HSET h{k} f{n} {n} g {n}",
    "HINCRBY h{k} n {n}",
    "HDEL h{k} f{n} g",
    "RPUSH l{k} {n} b c",
    "LPUSH l{k} {n}",
    "LPOP l{k}",
    "LTRIM l{k} 0 50",
    "SADD S{k} m{n} m2",
    "SREM S{k} m{n}",
    "ZADD z{k} {n} m{n} 1 a",
    "ZINCRBY z{k} 2 m{n}",
    "ZREM z{k} m{n}",
    "XADD x{k} {n}-{n} f {n}",
    "XTRIM x{k} MAXLEN 10",
    "XGROUP CREATE x{k} g{n} 0 MKSTREAM",
    "PEXPIREAT h{k} 1700000{n}000",
    "PEXPIREAT s{k} 1900000{n}000",
    "PERSIST s{k}",
    "DEL s{k}",
    "UNLINK z{k}",
];
const SEVERAL: &[&str] = &[
    "MSET s{k} {n} s{k} b s{k} c",
    "DEL s{k} h{k} l{k}",
    "RENAME s{k} s{k}",
    "RENAME l{k} l{k}",
    "COPY h{k} h{k} REPLACE",
    "COPY z{k} z{k} DB {d} REPLACE",
    "MOVE s{k} {d}",
    "LMOVE l{k} l{k} LEFT RIGHT",
    "SMOVE S{k} S{k} m2",
    "SUNIONSTORE S{k} S{k} S{k}",
    "ZUNIONSTORE z{k} 2 z{k} z{k}",
    "BITOP XOR b{k} b{k} s{k}",
    "PFMERGE p{k} p{k}",
];
const WHOLE: &[&str] = &["FLUSHDB", "SWAPDB 0 {d}", "SWAPDB 1 2"];

fn draw(rng: &mut Rng, several_of_1000: u32) -> Request {
    let chosen = match rng.u32(..1000) {
        0 if several_of_1000 > 0 => rng.choice(WHOLE),
        drawn if drawn <= several_of_1000 => rng.choice(SEVERAL),
        _ => rng.choice(SINGLE),
    };
    let mut text = (*chosen.unwrap()).to_owned();
    for (hole, bound) in [("{k}", 150), ("{n}", 1000), ("{d}", DBS)] {
        while text.contains(hole) {
            text = text.replacen(hole, &rng.u32(..bound).to_string(), 1);
        }
    }
    words(&text)
}

/// Writes a journal of so many requests; gives what it makes of an empty keyspace.
fn write_journal(dir: &Path, rng: &mut Rng, several_of_1000: u32, requests_len: usize) -> Content {
    let (journal, recovery) = Journal::open(JournalConfig::new(dir), Arc::new(RealDisk)).unwrap();
    recovery.replay(&mut |_| Ok(())).unwrap();
    let model = Model(Keyspace::new(SHARDS));
    let mut written = 0;
    while written < requests_len {
        let mut group = Vec::new();
        for _ in 0..[1, 1, 1, rng.usize(2..20)][rng.usize(..4)] {
            let (db, request) = (rng.u32(..DBS), draw(rng, several_of_1000));
            if model.apply(db, &request) {
                group.push((db, encode(&request)));
            }
        }
        written += group.len();
        journal.append(group.iter().map(|(db, bytes)| (*db, &bytes[..])), true);
    }
    journal.close().unwrap();
    content(&model.0)
}

#[test]
fn random_journals_load_the_same_by_any_number_of_threads() {
    for seed in 0..8 {
        let mut rng = Rng::with_seed(seed);
        // From none to hardly anything else, so that stretches begin, grow, end and never end.
        let several_of_1000 = [0, 2, 30, 500][seed as usize % 4];
        let dir = tempfile::tempdir().unwrap();
        let expected = write_journal(dir.path(), &mut rng, several_of_1000, 20_000);
        assert!(expected.len() > 100, "seed {seed}: {} keys", expected.len());
        assert!(expected.values().any(|(at, _)| at.is_some_and(|at| at < NOW_MS)), "seed {seed}");
        for threads in THREADS {
            let (loaded, content) = load(dir.path(), threads, &|| false);
            assert!(loaded.unwrap() >= 20_000, "seed {seed}");
            if let Some((key, _)) = expected.iter().find(|(key, value)| content.get(key) != Some(value)) {
                panic!("seed {seed}, {threads} threads: {key:?} differs");
            }
            assert_eq!(content.len(), expected.len(), "seed {seed}, {threads} threads");
        }
    }
}

/// What the load by each number of threads says.
fn refusals(bytes: &[u8]) -> Vec<(u64, String)> {
    let load = |threads: &usize| match load(folder_with(bytes).path(), *threads, &|| false).0 {
        Err(JournalError::Rejected { offset, why, .. }) => (offset, why),
        other => panic!("{threads} threads: {other:?}"),
    };
    THREADS.iter().map(load).collect()
}

#[test]
fn of_requests_that_cannot_be_applied_the_first_one_is_told() {
    let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
    for seed in 0..30 {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = encode(&words("RPUSH list a"));
        let mut first = None;
        // The last ones stand close together and in many shards.
        let bad_from = rng.usize(..6000);
        for at in 0..6000 {
            let is_bad = at >= bad_from && rng.u8(..3) == 0;
            if is_bad {
                let offset = bytes.len() as u64;
                bytes.extend(encode(&words(&format!("RPUSH l{at} a"))));
                // In a transaction the offset is that of its beginning.
                let begin = if rng.bool() {
                    let begin = bytes.len() as u64;
                    bytes.extend(encode(&words("MULTI")));
                    bytes.extend(encode(&words(&format!("INCR l{at}"))));
                    bytes.extend(encode(&words("NOSUCHCOMMAND")));
                    bytes.extend(encode(&words("EXEC")));
                    begin
                } else {
                    let begin = bytes.len() as u64;
                    bytes.extend(encode(&words(&format!("INCR l{at}"))));
                    begin
                };
                assert!(begin > offset);
                first.get_or_insert(begin);
            } else {
                let line =
                    if rng.u16(..1000) == 0 { "MSET a 1 b 2 c 3 d 4" } else { &format!("SET k{at} {at}") };
                bytes.extend(encode(&words(line)));
            }
        }
        let Some(first) = first else { continue };
        // An end that would be refused for itself, and a reader's error, stand behind.
        match rng.u8(..3) {
            0 => bytes.extend(b"*1\r\n$x\r\n"),
            1 => bytes.extend(encode(&words("NOSUCHCOMMAND"))),
            _ => {}
        }
        for refusal in refusals(&bytes) {
            assert_eq!(refusal, (first, wrong_type.into()), "seed {seed}");
        }
    }
}

#[test]
fn what_no_journal_may_hold_is_refused_where_it_stands() {
    let good = encode(&words("SET a 1"));
    for (line, why) in [
        ("NOSUCHCOMMAND a", "Unknown command 'NOSUCHCOMMAND' reading the append only file"),
        ("INFO", "'info' does not belong into a journal"),
        ("SET a", "wrong number of arguments for 'set' command"),
        ("BLPOP nokey 0", "'blpop' found nothing to take"),
    ] {
        let bytes = [&good[..], &encode(&words(line)), &good].concat();
        for refusal in refusals(&bytes) {
            assert_eq!(refusal, (good.len() as u64, why.into()));
        }
    }
    let bytes = [encode(&words("SELECT 3")), good].concat();
    for (_, why) in refusals(&bytes) {
        assert_eq!(why, "a request for database 3, and 'databases' is 3: raise it");
    }
}

#[test]
fn giving_up_ends_the_load() {
    let bytes: Vec<u8> = (0..20_000).flat_map(|at| encode(&words(&format!("SET k{at} {at}")))).collect();
    for threads in THREADS {
        let dir = folder_with(&bytes);
        let asked = AtomicUsize::new(0);
        let (loaded, content) = load(dir.path(), threads, &|| asked.fetch_add(1, SeqCst) >= 5);
        match loaded {
            Err(JournalError::Rejected { why, .. }) => assert_eq!(why, GIVEN_UP),
            other => panic!("{threads} threads: {other:?}"),
        }
        assert!(content.len() < 20_000 && asked.load(SeqCst) == 6, "{} keys", content.len());
        // The file is as it was.
        assert_eq!(load(dir.path(), threads, &|| false).1.len(), 20_000);
    }
}

#[test]
fn each_shard_has_one_part() {
    for (of, len) in [(64, 1), (64, 2), (64, 3), (64, 5), (32, 32), (4096, 100)] {
        let parts = Parts { len, of };
        let covered: Vec<ShardId> = (0..len).flat_map(|part| parts.shards(part)).collect();
        assert!(covered.iter().copied().eq(parts.all()));
        for part in 0..len {
            assert!(!parts.shards(part).is_empty());
            assert!(parts.shards(part).all(|shard| parts.part_of(shard) == part), "{len} of {of}");
        }
    }
}
