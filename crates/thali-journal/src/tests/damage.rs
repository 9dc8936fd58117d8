//! Files that are torn, padded, damaged or somebody else's.

use super::*;

const MANIFEST_TEXT: &[u8] = b"file appendonly.aof.1.incr.aof seq 1 type i\n";

fn disk_with(increment: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put(MANIFEST, MANIFEST_TEXT);
    disk.put(INCREMENT, increment);
    disk
}

fn sample() -> (Vec<u8>, Groups) {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::No, &disk);
    append(&journal, &["0 SET a 1"]);
    append(&journal, &["1 SET a 2", "0 SET b 22222222222222222222", "0 INCR c"]);
    append(&journal, &[format!("0 SET long {}", "v".repeat(300))]);
    append(&journal, &["0 DEL a", "0 DEL b"]);
    journal.close().unwrap();
    drop(journal);
    (disk.get(INCREMENT).unwrap(), open(Policy::No, &disk).1)
}

#[test]
fn a_file_cut_or_zero_padded_at_any_byte_gives_a_prefix_of_whole_groups() {
    let (bytes, groups) = sample();
    for cut in 0..=bytes.len() {
        let mut lens = Vec::new();
        for padding in [0, 1, 2, 7, 400, 300_000] {
            let padded = [&bytes[..cut], &vec![0; padding]].concat();
            let disk = disk_with(&padded);
            let (journal, got, report) = open_with(config(Policy::Always), &disk)
                .unwrap_or_else(|error| panic!("cut at {cut}, {padding} zeros: {error}"));
            assert_eq!(got, groups[..got.len()], "cut at {cut}, {padding} zeros");
            assert_eq!(report.bytes_read + report.bytes_cut, padded.len() as u64);
            lens.push(got.len());
            // What follows the cut reads back.
            append(&journal, &["0 SET next 1"]);
            drop(journal);
            assert_eq!(open(Policy::Always, &disk).1[got.len()..], [["0 SET next 1"]]);
        }
        assert!(lens.windows(2).all(|pair| pair[0] == pair[1]), "padding changed what was read: {lens:?}");
    }
}

#[test]
fn any_flipped_bit_is_found_or_changes_nothing() {
    let (bytes, groups) = sample();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let disk = disk_with(&damaged);
            let error = open_with(config(Policy::No), &disk)
                .map(|(_, got, report)| panic!("byte {at} bit {bit}: {report:?} {}", got == groups));
            let error = error.unwrap_err().to_string();
            assert!(error.contains("is damaged at offset"), "byte {at} bit {bit}: {error}");
            assert_eq!(disk.get(INCREMENT).unwrap(), damaged, "an error changed the file");
        }
    }
}

/// Bytes changed, lost, added, or replaced by zeros, anywhere: refused, or all before it and nothing else.
#[test]
fn any_damage_is_refused_or_cut_with_all_behind_it() {
    let (unsynced, groups) = sample();
    let synced = {
        let disk = SimDisk::new(1);
        let (journal, _) = open(Policy::Always, &disk);
        for group in &groups {
            let seq = append(&journal, group);
            wait_until("the sync", || journal.synced() >= seq);
        }
        drop(journal);
        disk.get(INCREMENT).unwrap()
    };
    for bytes in [unsynced, synced] {
        let check = |damaged: &[u8], what: &str| {
            let disk = disk_with(damaged);
            if let Ok((_journal, got, report)) = open_with(config(Policy::No), &disk) {
                assert_eq!(got, groups[..got.len()], "{what}: {report:?}");
                // A line that is gone altogether, or stands there twice, takes nothing with it but its own promise.
                let is_whole = got.len() == groups.len();
                assert!(is_whole || (report.bytes_cut > 0 && got.len() < groups.len()), "{what}: {report:?}");
            }
        };
        for at in 0..bytes.len() {
            for byte in [0, 0xff, b'\n', b'*', b'#', b'0', bytes[at].wrapping_add(1)] {
                if byte != bytes[at] {
                    check(
                        &[&bytes[..at], &[byte], &bytes[at + 1..]].concat(),
                        &format!("byte {byte} at {at}"),
                    );
                }
            }
            for len in [1, 2, 48, 100] {
                let end = (at + len).min(bytes.len());
                check(
                    &[&bytes[..at], &vec![0; end - at], &bytes[end..]].concat(),
                    &format!("{len} zeros at {at}"),
                );
                if end < bytes.len() {
                    check(&[&bytes[..at], &bytes[end..]].concat(), &format!("{len} bytes lost at {at}"));
                    check(&[&bytes[..end], &bytes[at..]].concat(), &format!("{len} bytes twice at {at}"));
                }
            }
        }
    }
}

