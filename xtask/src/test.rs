//! `cargo xtask test`: every check between a change and main, in the order of its price.
//!
//! A step that fails does not stop the ones after it, so one run shows everything that is red;
//! only a failing setup ends the run at once. The last line is `N passed, N failed`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::shell::{self, Ran};
use crate::{setup, wall};

#[derive(Args)]
pub struct TestArguments {
    /// Run only these steps (see the summary for their names).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these steps out.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,
}

/// What a step counted. A step without tests of its own counts as one.
#[derive(Default, Clone, Copy)]
struct Count {
    passed: u32,
    failed: u32,
}

struct Step {
    name: &'static str,
    run: fn() -> Result<Count>,
}

const STEPS: &[Step] = &[
    Step { name: "format", run: format },
    Step { name: "wall", run: || wall::check().map(|()| ONE_PASSED) },
    Step { name: "licences", run: licences },
    Step { name: "lint", run: lint },
    Step { name: "unit", run: unit },
];

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
        println!("\n=== {name}");
        let start = Instant::now();
        let (count, note) = match (step.run)() {
            Ok(count) => (count, String::new()),
            Err(error) => (ONE_FAILED, format!("{error:#}")),
        };
        if !note.is_empty() {
            eprintln!("{name}: {note}");
        }
        rows.push((name, count, start.elapsed()));
    }
    summarise(&rows)
}

fn summarise(rows: &[(String, Count, Duration)]) -> Result<()> {
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
    Ok(verdict(&shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?))
}

fn lint() -> Result<Count> {
    let mut clippy = shell::cargo();
    clippy.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
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

fn unit() -> Result<Count> {
    let mut nextest = shell::cargo();
    nextest.args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"]);
    nextest.args(["--status-level=fail", "--final-status-level=fail"]);
    let ran = shell::run(&mut nextest)?;
    let summary = ran.lines.iter().rev().find(|line| line.contains(" tests run: "));
    counted(
        &ran,
        summary.map(|line| Count { passed: before(line, "passed"), failed: before(line, "failed") }),
    )
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
        assert_eq!(before("Summary [ 1s] 1 tests run: 1 passed, 0 skipped", "failed"), 0);
    }
}
