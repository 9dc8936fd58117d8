//! SLOWLOG: the commands that took long.

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec, integer};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::table::Handler;

const SUB: Spec = Spec {
    group: Group::Server,
    since: "2.2.12",
    arity: 2,
    flags: Flags::ADMIN.union(Flags::LOADING).union(Flags::STALE),
    ..Spec::BASE
};
const SLOWLOG: Spec = Spec {
    name: "slowlog",
    summary: "A container for slow log commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "get",
            summary: "Returns the slow log's entries.",
            syntax: "[count]",
            complexity: "O(N) where N is the number of entries returned",
            arity: -2,
            ..SUB
        },
        Spec { name: "len", summary: "Returns the number of entries in the slow log.", ..SUB },
        Spec {
            name: "reset",
            summary: "Clears all entries from the slow log.",
            complexity: "O(N) where N is the number of entries in the slowlog",
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Show helpful text about the different subcommands",
            since: "6.2.0",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[(&SLOWLOG, Handler::Server(slowlog))];

/// Entries that GET gives unless asked for another count.
const COUNT_DEFAULT: usize = 10;

fn slowlog(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let log = &call.shared.slowlog;
    match args[1].to_ascii_lowercase().as_slice() {
        b"get" => {
            let entries = log.newest(count(&args[2..])?);
            reply.array(entries.len());
            for entry in entries {
                reply.array(6);
                reply.integer(entry.id as i64);
                reply.integer(entry.at_unix_s as i64);
                reply.integer(entry.micros as i64);
                reply.array(entry.args.len());
                entry.args.iter().for_each(|arg| reply.bulk(arg));
                reply.bulk(entry.peer.as_bytes());
                reply.bulk(&entry.client_name);
            }
        }
        b"len" => reply.integer(log.len() as i64),
        b"reset" => {
            log.clear();
            reply.ok();
        }
        _ => super::help(
            reply,
            "SLOWLOG",
            &[
                ("GET [<count>]", "Return top <count> entries from the slowlog (default: 10, -1 mean all)."),
                ("LEN", "Return the length of the slowlog."),
                ("RESET", "Reset the slowlog."),
            ],
        ),
    }
    Ok(Flow::Done)
}

fn count(args: &[&[u8]]) -> Result<usize, ErrorReply> {
    match args {
        [] => Ok(COUNT_DEFAULT),
        [count] => match integer(count)? {
            -1 => Ok(usize::MAX),
            count => usize::try_from(count)
                .map_err(|_| ErrorReply::new("ERR count should be greater than or equal to -1")),
        },
        _ => Err(ErrorReply::SYNTAX),
    }
}
