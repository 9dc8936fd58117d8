//! A server that is measured: started afresh on a free port of loopback, in a folder of its own.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use thali_testkit::{Port, Process, RespClient};

use crate::usage;

const READY: &str = "Ready to accept connections";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A program and what it is told.
#[derive(Debug, Clone)]
pub struct Contender {
    pub name: String,
    pub program: PathBuf,
    pub settings: Vec<String>,
}

pub struct Server {
    // Before the folder it works in.
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Server {
    pub fn start(contender: &Contender, within: Option<&Path>) -> Result<Self> {
        Self::start_under(&[], START_TIMEOUT, contender, within)
    }

    /// As an argument of another program, which takes its time.
    pub fn start_under(
        wrapper: &[&str],
        timeout: Duration,
        contender: &Contender,
        within: Option<&Path>,
    ) -> Result<Self> {
        let folder = match within {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        }?;
        let port = Port::free()?;
        let program = if contender.program.file_name().is_some_and(|name| name == "thali") {
            // Under this name it is the store alone, with redis-server's defaults.
            let link = folder.path().join("thali-server");
            symlink(contender.program.canonicalize()?, &link)?;
            link
        } else {
            contender.program.clone()
        };
        let mut words = wrapper.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("the program, at least"));
        command.args(words).args(["--port", &port.number().to_string(), "--bind", "127.0.0.1", "--dir"]);
        command.arg(folder.path()).args(&contender.settings).env_remove("THALI_BIN");
        let mut process = Process::spawn("server", &mut command, folder.path())?;
        process.wait_for_log(READY, timeout).with_context(|| format!("start {}", contender.name))?;
        Ok(Self { process, port, _folder: folder })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    pub fn client(&self) -> Result<RespClient> {
        RespClient::connect(&self.port.address())
    }

    pub fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.pid())
    }

    pub fn rss_bytes(&self) -> Result<f64> {
        Ok(usage::rss_bytes(self.pid())? as f64)
    }

    /// A line of INFO.
    pub fn info(&self, name: &str) -> Result<String> {
        let text = self.client()?.command(&["INFO"])?.text();
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(found.with_context(|| format!("no {name} in INFO"))?.trim().to_owned())
    }

    /// What it calls itself, and its version.
    pub fn version(&self) -> Result<String> {
        for (field, name) in
            [("thali_version", "Thali"), ("valkey_version", "Valkey"), ("redis_version", "Redis")]
        {
            if let Ok(version) = self.info(field) {
                return Ok(format!("{name} {version}"));
            }
        }
        Ok("unknown".to_owned())
    }
}
