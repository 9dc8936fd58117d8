//! `bench flow`: the highest rate that each side sustains, found in the same run, side by side.
//!
//! A trial starts a side afresh, offers one rate, and is sustained when every job of the window was
//! delivered to the right socket and p99 stayed within the limit. Rates double until one fails, then
//! the gap is halved. The sides take turns, so that a noisy machine is noisy to both, and a rate has
//! failed only when it failed `--tries` times in a row.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::load::{self, Load, Outcome};
use crate::stack::{Side, Stack};
use crate::usage::{self, Usage};

#[derive(Args)]
pub struct FlowArguments {
    /// Sockets, one a user.
    #[arg(long, default_value_t = 200)]
    users: usize,
    /// Jobs a second of the first trial.
    #[arg(long, default_value_t = 250)]
    rate: u32,
    /// Run only this rate instead of searching.
    #[arg(long)]
    only_rate: bool,
    /// Seconds that are measured, after the warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// The p99 from due to delivered that a sustained rate stays under.
    #[arg(long, default_value_t = 20.0)]
    p99_ms: f64,
    /// Halvings of the gap between the last sustained rate and the first that was not.
    #[arg(long, default_value_t = 3)]
    halvings: u32,
    /// How often a rate may fail before it counts as too much.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Jobs that the worker runs at once.
    #[arg(long, default_value_t = 50)]
    concurrency: u32,
    /// The sides to run, in turns.
    #[arg(long, value_delimiter = ',', default_values = ["peer", "thali"])]
    sides: Vec<Side>,
}

struct Trial {
    outcome: Outcome,
    rate: u32,
    seconds: f64,
    usage: Vec<(&'static str, Usage)>,
    generator_cpu_seconds: f64,
}

impl Trial {
    fn sustained(&self, p99_ms: f64) -> bool {
        let outcome = &self.outcome;
        outcome.delivered == outcome.offered
            && outcome.wrong_socket == 0
            && outcome.percentile_ms(0.99) <= p99_ms
    }

    fn cpu_seconds(&self) -> f64 {
        self.usage.iter().map(|(_, usage)| usage.cpu_seconds).sum()
    }

    fn rss_mib(&self) -> f64 {
        self.usage.iter().map(|(_, usage)| usage.rss_mib).sum()
    }

