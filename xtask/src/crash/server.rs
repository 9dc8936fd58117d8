//! The server of the crash harness: the real program on a data folder that outlives it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use thali_testkit::{Port, Process, RespClient, thali_bin};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const END_TIMEOUT: Duration = Duration::from_secs(60);
const READY: &str = "Ready to accept connections";

/// Where it listens, what it is called with, and its folder.
pub struct Place {
    pub folder: TempDir,
    port: Port,
    program: PathBuf,
    settings: Vec<String>,
    starts: usize,
}

impl Place {
    /// `settings` as the program takes them, `--name value`.
    pub fn new(within: Option<&Path>, settings: &[&str]) -> Result<Self> {
        let folder = match within {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        }?;
        // Called like that, it is the store alone.
        let program = folder.path().join("thali-server");
        symlink(thali_bin()?.canonicalize()?, &program)?;
        let settings = settings.iter().map(|word| (*word).to_owned()).collect();
        Ok(Self { folder, port: Port::free()?, program, settings, starts: 0 })
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn address(&self) -> String {
        self.port.address()
    }

    /// Starts it and does not wait.
    pub fn spawn(&mut self) -> Result<Process> {
        self.starts += 1;
        let mut command = Command::new(&self.program);
        command.args(["--port", &self.port.number().to_string(), "--bind", "127.0.0.1", "--dir"]);
        command
            .arg(self.data())
            .args(["--appendonly", "yes"])
            .args(&self.settings)
            .current_dir(self.folder.path());
        Process::spawn(&format!("start-{}", self.starts), &mut command, self.folder.path())
    }

    pub fn start(&mut self) -> Result<(Process, RespClient)> {
        let mut process = self.spawn()?;
        process.wait_for_log(READY, START_TIMEOUT)?;
        let client = RespClient::connect(&self.address())?;
        Ok((process, client))
    }
}

/// Debian's redis-server on a folder.
pub fn redis_on(data: &Path, logs: &Path) -> Result<(Process, RespClient)> {
    let port = Port::free()?;
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.number().to_string(), "--bind", "127.0.0.1"]);
    command.args(["--appendonly", "yes", "--save", "", "--dir"]).arg(data);
    let mut process = Process::spawn("redis-server", &mut command, logs)?;
    process.wait_for_log(READY, START_TIMEOUT).context("redis-server on the same folder")?;
    Ok((process, RespClient::connect(&port.address())?))
}

/// Ends it politely.
pub fn end(mut process: Process) -> Result<()> {
    let status = process.terminate(END_TIMEOUT)?;
    anyhow::ensure!(status.success(), "a polite end gave {status}:\n{}", process.log());
    Ok(())
}
