//! Claims about the journal, on the simulated disk.

mod bases;
mod crash;
mod damage;
mod faults;
mod opening;
mod rewrites;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::{self, HEADER_LEN};
use crate::sim::SimDisk;
use crate::*;

const INCREMENT: &str = "/data/appendonlydir/appendonly.aof.1.incr.aof";
const MANIFEST: &str = "/data/appendonlydir/appendonly.aof.manifest";

/// What a replay delivered: a list of groups, a group being a list of `db name arg…` lines.
type Groups = Vec<Vec<String>>;

fn config(policy: Policy) -> JournalConfig {
    JournalConfig {
        policy,
        retry_interval: Duration::from_millis(1),
        sync_interval: Duration::from_millis(5),
        ..JournalConfig::new("/data")
    }
}

fn lines(effects: &[Effect<'_>]) -> Vec<String> {
    let line = |effect: &Effect<'_>| {
        let words: Vec<_> = effect.args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
        format!("{} {}", effect.db, words.join(" "))
    };
    effects.iter().map(line).collect()
}

fn open_with(
    config: JournalConfig,
    disk: &SimDisk,
) -> Result<(Journal, Groups, RecoveryReport), JournalError> {
    let (journal, recovery) = Journal::open(config, Arc::new(disk.clone()))?;
    let mut groups = Groups::new();
    let report = recovery.replay(&mut |effects| {
        groups.push(lines(effects));
        Ok(())
    })?;
    Ok((journal, groups, report))
}

fn open(policy: Policy, disk: &SimDisk) -> (Journal, Groups) {
    let (journal, groups, _) = open_with(config(policy), disk).unwrap();
    (journal, groups)
}

fn encoded(args: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_request(&mut out, &args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
    out
}

/// Appends `db name arg…` lines as one group and gets it on its way.
fn append(journal: &Journal, group: &[impl AsRef<str>]) -> Seq {
    let effects: Vec<_> = group
        .iter()
        .map(|line| {
            let mut words: Vec<_> = line.as_ref().split(' ').collect();
            let db: u32 = words.remove(0).parse().unwrap();
            (db, encoded(&words))
        })
        .collect();
    let seq = journal.append(effects.iter().map(|(db, bytes)| (*db, &bytes[..])), true);
    journal.flush(seq);
    seq
}

/// Waits for a condition, at most ten seconds.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_flush_without_always_has_written_when_it_returns() {
    let disk = SimDisk::new(1);
    let (journal, _) = open_with(
        JournalConfig { sync_interval: Duration::from_secs(3600), ..config(Policy::Everysec) },
        &disk,
    )
    .map(|(journal, groups, _)| (journal, groups))
    .unwrap();
    let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let telling = Arc::clone(&told);
    journal.set_on_sync(Box::new(move |seq| telling.store(seq.0, std::sync::atomic::Ordering::Relaxed)));
    for i in 0..100 {
        let seq = append(&journal, &[format!("0 SET k {i}")]);
        assert_eq!((journal.synced(), told.load(std::sync::atomic::Ordering::Relaxed)), (seq, seq.0));
    }
    assert_eq!(journal.state().writes_total, 100);
}

#[test]
fn threads_that_flush_at_once_keep_the_order_and_lose_nothing() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::Everysec, &disk);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journal = &journal;
            scope.spawn(move || {
                for i in 0..200 {
                    let seq = append(journal, &[format!("0 SET {thread} {i}")]);
                    wait_until("the write", || journal.synced() >= seq);
                }
            });
        }
    });
    drop(journal);
    let (_journal, groups) = open(Policy::Everysec, &disk);
    for thread in 0..4 {
        let own: Vec<_> =
            groups.iter().filter(|group| group[0].starts_with(&format!("0 SET {thread} "))).collect();
        let expected: Vec<_> = (0..200).map(|i| vec![format!("0 SET {thread} {i}")]).collect();
        assert!(own.into_iter().eq(&expected));
    }
}

#[test]
fn what_is_appended_comes_back_in_order() {
    let disk = SimDisk::new(1);
    let (journal, before) = open(Policy::Everysec, &disk);
    assert!(before.is_empty());
    let groups: Groups = vec![
        vec!["0 SET a 1".into()],
        vec!["3 SET a 2".into(), "4 INCR b".into()],
        vec!["4 DEL b".into()],
        vec!["0 SET empty ".into()],
    ];
    for group in &groups {
        append(&journal, group);
    }
    assert_eq!(journal.appended(), append(&journal, &[] as &[&str]));
    journal.close().unwrap();
    assert_eq!(journal.synced(), journal.appended());
    assert_eq!(journal.durable(), journal.appended());
    drop(journal);
    let (journal, after) = open(Policy::Everysec, &disk);
    assert_eq!(after, groups);
    // A new process begins with a SELECT, whatever the old one ended with.
    append(&journal, &["0 SET c 1"]);
    drop(journal);
    let (_journal, after) = open(Policy::Everysec, &disk);
    assert_eq!(after.last().unwrap(), &["0 SET c 1"]);
}

