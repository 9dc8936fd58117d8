//! INFO: figures, as redis-cli and every client library read them.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use thali_commands::{Flags, Flow, Group, Outcome, Spec};
use thali_keyspace::{Shard, WaitKind};
use thali_resp::Reply;

use super::Entry;
use crate::acl::Reason;
use crate::call::Call;
use crate::clients::ClientInfo;
use crate::command_stats::Total;
use crate::snapshots::Kind as Snapshot;
use crate::stats::{Counter, LoopStats};
use crate::table::{self, Handler};
use crate::{REDIS_VERSION, memory};

const INFO: Spec = Spec {
    name: "info",
    summary: "Returns information and statistics about the server.",
    syntax: "[section [section ...]]",
    group: Group::Server,
    complexity: "O(1)",
    arity: -1,
    // The keyspace section counts keys in every shard.
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::EACH_SHARD),
    categories: thali_commands::Categories::DANGEROUS,
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[(&INFO, Handler::Server(info))];

type Section = fn(&Call<'_, '_>, &mut String) -> std::fmt::Result;

/// Sections in the order in which they are shown.
const SECTIONS: &[(&str, Section)] = &[
    ("server", server),
    ("clients", clients),
    ("memory", memory_section),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cpu", cpu),
    ("modules", |_, text| writeln!(text, "# Modules")),
    ("commandstats", command_stats),
    ("errorstats", error_stats),
    ("latencystats", latency_stats),
    ("cluster", |_, text| writeln!(text, "# Cluster\ncluster_enabled:0")),
    ("keyspace", keyspace),
    ("debug", debug),
];

/// Sections that plain INFO leaves out.
const ONLY_ASKED: &[&str] = &["commandstats", "latencystats", "debug"];
/// Of these, what ALL and EVERYTHING leave out, too.
const ONLY_BY_NAME: &[&str] = &["debug"];

fn info(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let asked: Vec<String> =
        args[1..].iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    let is_asked = |word: &str| asked.iter().any(|name| name == word);
    let everything = is_asked("all") || is_asked("everything");
    let default = asked.is_empty() || is_asked("default");
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if (everything && !ONLY_BY_NAME.contains(name))
            || is_asked(name)
            || (default && !ONLY_ASKED.contains(name))
        {
            if !text.is_empty() {
                text.push('\n');
            }
            section(call, &mut text).expect("a String takes all");
        }
    }
    reply.verbatim("txt", text.replace('\n', "\r\n").as_bytes());
    Ok(Flow::Done)
}

fn sum(call: &Call<'_, '_>, of: impl Fn(&LoopStats) -> &Counter) -> u64 {
    call.shared.stats.iter().map(|stats| of(stats).get()).sum()
}

fn server(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let shared = call.shared;
    let uptime_s = call.cx.now_ms.saturating_sub(shared.started_at_ms) / 1000;
    writeln!(text, "# Server")?;
    writeln!(text, "redis_version:{REDIS_VERSION}")?;
    writeln!(text, "thali_version:{}", env!("CARGO_PKG_VERSION"))?;
    writeln!(text, "redis_git_sha1:00000000\nredis_git_dirty:0\nredis_build_id:0")?;
    writeln!(text, "redis_mode:standalone")?;
    writeln!(text, "os:{} {}", std::env::consts::OS, std::env::consts::ARCH)?;
    writeln!(text, "arch_bits:{}", usize::BITS)?;
    writeln!(text, "multiplexing_api:epoll")?;
    writeln!(text, "process_id:{}", std::process::id())?;
    writeln!(text, "run_id:{}", shared.run_id)?;
    let ports = shared.ports.lock().numbers();
    writeln!(text, "tcp_port:{}", if ports.plain > 0 { ports.plain } else { ports.tls })?;
    writeln!(text, "server_time_usec:{}", call.cx.now_ms * 1000)?;
    writeln!(text, "uptime_in_seconds:{uptime_s}\nuptime_in_days:{}", uptime_s / 86_400)?;
    writeln!(text, "hz:10\nconfigured_hz:10")?;
    writeln!(text, "event_loops:{}", call.side.settings.loops)?;
    writeln!(text, "event_loops_together:{}", u8::from(shared.crew.is_together()))?;
    writeln!(text, "event_loops_changes:{}", shared.crew.changes())?;
    writeln!(text, "shards:{}", shared.keyspace.shards_len())?;
    writeln!(text, "executable:{}", std::env::current_exe().unwrap_or_default().display())?;
    writeln!(text, "config_file:{}", shared.config.lock().file().unwrap_or_default())
}

