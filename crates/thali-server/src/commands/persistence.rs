//! SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE, SHUTDOWN, WAIT and ROLE: what is asked of durability and of copies.

use std::sync::atomic::Ordering::Relaxed;

use thali_commands::{Categories, ErrorReply, Flags, Flow, Group, Origin, Outcome, Spec, integer, parse_i64};
use thali_resp::Reply;

use super::Entry;
use crate::call::{Call, DurableWait};
use crate::session::Close;
use crate::snapshots::{Asked, Kind};
use crate::table::Handler;
use crate::unit;

const BASE: Spec = Spec { group: Group::Server, ..Spec::BASE };
const SHUTDOWN: Spec = Spec {
    name: "shutdown",
    summary: "Synchronously saves the database(s) to disk and shuts down the Redis server.",
    syntax: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
    arity: -1,
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::NO_MULTI)
        .union(Flags::ALLOW_BUSY),
    ..BASE
};
const SAVE: Spec = Spec {
    name: "save",
    summary: "Synchronously saves the database(s) to disk.",
    complexity: "O(N) where N is the total number of keys in all databases",
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_MULTI),
    ..BASE
};
const BGSAVE: Spec = Spec {
    name: "bgsave",
    summary: "Asynchronously saves the database(s) to disk.",
    syntax: "[SCHEDULE]",
    arity: -1,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT),
    ..BASE
};
const BGREWRITEAOF: Spec = Spec {
    name: "bgrewriteaof",
    summary: "Asynchronously rewrites the append-only file to disk.",
    flags: Flags::ADMIN.union(Flags::NOSCRIPT),
    ..BASE
};
const LASTSAVE: Spec = Spec {
    name: "lastsave",
    summary: "Returns the Unix timestamp of the last successful save to disk.",
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    categories: Categories::ADMIN.union(Categories::DANGEROUS),
    ..BASE
};
const ROLE: Spec = Spec {
    name: "role",
    summary: "Returns the replication role.",
    since: "2.8.12",
    flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::FAST),
    categories: Categories::ADMIN.union(Categories::DANGEROUS),
    ..BASE
};
const WAIT: Spec = Spec {
    name: "wait",
    summary: "Blocks until the asynchronous replication of all preceding write commands sent by the connection is \
              completed.",
    syntax: "numreplicas timeout",
    since: "3.0.0",
    group: Group::Generic,
    arity: 3,
    categories: Categories::CONNECTION,
    ..Spec::BASE
};

const WAITAOF: Spec = Spec {
    name: "waitaof",
    summary: "Blocks until all of the preceding write commands sent by the connection are written to the \
              append-only file of the master and/or replicas.",
    syntax: "numlocal numreplicas timeout",
    since: "7.2.0",
    group: Group::Generic,
    arity: 4,
    flags: Flags::BLOCKING,
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[
    (&SAVE, Handler::Server(save)),
    (&BGSAVE, Handler::Server(bgsave)),
    (&BGREWRITEAOF, Handler::Server(bgrewriteaof)),
    (&SHUTDOWN, Handler::Server(shutdown)),
    (&LASTSAVE, Handler::Server(lastsave)),
    (&ROLE, Handler::Server(role)),
    (&WAIT, Handler::Server(wait)),
    (&WAITAOF, Handler::Server(waitaof)),
];

const SAVE_RUNS: ErrorReply = ErrorReply::new("ERR Background save already in progress");
const OTHER_RUNS: ErrorReply = ErrorReply::new(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule \
     a BGSAVE whenever possible.",
);

/// Keeps its loop waiting, as it keeps all of Redis waiting.
fn save(call: &mut Call<'_, '_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match call.shared.snapshots.dump_and_wait() {
        Ok(()) => reply.ok(),
        Err(Asked::Runs(_)) => return Err(SAVE_RUNS),
        Err(_) => return Err(ErrorReply::new("ERR the dump failed, see the log")),
    }
    Ok(Flow::Done)
}

/// Asks for a snapshot, which is to be of a moment before the reply. In a transaction it is of one after it, and so
/// counts as scheduled.
fn ask(call: &Call<'_, '_>, kind: Kind, patient: bool) -> Asked {
    let asked = call.shared.snapshots.ask(kind, patient);
    if asked == Asked::Started && call.cx.locked.ids().is_empty() {
        call.shared.snapshots.wait_until_fixed();
    }
    if asked == Asked::Started && call.cx.origin == Origin::Unit { Asked::Scheduled } else { asked }
}

fn bgsave(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let patient = match &args[1..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"schedule") => true,
        _ => return Err(ErrorReply::SYNTAX),
    };
    match ask(call, Kind::Dump, patient) {
        Asked::Started => reply.simple("Background saving started"),
        Asked::Scheduled => reply.simple("Background saving scheduled"),
        Asked::Runs(Kind::Dump) => return Err(SAVE_RUNS),
        Asked::Runs(Kind::Rewrite) => return Err(OTHER_RUNS),
    }
    Ok(Flow::Done)
}

