//! Reading directives: from a file and those it includes, the environment, the command line.

use std::fs;
use std::path::{Path, PathBuf};

use thali_resp::split_inline;

use super::error::Place;
use super::kind::Kind;
use super::table::{self, TABLE};
use super::{Config, ConfigError};

/// Files that include files that include …
const INCLUDE_DEPTH_MAX: usize = 16;
const ENV_PREFIX: &str = "THALI_";

impl Config {
    /// Reads a file; `-` is the standard input. The last one read is the one that `rewrite` changes.
    pub fn load_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::io::stdin(), &mut text)
                .map_err(|source| ConfigError::Open { path: path.to_owned(), source })?;
            return self.load_text(&text, path);
        }
        let text = read(path)?;
        self.load_text(&text, path)?;
        self.file = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        Ok(())
    }

    /// Reads the text of a file; `path` serves the errors.
    pub fn load_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        self.save_begun = false;
        self.load_included(text, path, 0)
    }

    /// Reads `--name value…` as redis-server does: the word behind a name is its value whatever it looks like,
    /// and after it a word that begins with `--` begins the next directive. Name and value may stand in one
    /// word. `--save` without a value means none.
    pub fn load_args(&mut self, args: &[String]) -> Result<(), ConfigError> {
        for words in lines_of(args)? {
            self.directive(&words).map_err(|why| ConfigError::Directive {
                place: Place::CommandLine,
                text: shown(&words),
                why,
            })?;
        }
        Ok(())
    }

    /// Reads `THALI_NAME=value`, `_` standing for `-`; a value is written as in a file. Gives the names that
    /// are no directive.
    pub fn load_env(
        &mut self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        for (name, value) in env {
            let Some(short) = name.strip_prefix(ENV_PREFIX) else { continue };
            let Some(index) = table::find(short) else {
                unknown.push(name);
                continue;
            };
            self.save_begun = false;
            let mut words = vec![TABLE[index].name.to_owned()];
            let is_list = TABLE[index].kind.is_list();
            words.extend(if is_list {
                value.split_whitespace().map(Into::into).collect()
            } else {
                vec![value]
            });
            if words.len() == 1 {
                words.push(String::new());
            }
            self.directive(&words).map_err(|why| ConfigError::Directive {
                place: Place::Environment(name.clone()),
                text: words.join(" "),
                why,
            })?;
        }
        Ok(unknown)
    }

    fn load_included(&mut self, text: &str, path: &Path, depth: usize) -> Result<(), ConfigError> {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |why: String| {
                let place = Place::File { path: path.to_owned(), line: index + 1 };
                ConfigError::Directive { place, text: line.to_owned(), why }
            };
            let words =
                split_line(line).ok_or_else(|| fail("Unbalanced quotes in configuration line".into()))?;
            match words.as_slice() {
                [] => {}
                [name, pattern] if name.eq_ignore_ascii_case("include") => {
                    if depth == INCLUDE_DEPTH_MAX {
                        return Err(fail(format!("includes are nested more than {INCLUDE_DEPTH_MAX} deep")));
                    }
                    for file in expand(pattern)? {
                        self.load_included(&read(&file)?, &file, depth + 1)?;
                    }
                }
                words => self.directive(words).map_err(fail)?,
            }
        }
        Ok(())
    }

    /// A `user` line: that its rules are rules, and that it is the only one about this user.
    fn check_user(&self, args: &[String]) -> Result<(), String> {
        if self.others.iter().any(|words| words[0] == "user" && words[1] == args[0]) {
            return Err(format!(
                "Error in user declaration '{}': Duplicate user found. A user can only be defined once in config \
                 files",
                args[0]
            ));
        }
        crate::acl::check_line(args, self.text("acl-pubsub-default") == "allchannels")
    }

    /// One directive with its arguments.
    fn directive(&mut self, words: &[String]) -> Result<(), String> {
        let (name, args) = (words[0].as_str(), &words[1..]);
        let Some(index) = table::find(name) else {
            let lower = name.to_ascii_lowercase();
            let is_other = match lower.as_str() {
                "rename-command" => args.len() == 2,
                "user" | "loadmodule" => !args.is_empty(),
                _ => false,
            };
            if !is_other {
                return Err("Bad directive or wrong number of arguments".into());
            }
            if lower == "user" {
                self.check_user(args)?;
            }
            self.others.push([&[lower], args].concat());
            return Ok(());
        };
        let directive = &TABLE[index];
        if args.is_empty() && !matches!(directive.kind, Kind::Save | Kind::EnumSet(_) | Kind::OutputLimits) {
            return Err("wrong number of arguments".into());
        }
        let words: Vec<&str> = match args {
            // `--save "60 1"`: a list in one word, as Redis takes it too.
            [list] if directive.kind.is_list() && list.contains(' ') => list.split_whitespace().collect(),
            words => words.iter().map(String::as_str).collect(),
        };
        let value = directive.kind.parse(directive.name, &words, &self.values[index])?;
        // The first `save` of a source replaces the default, further ones add to it; an empty one clears.
        let adds = matches!(directive.kind, Kind::Save) && self.save_begun && !value.is_empty();
        self.save_begun |= matches!(directive.kind, Kind::Save);
        let old = &self.values[index];
        let value = if adds && !old.is_empty() { format!("{old} {value}") } else { value };
        self.put(index, value);
        Ok(())
    }
}

/// The command line as lines of a file, in words. SOURCE: Valkey 8.0 `server.c`, main.
fn lines_of(args: &[String]) -> Result<Vec<Vec<String>>, ConfigError> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut takes_name = true;
    for (at, arg) in args.iter().enumerate() {
        let Some(name) = arg.strip_prefix("--").filter(|name| takes_name && !name.is_empty()) else {
            match lines.last_mut() {
                Some(line) => line.push(arg.clone()),
                None => lines.push(vec![arg.clone()]),
            }
            takes_name = true;
            continue;
        };
        let mut words = split_line(name).ok_or_else(|| ConfigError::Directive {
            place: Place::CommandLine,
            text: name.to_owned(),
            why: "Unbalanced quotes".into(),
        })?;
        if let [word] = words.as_slice()
            && let Some((name, value)) = word.split_once('=')
        {
            words = vec![name.to_owned(), value.to_owned()];
        }
        takes_name = words.len() != 1;
        let ends = args.get(at + 1).is_none_or(|next| next.starts_with("--"));
        if words.len() == 1 && ends && words[0].eq_ignore_ascii_case("save") {
            words.push(String::new());
            takes_name = true;
        }
        lines.push(words);
    }
    Ok(lines)
}

/// A directive for an error: its values in quotes.
fn shown(words: &[String]) -> String {
    let values: String = words[1..].iter().map(|word| format!(" \"{word}\"")).collect();
    words[0].clone() + &values
}

pub(super) fn split_line(line: &str) -> Option<Vec<String>> {
    let words = split_inline(line.as_bytes())?;
    Some(words.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect())
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let bytes = fs::read(path).map_err(|source| ConfigError::Open { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files that an include names. A pattern may stand in the last component and may match nothing; a
/// plain name must exist.
fn expand(pattern: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let path = PathBuf::from(pattern);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains(['*', '?', '[']) {
        return Ok(vec![path]);
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let open = |source| ConfigError::Open { path: path.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(open)? {
        let entry = entry.map_err(open)?.file_name().to_string_lossy().into_owned();
        if thali_keyspace::glob::matches(name.as_bytes(), entry.as_bytes()) && !entry.starts_with('.') {
            found.push(dir.join(entry));
        }
    }
    found.sort();
    Ok(found)
}
