//! DEBUG, LATENCY, MEMORY, SLOWLOG, LOLWUT: as far as clients and their tests ask.

use thali_commands::{Access, ErrorReply, Flags, Flow, Group, Keys, Outcome, Spec, is_word};
use thali_data::double::parse_double;
use thali_keyspace::Locked;
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::digest::Digest;
use crate::functions::{LibrarySet, Loader};
use crate::loading;
use crate::table::Handler;

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
            let locked = all_shards(call)?;
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

/// All shards, for a command that runs by itself.
fn all_shards<'c>(call: &Call<'c, '_>) -> Result<Locked<'c>, ErrorReply> {
    // Who holds shards may not wait for others.
    if !call.cx.locked.ids().is_empty() {
        return Err(ErrorReply::new("ERR not within a transaction"));
    }
    let (busy, own) = (&call.shared.busy, call.side.event_loop);
    call.shared.keyspace.lock_all(&|| busy.elsewhere(own)).ok_or_else(|| busy.refusal(own))
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
    let mut kept = call.shared.functions.current();
    if !has("noflush") {
        kept = Default::default();
        let mut locked = all_shards(call)?;
        let mut emptied = Vec::new();
        for (_, shard) in locked.shards_mut() {
            for db in 0..shard.dbs_len() {
                let old = shard.take_db(db);
                emptied.extend(shard.retire(old));
            }
        }
        drop(locked);
    }
    let failed = |why: String| {
        tracing::error!(why, "DEBUG RELOAD lost data");
        ErrorReply::new("ERR Error trying to load the RDB dump, check server logs.")
    };
    let mut functions =
        Loader::new(LibrarySet::clone(&kept), &call.shared.scripts.watchdog).map_err(failed)?;
    let (settings, keyspace) = (&call.side.settings, &call.shared.keyspace);
    let loaded = loading::load_dump(settings, keyspace, call.side.now_ms, has("merge"), &mut functions);
    loaded.and_then(|loaded| loaded.ok_or("there is no dump".into())).map_err(failed)?;
    let held = all_shards(call)?;
    call.shared.functions.put(functions.finish());
    drop(held);
    reply.ok();
    Ok(())
}
