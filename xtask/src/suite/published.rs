//! What the repository keeps of a suite's run, and how COMPATIBILITY.md shows it.
//!
//! One file for each suite in `tests/suites/records`:
//! `{"suite", "date", "command", "passed", "failed", "failures": [{"file", "test", "why"}], "left_out": [the same]}`.
//! Valkey's are written by `cargo xtask suite valkey --publish`, those of other languages' harnesses by hand
//! (`tests/suites/README.md`), with a few fields more that say how redis-server does. A failure without a reason cannot be kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// A run.
#[derive(Debug, Default)]
pub struct Published {
    /// The suite's name with its version.
    pub suite: String,
    /// `2026-11-29`.
    pub date: String,
    pub command: String,
    pub passed: usize,
    pub failed: usize,
    pub failures: Vec<Case>,
    pub left_out: Vec<Case>,
}

/// A test that failed or was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub file: String,
    pub test: String,
    pub why: String,
}

impl Case {
    pub fn new(file: &str, test: &str, why: &str) -> Self {
        Self { file: file.into(), test: test.into(), why: why.into() }
    }

    fn to_json(&self) -> Value {
        json!({ "file": self.file, "test": self.test, "why": self.why })
    }

    fn from_json(value: &Value) -> Result<Self> {
        let text = |name: &str| value[name].as_str().with_context(|| format!("a test lacks its {name}"));
        let case = Self::new(text("file")?, text("test")?, text("why")?);
        ensure!(!case.why.is_empty(), "{} of {} has no reason", case.test, case.file);
        Ok(case)
    }
}

fn folder() -> PathBuf {
    crate::root().join("tests/suites/records")
}

impl Published {
    pub fn write(&self, name: &str) -> Result<()> {
        let cases = |cases: &[Case]| cases.iter().map(Case::to_json).collect::<Vec<_>>();
        let value = json!({
            "suite": self.suite, "date": self.date, "command": self.command,
            "passed": self.passed, "failed": self.failed,
            "failures": cases(&self.failures), "left_out": cases(&self.left_out),
        });
        let path = folder().join(name).with_extension("json");
        std::fs::write(&path, serde_json::to_string_pretty(&value)? + "\n")?;
        println!("kept in {}; `cargo xtask docs` shows it", path.display());
        Ok(())
    }

    fn from_json(value: &Value) -> Result<Self> {
        let text = |name: &str| {
            value[name].as_str().map(str::to_owned).with_context(|| format!("the record lacks '{name}'"))
        };
        let number = |name: &str| value[name].as_u64().with_context(|| format!("the record lacks '{name}'"));
        let cases = |name: &str| -> Result<Vec<Case>> {
            value[name].as_array().into_iter().flatten().map(Case::from_json).collect()
        };
        Ok(Self {
            suite: text("suite")?,
            date: text("date")?,
            command: text("command")?,
            passed: number("passed")? as usize,
            failed: number("failed")? as usize,
            failures: cases("failures")?,
            left_out: cases("left_out")?,
        })
    }

    fn percent(&self) -> f64 {
        self.passed as f64 * 100.0 / (self.passed + self.failed).max(1) as f64
    }
}

/// What COMPATIBILITY.md says of all suites, with the line ends around it.
pub fn page() -> Result<String> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder())?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let read = |path: &PathBuf| -> Result<Published> {
        Published::from_json(&serde_json::from_str(&std::fs::read_to_string(path)?)?)
            .with_context(|| format!("in {}", path.display()))
    };
    let all = paths.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(shown(&all))
}

fn shown(all: &[Published]) -> String {
    let mut text =
        "\n| suite | passed | failed | % | run on | with |\n|---|--:|--:|--:|---|---|\n".to_owned();
    for of in all {
        let Published { suite, date, command, passed, failed, .. } = of;
        let percent = of.percent();
        let _ = writeln!(text, "| {suite} | {passed} | {failed} | {percent:.1} | {date} | `{command}` |");
    }
    for of in all {
        for (title, cases) in [("what fails", &of.failures), ("left out", &of.left_out)] {
            if !cases.is_empty() {
                let _ = writeln!(text, "\n#### {}: {title}\n\n| tests | why |\n|---|---|", of.suite);
                rows(&mut text, cases);
            }
        }
    }
    text + "\n"
}

/// Names of a file's tests that are shown one by one.
const NAMES_MAX: usize = 3;

/// One row for each reason, in the order of their first tests.
fn rows(text: &mut String, cases: &[Case]) {
    let mut reasons: Vec<&str> = Vec::new();
    let mut by_reason: BTreeMap<&str, Vec<(&str, Vec<&str>)>> = BTreeMap::new();
    for Case { file, test, why } in cases {
        let files = by_reason.entry(why).or_insert_with(|| {
            reasons.push(why);
            Vec::new()
        });
        match files.last_mut() {
            Some((last, tests)) if last == file => tests.push(test),
            _ => files.push((file, vec![test])),
        }
    }
    for why in reasons {
        let files: Vec<String> = by_reason[why]
            .iter()
            .map(|(file, tests)| match tests.len() {
                _ if tests.contains(&"*") => format!("`{file}`, all"),
                1..=NAMES_MAX => format!("`{file}`: {}", tests.join("; ").replace('|', "\\|")),
                count => format!("`{file}`, {count}"),
            })
            .collect();
        let _ = writeln!(text, "| {} | {} |", files.join("<br>"), why.replace('|', "\\|"));
    }
}

/// The day, as `date` says it.
pub fn today() -> Result<String> {
    let output = std::process::Command::new("date").args(["-u", "+%F"]).output().context("ask date")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_shown_once_with_their_tests() {
        let case = |file: &str, test: &str, why: &str| Case::new(file, test, why);
        let mut failures: Vec<Case> = (0..4).map(|n| case("unit/a", &n.to_string(), "slow")).collect();
        failures.extend([case("unit/b", "x|y", "slow"), case("unit/b", "*", "never")]);
        let published = Published {
            suite: "S 1".into(),
            date: "2026-01-02".into(),
            command: "run".into(),
            passed: 97,
            failed: 3,
            failures,
            left_out: vec![],
        };
        let text = shown(&[published]);
        assert!(text.contains("| S 1 | 97 | 3 | 97.0 | 2026-01-02 | `run` |"), "{text}");
        assert!(text.contains("| `unit/a`, 4<br>`unit/b`: x\\|y | slow |"), "{text}");
        assert!(text.contains("| `unit/b`, all | never |"), "{text}");
        assert!(!text.contains("left out"), "{text}");
    }

    #[test]
    fn a_failure_without_a_reason_is_no_record() {
        let value = json!({
            "suite": "S", "date": "d", "command": "c", "passed": 1, "failed": 1,
            "failures": [{"file": "f", "test": "t", "why": ""}], "left_out": [],
        });
        let error = format!("{:#}", Published::from_json(&value).unwrap_err());
        assert!(error.contains("t of f has no reason"), "{error}");
    }

    #[test]
    fn the_records_of_the_repository_can_be_shown() {
        assert!(page().unwrap().contains("Valkey"));
    }
}
