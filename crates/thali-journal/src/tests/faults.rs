//! A disk that is full, slow or broken.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[test]
fn a_full_disk_refuses_and_heals() {
    for policy in [Policy::Always, Policy::Everysec] {
        let disk = SimDisk::new(3);
        let (journal, _) = open(policy, &disk);
        let first = append(&journal, &["0 SET a 1"]);
        wait_until("the first", || journal.synced() >= first);
        disk.set_space(10);
        let second = append(&journal, &["0 SET a 2", "0 SET b 2"]);
        wait_until("the refusal", || journal.refusal().is_some());
        let text = journal.refusal().unwrap();
        assert!(text.starts_with("MISCONF Errors writing to the AOF file: "), "{text}");
        assert!(journal.admit().is_err() && !journal.is_stuck());
        assert_eq!(journal.synced(), first);
        assert!(journal.state().failure.is_some());
        disk.set_space(u64::MAX);
        wait_until("healing", || journal.synced() >= second);
        assert_eq!((journal.refusal(), journal.admit()), (None, Ok(())));
        drop(journal);
        assert_eq!(open(policy, &disk).1, [vec!["0 SET a 1"], vec!["0 SET a 2", "0 SET b 2"]]);
    }
}

#[test]
fn closing_on_a_full_disk_is_an_error_and_leaves_a_clean_file() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::Everysec, &disk);
    disk.set_space(60);
    append(&journal, &["0 SET a 1"]);
    append(&journal, &["0 SET a 2"]);
    let error = journal.close().unwrap_err();
    assert!(error.to_string().contains("could not write all"), "{error}");
    let (_journal, _, report) = open_with(config(Policy::Everysec), &disk.killed()).unwrap();
    assert_eq!(report.bytes_cut, 0);
}

#[test]
fn a_failed_sync_is_final_and_acknowledges_nothing() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::Always, &disk);
    let first = append(&journal, &["0 SET a 1"]);
    wait_until("the first", || journal.synced() >= first);
    disk.set_sync_failures(1000);
    append(&journal, &["0 SET a 2"]);
    wait_until("the failure", || journal.is_stuck());
    disk.set_sync_failures(0);
    append(&journal, &["0 SET a 3"]);
    journal.set_policy(Policy::No);
    wait_until("the discarding", || journal.state().pending_bytes == 0);
    assert_eq!((journal.synced(), journal.durable()), (first, first));
    assert_eq!(&*journal.refusal().unwrap(), "MISCONF Errors writing to the AOF file: Input/output error");
    assert!(journal.close().is_err());
    // A restart builds on what is on the platter, not on the page cache.
    assert_eq!(open(Policy::Always, &disk.killed()).1, [["0 SET a 1"]]);
}

/// The page cache still has them, the disk has not, and a later sync would not care.
#[test]
fn bytes_of_a_failed_sync_are_made_durable_by_the_next_start() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::Everysec, &disk);
    disk.set_sync_failures(1000);
    append(&journal, &["0 SET a 1"]);
    wait_until("the failure", || journal.is_stuck());
    let image = disk.killed();
    let (journal, groups) = open(Policy::Always, &image);
    assert_eq!(groups, [["0 SET a 1"]]);
    let seq = append(&journal, &["0 SET a 2"]);
    wait_until("the sync", || journal.synced() >= seq);
    for seed in 0..10 {
        assert_eq!(open(Policy::Always, &image.crashed(seed)).1, [["0 SET a 1"], ["0 SET a 2"]]);
    }
}

#[test]
fn a_failed_sync_under_everysec_refuses_writes() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::Everysec, &disk);
    disk.set_sync_failures(1000);
    append(&journal, &["0 SET a 1"]);
    wait_until("the failure", || journal.is_stuck());
    assert!(journal.admit().is_err());
}

#[test]
fn appends_go_on_during_a_sync_and_share_the_next() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::Always, &disk);
    let before = disk.syncs();
    let held = disk.hold_syncs();
    let first = append(&journal, &["0 SET first 1"]);
    wait_until("the first write", || journal.state().unsynced_bytes > 0);
    let mut last = first;
    for n in 0..1000 {
        last = append(&journal, &[format!("0 SET k{n} 1")]);
    }
    assert!(journal.synced() < first);
    drop(held);
    wait_until("all synced", || journal.synced() >= last);
    assert_eq!(disk.syncs() - before, 2);
}

#[test]
fn admission_waits_beyond_the_bound_and_goes_on() {
    let disk = SimDisk::new(3);
    let config = JournalConfig { buffer_bytes_max: 1000, ..config(Policy::Always) };
    let (journal, _, _) = open_with(config, &disk).unwrap();
    let held = disk.hold_syncs();
    append(&journal, &["0 SET first 1"]);
    wait_until("the first write", || journal.state().unsynced_bytes > 0);
    append(&journal, &[format!("0 SET big {}", "x".repeat(2000))]);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let held = held;
        scope.spawn(|| {
            journal.admit().unwrap();
            admitted.store(1, Ordering::Release);
        });
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(admitted.load(Ordering::Acquire), 0);
        drop(held);
    });
    assert_eq!(admitted.load(Ordering::Acquire), 1);
}

#[test]
fn the_server_is_told_after_each_sync() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::Always, &disk);
    let told = Arc::new(AtomicU64::new(0));
    let tell = Arc::clone(&told);
    journal.set_on_sync(Box::new(move |seq| {
        tell.fetch_max(seq.0, Ordering::AcqRel);
    }));
    let seq = append(&journal, &["0 SET a 1"]);
    wait_until("the call", || told.load(Ordering::Acquire) >= seq.0);
}

#[test]
fn a_change_to_always_syncs_what_is_written() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::No, &disk);
    let seq = append(&journal, &["0 SET a 1"]);
    wait_until("the write", || journal.synced() >= seq);
    assert!(journal.durable() < seq);
    journal.set_policy(Policy::Always);
    wait_until("the sync", || journal.durable() >= seq);
}

#[test]
fn threads_append_whole_groups() {
    let disk = SimDisk::new(3);
    let (journal, _) = open(Policy::Everysec, &disk);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..500 {
                    append(journal, &[format!("{thread} SET k {n}"), format!("{thread} SET l {n}")]);
                }
            });
        }
    });
    drop(journal);
    let groups = open(Policy::Everysec, &disk).1;
    for thread in 0..4 {
        let own: Vec<_> = groups.iter().filter(|g| g[0].starts_with(&format!("{thread} "))).collect();
        assert_eq!(own.len(), 500);
        for (n, group) in own.into_iter().enumerate() {
            assert_eq!(group[..], [format!("{thread} SET k {n}"), format!("{thread} SET l {n}")]);
        }
    }
}