    fn cpu_us_a_job(&self) -> f64 {
        self.cpu_seconds() * 1e6 / self.outcome.delivered.max(1) as f64
    }
}

/// One side's way to its highest rate.
struct Search {
    side: Side,
    next: Option<u32>,
    best: Option<Trial>,
    failed_at: Option<u32>,
    halvings_left: u32,
    tries: u32,
    failures: u32,
}

impl Search {
    fn take(&mut self, trial: Trial, p99_ms: f64) {
        let rate = trial.rate;
        if trial.sustained(p99_ms) {
            self.best = Some(trial);
        } else {
            self.failures += 1;
            if self.failures < self.tries {
                return;
            }
            self.failed_at = Some(rate);
        }
        self.failures = 0;
        let best = self.best.as_ref().map_or(0, |trial| trial.rate);
        self.next = match self.failed_at {
            None => Some(rate * 2),
            Some(failed) if self.halvings_left > 0 && failed - best > 1 => {
                self.halvings_left -= 1;
                Some(best.midpoint(failed))
            }
            Some(_) => None,
        };
    }
}

pub fn run(arguments: &FlowArguments) -> Result<()> {
    println!(
        "{} users, worker concurrency {}, window {} s; sustained: every job delivered, p99 ≤ {} ms",
        arguments.users, arguments.concurrency, arguments.seconds, arguments.p99_ms
    );
    println!(
        "{:<6} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9} {:>8} {:>6}  verdict",
        "side",
        "rate/s",
        "offered",
        "delivered",
        "p50 ms",
        "p99 ms",
        "p99.9",
        "µs CPU/job",
        "RSS MiB",
        "gen %"
    );
    let mut searches: Vec<Search> = arguments
        .sides
        .iter()
        .map(|side| Search {
            side: *side,
            next: Some(arguments.rate),
            best: None,
            failed_at: None,
            halvings_left: arguments.halvings,
            tries: arguments.tries,
            failures: 0,
        })
        .collect();
    while searches.iter().any(|search| search.next.is_some()) {
        for search in &mut searches {
            let Some(rate) = search.next else { continue };
            let trial = trial(search.side, rate, arguments)?;
            show(search.side, &trial, arguments.p99_ms);
            search.take(trial, arguments.p99_ms);
            if arguments.only_rate {
                search.next = None;
            }
        }
    }
    summarise(&searches);
    Ok(())
}

fn trial(side: Side, rate: u32, arguments: &FlowArguments) -> Result<Trial> {
    let stack = Stack::start(side, arguments.concurrency)?;
    let load = Load {
        users: arguments.users,
        rate_per_second: rate,
        warm_up: Duration::from_secs_f64(arguments.warm_up),
        window: Duration::from_secs_f64(arguments.seconds),
    };
    let mut readings = Vec::new();
    let outcome = load::run(&stack.http, load, || {
        readings.push((stack.usage()?, usage::of(std::process::id())?));
        Ok(())
    })?;
    let (begin, end) = (&readings[0], &readings[1]);
    let usage = begin.0.iter().zip(&end.0).map(|((name, before), (_, after))| {
        (*name, Usage { cpu_seconds: after.cpu_seconds - before.cpu_seconds, rss_mib: after.rss_mib })
    });
    Ok(Trial {
        outcome,
        rate,
        seconds: arguments.seconds,
        usage: usage.collect(),
        generator_cpu_seconds: end.1.cpu_seconds - begin.1.cpu_seconds,
    })
}

fn show(side: Side, trial: &Trial, p99_ms: f64) {
    let outcome = &trial.outcome;
    println!(
        "{:<6} {:>8} {:>9} {:>9} {:>8.2} {:>8.2} {:>8.2} {:>10.0} {:>8.0} {:>6.0}  {}",
        side.name(),
        trial.rate,
        outcome.offered,
        outcome.delivered,
        outcome.percentile_ms(0.5),
        outcome.percentile_ms(0.99),
        outcome.percentile_ms(0.999),
        trial.cpu_us_a_job(),
        trial.rss_mib(),
        100.0 * trial.generator_cpu_seconds / trial.seconds,
        if trial.sustained(p99_ms) { "sustained" } else { "too much" },
    );
    if outcome.wrong_socket > 0 {
        println!("       {} at a wrong socket", outcome.wrong_socket);
    }
}

fn summarise(searches: &[Search]) {
    println!("\nHighest sustained rate");
    for search in searches {
        let Some(best) = &search.best else {
            println!("{}: none of the rates tried", search.side.name());
            continue;
        };
        println!(
            "{}: {} jobs/s, {:.0} jobs/s delivered, {:.0} µs CPU a job, {:.0} MiB; generator {:.0}% of a core",
            search.side.name(),
            best.rate,
            best.outcome.delivered as f64 / best.seconds,
            best.cpu_us_a_job(),
            best.rss_mib(),
            100.0 * best.generator_cpu_seconds / best.seconds
        );
        for (name, usage) in &best.usage {
            println!("    {name:<20} {:>7.2} CPU s {:>7.0} MiB", usage.cpu_seconds, usage.rss_mib);
        }
    }
    if let [Some(first), Some(second)] =
        searches.iter().map(|search| search.best.as_ref()).collect::<Vec<_>>()[..]
    {
        println!(
            "{} / {}: {:.2} of the rate, {:.2} of the CPU a job, {:.2} of the memory",
            searches[1].side.name(),
            searches[0].side.name(),
            f64::from(second.rate) / f64::from(first.rate),
            second.cpu_us_a_job() / first.cpu_us_a_job(),
            second.rss_mib() / first.rss_mib()
        );
    }
}
