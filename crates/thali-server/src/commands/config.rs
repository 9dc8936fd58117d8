//! CONFIG.

use std::sync::Arc;

use thali_commands::{ErrorReply, Flags, Flow, Group, Origin, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use crate::append_only;
use crate::call::Call;
use crate::config::Settings;
use crate::loading::LOADING;
use crate::mailbox::Message;
use crate::memory;
use crate::open_files;
use crate::ports::Numbers;
use crate::table::Handler;
use crate::tls::Tls;

const SUB: Spec = Spec {
    group: Group::Server,
    since: "2.0.0",
    arity: 2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    ..Spec::BASE
};
const CONFIG: Spec = Spec {
    name: "config",
    summary: "A container for server configuration commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "get",
            summary: "Returns the effective values of configuration parameters.",
            syntax: "parameter [parameter ...]",
            arity: -3,
            ..SUB
        },
        Spec {
            name: "set",
            summary: "Sets configuration parameters in-flight.",
            syntax: "parameter value [parameter value ...]",
            arity: -4,
            ..SUB
        },
        Spec { name: "resetstat", summary: "Resets the server's statistics.", ..SUB },
        Spec {
            name: "rewrite",
            summary: "Persists the effective configuration to file.",
            since: "2.8.0",
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            since: "5.0.0",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[(&CONFIG, Handler::Server(config))];

fn config(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[1].to_ascii_lowercase().as_slice() {
        b"get" => {
            let config = call.shared.config.lock();
            let patterns: Vec<String> =
                args[2..].iter().map(|p| String::from_utf8_lossy(p).to_lowercase()).collect();
            let mut found: Vec<(String, String)> = Vec::new();
            for pattern in &patterns {
                for pair in config.get(pattern) {
                    if !found.iter().any(|(name, _)| *name == pair.0) {
                        found.push(pair);
                    }
                }
            }
            reply.map(found.len());
            for (name, value) in found {
                reply.bulk(name.as_bytes());
                reply.bulk(value.as_bytes());
            }
        }
        b"set" => {
            if !args.len().is_multiple_of(2) {
                return Err(ErrorReply::wrong_arity("config|set"));
            }
            let pairs: Vec<(String, String)> = args[2..]
                .chunks_exact(2)
                .map(|pair| {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    (text(pair[0]).to_lowercase(), text(pair[1]))
                })
                .collect();
            set(call, &pairs)?;
            reply.ok();
        }
        b"resetstat" => {
            call.shared.stats.iter().for_each(|stats| stats.reset());
            call.shared.acl.log.reset_counts();
            call.shared.rates.reset();
            call.shared.freer.reset();
            call.shared.exceeded.reset();
            reply.ok();
        }
        b"rewrite" => {
            let result = {
                let config = call.shared.config.lock();
                config.rewrite(&call.shared.acl.config_lines(&config.settings().requirepass))
            };
            result.map_err(|error| ErrorReply::owned(format!("ERR {error}")))?;
            reply.ok();
        }
        _ => super::help(
            reply,
            "CONFIG",
            &[
                ("GET <pattern>", "Return parameters matching the glob-like <pattern> and their values."),
                ("SET <directive> <value>", "Set the configuration <directive> to <value>."),
                ("RESETSTAT", "Reset statistics reported by the INFO command."),
                ("REWRITE", "Rewrite the configuration file."),
            ],
        ),
    }
    Ok(Flow::Done)
}

fn refused(name: &str, why: &str) -> ErrorReply {
    ErrorReply::owned(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

/// What new TLS connections begin with, where one of `pairs` has to do with it: the files are read again, though
/// their names may be the same.
fn new_tls(pairs: &[(String, String)], settings: &Settings) -> Result<Option<Arc<Tls>>, ErrorReply> {
    let Some((name, _)) = pairs.iter().rfind(|(name, _)| name.starts_with("tls-")) else { return Ok(None) };
    if settings.tls.port == 0 {
        return Ok(None);
    }
    match Tls::read(&settings.tls) {
        Ok(tls) => Ok(Some(Arc::new(tls))),
        Err(error) => {
            tracing::warn!("{error} TLS stays as it was");
            Err(refused(name, "Unable to update TLS configuration. Check server logs."))
        }
    }
}

/// Listens where the new settings say; nothing else has changed yet, so a refusal leaves all as it was.
fn change_ports(call: &Call<'_, '_>, settings: &Settings) -> Result<(), ErrorReply> {
    let before = call.shared.settings.load();
    let (is_same_port, is_same_tls_port) =
        (before.port == settings.port, before.tls.port == settings.tls.port);
    if is_same_port && is_same_tls_port && before.bind == settings.bind {
        return Ok(());
    }
    let mut ports = call.shared.ports.lock();
    // The start took any port for 0; a change of something else keeps it.
    let plain = if is_same_port { ports.numbers().plain } else { settings.port };
    let numbers = Numbers { plain, tls: settings.tls.port };
    let [first, spare] = ports.change(&settings.bind, numbers, settings.tcp_backlog).map_err(|error| {
        tracing::warn!(%error, "the ports stay as they were");
        match (is_same_port, is_same_tls_port) {
            (true, true) => refused("bind", "Failed to bind to specified addresses."),
            (false, _) => refused("port", "Unable to listen on this port. Check server logs."),
            (true, false) => refused("tls-port", "Unable to listen on this port. Check server logs."),
        }
    })?;
    // With the lock held: who changes them next comes after this in the loops' mail.
    call.shared.mailboxes[0].send(Message::Ports(first));
    call.shared.mailboxes[settings.loops].send(Message::Ports(spare));
    Ok(())
}

fn set(call: &mut Call<'_, '_>, pairs: &[(String, String)]) -> Result<(), ErrorReply> {
    let room = open_files::clients_max();
    if pairs.iter().any(|(name, value)| name == "maxclients" && value.parse().is_ok_and(|n: usize| n > room))
    {
        let why = format!(
            "The operating system is not able to handle the specified number of clients, try with {room}"
        );
        return Err(refused("maxclients", &why));
    }
    // Their files are being read. SOURCE: Valkey 8.0 `config.c`, DENY_LOADING_CONFIG.
    if call.shared.loading.is_on() && pairs.iter().any(|(name, _)| name == "dir" || name == "appendonly") {
        return Err(LOADING);
    }
    let is_local = call.state.as_ref().is_some_and(|state| state.is_local);
    // Turning the append-only file off takes all shards, which must be asked for first; a transaction that holds
    // some comes to its end before.
    let holds_none = call.cx.locked.ids().is_empty();
    let locked = match holds_none && pairs.iter().any(|(name, _)| name == "appendonly") {
        true => Some(super::all_shards(call)?),
        false => None,
    };
    let (before, settings) = {
        let mut config = call.shared.config.lock();
        let mut changed = config.clone();
        changed.set_as(pairs, is_local).map_err(|error| ErrorReply::owned(error.to_string()))?;
        let settings = Arc::new(changed.settings());
        let tls = new_tls(pairs, &settings)?;
        let oom_score = &call.shared.oom_score;
        oom_score
            .apply(&settings)
            .map_err(|error| refused("oom-score-adj", &format!("Failed to set the score: {error}")))?;
        // Before a port for it: nobody is accepted without.
        let tls_before = tls.map(|tls| call.shared.tls.swap(Some(tls)));
        change_ports(call, &settings).inspect_err(|_| {
            if let Some(before) = tls_before {
                call.shared.tls.store(before);
            }
            if let Err(error) = oom_score.apply(&call.shared.settings.load()) {
                tracing::warn!(%error, "oom-score-adj stays changed");
            }
        })?;
        *config = changed;
        // With the lock held, so that the last change of several is the last here, too.
        (call.shared.settings.swap(Arc::clone(&settings)), settings)
    };
    let (had_journal, has_journal) = (before.appendonly, settings.appendonly);
    if let Some(journal) = &*call.shared.journal.load() {
        journal.set_policy(settings.appendfsync);
        journal.set_keeps_history(settings.aof_disable_auto_gc);
    }
    if pairs.iter().any(|(name, _)| name == "requirepass") {
        call.shared.acl.set_default_password(&settings.requirepass);
    }
    call.shared.crew.set_auto(call.shared, settings.loops_together);
    call.shared.latency.set_threshold_ms(settings.latency_monitor_threshold_ms);
    let used = memory::used_bytes();
    if settings.maxmemory < used && settings.maxmemory != 0 && settings.maxmemory != before.maxmemory {
        tracing::warn!(
            "The new maxmemory value set via CONFIG SET ({}) is smaller than the current memory usage ({used}). \
             This will result in key eviction and/or the inability to accept new write commands depending on the \
             maxmemory-policy.",
            settings.maxmemory
        );
    }
    call.shared.snapshots.set_pause(settings.rdb_key_save_delay);
    // This loop takes them with its next message, like the others: the running command keeps its own.
    call.shared.broadcast(|| Message::Settings);
    // Then, before its next command.
    call.side.evictor.goes_on = settings.maxmemory > 0;
    if had_journal && !has_journal {
        match locked {
            Some(locked) => append_only::turn_off(call.shared, locked),
            None => call.side.local.push(Message::AppendOnlyOff),
        }
    } else {
        drop(locked);
    }
    if before.aof_disable_auto_gc && !settings.aof_disable_auto_gc && holds_none {
        call.shared.journal.load_full().inspect(|journal| journal.delete_history());
    }
    if has_journal && !had_journal {
        // Its first base, with which it begins.
        let waits = call.shared.snapshots.ask_for_new_base();
        if waits || call.cx.origin == Origin::Unit {
            // Who watches logs of Redis looks for its words.
            tracing::info!("appendonly is yes: An AOF background was scheduled to start when possible.");
        }
    }
    Ok(())
}
