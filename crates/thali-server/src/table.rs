//! All commands: the data commands and those that need the server, found by name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use thali_commands::{Outcome, Run, Spec};
use thali_resp::Reply;

use crate::batch;
use crate::call::Call;
use crate::commands;

/// A command that needs more than keys: its session, the settings, the other loops.
pub(crate) type ServerRun = fn(&mut Call<'_, '_>, &[&[u8]], &mut Reply<'_>) -> Outcome;

/// How a command runs.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Data(Run),
    Server(ServerRun),
    /// Begins, ends or leaves what surrounds commands; dispatch does it itself.
    Session(SessionVerb),
}

/// Commands that dispatch does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionVerb {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Quit,
    Reset,
    Migrate,
}

/// A row of the table.
pub(crate) struct Row {
    pub spec: &'static Spec,
    pub handler: Handler,
    /// See [`crate::batch`].
    pub joins_batches: bool,
    /// See [`Spec::shares_shards`].
    pub shares_shards: bool,
    stats_at: usize,
}

impl Row {
    /// Where the counters of this command, or of its subcommand `spec`, stand.
    pub fn stats_at(&self, spec: &Spec) -> usize {
        let sub = self.spec.subcommands.iter().position(|sub| std::ptr::eq(sub, spec));
        self.stats_at + sub.map_or(0, |sub| sub + 1)
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.spec.name)
    }
}

/// Names longer than this are unknown.
const NAME_LEN_MAX: usize = 32;

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let data = thali_commands::TABLE
        .iter()
        .flat_map(|group| group.iter())
        .map(|command| (command.spec, Handler::Data(command.run)));
    let server = commands::TABLE.iter().map(|(spec, handler)| (*spec, *handler));
    let mut next = 0;
    let place = |(spec, handler): (&'static Spec, Handler)| {
        let stats_at = next;
        next += 1 + spec.subcommands.len();
        let joins_batches = batch::joins(spec, handler);
        let shares_shards = matches!(handler, Handler::Data(_)) && spec.shares_shards();
        Row { spec, handler, joins_batches, shares_shards, stats_at }
    };
    data.chain(server).map(place).collect()
});

/// How many counters all commands and subcommands need.
pub(crate) fn stats_len() -> usize {
    rows().last().map_or(0, |row| row.stats_at + 1 + row.spec.subcommands.len())
}

static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Row, foldhash::fast::RandomState>> =
    LazyLock::new(|| ROWS.iter().map(|row| (row.spec.name.as_bytes(), row)).collect());

/// Every command.
pub(crate) fn rows() -> &'static [Row] {
    &ROWS
}

/// Every command and, behind each container, its subcommands.
pub(crate) fn all() -> impl Iterator<Item = (&'static Row, &'static Spec)> {
    rows()
        .iter()
        .flat_map(|row| std::iter::once(row.spec).chain(row.spec.subcommands).map(move |spec| (row, spec)))
}

/// `get`, or `config|get`.
pub(crate) fn full_name(row: &Row, spec: &Spec) -> Cow<'static, str> {
    match std::ptr::eq(spec, row.spec) {
        true => row.spec.name.into(),
        false => format!("{}|{}", row.spec.name, spec.name).into(),
    }
}

/// The command, or the subcommand behind a `|`, of this full name.
pub(crate) fn named(name: &[u8]) -> Option<(&'static Row, &'static Spec)> {
    match name.iter().position(|b| *b == b'|') {
        None => find(name).map(|row| (row, row.spec)),
        Some(at) => {
            let row = find(&name[..at])?;
            let is_it = |sub: &&Spec| sub.name.as_bytes().eq_ignore_ascii_case(&name[at + 1..]);
            row.spec.subcommands.iter().find(is_it).map(|sub| (row, sub))
        }
    }
}

/// The command that a request is for; a container's where it names no subcommand. Its arguments are not
/// looked at.
pub(crate) fn find_request(args: &[&[u8]]) -> Option<(&'static Row, &'static Spec)> {
    let row = find(args.first()?)?;
    match args.len() > 1 && !row.spec.subcommands.is_empty() {
        true => row.spec.subcommand(args).map(|spec| (row, spec)),
        false => Some((row, row.spec)),
    }
}

/// The command of this name, in any case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Row> {
    let mut lower = [0u8; NAME_LEN_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).copied()
}

/// Rows that were found before, by where the names stand: those of a compiled script stay where they are.
pub(crate) struct RecentRows([Option<&'static Row>; RECENT_LEN]);

const RECENT_LEN: usize = 256;

impl Default for RecentRows {
    fn default() -> Self {
        Self([None; RECENT_LEN])
    }
}

impl RecentRows {
    /// As [`find`].
    pub fn find(&mut self, name: &[u8]) -> Option<&'static Row> {
        // Strings of Lua stand in blocks whose sizes, and so most distances, are multiples of 16.
        let place = name.as_ptr().addr() / 16;
        let recent = &mut self.0[(place ^ (place / RECENT_LEN)) % RECENT_LEN];
        if recent.is_none_or(|row| !row.spec.name.as_bytes().eq_ignore_ascii_case(name)) {
            *recent = Some(find(name)?);
        }
        *recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_in_any_case() {
        assert_eq!(BY_NAME.len(), rows().len());
        assert_eq!(find(b"GeT").unwrap().spec.name, "get");
        assert!(find(b"nosuchcommand").is_none());
        assert!(find(&[b'x'; 100]).is_none());
    }

    #[test]
    fn another_name_in_the_same_place_is_looked_up_anew() {
        let mut recent = RecentRows::default();
        let mut name = *b"GET";
        assert_eq!(recent.find(&name).unwrap().spec.name, "get");
        assert_eq!(recent.find(&name).unwrap().spec.name, "get");
        name[0] = b's';
        assert_eq!(recent.find(&name).unwrap().spec.name, "set");
        name[0] = b'x';
        assert!(recent.find(&name).is_none());
    }
}