fn clients(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let all = call.shared.clients.all();
    let blocked = all.iter().filter(|info| info.is_blocked()).count();
    let subscribers = all.iter().filter(|info| info.is_subscriber()).count();
    let mut for_groups = std::collections::HashSet::new();
    for waiter in all.iter().filter_map(|info| info.waiter.lock().clone()) {
        if waiter.kind == WaitKind::StreamGroup {
            for_groups.extend(waiter.keys.iter().map(|key| (waiter.db, key.clone())));
        }
    }
    // A shard that a busy script holds is left out: INFO answers.
    let awaited: usize =
        call.cx.shard_ids().filter_map(|id| call.cx.see_shard(id, Shard::awaited_len).ok()).sum();
    writeln!(text, "# Clients")?;
    writeln!(text, "connected_clients:{}", all.len())?;
    writeln!(text, "cluster_connections:0")?;
    writeln!(text, "maxclients:{}", call.side.settings.maxclients)?;
    let tracking = call.shared.keyspace.tracking().clients_len();
    let longest = |figure: fn(&ClientInfo) -> &AtomicU64| {
        all.iter().map(|info| figure(info).load(Relaxed)).max().unwrap_or(0)
    };
    writeln!(text, "client_recent_max_input_buffer:{}", longest(|info| &info.input_len))?;
    writeln!(text, "client_recent_max_output_buffer:{}", longest(|info| &info.output_len))?;
    writeln!(text, "blocked_clients:{blocked}\ntracking_clients:{tracking}\npubsub_clients:{subscribers}")?;
    let watching = all.iter().filter(|info| info.watched_len.load(Relaxed) > 0);
    let watched: u32 = watching.clone().map(|info| info.watched_len.load(Relaxed)).sum();
    writeln!(text, "watching_clients:{}", watching.count())?;
    let timed = |info: &&Arc<ClientInfo>| info.waiter.lock().as_ref().is_some_and(|waiter| waiter.is_timed);
    writeln!(text, "clients_in_timeout_table:{}", all.iter().filter(timed).count())?;
    writeln!(text, "total_watched_keys:{watched}")?;
    writeln!(text, "total_blocking_keys:{awaited}")?;
    writeln!(text, "total_blocking_keys_on_nokey:{}", for_groups.len())
}

fn memory_section(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let used = memory::used_bytes();
    let rss = memory::rss_bytes();
    writeln!(text, "# Memory")?;
    writeln!(text, "used_memory:{used}\nused_memory_human:{}", human(used))?;
    writeln!(text, "used_memory_rss:{rss}\nused_memory_rss_human:{}", human(rss))?;
    let peak = memory::peak_bytes();
    writeln!(text, "used_memory_peak:{peak}\nused_memory_peak_human:{}", human(peak))?;
    let overview = super::memory::Overview::of(call);
    writeln!(text, "used_memory_peak_perc:{:.2}%", overview.peak_percent())?;
    writeln!(text, "used_memory_overhead:{}", overview.overhead_bytes())?;
    writeln!(text, "used_memory_startup:{}", overview.startup_bytes)?;
    writeln!(text, "used_memory_dataset:{}", overview.dataset_bytes())?;
    writeln!(text, "used_memory_dataset_perc:{:.2}%", overview.dataset_percent())?;
    let figures = memory::figures();
    writeln!(text, "allocator_allocated:{}\nallocator_active:{}", figures.allocated, figures.active)?;
    writeln!(text, "allocator_resident:{}\nallocator_muzzy:{}", figures.resident, figures.muzzy)?;
    writeln!(text, "used_memory_lua:{}", call.side.interpreter.as_ref().map_or(0, |i| i.memory_bytes()))?;
    writeln!(text, "number_of_cached_scripts:{}", call.shared.scripts.cache.len())?;
    writeln!(text, "used_memory_scripts:{}", call.shared.scripts.cache.bytes())?;
    let set = call.shared.functions.current();
    writeln!(text, "number_of_functions:{}", set.functions_len())?;
    writeln!(text, "number_of_libraries:{}", set.libraries().len())?;
    writeln!(text, "used_memory_functions:{}", set.bytes())?;
    let vm = call.side.libraries.as_ref().map_or(0, |libraries| libraries.memory_bytes());
    writeln!(text, "used_memory_vm_functions:{vm}")?;
    let max = call.side.settings.maxmemory;
    writeln!(text, "maxmemory:{max}\nmaxmemory_human:{}", human(max))?;
    writeln!(text, "maxmemory_policy:{}", call.side.settings.maxmemory_policy)?;
    writeln!(text, "lazyfree_pending_objects:{}", call.shared.freer.pending())?;
    writeln!(text, "lazyfreed_objects:{}", call.shared.freer.freed())?;
    writeln!(text, "mem_fragmentation_ratio:{:.2}", rss as f64 / used.max(1) as f64)?;
    let (clients, journal) = (call.shared.client_memory.total(), memory::journal_bytes(call.shared));
    writeln!(text, "mem_not_counted_for_evict:{}", memory::uncounted_bytes(call.shared))?;
    writeln!(text, "mem_clients_normal:{clients}\nmem_clients_slaves:0\nmem_aof_buffer:{journal}")?;
    writeln!(text, "mem_allocator:{}", memory::allocator().map_or("libc", |allocator| allocator.name))
}

