//! `cargo xtask suite`: another project's test suite judges the program.
//!
//! The suite's folder comes from outside and is named by the caller; nothing of it lies in this repository.
//! What does: which tests are left out and why (`tests/suites`), and this runner. It puts the program where
//! the suite looks for a server, runs file after file with a time limit, counts, and writes a record.
//!
//! - [`valkey`]: Valkey's Tcl suite in spawn mode, which starts its servers itself.
//! - `output`: what the harness prints, counted.
//! - `record`: the outcome as table, Markdown and JSON.
//! - [`published`]: what `tests/suites/records` keeps of a run, and COMPATIBILITY.md shows.
//! - `reasons`: why tests are left out or fail.

mod output;
pub mod published;
mod reasons;
mod record;
mod valkey;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct SuiteArguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Valkey's Tcl suite, each file with servers of its own.
    Valkey(valkey::ValkeyArguments),
}

pub fn run(arguments: &SuiteArguments) -> Result<()> {
    match &arguments.suite {
        Suite::Valkey(arguments) => valkey::run(arguments),
    }
}
