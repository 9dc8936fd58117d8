//! The arguments of `thali bench`, named as redis-benchmark's where it has them.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{ArgAction, Args};
use serde_json::{Value, json};

use crate::plan::named_test;
use crate::{Kind, Length, LoadError, Pace, Plan, PubSub, Template, publish, run};

const EXAMPLES: &str = "Examples:
  thali bench -t set,get -n 1000000 -P 16 -r 100000
  thali bench --mix GET=80,SET=20 --rate 20000 --seconds 10 -r 1000000 -d 128
  thali bench -r 10000 -n 100000 EVAL \"return redis.call('get', KEYS[1])\" 1 key:__rand_int__
  thali bench --subscribers 1000 --channels 1 -c 1";

#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = EXAMPLES)]
pub struct BenchArgs {
    #[arg(long, action = ArgAction::Help, help = "Print help")]
    help: Option<bool>,
    /// The server's host.
    #[arg(short = 'h', long, default_value = "127.0.0.1")]
    host: String,
    /// The server's port.
    #[arg(short = 'p', long, default_value_t = 6379)]
    port: u16,
    /// The password.
    #[arg(short = 'a', long)]
    pass: Option<String>,
    /// The user of the password.
    #[arg(long, requires = "pass")]
    user: Option<String>,
    /// The database.
    #[arg(long, default_value_t = 0)]
    dbnum: u32,
    /// Speak RESP3.
    #[arg(short = '3')]
    resp3: bool,
    /// Connections; with --subscribers, publishers.
    #[arg(short = 'c', long, default_value_t = 50)]
    clients: usize,
    /// Requests of each test.
    #[arg(short = 'n', long, conflicts_with = "seconds", default_value_t = 100_000)]
    requests: u64,
    /// Seconds of each test instead of a number of requests.
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds before each test that are not measured.
    #[arg(long, default_value_t = 0.0)]
    warm_up: f64,
    /// Requests that a connection has unanswered.
    #[arg(short = 'P', long, default_value_t = 1)]
    pipeline: usize,
    /// Bytes of a value, `__data__`.
    #[arg(short = 'd', long, default_value_t = 3)]
    data: usize,
    /// Keys, members and scores are random below this: `__rand_int__`.
    #[arg(short = 'r', long, default_value_t = 1)]
    keyspace: u64,
    /// Numbers go up one by one instead.
    #[arg(long)]
    sequential: bool,
    /// Open loop: requests a second over all connections, whether earlier ones are answered or not.
    #[arg(long)]
    rate: Option<f64>,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Tests of redis-benchmark by name, one after the other.
    #[arg(short = 't', value_delimiter = ',', default_values = ["set", "get"])]
    tests: Vec<String>,
    /// Tests at once, with their shares: GET=80,SET=20.
    #[arg(long, value_delimiter = ',', conflicts_with = "tests")]
    mix: Vec<String>,
    /// Publish to so many subscribers instead.
    #[arg(long)]
    subscribers: Option<usize>,
    /// Channels that the subscribers are spread over.
    #[arg(long, default_value_t = 1, requires = "subscribers")]
    channels: usize,
    /// The beginning of random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Results as one JSON value.
    #[arg(long)]
    json: bool,
    /// One line for each test.
    #[arg(short = 'q', conflicts_with = "json")]
    quiet: bool,
    /// A command instead of tests; `__rand_int__` and `__data__` stand for a number and a value.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Measures and prints. Ends with 1 where a reply was an error, or there was no result.
pub fn main(arguments: &BenchArgs) -> ExitCode {
    match arguments.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("thali bench: {error}");
            ExitCode::FAILURE
        }
    }
}

impl BenchArgs {
    /// Whether no reply was an error.
    fn run(&self) -> Result<bool, LoadError> {
        let address = self.address()?;
        let mut results = Vec::new();
        let mut is_fine = true;
        if let Some(subscribers) = self.subscribers {
            let outcome = publish(&self.pubsub(address, subscribers))?;
            is_fine = outcome.delivered == outcome.expected;
            self.show("PUBLISH", &outcome, outcome.json(), &mut results);
        } else {
            for (name, kinds) in self.cases()? {
                let outcome = run(&self.plan(address, kinds), &AtomicBool::new(false))?;
                is_fine &= outcome.errors() == 0 && outcome.unanswered == 0;
                self.show(&name, &outcome, outcome.json(), &mut results);
            }
        }
        if self.json {
            print(&format!("{:#}", json!({ "address": address.to_string(), "results": results })));
        }
        Ok(is_fine)
    }

