//! `aclfile`: one `user <name> <rules>` a line, nothing else but empty lines. Each line that is wrong is
//! named, and then none is taken.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::user::{self, RuleError, Rules};

/// Reads the file. The error says all that is wrong with it.
pub(super) fn load(path: &Path, all_channels: bool) -> Result<BTreeMap<Box<[u8]>, Rules>, String> {
    let shown = path.display();
    let text = std::fs::read(path)
        .map_err(|error| format!("Error loading ACLs, opening file '{shown}': {}", in_short(&error)))?;
    parse(&text, &shown.to_string(), all_channels)
}

/// As the C library words it, without Rust's number.
fn in_short(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn parse(text: &[u8], path: &str, all_channels: bool) -> Result<BTreeMap<Box<[u8]>, Rules>, String> {
    let mut users: BTreeMap<Box<[u8]>, Rules> = BTreeMap::new();
    let mut errors = String::new();
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let place = format!("{path}:{}", index + 1);
        let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let [b"user", name, rest @ ..] = words.as_slice() else {
            errors += &format!("{place} should start with user keyword followed by the username. ");
            continue;
        };
        let shown = String::from_utf8_lossy(name);
        if !user::is_name(name) {
            errors += &format!("{place}: username '{shown}' contains invalid characters. ");
        } else if users.contains_key(*name) {
            errors += &format!("WARNING: Duplicate user '{shown}' found on line {}. ", index + 1);
        } else {
            let mut rules = Rules::new(all_channels);
            apply(&mut rules, rest, &place, all_channels, &mut errors);
            users.insert((*name).into(), rules);
        }
    }
    if errors.is_empty() {
        return Ok(users);
    }
    Err(errors + "WARNING: ACL errors detected, no change to the previously active ACL rules was performed")
}

/// All that is wrong with one line's rules. Only unknown commands are shown: other words may be passwords.
fn apply(rules: &mut Rules, words: &[&[u8]], place: &str, all_channels: bool, errors: &mut String) {
    let words: Vec<&[u8]> = words.iter().map(|word| word.trim_ascii()).collect();
    let Ok(words) = user::merged(&words) else {
        *errors += &format!("{place}: Unmatched parenthesis in selector definition. ");
        return;
    };
    let mut has_told = false;
    for word in words {
        match rules.apply(&word, all_channels) {
            Ok(()) => {}
            Err(error @ RuleError::UnknownCommand) => {
                let word = String::from_utf8_lossy(&word);
                *errors += &format!("{place}: Error in applying operation '{word}': {error}. ");
            }
            // One may be the reason of the next.
            Err(_) if has_told => {}
            Err(error) => {
                has_told = true;
                *errors += &format!("{place}: {error}. ");
            }
        }
    }
}

/// Puts `lines` in the file's place in one step.
pub(super) fn save(path: &Path, lines: &[Vec<u8>]) -> io::Result<()> {
    let text: Vec<u8> = lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
    crate::config::replace_file(path, &text)
}
