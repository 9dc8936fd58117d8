//! From a request to a run: find the command, pass the gates, run it or queue it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use thali_commands::{ErrorReply, Flags, Flow, Origin, Spec};
use thali_resp::Reply;

use crate::acl;
use crate::call::{Call, Core, Shared};
use crate::commands::monitor;
use crate::latency::event;
use crate::loading::LOADING;
use crate::migration;
use crate::session::{Close, Queued, Replies, SessionState, Watched, Watching, borrowed, owned};
use crate::table::{self, Handler, Row, SessionVerb};
use crate::unit::{self, Leftover, Plan};
use crate::{clients, eviction, pause, tracking};

/// What the gates have said to a request; `None`: they are still to be asked. Once: they count and log.
pub(crate) type Asked = Option<Result<(), ErrorReply>>;

/// Runs one request and appends its reply to `out`.
pub(crate) fn dispatch(
    core: &mut Core,
    state: &mut SessionState,
    args: &[&[u8]],
    asked: Asked,
    out: &mut Vec<u8>,
) {
    if core.shared.names.is_empty() {
        return run(core, state, args, (resolve(args), asked), out);
    }
    match core.shared.names.translate(args) {
        Ok(args) => run(core, state, &args, (resolve(&args), asked), out),
        Err(error) => run(core, state, args, (Err(error), asked), out),
    }
}

/// The command that a request is for, or what is wrong with it.
type Found = Result<(&'static Row, &'static Spec), ErrorReply>;

fn run(
    core: &mut Core,
    state: &mut SessionState,
    args: &[&[u8]],
    (found, asked): (Found, Asked),
    out: &mut Vec<u8>,
) {
    let (start, commands) = (out.len(), core.side.commands);
    let outcome = admit_and_run(core, state, args, (found, asked), out);
    if state.is_postponed {
        return out.truncate(start);
    }
    core.shared.stats_of(core.side.event_loop).commands.add(1);
    clients::add(&state.info.commands, core.side.commands - commands);
    if let Err(error) = outcome {
        out.truncate(start);
        state.error(out, &error);
    }
    state.apply_reply_mode(out, start, args[0]);
    if state.tracked.is_some() {
        tracking::after_command(state, args[0]);
    }
}

fn admit_and_run(
    core: &mut Core,
    state: &mut SessionState,
    args: &[&[u8]],
    (found, asked): (Found, Asked),
    out: &mut Vec<u8>,
) -> Result<(), ErrorReply> {
    let (row, spec) = match found {
        Ok(found) => found,
        Err(_) if is_http(args[0]) => {
            // A browser was talked into it; the body that follows may hold commands.
            tracing::warn!(client = state.info.id, "connection closed: it speaks HTTP to the store's port");
            state.close = Close::Now;
            return Ok(());
        }
        Err(error) => {
            let may_ask = state.is_authenticated || core.shared.acl.lets_everybody_in();
            let error = if may_ask { error } else { NO_AUTH };
            if may_ask {
                state.doom_transaction();
            }
            return Err(reject(core, table::find(args[0]).map(|row| (row, row.spec)), error));
        }
    };
    if let Err(error) = asked.unwrap_or_else(|| gates(core, state, row, spec, args)) {
        state.doom_transaction();
        return Err(reject(core, Some((row, spec)), error));
    }
    if core.shared.pause.is_set()
        && pause::holds_back(&core.shared, core.side.now_ms, state, (row, spec), args)
    {
        state.is_postponed = true;
        return Ok(());
    }
    // What is queued is shown when it runs, and EXEC behind it.
    let is_queued = state.transaction.is_some() && !matches!(row.handler, Handler::Session(_));
    let is_exec = matches!(row.handler, Handler::Session(SessionVerb::Exec));
    if core.shared.monitors_len.load(Relaxed) > 0 && !is_queued && !is_exec {
        monitor::feed(core, state, spec, args);
    }
    state.note_command(row, spec);
    if row.spec.name == "ping" && state.is_confined_to_pubsub() {
        core.side.commands += 1;
        return ping_subscriber(state, args, out);
    }
    if let Handler::Session(verb) = row.handler {
        let begun = core.side.clock;
        let outcome = run_verb(core, state, verb, args, out);
        let nanos = core.side.lap(begun);
        core.side.commands += 1;
        state.publish_info();
        let stats = core.shared.stats_of(core.side.event_loop);
        stats.by_command.of(row, spec).record(1, nanos, core.side.settings.latency_tracking);
        stats.command_nanos.add(nanos);
        if let Err(error) = &outcome {
            stats.note_failure(row, spec, error);
        }
        core.shared.note_latency(&core.side, event::COMMAND, Duration::from_nanos(nanos));
        return outcome;
    }
    if state.transaction.is_some() {
        return queue(state, row, spec, args, out);
    }
    unit::run_single(core, state, row, spec, args, out).map_err(|busy| reject(core, Some((row, spec)), busy))
}

