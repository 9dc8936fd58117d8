//! What Valkey's harness prints for one file, counted.
//!
//! A line that begins with `[ok]:`, `[err]:`, `[skip]:`, `[ignore]:` or `[exception]:` is an outcome; what
//! follows an `[err]:` up to the next such line says why. `[1/1 done]:` tells that the file came to its end.

/// The characters of a reason that are kept.
const WHY_CHARS_MAX: usize = 400;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub passed: usize,
    pub failed: Vec<Failure>,
    /// Named in the list of skips.
    pub skipped: Vec<String>,
    /// Left out by a tag; a block of tests may count as one.
    pub ignored: usize,
    pub ended: bool,
    /// What ended the file before its time.
    pub broke_off: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub name: String,
    pub why: String,
}

impl Outcome {
    pub fn parse<'l>(lines: impl IntoIterator<Item = &'l str>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut explains = Explains::Nothing;
        for line in lines {
            let Some((tag, rest)) = tagged(line) else {
                outcome.explain(&explains, line);
                continue;
            };
            explains = Explains::Nothing;
            match tag {
                "ok" => outcome.passed += 1,
                "skip" => outcome.skipped.push(rest.to_owned()),
                "ignore" => outcome.ignored += 1,
                "err" => {
                    let name = rest.rsplit_once(" in tests/").map_or(rest, |(name, _)| name);
                    outcome.failed.push(Failure { name: name.to_owned(), why: String::new() });
                    explains = Explains::Failure;
                }
                "exception" => {
                    outcome.broke_off = Some(rest.to_owned());
                    explains = Explains::End;
                }
                "TIMEOUT" => {
                    outcome.broke_off = Some("hung".into());
                    explains = Explains::End;
                }
                _ if tag.ends_with("done") => outcome.ended = true,
                _ => {}
            }
        }
        outcome
    }

    fn explain(&mut self, explains: &Explains, line: &str) {
        let line = line.trim();
        let why = match explains {
            Explains::Failure => self.failed.last_mut().map(|failure| &mut failure.why),
            Explains::End => self.broke_off.as_mut(),
            Explains::Nothing => None,
        };
        if let Some(why) = why
            && !line.is_empty()
            && why.chars().count() < WHY_CHARS_MAX
        {
            let separator = if why.is_empty() { "" } else { " / " };
            why.push_str(separator);
            why.extend(line.chars().take(WHY_CHARS_MAX));
        }
    }

    /// Tests that ran.
    pub fn ran(&self) -> usize {
        self.passed + self.failed.len()
    }
}

/// What the lines without a tag belong to.
enum Explains {
    Nothing,
    Failure,
    End,
}

/// `[tag]: rest`.
fn tagged(line: &str) -> Option<(&str, &str)> {
    let (tag, rest) = line.strip_prefix('[')?.split_once("]:")?;
    let is_tag = tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | ' ' | '-' | '_'));
    is_tag.then(|| (tag, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_failures_keep_their_reason() {
        let text = "Starting test server at port 1\n[ready]: 12\nTesting unit/a\n[ok]: one (3 ms)\n\
                    [err]: two, and more in tests/unit/a.tcl\nExpected 'x' (context: type eval)\n\n\
                    [skip]: three\n[ignore]: four: Tag: repl denied\n[ok]: five (1 ms)\n\
                    [1/1 done]: unit/a (2 seconds)\n*** [err]: two, and more in tests/unit/a.tcl\n";
        let outcome = Outcome::parse(text.lines());
        assert_eq!((outcome.passed, outcome.ignored, outcome.ran()), (2, 1, 3));
        assert_eq!(outcome.skipped, ["three"]);
        assert_eq!(outcome.failed.len(), 1);
        assert_eq!(outcome.failed[0].name, "two, and more");
        assert_eq!(outcome.failed[0].why, "Expected 'x' (context: type eval)");
        assert!(outcome.ended && outcome.broke_off.is_none());
    }

    #[test]
    fn an_exception_is_the_end_with_its_reason() {
        let outcome =
            Outcome::parse(["[exception]: Executing test client: ERR no.", "ERR no", "while executing"]);
        assert!(!outcome.ended);
        let why = outcome.broke_off.unwrap();
        assert!(
            why.starts_with("Executing test client: ERR no.") && why.contains("while executing"),
            "{why}"
        );
    }
}
