//! `cargo xtask crash`: the real program is killed while clients write, and nothing may be missing.
//!
//! A round: the server starts, clients write and note what was acknowledged, snapshots and rewrites run at
//! random moments, and then SIGKILL comes, sometimes at once after a snapshot has begun, sometimes another
//! one while the next process still loads. What the next process holds is compared with the notes: all that
//! was acknowledged, of what was under way only the first of each client, transfers whole, and nothing that
//! was not sent. Some rounds end politely. Every few rounds Debian's redis-server reads a copy of the folder,
//! writes to it, and Thali reads what it wrote.
//!
//! The seed decides what is sent and when the kill is due; the threads' timing is the machine's.

mod check;
mod model;
mod server;
mod workload;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use fastrand::Rng;
use thali_testkit::{Reply, RespClient};

use check::Held;
use model::Model;
use server::{Place, end, redis_on};
use workload::{Client, Notes, log_key};

/// Rounds between two looks through redis-server's eyes.
const ROUNDS_PER_EXCHANGE: usize = 10;
/// One round in so many ends with SIGTERM.
const POLITE_ENDS: usize = 9;
/// One restart in so many is killed, too.
const KILLED_STARTS: usize = 5;

#[derive(Args)]
pub struct CrashArguments {
    /// Rounds under each policy.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Policies of `appendfsync`; `mixed` changes between them while clients write.
    #[arg(long, value_delimiter = ',', default_values = ["always", "everysec"])]
    policy: Vec<String>,
    /// Decides what is sent and when; a random one where none is given.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Keys that only make snapshots longer.
    #[arg(long, default_value_t = 20_000)]
    fillers: usize,
    /// Where the data folders are made.
    #[arg(long)]
    within: Option<std::path::PathBuf>,
    /// Cuts so many bytes from the newest increment before each restart, to see that the loss is found.
    #[arg(long, hide = true, default_value_t = 0)]
    sabotage: u64,
}

impl CrashArguments {
    /// What every test run does; below a minute.
    pub fn short() -> CrashArguments {
        CrashArguments {
            rounds: 10,
            policy: vec!["always".into(), "everysec".into(), "mixed".into()],
            seed: None,
            clients: 8,
            fillers: 5_000,
            within: None,
            sabotage: 0,
        }
    }
}

/// What a policy's rounds came to.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: usize,
    under_way: usize,
    under_way_done: usize,
    lost: usize,
    kills: usize,
    kills_while_loading: usize,
    polite_ends: usize,
    dumps: usize,
    rewrites: usize,
    /// Kills while one of them ran.
    interrupted: usize,
    exchanges: usize,
    /// Left by kills between a new file and the manifest that was to name it.
    unnamed_files: usize,
}

pub fn run(arguments: &CrashArguments) -> Result<()> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let mut failures = Vec::new();
    for policy in &arguments.policy {
        println!("appendfsync {policy}, seed {seed}");
        let mut harness = Harness::new(arguments, policy, seed)?;
        let begun = Instant::now();
        let outcome = harness.run(arguments.rounds);
        println!("{policy}: {:?} in {:.0} s", harness.tally, begun.elapsed().as_secs_f64());
        if let Err(error) = outcome {
            let folder = harness.place.folder;
            let kept = folder.keep();
            println!("{policy}: {error:#}\n  seed {seed}, folder kept: {}", kept.display());
            failures.push(policy.clone());
        }
    }
    ensure!(failures.is_empty(), "broken under appendfsync {}", failures.join(" and "));
    Ok(())
}

struct Harness {
    place: Place,
    rng: Rng,
    clients: Vec<Client>,
    accounts: Vec<i64>,
    fillers: usize,
    sabotage: u64,
    /// Whether the policy changes while clients write.
    is_mixed: bool,
    tally: Tally,
}

/// What may run in the background at the end of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Snapshot {
    Dump,
    Rewrite,
}

