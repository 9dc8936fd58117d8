//! MEMORY: what keys cost, what all costs, and what the allocator says.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use thali_commands::{
    Access, Categories, ErrorReply, Flags, Flow, Group, Keys, Outcome, Spec, generic, integer, is_word,
};
use thali_data::double::format_double;
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::memory;
use crate::session::Session;
use crate::table::Handler;

const SUB: Spec = Spec { group: Group::Server, since: "4.0.0", arity: 2, ..Spec::BASE };
const MEMORY: Spec = Spec {
    name: "memory",
    summary: "A container for memory diagnostics commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        Spec {
            name: "doctor",
            summary: "Outputs a memory problems report.",
            flags: Flags::EACH_SHARD,
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
        Spec {
            name: "malloc-stats",
            summary: "Returns the allocator statistics.",
            complexity: "Depends on how much memory is allocated, could be slow",
            ..SUB
        },
        Spec {
            name: "purge",
            summary: "Asks the allocator to release memory.",
            complexity: "Depends on how much memory is allocated, could be slow",
            ..SUB
        },
        Spec {
            name: "stats",
            summary: "Returns details about memory usage.",
            flags: Flags::EACH_SHARD,
            ..SUB
        },
        Spec {
            name: "usage",
            summary: "Estimates the memory usage of a key.",
            syntax: "key [SAMPLES count]",
            complexity: "O(N) where N is the number of samples.",
            arity: -3,
            flags: Flags::READONLY,
            keys: Keys::Range { first: 2, last: 2, step: 1, access: Access::PRESENCE },
            categories: Categories::empty(),
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[(&MEMORY, Handler::Server(run))];

fn run(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[1].to_ascii_lowercase().as_slice() {
        b"usage" => usage(call, args, reply)?,
        b"stats" => stats(call, reply),
        b"doctor" => reply.verbatim("txt", doctor(&Overview::of(call)).as_bytes()),
        b"malloc-stats" => {
            let text = memory::allocator().map(|allocator| (allocator.report)());
            let text = text.unwrap_or_else(|| "Stats not supported for the current allocator".into());
            reply.verbatim("txt", text.as_bytes());
        }
        b"purge" => match memory::allocator().is_none_or(|allocator| (allocator.purge)()) {
            true => reply.ok(),
            false => return Err(ErrorReply::new("ERR Error purging dirty pages")),
        },
        _ => super::help(
            reply,
            "MEMORY",
            &[
                ("DOCTOR", "Return memory problems reports."),
                ("MALLOC-STATS", "Return internal statistics report from the memory allocator."),
                ("PURGE", "Attempt to purge dirty pages for reclamation by the allocator."),
                ("STATS", "Return information about the memory usage of the server."),
                (
                    "USAGE <key> [SAMPLES <count>]",
                    "Return memory in bytes used by <key> and its value; it is counted, whatever <count> says.",
                ),
            ],
        ),
    }
    Ok(Flow::Done)
}

fn usage(call: &Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let (pairs, rest) = args[3..].as_chunks::<2>();
    for [word, count] in pairs {
        if !is_word(word, "SAMPLES") || integer(count)? < 0 {
            return Err(ErrorReply::SYNTAX);
        }
    }
    if !rest.is_empty() {
        return Err(ErrorReply::SYNTAX);
    }
    match call.cx.peek(args[2]) {
        Some(entry) => reply.integer(generic::memory::usage_bytes(args[2], entry) as i64),
        None => reply.null(),
    }
    Ok(())
}

/// Where the memory is.
#[derive(Debug, Default)]
pub(super) struct Overview {
    pub total_bytes: u64,
    pub startup_bytes: u64,
    peak_bytes: u64,
    clients_len: usize,
    clients_bytes: u64,
    journal_bytes: u64,
    scripts_len: usize,
    scripts_bytes: u64,
    /// Database, and what its tables take beside keys and values; times to live stand in the entries.
    dbs: Vec<(u32, u64)>,
    keys_len: u64,
}

impl Overview {
    pub fn of(call: &Call<'_, '_>) -> Self {
        let shared = call.shared;
        let clients = shared.clients.all();
        let buffers = clients.iter().map(|info| info.input_len.load(Relaxed) + info.output_len.load(Relaxed));
        let mut tables = vec![(0, 0); call.cx.dbs_len as usize];
        for id in call.cx.shard_ids() {
            // A shard that a busy script holds is left out.
            let _ = call.cx.see_shard(id, |shard| {
                for (at, (keys, bytes)) in (0..shard.dbs_len()).zip(&mut tables) {
                    if let Some(db) = shard.db(at) {
                        *keys += db.len() as u64;
                        *bytes += db.overhead_bytes() as u64;
                    }
                }
            });
        }
        Self {
            peak_bytes: memory::peak_bytes(),
            total_bytes: memory::used_bytes(),
            startup_bytes: memory::startup_bytes(),
            clients_len: clients.len(),
            clients_bytes: buffers.sum::<u64>() + (clients.len() * size_of::<Session>()) as u64,
            journal_bytes: memory::journal_bytes(shared),
            scripts_len: shared.scripts.cache.len(),
            scripts_bytes: shared.scripts.cache.bytes() as u64,
            keys_len: tables.iter().map(|(keys, _)| keys).sum(),
            dbs: (0..)
                .zip(tables)
                .filter(|(_, (keys, _))| *keys > 0)
                .map(|(db, (_, bytes))| (db, bytes))
                .collect(),
        }
    }

    pub fn overhead_bytes(&self) -> u64 {
        let tables: u64 = self.dbs.iter().map(|(_, bytes)| bytes).sum();
        self.startup_bytes + self.clients_bytes + self.journal_bytes + self.scripts_bytes + tables
    }

    pub fn dataset_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.overhead_bytes())
    }

    /// What came since the start.
    fn net_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.startup_bytes)
    }

    pub fn dataset_percent(&self) -> f64 {
        100.0 * ratio(self.dataset_bytes(), self.net_bytes())
    }

    pub fn peak_percent(&self) -> f64 {
        100.0 * ratio(self.total_bytes, self.peak_bytes)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn stats(call: &Call<'_, '_>, reply: &mut Reply<'_>) {
    let overview = Overview::of(call);
    let figures = memory::figures();
    let rss = memory::rss_bytes();
    let integers_before = [
        ("peak.allocated", overview.peak_bytes),
        ("total.allocated", overview.total_bytes),
        ("startup.allocated", overview.startup_bytes),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", overview.clients_bytes),
        ("cluster.links", 0),
        ("aof.buffer", overview.journal_bytes),
        ("lua.caches", overview.scripts_bytes),
        ("functions.caches", 0),
    ];
    let tables: u64 = overview.dbs.iter().map(|(_, bytes)| bytes).sum();
    let integers_behind = [
        ("overhead.db.hashtable.lut", tables),
        // Tables grow segment by segment; none is ever in between.
        ("overhead.db.hashtable.rehashing", 0),
        ("overhead.total", overview.overhead_bytes()),
        ("db.dict.rehashing.count", 0),
        ("keys.count", overview.keys_len),
        ("keys.bytes-per-key", overview.net_bytes() / overview.keys_len.max(1)),
        ("dataset.bytes", overview.dataset_bytes()),
        ("allocator.allocated", figures.allocated),
        ("allocator.active", figures.active),
        ("allocator.resident", figures.resident),
        ("allocator.muzzy", figures.muzzy),
        ("allocator-fragmentation.bytes", figures.active.saturating_sub(figures.allocated)),
        ("allocator-rss.bytes", figures.resident.saturating_sub(figures.active)),
    ];
    let doubles = [
        ("dataset.percentage", overview.dataset_percent()),
        ("peak.percentage", overview.peak_percent()),
        ("allocator-fragmentation.ratio", ratio(figures.active, figures.allocated)),
        ("allocator-rss.ratio", ratio(figures.resident, figures.active)),
        ("rss-overhead.ratio", ratio(rss, figures.resident)),
        ("fragmentation", ratio(rss, figures.allocated)),
    ];
    // The kernel may count less than the allocator: what was swapped out, or never touched.
    let differences = [
        ("rss-overhead.bytes", rss as i64 - figures.resident as i64),
        ("fragmentation.bytes", rss as i64 - figures.allocated as i64),
    ];
    let len = integers_before.len() + overview.dbs.len() + integers_behind.len();
    reply.map(len + doubles.len() + differences.len());
    for (name, value) in integers_before {
        reply.bulk(name.as_bytes());
        reply.integer(value as i64);
    }
    for (db, bytes) in &overview.dbs {
        reply.bulk(format!("db.{db}").as_bytes());
        reply.map(2);
        reply.bulk(b"overhead.hashtable.main");
        reply.integer(*bytes as i64);
        reply.bulk(b"overhead.hashtable.expires");
        reply.integer(0);
    }
    for (name, value) in integers_behind {
        reply.bulk(name.as_bytes());
        reply.integer(value as i64);
    }
    for (name, value) in doubles {
        reply.bulk(name.as_bytes());
        reply.double_text(format_double(value).as_bytes());
    }
    for (name, value) in differences {
        reply.bulk(name.as_bytes());
        reply.integer(value);
    }
}

/// Below this the process itself is most of what is measured.
const TELLING_BYTES_MIN: u64 = 5 << 20;
/// Waste that is worth a word.
const WASTE_BYTES_MIN: u64 = 10 << 20;
const CLIENT_BYTES_MAX: u64 = 200 << 10;
const SCRIPTS_MAX: usize = 1_000;

/// What looks wrong, and what can be done about it.
fn doctor(overview: &Overview) -> String {
    let figures = memory::figures();
    let rss = memory::rss_bytes();
    if overview.total_bytes < TELLING_BYTES_MIN + overview.startup_bytes {
        return "There is too little data for a finding: come back when there are some megabytes.\n".into();
    }
    let mut text = String::new();
    let mut find = |is_so: bool, finding: &str| {
        if is_so {
            writeln!(text, "- {finding}").expect("a String takes all");
        }
    };
    find(
        overview.peak_bytes > overview.total_bytes / 2 * 3,
        "The peak was more than half again of what is in use now, so the process may keep pages that it does not \
         need at the moment. MEMORY PURGE gives them back.",
    );
    find(
        figures.active > figures.allocated / 10 * 11 && figures.active - figures.allocated > WASTE_BYTES_MIN,
        "More than a tenth of the pages in use is holes between values of different sizes. Values that are written \
         anew fill them; a restart does so at once.",
    );
    find(
        figures.resident > figures.active / 10 * 11 && figures.resident - figures.active > WASTE_BYTES_MIN,
        "The allocator holds free pages back for later. MEMORY PURGE gives them back.",
    );
    find(
        rss > figures.resident / 10 * 11 && rss - figures.resident > WASTE_BYTES_MIN,
        "More than a tenth of the memory is not the allocator's: stacks, the program itself, or scripts, whose \
         interpreters have an allocator of their own.",
    );
    find(
        overview.clients_bytes / overview.clients_len.max(1) as u64 > CLIENT_BYTES_MAX,
        "Clients have more than 200 KiB each waiting, to be read or to be run. CLIENT LIST shows whose (omem, qbuf).",
    );
    find(
        overview.scripts_len > SCRIPTS_MAX,
        "There are more than a thousand scripts, so somebody makes them up as they go. Pass what changes as ARGV, \
         and forget the old ones with SCRIPT FLUSH.",
    );
    if text.is_empty() { "All is well with the memory.\n".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_names_what_is_wrong() {
        let mut overview = Overview { total_bytes: 1 << 20, ..Overview::default() };
        assert!(doctor(&overview).starts_with("There is too little data"));
        overview.total_bytes = 64 << 20;
        overview.peak_bytes = 128 << 20;
        overview.clients_len = 1;
        overview.clients_bytes = 1 << 20;
        let text = doctor(&overview);
        assert!(
            text.contains("The peak was") && text.contains("CLIENT LIST") && !text.contains("SCRIPT FLUSH")
        );
    }

    #[test]
    fn what_is_no_overhead_is_data() {
        let overview = Overview {
            total_bytes: 1_000,
            startup_bytes: 100,
            dbs: vec![(0, 50), (3, 50)],
            ..Overview::default()
        };
        assert_eq!((overview.overhead_bytes(), overview.dataset_bytes()), (200, 800));
        assert!((overview.dataset_percent() - 100.0 * 800.0 / 900.0).abs() < 1e-9);
    }
}
