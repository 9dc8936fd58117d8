//! Arguments, wiring, signals; no logic.

mod allocator;
mod app;
mod check;
mod demo;
mod http;
mod serve;
mod work;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The real-time backend in one program: store, queues, workers and sockets.
#[derive(Parser)]
#[command(name = "thali", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the store, the HTTP API and the gateway.
    ///
    /// Takes redis.conf's language: an optional file, then any directive as `--name value`; the
    /// environment's THALI_NAME stands between the two. With `--store URL` no store is started and
    /// Valkey or Redis at that address is used.
    Serve {
        /// `[redis.conf] [--port N] [--dir D] [--http-port N] [--store URL] [--name value]…`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs a command for each job of a queue, boxed in.
    Work(Box<work::WorkArgs>),
    /// Starts everything with a code judge as example, and prints its address.
    Demo {
        /// As for `serve`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Says what is in the files of a store that does not run, and where they are damaged.
    ///
    /// Takes a data folder, a manifest or an append-only file, and changes none of them. Ends with 0 where all
    /// is good, with 1 where something is damaged, and with 2 where it could not look.
    Check(check::CheckArgs),
    /// Speaks to a store from the command line: redis-cli's arguments, output and prompt.
    #[command(disable_help_flag = true)]
    Cli {
        /// As for redis-cli; `thali cli --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Loads a server that speaks RESP and measures it: redis-benchmark's names, and an open loop.
    Bench(Box<thali_load::BenchArgs>),
    /// Judges one submission from standard input: the demo's command for a job.
    #[command(hide = true)]
    Judge,
}

fn main() -> ExitCode {
    thali_server::memory::set_allocator(allocator::ALLOCATOR);
    if let Some(arguments) = as_cli() {
        return thali_cli::run(arguments, &thali_server::specs());
    }
    let result = match as_server() {
        Some(arguments) => serve::run_as_server(&arguments),
        None => match Cli::parse().command {
            Command::Cli { arguments } => return thali_cli::run(arguments, &thali_server::specs()),
            Command::Serve { arguments } => serve::run(&arguments),
            Command::Work(args) => work::run(*args),
            Command::Demo { arguments } => demo::run(&arguments),
            Command::Judge => demo::judge(),
            Command::Check(args) => return check::run(&args),
            Command::Bench(args) => return thali_load::main(&args),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thali: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments behind `thali cli`, or of a program that is called by a name that ends in `-cli`: it stands in
/// for redis-cli then. They are taken here, as some of them would mean something else to clap.
fn as_cli() -> Option<Vec<OsString>> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    let stem = std::path::Path::new(&name).file_name()?.to_string_lossy().into_owned();
    (stem.ends_with("-cli") || arguments.next()? == "cli").then(|| arguments.collect())
}

/// The arguments, where the program is called under a name that ends in `-server`: it stands in for
/// redis-server then.
fn as_server() -> Option<Vec<String>> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    let stem = std::path::Path::new(&name).file_name()?.to_string_lossy().into_owned();
    let lossy = |argument: OsString| argument.to_string_lossy().into_owned();
    stem.ends_with("-server").then(|| arguments.map(lossy).collect())
}
