//! `cargo xtask conformance`: the same seeded commands on the engine under test and on redis-server,
//! replies compared.
//!
//! A run is made of rounds. Each starts on empty data, takes one family or several, runs its
//! commands plain, in MULTI/EXEC or through a script, over RESP2 or RESP3, and ends with a look at
//! everything stored. A round stops at its first difference, since later ones follow from it.

mod families;
mod grammar;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use fastrand::Rng;
use thali_testkit::{Engine, Reply, RespClient};

use families::{FAMILIES, Family, PENDING, UNORDERED};
use grammar::{Command, generate};

const ROUND_COMMANDS: u64 = 400;
const HISTORY_SHOWN_MAX: usize = 12;

#[derive(Args)]
pub struct ConformanceArguments {
    /// Chooses the commands; the same seed, the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 20_000)]
    commands: u64,
    /// Only these families (default: all that Thali has).
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// The engine that is compared with redis-server.
    #[arg(long, default_value = "thali")]
    engine: Engine,
    /// Compare with what listens at this address instead of starting an engine. Its data is flushed.
    #[arg(long)]
    address: Option<String>,
    /// Stop after this many rounds that differ.
    #[arg(long, default_value_t = 10)]
    differences_max: usize,
}

impl ConformanceArguments {
    /// What every test run does; about ten seconds.
    pub fn short(engine: Engine) -> ConformanceArguments {
        ConformanceArguments {
            seed: 1,
            commands: 50_000,
            family: Vec::new(),
            engine,
            address: None,
            differences_max: 10,
        }
    }
}

/// The two sides of a comparison.
struct Pair {
    tested: RespClient,
    judge: RespClient,
}

struct Difference {
    round_seed: u64,
    protocol: u8,
    command: Command,
    tested: Reply,
    judge: Reply,
    history: Vec<Command>,
}

pub fn run(arguments: &ConformanceArguments) -> Result<()> {
    let chosen = choose(&arguments.family)?;
    let judge = Engine::Redis.start()?;
    let started = match &arguments.address {
        Some(_) => None,
        None => Some(arguments.engine.start()?),
    };
    let address = match (&arguments.address, &started) {
        (Some(address), _) => address.clone(),
        (None, Some(engine)) => engine.store.clone(),
        (None, None) => unreachable!("without an address an engine was started"),
    };
    let mut seeds = Rng::with_seed(arguments.seed);
    let (mut run, mut differences) = (0, Vec::new());
    while run < arguments.commands && differences.len() < arguments.differences_max {
        let mut pair =
            Pair { tested: RespClient::connect(&address)?, judge: RespClient::connect(&judge.store)? };
        let (commands, difference) = round(&mut pair, &chosen, seeds.u64(..))?;
        run += commands;
        differences.extend(difference);
    }
    report(arguments.seed, run, &differences)
}

fn choose(names: &[String]) -> Result<Vec<&'static Family>> {
    for name in names {
        if !FAMILIES.iter().any(|family| family.name == name) {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            bail!("no family {name:?}; there are {}", known.join(", "));
        }
    }
    let wanted = |family: &&Family| {
        let named = names.iter().any(|name| name == family.name);
        named || (names.is_empty() && !PENDING.contains(&family.name))
    };
    Ok(FAMILIES.iter().filter(wanted).collect())
}

