//! The commands that took longer than `slowlog-log-slower-than`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use thali_commands::{Flags, Spec};

use crate::call::Side;
use crate::commands::migrate;
use crate::session::{SessionState, borrowed};
use crate::table;

/// Arguments that an entry shows, and bytes of each.
const ARGS_MAX: usize = 32;
const ARG_LEN_MAX: usize = 128;

/// One slow command.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: u64,
    pub at_unix_s: u64,
    pub micros: u64,
    pub args: Vec<Vec<u8>>,
    pub peer: String,
    pub client_name: Vec<u8>,
}

/// The newest first; `slowlog-max-len` of them.
#[derive(Debug, Default)]
pub(crate) struct Slowlog {
    entries: Mutex<VecDeque<Entry>>,
    next_id: AtomicU64,
}

impl Slowlog {
    /// Whether a command that took so long is to be written down.
    pub fn is_slow(&self, side: &Side, nanos: u64) -> bool {
        let threshold = u64::try_from(side.settings.slowlog_log_slower_than_us);
        side.settings.slowlog_max_len > 0 && threshold.is_ok_and(|threshold| nanos / 1000 >= threshold)
    }

    /// Writes a client's command down if it was slow. Its time counts from when it was read, so waiting
    /// for the shards of others is in it.
    pub fn note(&self, side: &Side, state: &SessionState, spec: &Spec, args: &[&[u8]], nanos: u64) {
        if !self.is_slow(side, nanos) || spec.flags.contains(Flags::SKIP_SLOWLOG) {
            return;
        }
        let entry = Entry {
            id: self.next_id.fetch_add(1, Relaxed),
            at_unix_s: side.now_ms / 1000,
            micros: nanos / 1000,
            args: shown(spec, args),
            peer: state.info.peer.clone(),
            client_name: state.info.name.lock().clone(),
        };
        let mut entries = self.entries.lock();
        entries.push_front(entry);
        entries.truncate(side.settings.slowlog_max_len);
    }

    /// As [`Slowlog::note`], for a request that had waited.
    pub fn note_request(&self, side: &Side, state: &SessionState, request: &[Vec<u8>], nanos: u64) {
        let args = borrowed(request);
        if let Some(row) = args.first().and_then(|name| table::find(name)) {
            self.note(side, state, row.spec, &args, nanos);
        }
    }

    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries.lock().iter().take(count).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    pub fn clear(&self) {
        self.entries.lock().clear();
    }
}

/// The arguments as others may see them: shortened, and without passwords.
fn shown(spec: &Spec, args: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut shown: Vec<Vec<u8>> = args[..kept]
        .iter()
        .enumerate()
        .map(|(at, arg)| match is_secret(spec, args, at) {
            true => b"(redacted)".to_vec(),
            false if arg.len() > ARG_LEN_MAX => {
                let rest = format!("... ({} more bytes)", arg.len() - ARG_LEN_MAX);
                [&arg[..ARG_LEN_MAX], rest.as_bytes()].concat()
            }
            false => arg.to_vec(),
        })
        .collect();
    if kept < args.len() {
        shown.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    shown
}

/// Whether an argument may be a password, or says whose: of AUTH, HELLO, ACL, MIGRATE, and CONFIG SET of a
/// setting that is one.
pub(crate) fn is_secret(spec: &Spec, args: &[&[u8]], at: usize) -> bool {
    const SETTINGS: [&str; 7] = [
        "requirepass",
        "masterauth",
        "masteruser",
        "tls-key-file-pass",
        "tls-client-key-file-pass",
        "http-token",
        "gateway-jwt-key",
    ];
    match spec.name {
        "auth" => at > 0,
        "hello" => at > 2 && args[at.max(4) - 2..at].iter().any(|word| word.eq_ignore_ascii_case(b"auth")),
        "setuser" | "deluser" | "getuser" => at > 1,
        "set" if at > 2 && args[0].eq_ignore_ascii_case(b"config") => {
            SETTINGS.iter().any(|name| args[at - 1].eq_ignore_ascii_case(name.as_bytes()))
        }
        "migrate" => migrate::is_secret(args, at),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_long_arguments_are_not_shown() {
        let check = |line: &[&str], expected: &[&str]| {
            let args: Vec<&[u8]> = line.iter().map(|arg| arg.as_bytes()).collect();
            let row = table::find(args[0]).unwrap();
            let spec = row.spec.subcommand(&args).unwrap_or(row.spec);
            let shown: Vec<String> =
                shown(spec, &args).iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
            assert_eq!(shown, expected);
        };
        check(&["AUTH", "user", "pw"], &["AUTH", "(redacted)", "(redacted)"]);
        check(
            &["HELLO", "3", "auth", "u", "pw", "SETNAME", "n"],
            &["HELLO", "3", "auth", "(redacted)", "(redacted)", "SETNAME", "n"],
        );
        check(&["HELLO", "3", "AUTH", "pw"], &["HELLO", "3", "AUTH", "(redacted)"]);
        check(
            &["CONFIG", "SET", "timeout", "5", "RequirePass", "pw"],
            &["CONFIG", "SET", "timeout", "5", "RequirePass", "(redacted)"],
        );
        check(&["ACL", "SETUSER", "u", ">pw"], &["ACL", "SETUSER", "(redacted)", "(redacted)"]);
        check(
            &["MIGRATE", "h", "1", "k", "0", "9", "AUTH", "pw"],
            &["MIGRATE", "h", "1", "k", "0", "9", "AUTH", "(redacted)"],
        );
        check(&["SET", "requirepass", "pw"], &["SET", "requirepass", "pw"]);
        let long = "x".repeat(200);
        check(&["GET", &long], &["GET", &format!("{}... (72 more bytes)", &long[..128])]);
        let many: Vec<&str> = std::iter::once("DEL").chain(std::iter::repeat_n("k", 99)).collect();
        let mut expected = many[..31].to_vec();
        expected.push("... (69 more arguments)");
        check(&many, &expected);
    }
}
