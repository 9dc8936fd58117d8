//! Claims about damaged files: a file of a busy run, cut at every byte, padded with zeros, its bits flipped,
//! either heals to exactly what its whole batches hold, or stops the start with file and offset. What the
//! batches hold is found here by a reader of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod harness;

use harness::config;
use tempfile::TempDir;
use thali_journal::{Journal, JournalConfig, JournalError, RealDisk, RecoveryReport};
use thali_server::{Server, StartError};
use thali_testkit::{Reply, RespClient};

/// How much of a file's end is cut.
const TAIL: usize = 64 << 10;

/// How long what is left may be. With THALI_DAMAGE=all each length, which takes minutes; else each eleventh, and
/// each of the last 2 KiB.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let all = std::env::var("THALI_DAMAGE").is_ok_and(|value| value == "all");
    let near = if all { TAIL } else { 2 << 10 };
    (len - TAIL..len - near).step_by(11).chain(len - near..len)
}

const HEADER_LEN: usize = 48;
const INCREMENT: &str = "appendonlydir/appendonly.aof.1.incr.aof";
const COUNTERS: usize = 20;

/// In memory where possible: nothing here is about the disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Zeros in a value, in bytes at most: where a whole sector is zero, it may be one that a machine's death took.
#[derive(Clone, Copy)]
enum Zeros {
    Some = 500,
    Sectors = 2000,
}

/// Lets a few clients write until the increment is larger than the tail that is to be cut.
fn busy_run(dir: &Path, policy: &str, zeros: Zeros) -> Vec<u8> {
    // The base, of nothing, as requests: whoever reads it back here knows no other form.
    let settings = [("appendonly", "yes"), ("appendfsync", policy), ("aof-use-rdb-preamble", "no")];
    let server = Server::start(config(dir, &settings)).unwrap();
    let address = server.addresses()[0].to_string();
    let path = dir.join(INCREMENT);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (address, path) = (&address, &path);
            scope.spawn(move || {
                write(address, writer, zeros, &|| fs::metadata(path).unwrap().len() < TAIL as u64 + 5000)
            });
        }
    });
    server.shutdown().unwrap();
    fs::read(path).unwrap()
}

fn write(address: &str, writer: usize, zeros: Zeros, goes_on: &dyn Fn() -> bool) {
    let mut client = RespClient::connect(address).unwrap();
    let mut rng = fastrand::Rng::with_seed(writer as u64);
    while goes_on() {
        let count = rng.usize(1..12);
        for _ in 0..count {
            let counter = format!("n{}", rng.usize(..COUNTERS));
            match rng.u8(..6) {
                0 => {
                    client.send(&["MULTI"]).unwrap();
                    client.send(&["INCR", &counter]).unwrap();
                    client.send(&["RPUSH", "transfers", &"x".repeat(rng.usize(..300))]).unwrap();
                    client.send(&["EXEC"]).unwrap();
                    (0..3).for_each(|_| drop(client.read().unwrap()));
                }
                1 => client.send(&["SELECT", &rng.u8(..3).to_string()]).unwrap(),
                2 => client.send(&["SET", "binary", "\0\0\r\n*1\r\n$4\r\nEXEC\r\n"]).unwrap(),
                3 => client.send(&["SET", "zeros", &"\0".repeat(rng.usize(..zeros as usize))]).unwrap(),
                _ => client.send(&["INCR", &counter]).unwrap(),
            }
        }
        for _ in 0..count {
            let reply = client.read().unwrap();
            assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        }
    }
}

/// A request with its database.
type Request = (u32, Vec<Vec<u8>>);

struct Batch {
    start: usize,
    end: usize,
    /// Each applied whole.
    groups: Vec<Vec<Request>>,
}

