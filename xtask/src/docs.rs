//! `cargo xtask docs`: what COMPATIBILITY.md says of commands comes from the binary, and of other people's suites
//! from the records of their runs.
//!
//! Between three pairs of markers:
//! - `commands`: the table of supported commands, written anew from COMMAND DOCS;
//! - `missing`: prose by hand. Each `NAME` or `NAME SUB` in it, in capitals and between backquotes, must be
//!   unknown to the binary, so the page cannot go on lamenting what has come;
//! - `suites`: the tables of [`crate::suite::published`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use thali_testkit::{Reply, RespClient, ThaliOptions, start_thali};

use crate::root;
use crate::suite::published;

#[derive(Args)]
pub struct DocsArguments {
    /// Change nothing; fail if the page is not up to date.
    #[arg(long)]
    check: bool,
}

/// COMMAND DOCS' groups in the page's order and words.
const GROUPS: [(&str, &str); 16] = [
    ("generic", "keys"),
    ("string", "strings"),
    ("bitmap", "bitmaps"),
    ("hash", "hashes"),
    ("list", "lists"),
    ("set", "sets"),
    ("sorted-set", "sorted sets"),
    ("stream", "streams"),
    ("hyperloglog", "HyperLogLog"),
    ("geo", "geo"),
    ("pubsub", "publish/subscribe"),
    ("transactions", "transactions"),
    ("scripting", "scripting"),
    ("connection", "connection"),
    ("server", "server"),
    ("cluster", "cluster"),
];

pub fn run(arguments: &DocsArguments) -> Result<()> {
    compare(arguments.check)
}

/// As `cargo xtask docs --check`.
pub fn check() -> Result<()> {
    compare(true)
}

fn compare(check: bool) -> Result<()> {
    let commands = supported()?;
    let path = page();
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let stale: Vec<String> =
        named(between(&text, "missing")?).into_iter().filter(|name| commands.has(name)).collect();
    if !stale.is_empty() {
        bail!("COMPATIBILITY.md calls missing what the binary has: {}", stale.join(", "));
    }
    let with_commands = text.replacen(between(&text, "commands")?, &commands.table()?, 1);
    let new = with_commands.replacen(between(&with_commands, "suites")?, &published::page()?, 1);
    if new == text {
        println!("COMPATIBILITY.md is up to date: {} commands and subcommands", commands.names.len());
        return Ok(());
    }
    if check {
        bail!(
            "COMPATIBILITY.md lists other commands than the binary has, or other runs of suites than \
             tests/suites/records; run `cargo xtask docs`"
        );
    }
    fs::write(&path, new)?;
    println!("COMPATIBILITY.md rewritten: {} commands and subcommands", commands.names.len());
    Ok(())
}

fn page() -> PathBuf {
    root().join("COMPATIBILITY.md")
}

/// What the binary says it has.
#[derive(Debug, Default)]
struct Commands {
    /// Commands and `command|sub`, in lower case.
    names: BTreeSet<String>,
    /// Group → command → its subcommands.
    groups: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// Starts the binary and asks it.
fn supported() -> Result<Commands> {
    let running = start_thali(ThaliOptions::default())?;
    let mut client = RespClient::connect(&running.store)?;
    Commands::read(&client.command(&["COMMAND", "DOCS"])?)
}

impl Commands {
    /// Reads COMMAND DOCS' reply in RESP2: names and flat maps in turn.
    fn read(docs: &Reply) -> Result<Self> {
        let mut commands = Self::default();
        for pair in docs.items().chunks_exact(2) {
            let (name, doc) = (pair[0].text(), pair[1].items());
            let group = field(doc, "group").with_context(|| format!("{name} has no group"))?.text();
            let subcommands = field(doc, "subcommands").map(|subs| names(subs.items())).unwrap_or_default();
            commands.names.extend(subcommands.iter().cloned());
            let own =
                subcommands.iter().filter_map(|full| Some(full.split_once('|')?.1.to_owned())).collect();
            commands.groups.entry(group).or_default().insert(name.clone(), own);
            commands.names.insert(name);
        }
        if commands.names.is_empty() {
            bail!("the binary lists no commands: {docs:?}");
        }
        Ok(commands)
    }

