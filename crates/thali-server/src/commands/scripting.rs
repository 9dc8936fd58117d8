//! EVAL and its relatives, SCRIPT.

use thali_commands::{
    Access, Categories, ErrorReply, Flags, Flow, Group, Keys, Outcome, Spec, is_word, parse_i64,
};
use thali_resp::Reply;
use thali_script::{Script, Sha};

use super::Entry;
use crate::busy::Kind;
use crate::call::Call;
use crate::scripts::{self, Program, Run};
use crate::table::Handler;

pub(super) const EVAL: Spec = Spec {
    name: "eval",
    summary: "Executes a server-side Lua script.",
    syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "Depends on the script that is executed.",
    arity: -3,
    flags: Flags::NOSCRIPT
        .union(Flags::STALE)
        .union(Flags::SKIP_MONITOR)
        .union(Flags::MAY_REPLICATE)
        .union(Flags::MOVABLE_KEYS),
    keys: Keys::Counted { at: 2, first: 3, access: Access::READ_WRITE, before: &[] },
    categories: Categories::SCRIPTING,
    ..Spec::BASE
};
pub(super) const EVAL_RO: Spec = Spec {
    name: "eval_ro",
    summary: "Executes a read-only server-side Lua script.",
    syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
    since: "7.0.0",
    flags: Flags::NOSCRIPT
        .union(Flags::STALE)
        .union(Flags::SKIP_MONITOR)
        .union(Flags::READONLY)
        .union(Flags::MOVABLE_KEYS),
    keys: Keys::Counted { at: 2, first: 3, access: Access::READ, before: &[] },
    ..EVAL
};
const EVALSHA: Spec = Spec {
    name: "evalsha",
    summary: "Executes a server-side Lua script by SHA1 digest.",
    syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
    ..EVAL
};
const EVALSHA_RO: Spec = Spec {
    name: "evalsha_ro",
    summary: "Executes a read-only server-side Lua script by SHA1 digest.",
    syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
    ..EVAL_RO
};

const SUB: Spec =
    Spec { flags: Flags::NOSCRIPT, arity: 2, keys: Keys::None, syntax: "", complexity: "O(1)", ..EVAL };
const SCRIPT: Spec = Spec {
    name: "script",
    summary: "A container for Lua scripts management commands.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "load",
            summary: "Loads a server-side Lua script to the script cache.",
            syntax: "script",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "exists",
            summary: "Determines whether server-side Lua scripts exist in the script cache.",
            syntax: "sha1 [sha1 ...]",
            arity: -3,
            ..SUB
        },
        Spec {
            name: "flush",
            summary: "Removes all server-side Lua scripts from the script cache.",
            syntax: "[ASYNC | SYNC]",
            arity: -2,
            ..SUB
        },
        Spec {
            name: "kill",
            summary: "Terminates a server-side Lua script during execution.",
            flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
            ..SUB
        },
        Spec {
            name: "show",
            summary: "Shows a server-side Lua script from the script cache.",
            syntax: "sha1",
            since: "8.0.0",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "debug",
            summary: "Sets the debug mode of server-side Lua scripts.",
            syntax: "<YES | SYNC | NO>",
            arity: 3,
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[
    (&EVAL, Handler::Server(|call, args, reply| eval(call, args, false, reply))),
    (&EVAL_RO, Handler::Server(|call, args, reply| eval(call, args, true, reply))),
    (&EVALSHA, Handler::Server(|call, args, reply| evalsha(call, args, false, reply))),
    (&EVALSHA_RO, Handler::Server(|call, args, reply| evalsha(call, args, true, reply))),
    (&SCRIPT, Handler::Server(script)),
];

fn eval(call: &mut Call<'_, '_>, args: &[&[u8]], read_only: bool, reply: &mut Reply<'_>) -> Outcome {
    let sha = Sha::of(args[1]);
    let script = match call.shared.scripts.cache.get(&sha) {
        Some(script) => script,
        None => {
            let script = Script::new(args[1]).map_err(|error| ErrorReply::owned(error.to_string()))?;
            scripts::compile(call, &script)?;
            call.shared.scripts.cache.insert_evaluated(script.clone());
            script
        }
    };
    run(call, script, args, read_only, reply)
}

fn evalsha(call: &mut Call<'_, '_>, args: &[&[u8]], read_only: bool, reply: &mut Reply<'_>) -> Outcome {
    let script = find(call, args[1])?;
    run(call, script, args, read_only, reply)
}

fn find(call: &Call<'_, '_>, sha: &[u8]) -> Result<Script, ErrorReply> {
    Sha::parse(sha)
        .and_then(|sha| call.shared.scripts.cache.get(&sha))
        .ok_or(ErrorReply::new("NOSCRIPT No matching script. Please use EVAL."))
}

fn run(
    call: &mut Call<'_, '_>,
    script: Script,
    args: &[&[u8]],
    read_only: bool,
    reply: &mut Reply<'_>,
) -> Outcome {
    let count = parse_i64(args[2]).ok_or(ErrorReply::NOT_INTEGER)?;
    let (keys, argv) = split_keys(count, &args[3..])?;
    scripts::run(call, Program::Script(script), Run { request: args, keys, argv, read_only }, reply)
}

/// A request's keys, and what follows them.
pub(super) type KeysAndRest<'s, 'a> = (&'s [&'a [u8]], &'s [&'a [u8]]);

