//! `bench store`: Thali beside its peers on the same cores, case by case.
//!
//! - [`cases`]: what is measured, and the goals.
//! - [`server`]: starts one and knows what it uses.
//! - [`measure`]: one run of a case on a server.
//! - [`node`]: a generator in Node, where the client is what is asked about.
//! - [`results`]: all runs, as a file, and the judgement.
//! - [`report`], [`plot`]: the page and its pictures.
//! - [`flame`]: where the time of one of these runs went.
//!
//! In each round of a case every contender has one run, on a server started afresh; from round to round the order is
//! turned, so that a machine that becomes slower is slow to all. The generator is `thali bench`'s for all cases but BullMQ's:
//! beside redis-benchmark it takes 0.6 of the CPU for each request without pipelining and less with it (see
//! docs/performance.md), and on two cores what the generator takes is not the server's.

mod cases;
mod flame;
mod measure;
mod node;
mod plot;
mod report;
mod results;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use thali_testkit::thali_bin;

use cases::{CASES, Case, Scale, Sides};
use results::{CaseResult, ContenderResult, Results};

pub use cases::SETTINGS;
pub use flame::FlameArguments;
pub use flame::run as flame;
pub use measure::kinds;
pub use report::ReportArguments;
pub use report::run as report;
pub use server::{Contender, Server};

#[derive(Args)]
pub struct StoreArguments {
    /// A server to compare with, as a program; redis-server where none is named.
    #[arg(long, default_values = ["redis-server"])]
    peer: Vec<PathBuf>,
    /// Only these cases, or all of which the name begins so.
    #[arg(long = "case", value_delimiter = ',')]
    cases: Vec<String>,
    /// Runs of each contender in each case.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Short runs, and a tenth of the large numbers.
    #[arg(long)]
    quick: bool,
    /// Seconds to wait before each run for a machine that has nothing else to do.
    #[arg(long, default_value_t = 0)]
    calm: u64,
    /// Further settings of Thali: --thali-setting=--loops --thali-setting=1.
    #[arg(long, allow_hyphen_values = true)]
    thali_setting: Vec<String>,
    /// Where the data folders are made; the disk decides the figures of `always`.
    #[arg(long)]
    within: Option<PathBuf>,
    /// The results' file; cases that are in it and not in this run stay.
    #[arg(long, default_value = "target/bench-store.json")]
    out: PathBuf,
    /// Writes the results into docs/performance.md.
    #[arg(long)]
    publish: bool,
    /// Only shows which cases there are.
    #[arg(long)]
    list: bool,
}

pub fn run(arguments: &StoreArguments) -> Result<()> {
    let wanted = |case: &&Case| {
        arguments.cases.is_empty() || arguments.cases.iter().any(|name| case.name.starts_with(name.as_str()))
    };
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "no case has such a name; --list shows them");
    let mut results = Results::new(arguments.quick);
    if arguments.list {
        let scale = Scale::new(arguments.quick);
        cases.iter().for_each(|case| println!("{:<18} {}", case.name, CaseResult::new(case, scale).what));
        return Ok(());
    }
    let before = Results::read(&arguments.out).ok();
    for case in cases {
        // One that fails is told and does not take the others with it.
        match run_case(case, arguments) {
            Ok(result) => {
                print!("{}", report::case_text(&result));
                results.cases.push(result);
            }
            Err(error) => eprintln!("{}: {error:#}", case.name),
        }
        results.with(before.as_ref()).write(&arguments.out)?;
    }
    print!("\n{}", report::by_distance(&results));
    if arguments.publish {
        report::publish(&results.with(before.as_ref()))?;
    }
    Ok(())
}

impl Results {
    /// These, and those cases of an older file that are not among them, in the table's order.
    fn with(&self, older: Option<&Results>) -> Results {
        let mut all = self.clone();
        for case in older.iter().flat_map(|older| &older.cases) {
            if !all.cases.iter().any(|mine| mine.name == case.name) {
                all.cases.push(case.clone());
            }
        }
        all.cases.sort_by_key(|result| CASES.iter().position(|case| case.name == result.name));
        all
    }
}

fn run_case(case: &Case, arguments: &StoreArguments) -> Result<CaseResult> {
    let contenders = contenders(case, arguments)?;
    let scale = Scale::new(arguments.quick);
    let mut result = CaseResult::new(case, scale);
    result.contenders = contenders
        .iter()
        .map(|contender| ContenderResult {
            name: contender.name.clone(),
            version: String::new(),
            settings: contender.settings.clone(),
            runs: Vec::new(),
        })
        .collect();
    for round in 0..arguments.rounds as usize {
        for turn in 0..contenders.len() {
            let at = (turn + round) % contenders.len();
            let contender = &contenders[at];
            measure::wait_for_calm(Duration::from_secs(arguments.calm))?;
            let server = Server::start(contender, arguments.within.as_deref())?;
            let figures = measure::measure(case, &server, scale, &|| Ok(()))
                .with_context(|| format!("{}, round {}", contender.name, round + 1))?;
            let into = &mut result.contenders[at];
            into.runs.push(results::named(&figures));
            if into.version.is_empty() {
                into.version = server.version()?;
            }
        }
    }
    Ok(result)
}

fn contenders(case: &Case, arguments: &StoreArguments) -> Result<Vec<Contender>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let base = [words(&SETTINGS), words(case.settings)].concat();
    let thali = |name: &str, settings: &[&str]| -> Result<Contender> {
        let settings = [base.clone(), arguments.thali_setting.clone(), words(settings)].concat();
        Ok(Contender { name: name.to_owned(), program: thali_bin()?, settings })
    };
    match case.sides {
        Sides::Itself { judged, other } => {
            Ok(vec![thali(&judged[..2].join(" "), judged)?, thali(&other[..2].join(" "), other)?])
        }
        Sides::Peers => {
            let peers = arguments.peer.iter().map(|program| Contender {
                name: program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned(),
                program: program.clone(),
                settings: base.clone(),
            });
            Ok(std::iter::once(thali("thali", &[])?).chain(peers).collect())
        }
    }
}

/// For people: three digits that matter.
fn shown(value: f64) -> String {
    match value.abs() {
        big if big >= 10_000.0 => format!("{:.0}k", value / 1_000.0),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_a_name_of_its_own_and_a_goal() {
        for (at, case) in CASES.iter().enumerate() {
            assert!(!case.goals.is_empty(), "{}", case.name);
            assert!(CASES[..at].iter().all(|other| other.name != case.name), "{}", case.name);
        }
    }

    #[test]
    fn a_case_runs_on_both_sides() {
        let out = tempfile::tempdir().unwrap();
        let arguments = StoreArguments {
            peer: vec!["redis-server".into()],
            cases: vec!["get-p16".into()],
            rounds: 1,
            quick: true,
            calm: 0,
            thali_setting: Vec::new(),
            within: None,
            out: out.path().join("results.json"),
            publish: false,
            list: false,
        };
        run(&arguments).unwrap();
        let results = Results::read(&arguments.out).unwrap();
        let [case] = &results.cases[..] else { panic!("{results:?}") };
        assert_eq!(case.contenders.len(), 2);
        for goal in &case.goals {
            let judged = case.judge(goal).unwrap();
            assert!(judged.ours > 0.0 && judged.best.unwrap().1 > 0.0);
        }
    }
}
