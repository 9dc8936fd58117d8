//! CLIENT: names, lists, kills, pauses and unblocks connections.
//!
//! Clients live on several loops. What one loop says of another's clients is what that one has written down of them;
//! who was killed is gone for everybody at once, and its loop closes it with its next mail.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use thali_commands::{
    Categories, ErrorReply, Flags, Flow, Group, Outcome, Spec, integer, is_word, parse_i64,
};
use thali_resp::Reply;

use super::{Entry, connection, tracking};
use crate::acl::User;
use crate::call::Call;
use crate::clients::ClientInfo;
use crate::mailbox::Message;
use crate::pause::Level;
use crate::session::{Close, Replies, SessionState};
use crate::table::Handler;

const SUB: Spec = Spec {
    group: Group::Connection,
    since: "2.4.0",
    arity: 2,
    flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE),
    categories: Categories::CONNECTION,
    ..Spec::BASE
};
const ADMIN: Spec = Spec { flags: SUB.flags.union(Flags::ADMIN), arity: -2, ..SUB };

const CLIENT: Spec = Spec {
    name: "client",
    summary: "A container for client connection commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "id",
            summary: "Returns the unique client ID of the connection.",
            since: "5.0.0",
            ..SUB
        },
        Spec { name: "info", summary: "Returns information about the connection.", since: "6.2.0", ..SUB },
        Spec { name: "getname", summary: "Returns the name of the connection.", since: "2.6.9", ..SUB },
        Spec {
            name: "setname",
            summary: "Sets the connection name.",
            syntax: "connection-name",
            since: "2.6.9",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "setinfo",
            summary: "Sets information specific to the client or connection.",
            syntax: "<LIB-NAME libname | LIB-VER libver>",
            since: "7.2.0",
            arity: 4,
            ..SUB
        },
        Spec {
            name: "list",
            summary: "Lists open connections.",
            syntax: "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
            complexity: "O(N)",
            ..ADMIN
        },
        Spec {
            name: "kill",
            summary: "Terminates open connections.",
            syntax: "<ip:port | <ID client-id | TYPE <NORMAL | MASTER | REPLICA | PUBSUB> | USER username | \
                     ADDR ip:port | LADDR ip:port | SKIPME <YES | NO>> [filter ...]>",
            complexity: "O(N)",
            arity: -3,
            ..ADMIN
        },
        Spec {
            name: "unblock",
            summary: "Unblocks a client blocked by a blocking command from a different connection.",
            syntax: "client-id [TIMEOUT | ERROR]",
            since: "5.0.0",
            arity: -3,
            ..ADMIN
        },
        Spec {
            name: "reply",
            summary: "Instructs the server whether to reply to commands.",
            syntax: "<ON | OFF | SKIP>",
            since: "3.2.0",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "pause",
            summary: "Suspends commands processing.",
            syntax: "timeout [WRITE | ALL]",
            since: "3.0.0",
            arity: -3,
            // A transaction has all shards already, which the pause must hold for a moment.
            flags: ADMIN.flags.union(Flags::EACH_SHARD),
            ..ADMIN
        },
        Spec {
            name: "unpause",
            summary: "Resumes processing commands from paused clients.",
            complexity: "O(N) Where N is the number of paused clients",
            since: "6.2.0",
            arity: 2,
            ..ADMIN
        },
        Spec {
            name: "tracking",
            summary: "Controls server-assisted client-side caching for the connection.",
            syntax: "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] \
                     [OPTOUT] [NOLOOP]",
            complexity: "O(1). Some options may introduce additional complexity.",
            since: "6.0.0",
            arity: -3,
            ..SUB
        },
        Spec {
            name: "caching",
            summary: "Instructs the server whether to track the keys in the next request.",
            syntax: "<YES | NO>",
            since: "6.0.0",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "getredir",
            summary: "Returns the client ID to which the connection's tracking notifications are redirected.",
            since: "6.0.0",
            ..SUB
        },
        Spec {
            name: "trackinginfo",
            summary: "Returns information about server-assisted client-side caching for the connection.",
            since: "6.2.0",
            ..SUB
        },
        Spec {
            name: "capa",
            summary: "A client claims its capability.",
            syntax: "capability [capability ...]",
            since: "8.0.0",
            arity: -3,
            ..SUB
        },
        Spec {
            name: "import-source",
            summary: "Marks the connection as one that copies data in, for which expired keys are there.",
            syntax: "<ON | OFF>",
            since: "8.1.0",
            arity: 3,
            ..ADMIN
        },
        Spec {
            name: "no-evict",
            summary: "Sets the client eviction mode of the connection.",
            syntax: "<ON | OFF>",
            since: "7.0.0",
            arity: 3,
            ..ADMIN
        },
        Spec {
            name: "no-touch",
            summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
            syntax: "<ON | OFF>",
            since: "7.2.0",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            since: "5.0.0",
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[(&CLIENT, Handler::Server(client))];

fn client(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let sub = args[1].to_ascii_lowercase();
    let args_len = args.iter().map(|arg| arg.len() as u64).sum();
    let info = call.state.as_ref().map(|state| {
        state.publish_info();
        state.info.args_len.store(args_len, Relaxed);
        Arc::clone(&state.info)
    });
    let outcome = match sub.as_slice() {
        b"list" => list(call, &args[2..], reply),
        b"kill" => kill(call, &args[2..], reply),
        b"unblock" => unblock(call, &args[2..], reply),
        b"pause" => pause(call, &args[2..], reply),
        b"unpause" => {
            call.shared.pause.clear();
            call.shared.broadcast(|| Message::Unpaused);
            reply.ok();
            Ok(())
        }
        b"capa" => {
            // REDIRECT is the only one known, and asks for what only replicas do.
            reply.ok();
            Ok(())
        }
        b"help" => {
            help(reply);
            Ok(())
        }
        own => of_own_session(call, own, &args[2..], reply),
    };
    if let Some(info) = info {
        info.args_len.store(0, Relaxed);
    }
    outcome.map(|()| Flow::Done)
}

fn of_own_session(
    call: &mut Call<'_, '_>,
    sub: &[u8],
    args: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Result<(), ErrorReply> {
    let (shared, now_ms) = (call.shared, call.side.now_ms);
    let Some(state) = call.state.as_deref_mut() else { return Err(ErrorReply::SYNTAX) };
    match sub {
        b"tracking" => return tracking::tracking(shared, state, args, reply),
        b"caching" => return tracking::caching(state, args[0], reply),
        b"getredir" => tracking::getredir(state, reply),
        b"trackinginfo" => tracking::trackinginfo(state, reply),
        b"id" => reply.integer(state.info.id as i64),
        b"info" => reply.verbatim("txt", format!("{}\n", state.info.line(now_ms)).as_bytes()),
        b"getname" => {
            let name = state.info.name.lock();
            reply.bulk_or_null((!name.is_empty()).then_some(name.as_slice()));
        }
        b"setname" => {
            connection::set_name(state, args[0])?;
            reply.ok();
        }
        b"setinfo" => set_info(state, args[0], args[1], reply)?,
        b"reply" => set_replies(state, args[0], reply)?,
        b"import-source" => {
            if !call.side.settings.import_mode && !is_word(args[0], "OFF") {
                return Err(ErrorReply::new("ERR Server is not in import mode"));
            }
            set_switch(&state.info.import_source, args[0], reply)?;
        }
        b"no-evict" => set_switch(&state.info.no_evict, args[0], reply)?,
        _ => set_switch(&state.info.no_touch, args[0], reply)?,
    }
    Ok(())
}

fn set_info(
    state: &SessionState,
    attribute: &[u8],
    value: &[u8],
    reply: &mut Reply<'_>,
) -> Result<(), ErrorReply> {
    let shown = String::from_utf8_lossy(attribute);
    let target = match attribute.to_ascii_lowercase().as_slice() {
        b"lib-name" => &state.info.lib_name,
        b"lib-ver" => &state.info.lib_version,
        _ => return Err(ErrorReply::owned(format!("ERR Unrecognized option '{shown}'"))),
    };
    connection::check_name(value, &shown)?;
    *target.lock() = value.to_vec();
    reply.ok();
    Ok(())
}

/// CLIENT REPLY. SKIP leaves OFF as it is.
fn set_replies(state: &mut SessionState, mode: &[u8], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    match mode.to_ascii_lowercase().as_slice() {
        b"on" => {
            state.replies = Replies::On;
            reply.ok();
        }
        b"off" => state.replies = Replies::Off,
        b"skip" if state.replies == Replies::Off => {}
        b"skip" => state.replies = Replies::SkipNext,
        _ => return Err(ErrorReply::SYNTAX),
    }
    Ok(())
}

/// CLIENT PAUSE: once it has replied, nothing that is paused runs; see [`crate::pause`].
fn pause(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let level = match args {
        [_] => Level::All,
        [_, mode] if is_word(mode, "ALL") => Level::All,
        [_, mode] if is_word(mode, "WRITE") => Level::Write,
        [_, _] => return Err(ErrorReply::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let timeout_ms = parse_i64(args[0]).ok_or(ErrorReply::TIMEOUT_NOT_INTEGER)?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| ErrorReply::TIMEOUT_NEGATIVE)?;
    let now_ms = call.side.now_ms;
    let ends_at_ms = now_ms.checked_add(timeout_ms).filter(|end| i64::try_from(*end).is_ok());
    let before = call.shared.pause.set(level, ends_at_ms.ok_or(ErrorReply::TIMEOUT_OUT_OF_RANGE)?, now_ms);
    if call.cx.locked.ids().is_empty() {
        let own = call.side.event_loop;
        let all = call.shared.keyspace.lock_all(&|| call.shared.busy.elsewhere(own));
        if all.is_none() {
            call.shared.pause.restore(before);
            return Err(call.shared.busy.refusal(own));
        }
    }
    call.side.keeps_expired = true;
    reply.ok();
    Ok(())
}

fn set_switch(
    switch: &std::sync::atomic::AtomicBool,
    value: &[u8],
    reply: &mut Reply<'_>,
) -> Result<(), ErrorReply> {
    match value.to_ascii_lowercase().as_slice() {
        b"on" => switch.store(true, Relaxed),
        b"off" => switch.store(false, Relaxed),
        _ => return Err(ErrorReply::SYNTAX),
    }
    reply.ok();
    Ok(())
}

fn list(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let now_ms = call.side.now_ms;
    let chosen: Vec<Arc<ClientInfo>> = match args {
        [] => call.shared.clients.all(),
        [word, kind] if is_word(word, "TYPE") => {
            let kind = client_kind(kind)?;
            call.shared.clients.all().into_iter().filter(|info| info.kind() == kind).collect()
        }
        [word, ids @ ..] if is_word(word, "ID") && !ids.is_empty() => {
            let mut found = Vec::new();
            for id in ids {
                let id = parse_i64(id).ok_or(ErrorReply::new("ERR Invalid client ID"))?;
                found.extend(u64::try_from(id).ok().and_then(|id| call.shared.clients.get(id)));
            }
            found
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let lines: String = chosen.iter().map(|info| info.line(now_ms) + "\n").collect();
    reply.verbatim("txt", lines.as_bytes());
    Ok(())
}

fn client_kind(kind: &[u8]) -> Result<&'static str, ErrorReply> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok("normal"),
        b"master" | b"primary" => Ok("master"),
        b"replica" | b"slave" => Ok("replica"),
        b"pubsub" => Ok("pubsub"),
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            Err(ErrorReply::owned(format!("ERR Unknown client type '{other}'")))
        }
    }
}

/// CLIENT KILL's filters: all must hold.
#[derive(Default)]
struct Filters {
    id: Option<u64>,
    peer: Option<String>,
    local: Option<String>,
    kind: Option<&'static str>,
    user: Option<Arc<User>>,
    max_age_s: Option<i64>,
    /// Do not end the connection that asks.
    skip_me: bool,
}

fn parse_filters(call: &Call<'_, '_>, args: &[&[u8]]) -> Result<Filters, ErrorReply> {
    let mut filters = Filters { skip_me: true, ..Filters::default() };
    if !args.len().is_multiple_of(2) {
        return Err(ErrorReply::SYNTAX);
    }
    for pair in args.chunks_exact(2) {
        let text = String::from_utf8_lossy(pair[1]).into_owned();
        match pair[0].to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = parse_i64(pair[1]).filter(|id| *id > 0);
                filters.id =
                    Some(id.ok_or(ErrorReply::new("ERR client-id should be greater than 0"))? as u64);
            }
            b"addr" => filters.peer = Some(text),
            b"laddr" => filters.local = Some(text),
            b"type" => filters.kind = Some(client_kind(pair[1])?),
            b"user" => {
                let user = call.shared.acl.find(pair[1]);
                let no_such = || ErrorReply::owned(format!("ERR No such user '{text}'"));
                filters.user = Some(user.ok_or_else(no_such)?);
            }
            b"maxage" => {
                let age = parse_i64(pair[1])
                    .ok_or(ErrorReply::new("ERR maxage is not an integer or out of range"))?;
                if age <= 0 {
                    return Err(ErrorReply::new("ERR maxage should be greater than 0"));
                }
                filters.max_age_s = Some(age);
            }
            b"skipme" if is_word(pair[1], "yes") => filters.skip_me = true,
            b"skipme" if is_word(pair[1], "no") => filters.skip_me = false,
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    Ok(filters)
}

fn kill(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let old_form = args.len() == 1;
    let filters = match args {
        [peer] => Filters { peer: Some(String::from_utf8_lossy(peer).into_owned()), ..Filters::default() },
        _ => parse_filters(call, args)?,
    };
    let own_id = call.state.as_ref().map(|state| state.info.id);
    let mut killed = 0;
    for info in call.shared.clients.all() {
        let age_s = (call.side.now_ms.saturating_sub(info.connected_at_ms) / 1000) as i64;
        let fits = filters.id.is_none_or(|id| id == info.id)
            && filters.peer.as_ref().is_none_or(|peer| *peer == info.peer)
            && filters.local.as_ref().is_none_or(|local| *local == info.local)
            && filters.kind.is_none_or(|kind| kind == info.kind())
            && filters.user.as_ref().is_none_or(|user| Arc::ptr_eq(user, &info.user.lock()))
            && filters.max_age_s.is_none_or(|max| age_s >= max)
            && !(filters.skip_me && own_id == Some(info.id));
        if fits {
            killed += 1;
            end(call, &info);
        }
    }
    match (old_form, killed) {
        (true, 0) => return Err(ErrorReply::new("ERR No such client")),
        (true, _) => reply.ok(),
        (false, killed) => reply.integer(killed),
    }
    Ok(())
}

/// Ends a connection; the one that asks still gets its reply.
pub(super) fn end(call: &mut Call<'_, '_>, info: &ClientInfo) {
    match &mut call.state {
        Some(state) if state.info.id == info.id => state.close = Close::AfterReply,
        _ => {
            info.is_leaving.store(true, Relaxed);
            let message = Message::Kill { session: info.address.session };
            call.side.send(call.shared, info.address.event_loop, message);
        }
    }
}

fn unblock(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let error = match args {
        [_] => false,
        [_, how] if is_word(how, "TIMEOUT") => false,
        [_, how] if is_word(how, "ERROR") => true,
        _ => return Err(ErrorReply::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    let id = integer(args[0])?;
    let info = u64::try_from(id).ok().and_then(|id| call.shared.clients.get(id));
    let waiter = info.as_ref().and_then(|info| info.waiter.lock().clone());
    let unblocked = match waiter {
        Some(waiter) if waiter.finish() => {
            let message = Message::Unblocked { session: waiter.address.session, error };
            call.side.send(call.shared, waiter.address.event_loop, message);
            1
        }
        _ => 0,
    };
    reply.integer(unblocked);
    Ok(())
}

fn help(reply: &mut Reply<'_>) {
    super::help(
        reply,
        "CLIENT",
        &[
            (
                "CACHING (YES|NO)",
                "Say whether the keys of the next command are tracked, in OPTIN or OPTOUT mode.",
            ),
            ("CAPA <option> [<option> ...]", "Say what the client is capable of. Known: REDIRECT."),
            ("GETNAME", "Return the name of the current connection."),
            ("GETREDIR", "Return the ID of the client that is told of stale keys in this one's place."),
            ("ID", "Return the ID of the current connection."),
            ("IMPORT-SOURCE (ON|OFF)", "See expired keys, to copy data in while import-mode is on."),
            ("INFO", "Return information about the current client connection."),
            ("KILL <ip:port>", "Close the connection from this address."),
            (
                "KILL <option> <value> [<option> <value> ...]",
                "Close the connections that fit all of: ID <id>, ADDR <ip:port>, LADDR <ip:port>, \
                 TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB), USER <name>, MAXAGE <seconds>, SKIPME (YES|NO).",
            ),
            (
                "LIST [TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB)] [ID <id> ...]",
                "Return information about client connections.",
            ),
            ("NO-EVICT (ON|OFF)", "Protect current client connection from eviction."),
            ("NO-TOUCH (ON|OFF)", "Will not touch LRU/LFU stats when this mode is on."),
            (
                "PAUSE <timeout> [WRITE|ALL]",
                "Hold back all commands, or those that write, for <timeout> milliseconds.",
            ),
            ("REPLY (ON|OFF|SKIP)", "Control the replies sent to the current connection."),
            ("SETINFO <option> <value>", "Set client meta attr: LIB-NAME or LIB-VER."),
            ("SETNAME <name>", "Assign the name <name> to the current connection."),
            (
                "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> ...] [OPTIN] [OPTOUT] [NOLOOP]",
                "Be told when keys change that this client may have cached.",
            ),
            ("TRACKINGINFO", "Return how the current connection tracks keys."),
            ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "Unblock the specified blocked client."),
            ("UNPAUSE", "Let paused clients go on."),
        ],
    );
}