    fn show(&self, name: &str, text: &dyn std::fmt::Display, mut value: Value, results: &mut Vec<Value>) {
        let text = text.to_string();
        match self.quiet {
            _ if self.json => {
                value["name"] = json!(name);
                results.push(value);
            }
            true => print(&format!("{name}: {}", text.lines().next().unwrap_or_default())),
            false => print(&format!("{name}: {text}")),
        }
    }

    fn address(&self) -> Result<SocketAddr, LoadError> {
        let resolved = (self.host.as_str(), self.port).to_socket_addrs();
        let words = |words: String| LoadError::Plan(format!("cannot find the host {:?}: {words}", self.host));
        resolved
            .map_err(|error| words(error.to_string()))?
            .next()
            .ok_or_else(|| words("no address".to_owned()))
    }

    fn greeting(&self) -> Vec<Template> {
        let mut greeting = Vec::new();
        match (&self.user, &self.pass) {
            (Some(user), Some(pass)) => greeting.push(Template::new(&["AUTH", user, pass], 0)),
            (None, Some(pass)) => greeting.push(Template::new(&["AUTH", pass], 0)),
            _ => {}
        }
        if self.resp3 {
            greeting.push(Template::of_line("HELLO 3", 0));
        }
        if self.dbnum > 0 {
            greeting.push(Template::of_line(&format!("SELECT {}", self.dbnum), 0));
        }
        greeting
    }

    /// What is measured one after the other: names and the kinds of their requests.
    fn cases(&self) -> Result<Vec<(String, Vec<Kind>)>, LoadError> {
        if !self.command.is_empty() {
            let (name, template) = (self.command.join(" "), Template::new(&self.command, self.data));
            return Ok(vec![(name.clone(), vec![Kind { name, template, weight: 1 }])]);
        }
        if !self.mix.is_empty() {
            let kinds = self.mix.iter().map(|part| self.share(part)).collect::<Result<_, _>>()?;
            return Ok(vec![(self.mix.join(","), kinds)]);
        }
        let case = |name: &String| Ok((name.to_uppercase(), vec![self.kind(name)?]));
        self.tests.iter().map(case).collect()
    }

    fn share(&self, part: &str) -> Result<Kind, LoadError> {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let weight = weight
            .parse()
            .map_err(|_| LoadError::Plan(format!("{part:?} is no share of a mix; write it as GET=80")))?;
        Ok(Kind { weight, ..self.kind(name)? })
    }

    fn kind(&self, name: &str) -> Result<Kind, LoadError> {
        Ok(Kind { name: name.to_uppercase(), ..Kind::of_line(named_test(name)?, self.data) })
    }

    fn plan(&self, address: SocketAddr, kinds: Vec<Kind>) -> Plan {
        Plan {
            greeting: self.greeting(),
            clients: self.clients,
            pipeline: self.pipeline,
            threads: self.threads,
            keys: self.keyspace,
            sequential: self.sequential,
            pace: self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
            warm_up: seconds(self.warm_up),
            length: self.seconds.map_or(Length::Requests(self.requests), |s| Length::Time(seconds(s))),
            seed: self.seed,
            ..Plan::new(address, kinds)
        }
    }

    fn pubsub(&self, address: SocketAddr, subscribers: usize) -> PubSub {
        PubSub {
            address,
            greeting: self.greeting(),
            publishers: self.clients,
            subscribers,
            channels: self.channels,
            pipeline: self.pipeline,
            data_len: self.data,
            time: seconds(self.seconds.unwrap_or(PUBSUB_SECONDS)),
        }
    }
}

/// As long as a number of requests says nothing about the time.
const PUBSUB_SECONDS: f64 = 5.0;

/// From nothing to a century.
fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 3e9))
}

/// Who closed stdout doesn't want to know.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
