//! What the data is after a restart, and whether that may be.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use thali_testkit::{Reply, RespClient, wait_until};

use super::model::{Model, Value, number};
use super::workload::{ACCOUNTS, Client, Notes, account, db_of, encode, log_key, now_ms};

/// The default of `databases`.
pub const DBS: u32 = 16;
/// Requests that are sent before their replies are read.
const PIPELINE: usize = 500;
const FILLER_VALUE_LEN: usize = 100;
/// What an increment begins with.
const INCREMENT_HEAD_LEN: u64 = 48;
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything that a server holds.
pub struct Held {
    pub accounts: Vec<i64>,
    /// The data of each client.
    pub clients: BTreeMap<usize, Model>,
    begun_ms: u64,
    ended_ms: u64,
}

/// Keys that nobody changes, so that a snapshot takes a while.
pub fn fill(client: &mut RespClient, keys: usize) -> Result<()> {
    let requests: Vec<_> = (0..keys)
        .map(|at| vec![b"SET".to_vec(), format!("filler:{at}").into_bytes(), filler_value(at)])
        .chain((0..ACCOUNTS).map(|at| vec![b"SET".to_vec(), account(at).into_bytes(), b"1000".to_vec()]))
        .collect();
    ask_all(client, &requests).map(drop)
}

fn filler_value(at: usize) -> Vec<u8> {
    at.to_string().bytes().cycle().take(FILLER_VALUE_LEN).collect()
}

pub fn ask_all(client: &mut RespClient, requests: &[Vec<Vec<u8>>]) -> Result<Vec<Reply>> {
    let mut replies = Vec::with_capacity(requests.len());
    for part in requests.chunks(PIPELINE) {
        let mut bytes = Vec::new();
        part.iter().for_each(|args| encode(&mut bytes, args));
        client.send_raw(&bytes)?;
        for args in part {
            match client.read()? {
                Reply::Error(text) => bail!("{:?} gave {text}", args[0].escape_ascii().to_string()),
                reply => replies.push(reply),
            }
        }
    }
    Ok(replies)
}

impl Held {
    /// Reads everything; a key that nobody could have written is an error.
    pub fn read(client: &mut RespClient, fillers: usize) -> Result<Held> {
        let begun_ms = now_ms();
        let mut held = Held { accounts: vec![0; ACCOUNTS], clients: BTreeMap::new(), begun_ms, ended_ms: 0 };
        for db in 0..DBS {
            let select = [b"SELECT".to_vec(), db.to_string().into_bytes()];
            ask_all(client, &[select.to_vec()])?;
            let keys = client.command(&["KEYS", "*"])?;
            let keys: Vec<Vec<u8>> = keys.items().iter().map(|key| key.text().into_bytes()).collect();
            let requests = keys.iter().map(|key| reading(key)).collect::<Result<Vec<_>>>()?;
            let replies = ask_all(client, &requests)?;
            let mut found_fillers = 0;
            for (key, reply) in keys.iter().zip(&replies) {
                found_fillers += usize::from(held.take(db, key, reply)?);
            }
            let due = if db == 0 { fillers } else { 0 };
            ensure!(found_fillers == due, "{found_fillers} of {due} filler keys are there");
        }
        held.ended_ms = now_ms();
        held.read_expiry(client)?;
        Ok(held)
    }

    /// Gives whether it was one of the fillers.
    fn take(&mut self, db: u32, key: &[u8], reply: &Reply) -> Result<bool> {
        let name = String::from_utf8_lossy(key);
        if let Some(at) = name.strip_prefix("filler:") {
            let due = Reply::Bulk(filler_value(number(at.as_bytes()) as usize));
            ensure!(db == 0 && *reply == due, "{name} holds {reply:?}");
            return Ok(true);
        }
        if let Some(at) = name.strip_prefix("account:") {
            self.accounts[number(at.as_bytes()) as usize] = number(reply.text().as_bytes());
            return Ok(false);
        }
        let owner = name.strip_prefix('c').and_then(|rest| rest.split_once(':')?.0.parse::<usize>().ok());
        let owner = owner.with_context(|| format!("nobody wrote {name}"))?;
        ensure!(db_of(owner) == db, "{name} stands in database {db}");
        if let Some(value) = value(key, reply) {
            self.clients.entry(owner).or_default().keys.insert(key.to_vec(), value);
        }
        Ok(false)
    }