/// As the disk leaves batches that no sync covered: whole sectors are missing.
#[test]
fn lost_sectors_are_cut_where_no_sync_covered_them_and_refused_elsewhere() {
    let disk = SimDisk::new(1);
    // Without syncs: the first batches say that nothing but the mark was synced.
    let (journal, _) = open(Policy::No, &disk);
    for n in 0..8 {
        append(&journal, &[format!("0 SET k{n} {}", "v".repeat(700))]);
    }
    let unsynced = disk.get(INCREMENT).unwrap();
    let (_, all) = open(Policy::No, &disk.killed());
    for sector in 0..unsynced.len() / 512 {
        let mut damaged = unsynced.clone();
        let lost = (sector * 512).max(48)..(sector + 1) * 512;
        damaged[lost].fill(0);
        let copy = disk_with(&damaged);
        let (_journal, got, report) =
            open_with(config(Policy::No), &copy).unwrap_or_else(|error| panic!("sector {sector}: {error}"));
        assert!(got.len() < all.len() && got == all[..got.len()] && report.bytes_cut > 0, "sector {sector}");
    }
    journal.set_policy(Policy::Always);
    let seq = append(&journal, &["0 SET last 1"]);
    wait_until("the sync", || journal.durable() >= seq);
    let seq = append(&journal, &["0 SET marks 1"]);
    wait_until("the sync", || journal.durable() >= seq);
    let synced = disk.get(INCREMENT).unwrap();
    for sector in 0..unsynced.len() / 512 {
        let mut damaged = synced.clone();
        damaged[(sector * 512).max(48)..(sector + 1) * 512].fill(0);
        refused(&damaged, "is damaged at offset");
    }
}

fn refused(increment: &[u8], part: &str) {
    let disk = disk_with(increment);
    let error = open_with(config(Policy::No), &disk).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(part), "{error}\nexpected: {part}");
    assert_eq!(disk.get(INCREMENT).unwrap(), increment);
}

#[test]
fn damage_in_the_middle_names_its_offset() {
    let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let cases = [
        (format!("{set}garbage\r\n{set}"), "at offset 27: expected `*`"),
        (format!("{set}*3\r\n$3\r\nSET\r\n$2\r\nk\r\n$1\r\nv\r\n{set}"), "not as long as its length says"),
        (format!("{set}*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$999\r\nv\r\n{set}"), "whole requests follow it"),
        (format!("{set}*3\r\n$3\r\nSET\r\n$x\r\nk\r\n"), "a number is expected"),
        (format!("{set}*0\r\n{set}"), "without a name"),
        (format!("{set}{}{set}", "\0".repeat(30)), "at offset 27"),
        (format!("*1\r\n$4\r\nEXEC\r\n{set}"), "an EXEC without a MULTI"),
        (format!("*1\r\n$5\r\nMULTI\r\n*1\r\n$5\r\nMULTI\r\n{set}"), "a MULTI inside a MULTI"),
        (format!("*2\r\n$6\r\nSELECT\r\n$1\r\nx\r\n{set}"), "a SELECT without"),
        (format!("*18446744073709551617\r\n$1\r\na\r\n{set}{set}"), "expected `$`"),
    ];
    for (text, part) in cases {
        refused(text.as_bytes(), part);
    }
}

#[test]
fn a_tail_is_not_cut_where_that_was_forbidden() {
    let torn = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\nv";
    let disk = disk_with(torn);
    let config = JournalConfig { load_truncated: false, ..config(Policy::No) };
    let error = open_with(config, &disk).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("aof-load-truncated is no"), "{error}");
    assert_eq!(disk.get(INCREMENT).unwrap(), torn);
}

#[test]
fn only_the_last_file_may_be_torn() {
    let disk = disk_with(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\nv");
    disk.put(MANIFEST, &[MANIFEST_TEXT, b"file appendonly.aof.2.incr.aof seq 2 type i\n"].concat());
    disk.put("/data/appendonlydir/appendonly.aof.2.incr.aof", &encoded(&["SET", "k", "v"]));
    let error = open_with(config(Policy::No), &disk).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("not the file that was being written to"), "{error}");
}

