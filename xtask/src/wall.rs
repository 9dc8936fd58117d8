//! The wall: what stands on the store reaches it only through the Redis protocol.
//!
//! Checked over cargo's own metadata, so a dependency added anywhere is seen. Normal and build
//! dependencies count; a test may look at both sides.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

const STORE: [&str; 9] = [
    "thali-sync",
    "thali-resp",
    "thali-data",
    "thali-keyspace",
    "thali-rdb",
    "thali-journal",
    "thali-commands",
    "thali-script",
    "thali-server",
];
const UPPER: [&str; 6] =
    ["thali-client", "thali-jobs", "thali-gateway", "thali-http", "thali-judge", "thali-sandbox"];
/// The command-line client: reaches every server by the Redis protocol, and shares words and facts with the store.
const CLI: &str = "thali-cli";
const CLI_MAY_KNOW: [&str; 6] =
    ["thali-sync", "thali-resp", "thali-commands", "thali-data", "thali-keyspace", "thali-rdb"];
/// The load generator: knows no other crate, so that what it shows of a server is not what the server says.
const LOAD: &str = "thali-load";
/// The one place that knows both sides.
const BINARY: &str = "thali";
const TESTKIT: &str = "thali-testkit";
/// Tools, not product: they may start servers.
const TOOLS: [&str; 2] = ["xtask", "thali-bench"];

/// Crate → the workspace crates that it depends on outside of tests.
type Graph = BTreeMap<String, BTreeSet<String>>;

pub fn check() -> Result<()> {
    let breaches = breaches(&graph()?);
    if !breaches.is_empty() {
        bail!("the wall is breached:\n  {}", breaches.join("\n  "));
    }
    println!("the wall stands");
    Ok(())
}

fn graph() -> Result<Graph> {
    let output = shell::cargo().args(["metadata", "--format-version=1", "--no-deps"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages in cargo's metadata")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut graph = Graph::new();
    for package in packages {
        let dependencies = package["dependencies"].as_array().context("no dependencies listed")?;
        let ours = dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| names.contains(name))
            .map(str::to_owned);
        let name = package["name"].as_str().context("a package without a name")?;
        graph.insert(name.to_owned(), ours.collect());
    }
    Ok(graph)
}

fn breaches(graph: &Graph) -> Vec<String> {
    let mut breaches = Vec::new();
    for name in graph.keys() {
        let side = |names: &[&str]| names.contains(&name.as_str());
        for reached in reach(graph, name) {
            let other = reached.as_str();
            let why = if side(&UPPER) && STORE.contains(&other) {
                "speaks to the store by another way than the Redis protocol"
            } else if side(&STORE) && UPPER.contains(&other) {
                "makes the store know what stands on it"
            } else if side(&[CLI]) && !CLI_MAY_KNOW.contains(&other) {
                "is more than a client with the command table"
            } else if other == CLI && !side(&[BINARY]) {
                "knows the command-line client"
            } else if side(&[LOAD]) {
                "is more than a generator of load"
            } else if other == LOAD && !side(&[BINARY]) && !side(&TOOLS) {
                "knows the load generator"
            } else if other == TESTKIT && !side(&TOOLS) {
                "makes the test kit part of the product"
            } else if other == BINARY {
                "depends on the binary"
            } else {
                continue;
            };
            breaches.push(format!("{name} → {other}: {why}"));
        }
        let placed = side(&STORE) || side(&UPPER) || side(&TOOLS) || side(&[BINARY, TESTKIT, CLI, LOAD]);
        if name.starts_with("thali") && !placed {
            breaches.push(format!("{name}: on neither side; add it to a list in xtask/src/wall.rs"));
        }
    }
    breaches
}

/// Everything that `from` depends on, directly or not.
fn reach(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for next in graph.get(name).into_iter().flatten() {
            if reached.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    }

    #[test]
    fn binary_may_know_both_sides() {
        let graph = graph_of(&[("thali", "thali-server"), ("thali", "thali-jobs")]);
        assert_eq!(breaches(&graph), Vec::<String>::new());
    }

    #[test]
    fn indirect_paths_through_the_wall_are_found() {
        let graph = graph_of(&[("thali-jobs", "thali-client"), ("thali-client", "thali-resp")]);
        assert_eq!(breaches(&graph).len(), 2);
        let graph = graph_of(&[("thali-server", "thali-gateway")]);
        assert_eq!(breaches(&graph).len(), 1);
    }

    #[test]
    fn testkit_stays_out_of_the_product() {
        let graph = graph_of(&[("thali-http", "thali-testkit"), ("xtask", "thali-testkit")]);
        assert_eq!(breaches(&graph).len(), 1);
    }

    #[test]
    fn the_client_knows_the_command_table_and_no_server() {
        let graph = graph_of(&[("thali", "thali-cli"), ("thali-cli", "thali-commands")]);
        assert_eq!(breaches(&graph), Vec::<String>::new());
        assert_eq!(breaches(&graph_of(&[("thali-cli", "thali-server")])).len(), 1);
        assert_eq!(breaches(&graph_of(&[("thali-http", "thali-cli")])).len(), 1);
    }

    #[test]
    fn the_generator_knows_nobody() {
        let graph = graph_of(&[("thali", "thali-load"), ("thali-bench", "thali-load")]);
        assert_eq!(breaches(&graph), Vec::<String>::new());
        assert_eq!(breaches(&graph_of(&[("thali-load", "thali-resp")])).len(), 1);
        assert_eq!(breaches(&graph_of(&[("thali-server", "thali-load")])).len(), 1);
    }

    #[test]
    fn unlisted_crates_are_asked_for() {
        assert_eq!(breaches(&graph_of(&[("thali-new", "thali-also-new")])).len(), 2);
    }
}
