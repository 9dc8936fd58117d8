//! What is measured, and the goal of each figure: one table.
//!
//! Lines of requests are the generator's, and three things more: `a|b` are two kinds in equal shares, `{8}` makes
//! eight kinds with the numbers from 0, `100*word` is the word a hundred times; `~` is a blank within a word.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use Drive::{Beside, BullMq, Fill, Idle, PubSub, Tail};
use Figure::{BytesAnItem, Cpu, Deliveries, IdleBytes, Jobs, LongestWait, P50Ratio, P999, Throughput};

/// One number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Requests a second.
    Throughput,
    /// Jobs a second.
    Jobs,
    /// Server CPU seconds for a million requests, or jobs.
    Cpu,
    /// The generator's.
    GeneratorCpu,
    /// CPU seconds of the generator in a second: at 1 and more Node, which runs JavaScript on one core, is the limit.
    GeneratorCores,
    /// Milliseconds.
    P50,
    P99,
    P999,
    /// MiB at the end.
    Rss,
    /// Growth of RSS, for each item.
    BytesAnItem,
    /// Messages that a CPU second of the server delivers.
    Deliveries,
    /// Growth of RSS, for each connection.
    IdleBytes,
    /// The longest latency that another client saw, in milliseconds, while and before it happened.
    LongestWait,
    CalmWait,
    /// How long what was done took, in seconds.
    Took,
    /// p50 beside writers, as a multiple of the idle one.
    P50Ratio,
    /// What others had of the cores meanwhile, from 0 to 1. Ratios of a run with much of it say little.
    Neighbours,
}

impl Figure {
    pub fn name(self) -> &'static str {
        match self {
            Throughput => "requests_per_second",
            Jobs => "jobs_per_second",
            Cpu => "server_cpu_seconds_per_million",
            Figure::GeneratorCpu => "generator_cpu_seconds_per_million",
            Figure::GeneratorCores => "generator_cores",
            Figure::P50 => "p50_ms",
            Figure::P99 => "p99_ms",
            P999 => "p99.9_ms",
            Figure::Rss => "rss_mib",
            BytesAnItem => "bytes_an_item",
            Deliveries => "deliveries_per_cpu_second",
            IdleBytes => "idle_connection_bytes",
            LongestWait => "longest_wait_ms",
            Figure::CalmWait => "longest_wait_before_ms",
            Figure::Took => "took_s",
            Figure::Neighbours => "neighbours",
            P50Ratio => "p50_beside_to_idle",
        }
    }
}

/// What Thali's figure is held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At most so many times the best peer's.
    UnderPeer(f64),
    /// At least.
    OverPeer(f64),
    /// At most this, whatever a peer has.
    Max(f64),
}

pub type Goal = (Figure, Bound);

/// Who is compared with whom. The first is judged, the others are its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Thali and each peer.
    Peers,
    /// Thali alone: these settings, and others in the same run.
    Itself { judged: &'static [&'static str], other: &'static [&'static str] },
}

/// What a client does. Numbers of requests and items are those of a full run; `--quick` has a tenth of them.
#[derive(Debug, Clone, Copy)]
pub enum Drive {
    Load(Load),
    /// Nothing but the filling is measured: bytes an item, where a request makes one.
    Fill,
    /// A client asks once every millisecond while `done` happens to the server.
    Tail(Done),
    /// GETs of one client alone, and then beside writers in the closed loop.
    Beside {
        writers: usize,
    },
    PubSub {
        publishers: usize,
        subscribers: usize,
        channels: usize,
    },
    Idle {
        connections: usize,
    },
    /// BullMQ in Node: a task of `bench/peers/bullmq.js`, over so many jobs.
    BullMq {
        task: &'static str,
        /// Jobs at a time, or in a bulk.
        by: u32,
        jobs: u64,
    },
}

/// Requests of many clients.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub line: &'static str,
    pub clients: usize,
    pub pipeline: usize,
    pub keys: u64,
    pub data: usize,
    /// Requests a second; in the closed loop, none.
    pub rate: Option<f64>,
}

/// What others may notice.
#[derive(Debug, Clone, Copy)]
pub enum Done {
    /// A request, and a second after its reply.
    Command(&'static str),
    /// The filling itself.
    Filling,
    /// All keys end in the same second.
    Expiry,
    /// A background save or rewrite, while SETs come in at a fixed rate.
    Background(&'static str),
}

/// `items` requests with numbers that go up, before anything is measured.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    pub line: &'static str,
    pub items: u64,
    /// Numbers in a request.
    pub numbers: u64,
    pub data: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// A row of the table.
    pub group: &'static str,
    pub name: &'static str,
    /// Of every server.
    pub settings: &'static [&'static str],
    pub sides: Sides,
    pub filling: Option<Filling>,
    pub drive: Drive,
    pub goals: &'static [Goal],
}

/// Settings of every server, before a case's own.
pub const SETTINGS: [&str; 6] = ["--save", "", "--appendonly", "no", "--maxclients", "11000"];

