//! `bench counts`: instructions that the server runs for a request, under callgrind, held against those of the last
//! change that was let in.
//!
//! The whole program is measured, over a socket: what a request meets between two system calls is all there, and
//! nothing has to be built beside what the tests build. Instructions in user space alone are counted, so the figure
//! does not depend on the machine's speed or neighbours; two runs differ by a few in a thousand. One loop and one
//! client with a pipeline, so that each read brings whole batches.
//!
//! gungraun would count functions of a crate instead: it wants a runner of its own version installed and a bench
//! target with an optimised build of its own, and would not see what lies between the loop and the command.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tempfile::TempDir;
use thali_load::{Length, Plan};
use thali_testkit::thali_bin;

use crate::store::{Contender, SETTINGS, Server, kinds};

#[derive(Args)]
pub struct CountsArguments {
    /// Writes the counts as those to hold against.
    #[arg(long)]
    update: bool,
    /// The profile that the program was built with; each has counts of its own.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Name, line, requests sent at once.
const CASES: [(&str, &str, usize); 9] = [
    ("get", "GET key:__rand_int__", 16),
    ("set", "SET key:__rand_int__ __data__", 16),
    ("incr", "INCR counter:__rand_int__", 16),
    ("hset", "HSET hash element:__rand_int__ __data__", 16),
    ("lpush", "LPUSH list __data__", 16),
    ("zadd", "ZADD zset __rand_int__ element:__rand_int__", 16),
    ("sadd", "SADD set element:__rand_int__", 16),
    ("eval", "EVAL return~redis.call('get',KEYS[1]) 1 key:__rand_int__", 16),
    ("get-alone", "GET key:__rand_int__", 1),
];
const KEYS: u64 = 1_000;
const DATA: usize = 32;
/// Before counting: everything is there, and buffers have their size.
const WARM_UP: u64 = 3_000;
const REQUESTS: u64 = 10_000;
/// More than this above the kept count is too much.
const WORSE_MAX: f64 = 0.03;
/// valgrind takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(120);

pub fn run(arguments: &CountsArguments) -> Result<()> {
    let server = Counted::start()?;
    let mut counts = Counts::new();
    for (name, line, pipeline) in CASES {
        let count = server.count(line, pipeline).with_context(|| format!("count {name}"))?;
        println!("{name:<10} {count:>8} instructions for a request");
        counts.insert((arguments.profile.clone(), name.to_owned()), count);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/counts.txt");
    let kept = parse(&fs::read_to_string(&path).unwrap_or_default())?;
    if arguments.update {
        let mut all = kept;
        all.extend(counts);
        return fs::write(&path, text(&all)).with_context(|| format!("write {}", path.display()));
    }
    let worse = worse(&kept, &counts);
    ensure!(
        worse.is_empty(),
        "more than {:.0}% worse than bench/counts.txt:\n  {}\nWhere that has its reason, say it in the commit and run \
         cargo xtask bench counts --update --profile {}",
        WORSE_MAX * 100.0,
        worse.join("\n  "),
        arguments.profile
    );
    Ok(())
}

/// Profile and case → instructions for a request.
type Counts = BTreeMap<(String, String), u64>;

const HEAD: &str =
    "# Instructions for a request: profile, case, count. Written by `cargo xtask bench counts --update`.\n";

fn text(counts: &Counts) -> String {
    let lines = counts.iter().map(|((profile, name), count)| format!("{profile} {name} {count}\n"));
    HEAD.to_owned() + &lines.collect::<String>()
}

fn parse(text: &str) -> Result<Counts> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [profile, name, count] => Ok(((profile.to_owned(), name.to_owned()), count.parse()?)),
            _ => bail!("bench/counts.txt has a line of another form: {line:?}"),
        })
        .collect()
}

/// What has become worse, in words with both figures; a case without a kept count is told, too.
fn worse(kept: &Counts, counts: &Counts) -> Vec<String> {
    let line = |(key, count): (&(String, String), &u64)| {
        let (profile, name) = key;
        let Some(kept) = kept.get(key) else {
            return Some(format!("{profile} {name}: {count}, and there is no count to hold it against"));
        };
        let change = *count as f64 / *kept as f64 - 1.0;
        (*count as f64 > *kept as f64 * (1.0 + WORSE_MAX))
            .then(|| format!("{profile} {name}: {count}, was {kept} ({:+.1}%)", change * 100.0))
    };
    counts.iter().filter_map(line).collect()
}

/// A server under callgrind.
struct Counted {
    // Before the folder it works in.
    server: Server,
    folder: TempDir,
}

impl Counted {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = SETTINGS.iter().chain(&["--loops", "1"]);
        let thali = Contender {
            name: "thali".to_owned(),
            program: thali_bin()?,
            settings: settings.map(|word| (*word).to_owned()).collect(),
        };
        let out = format!("--callgrind-out-file={}", folder.path().join("counted").display());
        let wrapper = ["valgrind", "--tool=callgrind", "--error-exitcode=0", &out];
        let server = Server::start_under(&wrapper, START_TIMEOUT, &thali, Some(folder.path()))
            .context("the Debian package valgrind has what it runs under")?;
        let counted = Self { server, folder };
        counted.send("SET key:__rand_int__ __data__", 16, KEYS)?;
        Ok(counted)
    }

    fn count(&self, line: &str, pipeline: usize) -> Result<u64> {
        self.send(line, pipeline, WARM_UP)?;
        self.control("--zero")?;
        self.send(line, pipeline, REQUESTS)?;
        let before = self.dumps()?;
        self.control("--dump")?;
        let new = self
            .dumps()?
            .into_iter()
            .find(|file| !before.contains(file))
            .context("callgrind wrote nothing")?;
        let text = fs::read_to_string(new)?;
        let total =
            text.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
        Ok(total.context("no totals in callgrind's file")? / REQUESTS)
    }

    fn send(&self, line: &str, pipeline: usize, requests: u64) -> Result<()> {
        let plan = Plan {
            clients: 1,
            pipeline,
            keys: KEYS,
            sequential: true,
            length: Length::Requests(requests),
            ..Plan::new(self.server.address(), kinds(line, DATA))
        };
        let outcome = thali_load::run(&plan, &AtomicBool::new(false))?;
        ensure!(outcome.errors() == 0 && outcome.unanswered == 0, "not every request went well: {outcome}");
        Ok(())
    }

    fn control(&self, what: &str) -> Result<()> {
        let output =
            Command::new("callgrind_control").arg(what).arg(self.server.pid().to_string()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && text.contains("OK"), "callgrind_control {what}: {text}");
        Ok(())
    }

    fn dumps(&self) -> Result<Vec<PathBuf>> {
        let files = fs::read_dir(self.folder.path())?.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(files.filter(|file| file.to_string_lossy().contains("/counted.")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_per_cent_are_too_much_and_less_is_not() {
        let counts = |get: u64| Counts::from([(("release".to_owned(), "get".to_owned()), get)]);
        assert_eq!(parse(&text(&counts(1000))).unwrap(), counts(1000));
        assert!(worse(&counts(1000), &counts(1030)).is_empty());
        assert!(worse(&counts(1000), &counts(500)).is_empty());
        let words = worse(&counts(1000), &counts(1031)).join("");
        assert!(words.contains("1031") && words.contains("1000") && words.contains("+3.1%"), "{words}");
        assert_eq!(worse(&Counts::new(), &counts(1)).len(), 1);
        assert!(parse("release get\n").is_err());
    }
}