impl Harness {
    fn new(arguments: &CrashArguments, policy: &str, seed: u64) -> Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let clients_max = 2 * check::DBS as usize - 1;
        ensure!((1..=clients_max).contains(&arguments.clients), "there can be 1 to {clients_max} clients");
        let is_mixed = policy == "mixed";
        let policy = if is_mixed { "always" } else { policy };
        // Rewrites begin by themselves, too.
        let mut settings = vec!["--appendonly", "yes", "--appendfsync", policy];
        settings.extend(["--auto-aof-rewrite-min-size", "8mb"]);
        // Each loop with a thread of its own, or as servers are by default.
        settings.extend(["--loops-together", if rng.bool() { "auto" } else { "no" }]);
        let place = Place::new(arguments.within.as_deref(), &settings)?;
        let clients = (0..arguments.clients).map(|at| Client::new(at, rng.fork())).collect();
        let (fillers, sabotage) = (arguments.fillers, arguments.sabotage);
        let tally = Tally::default();
        Ok(Harness { place, rng, clients, accounts: Vec::new(), fillers, sabotage, is_mixed, tally })
    }

    fn run(&mut self, rounds: usize) -> Result<()> {
        let (process, mut client) = self.place.start()?;
        check::fill(&mut client, self.fillers)?;
        let held = Held::read(&mut client, self.fillers)?;
        self.accounts = held.accounts;
        end(process)?;
        for round in 1..=rounds {
            self.round(round).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }

    fn round(&mut self, round: usize) -> Result<()> {
        let is_polite = round.is_multiple_of(POLITE_ENDS);
        let starts: Vec<Model> = self.clients.iter().map(|client| client.model.clone()).collect();
        let notes = self.write_and_kill(is_polite)?;
        self.cut_newest()?;
        if self.rng.usize(..KILLED_STARTS) == 0 {
            let mut process = self.place.spawn()?;
            std::thread::sleep(Duration::from_millis(self.rng.u64(1..150)));
            process.kill9()?;
            self.tally.kills_while_loading += 1;
        }
        let (mut process, mut connection) = self.place.start()?;
        let held = Held::read(&mut connection, self.fillers)?;
        self.compare(&held, &starts, &notes)?;
        self.forget_logs(&mut connection)?;
        if round.is_multiple_of(ROUNDS_PER_EXCHANGE) {
            let held = Held::read(&mut connection, self.fillers)?;
            self.tally.unnamed_files = check::nothing_piles_up(&mut connection, &self.place.data())?;
            process.kill9()?;
            self.exchange(&held)?;
            return Ok(());
        }
        process.kill9()?;
        Ok(())
    }

    /// Clients write until the server dies.
    fn write_and_kill(&mut self, is_polite: bool) -> Result<Vec<Notes>> {
        let (mut process, connection) = self.place.start()?;
        let address = self.place.address();
        let stop = AtomicBool::new(false);
        let (rng, tally, is_mixed) = (&mut self.rng, &mut self.tally, self.is_mixed);
        let clients = &mut self.clients;
        std::thread::scope(|scope| {
            let running: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    let (address, stop) = (&address, &stop);
                    scope.spawn(move || client.run(address, stop))
                })
                .collect();
            let disturbed = disturb(connection, rng, tally, is_mixed);
            let ended = match is_polite {
                true => end(process).map(|()| tally.polite_ends += 1),
                false => process.kill9().map(|_| tally.kills += 1),
            };
            stop.store(true, Ordering::Relaxed);
            let notes = running.into_iter().map(|client| client.join().expect("clients do not panic"));
            let notes = notes.collect::<Result<Vec<_>>>();
            disturbed?;
            ended.context("the end")?;
            notes
        })
    }

    fn cut_newest(&self) -> Result<()> {
        if self.sabotage == 0 {
            return Ok(());
        }
        let files =
            std::fs::read_dir(self.place.data().join("appendonlydir"))?.map(|entry| Ok(entry?.path()));
        let files = files.collect::<Result<Vec<_>>>()?;
        let number = |path: &std::path::PathBuf| -> Option<u64> {
            let name = path.file_name()?.to_str()?.strip_suffix(".incr.aof")?;
            name.rsplit('.').next()?.parse().ok()
        };
        let newest = files.iter().max_by_key(|path| number(path)).context("an increment")?;
        let file = std::fs::File::options().write(true).open(newest)?;
        file.set_len(file.metadata()?.len().saturating_sub(self.sabotage))?;
        Ok(())
    }

    fn compare(&mut self, held: &Held, starts: &[Model], notes: &[Notes]) -> Result<()> {
        let mut broken = Vec::new();
        for ((client, start), notes) in self.clients.iter_mut().zip(starts).zip(notes) {
            self.tally.acknowledged += notes.acknowledged.len();
            self.tally.under_way += notes.in_flight.len();
            match held.check_client(client, start, notes) {
                Ok((model, done)) => {
                    client.model = model;
                    self.tally.under_way_done += done;
                }
                Err(verdict) => {
                    self.tally.lost += verdict.lost.unwrap_or(0);
                    broken.push(format!(
                        "client {}: {} acknowledged, {} under way, {}; wrong: {}",
                        client.number,
                        notes.acknowledged.len(),
                        notes.in_flight.len(),
                        match verdict.lost {
                            Some(lost) => format!("{lost} LOST"),
                            None => "NO MOMENT OF THE PAST".into(),
                        },
                        verdict.keys.join(" ")
                    ));
                }
            }
        }
        let transfers = held.check_transfers(&self.accounts);
        ensure!(broken.is_empty(), "{}", broken.join("\n"));
        transfers?;
        self.accounts.clone_from(&held.accounts);
        Ok(())
    }

    /// The next round begins with empty logs.
    fn forget_logs(&mut self, connection: &mut RespClient) -> Result<()> {
        for client in &mut self.clients {
            let key = log_key(client.number);
            let db = client.db.to_string();
            check::ask_all(
                connection,
                &[vec![b"SELECT".to_vec(), db.into_bytes()], vec![b"DEL".to_vec(), key.clone().into_bytes()]],
            )?;
            client.model.keys.remove(key.as_bytes());
        }
        Ok(())
    }

    /// The folder through the eyes of redis-server, and back. `held` is what is in it.
    fn exchange(&mut self, held: &Held) -> Result<()> {
        let mut copies = Place::new(self.place.folder.path().parent(), &["--appendonly", "yes"])?;
        copy_folder(&self.place.data(), &copies.data())?;
        check::redis_tools(&copies.data())?;
        let (process, mut redis) = redis_on(&copies.data(), copies.folder.path())?;
        same(held, &Held::read(&mut redis, self.fillers)?).context("redis-server on Thali's folder")?;
        check::ask_all(
            &mut redis,
            &[
                vec![b"SELECT".to_vec(), b"0".to_vec()],
                vec![b"SET".to_vec(), b"c0:s0".to_vec(), b"by redis-server".to_vec()],
            ],
        )?;
        let by_redis = Held::read(&mut redis, self.fillers)?;
        end(process)?;
        let (process, mut back) = copies.start()?;
        same(&by_redis, &Held::read(&mut back, self.fillers)?).context("Thali on redis-server's folder")?;
        end(process)?;
        self.check_dump()?;
        self.tally.exchanges += 1;
        Ok(())
    }

    /// The last dump is a moment of the past: no money is on its way.
    fn check_dump(&self) -> Result<()> {
        let dump = self.place.data().join("dump.rdb");
        if !dump.exists() {
            return Ok(());
        }
        let mut place = Place::new(self.place.folder.path().parent(), &["--appendonly", "no"])?;
        std::fs::create_dir_all(place.data())?;
        std::fs::copy(&dump, place.data().join("dump.rdb"))?;
        let (process, mut client) = place.start()?;
        let held = Held::read(&mut client, self.fillers)?;
        ensure!(
            held.total() == self.accounts.iter().sum::<i64>(),
            "the accounts of the dump sum up to {}",
            held.total()
        );
        end(process)
    }
}

