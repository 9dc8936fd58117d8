//! The folder is exchangeable with redis-server 7 in both directions. Needs redis-server in the PATH
//! (Debian: `apt-get install redis-server`).

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thali_journal::*;

struct Redis {
    child: Child,
    connection: BufReader<UnixStream>,
}

impl Redis {
    /// Starts redis-server on the folder; panics with its log where it does not come up.
    fn start(dir: &Path) -> Redis {
        let socket = dir.join("redis.sock");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--appendonly", "yes", "--save", "", "--aof-use-rdb-preamble", "no"])
            .args(["--auto-aof-rewrite-percentage", "0"])
            .args(["--appendfsync", "always", "--daemonize", "no", "--logfile", "redis.log"])
            .arg("--dir")
            .arg(dir)
            .arg("--unixsocket")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                let mut redis = Redis { child, connection: BufReader::new(stream) };
                // It listens before it has loaded.
                while redis.call(&["PING"]) != "PONG" {
                    assert!(Instant::now() < deadline, "redis-server does not end to load");
                    std::thread::sleep(Duration::from_millis(20));
                }
                return redis;
            }
            let gone = child.try_wait().unwrap().is_some();
            if gone || Instant::now() > deadline {
                let _ = child.kill();
                let log = std::fs::read_to_string(dir.join("redis.log")).unwrap_or_default();
                panic!("redis-server did not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One request; the reply as text, arrays joined by blanks.
    fn call(&mut self, args: &[&str]) -> String {
        let mut request = Vec::new();
        encode_request(&mut request, &args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        self.connection.get_mut().write_all(&request).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.connection.read_line(&mut line).unwrap();
        let rest = line[1..].trim_end().to_owned();
        match line.as_bytes()[0] {
            b'$' if rest == "-1" => "(nil)".into(),
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.connection.read_exact(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
            }
            b'*' => (0..rest.parse().unwrap()).map(|_| self.reply()).collect::<Vec<_>>().join(" "),
            _ => rest,
        }
    }

    fn stop(mut self) {
        let _ = self.connection.get_mut().write_all(b"SHUTDOWN NOSAVE\r\n");
        self.child.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(dir: &Path) -> (Journal, Vec<Vec<String>>) {
    let (journal, recovery) = Journal::open(JournalConfig::new(dir), Arc::new(RealDisk)).unwrap();
    let mut groups = Vec::new();
    let mut apply = |effects: &[Effect<'_>]| {
        let words = |e: &Effect<'_>| -> Vec<String> {
            e.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
        };
        groups.push(effects.iter().map(|e| format!("{} {}", e.db, words(e).join(" "))).collect());
        Ok(())
    };
    recovery.replay(&mut apply).unwrap();
    (journal, groups)
}

fn append(journal: &Journal, group: &[(u32, &[&str])]) {
    let encode = |args: &[&str]| {
        let mut out = Vec::new();
        encode_request(&mut out, &args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        out
    };
    let effects: Vec<_> = group.iter().map(|(db, args)| (*db, encode(args))).collect();
    journal.append(effects.iter().map(|(db, bytes)| (*db, &bytes[..])), true);
}

#[test]
fn redis_server_loads_what_we_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    append(&journal, &[(0, &["SET", "a", "1"])]);
    append(&journal, &[(0, &["INCR", "a"]), (5, &["RPUSH", "list", "x", "y z", ""]), (0, &["INCR", "a"])]);
    append(&journal, &[(5, &["HSET", "h", "f", "\r\n*1\r\n"])]);
    drop(journal);
    let check = Command::new("redis-check-aof")
        .arg(dir.path().join("appendonlydir/appendonly.aof.manifest"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let mut redis = Redis::start(dir.path());
    assert_eq!(redis.call(&["GET", "a"]), "3");
    redis.call(&["SELECT", "5"]);
    assert_eq!(redis.call(&["LRANGE", "list", "0", "-1"]), "x y z ");
    assert_eq!(redis.call(&["HGET", "h", "f"]), "\r\n*1\r\n");
    // And Redis goes on in our increment, which we read back.
    redis.call(&["SET", "b", "2"]);
    redis.stop();
    let (_journal, groups) = open(dir.path());
    assert_eq!(groups.len(), 4);
    assert_eq!(groups[3], ["5 SET b 2"]);
}

#[test]
fn we_open_what_redis_server_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path());
    redis.call(&["SET", "a", "1"]);
    redis.call(&["SELECT", "3"]);
    redis.call(&["MULTI"]);
    redis.call(&["SET", "b", "1"]);
    redis.call(&["INCR", "b"]);
    redis.call(&["EXEC"]);
    redis.call(&["EVAL", "redis.call('SET','s','1') redis.call('DEL','b')", "0"]);
    // A rewrite leaves a base in AOF form and a new increment.
    redis.call(&["CONFIG", "SET", "aof-timestamp-enabled", "yes"]);
    redis.call(&["BGREWRITEAOF"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while redis.call(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:1")
        || !redis.call(&["INFO", "persistence"]).contains("aof_last_bgrewrite_status:ok")
        || !dir.path().join("appendonlydir/appendonly.aof.2.base.aof").exists()
    {
        assert!(Instant::now() < deadline, "the rewrite does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    redis.call(&["SET", "after", "1"]);
    redis.stop();
    let (journal, groups) = open(dir.path());
    let flat: Vec<_> = groups.iter().flatten().map(String::as_str).collect();
    assert_eq!(flat, ["0 SET a 1", "3 SET s 1", "3 SET after 1"]);
    append(&journal, &[(3, &["SET", "ours", "1"]), (0, &["DEL", "a"])]);
    drop(journal);
    let mut redis = Redis::start(dir.path());
    assert_eq!(redis.call(&["GET", "a"]), "(nil)");
    redis.call(&["SELECT", "3"]);
    assert_eq!(redis.call(&["MGET", "s", "after", "ours"]), "1 1 1");
    redis.stop();
}

#[test]
fn transactions_of_redis_arrive_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path());
    redis.call(&["MULTI"]);
    redis.call(&["SET", "b", "1"]);
    redis.call(&["SELECT", "2"]);
    redis.call(&["INCR", "c"]);
    redis.call(&["EXEC"]);
    redis.stop();
    let (_journal, groups) = open(dir.path());
    assert_eq!(groups, [["0 SET b 1", "2 INCR c"]]);
}

/// Our file, continued by redis-server, continued by us; damage is found in what we wrote.
#[test]
fn a_file_written_in_turns_is_read_and_our_part_is_vouched_for() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    append(&journal, &[(0, &["SET", "ours", "1"]), (3, &["SET", "ours", "2"])]);
    drop(journal);
    let mut redis = Redis::start(dir.path());
    redis.call(&["SET", "theirs", "1"]);
    redis.stop();
    let (journal, _) = open(dir.path());
    append(&journal, &[(1, &["SET", "ours", "3"])]);
    drop(journal);
    let (_, groups) = open(dir.path());
    assert_eq!(groups, [vec!["0 SET ours 1", "3 SET ours 2"], vec!["0 SET theirs 1"], vec!["1 SET ours 3"]]);

    let path = dir.path().join("appendonlydir/appendonly.aof.1.incr.aof");
    let report = check_file(&RealDisk, &path, FileKind::Single).unwrap();
    assert!(report.damage.is_none() && report.checked_bytes > 0 && report.checked_bytes < report.bytes);
    let bytes = std::fs::read(&path).unwrap();
    let value = bytes.windows(6).rposition(|window| window == b"ours\r\n").unwrap() + 10;
    let mut damaged = bytes.clone();
    damaged[value] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let (_journal, recovery) = Journal::open(JournalConfig::new(dir.path()), Arc::new(RealDisk)).unwrap();
    let error = recovery.replay(&mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("do not match their checksum"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

#[test]
fn redis_server_loads_a_folder_that_we_rewrote_and_rewrites_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    append(&journal, &[(0, &["SET", "a", "1"]), (2, &["SET", "b", "1"])]);
    let mut rewrite = journal.begin_rewrite().unwrap();
    rewrite.cut();
    append(&journal, &[(2, &["INCR", "b"])]);
    let mut base = rewrite.base_writer(BaseForm::Aof).unwrap();
    for request in [&["SET", "a", "1"][..], &["SELECT", "2"], &["SET", "b", "1"]] {
        let mut bytes = Vec::new();
        encode_request(&mut bytes, &request.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        base.write_all(&bytes).unwrap();
        base.end_group().unwrap();
    }
    assert_eq!(rewrite.finish(base).unwrap().files_deleted, 1);
    drop(journal);
    let manifest = dir.path().join("appendonlydir/appendonly.aof.manifest");
    let check = Command::new("redis-check-aof").arg(&manifest).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let mut redis = Redis::start(dir.path());
    assert_eq!(redis.call(&["GET", "a"]), "1");
    redis.call(&["SELECT", "2"]);
    assert_eq!(redis.call(&["GET", "b"]), "2");
    redis.call(&["INCR", "b"]);
    redis.stop();
    let (_journal, groups) = open(dir.path());
    assert_eq!(groups.concat(), ["0 SET a 1", "2 SET b 1", "2 INCR b", "2 INCR b"]);
}

/// redis-server 7 moves the file of Redis 6 as we do; half-way is no obstacle to either.
#[test]
fn redis_server_goes_on_with_the_single_file_that_we_took_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Vec::new();
    encode_request(&mut old, &[b"SET", b"a", b"1"]);
    std::fs::write(dir.path().join("appendonly.aof"), &old).unwrap();
    let (journal, groups) = open(dir.path());
    assert_eq!(groups, [["0 SET a 1"]]);
    append(&journal, &[(0, &["INCR", "a"])]);
    drop(journal);
    let mut redis = Redis::start(dir.path());
    assert_eq!(redis.call(&["GET", "a"]), "2");
    redis.stop();
}
