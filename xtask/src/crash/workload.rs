//! What one client of the crash harness sends, and what it noted as acknowledged when the server died.
//!
//! Each client has keys of its own, of which it knows the value after each of its commands; the accounts are
//! everybody's. A transfer between two accounts also writes a line into its client's log, in the same
//! transaction or script: so the accounts follow from the logs, and no half of a transfer goes unseen.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use thali_testkit::{Reply, RespClient};

use super::model::{Args, Model};

pub const ACCOUNTS: usize = 500;
/// Keys of a client, for each type.
const KEYS: usize = 40;
/// Of a hash, a set, a sorted set.
const MEMBERS: usize = 60;
const DEPTHS: [usize; 4] = [1, 1, 16, 64];
const EXPIRE_MS_MAX: u64 = 3000;
const TRANSFER: &str = "redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], ARGV[1]) \
                        return redis.call('RPUSH', KEYS[3], ARGV[2])";

/// What is acknowledged, applied and lost as a whole.
#[derive(Clone, Debug)]
pub enum Unit {
    One(Args),
    Multi(Vec<Args>),
    Transfer { from: usize, to: usize, amount: i64, log: Args, by_script: bool },
}

pub fn account(at: usize) -> String {
    format!("account:{at}")
}

pub fn log_key(client: usize) -> String {
    format!("c{client}:log")
}

/// Half of the clients work in database 0, where the accounts are; each other one has a database of its own.
pub fn db_of(client: usize) -> u32 {
    if client.is_multiple_of(2) { 0 } else { client as u32 / 2 + 1 }
}

