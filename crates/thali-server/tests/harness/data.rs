//! Data to fill a store with, and what it must look like afterwards.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thali_testkit::{Reply, RespClient};

use super::{ask, ok};

/// One key of each kind.
pub const FILL: &[&str] = &[
    "SET number 12345",
    "SET text some-text-that-is-longer-than-a-small-one-some-text-that-is-longer",
    "SET dying soon PXAT 32503680000000",
    "RPUSH list a b c 1 2 3",
    "SADD ints 1 2 3",
    "SADD words a b c",
    "HSET hash f1 v1 f2 v2",
    "ZADD zset 1 one 2.5 two -inf low",
    "XADD stream 1-1 a b",
    "XADD stream 2-1 c d",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >",
    "SELECT 3",
    "SET elsewhere 1",
    "SELECT 0",
];
const LOOK: &[&str] = &[
    "GET number",
    "GET text",
    "PEXPIRETIME dying",
    "LRANGE list 0 -1",
    "SORT_RO_SMEMBERS",
    "HGETALL hash",
    "ZRANGE zset 0 -1 WITHSCORES",
    "XRANGE stream - +",
    "XPENDING stream group - + 10",
    "DBSIZE",
    "SELECT 3",
    "GET elsewhere",
    "SELECT 0",
];

pub fn look(client: &mut RespClient) -> Vec<String> {
    let mut seen = Vec::new();
    for line in LOOK.iter().filter(|line| **line != "SORT_RO_SMEMBERS") {
        let reply = ask(client, line);
        // The idle time of a pending entry goes on.
        seen.push(match *line {
            "XPENDING stream group - + 10" => format!("{:?}", &reply.items()[0].items()[..2]),
            _ => format!("{reply:?}"),
        });
    }
    for set in ["ints", "words"] {
        let reply = ask(client, &format!("SMEMBERS {set}"));
        let mut members: Vec<String> = reply.items().iter().map(Reply::text).collect();
        members.sort();
        seen.push(format!("{members:?}"));
    }
    seen
}

pub const ACCOUNTS: usize = 3000;

/// Moves units between accounts until told to stop; each transaction keeps the sum.
pub fn transfer(address: &str, seed: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut client = RespClient::connect(address).unwrap();
    let mut rng = seed;
    while !stop.load(Ordering::Relaxed) {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, to) = ((rng >> 33) as usize % ACCOUNTS, (rng >> 13) as usize % ACCOUNTS);
        for line in ["MULTI", &format!("DECR a{from}"), &format!("INCR a{to}"), "EXEC"] {
            ok(&mut client, line);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn sum(client: &mut RespClient) -> i64 {
    (0..ACCOUNTS)
        .map(|at| ask(client, &format!("GET a{at}")).text().parse::<i64>().expect("every account is there"))
        .sum()
}
