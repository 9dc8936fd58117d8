//! The project's own chores: `cargo xtask <command>`.
//!
//! - `test`: everything that stands between a change and main, from formatting to the browser.
//! - `bench`: Thali and the stack a team would build, measured in the same run.
//! - `conformance`: seeded commands on an engine and on redis-server, replies compared.
//! - `crash`: the program killed while clients write, again and again, and its data compared with what they know.
//! - `docs`: writes the list of commands into COMPATIBILITY.md, as the binary itself gives it.
//! - `durability`: the figures of docs/durability.md, beside redis-server in one run.
//! - `fuzz`: inputs that libFuzzer makes up, for parsers, payloads, Lua's libraries and sequences of commands.
//! - `suite`: another project's test suite, run from its folder, judges the program.
//! - `wall`: no crate depends across the wall between the store and what stands on it.

mod bench;
mod conformance;
mod crash;
mod docs;
mod durability;
mod fuzz;
mod setup;
mod shell;
mod suite;
mod test;
mod wall;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Sets up what the tests need and runs every check; what CI runs.
    Test(test::TestArguments),
    /// Measures Thali and the stack a team would build, in the same run.
    Bench(bench::BenchArguments),
    /// Runs seeded commands on an engine and on redis-server and compares the replies.
    Conformance(conformance::ConformanceArguments),
    /// Kills the program while clients write and compares what it brings back with what they know.
    Crash(crash::CrashArguments),
    /// Brings the generated parts of COMPATIBILITY.md up to date.
    Docs(docs::DocsArguments),
    /// Measures writes under each policy, snapshots and loading beside redis-server.
    Durability(durability::DurabilityArguments),
    /// Runs made-up inputs against parsers, payloads, Lua's libraries and models of commands.
    Fuzz(fuzz::FuzzArguments),
    /// Runs another project's test suite, from a folder that you name, and counts.
    Suite(suite::SuiteArguments),
    /// Checks that no crate depends across the wall.
    Wall,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test(arguments) => test::run(&arguments),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Conformance(arguments) => conformance::run(&arguments),
        Chore::Crash(arguments) => crash::run(&arguments),
        Chore::Docs(arguments) => docs::run(&arguments),
        Chore::Durability(arguments) => durability::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Suite(arguments) => suite::run(&arguments),
        Chore::Wall => wall::check(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}
