//! `thali cli`, driven from outside: beside Debian's redis-cli, at a terminal, over TLS, and against servers that
//! don't behave.

mod cluster;
mod prompt;
mod side_by_side;
mod strangers;
mod terminal;
mod tls;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};

/// Runs a command-line client with this input and waits for its end.
fn run(mut client: Command, args: &[&str], input: &[u8]) -> Result<Output> {
    client.args(args).env_remove("REDISCLI_AUTH").env("HOME", "/nonexistent");
    run_as_it_is(client, input)
}

fn run_as_it_is(mut client: Command, input: &[u8]) -> Result<Output> {
    let program = client.get_program().to_owned();
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = client.spawn().with_context(|| format!("start {program:?}"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let input = input.to_vec();
    // Beside the reading, as a client that is stuck writing doesn't read. One that ends early reads not at all.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    Ok(output)
}

fn thali_cli() -> Command {
    let mut command = Command::new(thali_testkit::thali_bin().expect("the program builds"));
    command.arg("cli");
    command
}

fn redis_cli() -> Command {
    Command::new("redis-cli")
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or("", |(_, port)| port)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