/// Counts an error that kept a command from running.
fn reject(core: &Core, command: Option<(&Row, &Spec)>, error: ErrorReply) -> ErrorReply {
    let stats = core.shared.stats_of(core.side.event_loop);
    stats.note_error(error.text());
    if let Some((row, spec)) = command {
        stats.by_command.of(row, spec).rejected.add(1);
    }
    error
}

pub(crate) const OUT_OF_MEMORY: ErrorReply =
    ErrorReply::new("OOM command not allowed when used memory > 'maxmemory'.");

/// Whether this is a line of an HTTP request rather than a command.
fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

const NO_AUTH: ErrorReply = ErrorReply::new("NOAUTH Authentication required.");

/// Finds the command, or the subcommand, and checks the count of arguments.
pub(crate) fn resolve(args: &[&[u8]]) -> Found {
    resolve_row(table::find(args[0]), args)
}

/// As [`resolve`], where the name has been looked up.
pub(crate) fn resolve_row(row: Option<&'static Row>, args: &[&[u8]]) -> Found {
    let Some(row) = row else { return Err(unknown_command(args)) };
    let spec = match args.get(1) {
        Some(name) if !row.spec.subcommands.is_empty() => {
            row.spec.subcommand(args).ok_or_else(|| ErrorReply::unknown_subcommand(row.spec.name, name))?
        }
        _ => row.spec,
    };
    if !spec.arity_fits(args.len()) {
        return Err(ErrorReply::wrong_arity(&table::full_name(row, spec)));
    }
    Ok((row, spec))
}

/// Shows names and arguments as C strings, so up to a NUL, and 128 bytes of the arguments in all.
/// SOURCE: Redis 7.2 `server.c`, commandCheckExistence.
pub(crate) fn unknown_command(args: &[&[u8]]) -> ErrorReply {
    const SHOWN_MAX: usize = 128;
    let shown = |bytes: &'_ [u8], max: usize| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes[..end.min(max)].to_vec()
    };
    let mut list = Vec::new();
    for arg in &args[1..] {
        if list.len() >= SHOWN_MAX {
            break;
        }
        list.extend([b"'", &*shown(arg, SHOWN_MAX - list.len()), b"' "].concat());
    }
    let name = shown(args[0], SHOWN_MAX);
    ErrorReply::owned([b"ERR unknown command '", &*name, b"', with args beginning with: ", &list].concat())
}

