//! HELLO, AUTH, QUIT, RESET.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use thali_commands::{Categories, ErrorReply, Flags, Flow, Group, Origin, Outcome, Spec, is_word, parse_i64};
use thali_resp::{Protocol, Reply};

use super::Entry;
use crate::acl::{self, Event, Place, Reason, User};
use crate::call::Call;
use crate::table::{Handler, SessionVerb};
use crate::{REDIS_VERSION, session::SessionState};

const BASE: Spec = Spec {
    group: Group::Connection,
    flags: Flags::NOSCRIPT
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::FAST)
        .union(Flags::NO_AUTH)
        .union(Flags::ALLOW_BUSY),
    categories: Categories::CONNECTION,
    ..Spec::BASE
};
const HELLO: Spec = Spec {
    name: "hello",
    summary: "Handshakes with the server.",
    syntax: "[protover [AUTH username password] [SETNAME clientname]]",
    since: "6.0.0",
    arity: -1,
    ..BASE
};
const AUTH: Spec = Spec {
    name: "auth",
    summary: "Authenticates the connection.",
    syntax: "[username] password",
    arity: -2,
    complexity: "O(N)",
    ..BASE
};
const QUIT: Spec = Spec { name: "quit", summary: "Closes the connection.", arity: -1, ..BASE };
const RESET: Spec =
    Spec { name: "reset", summary: "Resets the connection.", since: "6.2.0", arity: 1, ..BASE };

pub(super) const TABLE: &[Entry] = &[
    (&HELLO, Handler::Server(hello)),
    (&AUTH, Handler::Server(auth)),
    (&QUIT, Handler::Session(SessionVerb::Quit)),
    (&RESET, Handler::Session(SessionVerb::Reset)),
];

const WRONG_PASSWORD: ErrorReply =
    ErrorReply::new("WRONGPASS invalid username-password pair or user is disabled.");

/// The user, where the password is right; else the try is written down. `command` as the client wrote it.
fn authenticate(
    call: &Call<'_, '_>,
    command: &[u8],
    user: &[u8],
    password: &[u8],
) -> Result<Arc<User>, ErrorReply> {
    let acl = &call.shared.acl;
    if let Some(found) = acl.authenticate(user, password) {
        return Ok(found);
    }
    let state = call.state.as_deref();
    state.inspect(|state| state.publish_info());
    // The queue of a transaction that runs is not the session's any more.
    let place = if call.cx.origin == Origin::Unit { Place::Transaction } else { Place::TopLevel };
    let client = state.map(|state| state.info.line(call.side.now_ms)).unwrap_or_default();
    let event = Event { reason: Reason::Auth, place, object: command, user, client };
    acl.log.note(event, call.side.now_ms, call.side.settings.acllog_max_len);
    Err(WRONG_PASSWORD)
}

fn auth(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (user, password) = match args {
        [_, password] => {
            if call.shared.acl.default_user().rules().has_no_pass() {
                return Err(ErrorReply::new(
                    "ERR AUTH <password> called without any password configured for the default user. Are you \
                     sure your configuration is correct?",
                ));
            }
            (acl::DEFAULT, *password)
        }
        [_, user, password] => (*user, *password),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let user = authenticate(call, args[0], user, password)?;
    if let Some(state) = &mut call.state {
        state.log_in(user);
    }
    reply.ok();
    Ok(Flow::Done)
}

/// What HELLO's arguments ask for.
#[derive(Default)]
struct Hello<'a> {
    protocol: Option<Protocol>,
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn parse_hello<'a>(args: &[&'a [u8]]) -> Result<Hello<'a>, ErrorReply> {
    let mut hello = Hello::default();
    let Some(version) = args.first() else { return Ok(hello) };
    hello.protocol = Some(match parse_i64(version) {
        None => return Err(ErrorReply::new("ERR Protocol version is not an integer or out of range")),
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        Some(_) => return Err(ErrorReply::new("NOPROTO unsupported protocol version")),
    });
    let mut rest = &args[1..];
    loop {
        rest = match rest {
            [] => return Ok(hello),
            [word, user, password, rest @ ..] if is_word(word, "AUTH") => {
                hello.auth = Some((user, password));
                rest
            }
            [word, name, rest @ ..] if is_word(word, "SETNAME") => {
                check_name(name, "Client names")?;
                hello.name = Some(name);
                rest
            }
            [word, ..] => {
                let word = String::from_utf8_lossy(word);
                return Err(ErrorReply::owned(format!("ERR Syntax error in HELLO option '{word}'")));
            }
        };
    }
}

fn hello(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let hello = parse_hello(&args[1..])?;
    let user = match hello.auth {
        Some((user, password)) => Some(authenticate(call, args[0], user, password)?),
        None => None,
    };
    let is_open = call.shared.acl.lets_everybody_in();
    let Some(state) = call.state.as_deref_mut() else { return Err(ErrorReply::SYNTAX) };
    if let Some(user) = user {
        state.log_in(user);
    }
    if !state.is_authenticated && !is_open {
        return Err(ErrorReply::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
             the same time",
        ));
    }
    if let Some(name) = hello.name {
        set_name(state, name)?;
    }
    state.protocol = hello.protocol.unwrap_or(state.protocol);
    state.info.resp3.store(state.protocol == Protocol::Resp3, Relaxed);
    reply.set_protocol(state.protocol);
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if state.protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(state.info.id as i64);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Flow::Done)
}

/// Names the connection; the name is shown in lists, so it holds printable characters only.
pub(super) fn set_name(state: &SessionState, name: &[u8]) -> Result<(), ErrorReply> {
    check_name(name, "Client names")?;
    *state.info.name.lock() = name.to_vec();
    Ok(())
}

pub(super) fn check_name(name: &[u8], what: &str) -> Result<(), ErrorReply> {
    if name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(());
    }
    Err(ErrorReply::owned(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}
