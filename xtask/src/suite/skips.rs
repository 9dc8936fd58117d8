//! The tests that are left out, by reason.
//!
//! A file of `tests/suites` is a list of `{"why": …, "tests": {file: [names]}}`. A name is the test's whole
//! name, or an expression after a slash, as the harness takes them; `*` leaves the whole file out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

#[derive(Debug, Default)]
pub struct Skips(BTreeMap<String, Vec<Skip>>);

#[derive(Debug, Clone)]
pub struct Skip {
    pub name: String,
    pub why: String,
}

impl Skips {
    pub fn read(path: &Path) -> Result<Skips> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Skips> {
        let list: Value = serde_json::from_str(text)?;
        let mut skips = Skips::default();
        for entry in list.as_array().context("a list was expected")? {
            let why = entry["why"].as_str().context("each entry says why")?;
            for (file, names) in entry["tests"].as_object().context("each entry names tests")? {
                for name in names.as_array().context("the tests of a file are a list")? {
                    let name = name.as_str().context("a test is named by a string")?.to_owned();
                    skips.0.entry(file.clone()).or_default().push(Skip { name, why: why.to_owned() });
                }
            }
        }
        Ok(skips)
    }

    pub fn of(&self, file: &str) -> &[Skip] {
        self.0.get(file).map_or(&[], Vec::as_slice)
    }

    /// Why the whole file is left out.
    pub fn whole(&self, file: &str) -> Option<&str> {
        self.of(file).iter().find(|skip| skip.name == "*").map(|skip| skip.why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_found_by_file_with_their_reason() {
        let text = r#"[{"why": "a replica", "tests": {"unit/a": ["one", "/^two"], "unit/b": ["*"]}}]"#;
        let skips = Skips::parse(text).unwrap();
        let names: Vec<&str> = skips.of("unit/a").iter().map(|skip| skip.name.as_str()).collect();
        assert_eq!(names, ["one", "/^two"]);
        assert_eq!(skips.of("unit/a")[0].why, "a replica");
        assert_eq!(skips.whole("unit/b"), Some("a replica"));
        assert_eq!(skips.whole("unit/a"), None);
        assert!(skips.of("unit/c").is_empty());
    }

    #[test]
    fn the_lists_of_the_repository_can_be_read() {
        for entry in std::fs::read_dir(crate::root().join("tests/suites")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                Skips::read(&path).unwrap();
            }
        }
    }
}
