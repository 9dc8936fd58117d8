//! A disk without space: writes are refused, reads go on, nothing acknowledged is lost, and it heals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use thali_testkit::{Reply, RespClient, wait_until};

use super::store::{PATIENCE, Store, ask, is_misconf, snapshot, wait_for_info, wait_for_refusal};

const DISK_BYTES: u64 = 24 << 20;
/// Deleted to make space again.
const BALLAST_BYTES: usize = 6 << 20;
const VALUE_LEN: usize = 5000;

/// A small file system of its own, unmounted with the value.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, and a line that says so, where mounting is not allowed.
    fn mount(kind: &str) -> Option<SmallDisk> {
        let disk = SmallDisk { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.path()).unwrap();
        let mut mount = Command::new("mount");
        if kind == "ext4" {
            let image = disk.folder.path().join("image");
            fs::File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
            let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).status();
            if !made.is_ok_and(|status| status.success()) {
                println!("left out: there is no mkfs.ext4");
                return None;
            }
            mount.args(["-o", "loop"]).arg(&image);
        } else {
            mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"]);
        }
        let output = mount.arg(disk.path()).output().expect("mount is everywhere");
        if output.status.success() {
            return Some(disk);
        }
        println!("left out: mounting is not allowed: {}", String::from_utf8_lossy(&output.stderr).trim());
        None
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It fails where mounting did.
        let _ = Command::new("umount").arg(self.path()).output();
    }
}

fn value(at: usize) -> String {
    at.to_string().chars().cycle().take(VALUE_LEN).collect()
}

/// Writes until told to stop or the connection ends; gives how many keys were acknowledged in all.
fn write_from(mut client: RespClient, from: usize, stop: &AtomicBool) -> usize {
    let mut at = from;
    while let Ok(reply) = client.command(&["SET", &format!("k{at}"), &value(at)]) {
        assert_eq!(reply, Reply::Status("OK".into()), "it was not held, but refused");
        at += 1;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    at
}

fn all_there(client: &mut RespClient, acknowledged: usize) {
    for at in 0..acknowledged {
        assert_eq!(ask(client, &["GET", &format!("k{at}")]).text(), value(at), "k{at} of {acknowledged}");
    }
}

/// Names in the data folder and its folder of journals, without those that must be there.
fn strange_files(disk: &Path) -> Vec<String> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let expected = |name: &String| {
        ["appendonlydir", "lost+found", "ballast"].contains(&name.as_str())
            || name.ends_with(".lock")
            || name.ends_with(".manifest")
            || name.ends_with(".incr.aof")
            || name.ends_with(".base.rdb")
    };
    let all = [names(disk), names(&disk.join("appendonlydir"))].concat();
    all.into_iter().filter(|name| !expected(name)).collect()
}

/// Writes on a thread until the disk is full; the last write is held then.
fn write_until_full(store: &Store, from: usize, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (client, stop) = (store.client(), Arc::clone(stop));
    let writing = thread::spawn(move || write_from(client, from, &stop));
    wait_for_refusal(store);
    writing
}

fn full_disk(kind: &str, policy: &str) {
    let Some(disk) = SmallDisk::mount(kind) else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let settings = ["--appendfsync", policy, "--auto-aof-rewrite-percentage", "0", "--rdbcompression", "no"];
    let mut store = Store::new(&disk.path(), &settings, &[]);
    let mut client = store.start();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = write_until_full(&store, 0, &stop);
    assert!(store.log().contains("No space left"), "{}", store.log());

    // Reads go on, and what makes files fails without a trace.
    assert_eq!(ask(&mut client, &["GET", "k1"]).text(), value(1));
    assert!(is_misconf(&ask(&mut client, &["SET", "other", "1"])));
    assert!(is_misconf(&ask(&mut client, &["EVAL", "return redis.call('INCR', KEYS[1])", "1", "n"])));
    for line in [&["MULTI"][..], &["GET", "k1"]] {
        ask(&mut client, line);
    }
    assert_eq!(ask(&mut client, &["EXEC"]).items().len(), 1);
    assert_eq!(snapshot(&mut client, "BGSAVE"), "err");
    assert_eq!(snapshot(&mut client, "BGREWRITEAOF"), "err");
    assert_eq!(strange_files(&disk.path()), Vec::<String>::new());

    // With space again, the write that was held is acknowledged and others are taken.
    stop.store(true, Ordering::Relaxed);
    fs::remove_file(&ballast).unwrap();
    let acknowledged = writing.join().unwrap();
    wait_for_info(&mut client, "aof_last_write_status", "ok");
    assert_eq!(ask(&mut client, &["SET", "healed", "1"]).text(), "OK");
    let writing = write_until_full(&store, acknowledged, &Arc::default());
    assert_eq!(ask(&mut client, &["GET", "healed"]).text(), "1");

    // Death on a full disk: the start needs no space.
    store.kill();
    let acknowledged = writing.join().unwrap();
    assert!(acknowledged > 1000, "{acknowledged} writes filled it");
    let mut client = store.start();
    all_there(&mut client, acknowledged);
    assert_eq!(ask(&mut client, &["GET", "healed"]).text(), "1");
    let held = ask(&mut client, &["EXISTS", &format!("k{}", acknowledged + 1)]);
    assert_eq!(held.integer(), Some(0), "a write that was never sent");
}

#[test]
fn a_full_tmpfs_heals_under_always() {
    full_disk("tmpfs", "always");
}

#[test]
fn a_full_tmpfs_heals_under_everysec() {
    full_disk("tmpfs", "everysec");
}

#[test]
fn a_full_ext4_heals_under_always() {
    full_disk("ext4", "always");
}

#[test]
fn a_full_ext4_heals_under_everysec() {
    full_disk("ext4", "everysec");
}

#[test]
fn deleting_and_rewriting_frees_a_disk_that_the_journal_filled() {
    let Some(disk) = SmallDisk::mount("tmpfs") else { return };
    // Without the ballast there would be no space for the new base beside the old one.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let mut store = Store::new(&disk.path(), &["--auto-aof-rewrite-percentage", "0"], &[]);
    let mut client = store.start();
    // One key, written again and again: the data is small, the journal is not.
    let mut writer = store.client();
    let writing = thread::spawn(move || {
        let mut at = 0;
        while writer.command(&["SET", "k", &value(at)]).is_ok_and(|reply| reply.text() == "OK") {
            at += 1;
        }
        at
    });
    wait_for_refusal(&store);
    assert_eq!(snapshot(&mut client, "BGREWRITEAOF"), "err");
    fs::remove_file(&ballast).unwrap();
    wait_for_info(&mut client, "aof_last_write_status", "ok");
    assert_eq!(snapshot(&mut client, "BGREWRITEAOF"), "ok");
    assert_eq!(strange_files(&disk.path()), Vec::<String>::new());
    wait_until("writes to be taken", PATIENCE, || ask(&mut client, &["SET", "after", "1"]).text() == "OK")
        .unwrap();
    store.kill();
    let writes = writing.join().unwrap();
    let mut client = store.start();
    let found = ask(&mut client, &["GET", "k"]).text();
    assert!([writes, writes.wrapping_sub(1)].map(value).contains(&found), "not the last of {writes} writes");
    assert_eq!(ask(&mut client, &["GET", "after"]).text(), "1");
}
