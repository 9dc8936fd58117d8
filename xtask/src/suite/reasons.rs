//! Tests of a suite with a reason: why they are left out, or why they fail.
//!
//! A list of `{"why": …, "tests": {file: [names]}}`. A name is the test's whole name; `/^` and the beginning of
//! names; or `*` for all of the file. (The harness takes any expression behind a slash; this is one.)

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

#[derive(Debug, Default)]
pub struct Reasons(BTreeMap<String, Vec<Reason>>);

#[derive(Debug, Clone)]
pub struct Reason {
    pub name: String,
    pub why: String,
}

impl Reasons {
    pub fn read(path: &Path) -> Result<Reasons> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Reasons> {
        let list: Value = serde_json::from_str(text)?;
        let mut reasons = Reasons::default();
        for entry in list.as_array().context("a list was expected")? {
            let why = entry["why"].as_str().context("each entry says why")?;
            for (file, names) in entry["tests"].as_object().context("each entry names tests")? {
                for name in names.as_array().context("the tests of a file are a list")? {
                    let name = name.as_str().context("a test is named by a string")?.to_owned();
                    reasons.0.entry(file.clone()).or_default().push(Reason { name, why: why.to_owned() });
                }
            }
        }
        Ok(reasons)
    }

    pub fn of(&self, file: &str) -> &[Reason] {
        self.0.get(file).map_or(&[], Vec::as_slice)
    }

    /// The reason that names this test.
    pub fn why(&self, file: &str, test: &str) -> Option<&str> {
        let names = |reason: &&Reason| match reason.name.strip_prefix("/^") {
            Some(beginning) => beginnings(beginning).iter().any(|beginning| test.starts_with(beginning)),
            None => reason.name == test || reason.name == "*",
        };
        self.of(file).iter().find(names).map(|reason| reason.why.as_str())
    }

    /// Why the whole file is left out.
    pub fn whole(&self, file: &str) -> Option<&str> {
        self.of(file).iter().find(|skip| skip.name == "*").map(|skip| skip.why.as_str())
    }
}

/// `a (b|c)` stands for `a b` and `a c`.
fn beginnings(expression: &str) -> Vec<String> {
    match expression.split_once('(').and_then(|(head, rest)| Some((head, rest.split_once(')')?))) {
        Some((head, (choices, tail))) => choices.split('|').map(|one| format!("{head}{one}{tail}")).collect(),
        None => vec![expression.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_by_file_and_name() {
        let text = r#"[{"why": "a replica", "tests": {"unit/a": ["one", "/^two (x|y)"], "unit/b": ["*"]}}]"#;
        let reasons = Reasons::parse(text).unwrap();
        let names: Vec<&str> = reasons.of("unit/a").iter().map(|reason| reason.name.as_str()).collect();
        assert_eq!(names, ["one", "/^two (x|y)"]);
        for (file, test, known) in [
            ("unit/a", "one", true),
            ("unit/a", "one more", false),
            ("unit/a", "two y or more", true),
            ("unit/a", "two z", false),
            ("unit/b", "any", true),
            ("unit/c", "one", false),
        ] {
            assert_eq!(reasons.why(file, test), known.then_some("a replica"), "{file} {test}");
        }
        assert_eq!(reasons.whole("unit/b"), Some("a replica"));
        assert_eq!(reasons.whole("unit/a"), None);
    }

    #[test]
    fn the_lists_of_the_repository_can_be_read() {
        for list in ["skips", "failures"] {
            Reasons::read(&crate::root().join("tests/suites/valkey").join(list).with_extension("json"))
                .unwrap();
        }
    }
}
