//! Who may do what: users, their rules, the log of what was refused, and the gates that ask.
//!
//! `user` holds a user's rules (`selector` what they let happen to commands, keys and channels,
//! `command_rules` the part about commands): pure, rules in as words, the canonical description out.
//! `registry` holds all users, `file` the file that they may come from, `log` what was refused.
//!
//! A session points at its [`User`]. Whose rules hold nothing back passes each gate with one look at one
//! flag; all others go through [`check`], at each place where a command begins: dispatch, EXEC, a script's
//! call, and a waiter that is served.
//!
//! INVARIANT: once ACL SETUSER, DELUSER or LOAD has answered, no command begins with the old rights, on
//! any loop: rules change in place, before the reply. What a loop must do about its subscribers is in its
//! mail before the reply, too, and so before any later message to them.
//!
//! SOURCE: Redis 7.2 and Valkey 8.0, `acl.c` and `acl*.tcl`; words of errors as there.

mod command_rules;
mod file;
mod log;
mod registry;
mod selector;
#[cfg(test)]
mod tests;
mod user;

use std::borrow::Cow;

use thali_commands::{ErrorReply, Spec};

use crate::call::{Shared, Side};
use crate::clients::ClientInfo;
use crate::session::SessionState;
use crate::table::{self, Row};

pub(crate) use command_rules::category_named;
pub(crate) use log::{Event, Place, Reason};
pub(crate) use registry::{Acl, DEFAULT, Revoked, User, check_line, configured_users};
pub(crate) use selector::Selector;
pub(crate) use user::Rules;

/// ACL's categories in the order in which Redis lists them.
/// SOURCE: Redis 7.2, `ACL CAT`.
pub(crate) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Why rules do not let a command run. The greater one is the one to tell, where several selectors refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Denial {
    Command,
    /// The position of the key among the arguments.
    Key(usize),
    /// The position of a pattern for keys that the request does not name, which needs all keys to be readable.
    Beyond(usize),
    Channel(usize),
}

impl Denial {
    /// What ACL DRYRUN says.
    pub fn in_full(self, user: &[u8], row: &Row, spec: &Spec, args: &[&[u8]]) -> Vec<u8> {
        let (what, kind) = match self {
            Self::Command | Self::Beyond(_) => return self.in_short(user, row, spec, args),
            Self::Key(at) => (args[at], "key"),
            Self::Channel(at) => (args[at], "channel"),
        };
        [b"User ", user, b" has no permissions to access the '", what, b"' ", kind.as_bytes()].concat()
    }

    /// What a client is told: not which key or channel.
    pub fn in_short(self, user: &[u8], row: &Row, spec: &Spec, args: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Command => {
                let name = table::full_name(row, spec);
                [b"User ", user, b" has no permissions to run the '", name.as_bytes(), b"' command"].concat()
            }
            Self::Key(_) => b"No permissions to access a key".to_vec(),
            Self::Beyond(at) => {
                let option = args[at - 1].to_ascii_uppercase();
                [&option, &b" option of SORT denied due to insufficient ACL permissions."[..]].concat()
            }
            Self::Channel(_) => b"No permissions to access a channel".to_vec(),
        }
    }

    fn event<'a>(self, row: &Row, spec: &Spec, args: &[&'a [u8]]) -> (Reason, Cow<'a, [u8]>) {
        match self {
            Self::Command => (Reason::Command, table::full_name(row, spec).into_owned().into_bytes().into()),
            Self::Key(at) | Self::Beyond(at) => (Reason::Key, args[at].into()),
            Self::Channel(at) => (Reason::Channel, args[at].into()),
        }
    }
}

/// Asks a user's rules about a command and writes a refusal down. `info` is the client's, where one is known.
#[cold]
pub(crate) fn check(
    shared: &Shared,
    side: &Side,
    (user, info): (&User, Option<&ClientInfo>),
    place: Place,
    (row, spec, args): (&Row, &Spec, &[&[u8]]),
) -> Result<(), Denial> {
    let denial = match user.rules().check(row, spec, args) {
        Ok(()) => return Ok(()),
        Err(denial) => denial,
    };
    let (reason, object) = denial.event(row, spec, args);
    let client = info.map(|info| info.line(side.now_ms)).unwrap_or_default();
    let event = Event { reason, place, object: &object, user: user.name(), client };
    shared.acl.log.note(event, side.now_ms, side.settings.acllog_max_len);
    Err(denial)
}

/// The gate of dispatch for a user whose rules hold something back.
#[cold]
pub(crate) fn gate(
    shared: &Shared,
    side: &Side,
    state: &SessionState,
    command: (&Row, &Spec, &[&[u8]]),
) -> Result<(), ErrorReply> {
    // The log shows the client with the command that was refused.
    state.note_command(command.0, command.1);
    state.publish_info();
    let place = if state.transaction.is_some() { Place::Transaction } else { Place::TopLevel };
    check(shared, side, (&state.user, Some(&state.info)), place, command)
        .map_err(|denial| refusal(b"NOPERM ", denial, &state.user, command))
}

/// The gate of a command that waited, for the user that sent it.
#[cold]
pub(crate) fn gate_waiter(
    shared: &Shared,
    side: &Side,
    (user, info): (&User, Option<&ClientInfo>),
    command: (&Row, &Spec, &[&[u8]]),
) -> Result<(), ErrorReply> {
    check(shared, side, (user, info), Place::TopLevel, command)
        .map_err(|denial| refusal(b"NOPERM ", denial, user, command))
}

fn refusal(code: &[u8], denial: Denial, user: &User, command: (&Row, &Spec, &[&[u8]])) -> ErrorReply {
    let (row, spec, args) = command;
    // In Redis it is the command that refuses this.
    let code = if matches!(denial, Denial::Beyond(_)) { b"ERR " } else { code };
    ErrorReply::owned([code, &*denial.in_short(user.name(), row, spec, args)].concat())
}

/// The gate of EXEC: rules may have changed since a command was queued.
#[cold]
pub(crate) fn gate_queued(
    shared: &Shared,
    side: &Side,
    state: &SessionState,
    command: (&Row, &Spec, &[&[u8]]),
) -> Result<(), ErrorReply> {
    let who = (&*state.user, Some(&*state.info));
    check(shared, side, who, Place::Transaction, command).map_err(|denial| {
        let reason = match denial {
            Denial::Command => "no permission to execute the command or subcommand",
            Denial::Key(_) | Denial::Beyond(_) => "no permission to touch the specified keys",
            Denial::Channel(_) => "no permission to access one of the channels used as arguments",
        };
        ErrorReply::owned(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. \
             This command is no longer allowed for the following reason: {reason}"
        ))
    })
}

/// The gate of a script's call, for the user that runs the script.
#[cold]
pub(crate) fn gate_script(
    shared: &Shared,
    side: &Side,
    state: &SessionState,
    command: (&Row, &Spec, &[&[u8]]),
) -> Result<(), ErrorReply> {
    check(shared, side, (&state.user, Some(&state.info)), Place::Script, command)
        .map_err(|denial| refusal(b"ERR ACL failure in script: ", denial, &state.user, command))
}
