//! FUNCTION, FCALL and FCALL_RO.

use thali_commands::{Access, ErrorReply, Flags, Flow, Keys, Outcome, Spec, is_word, parse_i64};
use thali_keyspace::glob;
use thali_keyspace::locks::ShardId;
use thali_rdb::{Encoder, Version};
use thali_resp::Reply;
use thali_script::Library;

use super::{Entry, scripting};
use crate::busy::Kind;
use crate::call::Call;
use crate::functions::{self, Change};
use crate::scripts::{self, Program, Run};
use crate::table::Handler;
use crate::unit::Plan;

const FCALL: Spec = Spec {
    name: "fcall",
    summary: "Invokes a function.",
    syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
    since: "7.0.0",
    complexity: "Depends on the function that is executed.",
    ..scripting::EVAL
};
const FCALL_RO: Spec = Spec {
    name: "fcall_ro",
    summary: "Invokes a read-only function.",
    syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
    flags: scripting::EVAL_RO.flags,
    keys: Keys::Counted { at: 2, first: 3, access: Access::READ, before: &[] },
    ..FCALL
};

const SUB: Spec = Spec {
    syntax: "",
    flags: Flags::NOSCRIPT,
    arity: 2,
    keys: Keys::None,
    complexity: "O(N) where N is the number of functions",
    ..FCALL
};
/// Changes are made with every shard held, see `functions`: FUNCTION takes them itself once it knows the
/// change, a transaction has them from the start.
const CHANGE: Flags = Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::EACH_SHARD);
const FUNCTION: Spec = Spec {
    name: "function",
    summary: "A container for function commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "load",
            summary: "Creates a library.",
            syntax: "[REPLACE] function-code",
            complexity: "O(1) (considering compilation time is redundant)",
            arity: -3,
            flags: CHANGE.union(Flags::DENYOOM),
            ..SUB
        },
        Spec {
            name: "delete",
            summary: "Deletes a library and its functions.",
            syntax: "library-name",
            complexity: "O(1)",
            arity: 3,
            flags: CHANGE,
            ..SUB
        },
        Spec {
            name: "flush",
            summary: "Deletes all libraries and functions.",
            syntax: "[ASYNC | SYNC]",
            complexity: "O(N) where N is the number of functions deleted",
            arity: -2,
            flags: CHANGE,
            ..SUB
        },
        Spec {
            name: "list",
            summary: "Returns information about all libraries.",
            syntax: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
            arity: -2,
            ..SUB
        },
        Spec {
            name: "stats",
            summary: "Returns information about a function during execution.",
            complexity: "O(1)",
            flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
            ..SUB
        },
        Spec {
            name: "kill",
            summary: "Terminates a function during execution.",
            complexity: "O(1)",
            flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
            ..SUB
        },
        Spec { name: "dump", summary: "Dumps all libraries into a serialized binary payload.", ..SUB },
        Spec {
            name: "restore",
            summary: "Restores all libraries from a payload.",
            syntax: "serialized-value [FLUSH | APPEND | REPLACE]",
            complexity: "O(N) where N is the number of functions on the payload",
            arity: -3,
            flags: CHANGE.union(Flags::DENYOOM),
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            complexity: "O(1)",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[
    (&FCALL, Handler::Server(|call, args, reply| fcall(call, args, false, reply))),
    (&FCALL_RO, Handler::Server(|call, args, reply| fcall(call, args, true, reply))),
    (&FUNCTION, Handler::Server(function)),
];

fn fcall(call: &mut Call<'_, '_>, args: &[&[u8]], read_only: bool, reply: &mut Reply<'_>) -> Outcome {
    let program = Program::function(call.shared, args[1])?;
    let count = parse_i64(args[2]).ok_or(ErrorReply::new("ERR Bad number of keys provided"))?;
    let (keys, argv) = scripting::split_keys(count, &args[3..])?;
    scripts::run(call, program, Run { request: args, keys, argv, read_only }, reply)
}

fn function(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[1].to_ascii_lowercase().as_slice() {
        b"list" => list(call, &args[2..], reply)?,
        b"stats" => stats(call, reply)?,
        b"kill" => {
            call.shared.busy.kill(Kind::Function)?;
            reply.ok();
        }
        b"dump" => {
            let version = Version::default();
            let mut encoder = match call.side.settings.rdbcompression {
                true => Encoder::new(version),
                false => Encoder::uncompressed(version),
            };
            let set = call.shared.functions.current();
            reply.bulk(&encoder.dump_functions(set.libraries().map(|library| &**library.text())));
        }
        b"help" => super::help(reply, "FUNCTION", HELP),
        _ => {
            let change = functions::prepare(call, args)?;
            put_in_force(call, &change)?;
            match &change {
                Change::Load { library, .. } => reply.bulk(library.name().as_bytes()),
                _ => reply.ok(),
            }
        }
    }
    Ok(Flow::Done)
}

/// Holds everything, unless the transaction does already, and changes the libraries. The unit lets go once the
/// effect has its place in the journal.
fn put_in_force(call: &mut Call<'_, '_>, change: &Change) -> Result<(), ErrorReply> {
    if call.cx.locked.ids().is_empty() {
        let keyspace = call.cx.locked.keyspace();
        let plan = Plan {
            shards: (0..keyspace.shards_len() as ShardId).collect(),
            // Transactions that run functions hold the token, if nothing else.
            token: true,
            ..Plan::default()
        };
        let (busy, own) = (&call.shared.busy, call.side.event_loop);
        let locked = plan.lock_in(keyspace, &|| busy.elsewhere(own));
        call.cx.locked = locked.ok_or_else(|| busy.refusal(own))?;
        // Once more with the shards held: CLIENT PAUSE may have come meanwhile.
        let pause = &call.shared.pause;
        if pause.is_set() && pause.level(call.side.now_ms).is_some() {
            call.side.postpones = true;
            return Err(ErrorReply::BUSY);
        }
    }
    let set = change.apply(&call.shared.functions.current())?;
    call.shared.functions.put(set);
    call.cx.dirty += 1;
    Ok(())
}

fn list(call: &Call<'_, '_>, options: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let (mut pattern, mut with_code) = (None, false);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if is_word(option, "WITHCODE") && !with_code {
            with_code = true;
        } else if is_word(option, "LIBRARYNAME") && pattern.is_none() {
            let given = rest.next().ok_or(ErrorReply::new("ERR library name argument was not given"))?;
            pattern = Some(*given);
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(ErrorReply::owned(format!("ERR Unknown argument {option}")));
        }
    }
    let set = call.shared.functions.current();
    let fits = |library: &Library| {
        pattern.is_none_or(|pattern| glob::matches_ignore_case(pattern, library.name().as_bytes()))
    };
    reply.array_of(|reply| {
        let listed: Vec<_> = set.libraries().filter(|library| fits(library)).collect();
        listed.iter().for_each(|library| describe(library, with_code, reply));
        listed.len()
    });
    Ok(())
}

