//! A Node program as the generator: it prepares itself, prints `ready`, begins when it is told, prints how long it took
//! as a line of JSON, and stays until it is let go.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{stack, usage};

pub struct NodeTask {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Done {
    pub jobs: u64,
    pub seconds: f64,
}

impl NodeTask {
    /// Starts a program of bench/peers and waits until it is ready. What it has to say of errors it says on this
    /// process's standard error; it gives up by itself when a task takes minutes.
    pub fn prepare(script: &str, arguments: &[&str], store: SocketAddr) -> Result<Self> {
        Self::start(stack::node(script, &store.to_string()).args(arguments))
    }

    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut task = Self { child, input, output };
        let line = task.line()?;
        ensure!(line == "ready", "not ready but {line:?}");
        Ok(task)
    }

    pub fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.child.id())
    }

    /// To the end of the task.
    pub fn run(&mut self) -> Result<Done> {
        self.input.write_all(b"go\n")?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("no result: {line:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the Node program has ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for NodeTask {
    fn drop(&mut self) {
        // Both fail only where it has ended, and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<NodeTask> {
        NodeTask::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_task_begins_when_it_is_told() {
        let mut task =
            shell(r#"echo ready; read word; echo "{\"jobs\": 7, \"seconds\": 0.5}"; read word"#).unwrap();
        let before = task.cpu_seconds().unwrap();
        assert_eq!(task.run().unwrap(), Done { jobs: 7, seconds: 0.5 });
        assert!(task.cpu_seconds().unwrap() >= before);
    }

    #[test]
    fn what_goes_wrong_is_told() {
        assert!(shell("exit 1").err().unwrap().to_string().contains("has ended"));
        assert!(shell("echo something").err().unwrap().to_string().contains("something"));
        let error = shell("echo ready; read word; echo {}; read word").unwrap().run().unwrap_err();
        assert!(error.to_string().contains("no result"));
        let error = shell("echo ready; read word").unwrap().run().unwrap_err();
        assert!(error.to_string().contains("has ended"));
    }
}
