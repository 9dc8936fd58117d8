//! One run of a case on one server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use thali_load::{Connected, Kind, Length, Outcome, Pace, Plan, PubSub, Template, publish};

use super::cases::{Case, Done, Drive, Figure, Filling, Load, Scale};
use super::node::NodeTask;
use super::server::Server;
use crate::usage;

pub type Figures = BTreeMap<Figure, f64>;

/// Requests a second of the client that waits.
const PROBES: f64 = 1_000.0;
const PROBING_CLIENTS: usize = 4;
/// SETs a second while a background save or rewrite runs.
const BACKGROUND_RATE: f64 = 10_000.0;
/// Memory is looked at when frees of the last requests are done.
const SETTLING: Duration = Duration::from_millis(500);
/// How long anything in the background may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// From the beginning of the filling to the second in which all keys end.
const EXPIRY_AFTER: Duration = Duration::from_secs(15);
const CALM: Duration = Duration::from_millis(500);
/// A core's share that may be busy on a calm machine.
const CALM_BUSY_MAX: f64 = 0.1;
const FOREVER: Length = Length::Time(Duration::from_secs(86_400));

/// Waits until the machine has nothing else to do for half a second, but not for longer than `patience`.
pub fn wait_for_calm(patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut busy = usage::busy_seconds()?;
    while Instant::now() < deadline {
        thread::sleep(CALM);
        let now = usage::busy_seconds()?;
        if now - busy < CALM.as_secs_f64() * CALM_BUSY_MAX {
            break;
        }
        busy = now;
    }
    Ok(())
}

/// Told when everything is prepared: the server's CPU is counted from here on.
pub type Begin<'b> = &'b dyn Fn() -> Result<()>;

/// Runs `case` on a server that was just started. Cases that count no CPU tell nobody that they begin.
pub fn measure(case: &Case, server: &Server, scale: Scale, begin: Begin<'_>) -> Result<Figures> {
    let run = Run { case, server, scale, begin };
    let began = Instant::now();
    let others =
        || -> Result<f64> { Ok(usage::busy_seconds()? - usage::own_cpu_seconds()? - server.cpu_seconds()?) };
    let before = others()?;
    let mut figures = match case.drive {
        Drive::Load(load) => run.load(load)?,
        Drive::Fill => run.memory()?,
        Drive::Tail(done) => run.tail(done)?,
        Drive::Beside { writers } => run.beside(writers)?,
        Drive::PubSub { publishers, subscribers, channels } => {
            run.pubsub(publishers, subscribers, channels)?
        }
        Drive::Idle { connections } => run.idle(connections)?,
        Drive::BullMq { task, by, jobs } => run.bullmq(task, by, jobs)?,
    };
    figures.insert(Figure::Rss, server.rss_bytes()? / f64::from(1 << 20));
    let cores = thread::available_parallelism()?.get() as f64;
    let neighbours = (others()? - before) / (began.elapsed().as_secs_f64() * cores);
    figures.insert(Figure::Neighbours, neighbours.max(0.0));
    Ok(figures)
}

struct Run<'a> {
    case: &'a Case,
    server: &'a Server,
    scale: Scale,
    begin: Begin<'a>,
}

