//! The outcome of a run: a table for the terminal, and a record that grows with each run of a file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::output::{Failure, Outcome};

/// What is known of each file.
#[derive(Debug, Default)]
pub struct Record(BTreeMap<String, FileRecord>);

#[derive(Debug, Clone)]
pub struct FileRecord {
    pub outcome: Outcome,
    pub seconds: u64,
}

impl Record {
    /// What stands at `path`; empty where nothing does.
    pub fn read(path: &Path) -> Result<Record> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Record::default()),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let value: Value = serde_json::from_str(&text)?;
        let files = value["files"].as_object().context("no record of a suite")?;
        Ok(Record(files.iter().map(|(file, value)| (file.clone(), FileRecord::from_json(value))).collect()))
    }

    pub fn put(&mut self, file: &str, record: FileRecord) {
        self.0.insert(file.to_owned(), record);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &FileRecord)> {
        self.0.iter()
    }

    /// Writes `path` and, beside it, the same for people with the ending `md`.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let files: BTreeMap<&String, Value> = self.0.iter().map(|(file, r)| (file, r.to_json())).collect();
        std::fs::write(path, serde_json::to_string_pretty(&json!({ "files": files }))? + "\n")?;
        std::fs::write(path.with_extension("md"), self.markdown())?;
        Ok(())
    }

    /// A line for each file, and their sum.
    fn table(&self) -> String {
        let mut text =
            String::from("| file | passed | failed | skipped | % | ended |\n|---|--:|--:|--:|--:|---|\n");
        let (mut passed, mut ran, mut skipped) = (0, 0, 0);
        for (file, FileRecord { outcome, .. }) in &self.0 {
            passed += outcome.passed;
            ran += outcome.ran();
            skipped += outcome.skipped.len();
            let ended = if outcome.ended { "whole" } else { "broke off" };
            line(&mut text, file, outcome.passed, outcome.ran(), outcome.skipped.len(), ended);
        }
        line(&mut text, "all", passed, ran, skipped, "");
        text
    }

    /// The table, then the names of what failed.
    pub fn markdown(&self) -> String {
        let mut text = self.table();
        for (file, FileRecord { outcome, .. }) in &self.0 {
            if outcome.failed.is_empty() && outcome.broke_off.is_none() {
                continue;
            }
            let _ = writeln!(text, "\n## {file}\n");
            for Failure { name, why } in &outcome.failed {
                let _ = writeln!(text, "- {name}: `{}`", why.replace('`', "'"));
            }
            if let Some(why) = &outcome.broke_off {
                let _ = writeln!(text, "- broke off: `{}`", why.replace('`', "'"));
            }
        }
        text
    }
}

fn line(text: &mut String, file: &str, passed: usize, ran: usize, skipped: usize, ended: &str) {
    let percent = passed as f64 * 100.0 / ran.max(1) as f64;
    let _ = writeln!(text, "| {file} | {passed} | {} | {skipped} | {percent:.1} | {ended} |", ran - passed);
}

impl FileRecord {
    fn to_json(&self) -> Value {
        let Outcome { passed, failed, skipped, ignored, ended, broke_off } = &self.outcome;
        let failed: Vec<Value> = failed.iter().map(|f| json!({ "name": f.name, "why": f.why })).collect();
        json!({
            "passed": passed, "failed": failed, "skipped": skipped, "ignored": ignored, "ended": ended,
            "broke_off": broke_off, "seconds": self.seconds,
        })
    }

    fn from_json(value: &Value) -> FileRecord {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        let failed =
            list("failed").iter().map(|f| Failure { name: text(&f["name"]), why: text(&f["why"]) }).collect();
        let outcome = Outcome {
            passed: number("passed") as usize,
            failed,
            skipped: list("skipped").iter().map(text).collect(),
            ignored: number("ignored") as usize,
            ended: value["ended"].as_bool().unwrap_or_default(),
            broke_off: value["broke_off"].as_str().map(str::to_owned),
        };
        FileRecord { outcome, seconds: number("seconds") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("valkey.json");
        let outcome = Outcome {
            passed: 3,
            failed: vec![Failure { name: "a".into(), why: "b".into() }],
            skipped: vec!["c".into()],
            ignored: 2,
            ended: false,
            broke_off: Some("d".into()),
        };
        let mut record = Record::default();
        record.put("unit/x", FileRecord { outcome: outcome.clone(), seconds: 7 });
        record.write(&path).unwrap();
        let again = Record::read(&path).unwrap();
        assert_eq!(again.0["unit/x"].outcome, outcome);
        assert!(again.table().contains("| unit/x | 3 | 1 | 1 | 75.0 | broke off |"));
        assert!(std::fs::read_to_string(path.with_extension("md")).unwrap().contains("- a: `b`"));
    }
}
