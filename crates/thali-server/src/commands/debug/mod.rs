//! DEBUG: what tests of servers and clients ask of a server that serves nobody else.

mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use thali_commands::{Access, ErrorReply, Flags, Flow, Group, Keys, Outcome, Spec, integer, is_word};
use thali_data::double::parse_double;
use thali_data::{New, Str};
use thali_journal::{Journal, JournalError, Recovery};
use thali_keyspace::{Entry as KeyEntry, Locked, Value};
use thali_rdb::{Encoder, Version};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::digest::Digest;
use crate::table::Handler;
use crate::{append_only, loading, snapshots, tracking};

const DEBUG: Spec = Spec {
    name: "debug",
    summary: "A container for debugging commands.",
    syntax: "subcommand [arg [arg ...]]",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    keys: Keys::Found(|args, push| {
        let looks_at_one = ["OBJECT", "LISTPACK", "QUICKLIST"].iter().any(|sub| is_word(args[1], sub));
        if args.len() > 2 && looks_at_one {
            push(2, Access::READ);
        }
        if args.len() > 2 && args[1].eq_ignore_ascii_case(b"DIGEST-VALUE") {
            (2..args.len()).for_each(|at| push(at, Access::READ));
        }
    }),
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[(&DEBUG, Handler::Server(debug))];

/// DEBUG SLEEP keeps one loop asleep; longer would look like a fault.
const SLEEP_MAX_S: f64 = 60.0;

fn debug(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let is_local = call.state.as_ref().is_some_and(|state| state.is_local);
    let allowed = match call.side.settings.enable_debug_command.as_str() {
        "yes" => true,
        "local" => is_local,
        _ => false,
    };
    if !allowed {
        return Err(ErrorReply::new(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
             from a local connection, otherwise you need to set this option in the configuration file, and then \
             restart the server.",
        ));
    }
    run(call, args, reply)?;
    Ok(Flow::Done)
}

/// What DEBUG turns on and off. Redis's defaults are all false here.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    /// PAUSE-CRON 1.
    pub pauses_cron: AtomicBool,
    /// SET-SKIP-CHECKSUM-VALIDATION 1.
    pub trusts_checksums: AtomicBool,
    /// SET-DISABLE-DENY-SCRIPTS 1: scripts may call what is kept from them otherwise.
    pub scripts_call_all: AtomicBool,
}

fn run(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let switches = &call.shared.switches;
    match (args[1].to_ascii_lowercase().as_slice(), args.len()) {
        (b"sleep", 3) => {
            let seconds = parse_double(args[2]).filter(|s| (0.0..=SLEEP_MAX_S).contains(s));
            let seconds = seconds.ok_or(ErrorReply::NOT_FLOAT)?;
            std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
            reply.ok();
        }
        (b"set-disable-deny-scripts", 3) => set(&switches.scripts_call_all, args[2] != b"0", reply),
        (b"set-active-expire", 3) => set(&call.shared.active_expire, args[2] != b"0", reply),
        (b"pause-cron", 3) => set(&switches.pauses_cron, args[2] != b"0", reply),
        (b"set-skip-checksum-validation", 3) => set(&switches.trusts_checksums, args[2] != b"0", reply),
        // Things that are not here, or are always so.
        (b"jmap" | b"change-repl-id", 2)
        | (b"quicklist-packed-threshold" | b"dict-resizing" | b"aof-flush-sleep" | b"pause-after-fork", 3)
        | (b"replybuffer", 4) => reply.ok(),
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args[2]));
            reply.ok();
        }
        (b"panic", 2) => panic!("DEBUG PANIC called"),
        (b"error", 3) => {
            let line = args[2].iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte });
            return Err(ErrorReply::owned(line.collect::<Vec<u8>>()));
        }
        (b"protocol", 3) => samples::write(args[2], reply)?,
        (b"digest", 2) => {
            let locked = super::all_shards(call)?;
            reply.simple(&Digest::of_all(&locked, call.side.settings.databases).to_string());
        }
        (b"digest-value", _) => {
            reply.array(args.len() - 2);
            for key in &args[2..] {
                let digest = call.cx.peek(key).map_or_else(Digest::default, Digest::of_entry);
                reply.simple(&digest.to_string());
            }
        }
        (b"loadaof", 2) => load_aof(call, reply)?,
        (b"reload", _) => reload(call, &args[2..], reply)?,
        (b"populate", 3..=5) => populate(call, &args[2..], reply)?,
        (b"config-rewrite-force-all", 2) => {
            let result = {
                let config = call.shared.config.lock();
                config.rewrite_all(&call.shared.acl.config_lines(&config.settings().requirepass))
            };
            result.map_err(|error| {
                ErrorReply::owned(format!("ERR CONFIG-REWRITE-FORCE-ALL failed: {error}"))
            })?;
            reply.ok();
        }
        (b"object", 3 | 4) => {
            // Expired or not, and without removing it.
            let db = call.cx.locked.shard(args[2]).db(call.cx.db);
            let Some((entry, access)) = db.and_then(|db| db.find(args[2])) else {
                return Err(ErrorReply::NO_SUCH_KEY);
            };
            let fast = args.len() == 4 && is_word(args[3], "FAST");
            let used = call.cx.uses.describe(access.get());
            reply.simple(&describe(entry, &used, fast, call.side.settings.limits.list_max_listpack_size));
        }
        (b"listpack" | b"quicklist", 3 | 4) => {
            let Some(entry) = call.cx.peek(args[2]) else { return Err(ErrorReply::NO_SUCH_KEY) };
            let wanted = if is_word(args[1], "LISTPACK") { "listpack" } else { "quicklist" };
            if entry.value.encoding().trim_end_matches("ex") != wanted {
                return Err(ErrorReply::owned(format!("ERR Not a {wanted} encoded object.")));
            }
            reply.simple("the structure is Thali's own and shown nowhere");
        }
        (b"help", 2) => super::help(reply, "DEBUG", HELP),
        _ => return Err(ErrorReply::unknown_subcommand("debug", args[1])),
    }
    Ok(())
}