fn bgrewriteaof(call: &mut Call<'_, '_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match ask(call, Kind::Rewrite, true) {
        Asked::Started => reply.simple("Background append only file rewriting started"),
        Asked::Scheduled => reply.simple("Background append only file rewriting scheduled"),
        Asked::Runs(_) => {
            return Err(ErrorReply::new("ERR Background append only file rewriting already in progress"));
        }
    }
    Ok(Flow::Done)
}

fn shutdown(call: &mut Call<'_, '_>, args: &[&[u8]], _: &mut Reply<'_>) -> Outcome {
    let (mut dump, mut insists) = (None, false);
    for arg in &args[1..] {
        match arg.to_ascii_lowercase().as_slice() {
            b"nosave" if dump != Some(true) => dump = Some(false),
            b"save" if dump != Some(false) => dump = Some(true),
            b"now" => {}
            b"force" => insists = true,
            b"abort" => return Err(ErrorReply::new("ERR No shutdown in progress.")),
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    if !call.shared.save_before_end(dump, insists) {
        return Err(ErrorReply::new("ERR Errors trying to SHUTDOWN. Check logs."));
    }
    if let Some(state) = call.state.as_deref_mut() {
        // The connection just ends, as clients expect.
        state.close = Close::Now;
    }
    call.shared.is_shutting_down.store(true, Relaxed);
    call.shared.end.notify();
    Ok(Flow::Done)
}

fn lastsave(call: &mut Call<'_, '_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.integer(call.shared.snapshots.state().last_dump_unix_s as i64);
    Ok(Flow::Done)
}

fn role(_: &mut Call<'_, '_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(Flow::Done)
}

fn wait(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    integer(args[1])?;
    let ms = parse_i64(args[2]).ok_or(ErrorReply::TIMEOUT_NOT_INTEGER)?;
    let ms = u64::try_from(ms).map_err(|_| ErrorReply::TIMEOUT_NEGATIVE)?;
    if i64::try_from(ms + call.side.now_ms).is_err() {
        return Err(ErrorReply::TIMEOUT_OUT_OF_RANGE);
    }
    // There are no replicas, so none will ever answer: the count is known at once.
    reply.integer(0);
    Ok(Flow::Done)
}

pub(crate) const NO_LOCAL: ErrorReply =
    ErrorReply::new("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");

/// There are no replicas: one that asks for them waits until its time is up.
fn waitaof(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (local, replicas) = (integer(args[1])?, integer(args[2])?);
    let timeout_ms = integer(args[3])?;
    if !(0..=1).contains(&local) {
        return Err(ErrorReply::new("ERR value is out of range, must be between 0 and 1"));
    }
    if replicas < 0 {
        return Err(ErrorReply::POSITIVE);
    }
    if timeout_ms < 0 {
        return Err(ErrorReply::TIMEOUT_NEGATIVE);
    }
    // Another loop may just have changed it, of which this one is yet to hear.
    if local > 0 && !call.shared.settings.load().appendonly {
        return Err(NO_LOCAL);
    }
    let origin = call.cx.origin;
    let is_durable = call.state.as_ref().is_none_or(|state| call.shared.is_durable(state.written));
    match call.state.as_deref_mut() {
        Some(state) if origin == Origin::Client && (replicas > 0 || (local > 0 && !is_durable)) => {
            let deadline_ms = (timeout_ms > 0).then(|| call.side.now_ms.saturating_add(timeout_ms as u64));
            let wait = DurableWait { session: state.id, is_local: local > 0, for_its_time: replicas > 0 };
            unit::park_until_durable(call.side, state, deadline_ms, wait);
        }
        _ => reply_durable(reply, is_durable),
    }
    Ok(Flow::Done)
}

/// Whether this server has the client's writes on its disk, and how many replicas do.
pub(crate) fn reply_durable(reply: &mut Reply<'_>, is_durable: bool) {
    reply.array(2);
    reply.integer(i64::from(is_durable));
    reply.integer(0);
}
