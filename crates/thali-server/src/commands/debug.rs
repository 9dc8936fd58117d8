//! DEBUG, LATENCY, MEMORY, SLOWLOG, LOLWUT: as far as clients and their tests ask.

use thali_commands::{Access, ErrorReply, Flags, Flow, Group, Keys, Outcome, Spec};
use thali_data::double::parse_double;
use thali_resp::Reply;

use super::Entry;
use crate::call::Call;
use crate::table::Handler;

const DEBUG: Spec = Spec {
    name: "debug",
    summary: "A container for debugging commands.",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    keys: Keys::Found(|args, push| {
        if args.len() == 3 && args[1].eq_ignore_ascii_case(b"OBJECT") {
            push(2, Access::READ);
        }
    }),
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[(&DEBUG, Handler::Server(debug))];

/// DEBUG SLEEP keeps one loop asleep; longer would look like a fault.
const SLEEP_MAX_S: f64 = 60.0;

fn debug(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let is_local = call.state.as_ref().is_some_and(|state| state.is_local);
    let allowed = match call.side.settings.enable_debug_command.as_str() {
        "yes" => true,
        "local" => is_local,
        _ => false,
    };
    if !allowed {
        return Err(ErrorReply::new(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
             from a local connection, otherwise you need to set this option in the configuration file, and then \
             restart the server.",
        ));
    }
    match args[1].to_ascii_lowercase().as_slice() {
        b"sleep" if args.len() == 3 => {
            let seconds = parse_double(args[2]).filter(|s| (0.0..=SLEEP_MAX_S).contains(s));
            let seconds = seconds.ok_or(ErrorReply::NOT_FLOAT)?;
            std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
            reply.ok();
        }
        b"jmap" | b"set-active-expire" | b"set-disable-deny-scripts" | b"quicklist-packed-threshold" => {
            reply.ok()
        }
        b"object" if args.len() == 3 => {
            let Some(entry) = call.cx.peek(args[2]) else { return Err(ErrorReply::NO_SUCH_KEY) };
            let encoding = entry.value.encoding();
            reply.simple(&format!(
                "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:0 lru:0 lru_seconds_idle:0"
            ));
        }
        _ => {
            let sub = String::from_utf8_lossy(args[1]).into_owned();
            return Err(ErrorReply::owned(format!("ERR unknown subcommand '{sub}'. Try DEBUG HELP.")));
        }
    }
    Ok(Flow::Done)
}