/// What stands between a well-formed request and its run.
pub(crate) fn gates(
    core: &mut Core,
    state: &SessionState,
    row: &Row,
    spec: &Spec,
    args: &[&[u8]],
) -> Result<(), ErrorReply> {
    if !state.is_authenticated && !spec.flags.contains(Flags::NO_AUTH) && !core.shared.acl.lets_everybody_in()
    {
        return Err(NO_AUTH);
    }
    if state.is_confined_to_pubsub() && !is_allowed_to_subscribers(row.spec.name) {
        return Err(ErrorReply::owned(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed \
             in this context",
            row.spec.name
        )));
    }
    if state.transaction.is_some() && spec.flags.contains(Flags::NO_MULTI) {
        return Err(ErrorReply::new("ERR Command not allowed inside a transaction"));
    }
    if !state.user.may_all() {
        acl::gate(&core.shared, &core.side, state, (row, spec, args))?;
    }
    if core.shared.loading.is_on() && !is_allowed_while_loading(state, row, spec) {
        return Err(LOADING);
    }
    // What a script or function declares counts as its command's own flags.
    let declares = |shared: &Shared, what: fn(&thali_script::Flags) -> bool| {
        crate::scripts::runs_scripts(row.spec.name)
            && crate::scripts::declared_flags(shared, row.spec.name, args).is_some_and(|flags| what(&flags))
    };
    if core.side.settings.maxmemory > 0 {
        let takes_memory =
            spec.flags.contains(Flags::DENYOOM) || declares(&core.shared, thali_script::Flags::needs_memory);
        if eviction::refuses(core, state, row, takes_memory) {
            return Err(OUT_OF_MEMORY);
        }
    }
    // No shard is held here, so waiting for room in the journal hurts nobody.
    if spec.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE))
        && let Err(refusal) = core.shared.admit_write()
        && (spec.flags.contains(Flags::WRITE) || declares(&core.shared, thali_script::Flags::may_write))
    {
        return Err(ErrorReply::owned(refusal.as_bytes()));
    }
    Ok(())
}

/// EXEC is, where all that was queued is.
fn is_allowed_while_loading(state: &SessionState, row: &Row, spec: &Spec) -> bool {
    let is_allowed = |queued: &Queued| {
        let args = borrowed(&queued.args);
        queued.row.spec.subcommand(&args).unwrap_or(queued.row.spec).flags.contains(Flags::LOADING)
    };
    spec.flags.contains(Flags::LOADING)
        && (row.spec.name != "exec"
            || state.transaction.as_ref().is_none_or(|transaction| transaction.queue.iter().all(is_allowed)))
}

fn is_allowed_to_subscribers(name: &str) -> bool {
    matches!(
        name,
        "subscribe"
            | "unsubscribe"
            | "psubscribe"
            | "punsubscribe"
            | "ssubscribe"
            | "sunsubscribe"
            | "ping"
            | "quit"
            | "reset"
    )
}

/// In RESP2 a subscriber takes every reply for a push, and so PING answers in the shape of one.
fn ping_subscriber(state: &SessionState, args: &[&[u8]], out: &mut Vec<u8>) -> Result<(), ErrorReply> {
    if args.len() > 2 {
        return Err(ErrorReply::wrong_arity("ping"));
    }
    let mut reply = Reply::new(out, state.protocol);
    reply.array(2);
    reply.bulk(b"pong");
    reply.bulk(args.get(1).copied().unwrap_or_default());
    Ok(())
}

fn queue(
    state: &mut SessionState,
    row: &'static Row,
    spec: &Spec,
    args: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), ErrorReply> {
    let Some(transaction) = &mut state.transaction else { return Ok(()) };
    debug_assert!(!spec.flags.contains(Flags::NO_MULTI));
    // Bounded by `client-query-buffer-limit`, which the loop looks at after each read.
    transaction.queued_bytes += args.iter().map(|arg| arg.len() + 32).sum::<usize>();
    transaction.queue.push(Queued { row, args: owned(args) });
    state.publish_info();
    Reply::new(out, state.protocol).simple("QUEUED");
    Ok(())
}

fn run_verb(
    core: &mut Core,
    state: &mut SessionState,
    verb: SessionVerb,
    args: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), ErrorReply> {
    match verb {
        SessionVerb::Multi => {
            if state.transaction.is_some() {
                state.doom_transaction();
                return Err(ErrorReply::new("ERR MULTI calls can not be nested"));
            }
            state.transaction = Some(Box::default());
        }
        SessionVerb::Exec => {
            let ends_one = state.transaction.is_some();
            let outcome = exec(core, state, out);
            // One that was refused has come to its end, too.
            if ends_one && core.shared.monitors_len.load(Relaxed) > 0 {
                let exec = table::find(args[0]).expect("this command").spec;
                monitor::feed(core, state, exec, args);
            }
            return outcome;
        }
        SessionVerb::Discard => {
            if state.transaction.take().is_none() {
                return Err(ErrorReply::new("ERR DISCARD without MULTI"));
            }
            unwatch(core, state);
        }
        SessionVerb::Watch => {
            if state.transaction.is_some() {
                return Err(ErrorReply::new("ERR WATCH inside MULTI is not allowed"));
            }
            watch(core, state, &args[1..])?;
        }
        SessionVerb::Unwatch => {
            // Inside MULTI it is queued by other servers; EXEC has ended the watch by then anyway.
            if state.transaction.is_some() {
                let row = table::find(args[0]).expect("this command");
                return queue(state, row, row.spec, args, out);
            }
            unwatch(core, state);
        }
        SessionVerb::Quit => state.close = Close::AfterReply,
        SessionVerb::Reset => {
            reset(core, state);
            Reply::new(out, state.protocol).simple("RESET");
            return Ok(());
        }
        SessionVerb::Migrate => return migration::begin(core, state, args, out),
    }
    Reply::new(out, state.protocol).ok();
    Ok(())
}