fn persistence(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    writeln!(text, "# Persistence")?;
    call.shared.loading.info(text)?;
    let snapshots = call.shared.snapshots.state();
    let seconds = |took: Option<Duration>| took.map_or(-1, |took| took.as_secs() as i64);
    let status = |failed: bool| if failed { "err" } else { "ok" };
    let (dump, rewrite) = (snapshots.runs_since(Snapshot::Dump), snapshots.runs_since(Snapshot::Rewrite));
    writeln!(
        text,
        "rdb_changes_since_last_save:{}",
        call.shared.dirty().saturating_sub(snapshots.dirty_at_last_dump)
    )?;
    writeln!(text, "rdb_bgsave_in_progress:{}", i32::from(dump.is_some()))?;
    writeln!(text, "rdb_last_save_time:{}", snapshots.last_dump_unix_s)?;
    writeln!(text, "rdb_last_bgsave_status:{}", status(snapshots.last_dump_failed))?;
    writeln!(text, "rdb_last_bgsave_time_sec:{}", seconds(snapshots.last_dump_took))?;
    writeln!(text, "rdb_current_bgsave_time_sec:{}", seconds(dump.map(|since| since.elapsed())))?;
    call.shared.loading.last_info(text)?;
    writeln!(text, "rdb_saves:{}", snapshots.dumps_done)?;
    writeln!(text, "snapshot_longest_hold_usec:{}", snapshots.longest_hold.as_micros())?;
    writeln!(text, "aof_enabled:{}", i32::from(call.side.settings.appendonly))?;
    writeln!(text, "aof_rewrite_in_progress:{}", i32::from(rewrite.is_some()))?;
    writeln!(text, "aof_rewrite_scheduled:{}", i32::from(snapshots.is_scheduled(Snapshot::Rewrite)))?;
    writeln!(text, "aof_last_rewrite_time_sec:{}", seconds(snapshots.last_rewrite_took))?;
    writeln!(text, "aof_current_rewrite_time_sec:{}", seconds(rewrite.map(|since| since.elapsed())))?;
    writeln!(text, "aof_last_bgrewrite_status:{}", status(snapshots.last_rewrite_failed))?;
    writeln!(text, "aof_rewrites:{}", snapshots.rewrites)?;
    let Some(journal) = &*call.shared.journal.load() else {
        return writeln!(text, "aof_last_write_status:ok");
    };
    let state = journal.state();
    let write_status = if state.failure.is_none() { "ok" } else { "err" };
    writeln!(text, "aof_last_write_status:{write_status}")?;
    writeln!(text, "aof_current_size:{}\naof_base_size:{}", state.size_bytes, state.base_size_bytes)?;
    writeln!(text, "aof_buffer_length:{}", state.pending_bytes)?;
    writeln!(text, "aof_pending_bio_fsync:{}", u8::from(state.unsynced_bytes > 0))?;
    writeln!(text, "aof_delayed_fsync:{}", state.delayed_fsync_total)
}