    fn read_expiry(&mut self, client: &mut RespClient) -> Result<()> {
        for (owner, model) in &mut self.clients {
            let db = db_of(*owner);
            ask_all(client, &[vec![b"SELECT".to_vec(), db.to_string().into_bytes()]])?;
            let texts: Vec<Vec<u8>> = model.keys.keys().cloned().collect();
            let requests: Vec<_> =
                texts.iter().map(|key| vec![b"PEXPIRETIME".to_vec(), key.clone()]).collect();
            for (key, reply) in texts.iter().zip(ask_all(client, &requests)?) {
                let at = reply.integer().filter(|at| *at >= 0).map(|at| at as u64);
                match model.keys.get_mut(key) {
                    _ if reply == Reply::Integer(-2) => drop(model.keys.remove(key)),
                    Some(Value::Text(_, expire_at)) => *expire_at = at,
                    _ => ensure!(at.is_none(), "{} has an expiry", key.escape_ascii()),
                }
            }
        }
        self.ended_ms = now_ms();
        Ok(())
    }

    pub fn total(&self) -> i64 {
        self.accounts.iter().sum()
    }

    /// Whether the accounts follow from those of before and from what the logs say.
    pub fn check_transfers(&self, before: &[i64]) -> Result<()> {
        let mut due = before.to_vec();
        for (owner, model) in &self.clients {
            let Some(Value::List(log)) = model.keys.get(log_key(*owner).as_bytes()) else { continue };
            for line in log {
                let line = String::from_utf8_lossy(line);
                let numbers: Vec<i64> = line.split(' ').map(|word| number(word.as_bytes())).collect();
                due[numbers[0] as usize] -= numbers[2];
                due[numbers[1] as usize] += numbers[2];
            }
        }
        let wrong = (0..ACCOUNTS).filter(|at| due[*at] != self.accounts[*at]).count();
        ensure!(
            wrong == 0 && self.total() == before.iter().sum::<i64>(),
            "half a transfer: {wrong} accounts differ from what the logs say, the sum is {} instead of {}",
            self.total(),
            before.iter().sum::<i64>()
        );
        Ok(())
    }

    /// Whether the client's data is what all that was acknowledged made, and perhaps the first of what was under
    /// way. `start` is the client's data before the round. Gives its data now and how many of those are done, or how many
    /// acknowledged units are lost.
    pub fn check_client(
        &self,
        client: &Client,
        start: &Model,
        notes: &Notes,
    ) -> Result<(Model, usize), Verdict> {
        let nothing = Model::default();
        let actual = self.clients.get(&client.number).unwrap_or(&nothing);
        let differences = |model: &Model| model.differences(actual, self.begun_ms, self.ended_ms);
        let mut model = client.model.clone();
        let mut done = 0;
        let first = differences(&model);
        let mut last = first.clone();
        while !last.is_empty() {
            let Some(unit) = notes.in_flight.get(done) else {
                let lost = count_lost(start, notes, &|model| differences(model).is_empty());
                let keys = first.iter().take(5).map(|key| key.escape_ascii().to_string()).collect();
                return Err(Verdict { lost, keys });
            };
            unit.apply(&mut model);
            done += 1;
            last = differences(&model);
        }
        Ok((actual.clone(), done))
    }

    /// Whether another server holds the same.
    pub fn differences(&self, other: &Held) -> Vec<String> {
        let mut found: Vec<String> =
            (0..ACCOUNTS).filter(|at| self.accounts[*at] != other.accounts[*at]).map(account).collect();
        let nothing = Model::default();
        for owner in self.clients.keys().chain(other.clients.keys()) {
            let of = |held: &Held| held.clients.get(owner).unwrap_or(&nothing).clone();
            let keys = of(self).differences(&of(other), other.begun_ms, other.ended_ms);
            found.extend(keys.iter().map(|key| key.escape_ascii().to_string()));
        }
        found
    }
}

/// Why a client's data cannot be.
#[derive(Debug)]
pub struct Verdict {
    /// Acknowledged units that are missing; `None` where the data is no moment of the past at all.
    pub lost: Option<usize>,
    pub keys: Vec<String>,
}

fn count_lost(start: &Model, notes: &Notes, fits: &dyn Fn(&Model) -> bool) -> Option<usize> {
    let mut model = start.clone();
    let mut fitting = fits(&model).then_some(0);
    for (at, unit) in notes.acknowledged.iter().enumerate() {
        unit.apply(&mut model);
        if fits(&model) {
            fitting = Some(at + 1);
        }
    }
    fitting.map(|at| notes.acknowledged.len() - at)
}

