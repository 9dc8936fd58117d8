//! Running a tool: its output goes through to the terminal, and its lines are kept for counting.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result};

pub struct Ran {
    pub status: ExitStatus,
    pub lines: Vec<String>,
}

/// Runs `command` to its end; standard output and error are shown as they come and returned.
pub fn run(command: &mut Command) -> Result<Ran> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    let output = child.stdout.take().expect("stdout is piped");
    let error = child.stderr.take().expect("stderr is piped");
    let errors = thread::spawn(move || pass_through(error, std::io::stderr()));
    let mut lines = pass_through(output, std::io::stdout());
    lines.extend(errors.join().expect("the copying thread does not panic"));
    Ok(Ran { status: child.wait()?, lines })
}

fn pass_through(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        // A closed terminal must not stop the run whose outcome is counted.
        let _ = writeln!(to, "{line}");
        lines.push(line);
    }
    lines
}

/// Where `program` lies in PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// `cargo`, the one that runs this xtask.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    // Set by cargo for xtask alone; would make every crate that reads it rebuild.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
    command
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
}
