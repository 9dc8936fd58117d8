//! A store in the test's own process, and clients of it. Connections are dealt out to the loops in turn, so
//! two in a row live on different ones. Each test file takes what it needs.

#![allow(dead_code)]

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use thali_server::Server;
use thali_server::config::Config;
use thali_testkit::{Reply, RespClient};

pub fn config(dir: &Path, settings: &[(&str, &str)]) -> Config {
    let base = [("port", "0"), ("loops", "2"), ("bind", "127.0.0.1"), ("dir", dir.to_str().unwrap())];
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
