//! What a run sends, and what can go wrong.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Template;

/// One kind of request.
#[derive(Debug, Clone)]
pub struct Kind {
    pub name: String,
    pub template: Template,
    /// Its share beside the other kinds'.
    pub weight: u32,
}

impl Kind {
    /// A kind by itself, from its line; `data_len` bytes stand for `__data__`.
    pub fn of_line(line: &str, data_len: usize) -> Self {
        Self { name: line.to_owned(), template: Template::of_line(line, data_len), weight: 1 }
    }
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each client sends a pipeline, waits for all of its replies, and sends the next.
    Closed,
    /// A timetable: so many requests a second over all clients, in turn. A client has at most a pipeline's length of
    /// them unanswered; who finds none free waits, and its wait counts.
    Open { rate: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    Requests(u64),
    Time(Duration),
}

/// A run. Where something is to be divided among threads, earlier ones get the rest.
#[derive(Debug, Clone)]
pub struct Plan {
    pub address: SocketAddr,
    /// Requests that each connection begins with: AUTH, HELLO, SELECT. An error in a reply ends the run.
    pub greeting: Vec<Template>,
    pub clients: usize,
    pub pipeline: usize,
    pub threads: usize,
    pub kinds: Vec<Kind>,
    /// Numbers in requests are below it.
    pub keys: u64,
    /// Numbers go up one by one instead of being random.
    pub sequential: bool,
    pub pace: Pace,
    /// Runs before the measured part, and is not in its length.
    pub warm_up: Duration,
    pub length: Length,
    pub seed: u64,
}

impl Plan {
    /// One kind of request in the closed loop: redis-benchmark's defaults.
    pub fn new(address: SocketAddr, kinds: Vec<Kind>) -> Self {
        Self {
            address,
            greeting: Vec::new(),
            clients: 50,
            pipeline: 1,
            threads: 1,
            kinds,
            keys: 1,
            sequential: false,
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            length: Length::Requests(100_000),
            seed: 1,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "cannot connect to {address} ({error}); is a server running there? Choose another with -h and -p"
    )]
    Connect { address: SocketAddr, error: io::Error },
    #[error("{address} does not let clients begin: {words}")]
    Greeting { address: SocketAddr, words: String },
    #[error("{address} went away ({why}) after {replies} replies of a thread{}; its log says why", shown(.first_error))]
    Gone { address: SocketAddr, why: String, replies: u64, first_error: Option<String> },
    #[error("{address} answers with what is no RESP; which server is it?")]
    Malformed { address: SocketAddr },
    #[error("{address} sent a reply that nobody asked for")]
    Unasked { address: SocketAddr },
    #[error("{0}")]
    Plan(String),
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
}

fn shown(first_error: &Option<String>) -> String {
    first_error.as_ref().map(|words| format!(" and the error {words:?}")).unwrap_or_default()
}

/// redis-benchmark's tests: names and the lines that they send.
///
/// SOURCE: `redis-benchmark -h`, and MONITOR on a server while it runs.
const TESTS: [(&str, &str); 20] = [
    ("ping", "PING"),
    ("set", "SET key:__rand_int__ __data__"),
    ("get", "GET key:__rand_int__"),
    ("incr", "INCR counter:__rand_int__"),
    ("lpush", "LPUSH mylist __data__"),
    ("rpush", "RPUSH mylist __data__"),
    ("lpop", "LPOP mylist"),
    ("rpop", "RPOP mylist"),
    ("sadd", "SADD myset element:__rand_int__"),
    ("spop", "SPOP myset"),
    ("hset", "HSET myhash element:__rand_int__ __data__"),
    ("zadd", "ZADD myzset __rand_int__ element:__rand_int__"),
    ("zpopmin", "ZPOPMIN myzset"),
    ("lrange_100", "LRANGE mylist 0 99"),
    ("lrange_300", "LRANGE mylist 0 299"),
    ("lrange_500", "LRANGE mylist 0 499"),
    ("lrange_600", "LRANGE mylist 0 599"),
    (
        "mset",
        "MSET key:__rand_int__ __data__ key:__rand_int__ __data__ key:__rand_int__ __data__ key:__rand_int__ __data__ \
         key:__rand_int__ __data__ key:__rand_int__ __data__ key:__rand_int__ __data__ key:__rand_int__ __data__ \
         key:__rand_int__ __data__ key:__rand_int__ __data__",
    ),
    ("xadd", "XADD mystream * myfield __data__"),
    // The same here, as all requests are arrays.
    ("ping_mbulk", "PING"),
];

/// The line of one of redis-benchmark's tests, by its name in any case.
pub(crate) fn named_test(name: &str) -> Result<&'static str, LoadError> {
    let found = TESTS.iter().find(|(test, _)| test.eq_ignore_ascii_case(name));
    found.map(|(_, line)| *line).ok_or_else(|| {
        let names: Vec<&str> = TESTS.iter().map(|(test, _)| *test).collect();
        LoadError::Plan(format!("no test {name:?}; there are {}, or give a command", names.join(", ")))
    })
}
