//! Syncs that fail, by a library that stands between the program and the kernel: nothing that such a sync
//! was to cover is acknowledged, writes are refused, and a rewrite heals it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use thali_testkit::{Reply, RespClient, wait_until};

use super::store::{PATIENCE, Store, ask, is_misconf, wait_for_info, wait_for_refusal};

/// Fails `fdatasync` and `fsync` of files whose names hold what the file at `SYNCS_FAIL` says.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *switch_path = getenv("SYNCS_FAIL");
    FILE *file = switch_path ? fopen(switch_path, "r") : NULL;
    char what[64] = "", link[64], name[4096];
    if (!file) return 0;
    int found = fscanf(file, "%63s", what);
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, name, sizeof name - 1);
    if (found != 1 || len < 0) return 0;
    name[len] = 0;
    return strstr(name, what) != NULL;
}

#define SHIM(call) \
    int call(int fd) { \
        if (fails(fd)) { errno = EIO; return -1; } \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #call); \
        return real(fd); \
    }

SHIM(fsync)
SHIM(fdatasync)
"#;

/// A data folder whose syncs can be made to fail.
struct Faulty {
    folder: TempDir,
    shim: PathBuf,
}

impl Faulty {
    /// `None`, and a line that says so, without a C compiler.
    fn new() -> Option<Faulty> {
        let folder = tempfile::tempdir().unwrap();
        let (source, shim) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
        fs::write(&source, SHIM).unwrap();
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!("left out: there is no C compiler");
            return None;
        }
        Some(Faulty { folder, shim })
    }

    fn store(&self, settings: &[&str]) -> Store {
        let (shim, switch) = (self.shim.to_str().unwrap(), self.switch());
        let env = [("LD_PRELOAD", shim), ("SYNCS_FAIL", switch.to_str().unwrap())];
        Store::new(&self.data(), settings, &env)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn switch(&self) -> PathBuf {
        self.folder.path().join("switch")
    }

    fn fail(&self, names: &str) {
        // In one step, as it is read at any time.
        let aside = self.folder.path().join("switch.aside");
        fs::write(&aside, names).unwrap();
        fs::rename(aside, self.switch()).unwrap();
    }

    fn heal(&self) {
        fs::remove_file(self.switch()).unwrap();
    }
}

fn increment_len(data: &Path) -> u64 {
    fs::metadata(data.join("appendonlydir/appendonly.aof.1.incr.aof")).unwrap().len()
}

fn set(client: &mut RespClient, key: &str) {
    assert_eq!(ask(client, &["SET", key, key]).text(), "OK");
}

fn holds(client: &mut RespClient, key: &str) {
    assert_eq!(ask(client, &["GET", key]).text(), key);
}

fn wait_until_writes_are_taken(store: &Store) {
    let mut client = store.client();
    wait_until("writes to be taken", PATIENCE, || {
        !is_misconf(&ask(&mut client, &["SET", "healed", "healed"]))
    })
    .unwrap();
}

#[test]
fn under_always_what_a_failed_sync_was_to_cover_is_not_acknowledged_and_not_brought_back() {
    let Some(faulty) = Faulty::new() else { return };
    let mut store = faulty.store(&["--appendfsync", "always"]);
    let mut client = store.start();
    set(&mut client, "a");
    let len = increment_len(&faulty.data());
    // Rewrites fail, too.
    faulty.fail("appendonly");
    let reply = store.client().command(&["SET", "b", "b"]);
    assert!(reply.is_err(), "it was answered with {reply:?}");
    wait_for_refusal(&store);
    holds(&mut client, "a");
    assert_eq!(increment_len(&faulty.data()), len, "bytes that only the page cache has are left");
    store.kill();
    faulty.heal();
    let mut client = store.start();
    holds(&mut client, "a");
    assert_eq!(ask(&mut client, &["GET", "b"]), Reply::Nil);
    set(&mut client, "c");
}

#[test]
fn under_always_a_rewrite_heals_a_failed_sync() {
    let Some(faulty) = Faulty::new() else { return };
    let mut store = faulty.store(&["--appendfsync", "always"]);
    let mut client = store.start();
    set(&mut client, "a");
    faulty.fail("appendonly");
    assert!(store.client().command(&["SET", "b", "b"]).is_err());
    wait_for_refusal(&store);
    // Nothing heals before the disk does.
    wait_for_info(&mut client, "aof_last_bgrewrite_status", "err");
    assert!(is_misconf(&ask(&mut client, &["SET", "c", "c"])));
    faulty.heal();
    wait_until_writes_are_taken(&store);
    wait_for_info(&mut client, "aof_last_write_status", "ok");
    set(&mut client, "d");
    // Whether b was done was never said; it was, and the new base has it.
    let b = ask(&mut client, &["GET", "b"]);
    store.kill();
    let mut client = store.start();
    ["a", "d", "healed"].iter().for_each(|key| holds(&mut client, key));
    assert_eq!(ask(&mut client, &["GET", "b"]), b);
    assert_eq!(ask(&mut client, &["EXISTS", "c"]).integer(), Some(0));
}

#[test]
fn under_everysec_a_failed_sync_stops_writes_until_a_rewrite_and_loses_nothing_answered() {
    let Some(faulty) = Faulty::new() else { return };
    let mut store = faulty.store(&["--appendfsync", "everysec"]);
    let mut client = store.start();
    set(&mut client, "a");
    // Of the increment alone: the rewrite that heals it begins by itself.
    faulty.fail("appendonly.aof.1.incr.aof");
    set(&mut client, "b");
    wait_until("a rewrite", PATIENCE, || store.log().contains("the append-only file has a new base"))
        .unwrap();
    assert!(store.log().contains("cannot sync"), "{}", store.log());
    wait_until_writes_are_taken(&store);
    set(&mut client, "c");
    store.kill();
    let mut client = store.start();
    ["a", "b", "c", "healed"].iter().for_each(|key| holds(&mut client, key));
}

#[test]
fn a_dump_whose_sync_fails_leaves_the_one_before() {
    let Some(faulty) = Faulty::new() else { return };
    let mut store = faulty.store(&[]);
    let mut client = store.start();
    set(&mut client, "a");
    assert_eq!(super::store::snapshot(&mut client, "BGSAVE"), "ok");
    let dump = fs::read(faulty.data().join("dump.rdb")).unwrap();
    set(&mut client, "b");
    faulty.fail(".rdb");
    assert_eq!(super::store::snapshot(&mut client, "BGSAVE"), "err");
    assert_eq!(fs::read(faulty.data().join("dump.rdb")).unwrap(), dump);
    faulty.heal();
    assert_eq!(super::store::snapshot(&mut client, "BGSAVE"), "ok");
    set(&mut client, "c");
}
