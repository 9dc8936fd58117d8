//! Syncs that fail, by a library that stands between the program and the kernel: nothing that such a sync
//! was to cover is acknowledged, writes are refused, and a rewrite heals it.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use thali_testkit::{Reply, RespClient, wait_until};

use super::store::{PATIENCE, Store, ask, is_misconf, wait_for_info, wait_for_refusal};

/// Fails `fdatasync` and `fsync` of files whose names hold the word that the file at `SYNCS_FAIL` says; with
/// `waits` behind it, they wait for as long as it says so, and succeed.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GOES_ON, FAILS, WAITS };

static int fate(int fd) {
    const char *switch_path = getenv("SYNCS_FAIL");
    FILE *file = switch_path ? fopen(switch_path, "r") : NULL;
    char what[64] = "", how[64] = "", link[64], name[4096];
    if (!file) return GOES_ON;
    int found = fscanf(file, "%63s %63s", what, how);
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, name, sizeof name - 1);
    if (found < 1 || len < 0) return GOES_ON;
    name[len] = 0;
    if (strstr(name, what) == NULL) return GOES_ON;
    return strcmp(how, "waits") == 0 ? WAITS : FAILS;
}

#define SHIM(call) \
    int call(int fd) { \
        int found; \
        while ((found = fate(fd)) == WAITS) usleep(1000); \
        if (found == FAILS) { errno = EIO; return -1; } \
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
    // The first one came with the start.
    let bases = || store.log().matches("the append-only file has a new base").count();
    wait_until("a rewrite", PATIENCE, || bases() == 2).unwrap();
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

/// What the death of the machine could take back, nobody is told of: redis-server syncs before it replies.
#[test]
fn under_always_what_is_read_is_synced_and_others_go_on() {
    let Some(faulty) = Faulty::new() else { return };
    let mut store = faulty.store(&["--appendfsync", "always", "--loops", "2"]);
    let mut client = store.start();
    for key in ["a", "b", "c", "d"] {
        set(&mut client, key);
    }
    faulty.fail("incr.aof waits");
    let mut writer = store.client();
    writer.send(&["SET", "fresh", "fresh"]).unwrap();
    wait_until("the write", PATIENCE, || ask(&mut client, &["DBSIZE"]).integer() == Some(5)).unwrap();
    let mut reader = store.connect().unwrap();
    reader.write_all(b"GET fresh\r\n").unwrap();
    reader.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut reply = [0; 11];
    let early = reader.read(&mut reply);
    assert!(early.is_err(), "answered before the sync: {early:?}");
    // Those four keys lie in other shards.
    for key in ["a", "b", "c", "d"] {
        holds(&mut client, key);
    }
    faulty.heal();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    reader.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"$5\r\nfresh\r\n");
    assert_eq!(writer.read().unwrap().text(), "OK");
}

#[test]
fn waitaof_answers_once_the_clients_writes_are_synced() {
    let Some(faulty) = Faulty::new() else { return };
    let mut store = faulty.store(&["--appendfsync", "everysec"]);
    let mut client = store.start();
    let counts = |local: i64| Reply::Array(vec![Reply::Integer(local), Reply::Integer(0)]);
    set(&mut client, "a");
    assert_eq!(ask(&mut client, &["WAITAOF", "1", "0", "0"]), counts(1));
    faulty.fail("incr.aof waits");
    set(&mut client, "b");
    assert_eq!(ask(&mut client, &["WAITAOF", "1", "0", "30"]), counts(0));
    assert_eq!(ask(&mut client, &["WAITAOF", "0", "0", "0"]), counts(0));
    client.send(&["WAITAOF", "1", "0", "0"]).unwrap();
    let mut other = store.client();
    let is_blocked = || ask(&mut other, &["INFO", "clients"]).text().contains("blocked_clients:1\r\n");
    wait_until("the client to wait", PATIENCE, is_blocked).unwrap();
    faulty.heal();
    assert_eq!(client.read().unwrap(), counts(1));
    // Replicas there are none: who asks for them waits for the whole time.
    assert_eq!(ask(&mut client, &["WAITAOF", "1", "1", "20"]), counts(1));
    for (arguments, why) in [
        (["2", "0", "0"], "must be between 0 and 1"),
        (["1", "-1", "0"], "must be positive"),
        (["1", "0", "-1"], "timeout is negative"),
    ] {
        let line = [&["WAITAOF"], &arguments[..]].concat();
        assert!(matches!(ask(&mut client, &line), Reply::Error(text) if text.contains(why)), "{line:?}");
    }
    assert_eq!(ask(&mut client, &["CONFIG", "SET", "appendonly", "no"]).text(), "OK");
    assert!(
        matches!(ask(&mut client, &["WAITAOF", "1", "0", "0"]), Reply::Error(text) if text.contains("appendonly"))
    );
}
