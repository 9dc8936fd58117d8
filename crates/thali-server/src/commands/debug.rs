//! DEBUG, LATENCY, MEMORY, SLOWLOG, LOLWUT: as far as clients and their tests ask.

use thali_commands::{Access, ErrorReply, Flags, Flow, Group, Keys, Outcome, Spec, is_word};
use thali_data::double::parse_double;
use thali_keyspace::Locked;
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::digest::Digest;
use crate::table::Handler;
use crate::{append_only, loading, snapshots};

const DEBUG: Spec = Spec {
    name: "debug",
    summary: "A container for debugging commands.",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    keys: Keys::Found(|args, push| {
        if args.len() == 3 && args[1].eq_ignore_ascii_case(b"OBJECT") {
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
    match args[1].to_ascii_lowercase().as_slice() {
        b"sleep" if args.len() == 3 => {
            let seconds = parse_double(args[2]).filter(|s| (0.0..=SLEEP_MAX_S).contains(s));
            let seconds = seconds.ok_or(ErrorReply::NOT_FLOAT)?;
            std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
            reply.ok();
        }
        b"jmap" | b"set-active-expire" | b"set-disable-deny-scripts" | b"quicklist-packed-threshold" => {
            reply.ok()
        }
        b"digest" if args.len() == 2 => {
            let locked = super::all_shards(call)?;
            reply.simple(&Digest::of_all(&locked, call.side.settings.databases).to_string());
        }
        b"digest-value" => {
            reply.array(args.len() - 2);
            for key in &args[2..] {
                let digest = call.cx.peek(key).map_or_else(Digest::default, Digest::of_entry);
                reply.simple(&digest.to_string());
            }
        }
        b"reload" => reload(call, &args[2..], reply)?,
        b"loadaof" => load_aof(call, reply)?,
        b"object" if args.len() == 3 => {
            let Some(entry) = call.cx.peek(args[2]) else { return Err(ErrorReply::NO_SUCH_KEY) };
            let encoding = entry.value.encoding();
            reply.simple(&format!(
                "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:0 lru:0 lru_seconds_idle:0"
            ));
        }
        _ => {
            let sub = String::from_utf8_lossy(args[1]).into_owned();
            return Err(ErrorReply::owned(format!("ERR unknown subcommand '{sub}'. Try DEBUG HELP.")));
        }
    }
    Ok(Flow::Done)
}

/// DEBUG RELOAD [NOSAVE] [NOFLUSH] [MERGE]: the data through a dump and back. Others see the keyspace fill
/// again meanwhile.
fn reload(call: &Call<'_, '_>, options: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let has = |name: &str| options.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()));
    if !options.iter().all(|option| ["NOSAVE", "NOFLUSH", "MERGE"].iter().any(|name| is_word(option, name))) {
        return Err(ErrorReply::new("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."));
    }
    if !has("nosave") && call.shared.snapshots.dump_and_wait().is_err() {
        return Err(ErrorReply::new("ERR the dump failed, see the log"));
    }
    let loading = call.shared.loading.begin();
    if !has("noflush") {
        empty(&mut super::all_shards(call)?);
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

/// DEBUG LOADAOF: the data from the append-only file once more.
fn load_aof(call: &Call<'_, '_>, reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let mut locked = super::all_shards(call)?;
    let is_rewriting = call.shared.snapshots.state().runs_since(snapshots::Kind::Rewrite).is_some();
    let journal = if is_rewriting { None } else { append_only::take_out(call.shared) };
    let Some(journal) = journal else {
        return Err(ErrorReply::new("ERR there is no append-only file, or it is being rewritten"));
    };
    let _loading = call.shared.loading.begin();
    empty(&mut locked);
    drop(locked);
    let closed = journal.close().map_err(|error| error.to_string());
    let is_free = append_only::let_go(journal);
    let opened = closed.and_then(|()| match is_free {
        true => {
            append_only::open(call.shared, call.side.now_ms, &|| false).map_err(|error| error.to_string())
        }
        false => Err("somebody keeps the file open".into()),
    });
    if let Err(why) = opened {
        // The data is gone from memory, and what is on the disk cannot be read.
        tracing::error!(why, "DEBUG LOADAOF cannot load the append-only file; the process ends");
        std::process::exit(1);
    }
    tracing::info!("Append Only File loaded by DEBUG LOADAOF");
    reply.ok();
    Ok(())
}

/// Takes all keys out.
fn empty(locked: &mut Locked<'_>) {
    let mut emptied = Vec::new();
    for (_, shard) in locked.shards_mut() {
        for db in 0..shard.dbs_len() {
            let old = shard.take_db(db);
            emptied.extend(shard.retire(old));
        }
    }
}
