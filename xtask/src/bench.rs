//! `cargo xtask bench …`: builds what is measured with the release profile and runs thali-bench.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{root, setup, shell};

#[derive(Args)]
pub struct BenchArguments {
    /// Goes to thali-bench as it is: `flow`, `store`, `report`, `flame`; `store --help` lists what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

pub fn run(arguments: &BenchArguments) -> Result<()> {
    // The peers of `flow` are Node's, and so is BullMQ, a client in `store`.
    if ["flow", "store"].contains(&arguments.arguments[0].as_str()) {
        setup::npm_ci(&root().join("bench/peers"))?;
    }
    let built = shell::cargo().args(["build", "--release", "-p", "thali", "-p", "thali-bench"]).status()?;
    if !built.success() {
        bail!("the build failed");
    }
    let release = shell::target().join("release");
    let status = Command::new(release.join("thali-bench"))
        .args(&arguments.arguments)
        .env("THALI_BIN", release.join("thali"))
        .status()?;
    if status.success() { Ok(()) } else { bail!("thali-bench ended with {status}") }
}
