//! What a bench has shown, as a file: every run of every case, and what is needed to run it again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cases::{Bound, Case, Drive, Filling, Goal, Load, Scale};
use super::measure::Figures;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Of the work tree, with `-dirty` where files differ from it.
    pub commit: String,
    pub date: String,
    pub command: String,
    pub machine: Machine,
    /// `--quick`: shorter, and with a tenth of the large numbers.
    pub quick: bool,
    pub cases: Vec<CaseResult>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub memory_gib: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseResult {
    pub group: String,
    pub name: String,
    /// What was done, in a sentence.
    pub what: String,
    pub goals: Vec<GoalResult>,
    /// The first is judged.
    pub contenders: Vec<ContenderResult>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GoalResult {
    pub figure: String,
    pub bound: Bound,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContenderResult {
    pub name: String,
    pub version: String,
    pub settings: Vec<String>,
    /// Figures by name, a map for each round.
    pub runs: Vec<BTreeMap<String, f64>>,
}

/// A figure against its goal.
#[derive(Debug, Clone)]
pub struct Judged {
    pub ours: f64,
    /// The best peer's name and figure, where the goal is held against it.
    pub best: Option<(String, f64)>,
    /// What the goal bounds: the ratio, or the figure itself.
    pub value: f64,
    pub goal: String,
    /// How many times away from the goal: up to 1 it is reached.
    pub distance: f64,
}

impl Judged {
    pub fn is_reached(&self) -> bool {
        self.distance <= 1.0
    }
}

impl ContenderResult {
    pub fn figures(&self, name: &str) -> Vec<f64> {
        let mut figures: Vec<f64> = self.runs.iter().filter_map(|run| run.get(name).copied()).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }

    pub fn median(&self, name: &str) -> Option<f64> {
        let figures = self.figures(name);
        let (low, high) = (figures.get(figures.len().checked_sub(1)? / 2)?, figures.get(figures.len() / 2)?);
        Some(low.midpoint(*high))
    }
}

impl CaseResult {
    pub fn new(case: &Case, scale: Scale) -> Self {
        let goal = |(figure, bound): &Goal| GoalResult { figure: figure.name().to_owned(), bound: *bound };
        Self {
            group: case.group.to_owned(),
            name: case.name.to_owned(),
            what: what(case, scale),
            goals: case.goals.iter().map(goal).collect(),
            contenders: Vec::new(),
        }
    }

    /// `None`: a figure is missing.
    pub fn judge(&self, goal: &GoalResult) -> Option<Judged> {
        let (judged, peers) = self.contenders.split_first()?;
        let ours = judged.median(&goal.figure)?;
        let more_is_better = matches!(goal.bound, Bound::OverPeer(_));
        let theirs = peers.iter().filter_map(|peer| Some((peer.name.clone(), peer.median(&goal.figure)?)));
        let best =
            theirs.reduce(|best, other| if (other.1 > best.1) == more_is_better { other } else { best });
        Some(match goal.bound {
            Bound::Max(max) => {
                Judged { ours, best, value: ours, goal: format!("≤ {max}"), distance: ours / max }
            }
            Bound::UnderPeer(max) => {
                let value = ours / best.as_ref()?.1;
                Judged { ours, best, value, goal: format!("≤ {max}×"), distance: value / max }
            }
            Bound::OverPeer(min) => {
                let value = ours / best.as_ref()?.1;
                Judged { ours, best, value, goal: format!("≥ {min}×"), distance: min / value }
            }
        })
    }
}

/// Why a store that needs no time at all would not be twice as fast.
const TURNS: &str = "The client waits for each reply: Node's time and the server's add up.";
const NODE: &str = "Node's one core is the limit.";

fn what(case: &Case, scale: Scale) -> String {
    let filled =
        |Filling { line, items, data, .. }: Filling| format!("{} × `{line}` of {data} B", scale.items(items));
    let before = case.filling.map(|filling| format!("after {}, ", filled(filling))).unwrap_or_default();
    match case.drive {
        Drive::Load(Load { line, clients, pipeline, keys, data, rate }) => {
            let pace = rate.map_or("closed loop".to_owned(), |rate| format!("open loop at {rate}/s"));
            format!("{before}`{line}`, {clients} clients, pipeline {pipeline}, {keys} keys, {data} B, {pace}")
        }
        Drive::Fill => case.filling.map(filled).unwrap_or_default(),
        Drive::Tail(done) => format!("{before}{done:?}, GETs at 1,000/s of 4 clients wait"),
        Drive::Beside { writers } => format!("GETs of 1 client beside {writers} writers"),
        Drive::PubSub { publishers, subscribers, channels } => {
            format!("{publishers} publishers, {channels} channels, {subscribers} subscribers")
        }
        Drive::BullMq { task, by, jobs } => {
            let jobs = scale.jobs(jobs);
            let (what, who) = match (task, by) {
                ("add", _) => (format!("adds jobs of 4 kB, {by} at a time"), TURNS),
                ("add-bulk", _) => (format!("adds jobs in bulks of {by}"), TURNS),
                (_, 1) => ("a worker takes jobs one by one".to_owned(), TURNS),
                _ => (format!("a worker of concurrency {by} takes jobs"), NODE),
            };
            format!("BullMQ in one Node process, {jobs} jobs: {what}; a request is a job. {who}")
        }
        Drive::Idle { connections } => format!("{connections} connections after a PING each"),
    }
}

pub fn named(figures: &Figures) -> BTreeMap<String, f64> {
    figures.iter().map(|(figure, value)| (figure.name().to_owned(), *value)).collect()
}

impl Results {
    pub fn new(quick: bool) -> Self {
        Self {
            commit: commit(),
            date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            command: format!("cargo xtask bench {}", without_paths(std::env::args().skip(1)).join(" ")),
            machine: Machine::this(),
            quick,
            cases: Vec::new(),
        }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} holds no results of the bench", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let kib = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: output("uname", &["-sr"]),
            memory_gib: kib.unwrap_or(0) >> 20,
        }
    }
}