fn describe(library: &Library, with_code: bool, reply: &mut Reply<'_>) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(library.name().as_bytes());
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions().len());
    for function in library.functions() {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(function.name.as_bytes());
        reply.bulk(b"description");
        reply.bulk_or_null(function.description.as_deref());
        reply.bulk(b"flags");
        reply.set(function.flags.names().count());
        function.flags.names().for_each(|name| reply.simple(name));
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(library.text());
    }
}

fn stats(call: &Call<'_, '_>, reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let running = call.shared.busy.running_function()?;
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some(running) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(running.name.as_bytes());
            reply.bulk(b"command");
            reply.array(running.command.len());
            running.command.iter().for_each(|arg| reply.bulk(arg));
            reply.bulk(b"duration_ms");
            reply.integer(running.since.elapsed().as_millis() as i64);
        }
    }
    let set = call.shared.functions.current();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(set.libraries().len() as i64);
    reply.bulk(b"functions_count");
    reply.integer(set.functions_len() as i64);
    Ok(())
}

const HELP: &[(&str, &str)] = &[
    ("LOAD [REPLACE] <FUNCTION CODE>", "Load a library; with REPLACE, in the place of one of its name."),
    ("DELETE <LIBRARY NAME>", "Delete a library."),
    (
        "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
        "Return the libraries with their functions, flags and, on request, code.",
    ),
    (
        "STATS",
        "Return the function that has been running for long, if any, and how many libraries and functions there are.",
    ),
    ("KILL", "Kill the function that has been running for long."),
    ("FLUSH [ASYNC|SYNC]", "Delete all libraries."),
    ("DUMP", "Return all libraries as a payload for RESTORE."),
    (
        "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
        "Load a payload's libraries, after deleting all (FLUSH), beside those there (APPEND, the default) or in the place of those of the same name (REPLACE).",
    ),
];
