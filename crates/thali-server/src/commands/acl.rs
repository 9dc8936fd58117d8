//! ACL: the one user there is so far, `default`, with the password of `requirepass`.

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::table::Handler;

const SUB: Spec = Spec {
    group: Group::Server,
    since: "6.0.0",
    arity: 2,
    flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE),
    ..Spec::BASE
};
const ACL: Spec = Spec {
    name: "acl",
    summary: "A container for Access List Control commands.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "whoami",
            summary: "Returns the authenticated username of the current connection.",
            ..SUB
        },
        Spec { name: "users", summary: "Lists all ACL users.", flags: SUB.flags.union(Flags::ADMIN), ..SUB },
        Spec { name: "help", summary: "Returns helpful text about the different subcommands.", ..SUB },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[(&ACL, Handler::Server(acl))];

fn acl(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[1].to_ascii_lowercase().as_slice() {
        b"whoami" => {
            let Some(state) = &call.state else { return Err(ErrorReply::SYNTAX) };
            reply.bulk(state.info.user.lock().as_bytes());
        }
        b"users" => {
            reply.array(1);
            reply.bulk(b"default");
        }
        _ => super::help(
            reply,
            "ACL",
            &[
                ("USERS", "List all the registered usernames."),
                ("WHOAMI", "Return the current connection username."),
            ],
        ),
    }
    Ok(Flow::Done)
}
