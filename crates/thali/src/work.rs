//! `thali work QUEUE -- COMMAND…`: a process for each job.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use thali_client::{StoreAddress, TlsFiles};
use thali_jobs::exec::{self, ExecConfig};
use thali_sandbox::{Mechanism, Network};

/// The store of `thali serve` without further settings.
const STORE_DEFAULT: &str = "redis://127.0.0.1:6379";

#[derive(Args)]
pub struct WorkArgs {
    /// The queue to work on.
    queue: String,
    /// Where the store is.
    #[arg(long, env = "THALI_STORE", hide_env_values = true, default_value = STORE_DEFAULT)]
    store: String,
    /// Whose certificates are good, where the store is at rediss://: a file in PEM.
    #[arg(long, env = "THALI_STORE_CA")]
    store_ca: Option<PathBuf>,
    /// The certificate that the store is shown, in PEM.
    #[arg(long, env = "THALI_STORE_CERT")]
    store_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "THALI_STORE_KEY")]
    store_key: Option<PathBuf>,
    /// First part of BullMQ's keys.
    #[arg(long, default_value = "bull")]
    prefix: String,
    /// Jobs at the same time.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Longest run of one job: `30s`, `5m`, `500ms`.
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// Memory of one job with all its processes: `256mb`, `1gb`.
    #[arg(long, default_value = "512mb", value_parser = bytes)]
    memory: u64,
    /// No sockets for the command.
    #[arg(long)]
    no_network: bool,
    /// The working folder cannot be written.
    #[arg(long)]
    read_only: bool,
    /// The command's working folder; the current one without it.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// A further path that the command may read.
    #[arg(long)]
    read: Vec<PathBuf>,
    /// A further path that the command may write.
    #[arg(long)]
    write: Vec<PathBuf>,
    /// As root: run the command as root instead of a user of its own, so that it can enter root's folders.
    #[arg(long)]
    keep_user: bool,
    /// Run although the kernel lacks this mechanism: landlock, seccomp, …
    #[arg(long, value_name = "MECHANISM", value_parser = mechanism)]
    allow_unboxed: Vec<Mechanism>,
    /// How long running jobs may go on after SIGTERM.
    #[arg(long, default_value = "25s", value_parser = duration)]
    grace: Duration,
    /// The command and its arguments. The job's data comes as JSON on its standard input.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(args: WorkArgs) -> Result<()> {
    // What the crate has to say of its errors comes as events, too, and is told once by the worker.
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("THALI_LOG").unwrap_or_else(|_| "info,bullmq=off".into());
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).with_env_filter(filter).init();
    let files = TlsFiles { ca: args.store_ca, cert: args.store_cert, key: args.store_key };
    let store = StoreAddress::parse_with(&args.store, &files)?;
    let config = ExecConfig {
        prefix: args.prefix,
        concurrency: args.concurrency,
        timeout: args.timeout,
        memory_bytes: args.memory,
        network: if args.no_network { Network::None } else { Network::Open },
        read_only: args.read_only,
        directory: args.directory,
        read: args.read,
        write: args.write,
        keep_user: args.keep_user,
        allow_unboxed: args.allow_unboxed,
        grace: args.grace,
        ..ExecConfig::new(store, args.queue, args.command)
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let ended = runtime.block_on(exec::run(config))?;
    if ended.given_back > 0 {
        println!("{} running jobs were cut off and given back", ended.given_back);
    }
    Ok(())
}

fn split_unit(text: &str) -> Result<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Ok((number.parse().with_context(|| format!("'{text}' begins with no number"))?, unit))
}

fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => bail!("'{other}' is no unit of time; use ms, s, m or h"),
    };
    Duration::try_from_secs_f64(number * seconds).with_context(|| format!("'{text}' is too long"))
}

fn bytes(text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text)?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        other => bail!("'{other}' is no unit of memory; use kb, mb or gb"),
    };
    Ok((number * f64::from(scale)) as u64)
}

fn mechanism(text: &str) -> Result<Mechanism> {
    let names: Vec<&str> = Mechanism::ALL.iter().map(|mechanism| mechanism.name()).collect();
    Mechanism::from_name(text).with_context(|| format!("'{text}' is none of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        assert!(duration("5 parsecs").is_err());
        assert_eq!(bytes("256mb").unwrap(), 256 << 20);
        assert!(bytes("many").is_err());
    }
}
