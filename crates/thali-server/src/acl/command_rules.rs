//! The part of a user's rules that is about commands: which are allowed, and the words that made it so.
//!
//! Each command and subcommand has a bit; the words are kept in the order in which they came, less those
//! that later ones made void, and give the same bits when read again.

use thali_commands::{Categories, Spec};

use super::CATEGORIES;
use super::user::RuleError;
use crate::table::{self, Row};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandRules {
    /// Whether `+@all` was the last that was said of all commands, else `-@all`.
    begins_with_all: bool,
    /// What came after, in lower case: `+get`, `-@hash`, `+select|0`.
    words: Vec<Box<[u8]>>,
    /// By a command's place in the table.
    allowed: Box<[u64]>,
    /// Commands that are allowed with one first argument: `+select|0`.
    first_args: Vec<(usize, Box<[u8]>)>,
}

impl CommandRules {
    pub fn none() -> Self {
        Self {
            begins_with_all: false,
            words: Vec::new(),
            allowed: vec![0; table::stats_len().div_ceil(64)].into(),
            first_args: Vec::new(),
        }
    }

    /// `+@all` and `-@all`.
    pub fn set_all(&mut self, allow: bool) {
        *self = Self { begins_with_all: allow, ..Self::none() };
        if allow {
            (0..table::stats_len()).for_each(|place| self.set_bit(place, true));
        }
    }

    /// Whether nothing is held back, of commands to come neither.
    pub fn are_all(&self) -> bool {
        self.begins_with_all && (0..table::stats_len()).all(|place| self.bit(place))
    }

    pub fn allows(&self, row: &Row, spec: &Spec, args: &[&[u8]]) -> bool {
        let place = row.stats_at(spec);
        let is_this = |(at, first): &(usize, Box<[u8]>)| {
            *at == place && args.get(1).is_some_and(|arg| arg.eq_ignore_ascii_case(first))
        };
        self.bit(place) || self.first_args.iter().any(is_this)
    }

    /// `+…` and `-…`.
    pub fn apply(&mut self, word: &[u8]) -> Result<(), RuleError> {
        let allow = word[0] == b'+';
        let name = &word[1..];
        if name.eq_ignore_ascii_case(b"@all") {
            self.set_all(allow);
            return Ok(());
        }
        if let Some(category) = name.strip_prefix(b"@") {
            self.set_category(category_named(category).ok_or(RuleError::UnknownCommand)?, allow);
        } else if let Some(bar) = name.iter().rposition(|b| *b == b'|').filter(|_| allow) {
            self.allow_part(&name[..bar], &name[bar + 1..], name)?;
        } else {
            let (row, spec) = table::named(name).ok_or(RuleError::UnknownCommand)?;
            self.set(row, spec, allow);
        }
        self.remember(name, allow);
        Ok(())
    }

    /// `+container|subcommand`, or `+command|first-argument`.
    fn allow_part(&mut self, command: &[u8], part: &[u8], name: &[u8]) -> Result<(), RuleError> {
        let (row, spec) = table::named(command).ok_or(RuleError::UnknownCommand)?;
        if !std::ptr::eq(spec, row.spec) {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if part.is_empty() || super::selector::has_blank(part) {
            return Err(RuleError::Syntax);
        }
        if spec.subcommands.is_empty() {
            let entry = (row.stats_at(spec), part.to_ascii_lowercase().into());
            self.first_args.retain(|known| *known != entry);
            self.first_args.push(entry);
        } else {
            let (row, spec) = table::named(name).ok_or(RuleError::UnknownCommand)?;
            self.set(row, spec, true);
        }
        Ok(())
    }

    /// All commands of a category; a container's subcommands go with it.
    fn set_category(&mut self, category: Categories, allow: bool) {
        for row in table::rows() {
            for spec in std::iter::once(row.spec).chain(row.spec.subcommands) {
                if spec.all_categories().contains(category) {
                    self.set(row, spec, allow);
                }
            }
        }
    }

    fn set(&mut self, row: &Row, spec: &Spec, allow: bool) {
        let place = row.stats_at(spec);
        self.set_bit(place, allow);
        self.first_args.retain(|(at, _)| *at != place);
        if std::ptr::eq(spec, row.spec) {
            spec.subcommands.iter().for_each(|sub| self.set_bit(row.stats_at(sub), allow));
        }
    }

    /// Keeps a word, and forgets those that it makes void: the same one, and those about its parts.
    fn remember(&mut self, name: &[u8], allow: bool) {
        let name = name.to_ascii_lowercase();
        self.words.retain(|word| match word[1..].strip_prefix(name.as_slice()) {
            Some(rest) => !matches!(rest.first(), None | Some(b'|')),
            None => true,
        });
        self.words.push([if allow { b"+" } else { b"-" }, name.as_slice()].concat().into());
    }

    pub fn describe(&self, out: &mut Vec<u8>) {
        out.extend(if self.begins_with_all { b"+@all" } else { b"-@all" });
        for word in &self.words {
            out.push(b' ');
            out.extend_from_slice(word);
        }
    }

    fn bit(&self, place: usize) -> bool {
        self.allowed[place / 64] & (1 << (place % 64)) != 0
    }

    fn set_bit(&mut self, place: usize, value: bool) {
        let bit = 1 << (place % 64);
        if value {
            self.allowed[place / 64] |= bit;
        } else {
            self.allowed[place / 64] &= !bit;
        }
    }
}

/// The category of this name, in any case.
pub(crate) fn category_named(name: &[u8]) -> Option<Categories> {
    let name = CATEGORIES.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
    Categories::from_name(&name.to_uppercase())
}