const GET: &str = "GET key:__rand_int__";
const SET: &str = "SET key:__rand_int__ __data__";
const INCR: &str = "INCR counter:__rand_int__";
const HSET: &str = "HSET hash element:__rand_int__ __data__";
const LPUSH: &str = "LPUSH list __data__";
const ZADD: &str = "ZADD zset __rand_int__ element:__rand_int__";
/// Eight sorted sets, as one can be written by one loop at a time.
const ZADD_EIGHT: &str = "ZADD zset:{8} __rand_int__ element:__rand_int__";
const EVAL: &str = "EVAL return~redis.call('get',KEYS[1]) 1 key:__rand_int__";
const MGET: &str = "MGET 100*key:__rand_int__";
/// What twelve digits leave of `key:` is 16 bytes.
const STRINGS: Filling = Filling { line: SET, items: 10_000_000, numbers: 1, data: 32 };
/// The key space of the plain cases.
const THERE: Filling = Filling { items: 100_000, ..STRINGS };
/// 600 elements and more in each.
const LISTS: Filling = Filling { line: "RPUSH list:{8} __data__", items: 8_000, numbers: 0, data: 3 };
const KEYS: Filling = Filling { items: 1_000_000, ..STRINGS };
const AOF: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
const AOF_ALWAYS: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"];

const PLAIN: &[Goal] = &[(Cpu, Bound::UnderPeer(0.85)), (Throughput, Bound::OverPeer(1.1))];
const DEEP: &[Goal] = &[(Cpu, Bound::UnderPeer(0.5)), (Throughput, Bound::OverPeer(1.3))];
const QUEUES: &[Goal] = &[(Cpu, Bound::UnderPeer(0.5)), (Jobs, Bound::OverPeer(1.3))];
const SMALL: &[Goal] = &[(BytesAnItem, Bound::UnderPeer(0.75))];
const NO_LARGER: &[Goal] = &[(BytesAnItem, Bound::UnderPeer(1.0))];
const SHORT: &[Goal] = &[(LongestWait, Bound::Max(5.0))];
const TWO_LOOPS: Sides = Sides::Itself { judged: &["--loops", "2"], other: &["--loops", "1"] };
const SCALES: &[Goal] = &[(Throughput, Bound::OverPeer(1.7))];

const fn case(group: &'static str, name: &'static str, drive: Drive, goals: &'static [Goal]) -> Case {
    Case { group, name, settings: &[], sides: Sides::Peers, filling: None, drive, goals }
}

const fn plain(name: &'static str, line: &'static str) -> Case {
    let drive = Drive::Load(Load { line, clients: 50, pipeline: 1, keys: 100_000, data: 32, rate: None });
    case("50 clients, no pipeline", name, drive, PLAIN)
}

const fn deep(name: &'static str, line: &'static str) -> Case {
    let drive = Drive::Load(Load { line, clients: 50, pipeline: 16, keys: 100_000, data: 32, rate: None });
    case("50 clients, pipeline 16", name, drive, DEEP)
}

const fn loops(name: &'static str, line: &'static str, keys: u64, filling: Filling) -> Case {
    let drive = Drive::Load(Load { line, clients: 50, pipeline: 4, keys, data: 32, rate: None });
    let case = case("two loops against one", name, drive, SCALES);
    Case { sides: TWO_LOOPS, filling: Some(filling), ..case }
}

const fn many(name: &'static str, data: usize, rate: Option<f64>, goals: &'static [Goal]) -> Case {
    let line = "SET key:__rand_int__ __data__|GET key:__rand_int__";
    let case = case(
        "5,000 clients",
        name,
        Drive::Load(Load { line, clients: 5_000, pipeline: 1, keys: 10_000, data, rate }),
        goals,
    );
    Case { filling: Some(Filling { line: SET, items: 10_000, numbers: 1, data }), ..case }
}

const fn memory(name: &'static str, filling: Filling, goals: &'static [Goal]) -> Case {
    Case { filling: Some(filling), ..case("bytes an item", name, Fill, goals) }
}

const fn items(line: &'static str, numbers: u64) -> Filling {
    Filling { line, items: 1_000_000, numbers, data: 32 }
}

const fn bullmq(name: &'static str, task: &'static str, by: u32, jobs: u64) -> Case {
    case("BullMQ", name, BullMq { task, by, jobs }, QUEUES)
}

const fn tail(name: &'static str, filling: Filling, done: Done) -> Case {
    Case { filling: Some(filling), ..case("tails", name, Tail(done), SHORT) }
}