/// The command that reads a key, by the letter in its name.
fn reading(key: &[u8]) -> Result<Vec<Vec<u8>>> {
    let letter = key.split(|byte| *byte == b':').nth(1).and_then(|rest| rest.first());
    let (command, rest): (&str, &[&str]) = match letter {
        _ if key.starts_with(b"filler:") || key.starts_with(b"account:") => ("GET", &[]),
        Some(b's' | b'n' | b'e') => ("GET", &[]),
        Some(b'l') => ("LRANGE", &["0", "-1"]),
        Some(b'h') => ("HGETALL", &[]),
        Some(b't') => ("SMEMBERS", &[]),
        Some(b'z') => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        _ => bail!("nobody wrote {}", key.escape_ascii()),
    };
    let mut args = vec![command.as_bytes().to_vec(), key.to_vec()];
    args.extend(rest.iter().map(|word| word.as_bytes().to_vec()));
    Ok(args)
}

/// `None` where the key vanished meanwhile.
fn value(key: &[u8], reply: &Reply) -> Option<Value> {
    let bytes = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => bytes.clone(),
        other => panic!("no bulk: {other:?}"),
    };
    let items = || reply.items().iter().map(bytes);
    let pairs = || reply.items().chunks(2).map(|pair| (bytes(&pair[0]), bytes(&pair[1])));
    let letter = key.split(|byte| *byte == b':').nth(1).and_then(|rest| rest.first());
    match letter {
        Some(b's' | b'n' | b'e') if *reply == Reply::Nil => None,
        Some(b's' | b'n' | b'e') => Some(Value::Text(bytes(reply), None)),
        Some(b'l') => Some(Value::List(items().collect())),
        Some(b'h') => Some(Value::Hash(pairs().collect())),
        Some(b't') => Some(Value::Set(items().collect())),
        _ => Some(Value::Scores(pairs().map(|(member, score)| (member, number(&score))).collect())),
    }
}

/// Lets Redis's own tools look at a data folder.
pub fn redis_tools(data: &Path) -> Result<()> {
    let manifest = data.join("appendonlydir/appendonly.aof.manifest");
    accepted(Command::new("redis-check-aof").arg(manifest))?;
    let dump = data.join("dump.rdb");
    if dump.exists() {
        accepted(Command::new("redis-check-rdb").arg(dump))?;
    }
    Ok(())
}

/// What killed processes left half-made does not pile up: behind a dump and a rewrite, only what is needed is
/// there. Gives the number of files that no manifest came to name before a kill.
pub fn nothing_piles_up(client: &mut RespClient, data: &Path) -> Result<usize> {
    for (command, runs) in [("BGSAVE", "rdb_bgsave_in_progress"), ("BGREWRITEAOF", "aof_rewrite_in_progress")]
    {
        wait_until(&format!("{command} to be taken"), SNAPSHOT_TIMEOUT, || {
            client.command(&[command]).is_ok_and(|reply| !matches!(reply, Reply::Error(_)))
        })?;
        let ended = format!("{runs}:0");
        wait_until(&format!("{command} to end"), SNAPSHOT_TIMEOUT, || {
            client.command(&["INFO", "persistence"]).is_ok_and(|info| info.text().contains(&ended))
        })?;
    }
    let names = |dir: &Path| -> Result<Vec<String>> {
        let names =
            std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    let found = names(data)?;
    ensure!(found == ["appendonlydir", "dump.rdb"], "left in the data folder: {found:?}");
    let folder = data.join("appendonlydir");
    let manifest = std::fs::read_to_string(folder.join("appendonly.aof.manifest"))?;
    let unnamed: Vec<String> = names(&folder)?.into_iter().filter(|name| !manifest.contains(name)).collect();
    // What a kill leaves that comes before the manifest names a new file; an increment without data, then.
    let is_unused = |name: &String| {
        let len = || folder.join(name).metadata().map_or(u64::MAX, |meta| meta.len());
        name.ends_with(".lock")
            || name.ends_with(".base.rdb")
            || (name.ends_with(".incr.aof") && len() <= INCREMENT_HEAD_LEN)
    };
    let (unused, others): (Vec<_>, Vec<_>) = unnamed.iter().partition(|name| is_unused(name));
    ensure!(others == ["appendonly.aof.manifest"], "no manifest names {others:?}");
    ensure!(manifest.lines().count() == 2, "more than base and increment:\n{manifest}");
    Ok(unused.len())
}

fn accepted(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let program = command.get_program().to_string_lossy();
    ensure!(output.status.success(), "{program} refuses it with {}:\n{text}", output.status);
    Ok(())
}
