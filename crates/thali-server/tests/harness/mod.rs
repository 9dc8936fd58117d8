//! A store in the test's own process, and clients of it. Connections are dealt out to the loops in turn, so
//! two in a row live on different ones. Each test file takes what it needs.

#![allow(dead_code)]

use std::time::Duration;

use tempfile::TempDir;
use thali_server::Server;
use thali_server::config::Config;
use thali_testkit::{Reply, RespClient};

pub fn start(dir: &TempDir, settings: &[(&str, &str)]) -> (Server, String) {
    let dir = dir.path().to_str().unwrap();
    let base = [("port", "0"), ("loops", "2"), ("bind", "127.0.0.1"), ("dir", dir)];
    let config = base
        .iter()
        .chain(settings)
        .fold(Config::default(), |config, (name, value)| config.with(name, value).unwrap());
    let server = Server::start(config).unwrap();
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