fn watch(core: &mut Core, state: &mut SessionState, keys: &[&[u8]]) -> Result<(), ErrorReply> {
    let Core { shared, engine, side } = core;
    let mut plan = Plan::default();
    plan.shards.extend(keys.iter().map(|key| shared.keyspace.shard_of(key)));
    let locked = plan.lock(shared, side).ok_or_else(|| shared.busy.refusal(side.event_loop))?;
    let mut cx = unit::context(locked, state.db, engine, side, Origin::Client);
    let watching = state.watching.get_or_insert_default();
    for key in keys {
        // What is over already goes first, so that its end is no change.
        cx.remove_expired(state.db, key);
        let is_there = cx.exists(key);
        if cx.locked.shard_mut(key).watch(state.db, key, &watching.flag) {
            watching.keys_bytes += key.len();
            watching.keys.push(Watched { db: state.db, key: (*key).into(), is_there });
        }
    }
    state.owe(unit::settle(cx, shared, side));
    core.engine.effects.clear();
    unit::serve_deferred(core);
    Ok(())
}

/// Ends what WATCH began. The caller holds no shard.
pub(crate) fn unwatch(core: &mut Core, state: &mut SessionState) {
    if let Some(watching) = state.watching.take() {
        unit::clear(&core.shared, &mut core.side, Leftover::Watching(watching));
    }
}

/// RESET: the session as if it had just connected.
fn reset(core: &mut Core, state: &mut SessionState) {
    state.transaction = None;
    unwatch(core, state);
    crate::commands::pubsub::unsubscribe_all(core, state);
    if std::mem::take(&mut state.is_monitor) {
        core.shared.monitors_len.fetch_sub(1, Relaxed);
    }
    core.shared.tracking.disable(&core.shared, state);
    for switch in [&state.info.no_evict, &state.info.no_touch, &state.info.import_source] {
        switch.store(false, Relaxed);
    }
    state.protocol = Default::default();
    state.db = 0;
    state.replies = Replies::On;
    state.log_in(Arc::clone(core.shared.acl.default_user()));
    state.is_authenticated = core.shared.acl.lets_everybody_in();
    state.info.name.lock().clear();
}