#[test]
fn the_file_is_what_redis_would_write() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::No, &disk);
    append(&journal, &["0 SET a 1"]);
    append(&journal, &["0 SET a 2", "2 SET b 3"]);
    journal.close().unwrap();
    let text = |requests: &[&[&str]]| -> String {
        requests.iter().map(|args| String::from_utf8(encoded(args)).unwrap()).collect()
    };
    let expected = [
        "#thali:0000000000:0000000000:00000000:384f45d2\r\n#thali:0000000032:0000000030:291fb7d6:3be25abd\r\n",
        &text(&[&["SELECT", "0"], &["SET", "a", "1"]]),
        "#thali:000000006a:0000000030:22928b8b:d2ff1673\r\n",
        &text(&[&["MULTI"], &["SET", "a", "2"], &["SELECT", "2"], &["SET", "b", "3"], &["EXEC"]]),
        // Closed in peace: all of it is synced.
        "#thali:0000000000:000000012c:00000000:e1f23fde\r\n",
    ];
    assert_eq!(String::from_utf8(disk.get(INCREMENT).unwrap()).unwrap(), expected.concat());
    assert_eq!(disk.get(MANIFEST).unwrap(), b"file appendonly.aof.1.incr.aof seq 1 type i\n");
}

#[test]
fn effects_of_the_replay_itself_go_behind_what_was_read() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::Always, &disk);
    append(&journal, &["0 SET a 1"]);
    append(&journal, &["0 SET b 1"]);
    drop(journal);
    let (journal, recovery) = Journal::open(config(Policy::Always), Arc::new(disk.clone())).unwrap();
    recovery
        .replay(&mut |effects| {
            if effects[0].args[1] == b"a" {
                append(&journal, &["0 DEL a"]);
            }
            Ok(())
        })
        .unwrap();
    drop(journal);
    assert_eq!(open(Policy::Always, &disk).1, [["0 SET a 1"], ["0 SET b 1"], ["0 DEL a"]]);
}

#[test]
fn base_and_increments_are_read_in_the_manifests_order() {
    let disk = SimDisk::new(1);
    let dir = "/data/appendonlydir";
    disk.put(
        MANIFEST,
        b"file appendonly.aof.2.base.aof seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type h\n\
          file appendonly.aof.7.incr.aof seq 7 type i\nfile appendonly.aof.8.incr.aof seq 8 type i\n",
    );
    for (name, db) in [("2.base", "1"), ("7.incr", "2"), ("8.incr", "3")] {
        let bytes = [encoded(&["SELECT", db]), b"#TS:1234\r\n".to_vec(), encoded(&["SET", "k", name])];
        disk.put(format!("{dir}/appendonly.aof.{name}.aof"), &bytes.concat());
    }
    let (journal, groups, report) = open_with(config(Policy::Always), &disk).unwrap();
    assert_eq!(groups, [["1 SET k 2.base"], ["2 SET k 7.incr"], ["3 SET k 8.incr"]]);
    assert_eq!((report.files, report.records, report.bytes_cut), (3, 3, 0));
    append(&journal, &["0 SET k new"]);
    journal.close().unwrap();
    let grown = disk.get(format!("{dir}/appendonly.aof.8.incr.aof")).unwrap();
    let (records, mark) = grown.split_at(grown.len() - HEADER_LEN);
    assert!(records.ends_with(&encoded(&["SET", "k", "new"])));
    assert_eq!(mark, batch::synced_mark(records.len() as u64));
}

#[test]
fn a_base_alone_gets_an_increment() {
    let disk = SimDisk::new(1);
    disk.put(MANIFEST, b"file appendonly.aof.1.base.aof seq 1 type b\n");
    disk.put("/data/appendonlydir/appendonly.aof.1.base.aof", &encoded(&["SET", "k", "v"]));
    let (journal, groups) = open(Policy::Always, &disk);
    assert_eq!(groups, [["0 SET k v"]]);
    append(&journal, &["0 DEL k"]);
    drop(journal);
    assert_eq!(open(Policy::Always, &disk).1, [["0 SET k v"], ["0 DEL k"]]);
}
