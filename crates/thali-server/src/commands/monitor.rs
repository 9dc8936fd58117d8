//! MONITOR: shows every command as it runs.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use thali_commands::{ErrorReply, Flags, Flow, Group, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use crate::call::{Call, Core, Shared, Side};
use crate::mailbox::Message;
use crate::session::SessionState;
use crate::slowlog;
use crate::table::Handler;

const MONITOR: Spec = Spec {
    name: "monitor",
    summary: "Listens for all requests received by the server in real-time.",
    group: Group::Server,
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::NO_MULTI),
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[(&MONITOR, Handler::Server(monitor))];

fn monitor(call: &mut Call<'_, '_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let Some(state) = call.state.as_deref_mut() else {
        return Err(ErrorReply::new("ERR This Redis command is not allowed from script"));
    };
    if !std::mem::replace(&mut state.is_monitor, true) {
        call.shared.monitors_len.fetch_add(1, Relaxed);
    }
    state.publish_info();
    reply.ok();
    Ok(Flow::Done)
}

/// Tells all monitors of a client's command that is about to run.
pub(crate) fn feed(core: &mut Core, state: &SessionState, spec: &Spec, args: &[&[u8]]) {
    tell(&core.shared, &mut core.side, &format!("{} {}", state.db, state.info.peer), spec, args);
}

/// The same of what EXEC runs, and of EXEC itself.
pub(crate) fn feed_queued(
    shared: &Shared,
    side: &mut Side,
    db: u32,
    state: &SessionState,
    spec: &Spec,
    args: &[&[u8]],
) {
    tell(shared, side, &format!("{db} {}", state.info.peer), spec, args);
}

/// The same of a command that a script calls.
pub(crate) fn feed_from_script(call: &mut Call<'_, '_>, spec: &Spec, args: &[&[u8]]) {
    tell(call.shared, call.side, &format!("{} lua", call.cx.db), spec, args);
}

fn tell(shared: &Shared, side: &mut Side, who: &str, spec: &Spec, args: &[&[u8]]) {
    // Scripts are shown all the same, before what they call: the flag is for who shows them afterwards.
    if spec.flags.contains(Flags::ADMIN) {
        return;
    }
    let us =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros();
    let mut line = format!("+{}.{:06} [{who}]", us / 1_000_000, us % 1_000_000);
    for (at, arg) in args.iter().enumerate() {
        let shown: &[u8] = if slowlog::is_secret(spec, args, at) { b"(redacted)" } else { arg };
        line.push(' ');
        quote(shown, &mut line);
    }
    line += "\r\n";
    let line: Arc<[u8]> = line.into_bytes().into();
    let own = usize::from(side.event_loop);
    for (i, mailbox) in shared.mailboxes.iter().enumerate() {
        let message = Message::Monitored(Arc::clone(&line));
        if i == own { side.local.push(message) } else { mailbox.send(message) }
    }
}

/// Appends bytes as redis-cli would quote them.
fn quote(bytes: &[u8], out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for &b in bytes {
        match b {
            b'\\' | b'"' => {
                out.push('\\');
                out.push(char::from(b));
            }
            b'\n' => *out += "\\n",
            b'\r' => *out += "\\r",
            b'\t' => *out += "\\t",
            7 => *out += "\\a",
            8 => *out += "\\b",
            b' '..=b'~' => out.push(char::from(b)),
            _ => write!(out, "\\x{b:02x}").expect("a String takes all"),
        }
    }
    out.push('"');
}
