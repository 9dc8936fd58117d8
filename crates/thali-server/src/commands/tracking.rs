//! CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: client-side caching as its clients set it up.
//!
//! SOURCE for the wording: Valkey 8.0 `networking.c`, `tracking.c`.

use thali_commands::{ErrorReply, integer, is_word};
use thali_keyspace::Modes;
use thali_resp::Reply;

use crate::call::Shared;
use crate::session::SessionState;

type Done = Result<(), ErrorReply>;

const NO_SWITCH_OF_BCAST: ErrorReply = ErrorReply::new(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with \
     a different mode.",
);
const NO_SWITCH_OF_OPT: ErrorReply = ErrorReply::new(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with \
     a different mode.",
);

/// What CLIENT TRACKING asks for.
struct Options<'a> {
    modes: Modes,
    redirect: u64,
    prefixes: Vec<&'a [u8]>,
}

fn parse<'a>(shared: &Shared, args: &[&'a [u8]]) -> Result<Options<'a>, ErrorReply> {
    let mut options = Options { modes: Modes::NONE, redirect: 0, prefixes: Vec::new() };
    let mut rest = args;
    while let [word, next @ ..] = rest {
        rest = next;
        let mode = match word.to_ascii_lowercase().as_slice() {
            b"bcast" => Modes::BCAST,
            b"optin" => Modes::OPTIN,
            b"optout" => Modes::OPTOUT,
            b"noloop" => Modes::NOLOOP,
            b"prefix" if !next.is_empty() => {
                options.prefixes.push(next[0]);
                rest = &next[1..];
                continue;
            }
            b"redirect" if !next.is_empty() => {
                if options.redirect != 0 {
                    return Err(ErrorReply::new("ERR A client can only redirect to a single other client"));
                }
                let id = integer(next[0])?;
                let found = u64::try_from(id).ok().and_then(|id| shared.clients.get(id));
                options.redirect =
                    found.ok_or(ErrorReply::new("ERR The client ID you want redirect to does not exist"))?.id;
                rest = &next[1..];
                continue;
            }
            _ => return Err(ErrorReply::SYNTAX),
        };
        options.modes = options.modes.with(mode);
    }
    Ok(options)
}

/// Whether the options go together, and with what is on already.
fn check(state: &SessionState, options: &Options<'_>) -> Done {
    let modes = options.modes;
    let (bcast, optin, optout) =
        (modes.contains(Modes::BCAST), modes.contains(Modes::OPTIN), modes.contains(Modes::OPTOUT));
    if !bcast && !options.prefixes.is_empty() {
        return Err(ErrorReply::new("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    let before = state.tracked.as_ref().map(|tracked| tracked.tracker.modes());
    if before.is_some_and(|before| before.contains(Modes::BCAST) != bcast) {
        return Err(NO_SWITCH_OF_BCAST);
    }
    if bcast && (optin || optout) {
        return Err(ErrorReply::new("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if optin && optout {
        return Err(ErrorReply::new("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    let had = |mode| before.is_some_and(|before| before.contains(mode));
    if (optin && had(Modes::OPTOUT)) || (optout && had(Modes::OPTIN)) {
        return Err(NO_SWITCH_OF_OPT);
    }
    check_prefixes(state, &options.prefixes)
}

/// Two prefixes of one client never match the same key: it would be told twice.
fn check_prefixes(state: &SessionState, prefixes: &[&[u8]]) -> Done {
    let overlaps = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let refusal = |prefix: &[u8], which: &str, other: &[u8]| {
        ErrorReply::owned(
            [
                &b"ERR Prefix '"[..],
                prefix,
                b"' overlaps with ",
                which.as_bytes(),
                b" prefix '",
                other,
                b"'. Prefixes for a single client must not overlap.",
            ]
            .concat(),
        )
    };
    for (at, prefix) in prefixes.iter().enumerate() {
        let mut known = state.tracked.iter().flat_map(|tracked| &tracked.prefixes);
        if let Some(other) = known.find(|other| overlaps(other, prefix)) {
            return Err(refusal(prefix, "an existing", other));
        }
        if let Some(other) = prefixes[at + 1..].iter().find(|other| overlaps(other, prefix)) {
            return Err(refusal(prefix, "another provided", other));
        }
    }
    Ok(())
}

pub(super) fn tracking(
    shared: &Shared,
    state: &mut SessionState,
    args: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Done {
    let options = parse(shared, &args[1..])?;
    if is_word(args[0], "ON") {
        check(state, &options)?;
        shared.tracking.enable(shared, state, options.modes, options.redirect, &options.prefixes);
    } else if is_word(args[0], "OFF") {
        shared.tracking.disable(shared, state);
    } else {
        return Err(ErrorReply::SYNTAX);
    }
    reply.ok();
    Ok(())
}

pub(super) fn caching(state: &SessionState, answer: &[u8], reply: &mut Reply<'_>) -> Done {
    let Some(tracked) = &state.tracked else {
        return Err(ErrorReply::new(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
             enabled",
        ));
    };
    let (mode, refusal) = if is_word(answer, "YES") {
        (Modes::OPTIN, "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    } else if is_word(answer, "NO") {
        (Modes::OPTOUT, "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    } else {
        return Err(ErrorReply::SYNTAX);
    };
    if !tracked.tracker.has(mode) {
        return Err(ErrorReply::new(refusal));
    }
    tracked.tracker.add_mode(Modes::CACHING);
    reply.ok();
    Ok(())
}

/// Who is told in this client's place: 0 nobody, -1 where it does not track.
fn redirect(state: &SessionState) -> i64 {
    state.tracked.as_ref().map_or(-1, |tracked| tracked.tracker.redirect() as i64)
}

pub(super) fn getredir(state: &SessionState, reply: &mut Reply<'_>) {
    reply.integer(redirect(state));
}

pub(super) fn trackinginfo(state: &SessionState, reply: &mut Reply<'_>) {
    let modes = state.tracked.as_ref().map_or(Modes::NONE, |tracked| tracked.tracker.modes());
    let has = |mode| modes.contains(mode);
    let flags = [
        ("on", has(Modes::ON)),
        ("off", !has(Modes::ON)),
        ("bcast", has(Modes::BCAST)),
        ("optin", has(Modes::OPTIN)),
        ("caching-yes", has(Modes::OPTIN.with(Modes::CACHING))),
        ("optout", has(Modes::OPTOUT)),
        ("caching-no", has(Modes::OPTOUT.with(Modes::CACHING))),
        ("noloop", has(Modes::NOLOOP)),
        ("broken_redirect", has(Modes::BROKEN)),
    ];
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.iter().filter(|(_, on)| *on).count());
    flags.iter().filter(|(_, on)| *on).for_each(|(flag, _)| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(redirect(state));
    reply.bulk(b"prefixes");
    let prefixes = state.tracked.as_ref().map(|tracked| &tracked.prefixes);
    reply.array(prefixes.map_or(0, |prefixes| prefixes.len()));
    prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
}