#[test]
fn foreign_folders_are_refused_with_what_to_do() {
    let check = |prepare: &dyn Fn(&SimDisk), part: &str| {
        let disk = SimDisk::new(1);
        prepare(&disk);
        let error = open_with(config(Policy::No), &disk).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}\nexpected: {part}");
    };
    check(&|disk| disk.put(INCREMENT, b"*1"), "no manifest names it");
    check(&|disk| disk.put(MANIFEST, MANIFEST_TEXT), "put it back from a backup");
    check(&|disk| disk.put(MANIFEST, b"file ../x seq 1 type i\n"), "line 1: `../x` is not a plain file name");
    let rdb = |disk: &SimDisk| {
        disk.put(MANIFEST, b"file b.rdb seq 1 type b\n");
        disk.put("/data/appendonlydir/b.rdb", b"REDIS0010");
    };
    check(&rdb, "RDB form, and nothing here was given to read that with");
}

#[test]
fn a_refused_record_stops_the_start() {
    let disk = disk_with(&[encoded(&["SET", "a", "1"]), encoded(&["NOSUCH"])].concat());
    let (_journal, recovery) = Journal::open(config(Policy::No), Arc::new(disk)).unwrap();
    let mut apply = |effects: &[Effect<'_>]| {
        if effects[0].args[0] == b"NOSUCH" { Err("unknown command".to_string()) } else { Ok(()) }
    };
    let error = recovery.replay(&mut apply).unwrap_err().to_string();
    assert!(error.contains("at offset 27 cannot be applied: unknown command"), "{error}");
}

/// Puts all off until it is asked to settle, and finds then that `NOSUCH` cannot be applied.
#[derive(Default)]
struct Late {
    waiting: Vec<(u64, Vec<u8>)>,
    settled: usize,
}

impl Apply for Late {
    fn apply(&mut self, offset: u64, group: &[Effect<'_>]) -> Result<(), Rejection> {
        self.waiting.push((offset, group[0].args[0].to_vec()));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Rejection> {
        self.settled += 1;
        let refused = self.waiting.drain(..).find(|(_, name)| name == b"NOSUCH");
        refused.map_or(Ok(()), |(offset, _)| Err(Rejection { offset, why: "unknown command".into() }))
    }
}

#[test]
fn what_was_put_off_is_heard_before_the_end_of_its_file_is_judged() {
    let (good, bad) = (encoded(&["SET", "a", "1"]), encoded(&["NOSUCH"]));
    for end in [&b""[..], b"*1\r\n$3\r\nDE", b"*1\r\n$x\r\n"] {
        let bytes = [&good, &bad, &good, end].concat();
        let disk = disk_with(&bytes);
        let (_journal, recovery) = Journal::open(config(Policy::No), Arc::new(disk.clone())).unwrap();
        let mut late = Late::default();
        let mut no_base = |_: &mut dyn std::io::Read, _: u64, _: &std::path::Path| Err(String::new());
        let error = recovery.replay_with_base(&mut late, &mut no_base).unwrap_err().to_string();
        assert!(error.contains("at offset 27 cannot be applied: unknown command"), "{error}");
        assert_eq!((late.settled, disk.get(INCREMENT).unwrap()), (1, bytes), "nothing was cut");
    }
}

#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let config = JournalConfig::new(dir.path().join("sub"));
    let (journal, recovery) = Journal::open(config.clone(), Arc::new(RealDisk)).unwrap();
    recovery.replay(&mut |_| Ok(())).unwrap();
    let error = Journal::open(config.clone(), Arc::new(RealDisk)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    append(&journal, &["0 SET a 1"]);
    // Files of another name are another one's.
    let other = JournalConfig { appendfilename: "appendonly.aof2".into(), ..config.clone() };
    let (_other, recovery) = Journal::open(other, Arc::new(RealDisk)).unwrap();
    assert_eq!(recovery.replay(&mut |_| Ok(())).unwrap().records, 0);
    drop(journal);
    let (_journal, recovery) = Journal::open(config, Arc::new(RealDisk)).unwrap();
    assert_eq!(recovery.replay(&mut |_| Ok(())).unwrap().records, 1);
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let disk = disk_with(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000000000\r\nv");
    let (_journal, groups, report) = open_with(config(Policy::No), &disk).unwrap();
    assert!(groups.is_empty() && report.bytes_cut > 0);
}