fn words(words: &[&str]) -> Args {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl Unit {
    fn requests(&self) -> Vec<Args> {
        let in_multi =
            |requests: Vec<Args>| [vec![words(&["MULTI"])], requests, vec![words(&["EXEC"])]].concat();
        match self {
            Unit::One(args) => vec![args.clone()],
            Unit::Multi(requests) => in_multi(requests.clone()),
            Unit::Transfer { from, to, amount, log, by_script } => {
                let (from, to, amount) = (account(*from), account(*to), amount.to_string());
                if *by_script {
                    let mut args = words(&["EVAL", TRANSFER, "3", &from, &to]);
                    args.extend([log[1].clone(), amount.into_bytes(), log[2].clone()]);
                    return vec![args];
                }
                in_multi(vec![
                    words(&["DECRBY", &from, &amount]),
                    words(&["INCRBY", &to, &amount]),
                    log.clone(),
                ])
            }
        }
    }

    /// Changes the client's own data; checks the last reply where it is known.
    pub fn apply(&self, model: &mut Model) -> Option<Reply> {
        match self {
            Unit::One(args) => Some(model.apply(args)),
            Unit::Multi(requests) => {
                Some(Reply::Array(requests.iter().map(|args| model.apply(args)).collect()))
            }
            Unit::Transfer { log, by_script, .. } => {
                let reply = model.apply(log);
                by_script.then_some(reply)
            }
        }
    }
}

/// What a client knows when its connection has ended.
#[derive(Debug, Default)]
pub struct Notes {
    pub acknowledged: Vec<Unit>,
    /// Sent, and perhaps done.
    pub in_flight: Vec<Unit>,
}

pub struct Client {
    pub number: usize,
    pub db: u32,
    pub rng: Rng,
    /// The client's own data after all acknowledged units.
    pub model: Model,
}

impl Client {
    pub fn new(number: usize, rng: Rng) -> Self {
        Self { number, db: db_of(number), rng, model: Model::default() }
    }

    /// Sends until the connection ends. An error is a reply that must not be.
    pub fn run(&mut self, address: &str, stop: &AtomicBool) -> Result<Notes> {
        let mut notes = Notes::default();
        let depth = DEPTHS[self.rng.usize(..DEPTHS.len())];
        let Ok(mut connection) = RespClient::connect(address) else { return Ok(notes) };
        if connection.command(&["SELECT", &self.db.to_string()]).is_err() {
            return Ok(notes);
        }
        let mut in_flight: VecDeque<(Unit, usize)> = VecDeque::new();
        while !stop.load(Ordering::Relaxed) {
            let mut bytes = Vec::new();
            while in_flight.len() < depth {
                let unit = self.unit();
                let requests = unit.requests();
                requests.iter().for_each(|args| encode(&mut bytes, args));
                in_flight.push_back((unit, requests.len()));
            }
            let mut alive = connection.send_raw(&bytes).is_ok();
            // Some of the replies, so that requests are under way all the time.
            for _ in 0..depth.div_ceil(2) {
                let Some((_, replies)) = in_flight.front().filter(|_| alive) else { break };
                let last = (0..*replies).map(|_| connection.read()).last().expect("one at least");
                let Ok(reply) = last else {
                    alive = false;
                    break;
                };
                let (unit, _) = in_flight.pop_front().expect("the front was there");
                self.note(&unit, &reply)?;
                notes.acknowledged.push(unit);
            }
            if !alive {
                break;
            }
        }
        notes.in_flight = in_flight.into_iter().map(|(unit, _)| unit).collect();
        Ok(notes)
    }

    fn note(&mut self, unit: &Unit, reply: &Reply) -> Result<()> {
        if let Reply::Error(text) = reply {
            bail!("client {}: {unit:?} was refused: {text}", self.number);
        }
        if let Some(due) = unit.apply(&mut self.model) {
            // A key may have expired before it was deleted.
            let is_known = !has_expiring(unit);
            ensure!(!is_known || due == *reply, "{unit:?} gave {reply:?} instead of {due:?}");
        }
        Ok(())
    }

    fn unit(&mut self) -> Unit {
        match self.rng.u8(..10) {
            0..=2 if self.db == 0 => self.transfer(),
            3 if self.db != 0 && self.rng.u8(..) == 0 => Unit::One(words(&["FLUSHDB"])),
            3 => Unit::Multi((0..self.rng.usize(2..6)).map(|_| self.command()).collect()),
            _ => Unit::One(self.command()),
        }
    }

    fn transfer(&mut self) -> Unit {
        let (from, to) = (self.rng.usize(..ACCOUNTS), self.rng.usize(..ACCOUNTS));
        let (amount, by_script) = (self.rng.i64(1..100), self.rng.bool());
        let log = words(&["RPUSH", &log_key(self.number), &format!("{from} {to} {amount}")]);
        Unit::Transfer { from, to, amount, log, by_script }
    }

    fn command(&mut self) -> Args {
        let (kind, key) = (self.rng.u8(..16), self.rng.usize(..KEYS));
        let name = |letter: char| format!("c{}:{letter}{key}", self.number);
        let member = format!("m{}", self.rng.usize(..MEMBERS));
        let by = self.rng.i64(-50..50).to_string();
        match kind {
            0 | 1 => [words(&["SET", &name('s')]), vec![self.value()]].concat(),
            2 => words(&["DEL", &name(['s', 'e', 'l', 'h'][self.rng.usize(..4)])]),
            3 | 4 => words(&["INCRBY", &name('n'), &by]),
            5 => [words(&["RPUSH", &name('l')]), vec![self.value(), b"x".to_vec()]].concat(),
            6 => words(&["LPOP", &name('l')]),
            7 => [words(&["HSET", &name('h'), &member]), vec![self.value()]].concat(),
            8 => words(&["HDEL", &name('h'), &member]),
            9 => words(&["SADD", &name('t'), &member]),
            10 => words(&["SREM", &name('t'), &member]),
            11 => words(&["ZINCRBY", &name('z'), &by, &member]),
            12 => words(&["COPY", &name('s'), &format!("c{}:s{}", self.number, (key + 1) % KEYS), "REPLACE"]),
            13 => words(&[
                "LMOVE",
                &name('l'),
                &format!("c{}:l{}", self.number, (key + 1) % KEYS),
                "LEFT",
                "RIGHT",
            ]),
            14 => {
                let at = now_ms() + self.rng.u64(1..EXPIRE_MS_MAX);
                words(&["SET", &name('e'), "soon gone", "PXAT", &at.to_string()])
            }
            _ => words(&["SET", &name('e'), "later", "PXAT", "4000000000000"]),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.rng.u16(..) {
            0..1000 => self.rng.usize(..3000),
            1000..1020 => self.rng.usize(..100_000),
            _ => self.rng.usize(..40),
        };
        // A third of it compresses; some of it looks like requests.
        match self.rng.u8(..3) {
            0 => b"*1\r\n$4\r\nEXEC\r\n".iter().cycle().take(len).copied().collect(),
            _ => (0..len).map(|_| self.rng.u8(..)).collect(),
        }
    }
}

fn has_expiring(unit: &Unit) -> bool {
    let is_expiring = |args: &Args| args.get(1).is_some_and(|key| key.windows(2).any(|pair| pair == b":e"));
    match unit {
        Unit::One(args) => is_expiring(args),
        Unit::Multi(requests) => requests.iter().any(is_expiring),
        Unit::Transfer { .. } => false,
    }
}

pub fn encode(bytes: &mut Vec<u8>, args: &[Vec<u8>]) {
    bytes.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}