/// One round; returns how many commands ran and the first difference.
fn round(pair: &mut Pair, chosen: &[&Family], seed: u64) -> Result<(u64, Option<Difference>)> {
    let mut rng = Rng::with_seed(seed);
    let protocol = if rng.bool() { 2 } else { 3 };
    for client in [&mut pair.tested, &mut pair.judge] {
        client.command(&["HELLO", &protocol.to_string()])?;
        client.command(&["FLUSHALL"])?;
        // Thali's gateway has keys of its own in database 0.
        client.command(&["SELECT", "3"])?;
        client.command(&["FUNCTION", "FLUSH"])?;
        // Redis's DUMP compresses, with a table that it does not clear; Thali's does not.
        client.command(&["CONFIG", "SET", "rdbcompression", "no", "hll-sparse-max-bytes", "3000"])?;
    }
    // Mostly one family with its own types; sometimes all, so that types collide.
    let templates: Vec<&str> = if rng.u8(0..4) == 0 {
        chosen.iter().flat_map(|family| family.templates).copied().collect()
    } else {
        chosen[rng.usize(0..chosen.len())].templates.to_vec()
    };
    let mut history: Vec<Command> = Vec::new();
    let differ = |command: Command, tested, judge, history: &[Command]| Difference {
        round_seed: seed,
        protocol,
        command,
        tested,
        judge,
        history: history.to_vec(),
    };
    let mut ran = 0;
    while ran < ROUND_COMMANDS {
        for command in next_commands(&templates, &mut rng) {
            ran += 1;
            let (tested, judge) = both(pair, &command)?;
            if tested != judge {
                return Ok((ran, Some(differ(command, tested, judge, &history))));
            }
            history.push(command);
        }
    }
    for command in inspections(&mut pair.judge)? {
        let (tested, judge) = both(pair, &command)?;
        if tested != judge {
            return Ok((ran, Some(differ(command, tested, judge, &history))));
        }
    }
    Ok((ran, None))
}

/// One command, the same through a script, or a transaction of a few.
fn next_commands(templates: &[&str], rng: &mut Rng) -> Vec<Command> {
    let one = |rng: &mut Rng| generate(templates[rng.usize(0..templates.len())], rng);
    match rng.u8(0..20) {
        0 => {
            let mut script: Command =
                ["EVAL", "return redis.pcall(unpack(ARGV))", "0"].map(Into::into).to_vec();
            let inner = one(rng);
            // 7.0 refuses blocking commands in scripts, 7.2 runs them without blocking.
            if inner[0].starts_with(b"B") && !inner[0].starts_with(b"BIT") {
                return vec![inner];
            }
            script.extend(inner);
            vec![script]
        }
        1 => {
            let mut commands = vec![vec![b"MULTI".to_vec()]];
            // Thali's settings change between units of work, not within one.
            // Nor does it ask for WATCH, which Valkey 8 takes as a reason to discard, and Redis 7.2 does not.
            let is_out = |name: &[u8]| matches!(name, b"CONFIG" | b"WATCH" | b"EXEC" | b"DISCARD");
            let inner = (0..rng.usize(0..4)).map(|_| one(rng)).filter(|command| !is_out(&command[0]));
            commands.extend(inner);
            commands.push(vec![if rng.u8(0..5) == 0 { b"DISCARD".to_vec() } else { b"EXEC".to_vec() }]);
            commands
        }
        _ => vec![one(rng)],
    }
}

fn both(pair: &mut Pair, command: &Command) -> Result<(Reply, Reply)> {
    pair.tested.send(command)?;
    pair.judge.send(command)?;
    let (mut tested, mut judge) = (pair.tested.read()?, pair.judge.read()?);
    if has_scores(command) {
        shorten(&mut tested);
        shorten(&mut judge);
    }
    if has_functions(command) {
        blur(&mut tested);
        blur(&mut judge);
    }
    if is_unordered(command) {
        sort(&mut tested);
        sort(&mut judge);
    }
    Ok((tested, judge))
}

/// EXEC and scripts may hold the reply of an unordered command.
fn is_unordered(command: &Command) -> bool {
    command
        .iter()
        .filter_map(|word| std::str::from_utf8(word).ok())
        .any(|word| UNORDERED.contains(&word) || word == "EXEC")
}

/// Whether the reply may hold scores: sorted set commands, also within EXEC and scripts.
fn has_scores(command: &Command) -> bool {
    command.iter().any(|word| word.starts_with(b"Z") || word.starts_with(b"BZ") || word == b"EXEC")
}

/// Prints scores as the shortest text of the same number.
fn shorten(reply: &mut Reply) {
    // A packed sorted set forgets the sign of zero; adding zero does so too.
    let number = |text: &str| text.parse::<f64>().ok().map(|number| number + 0.0);
    let short = |text: &str| (text == "-0" || text.contains(['.', 'e'])).then(|| number(text)).flatten();
    match reply {
        Reply::Double(text) => {
            if let Some(number) = number(text) {
                *text = number.to_string();
            }
        }
        Reply::Bulk(bytes) => {
            if let Some(number) = std::str::from_utf8(bytes).ok().and_then(short) {
                *bytes = number.to_string().into_bytes();
            }
        }
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items.iter_mut().for_each(shorten),
        Reply::Map(pairs) => pairs.iter_mut().for_each(|(_, value)| shorten(value)),
        _ => {}
    }
}

