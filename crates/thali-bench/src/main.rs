//! Benchmarks: of the whole loop against the stack a team would build, and of the store against its peers. Run by
//! `cargo xtask bench`.
//!
//! - [`flow`]: finds each side's highest sustainable rate, alternating the sides.
//! - [`load`]: the open-loop generator: HTTP in, socket out, every delivery counted.
//! - [`stack`]: starts one side and knows its processes.
//! - [`socket`]: a minimal Socket.IO client over WebSocket.
//! - [`counts`]: instructions for a request, guarded.
//! - [`nothing`]: a server that does nothing, for what the kernel takes of a request.
//! - [`store`]: Thali and its peers on the same cores, case by case, with goals.
//! - [`usage`]: CPU seconds and memory of a process from /proc.
//! - [`worker`]: the worker of Thali's side.

mod counts;
mod flow;
mod load;
mod nothing;
mod socket;
mod stack;
mod store;
mod usage;
mod worker;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    about = "Benchmarks against the stack a team would build, and against other stores"
)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Jobs over HTTP, through queue and worker, to the right socket.
    Flow(flow::FlowArguments),
    /// The store beside redis-server and other peers: throughput, CPU, latency, memory, tails.
    Store(store::StoreArguments),
    /// Writes what `store` measured into docs/performance.md.
    Report(store::ReportArguments),
    /// Instructions for a request, held against those of bench/counts.txt.
    Counts(counts::CountsArguments),
    /// Where a server's time goes in a case of `store`: a flame graph.
    Flame(store::FlameArguments),
    /// A server that does nothing but read and reply: what it takes is the kernel's.
    Nothing(nothing::NothingArguments),
    /// The worker of Thali's side; `flow` starts it.
    #[command(hide = true)]
    Worker(worker::WorkerArguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().bench {
        Bench::Flow(arguments) => flow::run(&arguments),
        Bench::Store(arguments) => store::run(&arguments),
        Bench::Report(arguments) => store::report(&arguments),
        Bench::Counts(arguments) => counts::run(&arguments),
        Bench::Flame(arguments) => store::flame(&arguments),
        Bench::Nothing(arguments) => nothing::run(&arguments),
        Bench::Worker(arguments) => worker::run(&arguments),
    }
}
