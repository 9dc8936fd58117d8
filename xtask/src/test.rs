//! `cargo xtask test`: every check between a change and main, in the order of its price.
//!
//! A step that fails does not stop the ones after it, so one run shows everything that is red;
//! only a failing setup ends the run at once. The last line is `N passed, N failed`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::conformance::{self, ConformanceArguments};
use crate::crash::{self, CrashArguments};
use crate::shell::{self, Ran};
use crate::{docs, fuzz, root, setup, wall};

#[derive(Args)]
pub struct TestArguments {
    /// Run only these steps (see the summary for their names).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these steps out.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,
    /// Engines that the end-to-end steps run on: redis, node, thali, thali-on-redis.
    #[arg(long, value_delimiter = ',', default_values = END_TO_END)]
    engine: Vec<String>,
}

/// What a step counted. A step without tests of its own counts as one.
#[derive(Default, Clone, Copy)]
struct Count {
    passed: u32,
    failed: u32,
}

struct Step {
    name: &'static str,
    run: Run,
}

enum Run {
    Once(fn() -> Result<Count>),
    /// Once for each engine.
    On(fn(&str) -> Result<Count>),
}
use Run::{On, Once};

const STEPS: &[Step] = &[
    Step { name: "format", run: Once(format) },
    Step { name: "wall", run: Once(|| wall::check().map(|()| ONE_PASSED)) },
    Step { name: "licences", run: Once(licences) },
    Step { name: "lint", run: Once(lint) },
    Step { name: "build", run: Once(build) },
    Step { name: "docs", run: Once(commands_page) },
    Step { name: "unit", run: Once(unit) },
    Step { name: "counts", run: Once(counts) },
    Step { name: "models", run: Once(models) },
    Step { name: "fuzz", run: Once(fuzz_briefly) },
    Step { name: "conformance", run: On(compare) },
    Step { name: "clients", run: On(|engine| node_tests(engine, "clients", CLIENT_FILES_AT_ONCE)) },
    Step { name: "browser", run: On(browser) },
    Step { name: "crash", run: On(|engine| node_tests(engine, "crash", 1)) },
    Step { name: "kill", run: On(kill) },
];

/// The promise: the same on Thali's own store and on a redis-server.
const END_TO_END: [&str; 2] = ["thali", "thali-on-redis"];
/// Client tests mostly wait; more files at once than cores.
const CLIENT_FILES_AT_ONCE: u32 = 4;
/// No test takes this long, however slow the machine; what does, hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

const ONE_PASSED: Count = Count { passed: 1, failed: 0 };
const ONE_FAILED: Count = Count { passed: 0, failed: 1 };

pub fn run(arguments: &TestArguments) -> Result<()> {
    for name in arguments.only.iter().chain(&arguments.skip) {
        if !STEPS.iter().any(|step| step.name == name) {
            let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            bail!("no step {name:?}; there are {}", names.join(", "));
        }
    }
    setup::prepare()?;
    let mut rows = Vec::new();
    for step in STEPS {
        let name = step.name.to_owned();
        if arguments.skip.contains(&name) || !(arguments.only.is_empty() || arguments.only.contains(&name)) {
            continue;
        }
        match step.run {
            Once(run) => rows.push(row(name, run)),
            On(run) => {
                for engine in &arguments.engine {
                    rows.push(row(format!("{name} ({engine})"), || run(engine)));
                }
            }
        }
    }
    summarise(&rows)
}

type Row = (String, Count, Duration);

fn row(name: String, run: impl FnOnce() -> Result<Count>) -> Row {
    println!("\n=== {name}");
    let start = Instant::now();
    let count = run().unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ONE_FAILED
    });
    (name, count, start.elapsed())
}