fn stats(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    use crate::pubsub::Kind;
    writeln!(text, "# Stats")?;
    let means = call.shared.rates.means();
    writeln!(text, "instantaneous_ops_per_sec:{}", means.commands_per_s)?;
    writeln!(text, "instantaneous_input_kbps:{:.2}", means.input_bytes_per_s as f64 / 1024.0)?;
    writeln!(text, "instantaneous_output_kbps:{:.2}", means.output_bytes_per_s as f64 / 1024.0)?;
    writeln!(text, "instantaneous_eventloop_cycles_per_sec:{}", means.cycles_per_s)?;
    writeln!(text, "instantaneous_eventloop_duration_usec:{}", means.cycle_us)?;
    // Of the loop that answers.
    let own = call.stats();
    writeln!(text, "eventloop_cycles:{}", own.cycles.get())?;
    writeln!(text, "eventloop_duration_sum:{}", own.cycle_nanos.get() / 1000)?;
    writeln!(text, "eventloop_duration_cmd_sum:{}", own.command_nanos.get() / 1000)?;
    let tracking = call.shared.keyspace.tracking();
    let (exceeded_ms, exceeding_ms) = call.shared.exceeded.millis(call.shared);
    let figures: [(&str, u64); 24] = [
        ("total_connections_received", sum(call, |s| &s.connections)),
        ("total_commands_processed", sum(call, |s| &s.commands)),
        ("total_net_input_bytes", sum(call, |s| &s.input_bytes)),
        ("total_net_output_bytes", sum(call, |s| &s.output_bytes)),
        ("rejected_connections", sum(call, |s| &s.rejected)),
        ("expired_keys", sum(call, |s| &s.expired)),
        ("expired_subkeys", sum(call, |s| &s.expired_fields)),
        ("evicted_keys", sum(call, |s| &s.evicted)),
        ("evicted_clients", sum(call, |s| &s.evicted_clients)),
        ("total_eviction_exceeded_time", exceeded_ms),
        ("current_eviction_exceeded_time", exceeding_ms),
        ("tracking_total_keys", tracking.keys_len() as u64),
        ("tracking_total_items", tracking.items_len() as u64),
        ("tracking_total_prefixes", call.shared.tracking.prefixes_len() as u64),
        ("keyspace_hits", sum(call, |s| &s.hits)),
        ("keyspace_misses", sum(call, |s| &s.misses)),
        ("total_error_replies", sum(call, |s| &s.errors)),
        ("client_query_buffer_limit_disconnections", sum(call, |s| &s.query_limit_closes)),
        ("client_output_buffer_limit_disconnections", sum(call, |s| &s.output_limit_closes)),
        ("total_published_messages", sum(call, |s| &s.published)),
        ("total_scripts_run", sum(call, |s| &s.scripts)),
        ("evicted_scripts", call.shared.scripts.cache.evicted()),
        ("script_restarts", sum(call, |s| &s.script_restarts)),
        ("protocol_errors", sum(call, |s| &s.protocol_errors)),
    ];
    for (name, value) in figures {
        writeln!(text, "{name}:{value}")?;
    }
    for (name, reason) in [
        ("auth", Reason::Auth),
        ("cmd", Reason::Command),
        ("key", Reason::Key),
        ("channel", Reason::Channel),
        ("tls_cert", Reason::Certificate),
    ] {
        writeln!(text, "acl_access_denied_{name}:{}", call.shared.acl.log.count(reason))?;
    }
    writeln!(text, "pubsub_channels:{}", call.shared.pubsub.len(Kind::Channel))?;
    writeln!(text, "pubsub_patterns:{}", call.shared.pubsub.len(Kind::Pattern))?;
    writeln!(text, "pubsubshard_channels:{}", call.shared.pubsub.len(Kind::Shard))?;
    writeln!(text, "monitor_clients:{}", call.shared.monitors_len.load(Relaxed))?;
    // What Redis forks for.
    let forks = call.shared.snapshots.state().begun;
    writeln!(
        text,
        "latest_fork_usec:0\ntotal_forks:{forks}\nsync_full:0\nsync_partial_ok:0\nsync_partial_err:0"
    )
}