fn has_functions(command: &Command) -> bool {
    command.iter().any(|word| word == b"FUNCTION" || word == b"EXEC")
}

/// Which of several functions that are there already is named is left open by Redis.
fn blur(reply: &mut Reply) {
    match reply {
        Reply::Error(text) if text.starts_with("ERR Function ") && text.ends_with(" already exists") => {
            *text = "ERR Function … already exists".into();
        }
        Reply::Array(items) => items.iter_mut().for_each(blur),
        _ => {}
    }
}

fn sort(reply: &mut Reply) {
    match reply {
        Reply::Array(items) | Reply::Set(items) => {
            items.iter_mut().for_each(sort);
            items.sort();
        }
        Reply::Map(pairs) => {
            pairs.iter_mut().for_each(|(_, value)| sort(value));
            pairs.sort();
        }
        _ => {}
    }
}

/// Commands that show everything the judge holds.
fn inspections(judge: &mut RespClient) -> Result<Vec<Command>> {
    let mut commands: Vec<Command> = vec![vec![b"KEYS".to_vec(), b"*".to_vec()]];
    for key in judge.command(&["KEYS", "*"])?.items() {
        let Reply::Bulk(key) = key else { continue };
        let kind = judge.command(&[b"TYPE".as_slice(), key])?.text();
        let look: &[&str] = match kind.as_str() {
            "string" => &["GET", "<key>"],
            "hash" => &["HGETALL", "<key>"],
            "list" => &["LRANGE", "<key>", "0", "-1"],
            "set" => &["SMEMBERS", "<key>"],
            "zset" => &["ZRANGE", "<key>", "0", "-1", "WITHSCORES"],
            "stream" => &["XRANGE", "<key>", "-", "+"],
            _ => continue,
        };
        let dump: &[&str] = &["DUMP", "<key>"];
        let looks = [&["TYPE", "<key>"], &["PEXPIRETIME", "<key>"], look];
        for words in looks.into_iter().chain((kind == "string").then_some(dump)) {
            let fill = |word: &&str| if *word == "<key>" { key.clone() } else { word.as_bytes().to_vec() };
            commands.push(words.iter().map(fill).collect());
        }
    }
    Ok(commands)
}

fn report(seed: u64, run: u64, differences: &[Difference]) -> Result<()> {
    let mut by_command: BTreeMap<String, usize> = BTreeMap::new();
    for difference in differences {
        println!("--- seed {}, RESP{}", difference.round_seed, difference.protocol);
        for command in related(difference) {
            println!("    {}", show(command));
        }
        println!(
            "    {}\n  redis-server {:?}\n  tested       {:?}",
            show(&difference.command),
            difference.judge,
            difference.tested
        );
        *by_command.entry(String::from_utf8_lossy(&difference.command[0]).into_owned()).or_default() += 1;
    }
    println!("seed {seed}: {run} commands, {} rounds differ {by_command:?}", differences.len());
    if differences.is_empty() { Ok(()) } else { bail!("{} rounds differ", differences.len()) }
}

/// The last commands before the difference that touch one of its keys.
fn related(difference: &Difference) -> Vec<&Command> {
    let is_key =
        |word: &&Vec<u8>| matches!(word.as_slice(), [b'k' | b'h', b'1'..=b'9'] | [b'{', b'k', b'}', ..]);
    let keys: Vec<&Vec<u8>> = difference.command.iter().filter(is_key).collect();
    let touches = |command: &&Command| keys.is_empty() || command.iter().any(|word| keys.contains(&word));
    let mut last: Vec<&Command> =
        difference.history.iter().rev().filter(touches).take(HISTORY_SHOWN_MAX).collect();
    last.reverse();
    last
}

fn show(command: &Command) -> String {
    let word = |word: &Vec<u8>| {
        let text = word.escape_ascii().to_string();
        if text.is_empty() || text.contains(' ') { format!("\"{text}\"") } else { text }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}