    /// Whether there is a command of this name, `XINFO` or `XINFO STREAM`.
    fn has(&self, name: &str) -> bool {
        self.names.contains(&name.to_lowercase().replace(' ', "|"))
    }

    /// The page's table, with the line ends around it.
    fn table(&self) -> Result<String> {
        let mut table = "\n| group | commands |\n|---|---|\n".to_owned();
        let mut shown = 0;
        for (group, title) in GROUPS {
            let Some(commands) = self.groups.get(group) else { continue };
            shown += commands.len();
            let list: Vec<String> = commands.iter().map(|(name, subs)| shown_as(name, subs)).collect();
            table += &format!("| {title} ({}) | {} |\n", commands.len(), list.join(" "));
        }
        let total: usize = self.groups.values().map(BTreeMap::len).sum();
        if shown != total {
            bail!("a group is not in xtask/src/docs.rs: {:?}", self.groups.keys());
        }
        Ok(table)
    }
}

/// `XINFO (CONSUMERS, GROUPS, STREAM)`; every container's HELP goes without saying.
fn shown_as(name: &str, subcommands: &[String]) -> String {
    let mut subs: Vec<String> = subcommands.iter().map(|sub| sub.to_uppercase()).collect();
    subs.retain(|sub| sub != "HELP");
    subs.sort();
    let name = name.to_uppercase();
    if subs.is_empty() { format!("`{name}`") } else { format!("`{name}` ({})", subs.join(", ")) }
}

fn field<'r>(map: &'r [Reply], name: &str) -> Option<&'r Reply> {
    map.chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| &pair[1])
}

fn names(map: &[Reply]) -> Vec<String> {
    map.chunks_exact(2).map(|pair| pair[0].text()).collect()
}

/// The text between `<!-- NAME:begin … -->` and `<!-- NAME:end -->`, from the end of the first's line.
fn between<'t>(text: &'t str, name: &str) -> Result<&'t str> {
    let missing = || format!("COMPATIBILITY.md lacks the markers of '{name}'");
    let begin = text.find(&format!("<!-- {name}:begin")).with_context(missing)?;
    let start = begin + text[begin..].find("-->\n").with_context(missing)? + "-->\n".len();
    let len = text[start..].find(&format!("<!-- {name}:end")).with_context(missing)?;
    Ok(&text[start..start + len])
}

/// What stands in capitals between backquotes.
fn named(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |name: &&str| {
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || matches!(c, ' ' | '_' | '-'))
    };
    quoted.filter(is_name).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.into())
    }

    fn docs() -> Reply {
        let group = |name: &str| vec![bulk("group"), bulk(name)];
        let mut config = group("server");
        let sub = |name: &str| [bulk(name), Reply::Array(group("server"))];
        config.push(bulk("subcommands"));
        config.push(Reply::Array([sub("config|set"), sub("config|get"), sub("config|help")].concat()));
        Reply::Array(vec![
            bulk("get"),
            Reply::Array(group("string")),
            bulk("config"),
            Reply::Array(config),
            bulk("append"),
            Reply::Array(group("string")),
        ])
    }

    #[test]
    fn table_follows_the_binary() {
        let table = Commands::read(&docs()).unwrap().table().unwrap();
        let lines: Vec<&str> = table.lines().skip(3).collect();
        assert_eq!(lines, ["| strings (2) | `APPEND` `GET` |", "| server (1) | `CONFIG` (GET, SET) |"]);
    }

    #[test]
    fn what_has_come_is_not_missing() {
        let commands = Commands::read(&docs()).unwrap();
        let text = "a\n<!-- missing:begin by hand -->\n`GETBIT`, `CONFIG GET`, `maxmemory`, `GET`\n<!-- missing:end -->";
        let named = named(between(text, "missing").unwrap());
        assert_eq!(named, ["GETBIT", "CONFIG GET", "GET"]);
        assert_eq!(named.iter().filter(|name| commands.has(name)).count(), 2);
    }
}