/// Figures for who looks for what keeps the loops busy.
fn debug(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let max = |of: fn(&LoopStats) -> &Counter| call.shared.stats.iter().map(|stats| of(stats).get()).max();
    writeln!(text, "# Debug")?;
    writeln!(text, "eventloop_duration_aof_sum:{}", sum(call, |s| &s.journal_nanos) / 1000)?;
    writeln!(text, "eventloop_duration_cron_sum:{}", sum(call, |s| &s.cron_nanos) / 1000)?;
    writeln!(text, "eventloop_duration_max:{}", max(|s| &s.cycle_nanos_max).unwrap_or(0) / 1000)?;
    writeln!(text, "eventloop_cmd_per_cycle_max:{}", max(|s| &s.commands_in_cycle_max).unwrap_or(0))
}

/// Each command and subcommand that was called, under INFO's name for it.
pub(super) fn each_command(call: &Call<'_, '_>, mut show: impl FnMut(&str, &Total)) {
    for row in table::rows() {
        for spec in std::iter::once(row.spec).chain(row.spec.subcommands) {
            let total = Total::of(call.shared.stats.iter().map(|stats| stats.by_command.of(row, spec)));
            match std::ptr::eq(spec, row.spec) {
                true => show(spec.name, &total),
                false => show(&format!("{}|{}", row.spec.name, spec.name), &total),
            }
        }
    }
}

fn command_stats(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    writeln!(text, "# Commandstats")?;
    each_command(call, |name, total| {
        let Total { calls, rejected, failed, .. } = *total;
        if calls + rejected > 0 {
            let micros = total.nanos / 1000;
            let for_each = if calls == 0 { 0.0 } else { total.nanos as f64 / 1000.0 / calls as f64 };
            writeln!(
                text,
                "cmdstat_{name}:calls={calls},usec={micros},usec_per_call={for_each:.2},\
                 rejected_calls={rejected},failed_calls={failed}"
            )
            .expect("a String takes all");
        }
    });
    Ok(())
}

fn error_stats(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let mut totals = std::collections::BTreeMap::new();
    call.shared.stats.iter().for_each(|stats| stats.error_codes.add_to(&mut totals));
    writeln!(text, "# Errorstats")?;
    totals.iter().try_for_each(|(code, count)| writeln!(text, "errorstat_{code}:count={count}"))
}

fn latency_stats(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    writeln!(text, "# Latencystats")?;
    let percentiles = &call.side.settings.latency_percentiles;
    each_command(call, |name, total| {
        let shown: Vec<String> = percentiles
            .iter()
            .filter_map(|percent| {
                let micros = total.percentile(*percent)? as f64 / 1000.0;
                Some(format!("p{percent}={micros:.3}"))
            })
            .collect();
        if !shown.is_empty() {
            writeln!(text, "latency_percentiles_usec_{name}:{}", shown.join(","))
                .expect("a String takes all");
        }
    });
    Ok(())
}

fn replication(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    writeln!(text, "# Replication\nrole:master\nconnected_slaves:0\nmaster_failover_state:no-failover")?;
    writeln!(text, "master_replid:{}\nmaster_replid2:{}", call.shared.run_id, "0".repeat(40))?;
    writeln!(text, "master_repl_offset:0\nsecond_repl_offset:-1\nrepl_backlog_active:0")
}

fn cpu(_: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let (user, system) = memory::cpu_seconds();
    writeln!(text, "# CPU\nused_cpu_sys:{system:.6}\nused_cpu_user:{user:.6}")
}

fn keyspace(call: &Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    writeln!(text, "# Keyspace")?;
    let mut dbs = vec![(0, 0, 0); call.cx.dbs_len as usize];
    for id in call.cx.shard_ids() {
        // As above.
        let _ = call.cx.see_shard(id, |shard| {
            for (at, (keys, volatile, timed_hashes)) in (0..shard.dbs_len()).zip(&mut dbs) {
                if let Some(db) = shard.db(at) {
                    *keys += db.len();
                    *volatile += db.volatile_len();
                    *timed_hashes += db.timed_hashes_len();
                }
            }
        });
    }
    for (db, (keys, volatile, timed_hashes)) in dbs.into_iter().enumerate() {
        if keys > 0 {
            writeln!(text, "db{db}:keys={keys},expires={volatile},avg_ttl=0,subexpiry={timed_hashes}")?;
        }
    }
    Ok(())
}

/// Bytes as Redis prints them: `1.50M`.
fn human(bytes: u64) -> String {
    let bytes_f = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..0x10_0000 => format!("{:.2}K", bytes_f / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.2}M", bytes_f / 1_048_576.0),
        _ => format!("{:.2}G", bytes_f / 1_073_741_824.0),
    }
}
