//! Claims about what killed processes leave half-made: it does not pile up.

use std::fs;
use std::path::{Path, PathBuf};

use thali_server::Server;
use thali_server::config::Config;
use thali_testkit::{Reply, RespClient, wait_until};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

fn start(dir: &Path) -> (Server, RespClient) {
    let settings = [
        ("port", "0"),
        ("loops", "2"),
        ("bind", "127.0.0.1"),
        ("save", ""),
        ("appendonly", "yes"),
        ("dir", dir.to_str().unwrap()),
    ];
    let config =
        settings.iter().fold(Config::default(), |config, (name, value)| config.with(name, value).unwrap());
    let server = Server::start(config).unwrap();
    let client = RespClient::connect(&server.addresses()[0].to_string()).unwrap();
    (server, client)
}

fn names(dir: PathBuf) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_dump_deletes_what_killed_processes_left_of_theirs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut client) = start(dir.path());
    // No process has such a number; the first process lives, and what it writes is left to it.
    let others = ["temp-1.rdb", "temp-old.rdb", "temp-007.rdb", "my-temp-4999999.rdb"];
    for name in others.iter().chain(&["temp-4999999.rdb"]) {
        fs::write(dir.path().join(name), "half a dump").unwrap();
    }
    assert_eq!(client.command(&["SAVE"]).unwrap(), Reply::Status("OK".into()));
    let mut due = [&others[..], &["appendonlydir", "dump.rdb"]].concat();
    due.sort_unstable();
    assert_eq!(names(dir.path().to_owned()), due);
    drop(client);
    server.shutdown().unwrap();
}

/// As a kill leaves it that comes when the new base bears its name: the manifest calls it history.
#[test]
fn a_start_deletes_a_base_that_a_killed_rewrite_made_and_did_not_come_to_use() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut client) = start(dir.path());
    client.command(&["SET", "k", "v"]).unwrap();
    client.command(&["BGREWRITEAOF"]).unwrap();
    wait_until("the rewrite to end", PATIENCE, || {
        let info = client.command(&["INFO", "persistence"]).unwrap().text();
        info.contains("aof_rewrite_in_progress:0")
    })
    .unwrap();
    drop(client);
    server.shutdown().unwrap();
    let folder = dir.path().join("appendonlydir");
    let before = names(folder.clone());
    fs::copy(folder.join("appendonly.aof.2.base.rdb"), folder.join("appendonly.aof.3.base.rdb")).unwrap();
    let manifest = folder.join("appendonly.aof.manifest");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text + "file appendonly.aof.3.base.rdb seq 3 type h\n").unwrap();
    let (server, mut client) = start(dir.path());
    assert_eq!(names(folder), before);
    assert_eq!(client.command(&["GET", "k"]).unwrap().text(), "v");
    drop(client);
    server.shutdown().unwrap();
}
