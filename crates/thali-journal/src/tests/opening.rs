//! Folders and files that others wrote, and looking at files without opening them.

use std::io::Read;
use std::path::Path;

use super::*;

const OLD: &str = "/data/appendonly.aof";
const ADOPTED: &str = "/data/appendonlydir/appendonly.aof";

/// A file of Redis 6, with a timestamp of Redis 7 and perhaps a torn end.
fn old_file(torn: bool) -> Vec<u8> {
    let mut bytes =
        [b"#TS:1700000000\r\n".to_vec(), encoded(&["SELECT", "2"]), encoded(&["SET", "a", "1"])].concat();
    bytes.extend_from_slice(&encoded(&["SET", "b", "2"]));
    if torn {
        bytes.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$1\r\nc");
    }
    bytes
}

#[test]
fn the_single_file_of_redis_6_becomes_the_base() {
    for torn in [false, true] {
        let disk = SimDisk::new(1);
        disk.put(OLD, &old_file(torn));
        let (journal, groups, report) = open_with(config(Policy::Always), &disk).unwrap();
        assert_eq!(groups, [["2 SET a 1"], ["2 SET b 2"]]);
        assert_eq!((disk.get(OLD), disk.get(ADOPTED)), (None, Some(old_file(false))));
        assert_eq!(report.bytes_cut, if torn { 18 } else { 0 });
        assert_eq!(report.unchecked_bytes, old_file(false).len() as u64);
        append(&journal, &["2 DEL a"]);
        drop(journal);
        assert_eq!(open(Policy::Always, &disk).1, [["2 SET a 1"], ["2 SET b 2"], ["2 DEL a"]]);
    }
}

#[test]
fn a_crash_at_any_step_of_taking_it_over_keeps_it() {
    for n in 0.. {
        let mut reached = false;
        for seed in 0..8 {
            let disk = SimDisk::new(seed);
            disk.put(OLD, &old_file(true));
            disk.die_after(n);
            let result = open_with(config(Policy::Always), &disk);
            reached |= result.is_err();
            drop(result);
            let image = if seed == 0 { disk.killed() } else { disk.crashed(seed) };
            let (_journal, groups) = open(Policy::Always, &image);
            assert_eq!(groups, [["2 SET a 1"], ["2 SET b 2"]], "step {n}, seed {seed}");
        }
        if !reached {
            break;
        }
    }
}

#[test]
fn an_old_file_beside_a_folder_in_use_is_left_alone() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::Always, &disk);
    append(&journal, &["0 SET new 1"]);
    drop(journal);
    disk.put(OLD, &old_file(false));
    assert_eq!(open(Policy::Always, &disk).1, [["0 SET new 1"]]);
    assert_eq!(disk.get(OLD), Some(old_file(false)));
}

#[test]
fn a_base_in_rdb_form_is_handed_over_and_requests_behind_it_are_read() {
    for behind in [vec![], encoded(&["SET", "behind", "1"])] {
        let disk = SimDisk::new(1);
        let rdb = b"REDIS0010 and so on";
        disk.put(
            MANIFEST,
            b"file appendonly.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
        );
        disk.put(ADOPTED, &[&rdb[..], &behind].concat());
        disk.put(INCREMENT, &encoded(&["SET", "last", "1"]));
        let (_journal, recovery) = Journal::open(config(Policy::Always), Arc::new(disk.clone())).unwrap();
        let progress = recovery.progress();
        let (mut groups, mut handed) = (Groups::new(), Vec::new());
        let report = recovery
            .replay_with_base(
                &mut AtOnce(&mut |effects| {
                    groups.push(lines(effects));
                    Ok(())
                }),
                &mut |source, len, path| {
                    assert!(path.ends_with("appendonly.aof"));
                    source.take(len).read_to_end(&mut handed).map_err(|error| error.to_string())?;
                    Ok(rdb.len() as u64)
                },
            )
            .unwrap();
        assert_eq!(handed, [&rdb[..], &behind].concat());
        let expected: &[&str] =
            if behind.is_empty() { &["0 SET last 1"] } else { &["0 SET behind 1", "0 SET last 1"] };
        assert_eq!(groups.concat(), expected);
        assert_eq!((report.rdb_bytes, report.files), (rdb.len() as u64, 2));
        let (read, total) = progress.bytes();
        assert_eq!((read, report.bytes_read), (total, total));
    }
}

#[test]
fn what_its_reader_refuses_stops_the_start() {
    let disk = SimDisk::new(1);
    disk.put(MANIFEST, b"file b.rdb seq 1 type b\n");
    disk.put("/data/appendonlydir/b.rdb", b"REDIS0010");
    let attempt = |answer: Result<u64, String>| {
        let (_journal, recovery) = Journal::open(config(Policy::No), Arc::new(disk.clone())).unwrap();
        recovery
            .replay_with_base(&mut AtOnce(&mut |_| Ok(())), &mut |_, _, _| answer.clone())
            .unwrap_err()
            .to_string()
    };
    assert!(
        attempt(Err("bad checksum at offset 7".into())).contains("b.rdb cannot be loaded: bad checksum at")
    );
    assert!(attempt(Ok(10)).contains("it has 10 bytes, the file has 9"));
}

#[test]
fn checking_says_what_is_there_and_where_it_ends_to_be_good() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::No, &disk);
    append(&journal, &["0 SET a 1"]);
    append(&journal, &["0 SET a 2", "1 INCR b"]);
    drop(journal);
    let path = Path::new(INCREMENT);
    let whole = disk.get(INCREMENT).unwrap();
    let report = &check_manifest(&disk, Path::new(MANIFEST)).unwrap()[0];
    assert_eq!((report.kind, report.batches, report.groups, report.records), (FileKind::Increment, 4, 2, 3));
    assert_eq!(report.commands, [("SET".into(), 2), ("INCR".into(), 1)]);
    assert_eq!(
        (report.checked_bytes, report.good_len, report.damage.as_ref()),
        (report.bytes, report.bytes, None)
    );
    assert_eq!(find_manifests(&disk, Path::new("/data/appendonlydir")).unwrap(), [Path::new(MANIFEST)]);

    let mut damaged = whole.clone();
    damaged[whole.len() - HEADER_LEN - 1] ^= 1;
    disk.put(INCREMENT, &damaged);
    let report = check_file(&disk, path, FileKind::Single).unwrap();
    let damage = report.damage.unwrap();
    assert!(!damage.is_tear && damage.why.contains("do not match their checksum"), "{damage:?}");
    assert_eq!((report.good_len, report.records), (damage.offset, 1));

    disk.put(INCREMENT, &whole[..whole.len() - 1]);
    let report = check_file(&disk, path, FileKind::Single).unwrap();
    assert!(report.damage.unwrap().is_tear);
}

#[test]
fn a_cut_copy_is_good_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, copy) = (dir.path().join("f.aof"), dir.path().join("copy.aof"));
    let good = [encoded(&["SET", "a", "1"]), encoded(&["SET", "b", "1"])].concat();
    std::fs::write(&file, [&good[..], b"garbage\r\n", &good].concat()).unwrap();
    let report = check_file(&RealDisk, &file, FileKind::Single).unwrap();
    assert_eq!(copy_good_part(&report, &copy).unwrap(), good.len() as u64);
    assert_eq!(std::fs::read(&copy).unwrap(), good);
    assert_eq!(check_file(&RealDisk, &copy, FileKind::Single).unwrap().damage, None);
    assert!(copy_good_part(&report, &copy).unwrap_err().to_string().contains("cannot create"));
    assert!(copy_good_part(&report, &file).is_err());
}
