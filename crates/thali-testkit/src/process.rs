//! One child process of a test, with its log.
//!
//! Owns: the child from start to reaping. stdout and stderr go to one file, which is printed
//! when the owning test panics. The child stays in the test's process group, so a test runner
//! that gives up on a test ends its children with it.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

const POLL: Duration = Duration::from_millis(10);
const LOG_LINES_SHOWN_MAX: usize = 60;

/// Polls `condition` until it holds. The error names `what` was awaited.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            bail!("waited {timeout:?} in vain for {what}");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `<folder>/<name>.log`, appending to an older log.
    pub fn spawn(name: &str, command: &mut Command, folder: &Path) -> Result<Process> {
        fs::create_dir_all(folder)?;
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}: {:?}", command.get_program()))?;
        Ok(Process { name: name.to_owned(), child, log })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything the child wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `text` stands in the log; fails at once when the child has exited without it.
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        self.wait_alive(&format!("{text:?} in the log"), timeout, |process| process.log().contains(text))
    }

    /// Waits until `address` accepts a connection; fails at once when the child has exited.
    pub fn wait_for_port(&mut self, address: &str, timeout: Duration) -> Result<()> {
        self.wait_alive(&format!("{address} to accept"), timeout, |_| TcpStream::connect(address).is_ok())
    }

    /// Waits for the child to end by itself.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {timeout:?}; its log ends:\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGKILL, then reap.
    pub fn kill9(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// SIGTERM, then wait for a clean end.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("send SIGTERM to {}", self.name))?;
        self.wait_exit(timeout)
    }

    fn wait_alive(
        &mut self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut(&Process) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            if condition(self) {
                return Ok(());
            }
            let end = match self.child.try_wait()? {
                Some(status) => Some(format!("ended with {status}")),
                None if Instant::now() >= deadline => Some(format!("gave no sign for {timeout:?}")),
                None => None,
            };
            if let Some(end) = end {
                bail!("{} {end} while waiting for {what}; its log ends:\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(POLL);
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN_MAX)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the child has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} (last lines)\n{}\n---", self.name, self.log_tail());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        Process::spawn("shell", Command::new("sh").args(["-c", script]), folder).unwrap()
    }

    #[test]
    fn log_is_awaited_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo ready; exec sleep 60", folder.path());
        process.wait_for_log("ready", Duration::from_secs(5)).unwrap();
        assert!(!process.kill9().unwrap().success());
        assert_eq!(process.log(), "ready\n");
    }

    #[test]
    fn early_exit_is_reported_with_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo oops; exit 3", folder.path());
        let error = process.wait_for_log("ready", Duration::from_secs(5)).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("oops"), "{error}");
    }

    #[test]
    fn terminate_asks_politely() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done", folder.path());
        process.wait_for_log("ready", Duration::from_secs(5)).unwrap();
        assert_eq!(process.terminate(Duration::from_secs(5)).unwrap().code(), Some(7));
    }
}
