//! CLIENT: names, lists, kills and unblocks connections.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use thali_commands::{
    Categories, ErrorReply, Flags, Flow, Group, Outcome, Spec, integer, is_word, parse_i64,
};
use thali_resp::Reply;

use super::{Entry, connection};
use crate::acl::User;
use crate::call::Call;
use crate::clients::ClientInfo;
use crate::mailbox::Message;
use crate::session::{Replies, SessionState};
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
        Spec { name: "setname", summary: "Sets the connection name.", since: "2.6.9", arity: 3, ..SUB },
        Spec {
            name: "setinfo",
            summary: "Sets information specific to the client or connection.",
            since: "7.2.0",
            arity: 4,
            ..SUB
        },
        Spec { name: "list", summary: "Lists open connections.", complexity: "O(N)", ..ADMIN },
        Spec {
            name: "kill",
            summary: "Terminates open connections.",
            complexity: "O(N)",
            arity: -3,
            ..ADMIN
        },
        Spec {
            name: "unblock",
            summary: "Unblocks a client blocked by a blocking command from a different connection.",
            since: "5.0.0",
            arity: -3,
            ..ADMIN
        },
        Spec {
            name: "reply",
            summary: "Instructs the server whether to reply to commands.",
            since: "3.2.0",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "no-evict",
            summary: "Sets the client eviction mode of the connection.",
            since: "7.0.0",
            arity: 3,
            ..ADMIN
        },
        Spec {
            name: "no-touch",
            summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
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
    match sub.as_slice() {
        b"list" => list(call, &args[2..], reply)?,
        b"kill" => kill(call, &args[2..], reply)?,
        b"unblock" => unblock(call, &args[2..], reply)?,
        b"help" => help(reply),
        own => {
            let now_ms = call.side.now_ms;
            let Some(state) = call.state.as_deref_mut() else { return Err(ErrorReply::SYNTAX) };
            of_own_session(state, own, &args[2..], now_ms, reply)?;
        }
    }
    Ok(Flow::Done)
}

fn of_own_session(
    state: &mut SessionState,
    sub: &[u8],
    args: &[&[u8]],
    now_ms: u64,
    reply: &mut Reply<'_>,
) -> Result<(), ErrorReply> {
    state.publish_info();
    match sub {
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
        b"setinfo" => {
            let target = match args[0].to_ascii_lowercase().as_slice() {
                b"lib-name" => &state.info.lib_name,
                b"lib-ver" => &state.info.lib_version,
                other => {
                    let other = String::from_utf8_lossy(other).into_owned();
                    return Err(ErrorReply::owned(format!("ERR Unrecognized option '{other}'")));
                }
            };
            let option = String::from_utf8_lossy(args[0]).to_lowercase();
            connection::check_name(args[1], &option)?;
            *target.lock() = args[1].to_vec();
            reply.ok();
        }
        b"reply" => match args[0].to_ascii_lowercase().as_slice() {
            b"on" => {
                state.replies = Replies::On;
                reply.ok();
            }
            b"off" => state.replies = Replies::Off,
            b"skip" => state.replies = Replies::SkipNext,
            _ => return Err(ErrorReply::SYNTAX),
        },
        b"no-evict" => set_switch(&state.info.no_evict, args[0], reply)?,
        _ => set_switch(&state.info.no_touch, args[0], reply)?,
    }
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
    if let Some(state) = &call.state {
        state.publish_info();
    }
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
                let id =
                    parse_i64(id).filter(|id| *id > 0).ok_or(ErrorReply::new("ERR Invalid client ID"))?;
                found.extend(call.shared.clients.get(id as u64));
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
        b"master" => Ok("master"),
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
            b"maxage" => filters.max_age_s = Some(integer(pair[1])?),
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
    let after_reply = call.state.as_ref().is_some_and(|state| state.info.id == info.id);
    let message = Message::Kill { session: info.address.session, after_reply };
    call.side.send(call.shared, info.address.event_loop, message);
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
            ("GETNAME", "Return the name of the current connection."),
            ("ID", "Return the ID of the current connection."),
            ("INFO", "Return information about the current client connection."),
            ("KILL <ip:port> | <option> <value> ...", "Kill connections."),
            ("LIST [TYPE <type>] [ID <id> ...]", "Return information about client connections."),
            ("NO-EVICT (ON|OFF)", "Protect current client connection from eviction."),
            ("NO-TOUCH (ON|OFF)", "Will not touch LRU/LFU stats when this mode is on."),
            ("REPLY (ON|OFF|SKIP)", "Control the replies sent to the current connection."),
            ("SETINFO <option> <value>", "Set client meta attr: LIB-NAME or LIB-VER."),
            ("SETNAME <name>", "Assign the name <name> to the current connection."),
            ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "Unblock the specified blocked client."),
        ],
    );
}