/// Reads a good increment.
fn batches(bytes: &[u8]) -> Vec<Batch> {
    let (mut found, mut at, mut db) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let line = std::str::from_utf8(&bytes[at..at + HEADER_LEN]).unwrap();
        let digits = line.strip_prefix("#thali:").unwrap().split(':').next().unwrap();
        let end = at + HEADER_LEN + usize::from_str_radix(digits, 16).unwrap();
        found.push(Batch { start: at, end, groups: groups(&bytes[at + HEADER_LEN..end], &mut db) });
        at = end;
    }
    found
}

fn groups(mut bytes: &[u8], db: &mut u32) -> Vec<Vec<Request>> {
    let (mut groups, mut open) = (Vec::new(), None);
    while !bytes.is_empty() {
        let count = take_number(&mut bytes, b'*');
        let mut args = Vec::new();
        for _ in 0..count {
            let len = take_number(&mut bytes, b'$');
            args.push(bytes[..len].to_vec());
            bytes = &bytes[len + 2..];
        }
        match args[0].as_slice() {
            b"SELECT" => *db = std::str::from_utf8(&args[1]).unwrap().parse().unwrap(),
            b"MULTI" => open = Some(Vec::new()),
            b"EXEC" => groups.push(open.take().unwrap()),
            _ => match &mut open {
                Some(group) => group.push((*db, args)),
                None => groups.push(vec![(*db, args)]),
            },
        }
    }
    assert!(open.is_none(), "a group beyond its batch");
    groups
}

fn take_number(bytes: &mut &[u8], mark: u8) -> usize {
    assert_eq!(bytes[0], mark);
    let end = bytes.iter().position(|byte| *byte == b'\r').unwrap();
    let number = std::str::from_utf8(&bytes[1..end]).unwrap().parse().unwrap();
    *bytes = &bytes[end + 2..];
    number
}

/// A data folder whose increment is replaced again and again.
struct Bench {
    dir: TempDir,
    good: Vec<u8>,
    batches: Vec<Batch>,
}

impl Bench {
    fn new(policy: &str, zeros: Zeros) -> Self {
        let dir = folder();
        let good = busy_run(dir.path(), policy, zeros);
        let batches = batches(&good);
        assert!(good.len() > TAIL && batches.len() > 20, "{} bytes, {} batches", good.len(), batches.len());
        Bench { dir, good, batches }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(INCREMENT)
    }

    /// Recovers from `bytes`; gives the groups that were applied.
    fn recover(&self, bytes: &[u8]) -> Result<(Vec<Vec<Request>>, RecoveryReport), JournalError> {
        fs::write(self.path(), bytes).unwrap();
        let config = JournalConfig::new(self.dir.path());
        let (journal, recovery) = Journal::open(config, Arc::new(RealDisk))?;
        let mut groups = Vec::new();
        let report = recovery.replay(&mut |group| {
            let owned = |arg: &&[u8]| arg.to_vec();
            groups.push(group.iter().map(|it| (it.db, it.args.iter().map(owned).collect())).collect());
            Ok(())
        })?;
        journal.close()?;
        Ok((groups, report))
    }

    /// The batches that are whole in the first `len` bytes, and where they end.
    fn whole(&self, len: usize) -> (&[Batch], usize) {
        let whole = &self.batches[..self.batches.partition_point(|batch| batch.end <= len)];
        (whole, whole.last().map_or(0, |batch| batch.end))
    }

    /// `bytes` has `kept` good bytes and then nothing of worth: what the whole batches hold comes back.
    fn heals(&self, bytes: &[u8], kept: usize) {
        let (whole, end) = self.whole(kept);
        let (groups, report) = self.recover(bytes).unwrap_or_else(|error| panic!("cut at {kept}: {error}"));
        assert_eq!(report.bytes_cut, (bytes.len() - end) as u64, "cut at {kept}");
        let due: Vec<&Vec<Request>> = whole.iter().flat_map(|batch| &batch.groups).collect();
        assert!(groups.iter().eq(due.iter().copied()), "cut at {kept}: other groups than written");
        assert_eq!(fs::metadata(self.path()).unwrap().len(), end as u64, "cut at {kept}");
    }