/// Where results and data folders lie is the machine's business and nobody else's.
fn without_paths(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" | "--within" => {
                arguments.next();
            }
            _ => kept.push(argument),
        }
    }
    kept
}

fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    match output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        true => commit,
        false => commit + "-dirty",
    }
}

/// The first line, or nothing where the program isn't there.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(name: &str, figures: &[f64]) -> ContenderResult {
        let runs = figures.iter().map(|value| BTreeMap::from([("f".to_owned(), *value)])).collect();
        ContenderResult { name: name.to_owned(), version: String::new(), settings: Vec::new(), runs }
    }

    fn judged(bound: Bound) -> Judged {
        let case = CaseResult {
            group: String::new(),
            name: String::new(),
            what: String::new(),
            goals: Vec::new(),
            contenders: vec![
                contender("thali", &[30.0, 10.0, 20.0]),
                contender("a", &[10.0, 40.0]),
                contender("b", &[50.0]),
            ],
        };
        case.judge(&GoalResult { figure: "f".to_owned(), bound }).unwrap()
    }

    #[test]
    fn paths_stay_here() {
        let arguments = ["store", "--out", "/a/b.json", "--quick"].map(str::to_owned);
        assert_eq!(without_paths(arguments.into_iter()), ["store", "--quick"]);
    }

    #[test]
    fn medians_are_held_against_the_best_peer() {
        let less = judged(Bound::UnderPeer(0.8));
        assert_eq!((less.ours, less.best.as_ref().unwrap().1, less.is_reached()), (20.0, 25.0, true));
        let more = judged(Bound::OverPeer(0.5));
        assert_eq!((more.best.as_ref().unwrap().0.as_str(), more.value, more.distance), ("b", 0.4, 1.25));
        assert!(judged(Bound::Max(20.0)).is_reached() && !judged(Bound::Max(19.0)).is_reached());
    }
}
