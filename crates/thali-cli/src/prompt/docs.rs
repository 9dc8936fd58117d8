//! What is known of the commands: from the table that the program carries, and from the server's COMMAND DOCS
//! where that says more.

use thali_commands::Spec;
use thali_commands::syntax::{Node, parse};

use crate::prompt::syntax;
use crate::wire::Reply;

/// A command or subcommand.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// In capitals: `CONFIG`, `GET`.
    pub words: Vec<String>,
    pub syntax: Vec<Node>,
    pub summary: String,
    pub since: String,
    pub group: String,
}

impl Entry {
    pub fn name(&self) -> String {
        self.words.join(" ")
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Docs {
    entries: Vec<Entry>,
}

impl Docs {
    /// What the table says.
    pub fn of_table(table: &[&'static Spec]) -> Self {
        let mut entries = Vec::new();
        for spec in table {
            entries.push(entry_of(&[spec.name], spec));
            entries.extend(spec.subcommands.iter().map(|sub| entry_of(&[spec.name, sub.name], sub)));
        }
        Self::sorted(entries)
    }

    /// What the server says, filled up from this.
    pub fn with_server(&self, reply: &Reply) -> Self {
        let mut entries = Vec::new();
        let pairs: Vec<(&Reply, &Reply)> = match reply {
            Reply::Map(pairs) => pairs.iter().map(|(name, doc)| (name, doc)).collect(),
            other => other.items().chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        };
        for (name, doc) in pairs {
            self.add(name, doc, &mut entries);
            let subcommands = doc.field("subcommands");
            let subs: Vec<(&Reply, &Reply)> = match subcommands {
                Some(Reply::Map(pairs)) => pairs.iter().map(|(name, doc)| (name, doc)).collect(),
                Some(other) => other.items().chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
                None => Vec::new(),
            };
            subs.into_iter().for_each(|(name, doc)| self.add(name, doc, &mut entries));
        }
        if entries.is_empty() { self.clone() } else { Self::sorted(entries) }
    }

    fn add(&self, name: &Reply, doc: &Reply, entries: &mut Vec<Entry>) {
        let Some(name) = name.text().map(|name| String::from_utf8_lossy(name).to_uppercase()) else { return };
        let words: Vec<String> = name.split('|').map(str::to_owned).collect();
        let known = self.entries.iter().find(|entry| entry.words == words);
        let text = |field: &str, of: fn(&Entry) -> &String| {
            let said =
                doc.field(field).and_then(Reply::text).map(|text| String::from_utf8_lossy(text).into_owned());
            said.or_else(|| known.map(|entry| of(entry).clone())).unwrap_or_default()
        };
        let syntax = match doc.field("arguments") {
            Some(arguments) => syntax::from_docs(arguments, 0),
            None => known.map(|entry| entry.syntax.clone()).unwrap_or_default(),
        };
        entries.push(Entry {
            syntax,
            summary: text("summary", |entry| &entry.summary),
            since: text("since", |entry| &entry.since),
            group: text("group", |entry| &entry.group),
            words,
        });
    }

    fn sorted(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.words.cmp(&b.words));
        Self { entries }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The groups' names.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = self.entries.iter().map(|entry| entry.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The longest name that the words begin with.
    pub fn find(&self, words: &[Vec<u8>]) -> Option<&Entry> {
        let begins = |entry: &&Entry| {
            entry.words.len() <= words.len()
                && entry
                    .words
                    .iter()
                    .zip(words)
                    .all(|(name, word)| name.as_bytes().eq_ignore_ascii_case(word))
        };
        self.entries.iter().filter(begins).max_by_key(|entry| entry.words.len())
    }

    /// `help`, `help CMD`, `help @group`.
    pub fn help(&self, words: &[Vec<u8>]) -> String {
        let Some(first) = words.first() else { return GENERAL.to_owned() };
        let group = first.strip_prefix(b"@");
        let mut text = String::new();
        for entry in &self.entries {
            let wanted = match group {
                Some(group) => entry.group.as_bytes().eq_ignore_ascii_case(group),
                None => {
                    words.len() <= entry.words.len()
                        && words
                            .iter()
                            .zip(&entry.words)
                            .all(|(word, name)| name.as_bytes().eq_ignore_ascii_case(word))
                }
            };
            if wanted {
                text += &page(entry, group.is_none());
            }
        }
        text + "\r\n"
    }
}

const GENERAL: &str = concat!(
    "thali cli ",
    env!("CARGO_PKG_VERSION"),
    "\n\
To get help about Redis commands type:
      \"help @<group>\" to get a list of commands in <group>
      \"help <command>\" for help on <command>
      \"help <tab>\" to get a list of possible help topics
      \"quit\" to exit

To set preferences:
      \":set hints\" enable online hints
      \":set nohints\" disable online hints
Set your preferences in ~/.redisclirc
"
);

fn page(entry: &Entry, with_group: bool) -> String {
    let mut text =
        format!("\r\n  \x1b[1m{}\x1b[0m \x1b[90m{}\x1b[0m\r\n", entry.name(), syntax::text(&entry.syntax));
    text += &format!("  \x1b[33msummary:\x1b[0m {}\r\n", entry.summary);
    text += &format!("  \x1b[33msince:\x1b[0m {}\r\n", entry.since);
    if with_group {
        text += &format!("  \x1b[33mgroup:\x1b[0m {}\r\n", entry.group);
    }
    text
}

fn entry_of(names: &[&str], spec: &Spec) -> Entry {
    Entry {
        words: names.iter().map(|name| name.to_uppercase()).collect(),
        syntax: parse(spec.syntax),
        summary: spec.summary.to_owned(),
        since: spec.since.to_owned(),
        group: spec.group.name().to_owned(),
    }
}
