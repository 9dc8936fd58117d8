//! The program on a folder that outlives it, alone and with an environment of its own.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use thali_testkit::{Port, Process, Reply, RespClient, wait_until};

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Store {
    /// Logs; not on the disk that fails.
    logs: TempDir,
    data: PathBuf,
    port: Port,
    settings: Vec<String>,
    env: Vec<(String, String)>,
    process: Option<Process>,
    starts: usize,
}

impl Store {
    pub fn new(data: &Path, settings: &[&str], env: &[(&str, &str)]) -> Self {
        let logs = tempfile::tempdir().unwrap();
        // Called like that, it is the store alone.
        symlink(env!("CARGO_BIN_EXE_thali"), logs.path().join("thali-server")).unwrap();
        let settings = settings.iter().map(|word| (*word).to_owned()).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let port = Port::free().unwrap();
        Store { logs, data: data.to_owned(), port, settings, env, process: None, starts: 0 }
    }

    pub fn start(&mut self) -> RespClient {
        self.starts += 1;
        let mut command = Command::new(self.logs.path().join("thali-server"));
        command.args(["--port", &self.port.number().to_string(), "--bind", "127.0.0.1", "--dir"]);
        command.arg(&self.data).args(["--save", "", "--appendonly", "yes"]).args(&self.settings);
        command.envs(self.env.iter().cloned());
        let name = format!("start-{}", self.starts);
        let mut process = Process::spawn(&name, &mut command, self.logs.path()).unwrap();
        process.wait_for_log("Ready to accept connections", PATIENCE).unwrap();
        self.process = Some(process);
        self.client()
    }

    pub fn client(&self) -> RespClient {
        RespClient::connect(&self.port.address()).unwrap()
    }

    /// A connection without a client.
    pub fn connect(&self) -> std::io::Result<std::net::TcpStream> {
        std::net::TcpStream::connect(self.port.address())
    }

    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill9().unwrap();
    }

    /// Waits until the process has ended by itself; gives its log.
    pub fn wait_for_end(&mut self) -> String {
        let mut process = self.process.take().expect("it runs");
        process.wait_exit(PATIENCE).unwrap();
        process.log()
    }

    pub fn log(&self) -> String {
        self.process.as_ref().expect("it runs").log()
    }
}

pub fn ask(client: &mut RespClient, args: &[&str]) -> Reply {
    client.command(args).unwrap()
}

pub fn is_misconf(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("MISCONF"))
}

/// Waits until a write is refused on a connection of its own: others may be held.
pub fn wait_for_refusal(store: &Store) {
    let mut client = store.client();
    wait_until("writes to be refused", PATIENCE, || {
        // Asked as a script so that nothing is appended where it is not refused.
        is_misconf(&ask(&mut client, &["EVAL", "return redis.call('DEL', KEYS[1])", "1", "nobody"]))
            || info(&mut client, "aof_last_write_status") == "err"
    })
    .unwrap();
    assert!(is_misconf(&ask(&mut client, &["DEL", "nobody"])), "writes are taken although they fail");
}

pub fn wait_for_info(client: &mut RespClient, name: &str, value: &str) {
    let what = format!("{name} to be {value}");
    wait_until(&what, PATIENCE, || info(client, name) == value).unwrap();
}

/// A line of INFO persistence.
pub fn info(client: &mut RespClient, name: &str) -> String {
    let info = ask(client, &["INFO", "persistence"]).text();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
}

/// Asks for a snapshot and waits for its end; gives how it ended.
pub fn snapshot(client: &mut RespClient, command: &str) -> String {
    let (runs, status) = match command {
        "BGSAVE" => ("rdb_bgsave_in_progress", "rdb_last_bgsave_status"),
        _ => ("aof_rewrite_in_progress", "aof_last_bgrewrite_status"),
    };
    // A rewrite that began by itself may run.
    wait_until("the snapshot to begin", PATIENCE, || !matches!(ask(client, &[command]), Reply::Error(_)))
        .unwrap();
    wait_for_info(client, runs, "0");
    info(client, status)
}
