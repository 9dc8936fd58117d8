//! `cargo xtask durability`: the figures of docs/durability.md, Thali beside redis-server in one run.
//!
//! Writes under each policy by redis-benchmark; a dump while clients read and write, seen by these clients;
//! memory while every key is overwritten during a dump; the time to load a dump and an append-only file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tempfile::TempDir;
use thali_testkit::{Port, Process, RespClient, thali_bin};

const PATIENCE: Duration = Duration::from_secs(300);
const READY: &str = "Ready to accept connections";
const VALUE_LEN: usize = 100;
const PIPELINE: usize = 200;
const PROBES: usize = 2;

#[derive(Args)]
pub struct DurabilityArguments {
    /// Keys of the dump and of the append-only file.
    #[arg(long, default_value_t = 2_000_000)]
    keys: usize,
    /// How often each file is loaded, by the servers in turn.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Writes of each run of redis-benchmark.
    #[arg(long, default_value_t = 200_000)]
    writes: usize,
    /// Only these parts: policies, snapshot, loading.
    #[arg(long, value_delimiter = ',', default_values = ["policies", "snapshot", "loading"])]
    only: Vec<String>,
    /// Where the data folders are made; the disk decides the figures of `always`.
    #[arg(long)]
    within: Option<PathBuf>,
}

pub fn run(arguments: &DurabilityArguments) -> Result<()> {
    let bench = Bench { arguments, thali: thali_bin()?.canonicalize()? };
    for part in &arguments.only {
        match part.as_str() {
            "policies" => bench.policies()?,
            "snapshot" => bench.snapshot()?,
            "loading" => bench.loading()?,
            other => anyhow::bail!("no part {other:?}; there are policies, snapshot and loading"),
        }
    }
    Ok(())
}

struct Bench<'a> {
    arguments: &'a DurabilityArguments,
    thali: PathBuf,
}

/// A server that is measured.
struct Measured {
    process: Process,
    port: Port,
    started_in: Duration,
}

impl Measured {
    fn client(&self) -> Result<RespClient> {
        RespClient::connect(&self.port.address())
    }

    /// Resident bytes of the process and its children, each page of a child counted by its share.
    fn memory(&self) -> u64 {
        let of = |pid: &str| -> u64 {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
        };
        let pid = self.process.id().to_string();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        1024 * (of(&pid) + children.split_whitespace().map(of).sum::<u64>())
    }
}

const SERVERS: [&str; 2] = ["redis-server", "thali"];

