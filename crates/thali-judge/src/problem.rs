//! The problems: a statement, limits and test cases, as JSON files under `examples/judge/problems`.

use serde::{Deserialize, Serialize};

use crate::samples::Files;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    pub id: String,
    pub title: String,
    pub statement: String,
    pub time_limit_ms: u64,
    pub memory_limit_mib: u64,
    pub cases: Vec<Case>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    pub input: String,
    pub output: String,
}

impl Problem {
    pub fn by_id(id: &str) -> Option<Self> {
        Self::all().into_iter().find(|problem| problem.id == id)
    }

    pub fn all() -> Vec<Self> {
        let files = Files::iter().filter(|path| path.starts_with("problems/"));
        files
            .map(|path| serde_json::from_slice(&Files::bytes(&path)).expect("a test reads every problem"))
            .collect()
    }
}

impl Case {
    /// Whether an output answers the case: line by line, spaces at the ends of lines and empty lines at
    /// the end of the output aside. Otherwise what is wrong with it.
    pub fn check(&self, output: &[u8]) -> Result<(), String> {
        let Ok(output) = std::str::from_utf8(output) else {
            return Err("the output is not UTF-8".into());
        };
        let mut expected = self.output.trim_end().lines();
        let mut given = output.trim_end().lines();
        for line in 1.. {
            let (want, got) = (expected.next(), given.next());
            if want.map(str::trim_end) == got.map(str::trim_end) {
                if want.is_none() {
                    break;
                }
                continue;
            }
            return Err(match (want, got) {
                (Some(want), Some(got)) => {
                    format!("line {line} is '{}', should be '{}'", cut(got), cut(want))
                }
                (Some(want), None) => format!("line {line} is missing, should be '{}'", cut(want)),
                (None, _) => format!("line {line} is one too many"),
            });
        }
        Ok(())
    }
}

/// The beginning of a text, for a message.
fn cut(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared_line_by_line() {
        let case = Case { input: String::new(), output: "a\nb\n".into() };
        for (output, wrong) in [
            ("a\nb\n", None),
            ("a \nb", None),
            ("a\nb\n\n", None),
            ("a\n", Some("line 2 is missing, should be 'b'")),
            ("a\nc\n", Some("line 2 is 'c', should be 'b'")),
            ("a\nb\nc\n", Some("line 3 is one too many")),
            ("", Some("line 1 is missing, should be 'a'")),
        ] {
            assert_eq!(case.check(output.as_bytes()).err().as_deref(), wrong, "{output:?}");
        }
        assert_eq!(case.check(b"\xe9").unwrap_err(), "the output is not UTF-8");
    }
}
