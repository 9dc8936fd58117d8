//! ACL: users and what they may do, as administrators see and change them.

use std::sync::Arc;

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec, integer, is_word};
use thali_resp::Reply;

use super::Entry;
use crate::acl::{self, CATEGORIES, Rules, Selector};
use crate::call::Call;
use crate::mailbox::Message;
use crate::table::{self, Handler};

const SUB: Spec = Spec {
    group: Group::Server,
    since: "6.0.0",
    arity: 2,
    flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE),
    ..Spec::BASE
};
const ADMIN: Spec = Spec { flags: SUB.flags.union(Flags::ADMIN), ..SUB };

const ACL: Spec = Spec {
    name: "acl",
    summary: "A container for Access List Control commands.",
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::empty(),
    subcommands: &[
        Spec {
            name: "cat",
            summary: "Lists the ACL categories, or the commands inside a category.",
            syntax: "[category]",
            arity: -2,
            ..SUB
        },
        Spec {
            name: "deluser",
            summary: "Deletes ACL users, and terminates their connections.",
            syntax: "username [username ...]",
            arity: -3,
            ..ADMIN
        },
        Spec {
            name: "dryrun",
            summary: "Simulates the execution of a command by a user, without executing the command.",
            syntax: "username command [arg [arg ...]]",
            since: "7.0.0",
            arity: -4,
            ..ADMIN
        },
        Spec {
            name: "genpass",
            summary: "Generates a pseudorandom, secure password that can be used to identify ACL users.",
            syntax: "[bits]",
            arity: -2,
            ..SUB
        },
        Spec {
            name: "getuser",
            summary: "Lists the ACL rules of a user.",
            syntax: "username",
            arity: 3,
            ..ADMIN
        },
        Spec { name: "list", summary: "Dumps the effective rules in ACL file format.", ..ADMIN },
        Spec { name: "load", summary: "Reloads the rules from the configured ACL file.", ..ADMIN },
        Spec {
            name: "log",
            summary: "Lists recent security events generated due to ACL rules.",
            syntax: "[count | RESET]",
            arity: -2,
            ..ADMIN
        },
        Spec { name: "save", summary: "Saves the effective ACL rules in the configured ACL file.", ..ADMIN },
        Spec {
            name: "setuser",
            summary: "Creates and modifies an ACL user and its rules.",
            syntax: "username [rule [rule ...]]",
            arity: -3,
            ..ADMIN
        },
        Spec { name: "users", summary: "Lists all ACL users.", ..ADMIN },
        Spec {
            name: "whoami",
            summary: "Returns the authenticated username of the current connection.",
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

pub(super) const TABLE: &[Entry] = &[(&ACL, Handler::Server(run))];

/// Entries that LOG gives unless asked for another count.
const LOG_COUNT_DEFAULT: i64 = 10;
const PASSWORD_BITS_DEFAULT: i64 = 256;
const PASSWORD_BITS_MAX: i64 = 4096;

fn run(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[1].to_ascii_lowercase().as_slice() {
        b"cat" => cat(args, reply)?,
        b"deluser" => deluser(call, &args[2..], reply)?,
        b"dryrun" => dryrun(call, args[2], &args[3..], reply)?,
        b"genpass" => genpass(args, reply)?,
        b"getuser" => match call.shared.acl.find(args[2]) {
            Some(user) => getuser(&user.rules(), reply),
            None => reply.null(),
        },
        b"list" => {
            let lines = call.shared.acl.lines();
            reply.array(lines.len());
            lines.iter().for_each(|line| reply.bulk(line));
        }
        b"load" => load(call, reply)?,
        b"log" => log(call, args, reply)?,
        b"save" => save(call, reply)?,
        b"setuser" => {
            let all_channels = call.side.settings.acl_pubsub_all;
            let revoked = call.shared.acl.set_user(args[2], &args[3..], all_channels).map_err(err)?;
            enforce(call, &revoked);
            reply.ok();
        }
        b"users" => {
            let users = call.shared.acl.all();
            reply.array(users.len());
            users.iter().for_each(|user| reply.bulk(user.name()));
        }
        b"whoami" => match &call.state {
            Some(state) => reply.bulk(state.user.name()),
            None => reply.null(),
        },
        _ => help(reply),
    }
    Ok(Flow::Done)
}

fn err(text: String) -> ErrorReply {
    ErrorReply::owned(format!("ERR {text}"))
}

/// The error to a subcommand with more arguments than its forms have.
fn wrong_form(args: &[&[u8]]) -> ErrorReply {
    let name = String::from_utf8_lossy(args[1]);
    err(format!("unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP."))
}

/// Ends the connections that lost their user, and has each loop look at its subscribers.
fn enforce(call: &mut Call<'_, '_>, revoked: &acl::Revoked) {
    let own_id = call.state.as_ref().map(|state| state.id);
    if !revoked.gone.is_empty() {
        for info in call.shared.clients.all() {
            let user = Arc::clone(&info.user.lock());
            if revoked.gone.iter().any(|gone| Arc::ptr_eq(gone, &user)) {
                super::client::end(call, &info);
            }
        }
    }
    for user in &revoked.narrowed {
        for event_loop in 0..call.shared.mailboxes.len() as u16 {
            let asked_by = own_id.filter(|_| event_loop == call.side.event_loop);
            let message = Message::ChannelsRevoked { user: Arc::clone(user), asked_by };
            call.side.send(call.shared, event_loop, message);
        }
    }
}

fn cat(args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    match args[2..] {
        [] => {
            reply.array(CATEGORIES.len());
            CATEGORIES.iter().for_each(|name| reply.bulk(name.as_bytes()));
        }
        [name] => {
            let category = acl::category_named(name).ok_or_else(|| {
                err(format!("Unknown category '{}'", String::from_utf8_lossy(&name[..name.len().min(128)])))
            })?;
            let all = table::all().filter(|(_, spec)| spec.all_categories().contains(category));
            let names: Vec<_> = all.map(|(row, spec)| table::full_name(row, spec)).collect();
            reply.array(names.len());
            names.iter().for_each(|name| reply.bulk(name.as_bytes()));
        }
        _ => return Err(wrong_form(args)),
    }
    Ok(())
}

fn deluser(call: &mut Call<'_, '_>, names: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    if names.contains(&acl::DEFAULT) {
        return Err(ErrorReply::new("ERR The 'default' user cannot be removed"));
    }
    let revoked = call.shared.acl.delete(names);
    enforce(call, &revoked);
    reply.integer(revoked.gone.len() as i64);
    Ok(())
}

fn dryrun(
    call: &Call<'_, '_>,
    name: &[u8],
    request: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Result<(), ErrorReply> {
    let shown = String::from_utf8_lossy;
    let user = call.shared.acl.find(name).ok_or_else(|| err(format!("User '{}' not found", shown(name))))?;
    let not_found = || err(format!("Command '{}' not found", shown(request[0])));
    let translated = call.shared.names.translate(request).map_err(|_| not_found())?;
    let (row, spec) = table::find_request(&translated).ok_or_else(not_found)?;
    if !spec.arity_fits(request.len()) {
        return Err(ErrorReply::wrong_arity(&table::full_name(row, spec)));
    }
    match user.rules().check(row, spec, request) {
        Ok(()) => reply.ok(),
        Err(denial) => reply.bulk(&denial.in_full(name, row, spec, request)),
    }
    Ok(())
}

fn genpass(args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let bits = match args[2..] {
        [] => PASSWORD_BITS_DEFAULT,
        [bits] => integer(bits)?,
        _ => return Err(wrong_form(args)),
    };
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(err(format!(
            "ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
             {PASSWORD_BITS_MAX}"
        )));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0; digits.div_ceil(2)];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| err(format!("no randomness from the system: {error}")))?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    reply.bulk(&hex.as_bytes()[..digits]);
    Ok(())
}

fn getuser(rules: &Rules, reply: &mut Reply<'_>) {
    let (first, more) = rules.parts();
    reply.map(6);
    reply.bulk(b"flags");
    let flags = rules.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    let passwords = rules.password_hashes();
    reply.array(passwords.len());
    passwords.for_each(|hash| reply.bulk(hash.as_bytes()));
    selector(first, reply);
    reply.bulk(b"selectors");
    reply.array(more.len());
    for one in more {
        reply.map(3);
        selector(one, reply);
    }
}

fn selector(selector: &Selector, reply: &mut Reply<'_>) {
    type Describe = fn(&Selector, &mut Vec<u8>);
    let fields: [(&str, Describe); 3] = [
        ("commands", Selector::describe_commands),
        ("keys", Selector::describe_keys),
        ("channels", Selector::describe_channels),
    ];
    for (name, describe) in fields {
        let mut text = Vec::new();
        describe(selector, &mut text);
        reply.bulk(name.as_bytes());
        reply.bulk(&text);
    }
}

fn log(call: &Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let log = &call.shared.acl.log;
    let count = match args[2..] {
        [] => LOG_COUNT_DEFAULT,
        [word] if is_word(word, "RESET") => {
            log.clear();
            reply.ok();
            return Ok(());
        }
        [count] => integer(count)?,
        _ => return Err(wrong_form(args)),
    };
    let entries = log.newest(usize::try_from(count).unwrap_or(0));
    reply.array(entries.len());
    for entry in entries {
        let age_s = call.side.now_ms.saturating_sub(entry.last_at_ms) as f64 / 1000.0;
        reply.map(10);
        number(reply, "count", entry.count);
        text(reply, "reason", entry.reason.word().as_bytes());
        text(reply, "context", entry.place.word().as_bytes());
        text(reply, "object", &entry.object);
        text(reply, "username", &entry.user);
        reply.bulk(b"age-seconds");
        reply.double_text(age_s.to_string().as_bytes());
        text(reply, "client-info", entry.client.as_bytes());
        number(reply, "entry-id", entry.id);
        number(reply, "timestamp-created", entry.begun_at_ms);
        number(reply, "timestamp-last-updated", entry.last_at_ms);
    }
    Ok(())
}

fn number(reply: &mut Reply<'_>, field: &str, value: u64) {
    reply.bulk(field.as_bytes());
    reply.integer(value as i64);
}

fn text(reply: &mut Reply<'_>, field: &str, value: &[u8]) {
    reply.bulk(field.as_bytes());
    reply.bulk(value);
}

const NO_FILE: ErrorReply = ErrorReply::new(
    "ERR This instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
     command and then issue a CONFIG REWRITE (assuming you have a configuration file set) in order to store users \
     in the configuration.",
);

fn load(call: &mut Call<'_, '_>, reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    if call.shared.acl.path.is_none() {
        return Err(NO_FILE);
    }
    let users = acl::configured_users(&call.shared.config.lock().clone()).map_err(err)?;
    let revoked = call.shared.acl.replace(users);
    enforce(call, &revoked);
    reply.ok();
    Ok(())
}

fn save(call: &Call<'_, '_>, reply: &mut Reply<'_>) -> Result<(), ErrorReply> {
    let path = call.shared.acl.path.as_ref().ok_or(NO_FILE)?;
    call.shared.acl.save(path).map_err(|error| {
        tracing::warn!(file = %path.display(), %error, "the users could not be saved");
        ErrorReply::new(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
        )
    })?;
    reply.ok();
    Ok(())
}

fn help(reply: &mut Reply<'_>) {
    super::help(
        reply,
        "ACL",
        &[
            ("CAT [<category>]", "List the categories, or the commands that belong to <category>."),
            ("DELUSER <username> [<username> ...]", "Delete users and end their connections."),
            (
                "DRYRUN <username> <command> [<arg> ...]",
                "Say whether the user may run the command, without running it.",
            ),
            ("GETUSER <username>", "Show a user's details."),
            ("GENPASS [<bits>]", "Make a secure password of 256 bits, or of as many as asked for."),
            ("LIST", "Show all users in the form of the configuration file."),
            ("LOAD", "Read the users from the ACL file again."),
            ("LOG [<count> | RESET]", "Show what was refused lately, or forget it."),
            ("SAVE", "Write the users to the ACL file."),
            ("SETUSER <username> <attribute> [<attribute> ...]", "Make a user or change one."),
            ("USERS", "List the names of all users."),
            ("WHOAMI", "Show the user of this connection."),
        ],
    );
}