pub const CASES: &[Case] = &[
    Case { filling: Some(THERE), ..plain("get", GET) },
    plain("set", SET),
    plain("incr", INCR),
    plain("hset", HSET),
    plain("lpush", LPUSH),
    plain("zadd", ZADD),
    Case { filling: Some(THERE), ..deep("get-p16", GET) },
    deep("set-p16", SET),
    deep("incr-p16", INCR),
    deep("hset-p16", HSET),
    deep("lpush-p16", LPUSH),
    deep("zadd-p16", ZADD),
    loops("loops-lrange-600", "LRANGE list:{8} 0 599", 1, LISTS),
    loops("loops-zadd", ZADD_EIGHT, 2_000_000, items(ZADD_EIGHT, 2)),
    loops("loops-mget-100", MGET, 1_000_000, KEYS),
    loops("loops-eval", EVAL, 1_000_000, KEYS),
    many("many-1k", 1_024, None, &[(Cpu, Bound::UnderPeer(0.85))]),
    many("many-64k", 65_536, None, &[(Cpu, Bound::UnderPeer(0.85))]),
    many("many-1k-open", 1_024, Some(20_000.0), &[(P999, Bound::UnderPeer(0.7))]),
    many("many-64k-open", 65_536, Some(4_000.0), &[(P999, Bound::UnderPeer(0.7))]),
    Case { sides: EVERYSEC, ..with("AOF", "everysec", SET, 1, &[(Cpu, Bound::UnderPeer(1.1))]) },
    Case { sides: EVERYSEC, ..with("AOF", "everysec-p16", SET, 16, &[(Cpu, Bound::UnderPeer(1.1))]) },
    Case { settings: AOF_ALWAYS, ..with("AOF", "always", SET, 1, &[(Throughput, Bound::OverPeer(5.0))]) },
    Case {
        settings: AOF_ALWAYS,
        ..case("AOF", "always-beside", Beside { writers: 8 }, &[(P50Ratio, Bound::Max(2.0))])
    },
    memory("bytes-strings", STRINGS, SMALL),
    memory(
        "bytes-strings-ttl",
        Filling { line: "SET key:__rand_int__ __data__ EX 1000000", ..STRINGS },
        SMALL,
    ),
    memory("bytes-zset", items(ZADD, 2), SMALL),
    memory("bytes-set", items("SADD set member:__rand_int__", 1), SMALL),
    memory("bytes-hash", items("HSET hash field:__rand_int__ __data__", 1), SMALL),
    memory(
        "bytes-small-hashes",
        items("HSET user:__rand_int__ name __data__ age 42 city Helsinki", 1),
        SMALL,
    ),
    memory("bytes-list", items("RPUSH list __data__", 0), NO_LARGER),
    memory("bytes-stream", items("XADD stream * field __data__", 0), NO_LARGER),
    tail("tail-del", Filling { line: "SADD set member:__rand_int__", ..STRINGS }, Done::Command("DEL set")),
    tail("tail-flushall", STRINGS, Done::Command("FLUSHALL")),
    tail("tail-growth", STRINGS, Done::Filling),
    tail("tail-expiry", KEYS, Done::Expiry),
    tail("tail-keys", KEYS, Done::Command("KEYS *")),
    tail("tail-bgsave", STRINGS, Done::Background("BGSAVE")),
    Case { settings: AOF, ..tail("tail-rewrite", STRINGS, Done::Background("BGREWRITEAOF")) },
    case("pub/sub", "one-to-1000", PubSub { publishers: 1, subscribers: 1_000, channels: 1 }, DELIVERS),
    case("pub/sub", "1000-to-one", PubSub { publishers: 50, subscribers: 1_000, channels: 1_000 }, DELIVERS),
    // The four of BullMQ's own benchmark, with its data, bulks and concurrencies.
    bullmq("bullmq-add", "add", 1, 30_000),
    bullmq("bullmq-add-bulk", "add-bulk", 50, 150_000),
    bullmq("bullmq-work", "work", 1, 30_000),
    bullmq("bullmq-work-100", "work", 100, 150_000),
    case("idle", "idle", Idle { connections: 10_000 }, &[(IdleBytes, Bound::Max(2_048.0))]),
];

const DELIVERS: &[Goal] = &[(Deliveries, Bound::OverPeer(2.0))];
const EVERYSEC: Sides = Sides::Itself { judged: AOF, other: &["--appendonly", "no"] };

const fn with(
    group: &'static str,
    name: &'static str,
    line: &'static str,
    pipeline: usize,
    goals: &'static [Goal],
) -> Case {
    let drive = Drive::Load(Load { line, clients: 50, pipeline, keys: 100_000, data: 32, rate: None });
    case(group, name, drive, goals)
}

/// How much of the table's numbers is run.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub quick: bool,
    pub time: Duration,
    pub warm_up: Duration,
}

impl Scale {
    pub fn new(quick: bool) -> Self {
        let ms = |quick_ms, full_ms| Duration::from_millis(if quick { quick_ms } else { full_ms });
        Self { quick, time: ms(1_500, 5_000), warm_up: ms(300, 1_000) }
    }

    /// Large ones shrink; what makes a case what it is does not.
    pub fn items(self, items: u64) -> u64 {
        if self.quick && items > 1_000_000 { items / 10 } else { items }
    }

    pub fn jobs(self, jobs: u64) -> u64 {
        if self.quick { jobs / 5 } else { jobs }
    }
}