fn same(expected: &Held, found: &Held) -> Result<()> {
    let differences = expected.differences(found);
    if let Some(first) = differences.first() {
        bail!("{} keys differ, the first is {first}", differences.len());
    }
    Ok(())
}

/// Starts snapshots at random moments; returns when the end is due.
fn disturb(mut connection: RespClient, rng: &mut Rng, tally: &mut Tally, is_mixed: bool) -> Result<()> {
    let until = Instant::now() + Duration::from_millis(rng.u64(50..1200));
    let mut last = None;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(rng.u64(1..250)));
        if is_mixed {
            // The promise for the death of a process is the same under each.
            let policy = ["always", "everysec", "no"][rng.usize(..3)];
            connection.command(&["CONFIG", "SET", "appendfsync", policy])?;
        }
        let (snapshot, command) = match rng.bool() {
            true => (Snapshot::Dump, "BGSAVE"),
            false => (Snapshot::Rewrite, "BGREWRITEAOF"),
        };
        match connection.command(&[command])? {
            // One runs already, most likely.
            Reply::Error(_) => continue,
            _ if snapshot == Snapshot::Dump => tally.dumps += 1,
            _ => tally.rewrites += 1,
        }
        last = Some(snapshot);
    }
    if last.is_some() && rng.bool() {
        // The end comes while it runs.
        connection.command(&[if rng.bool() { "BGSAVE" } else { "BGREWRITEAOF" }])?;
        std::thread::sleep(Duration::from_micros(rng.u64(..60_000)));
    }
    let info = connection.command(&["INFO", "persistence"])?.text();
    let runs = ["rdb_bgsave_in_progress:1", "aof_rewrite_in_progress:1"].iter().any(|it| info.contains(it));
    tally.interrupted += usize::from(runs);
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