impl Run<'_> {
    fn load(&self, load: Load) -> Result<Figures> {
        let Load { line, clients, pipeline, keys, data, rate } = load;
        self.fill_if_asked()?;
        let plan = Plan {
            clients,
            pipeline,
            keys,
            pace: rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
            warm_up: self.scale.warm_up,
            length: Length::Time(self.scale.time),
            ..self.plan(line, data)
        };
        let mut connected = Connected::new(&plan)?;
        (self.begin)()?;
        let before = self.server.cpu_seconds()?;
        let outcome = connected.run(&AtomicBool::new(false))?;
        let cpu = self.server.cpu_seconds()? - before;
        fine(&outcome)?;
        let mut figures = latencies(&outcome);
        figures.insert(Figure::Throughput, outcome.rate());
        figures.insert(Figure::Cpu, cpu * 1e6 / outcome.generator_requests as f64);
        figures.insert(Figure::GeneratorCpu, outcome.generator_cpu_per_million());
        Ok(figures)
    }

    fn memory(&self) -> Result<Figures> {
        let filling = self.case.filling.context("nothing to fill with")?;
        // Once each, so that what a first request brings with it is not an item's.
        go(&Plan { length: Length::Requests(1), ..self.plan("PING", 0) })?;
        thread::sleep(SETTLING);
        let before = self.server.rss_bytes()?;
        self.fill_if_asked()?;
        thread::sleep(SETTLING);
        let bytes = self.server.rss_bytes()? - before;
        Ok(Figures::from([(Figure::BytesAnItem, bytes / self.scale.items(filling.items) as f64)]))
    }

    fn tail(&self, done: Done) -> Result<Figures> {
        let filling = self.case.filling.context("nothing to fill with")?;
        let expires_at = SystemTime::now() + EXPIRY_AFTER;
        match done {
            Done::Filling => {}
            Done::Expiry => {
                let unix_s = expires_at.duration_since(UNIX_EPOCH)?.as_secs();
                self.fill(&format!("{} EXAT {unix_s}", filling.line), filling, 8, 64)?;
                let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
                ensure!(left > Duration::from_millis(1_500), "filling took longer than the keys live");
                thread::sleep(left.saturating_sub(Duration::from_millis(2_000)));
            }
            Done::Command(_) | Done::Background(_) => self.fill_if_asked()?,
        }
        let (calm, _) = self.probed(|| {
            thread::sleep(Duration::from_secs(1));
            Ok(())
        })?;
        let (busy, took) = self.probed(|| match done {
            Done::Filling => self.fill(filling.line, filling, 4, 16),
            Done::Expiry => self.wait_until("every key to end", || {
                Ok(self.server.client()?.command(&["DBSIZE"])?.integer() == Some(0))
            }),
            Done::Command(line) => {
                let plan = Plan { clients: 1, length: Length::Requests(1), ..self.plan(line, 0) };
                let outcome = go(&plan)?;
                thread::sleep(Duration::from_secs(1));
                fine(&outcome)
            }
            Done::Background(command) => self.background(command),
        })?;
        let longest = |outcome: &Outcome| outcome.latency().max() as f64 / 1e6;
        let mut figures = latencies(&busy);
        figures.insert(Figure::CalmWait, longest(&calm));
        figures.insert(Figure::LongestWait, longest(&busy));
        figures.insert(Figure::Took, took.as_secs_f64());
        Ok(figures)
    }

    /// What a client saw that asks on a timetable while `done` runs, and how long that took.
    fn probed(&self, done: impl FnOnce() -> Result<()>) -> Result<(Outcome, Duration)> {
        let stop = AtomicBool::new(false);
        let plan = Plan {
            clients: PROBING_CLIENTS,
            keys: 1_000,
            pace: Pace::Open { rate: PROBES },
            length: FOREVER,
            ..self.plan("GET key:__rand_int__", 0)
        };
        thread::scope(|scope| {
            let probe = scope.spawn(|| thali_load::run(&plan, &stop));
            let begun = Instant::now();
            let went = done();
            let took = begun.elapsed();
            stop.store(true, Ordering::Relaxed);
            let outcome = probe.join().expect("the generator does not panic")?;
            went?;
            fine(&outcome)?;
            Ok((outcome, took))
        })
    }

    fn background(&self, command: &str) -> Result<()> {
        let filling = self.case.filling.context("nothing to fill with")?;
        let stop = AtomicBool::new(false);
        let plan = Plan {
            clients: 16,
            keys: self.scale.items(filling.items),
            pace: Pace::Open { rate: BACKGROUND_RATE },
            length: FOREVER,
            ..self.plan(filling.line, filling.data)
        };
        thread::scope(|scope| {
            let writers = scope.spawn(|| thali_load::run(&plan, &stop));
            let field =
                if command == "BGSAVE" { "rdb_bgsave_in_progress" } else { "aof_rewrite_in_progress" };
            let begun = self.server.client()?.command(&[command])?;
            let went = self.wait_until(command, || Ok(self.server.info(field)? == "0"));
            stop.store(true, Ordering::Relaxed);
            fine(&writers.join().expect("the generator does not panic")?)?;
            ensure!(!matches!(begun, thali_testkit::Reply::Error(_)), "{command}: {begun:?}");
            went
        })
    }

    fn beside(&self, writers: usize) -> Result<Figures> {
        let time = self.scale.time;
        go(&Plan { length: Length::Requests(1_000), keys: 1_000, sequential: true, ..self.plan(SET, 32) })?;
        let reads = Plan {
            clients: 1,
            keys: 1_000,
            length: Length::Time(time),
            ..self.plan("GET key:__rand_int__", 0)
        };
        let idle = latencies(&go(&reads)?);
        let stop = AtomicBool::new(false);
        let writes = Plan { clients: writers, keys: 1_000, length: FOREVER, ..self.plan(SET, 32) };
        let beside = thread::scope(|scope| {
            let writing = scope.spawn(|| thali_load::run(&writes, &stop));
            let beside = go(&reads);
            stop.store(true, Ordering::Relaxed);
            fine(&writing.join().expect("the generator does not panic")?)?;
            beside
        })?;
        let mut figures = latencies(&beside);
        figures.insert(Figure::P50Ratio, figures[&Figure::P50] / idle[&Figure::P50]);
        figures.insert(Figure::Throughput, beside.rate());
        Ok(figures)
    }

    fn pubsub(&self, publishers: usize, subscribers: usize, channels: usize) -> Result<Figures> {
        let plan = PubSub {
            address: self.server.address(),
            greeting: Vec::new(),
            publishers,
            subscribers,
            channels,
            pipeline: 1,
            data_len: 32,
            time: self.scale.time,
        };
        (self.begin)()?;
        let before = self.server.cpu_seconds()?;
        let outcome = publish(&plan)?;
        let cpu = self.server.cpu_seconds()? - before;
        ensure!(outcome.delivered == outcome.expected, "messages were lost: {outcome}");
        Ok(Figures::from([
            (Figure::Deliveries, outcome.delivered as f64 / cpu),
            (Figure::Throughput, outcome.rate()),
            (Figure::GeneratorCpu, outcome.generator_cpu_seconds * 1e6 / outcome.delivered as f64),
        ]))
    }

    fn idle(&self, connections: usize) -> Result<Figures> {
        go(&Plan { length: Length::Requests(1), clients: 1, ..self.plan("PING", 0) })?;
        let before = self.server.rss_bytes()?;
        // Each has asked something once.
        let plan = Plan {
            clients: connections,
            greeting: vec![Template::of_line("PING", 0)],
            length: Length::Requests(0),
            ..self.plan("PING", 0)
        };
        let connected = Connected::new(&plan)?;
        thread::sleep(SETTLING);
        let bytes = self.server.rss_bytes()? - before;
        drop(connected);
        Ok(Figures::from([(Figure::IdleBytes, bytes / connections as f64)]))
    }

    fn bullmq(&self, task: &str, by: u32, jobs: u64) -> Result<Figures> {
        let jobs = self.scale.jobs(jobs);
        let arguments = [task, &by.to_string(), &jobs.to_string()];
        let mut node = NodeTask::prepare("bullmq.js", &arguments, self.server.address())?;
        (self.begin)()?;
        let before = (self.server.cpu_seconds()?, node.cpu_seconds()?);
        let done = node.run()?;
        let server = self.server.cpu_seconds()? - before.0;
        let generator = node.cpu_seconds()? - before.1;
        ensure!(done.jobs == jobs, "{} of {jobs} jobs were done", done.jobs);
        Ok(Figures::from([
            (Figure::Jobs, jobs as f64 / done.seconds),
            (Figure::Cpu, server * 1e6 / jobs as f64),
            (Figure::GeneratorCpu, generator * 1e6 / jobs as f64),
            (Figure::GeneratorCores, generator / done.seconds),
        ]))
    }

    fn fill_if_asked(&self) -> Result<()> {
        self.case.filling.map_or(Ok(()), |filling| self.fill(filling.line, filling, 8, 64))
    }

    fn fill(&self, line: &str, filling: Filling, clients: usize, pipeline: usize) -> Result<()> {
        let items = self.scale.items(filling.items);
        let plan = Plan {
            clients,
            // Large values a few at a time.
            pipeline: pipeline.min((1 << 20) / filling.data.max(1)).max(1),
            keys: (items * filling.numbers).max(1),
            sequential: true,
            length: Length::Requests(items),
            ..self.plan(line, filling.data)
        };
        fine(&go(&plan)?)
    }

    fn plan(&self, line: &str, data: usize) -> Plan {
        Plan::new(self.server.address(), kinds(line, data))
    }

    fn wait_until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            thread::sleep(Duration::from_millis(50));
            if holds()? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        }
    }
}

