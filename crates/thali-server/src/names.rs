//! `rename-command`: what clients and scripts call a command, where that is not its own name.
//!
//! A request is translated where it comes in, so that everything behind knows own names alone: the journal (a file
//! that is written under one set of names is read under another), the slow log, MONITOR and users' rights.

use std::borrow::Cow;
use std::collections::HashMap;

use thali_commands::ErrorReply;

use crate::dispatch::unknown_command;
use crate::table;

/// The names that are good for something; empty where nothing was renamed.
#[derive(Debug, Default)]
pub(crate) struct Names {
    own_by_said: HashMap<Box<[u8]>, &'static str>,
}

impl Names {
    /// From `(old name, new name)` in their order; a command whose new name is empty is not there any more.
    /// SOURCE of the words: Redis 7.2 `config.c`.
    pub fn new<'a>(renames: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut names = Self::default();
        for (old, new) in renames {
            if names.own_by_said.is_empty() {
                let all = table::rows().iter().map(|row| row.spec.name);
                names.own_by_said = all.map(|name| (name.as_bytes().into(), name)).collect();
            }
            let lower = |name: &str| -> Box<[u8]> { name.to_ascii_lowercase().as_bytes().into() };
            let own = names
                .own_by_said
                .remove(&lower(old))
                .ok_or_else(|| format!("rename-command {old}: no such command in rename-command"))?;
            if !new.is_empty() && names.own_by_said.insert(lower(new), own).is_some() {
                return Err(format!("rename-command {old} {new}: target command name already exists"));
            }
        }
        Ok(names)
    }

    pub fn is_empty(&self) -> bool {
        self.own_by_said.is_empty()
    }

    /// The request with the command's own name; an error where nothing is called so.
    pub fn translate<'a, 'b>(&self, args: &'a [&'b [u8]]) -> Result<Cow<'a, [&'b [u8]]>, ErrorReply> {
        if self.is_empty() {
            return Ok(Cow::Borrowed(args));
        }
        let own =
            self.own_by_said.get(&*args[0].to_ascii_lowercase()).ok_or_else(|| unknown_command(args))?;
        Ok(Cow::Owned(std::iter::once(own.as_bytes()).chain(args[1..].iter().copied()).collect()))
    }

    /// Whether a command can be called at all.
    pub fn offers(&self, own: &str) -> bool {
        self.is_empty() || self.own_by_said.values().any(|name| *name == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_command_answers_to_its_new_name_alone() {
        let names = Names::new([("FLUSHALL", "Really-Flush"), ("KEYS", ""), ("really-flush", "f")]).unwrap();
        let own = |name: &str| {
            let request = [name.as_bytes(), b"x"];
            names.translate(&request).map(|args| String::from_utf8_lossy(args[0]).into_owned())
        };
        assert_eq!(own("F").unwrap(), "flushall");
        assert_eq!(own("Get").unwrap(), "get");
        for gone in ["flushall", "REALLY-FLUSH", "keys", ""] {
            let text = format!("ERR unknown command '{gone}', with args beginning with: 'x' ");
            assert_eq!(own(gone).unwrap_err().text(), text.as_bytes());
        }
        assert!(names.offers("flushall") && !names.offers("keys"));
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert!(Names::new([("nosuch", "x")]).unwrap_err().contains("no such command"));
        assert!(Names::new([("get", "SET")]).unwrap_err().contains("already exists"));
        assert!(Names::new([("get", ""), ("get", "x")]).unwrap_err().contains("no such command"));
        assert!(Names::new([]).unwrap().is_empty());
    }
}
