//! MODULE: there are none, and none can be loaded.

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::table::Handler;

const SUB: Spec = Spec {
    group: Group::Server,
    since: "4.0.0",
    arity: 2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT),
    ..Spec::BASE
};
const MODULE: Spec = Spec {
    name: "module",
    summary: "A container for module commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            since: "5.0.0",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
        Spec {
            name: "list",
            summary: "Returns all loaded modules.",
            complexity: "O(N) where N is the number of loaded modules.",
            ..SUB
        },
        Spec {
            name: "load",
            summary: "Loads a module.",
            syntax: "path [arg [arg ...]]",
            arity: -3,
            ..CHANGE
        },
        Spec {
            name: "loadex",
            summary: "Loads a module using extended parameters.",
            syntax: "path [CONFIG name value [CONFIG name value ...]] [ARGS arg [arg ...]]",
            since: "7.0.0",
            arity: -3,
            ..CHANGE
        },
        Spec { name: "unload", summary: "Unloads a module.", syntax: "name", arity: 3, ..CHANGE },
    ],
    ..SUB
};

const CHANGE: Spec = Spec { flags: SUB.flags.union(Flags::NO_ASYNC_LOADING), ..SUB };

pub(super) const TABLE: &[Entry] = &[(&MODULE, Handler::Server(module))];

fn module(_: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[1].to_ascii_lowercase().as_slice() {
        b"list" => reply.array(0),
        b"unload" => {
            return Err(ErrorReply::new("ERR Error unloading module: no such module with that name"));
        }
        b"load" | b"loadex" => {
            return Err(ErrorReply::new(
                "ERR Error loading the extension: Thali takes no modules. COMPATIBILITY.md lists the commands that it \
                 has of its own.",
            ));
        }
        _ => super::help(
            reply,
            "MODULE",
            &[
                ("LIST", "Return a list of loaded modules: there are none."),
                ("LOAD <path> [<arg> ...]", "Refused: modules cannot be loaded."),
                ("LOADEX <path> [CONFIG NAME VALUE]... [ARGS ...]", "Refused likewise."),
                ("UNLOAD <name>", "Refused likewise."),
            ],
        ),
    }
    Ok(Flow::Done)
}