    /// The bytes are refused, at the batch that holds the byte `at`, and stay as they are.
    fn refuses(&self, bytes: &[u8], at: usize, what: &str) {
        let batch = &self.batches[self.batches.partition_point(|batch| batch.end <= at)];
        match self.recover(bytes) {
            Err(JournalError::Damaged { path, offset, .. }) => {
                assert_eq!(path, self.path());
                let extent = batch.start as u64..batch.end as u64;
                assert!(extent.contains(&offset), "{what}: said {offset}, not within {extent:?}");
            }
            Err(other) => panic!("{what}: {other}"),
            Ok((_, report)) => panic!("{what}: taken for good, {report:?}"),
        }
        assert_eq!(fs::read(self.path()).unwrap(), bytes, "{what}");
    }
}

fn cut_at_every_byte(policy: &str) {
    let bench = Bench::new(policy, Zeros::Sectors);
    let len = bench.good.len();
    for kept in cuts(len).chain([len]) {
        bench.heals(&bench.good[..kept], kept);
    }
}

#[test]
fn a_file_of_always_heals_wherever_it_is_cut() {
    cut_at_every_byte("always");
}

#[test]
fn a_file_of_everysec_heals_wherever_it_is_cut() {
    cut_at_every_byte("everysec");
}

/// As a file system does that gave the file its length and not its bytes.
#[test]
fn a_tail_of_zeros_is_cut_wherever_it_begins() {
    let bench = Bench::new("everysec", Zeros::Sectors);
    let len = bench.good.len();
    let mut rng = fastrand::Rng::with_seed(1);
    for kept in (len - TAIL..=len).rev().step_by(7) {
        let mut bytes = bench.good[..kept].to_vec();
        bytes.resize(kept + rng.usize(..20_000), 0);
        // Zeros of a value that go on as zeros are that value's still.
        let end = bytes.iter().zip(&bench.good).take_while(|(a, b)| a == b).count();
        bench.heals(&bytes, end);
    }
}

fn flip_bits(bench: &Bench) {
    let len = bench.good.len();
    // Two whole batches at the end and one within, and a sample of the rest.
    let batches = &bench.batches;
    let mut places: Vec<usize> = (batches[batches.len() - 2].start..len).take(400).collect();
    let middle = &batches[batches.len() / 2];
    places.extend((middle.start..middle.end).take(150));
    places.extend((0..len).step_by(97));
    for at in places {
        for bit in 0..8 {
            let mut bytes = bench.good.clone();
            bytes[at] ^= 1 << bit;
            bench.refuses(&bytes, at, &format!("byte {at} bit {bit} of {len}"));
        }
    }
}

#[test]
fn a_flipped_bit_of_everysec_is_found_wherever_it_is() {
    flip_bits(&Bench::new("everysec", Zeros::Some));
}

#[test]
fn a_flipped_bit_of_always_is_found_wherever_it_is() {
    flip_bits(&Bench::new("always", Zeros::Some));
}

/// The file was closed in peace, so all of it is synced, and no machine's death took anything from it.
#[test]
fn a_flipped_bit_beside_a_sector_of_zeros_is_found() {
    flip_bits(&Bench::new("everysec", Zeros::Sectors));
}

#[test]
fn missing_and_repeated_batches_are_found() {
    let bench = Bench::new("everysec", Zeros::Some);
    let middle = &bench.batches[bench.batches.len() / 2];
    let (before, rest) = bench.good.split_at(middle.start);
    let (batch, after) = rest.split_at(middle.end - middle.start);
    bench.refuses(&[before, after].concat(), middle.start, "a batch is missing");
    bench.refuses(&[before, batch, batch, after].concat(), middle.end, "a batch is there twice");
}