fn summarise(rows: &[Row]) -> Result<()> {
    println!("\n{:<24} {:>7} {:>7} {:>8}", "step", "passed", "failed", "seconds");
    let mut total = Count::default();
    for (name, count, time) in rows {
        println!("{name:<24} {:>7} {:>7} {:>8.1}", count.passed, count.failed, time.as_secs_f64());
        total.passed += count.passed;
        total.failed += count.failed;
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    Ok(())
}

fn verdict(ran: &Ran) -> Count {
    if ran.status.success() { ONE_PASSED } else { ONE_FAILED }
}

fn format() -> Result<Count> {
    let workspace = shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    let targets = shell::run(shell::cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))?;
    Ok(if targets.status.success() { verdict(&workspace) } else { ONE_FAILED })
}

fn lint() -> Result<Count> {
    let mut clippy = shell::cargo();
    // The profile of the build that follows, so that build scripts run once for both.
    clippy.args(["clippy", "--quiet", "--profile", PROFILE, "--workspace", "--all-targets"]);
    clippy.args(["--", "-D", "warnings"]);
    Ok(verdict(&shell::run(&mut clippy)?))
}

/// cargo-deny where it is installed. Advisories need the network and are left to a scheduled run.
fn licences() -> Result<Count> {
    if shell::find("cargo-deny").is_none() {
        println!("left out: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(Count::default());
    }
    let mut deny = shell::cargo();
    deny.args(["deny", "--all-features", "check", "bans", "licenses", "sources"]);
    Ok(verdict(&shell::run(&mut deny)?))
}

/// One profile for all steps: see Cargo.toml.
const PROFILE: &str = "e2e";

/// The program that every end-to-end test runs, and the unit tests: together, so that both use the same
/// build of their dependencies.
fn build() -> Result<Count> {
    let mut build = shell::cargo();
    build.args(["build", "--quiet", "--profile", PROFILE, "--workspace", "--bins", "--tests"]);
    let built = verdict(&shell::run(&mut build)?);
    if built.failed > 0 {
        return Ok(built);
    }
    // The README says `cargo run` and names no package.
    let mut bare = shell::cargo();
    bare.args(["run", "--quiet", "--profile", PROFILE, "--", "--version"]);
    Ok(verdict(&shell::run(&mut bare)?))
}

fn binary() -> PathBuf {
    shell::target().join(PROFILE).join("thali")
}

/// The binary is there by now, and asking it takes a second.
fn commands_page() -> Result<Count> {
    docs::check().map(|()| ONE_PASSED)
}

fn unit() -> Result<Count> {
    let mut nextest = shell::cargo();
    nextest.env("THALI_BIN", binary());
    nextest.args(["nextest", "run", "--cargo-profile", PROFILE, "--workspace", "--no-tests=pass"]);
    count_nextest(nextest)
}

/// Instructions for a request, of the program that the tests run: no further build. What `release` would show is
/// looked at by hand; a step back shows here, too.
fn counts() -> Result<Count> {
    let mut bench = Command::new(shell::target().join(PROFILE).join("thali-bench"));
    bench.env("THALI_BIN", binary()).args(["counts", "--profile", PROFILE]);
    Ok(verdict(&shell::run(&mut bench)?))
}

/// Locks and mailboxes under a scheduler that tries their threads in many orders: a build of its own of two small
/// crates.
fn models() -> Result<Count> {
    let mut nextest = shell::cargo();
    nextest.args(["nextest", "run", "--cargo-profile", PROFILE, "-p", "thali-sync", "-p", "thali-keyspace"]);
    nextest.args(["--features", "thali-sync/shuttle,thali-keyspace/shuttle"]);
    nextest.args(["--filterset", "binary(/_models$/)"]);
    count_nextest(nextest)
}

/// A short run; longer ones are for `cargo xtask fuzz`.
fn fuzz_briefly() -> Result<Count> {
    fuzz::short().map(|(passed, failed)| Count { passed, failed })
}

fn count_nextest(mut nextest: Command) -> Result<Count> {
    nextest.arg("--no-fail-fast");
    nextest.args(["--status-level=fail", "--final-status-level=fail"]);
    let ran = shell::run(&mut nextest)?;
    let summary = ran.lines.iter().rev().find(|line| line.contains(" tests run: "));
    counted(
        &ran,
        summary.map(|line| Count { passed: before(line, "passed"), failed: before(line, "failed") }),
    )
}

/// A short run; longer ones are for `cargo xtask conformance`.
fn compare(engine: &str) -> Result<Count> {
    // Without a store of its own there is nothing to compare.
    if engine == "node" || engine == "thali-on-redis" {
        return Ok(Count::default());
    }
    conformance::run(&ConformanceArguments::short(engine.parse()?))?;
    Ok(ONE_PASSED)
}

/// A short run; longer ones are for `cargo xtask crash`.
fn kill(engine: &str) -> Result<Count> {
    // Only its own store is Thali's to keep.
    if engine != "thali" {
        return Ok(Count::default());
    }
    crash::run(&CrashArguments::short())?;
    Ok(ONE_PASSED)
}

/// The page is Thali's own; the peers have none.
fn browser(engine: &str) -> Result<Count> {
    if engine.starts_with("thali") { node_tests(engine, "browser", 1) } else { Ok(Count::default()) }
}

/// Runs the files `tests/<folder>/*.test.mjs` on `engine`, some at once.
fn node_tests(engine: &str, folder: &str, at_once: u32) -> Result<Count> {
    let tests = root().join("tests");
    let mut files: Vec<PathBuf> = fs::read_dir(tests.join(folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    let report = shell::target().join(format!("{folder}-{engine}.tap"));
    let mut node = Command::new("node");
    node.current_dir(&tests).env("THALI_TEST_ENGINE", engine).env("THALI_BIN", binary());
    node.args(["--test", &format!("--test-concurrency={at_once}")]);
    node.arg(format!("--test-timeout={}", TEST_TIMEOUT.as_millis()));
    node.args(["--test-reporter=spec", "--test-reporter-destination=stdout", "--test-reporter=tap"]);
    node.arg(format!("--test-reporter-destination={}", report.display())).args(files);
    let ran = shell::run(&mut node)?;
    let report = fs::read_to_string(report)?;
    counted(&ran, Some(Count { passed: tap_total(&report, "pass"), failed: tap_failed(&report) }))
}

/// The number in TAP's closing line `# <word> N`.
fn tap_total(report: &str, word: &str) -> u32 {
    let total = |line: &str| line.strip_prefix("# ")?.strip_prefix(word)?.trim().parse().ok();
    report.lines().rev().find_map(total).unwrap_or(0)
}

fn tap_failed(report: &str) -> u32 {
    tap_total(report, "fail") + tap_total(report, "cancelled")
}

/// Trusts the count only as far as the exit status agrees with it.
fn counted(ran: &Ran, count: Option<Count>) -> Result<Count> {
    match count {
        Some(count) if ran.status.success() == (count.failed == 0) => Ok(count),
        Some(count) => Ok(Count { failed: count.failed.max(1), ..count }),
        None if ran.status.success() => Ok(Count::default()),
        None => bail!("ended with {} before any test ran", ran.status),
    }
}

/// The number before the first `word` in `line`; 0 when the word is not there.
fn before(line: &str, word: &str) -> u32 {
    let words: Vec<&str> = line.split([' ', ',', ':']).filter(|part| !part.is_empty()).collect();
    let place = words.iter().position(|part| *part == word);
    place.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_summaries_are_counted() {
        let line = "     Summary [   0.061s] 7 tests run: 5 passed (1 slow), 2 failed, 0 skipped";
        assert_eq!((before(line, "passed"), before(line, "failed")), (5, 2));
        assert_eq!(tap_total("# tests 3\n# pass 2\n# fail 1\n", "pass"), 2);
        assert_eq!(before("Summary [ 1s] 1 tests run: 1 passed, 0 skipped", "failed"), 0);
    }
}
