//! COMMAND: the table, as clients ask for it.

use thali_commands::{Categories, ErrorReply, Flags, Flow, Group, Keys, Outcome, Spec, is_word};
use thali_keyspace::glob;
use thali_resp::Reply;

use super::{Entry, arguments, key_specs, tips};
use crate::acl::{self, CATEGORIES};
use crate::call::Call;
use crate::dispatch;
use crate::names::Names;
use crate::scripts::runs_scripts;
use crate::table::{self, Handler, Row};

const SUB: Spec = Spec {
    group: Group::Server,
    since: "2.8.13",
    arity: -2,
    flags: Flags::LOADING.union(Flags::STALE),
    categories: Categories::CONNECTION,
    ..Spec::BASE
};
const COMMAND: Spec = Spec {
    name: "command",
    summary: "Returns detailed information about all commands.",
    complexity: "O(N) where N is the total number of Redis commands",
    arity: -1,
    subcommands: &[
        Spec { name: "count", summary: "Returns a count of commands.", arity: 2, ..SUB },
        Spec {
            name: "info",
            summary: "Returns information about one, multiple or all commands.",
            syntax: "[command-name [command-name ...]]",
            ..SUB
        },
        Spec {
            name: "docs",
            summary: "Returns documentary information about commands.",
            syntax: "[command-name [command-name ...]]",
            since: "7.0.0",
            ..SUB
        },
        Spec {
            name: "list",
            summary: "Returns a list of command names.",
            syntax: "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
            since: "7.0.0",
            ..SUB
        },
        Spec {
            name: "getkeys",
            summary: "Extracts the key names from an arbitrary command.",
            syntax: "command [arg [arg ...]]",
            arity: -3,
            ..SUB
        },
        Spec {
            name: "getkeysandflags",
            summary: "Extracts the key names and access flags for an arbitrary command.",
            syntax: "command [arg [arg ...]]",
            since: "7.0.0",
            arity: -3,
            ..SUB
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            arity: 2,
            ..SUB
        },
    ],
    ..SUB
};

pub(super) const TABLE: &[Entry] = &[(&COMMAND, Handler::Server(command))];

fn command(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let names = &call.shared.names;
    let Some(sub) = args.get(1) else {
        all_infos(names, reply);
        return Ok(Flow::Done);
    };
    match sub.to_ascii_lowercase().as_slice() {
        b"count" => reply.integer(offered(names).len() as i64),
        b"info" if args.len() == 2 => all_infos(names, reply),
        b"info" => {
            reply.array(args.len() - 2);
            for name in &args[2..] {
                match named(names, name) {
                    Some((name, spec)) => info(&name, spec, reply),
                    None => reply.null_array(),
                }
            }
        }
        b"docs" => docs(names, &args[2..], reply),
        b"list" => list(names, &args[2..], reply)?,
        b"getkeys" => keys_of(names, &args[2..], false, reply)?,
        b"getkeysandflags" => keys_of(names, &args[2..], true, reply)?,
        _ => super::help(
            reply,
            "COMMAND",
            &[
                ("(no subcommand)", "Return details about all Redis commands."),
                ("COUNT", "Return the total number of commands in this Redis server."),
                ("LIST [FILTERBY ...]", "Return a list of all commands in this Redis server."),
                ("INFO [<command-name> ...]", "Return details about multiple Redis commands."),
                ("DOCS [<command-name> ...]", "Return documentation details about multiple Redis commands."),
                ("GETKEYS <full-command>", "Return the keys from a full Redis command."),
                ("GETKEYSANDFLAGS <full-command>", "Return the keys and the access flags."),
            ],
        ),
    }
    Ok(Flow::Done)
}

/// The command, or the subcommand behind a `|`, with its full name.
fn named(names: &Names, name: &[u8]) -> Option<(String, &'static Spec)> {
    let end = name.iter().position(|byte| *byte == b'|').unwrap_or(name.len());
    let own = names.translate(&[&name[..end]]).ok()?[0].to_vec();
    table::named(&[&own, &name[end..]].concat())
        .map(|(row, spec)| (table::full_name(row, spec).into_owned(), spec))
}

/// The commands that can be called.
fn offered(names: &Names) -> Vec<&'static Row> {
    table::rows().iter().filter(|row| names.offers(row.spec.name)).collect()
}

fn all_infos(names: &Names, reply: &mut Reply<'_>) {
    let rows = offered(names);
    reply.array(rows.len());
    rows.iter().for_each(|row| info(row.spec.name, row.spec, reply));
}

fn flag_words(spec: &Spec) -> Vec<&'static str> {
    let words = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::BLOCKING, "blocking"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::SKIP_MONITOR, "skip_monitor"),
        (Flags::SKIP_SLOWLOG, "skip_slowlog"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::MAY_REPLICATE, "may_replicate"),
        (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::MOVABLE_KEYS, "movablekeys"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];
    words.iter().filter(|(flag, _)| spec.flags.contains(*flag)).map(|(_, word)| *word).collect()
}