fn set(switch: &AtomicBool, on: bool, reply: &mut Reply<'_>) {
    switch.store(on, Relaxed);
    reply.ok();
}

const HELP: &[(&str, &str)] = &[
    ("CONFIG-REWRITE-FORCE-ALL", "Rewrite the configuration file with every directive."),
    ("DIGEST", "Reply with a hash of all data."),
    ("DIGEST-VALUE <key> [<key> ...]", "Reply with a hash of each value."),
    ("ERROR <text>", "Reply with <text> as an error."),
    ("LOADAOF", "Load the data from the append-only file once more."),
    ("LOG <message>", "Write <message> to the log."),
    ("OBJECT <key> [FAST]", "Describe the value at <key>."),
    ("PANIC", "End the process as a bug would."),
    ("PAUSE-CRON <0|1>", "Stop what is done ten times a second."),
    ("POPULATE <count> [<prefix>] [<size>]", "Make keys that are not written to the append-only file."),
    ("PROTOCOL <type>", "Reply with a value of a type of the protocol."),
    ("RELOAD [MERGE] [NOFLUSH] [NOSAVE]", "Take the data through a dump and back."),
    ("SET-ACTIVE-EXPIRE <0|1>", "0: keys expire only when somebody asks for them."),
    ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", "1: RESTORE takes payloads whatever their checksum is."),
    ("SLEEP <seconds>", "Keep this event loop waiting."),
];

/// What DEBUG OBJECT says of a value, of whose uses `used` speaks. Addresses are not shown.
fn describe(entry: &KeyEntry, used: &str, fast: bool, list_max_listpack_size: i32) -> String {
    use std::fmt::Write;
    let mut text = format!("Value at:0x0 refcount:1 encoding:{}", entry.value.encoding());
    if !fast {
        // Behind the type, in front of version and checksum.
        let len = Encoder::new(Version::V10).dump(&entry.value).len() - 11;
        let _ = write!(text, " serializedlength:{len}");
    }
    let _ = write!(text, " {used}");
    if let Value::List(list) = &entry.value
        && entry.value.encoding() == "quicklist"
    {
        let nodes = list.nodes().len();
        let average = list.len() as f64 / nodes.max(1) as f64;
        let _ = write!(
            text,
            " ql_nodes:{nodes} ql_avg_node:{average:.2} ql_listpack_max:{list_max_listpack_size} ql_compressed:0"
        );
        if !fast {
            let bytes: usize = list.nodes().map(|node| node.bytes()).sum();
            let _ = write!(text, " ql_uncompressed_size:{bytes}");
        }
    }
    text
}