#[test]
fn the_store_has_what_the_whole_batches_hold() {
    let bench = Bench::new("everysec", Zeros::Some);
    let len = bench.good.len();
    for kept in (len - TAIL..=len).step_by(2503) {
        fs::write(bench.path(), &bench.good[..kept]).unwrap();
        let server = Server::start(config(bench.dir.path(), &[("appendonly", "yes")])).unwrap();
        let mut client = RespClient::connect(&server.addresses()[0].to_string()).unwrap();
        let groups: Vec<_> = bench.whole(kept).0.iter().flat_map(|batch| &batch.groups).flatten().collect();
        for db in 0..3 {
            client.command(&["SELECT", &db.to_string()]).unwrap();
            for counter in 0..COUNTERS {
                let name = format!("n{counter}");
                let is_it = |request: &&&Request| request.0 == db && request.1[1] == name.as_bytes();
                let due = groups.iter().filter(is_it).count();
                let found = client.command(&["GET", &name]).unwrap().text();
                assert_eq!(found.parse().unwrap_or(0), due, "cut at {kept}, {name} of database {db}");
            }
        }
        drop(client);
        server.shutdown().unwrap();
    }
}

/// A dump with every type, a bit larger than the tail that is cut.
fn dump(dir: &Path, checksum: &str) -> Vec<u8> {
    let server = Server::start(config(dir, &[("appendonly", "no"), ("rdbchecksum", checksum)])).unwrap();
    let mut client = RespClient::connect(&server.addresses()[0].to_string()).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    for at in 0..400 {
        let (key, value) =
            (format!("k{at}"), (0..rng.usize(..350)).map(|_| rng.alphanumeric()).collect::<String>());
        let number = at.to_string();
        let request: &[&str] = match at % 7 {
            0 => &["SET", &key, &value, "PXAT", "4000000000000"],
            1 => &["RPUSH", &key, &value, "a", &number],
            2 => &["HSET", &key, "field", &value, "other", &number],
            3 => &["SADD", &key, &value, "member"],
            4 => &["ZADD", &key, "1.5", &value, &number, "two"],
            5 => &["XADD", &key, "1-1", "field", &value],
            _ => &["SET", &key, &value],
        };
        assert!(!matches!(client.command(request).unwrap(), Reply::Error(_)));
    }
    drop(client);
    // `save` has rules, so the end makes a dump.
    server.shutdown().unwrap();
    fs::read(dir.join("dump.rdb")).unwrap()
}

/// The start says what is wrong and leaves the file.
fn dump_is_refused(dir: &Path, bytes: &[u8], what: &str) {
    let path = dir.join("dump.rdb");
    fs::write(&path, bytes).unwrap();
    match Server::start(config(dir, &[("appendonly", "no")])) {
        Err(StartError::Dump { path: named, why }) => {
            assert_eq!(named, path);
            assert!(why.starts_with("at byte "), "{what}: no offset in: {why}");
        }
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: taken for good"),
    }
    assert_eq!(fs::read(&path).unwrap(), bytes, "{what}");
}

#[test]
fn a_dump_is_refused_wherever_it_is_cut() {
    let dir = folder();
    let good = dump(dir.path(), "yes");
    assert!(good.len() > TAIL, "{}", good.len());
    for kept in cuts(good.len()) {
        dump_is_refused(dir.path(), &good[..kept], &format!("cut at {kept} of {}", good.len()));
    }
}

#[test]
fn a_dump_is_refused_wherever_zeros_begin() {
    let dir = folder();
    let good = dump(dir.path(), "yes");
    for kept in (good.len() - TAIL..good.len()).step_by(13) {
        let mut bytes = good.clone();
        bytes[kept..].fill(0);
        // Zeros in place of the checksum say that there is none, as `rdbchecksum no` writes it.
        if kept > good.len() - 9 {
            continue;
        }
        dump_is_refused(dir.path(), &bytes, &format!("zeros from {kept} of {}", good.len()));
    }
}

#[test]
fn a_flipped_bit_of_a_dump_is_found_wherever_it_is() {
    let dir = folder();
    let good = dump(dir.path(), "yes");
    let sample = (0..good.len()).step_by(241).chain(good.len() - 200..good.len());
    for at in sample {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            dump_is_refused(dir.path(), &bytes, &format!("byte {at} bit {bit} of {}", good.len()));
        }
    }
}