/// EXEC: all shards of all commands, then one command after the other.
fn exec(core: &mut Core, state: &mut SessionState, out: &mut Vec<u8>) -> Result<(), ErrorReply> {
    let Some(mut transaction) = state.transaction.take() else {
        return Err(ErrorReply::new("ERR EXEC without MULTI"));
    };
    if transaction.is_doomed {
        unwatch(core, state);
        return Err(ErrorReply::new("EXECABORT Transaction discarded because of previous errors."));
    }
    let watching = state.watching.take();
    let Core { shared, engine, side } = core;
    let mut plan = Plan::default();
    let (mut writes, mut takes_memory) = (false, false);
    for Queued { row, args } in &transaction.queue {
        let args = borrowed(args);
        let spec = row.spec.subcommand(&args).unwrap_or(row.spec);
        writes |= spec.flags.contains(Flags::WRITE);
        takes_memory |= spec.flags.contains(Flags::DENYOOM);
        plan.add_in_unit(&shared.keyspace, spec, &args);
        plan.token |= crate::scripts::runs_scripts(row.spec.name);
    }
    // The journal may have begun to fail since the commands were queued.
    if writes && let Err(refusal) = shared.admit_write() {
        state.watching = watching;
        unwatch(core, state);
        return Err(exec_aborted(refusal.as_bytes()));
    }
    if takes_memory && side.evictor.is_out_of_memory {
        state.watching = watching;
        unwatch(core, state);
        return Err(exec_aborted(OUT_OF_MEMORY.text()));
    }
    if let Some(watching) = &watching {
        plan.shards.extend(watching.keys.iter().map(|watched| shared.keyspace.shard_of(&watched.key)));
    }
    let Some(mut locked) = plan.lock(shared, side) else {
        let refusal = shared.busy.refusal(side.event_loop);
        state.watching = watching;
        unwatch(core, state);
        return Err(exec_aborted(refusal.text()));
    };
    let is_waited_for = transaction.queue.iter().any(|Queued { row, args }| {
        let args = borrowed(args);
        let spec = row.spec.subcommand(&args).unwrap_or(row.spec);
        shared.snapshots.is_waited_for(&mut locked, state.db, spec, &args)
    });
    if is_waited_for {
        (state.transaction, state.watching) = (Some(transaction), watching);
        state.is_postponed = true;
        return Ok(());
    }
    if shared.pause.is_set() {
        state.transaction = Some(transaction);
        let row = table::find(b"exec").expect("this command");
        if pause::holds_back(shared, side.now_ms, state, (row, row.spec), &[&b"exec"[..]]) {
            state.watching = watching;
            state.is_postponed = true;
            return Ok(());
        }
        transaction = state.transaction.take().expect("it was put back just now");
    }
    let mut cx = unit::context(locked, state.db, engine, side, Origin::Unit);
    cx.session = Some(state.info.address);
    let mut reply = Reply::new(out, state.protocol);
    let unchanged = watching.is_none_or(|watching| end_watch(&mut cx, &watching));
    if unchanged {
        reply.array(transaction.queue.len());
        for Queued { row, args } in &transaction.queue {
            let args = borrowed(args);
            if matches!(row.handler, Handler::Session(SessionVerb::Unwatch)) {
                reply.ok();
                continue;
            }
            let spec = row.spec.subcommand(&args).unwrap_or(row.spec);
            if !state.user.may_all()
                && let Err(error) = acl::gate_queued(shared, side, state, (row, spec, &args))
            {
                shared.stats_of(side.event_loop).note_error(error.text());
                reply.error(error.text());
                continue;
            }
            if shared.monitors_len.load(Relaxed) > 0 {
                monitor::feed_queued(shared, side, cx.db, state, spec, &args);
            }
            cx.reader = state.reader();
            cx.notes_uses = !state.info.no_touch.load(Relaxed);
            cx.sees_expired = side.settings.import_mode && state.info.import_source.load(Relaxed);
            let mut call = Call { cx: &mut cx, shared, side, state: Some(state) };
            match unit::invoke(row, &mut call, &args, &mut reply) {
                Ok(Flow::Done) => {}
                Ok(Flow::Park(_) | Flow::Steps(_)) => reply.null_array(),
                Err(error) => reply.error(error.text()),
            }
        }
    } else {
        reply.null_array();
    }
    state.db = cx.db;
    state.owe(unit::settle(cx, shared, side));
    core.engine.effects.clear();
    unit::serve_deferred(core);
    if state.tracked.is_some() {
        tracking::limit(core, tracking::EVICTED_BY_COMMAND_MAX);
    }
    Ok(())
}

fn exec_aborted(reason: &[u8]) -> ErrorReply {
    ErrorReply::owned([b"EXECABORT Transaction discarded because of: ", reason].concat())
}

/// Takes the watches out; whether nothing that was watched has changed or expired.
fn end_watch(cx: &mut thali_commands::Context<'_>, watching: &Watching) -> bool {
    for Watched { db, key, is_there } in &watching.keys {
        // One that came and is over again meanwhile (SWAPDB) is as missing as it was.
        if *is_there {
            cx.remove_expired(*db, key);
        }
        cx.locked.shard_mut(key).unwatch(*db, key, &watching.flag);
    }
    !watching.flag.is_raised()
}
