//! LATENCY: what was slow, and how long each command takes.

use std::fmt::Write;

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use super::info::each_command;
use crate::call::Call;
use crate::latency::{Series, event};
use crate::table::Handler;

const SUB: Spec = Spec {
    group: Group::Server,
    since: "2.8.13",
    arity: 2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    ..Spec::BASE
};
const LATENCY: Spec = Spec {
    name: "latency",
    summary: "A container for latency diagnostics commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec { name: "doctor", summary: "Returns a human-readable latency analysis report.", ..SUB },
        Spec {
            name: "graph",
            summary: "Returns a latency graph for an event.",
            syntax: "event",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
        Spec {
            name: "histogram",
            summary: "Returns the cumulative distribution of latencies of a subset or all commands.",
            syntax: "[command [command ...]]",
            since: "7.0.0",
            complexity: "O(N) where N is the number of commands with latency information being retrieved.",
            arity: -2,
            ..SUB
        },
        Spec {
            name: "history",
            summary: "Returns timestamp-latency samples for an event.",
            syntax: "event",
            arity: 3,
            ..SUB
        },
        Spec { name: "latest", summary: "Returns the latest latency samples for all events.", ..SUB },
        Spec {
            name: "reset",
            summary: "Resets the latency data for one or more events.",
            syntax: "[event [event ...]]",
            arity: -2,
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[(&LATENCY, Handler::Server(latency))];

fn latency(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let latency = &call.shared.latency;
    match args[1].to_ascii_lowercase().as_slice() {
        b"latest" => {
            let all = latency.all();
            reply.array(all.len());
            for (name, series) in all {
                let Some(last) = series.samples.back() else { continue };
                reply.array(4);
                reply.bulk(name.as_bytes());
                for figure in [last.at_unix_s, last.ms, series.max_ms] {
                    reply.integer(figure as i64);
                }
            }
        }
        b"history" => {
            let series = latency.of(args[2]).unwrap_or_default();
            reply.array(series.samples.len());
            for sample in series.samples {
                reply.array(2);
                reply.integer(sample.at_unix_s as i64);
                reply.integer(sample.ms as i64);
            }
        }
        b"reset" => reply.integer(latency.reset(&args[2..]) as i64),
        b"graph" => {
            let series = latency.of(args[2]).ok_or_else(|| {
                ErrorReply::owned([b"ERR No samples available for event '", args[2], b"'"].concat())
            })?;
            let name = String::from_utf8_lossy(args[2]);
            reply.verbatim("txt", graph(&name, &series, call.cx.now_ms / 1000).as_bytes());
        }
        b"doctor" => {
            let threshold_ms = call.side.settings.latency_monitor_threshold_ms;
            reply.verbatim("txt", report(threshold_ms, &latency.all()).as_bytes());
        }
        b"histogram" => histogram(call, &args[2..], reply),
        _ => super::help(
            reply,
            "LATENCY",
            &[
                ("DOCTOR", "Return a human readable latency analysis report."),
                ("GRAPH <event>", "Return an ASCII latency graph for the <event> class."),
                ("HISTOGRAM [COMMAND ...]", "Return how long the named commands, or all of them, took."),
                ("HISTORY <event>", "Return time-latency samples for the <event> class."),
                ("LATEST", "Return the latest latency samples for all events."),
                ("RESET [<event> ...]", "Reset latency data of one or more <event> classes (default: all)."),
            ],
        ),
    }
    Ok(Flow::Done)
}

/// Columns of the longest bar.
const GRAPH_WIDTH: u64 = 48;

/// One line for each sample, the newest last.
fn graph(name: &str, series: &Series, now_unix_s: u64) -> String {
    let high = series.samples.iter().map(|sample| sample.ms).max().unwrap_or_default();
    let low = series.samples.iter().map(|sample| sample.ms).min().unwrap_or_default();
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    for sample in &series.samples {
        let bar = "#".repeat((sample.ms * GRAPH_WIDTH / high.max(1)).max(1) as usize);
        let age = ago(now_unix_s.saturating_sub(sample.at_unix_s));
        writeln!(text, "{age:>4} ago |{bar} {} ms", sample.ms).expect("a String takes all");
    }
    text
}

/// Seconds in the largest unit that fits: `12s`, `3m`, `2h`, `5d`.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What was seen, and what can be done about it.
fn report(threshold_ms: u64, all: &[(&'static str, Series)]) -> String {
    if threshold_ms == 0 && all.is_empty() {
        return "Nothing is watched: latency-monitor-threshold is 0. Set it to the milliseconds from which on you \
                want to hear of an event, for instance with CONFIG SET latency-monitor-threshold 100.\n"
            .into();
    }
    if all.is_empty() {
        return format!("All is well: no event took {threshold_ms} ms or longer since the last reset.\n");
    }
    let mut text = format!("Slow events of {} kinds:\n\n", all.len());
    for (name, series) in all {
        writeln!(text, "{}", summary(name, series)).expect("a String takes all");
    }
    text.push_str("\nWhat helps:\n\n");
    for advice in all.iter().map(|(name, _)| advice(name)) {
        writeln!(text, "- {advice}").expect("a String takes all");
    }
    text
}

fn summary(name: &str, series: &Series) -> String {
    let len = series.samples.len().max(1) as u64;
    let mean = series.samples.iter().map(|sample| sample.ms).sum::<u64>() / len;
    let deviation = series.samples.iter().map(|sample| sample.ms.abs_diff(mean)).sum::<u64>() / len;
    let (first, last) = (series.samples.front(), series.samples.back());
    let span = first.zip(last).map_or(0, |(first, last)| last.at_unix_s - first.at_unix_s);
    let every = if len > 1 { format!(", one every {} s", span / (len - 1)) } else { String::new() };
    format!(
        "{name}: {len} in memory{every}; mean {mean} ms, mean deviation {deviation} ms, worst ever {} ms.",
        series.max_ms
    )
}

fn advice(name: &str) -> &'static str {
    match name {
        event::COMMAND => {
            "command: SLOWLOG GET names the commands. Look for those that go over whole keys or the whole keyspace, \
             and for scripts; SCAN and its relatives do the same in small steps."
        }
        event::FAST_COMMAND => {
            "fast-command: these cost little themselves, so they waited for something that held their shard (see \
             command, snapshot-hold) or for a processor. Are other programs busy here, or does the machine swap?"
        }
        event::EXPIRE_CYCLE => {
            "expire-cycle: many keys expire at the same moment. Spread their times to live a little."
        }
        event::AOF_WRITE => {
            "aof-write: the disk takes the append-only file slowly. Move 'dir' to a faster disk, or keep what else \
             writes there away from it."
        }
        event::AOF_FSYNC_ALWAYS => {
            "aof-fsync-always: each write waits for the disk. A disk with a battery or power-loss protection syncs \
             faster; 'appendfsync everysec' does not wait, and risks the last second."
        }
        event::AOF_FSYNC_EVERYSEC => {
            "aof-fsync-everysec: nobody waits for these syncs, but while they last more than a second may be lost \
             with the machine."
        }
        event::SNAPSHOT_HOLD => {
            "snapshot-hold: a snapshot writes each value in one piece, and a write to its neighbours waits that \
             long. Split very large collections over several keys."
        }
        _ => "no advice for this kind.",
    }
}

/// HISTOGRAM: all commands that ran, or those that are named, with their subcommands.
fn histogram(call: &Call<'_, '_>, names: &[&[u8]], reply: &mut Reply<'_>) {
    let names: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    let is_wanted = |name: &str| {
        let is_named = |wanted: &String| name == wanted || name.split('|').next() == Some(wanted);
        names.is_empty() || names.iter().any(is_named)
    };
    let mut found = Vec::new();
    each_command(call, |name, total| {
        if is_wanted(name) && total.latencies_len() > 0 {
            found.push((name.to_owned(), total.latencies_len(), total.up_to_micros()));
        }
    });
    reply.map(found.len());
    for (name, calls, steps) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(calls as i64);
        reply.bulk(b"histogram_usec");
        reply.map(steps.len());
        for (micros, count) in steps {
            reply.integer(micros as i64);
            reply.integer(count as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::latency::Latency;

    #[test]
    fn a_graph_shows_each_sample_by_its_age() {
        let latency = Latency::new(1);
        for (at, ms) in [(100, 300), (150, 500)] {
            latency.note(event::COMMAND, at, Duration::from_millis(ms));
        }
        let graph = graph("command", &latency.of(b"command").unwrap(), 170);
        let lines: Vec<&str> = graph.lines().collect();
        assert_eq!(lines[0], "command - high 500 ms, low 300 ms (all time high 500 ms)");
        assert_eq!(lines[1], format!("  1m ago |{} 300 ms", "#".repeat(28)));
        assert_eq!(lines[2], format!(" 20s ago |{} 500 ms", "#".repeat(48)));
    }

    #[test]
    fn the_doctor_says_what_it_saw_and_what_helps() {
        let latency = Latency::new(1);
        assert!(report(0, &latency.all()).contains("latency-monitor-threshold"));
        assert!(report(100, &latency.all()).starts_with("All is well"));
        for at in [10, 14, 18] {
            latency.note(event::AOF_WRITE, at, Duration::from_millis(at * 10));
        }
        let report = report(100, &latency.all());
        let expected =
            "aof-write: 3 in memory, one every 4 s; mean 140 ms, mean deviation 26 ms, worst ever 180 ms.";
        assert!(report.contains(expected), "{report}");
        assert!(report.contains("- aof-write: the disk"), "{report}");
    }
}