/// DEBUG POPULATE count [prefix] [size]: keys `prefix:n` with the value `value:n`, cut or padded with zeros to
/// `size` bytes. Keys that are there stay. Nothing of it is journaled.
fn populate(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let positive = |arg: &[u8]| {
        let out_of_range = ErrorReply::new("ERR value is out of range, must be positive");
        usize::try_from(integer(arg)?).map_err(|_| out_of_range)
    };
    let count = positive(args[0])?;
    let prefix = args.get(1).copied().unwrap_or(b"key");
    let size = args.get(2).map(|size| positive(size)).transpose()?.unwrap_or(0);
    let (db, now_ms, uses) = (call.cx.db, call.side.now_ms, call.cx.uses);
    let mut locked = super::all_shards(call)?;
    for n in 0..count {
        let key = [prefix, b":", n.to_string().as_bytes()].concat();
        let mut value = format!("value:{n}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        let table = locked.shard_mut(&key).db_mut(db);
        if table.get(&key).is_none_or(|entry| entry.is_expired(now_ms)) {
            table.insert(&key, New::with_bytes(KeyEntry::new(Value::Str(Str::new())), &value), &uses);
        }
    }
    reply.ok();
    Ok(())
}

/// DEBUG RELOAD [NOSAVE] [NOFLUSH] [MERGE]: the data through a dump and back. Others see the keyspace fill
/// again meanwhile.
fn reload(call: &mut Call<'_, '_>, options: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let has = |name: &str| options.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()));
    if !options.iter().all(|option| ["NOSAVE", "NOFLUSH", "MERGE"].iter().any(|name| is_word(option, name))) {
        return Err(ErrorReply::new("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."));
    }
    if !has("nosave") && call.shared.snapshots.dump_and_wait().is_err() {
        return Err(ErrorReply::new("ERR the dump failed, see the log"));
    }
    let loading = call.shared.loading.begin();
    if !has("noflush") {
        let mut locked = super::all_shards(call)?;
        empty(call, &mut locked);
        forget(call, locked);
    }
    let loaded = loading::load_dump(call.shared, call.side.now_ms, has("merge"), &|| false);
    drop(loading);
    loaded.and_then(|loaded| loaded.ok_or("there is no dump".into())).map_err(|why: String| {
        tracing::error!(why, "DEBUG RELOAD lost data");
        ErrorReply::new("ERR Error trying to load the RDB dump, check server logs.")
    })?;
    reply.ok();
    Ok(())
}

/// DEBUG LOADAOF: the data from the append-only file once more; one that is off is only read.
fn load_aof(call: &mut Call<'_, '_>, reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let mut locked = super::all_shards(call)?;
    if call.shared.snapshots.state().runs_since(snapshots::Kind::Rewrite).is_some() {
        return Err(ErrorReply::new("ERR the append-only file is being rewritten"));
    }
    let journal = append_only::take_out(call.shared);
    let files = match &journal {
        Some(_) => None,
        None => match append_only::look(call.shared) {
            Ok(Some(files)) => Some(files),
            Ok(None) => return Err(ErrorReply::new("ERR there is no append-only file")),
            Err(error) => return Err(ErrorReply::owned(format!("ERR {error}"))),
        },
    };
    let _loading = call.shared.loading.begin();
    empty(call, &mut locked);
    forget(call, locked);
    if let Err(why) = load_again(call, journal, files) {
        // The data is gone from memory, and what is on the disk cannot be read.
        tracing::error!(why, "DEBUG LOADAOF cannot load the append-only file; the process ends");
        std::process::exit(1);
    }
    tracing::info!("Append Only File loaded by DEBUG LOADAOF");
    reply.ok();
    Ok(())
}

/// Opens a journal once more that was taken out, or reads files.
fn load_again(
    call: &Call<'_, '_>,
    journal: Option<Arc<Journal>>,
    files: Option<Recovery>,
) -> Result<(), String> {
    let (shared, now_ms) = (call.shared, call.side.now_ms);
    let text = |error: JournalError| error.to_string();
    if let Some(journal) = journal {
        journal.close().map_err(text)?;
        if !append_only::let_go(journal) {
            return Err("somebody keeps the file open".into());
        }
        append_only::open(shared, now_ms, &|| false).map_err(text)?;
    }
    if let Some(files) = files {
        append_only::read(shared, files, now_ms, &|| false).map_err(text)?;
    }
    Ok(())
}

/// Tells those who cache that all keys are gone, and lets go of the shards.
fn forget(call: &mut Call<'_, '_>, mut locked: Locked<'_>) {
    let forgotten = locked.forget_readers();
    tracking::tell_all(call.shared, call.side);
    drop(locked);
    drop(forgotten);
}

/// Takes all keys and libraries out.
fn empty(call: &Call<'_, '_>, locked: &mut Locked<'_>) {
    call.shared.functions.put(Default::default());
    let mut emptied = Vec::new();
    for (_, shard) in locked.shards_mut() {
        for db in 0..shard.dbs_len() {
            let old = shard.take_db(db);
            emptied.extend(shard.retire(old));
        }
    }
}
