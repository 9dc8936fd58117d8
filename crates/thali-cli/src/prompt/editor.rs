//! The line editor: rustyline with our completion and grey hints.

use std::cell::RefCell;
use std::rc::Rc;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use thali_resp::split_inline;

use crate::prompt::docs::Docs;
use crate::prompt::history::LINES_MAX;
use crate::prompt::syntax;

/// What the editor knows, shared with the prompt.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    pub docs: Docs,
    pub hints: bool,
}

pub(crate) struct LineEditor {
    editor: Editor<Assistant, MemHistory>,
}

/// What came of reading a line.
#[derive(Debug)]
pub(crate) enum Line {
    Text(String),
    /// Ctrl-C or Ctrl-D.
    End,
}

impl LineEditor {
    pub fn new(knowledge: Rc<RefCell<Knowledge>>, lines: Vec<String>) -> Result<Self, ReadlineError> {
        let config = Config::builder()
            .completion_type(CompletionType::Circular)
            .max_history_size(LINES_MAX)?
            // A line end that is pasted ends a command, as one that is typed.
            .bracketed_paste(false)
            .history_ignore_space(false)
            .build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history)?;
        editor.set_helper(Some(Assistant { knowledge }));
        for line in lines {
            editor.add_history_entry(line)?;
        }
        Ok(Self { editor })
    }

    pub fn read(&mut self, prompt: &str) -> Result<Line, ReadlineError> {
        match self.editor.readline(prompt) {
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error),
        }
    }

    pub fn remember(&mut self, line: &str) -> Result<(), ReadlineError> {
        self.editor.add_history_entry(line).map(|_| ())
    }
}

struct Assistant {
    knowledge: Rc<RefCell<Knowledge>>,
}

impl Helper for Assistant {}
impl Validator for Assistant {}

/// A hint is looked at, never taken over into the line.
pub(crate) struct Grey(String);

impl Hint for Grey {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = Grey;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Grey> {
        let knowledge = self.knowledge.borrow();
        if !knowledge.hints || pos < line.len() {
            return None;
        }
        let hint = hint(&knowledge.docs, line)?;
        let gap = if line.ends_with(char::is_whitespace) { "" } else { " " };
        Some(Grey(format!("{gap}{hint}"))).filter(|_| !hint.is_empty())
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> std::borrow::Cow<'h, str> {
        format!("\x1b[90m{hint}\x1b[0m").into()
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(&self.knowledge.borrow().docs, &line[..pos]))
    }
}

/// What may still be typed behind a line. Its last word counts once a blank follows, or where it ends a name.
fn hint(docs: &Docs, line: &str) -> Option<String> {
    let all = without_repeats(split_inline(line.as_bytes())?);
    let is_name = docs.find(&all).is_some_and(|entry| entry.words.len() == all.len());
    let words = if is_name { all } else { typed(line)? };
    let entry = docs.find(&words)?;
    let left = syntax::left_after(&entry.syntax, &words[entry.words.len()..])?;
    Some(syntax::text(&left))
}

/// The words of a line that are finished, without a number of repetitions in front.
fn typed(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = split_inline(line.as_bytes())?;
    if !line.ends_with(char::is_whitespace) {
        words.pop();
    }
    Some(without_repeats(words))
}

fn without_repeats(mut words: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let repeats = words.len() > 1 && words[0].iter().all(u8::is_ascii_digit);
    words.split_off(usize::from(repeats))
}

/// Where the completions begin, and what they are: names of commands, topics of help, words of the syntax.
fn complete(docs: &Docs, line: &str) -> (usize, Vec<String>) {
    let (start, is_help) = match line.get(..5) {
        Some(first) if first.eq_ignore_ascii_case("help ") => {
            (line.len() - line[5..].trim_start().len(), true)
        }
        _ => (0, false),
    };
    let begins = |name: &str| {
        let typed = &line.as_bytes()[start..];
        name.as_bytes().get(..typed.len()).is_some_and(|first| first.eq_ignore_ascii_case(typed))
    };
    let mut found: Vec<String> =
        docs.entries().iter().map(|entry| entry.name()).filter(|name| begins(name)).collect();
    if is_help {
        found.extend(docs.groups().iter().map(|group| format!("@{group}")).filter(|name| begins(name)));
    }
    if !found.is_empty() || is_help {
        return (start, found);
    }
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    (start, next_words(docs, &line[..start], &line[start..]))
}

fn next_words(docs: &Docs, before: &str, begun: &str) -> Vec<String> {
    let mut found = Vec::new();
    let left = typed(before).and_then(|words| {
        let entry = docs.find(&words)?;
        syntax::left_after(&entry.syntax, &words[entry.words.len()..])
    });
    syntax::next_words(&left.unwrap_or_default(), &mut found);
    let begins = |word: &str| word.get(..begun.len()).is_some_and(|first| first.eq_ignore_ascii_case(begun));
    found.retain(|word| begins(word));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use thali_commands::Spec;

    static GET: Spec = Spec { name: "get", syntax: "key", ..Spec::BASE };
    static SET: Spec = Spec { name: "set", syntax: "key value [NX | XX] [EX seconds]", ..Spec::BASE };
    static CONFIG: Spec = Spec {
        name: "config",
        subcommands: &[Spec { name: "get", syntax: "parameter", ..Spec::BASE }],
        ..Spec::BASE
    };

    fn docs() -> Docs {
        Docs::of_table(&[&GET, &SET, &CONFIG])
    }

    #[test]
    fn hints_follow_finished_words() {
        for (line, expected) in [
            ("get", Some("key")),
            ("get k", Some("key")),
            ("get k ", Some("")),
            ("set k v ", Some("[NX|XX] [EX seconds]")),
            ("set k v nx ex ", Some("seconds")),
            ("5 get ", Some("key")),
            ("config get ", Some("parameter")),
            ("config get", Some("parameter")),
            ("ge", None),
            ("set \"open", None),
            ("nosuch ", None),
            ("", None),
        ] {
            assert_eq!(hint(&docs(), line).as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn tab_completes_names_topics_and_words() {
        for (line, start, expected) in [
            ("g", 0, &["GET"][..]),
            ("conf", 0, &["CONFIG", "CONFIG GET"]),
            ("config g", 0, &["CONFIG GET"]),
            ("help se", 5, &["SET"]),
            ("help @g", 5, &["@generic"]),
            ("set k v ", 8, &["NX", "XX", "EX"]),
            ("set k v e", 8, &["EX"]),
            ("set é v n", 9, &["NX"]),
        ] {
            let (at, found) = complete(&docs(), line);
            assert_eq!(
                (at, found.iter().map(String::as_str).collect::<Vec<_>>()),
                (start, expected.to_vec()),
                "{line:?}"
            );
        }
    }
}