const SET: &str = "SET key:__rand_int__ __data__";

fn go(plan: &Plan) -> Result<Outcome> {
    Ok(thali_load::run(plan, &AtomicBool::new(false))?)
}

fn fine(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.errors() == 0 && outcome.unanswered == 0, "not every request went well: {outcome}");
    Ok(())
}

fn latencies(outcome: &Outcome) -> Figures {
    let latency = outcome.latency();
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
    Figures::from([(Figure::P50, ms(0.5)), (Figure::P99, ms(0.99)), (Figure::P999, ms(0.999))])
}

/// The kinds of a case's line.
pub fn kinds(line: &str, data: usize) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for line in line.split('|') {
        let copies = if line.contains("{8}") { 8 } else { 1 };
        for copy in 0..copies {
            let words: Vec<String> =
                line.replace("{8}", &copy.to_string()).split(' ').flat_map(repeated).collect();
            kinds.push(Kind { name: words.join(" "), template: Template::new(&words, data), weight: 1 });
        }
    }
    kinds
}

fn repeated(word: &str) -> Vec<String> {
    match word.split_once('*').map(|(count, word)| (count.parse(), word)) {
        Some((Ok(count), word)) => vec![word.to_owned(); count],
        _ => vec![word.replace('~', " ")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cases_become_kinds() {
        let names = |line| kinds(line, 1).into_iter().map(|kind| kind.name).collect::<Vec<_>>();
        assert_eq!(names("GET a|SET a b"), ["GET a", "SET a b"]);
        assert_eq!(names("LLEN l:{8}")[7], "LLEN l:7");
        assert_eq!(names("MGET 3*k"), ["MGET k k k"]);
        assert_eq!(names("KEYS *"), ["KEYS *"]);
        assert_eq!(names("EVAL return~1 0"), ["EVAL return 1 0"]);
    }
}
