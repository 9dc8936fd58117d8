//! A store in the test's own process, and clients of it. Connections are dealt out to the loops in turn, so
//! two in a row live on different ones. Each loop has its own thread, as races want it; with `THALI_LOOPS_TOGETHER=auto`
//! all tests run as servers do by default. Each test file takes what it needs.

#![allow(dead_code)]

pub mod data;
pub mod tls;

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thali_server::Server;
use thali_server::config::Config;
use thali_testkit::{Reply, RespClient};

pub fn config(dir: &Path, settings: &[(&str, &str)]) -> Config {
    let together = std::env::var("THALI_LOOPS_TOGETHER").unwrap_or_else(|_| "no".into());
    let base = [
        ("port", "0"),
        ("loops", "2"),
        ("loops-together", together.as_str()),
        ("bind", "127.0.0.1"),
        ("dir", dir.to_str().unwrap()),
    ];
    let settings = base.iter().chain(settings);
    settings.fold(Config::default(), |config, (name, value)| config.with(name, value).unwrap())
}

pub fn start(dir: &TempDir, settings: &[(&str, &str)]) -> (Server, String) {
    let server = Server::start(config(dir.path(), settings)).unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

pub fn connect(address: &str) -> RespClient {
    RespClient::connect(address).unwrap()
}

pub fn ask(client: &mut RespClient, line: &str) -> Reply {
    client.command(&line.split(' ').collect::<Vec<_>>()).unwrap()
}

pub fn wait_for_blocked(client: &mut RespClient, count: usize) {
    let wanted = format!("blocked_clients:{count}\r\n");
    while !ask(client, "INFO clients").text().contains(&wanted) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A command that must not fail.
pub fn ok(client: &mut RespClient, line: &str) {
    let reply = ask(client, line);
    assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
}

/// A figure of INFO persistence.
pub fn figure(client: &mut RespClient, name: &str) -> String {
    let info = ask(client, "INFO persistence").text();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
}

pub fn wait_for(client: &mut RespClient, name: &str, value: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while figure(client, name) != value {
        assert!(Instant::now() < deadline, "{name} stays {}", figure(client, name));
        std::thread::sleep(Duration::from_millis(2));
    }
}