pub(super) fn split_keys<'s, 'a>(
    count: i64,
    args: &'s [&'a [u8]],
) -> Result<KeysAndRest<'s, 'a>, ErrorReply> {
    let count =
        usize::try_from(count).map_err(|_| ErrorReply::new("ERR Number of keys can't be negative"))?;
    args.split_at_checked(count)
        .ok_or(ErrorReply::new("ERR Number of keys can't be greater than number of args"))
}

fn script(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[1].to_ascii_lowercase().as_slice() {
        b"load" => {
            let script = Script::new(args[2]).map_err(|error| ErrorReply::owned(error.to_string()))?;
            scripts::compile(call, &script)?;
            reply.bulk(&script.sha().hex());
            call.shared.scripts.cache.insert_loaded(script);
        }
        b"exists" => {
            reply.array(args.len() - 2);
            for sha in &args[2..] {
                let known = Sha::parse(sha).is_some_and(|sha| call.shared.scripts.cache.get(&sha).is_some());
                reply.integer(i64::from(known));
            }
        }
        b"flush" => {
            match &args[2..] {
                [] => {}
                [mode] if is_word(mode, "SYNC") || is_word(mode, "ASYNC") => {}
                _ => return Err(ErrorReply::new("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
            }
            call.shared.scripts.flush();
            scripts::forget_flushed(call.shared, call.side);
            reply.ok();
        }
        b"kill" => {
            call.shared.busy.kill(Kind::Script)?;
            reply.ok();
        }
        b"show" => reply.bulk(find(call, args[2])?.body()),
        // What is off already.
        b"debug" if is_word(args[2], "NO") => reply.ok(),
        b"debug" => {
            return Err(ErrorReply::new("ERR SCRIPT DEBUG is not supported: there is no Lua debugger here"));
        }
        _ => super::help(
            reply,
            "SCRIPT",
            &[
                (
                    "EXISTS <sha1> [<sha1> ...]",
                    "Return information about the existence of the scripts in the cache.",
                ),
                ("FLUSH [ASYNC|SYNC]", "Flush the Lua scripts cache."),
                ("KILL", "Kill the currently executing Lua script."),
                ("LOAD <script>", "Load a script into the scripts cache without executing it."),
                ("SHOW <sha1>", "Show a script from the scripts cache."),
            ],
        ),
    }
    Ok(Flow::Done)
}