fn category_words(spec: &Spec) -> Vec<String> {
    let categories = spec.all_categories();
    let is_in =
        |name: &&&str| acl::category_named(name.as_bytes()).is_some_and(|one| categories.contains(one));
    CATEGORIES.iter().filter(is_in).map(|name| format!("@{name}")).collect()
}

fn info(name: &str, spec: &Spec, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(name.as_bytes());
    reply.integer(i64::from(spec.arity));
    let words = flag_words(spec);
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
    let (first, last, step) = key_specs::positions(name, spec);
    for position in [first, last, step] {
        reply.integer(position);
    }
    let words = category_words(spec);
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
    let tips = tips::of(name);
    reply.set(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    key_specs::write(name, spec, reply);
    // Redis's type for none is another than for some.
    if spec.subcommands.is_empty() {
        reply.set(0);
    } else {
        reply.array(spec.subcommands.len());
    }
    for sub in spec.subcommands {
        info(&format!("{name}|{}", sub.name), sub, reply);
    }
}

fn docs(names: &Names, asked: &[&[u8]], reply: &mut Reply<'_>) {
    let chosen: Vec<(String, &'static Spec)> = if asked.is_empty() {
        offered(names).into_iter().map(|row| (row.spec.name.to_owned(), row.spec)).collect()
    } else {
        asked.iter().filter_map(|name| named(names, name)).collect()
    };
    reply.map(chosen.len());
    for (name, spec) in chosen {
        doc(&name, spec, reply);
    }
}

fn doc(name: &str, spec: &Spec, reply: &mut Reply<'_>) {
    reply.bulk(name.as_bytes());
    reply.map_of(|reply| {
        let texts = [
            ("summary", spec.summary),
            ("since", spec.since),
            ("group", spec.group.name()),
            ("complexity", spec.complexity),
        ];
        for (field, value) in texts {
            reply.bulk(field.as_bytes());
            reply.bulk(value.as_bytes());
        }
        let arguments = arguments::write(name, spec, reply);
        if !spec.subcommands.is_empty() {
            reply.bulk(b"subcommands");
            reply.map(spec.subcommands.len());
            for sub in spec.subcommands {
                doc(&format!("{name}|{}", sub.name), sub, reply);
            }
        }
        texts.len() + arguments + usize::from(!spec.subcommands.is_empty())
    });
}

/// Whether COMMAND LIST shows a command of this full name.
type Filter = Box<dyn Fn(&str, &Spec) -> bool>;

fn list(names: &Names, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let keep: Filter = match args {
        [] => Box::new(|_, _| true),
        [word, by, what] if is_word(word, "FILTERBY") => {
            let what = what.to_ascii_lowercase();
            if is_word(by, "PATTERN") {
                Box::new(move |name, _| glob::matches_ignore_case(&what, name.as_bytes()))
            } else if is_word(by, "ACLCAT") {
                let word = format!("@{}", String::from_utf8_lossy(&what));
                Box::new(move |_, spec| category_words(spec).contains(&word))
            } else if is_word(by, "MODULE") {
                Box::new(|_, _| false)
            } else {
                return Err(ErrorReply::SYNTAX);
            }
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let mut shown = Vec::new();
    for row in offered(names) {
        for spec in std::iter::once(row.spec).chain(row.spec.subcommands) {
            let name = table::full_name(row, spec);
            if keep(&name, spec) {
                shown.push(name);
            }
        }
    }
    reply.array(shown.len());
    shown.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}

const INVALID_COMMAND: &str = "ERR Invalid command specified";

fn keys_of(
    names: &Names,
    request: &[&[u8]],
    with_flags: bool,
    reply: &mut Reply<'_>,
) -> Result<(), ErrorReply> {
    let request = names.translate(request).map_err(|_| ErrorReply::new(INVALID_COMMAND))?;
    let request = &*request;
    let (row, spec) = dispatch::resolve(request).map_err(|error| {
        if error.text().starts_with(b"ERR wrong number") {
            ErrorReply::new("ERR Invalid number of arguments specified for command")
        } else {
            ErrorReply::new(INVALID_COMMAND)
        }
    })?;
    let mut found = Vec::new();
    spec.keys.each(request, &mut |at, access| found.push((at, access)));
    // Scripts and functions may well be given none.
    if found.is_empty() && !runs_scripts(row.spec.name) {
        return Err(ErrorReply::new(match spec.keys {
            Keys::None => "ERR The command has no key arguments",
            _ => "ERR Invalid arguments specified for command",
        }));
    }
    reply.array(found.len());
    let name = table::full_name(row, spec);
    for (index, (at, access)) in found.into_iter().enumerate() {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(request[at]);
        if with_flags {
            let words = key_specs::words(&name, index, access);
            reply.set(words.len());
            words.iter().for_each(|word| reply.simple(word));
        }
    }
    Ok(())
}