impl Bench<'_> {
    fn folder(&self) -> Result<TempDir> {
        Ok(match &self.arguments.within {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        }?)
    }

    fn start(&self, name: &'static str, folder: &Path, settings: &[&str]) -> Result<Measured> {
        let port = Port::free()?;
        let program = folder.join("thali-server");
        if name == "thali" && !program.exists() {
            symlink(&self.thali, &program)?;
        }
        let mut command = Command::new(if name == "thali" { program } else { name.into() });
        command.args(["--port", &port.number().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--auto-aof-rewrite-percentage", "0", "--dir"]).arg(folder).args(settings);
        let begun = Instant::now();
        let log = folder.join(format!("{name}.log"));
        if log.exists() {
            fs::remove_file(&log)?;
        }
        let mut process = Process::spawn(name, &mut command, folder)?;
        process.wait_for_log(READY, PATIENCE)?;
        Ok(Measured { process, port, started_in: begun.elapsed() })
    }

    fn policies(&self) -> Result<()> {
        println!("\nSETs a second (redis-benchmark -t set -c 50 -d 64 -r 1000000), p99 in ms");
        println!("{:<10} {:>4} {:>14} {:>10} {:>8}", "policy", "-P", "server", "sets/s", "p99");
        for policy in ["always", "everysec", "no"] {
            for depth in ["1", "16"] {
                for name in SERVERS {
                    let folder = self.folder()?;
                    let server =
                        self.start(name, folder.path(), &["--appendonly", "yes", "--appendfsync", policy])?;
                    let writes = self.arguments.writes.to_string();
                    let mut command = Command::new("redis-benchmark");
                    command.args([
                        "-p",
                        &server.port.number().to_string(),
                        "-t",
                        "set",
                        "-c",
                        "50",
                        "-d",
                        "64",
                    ]);
                    command.args(["-r", "1000000", "-n", &writes, "-P", depth, "--csv"]);
                    let output = command.output().context("start redis-benchmark")?;
                    let text = String::from_utf8_lossy(&output.stdout);
                    let line =
                        text.lines().find(|line| line.starts_with("\"SET\"")).context("no line of SET")?;
                    let columns: Vec<&str> = line.split(',').map(|column| column.trim_matches('"')).collect();
                    println!("{policy:<10} {depth:>4} {name:>14} {:>10} {:>8}", columns[1], columns[6]);
                }
            }
        }
        Ok(())
    }

    /// Sends as many requests as there are to be keys.
    fn fill(&self, server: &Measured, request: impl Fn(&mut Vec<u8>, usize)) -> Result<()> {
        let mut client = server.client()?;
        let keys = self.arguments.keys;
        for first in (0..keys).step_by(PIPELINE) {
            let mut bytes = Vec::new();
            let part = first..keys.min(first + PIPELINE);
            part.clone().for_each(|at| request(&mut bytes, at));
            client.send_raw(&bytes)?;
            for _ in part {
                client.read()?;
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<()> {
        println!(
            "\nBGSAVE of {} keys of {VALUE_LEN} bytes, {PROBES} clients that GET and SET",
            self.arguments.keys
        );
        for name in SERVERS {
            let folder = self.folder()?;
            let server = self.start(name, folder.path(), &["--appendonly", "no"])?;
            self.fill(&server, |bytes, at| set(bytes, at, at))?;
            let calm = self.probe(&server, None)?;
            println!("{name:>14} calm:   {}", shown(&calm));
            let took = Instant::now();
            let busy = self.probe(&server, Some("BGSAVE"))?;
            println!("{name:>14} BGSAVE: {} ({:.1} s)", shown(&busy), took.elapsed().as_secs_f64());
            let info = server.client()?.command(&["INFO", "persistence"])?.text();
            for line in
                info.lines().filter(|line| line.contains("longest_hold") || line.contains("bgsave_status"))
            {
                println!("{name:>14} {line}");
            }
            let (before, most, writes) = self.memory_under_load(&server)?;
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            println!(
                "{name:>14} memory: {:.0} MiB before, {:.0} at most while {writes} SETs overwrite it during a BGSAVE (+{:.1}%)",
                mib(before),
                mib(most),
                (most as f64 / before as f64 - 1.0) * 100.0
            );
        }
        Ok(())
    }

    /// Latencies in microseconds, sorted: for two seconds, or while what `command` started runs.
    fn probe(&self, server: &Measured, command: Option<&str>) -> Result<BTreeMap<&'static str, Vec<u64>>> {
        let stop = AtomicBool::new(false);
        let keys = self.arguments.keys;
        std::thread::scope(|scope| {
            let probes: Vec<_> = (0..PROBES)
                .map(|seed| {
                    let (stop, mut client) = (&stop, server.client());
                    scope.spawn(move || -> Result<_> {
                        let client = client.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                        let mut rng = fastrand::Rng::with_seed(seed as u64);
                        let mut seen: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
                        while !stop.load(Ordering::Relaxed) {
                            let at = rng.usize(..keys);
                            let (name, mut bytes) =
                                if rng.bool() { ("GET", Vec::new()) } else { ("SET", Vec::new()) };
                            match name {
                                "GET" => bytes.extend_from_slice(format!("GET k{at}\r\n").as_bytes()),
                                _ => set(&mut bytes, at, at),
                            }
                            let begun = Instant::now();
                            client.send_raw(&bytes)?;
                            client.read()?;
                            seen.entry(name).or_default().push(begun.elapsed().as_micros() as u64);
                        }
                        Ok(seen)
                    })
                })
                .collect();
            let waited = match command {
                Some(command) => wait_for_snapshot(server, command),
                None => {
                    std::thread::sleep(Duration::from_secs(2));
                    Ok(())
                }
            };
            stop.store(true, Ordering::Relaxed);
            let mut all: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
            for probe in probes {
                for (name, seen) in probe.join().expect("probes do not panic")? {
                    all.entry(name).or_default().extend(seen);
                }
            }
            all.values_mut().for_each(|seen| seen.sort_unstable());
            waited.map(|()| all)
        })
    }

    /// Memory before and at most, and the writes meanwhile.
    fn memory_under_load(&self, server: &Measured) -> Result<(u64, u64, u64)> {
        let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
        let keys = self.arguments.keys;
        let write = |seed: u64| -> Result<()> {
            let mut client = server.client()?;
            let mut rng = fastrand::Rng::with_seed(seed);
            while !stop.load(Ordering::Relaxed) {
                let mut bytes = Vec::new();
                (0..PIPELINE).for_each(|_| set(&mut bytes, rng.usize(..keys), 7));
                client.send_raw(&bytes)?;
                for _ in 0..PIPELINE {
                    client.read()?;
                }
                writes.fetch_add(PIPELINE as u64, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|seed| scope.spawn(move || write(seed))).collect();
            // Under the same load, so that only the snapshot differs.
            std::thread::sleep(Duration::from_secs(2));
            let before = server.memory();
            let begun_at = writes.load(Ordering::Relaxed);
            let runs = scope.spawn(|| wait_for_snapshot(server, "BGSAVE"));
            let mut most = before;
            while !runs.is_finished() {
                most = most.max(server.memory());
                std::thread::sleep(Duration::from_millis(20));
            }
            let during = writes.load(Ordering::Relaxed) - begun_at;
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.join().expect("writers do not panic")?;
            }
            runs.join().expect("it does not panic")?;
            Ok((before, most, during))
        })
    }

    /// Both load the same files, which Thali wrote.
    fn loading(&self) -> Result<()> {
        let requests = self.arguments.keys;
        println!("\ntime from the start to the first client, in seconds");
        let strings = format!("{requests} keys of {VALUE_LEN} bytes");
        self.load(&strings, |bytes, at| set(bytes, at, at), &[DUMP, APPEND_ONLY_FILE])?;
        self.load(&format!("{requests} requests of seven commands"), mixed, &[APPEND_ONLY_FILE])
    }

    fn load(&self, what: &str, request: impl Fn(&mut Vec<u8>, usize), files: &[(&str, &str)]) -> Result<()> {
        let folder = self.folder()?;
        let server = self.start("thali", folder.path(), &["--appendonly", "yes", "--appendfsync", "no"])?;
        self.fill(&server, request)?;
        wait_for_snapshot(&server, "BGSAVE")?;
        let keys = server.client()?.command(&["DBSIZE"])?.integer();
        drop(server);
        for (file, appendonly) in files {
            println!("{what}: {file}, {} MiB", fs::metadata(folder.path().join(file))?.len() >> 20);
            for _ in 0..self.arguments.turns {
                for name in SERVERS {
                    let server = self.start(name, folder.path(), &["--appendonly", appendonly])?;
                    let size = server.client()?.command(&["DBSIZE"])?.integer();
                    ensure!(size == keys, "{name} has {size:?} keys of {keys:?}");
                    print!(" {name} {:.2}", server.started_in.as_secs_f64());
                }
                println!();
            }
        }
        Ok(())
    }
}

/// Files that are loaded, and whether by `appendonly`.
const DUMP: (&str, &str) = ("dump.rdb", "no");
const APPEND_ONLY_FILE: (&str, &str) = ("appendonlydir/appendonly.aof.1.incr.aof", "yes");

/// One of seven commands on a value of some tens of elements, or on a counter.
fn mixed(bytes: &mut Vec<u8>, at: usize) {
    // Each key is met again when many others were.
    let (key, element) = (at / 7 % 20_000, at / 140_000);
    let line = match at % 7 {
        0 => format!("HSET h{key} f{element} {at:020}"),
        1 => format!("LPUSH l{key} {at:020}"),
        2 => format!("ZADD z{key} {at} m{element}"),
        3 => format!("SADD s{key} m{element}"),
        4 => format!("INCR c{key}"),
        5 => format!("EXPIRE h{key} 1000000"),
        _ => format!("XADD x{key} {}-1 f {at:020}", at + 1),
    };
    bytes.extend_from_slice(line.as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

fn set(bytes: &mut Vec<u8>, key: usize, seed: usize) {
    let (key, value) = (format!("k{key}"), format!("{seed:0>VALUE_LEN$}"));
    bytes.extend_from_slice(
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE_LEN}\r\n{value}\r\n", key.len()).as_bytes(),
    );
}

fn wait_for_snapshot(server: &Measured, command: &str) -> Result<()> {
    let mut client = server.client()?;
    client.command(&[command])?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(Duration::from_millis(20));
        if client.command(&["INFO", "persistence"])?.text().contains("rdb_bgsave_in_progress:0") {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{command} does not end");
    }
}

fn shown(seen: &BTreeMap<&'static str, Vec<u64>>) -> String {
    let line = |(name, seen): (&&str, &Vec<u64>)| {
        let at = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        format!(
            "{name} n={} p50 {:.3} p99 {:.3} p99.9 {:.3} max {:.3} ms",
            seen.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        )
    };
    seen.iter().map(line).collect::<Vec<_>>().join("; ")
}
