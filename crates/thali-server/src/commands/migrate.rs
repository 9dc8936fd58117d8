//! MIGRATE: what it is and what its arguments say. See [`crate::migration`] for what it does.

use std::time::Duration;

use thali_commands::{Access, Categories, ErrorReply, Flags, Group, Keys, Spec, integer, is_word};

use super::Entry;
use crate::table::{Handler, SessionVerb};

const MIGRATE: Spec = Spec {
    name: "migrate",
    summary: "Atomically transfers a key from one instance to another.",
    syntax: "host port <key | \"\"> destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username \
             password] [KEYS key [key ...]]",
    since: "2.6.0",
    group: Group::Generic,
    complexity: "This command actually executes a DUMP+DEL in the source instance, and a RESTORE in the target \
                 instance. See the pages of these commands for time complexity. Also an O(N) data transfer between \
                 the two instances is performed.",
    arity: -6,
    flags: Flags::WRITE.union(Flags::MOVABLE_KEYS).union(Flags::NOSCRIPT).union(Flags::NO_MULTI),
    keys: Keys::Found(|args, push| {
        let several = keys_word(args).filter(|_| args[3].is_empty());
        let range = several.map_or(3..args.len().min(4), |at| at + 1..args.len());
        range.for_each(|at| push(at, Access::READ_WRITE));
    }),
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[(&MIGRATE, Handler::Session(SessionVerb::Migrate))];

/// The place of the word KEYS among the options.
fn keys_word(args: &[&[u8]]) -> Option<usize> {
    let mut at = 6;
    while let Some(word) = args.get(at) {
        match *word {
            word if is_word(word, "KEYS") => return Some(at),
            word if is_word(word, "AUTH") => at += 1,
            word if is_word(word, "AUTH2") => at += 2,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether an argument is a user's name or password.
pub(crate) fn is_secret(args: &[&[u8]], at: usize) -> bool {
    let is_behind = |by: usize, word: &str| at >= 6 + by && is_word(args[at - by], word);
    is_behind(1, "AUTH") || is_behind(1, "AUTH2") || is_behind(2, "AUTH2")
}

/// What a request asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Options<'a> {
    pub host: &'a [u8],
    pub port: &'a [u8],
    pub db: i64,
    /// For each step with the other server.
    pub timeout: Duration,
    pub copy: bool,
    pub replace: bool,
    /// AUTH's arguments.
    pub auth: Vec<&'a [u8]>,
    pub keys: Vec<&'a [u8]>,
}

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

impl<'a> Options<'a> {
    /// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key …]`
    pub fn parse(args: &[&'a [u8]]) -> Result<Self, ErrorReply> {
        let mut options = Self {
            host: args[1],
            port: args[2],
            db: 0,
            timeout: TIMEOUT_DEFAULT,
            copy: false,
            replace: false,
            auth: Vec::new(),
            keys: vec![args[3]],
        };
        let mut rest = &args[6..];
        while let Some((word, tail)) = rest.split_first() {
            rest = tail;
            match tail {
                _ if is_word(word, "COPY") => options.copy = true,
                _ if is_word(word, "REPLACE") => options.replace = true,
                [password, tail @ ..] if is_word(word, "AUTH") => {
                    options.auth = vec![*password];
                    rest = tail;
                }
                [user, password, tail @ ..] if is_word(word, "AUTH2") => {
                    options.auth = vec![*user, *password];
                    rest = tail;
                }
                keys if is_word(word, "KEYS") => {
                    if !args[3].is_empty() {
                        return Err(ErrorReply::new(
                            "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                        ));
                    }
                    options.keys = keys.to_vec();
                    rest = &[];
                }
                _ => return Err(ErrorReply::SYNTAX),
            }
        }
        let timeout_ms = integer(args[5])?;
        options.db = integer(args[4])?;
        if let Ok(ms @ 1..) = u64::try_from(timeout_ms) {
            options.timeout = Duration::from_millis(ms);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(|word| if word == "''" { &b""[..] } else { word.as_bytes() }).collect()
    }

    #[test]
    fn options_in_any_order_and_their_faults() {
        let args = split("MIGRATE h 1 '' 2 0 REPLACE AUTH2 u p COPY KEYS a b");
        let options = Options::parse(&args).unwrap();
        assert_eq!(
            (options.db, options.timeout, options.copy, options.replace),
            (2, TIMEOUT_DEFAULT, true, true)
        );
        assert_eq!((options.auth, options.keys), (vec![&b"u"[..], b"p"], vec![&b"a"[..], b"b"]));
        for (line, expected) in [
            ("MIGRATE h 1 k 0 10 WHAT", "ERR syntax error"),
            ("MIGRATE h 1 k 0 10 AUTH", "ERR syntax error"),
            ("MIGRATE h 1 k 0 10 AUTH2 u", "ERR syntax error"),
            ("MIGRATE h 1 k 0 x", "ERR value is not an integer or out of range"),
            ("MIGRATE h 1 k x 1", "ERR value is not an integer or out of range"),
            (
                "MIGRATE h 1 k 0 10 KEYS a",
                "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
            ),
        ] {
            assert_eq!(Options::parse(&split(line)).unwrap_err().to_string(), expected, "{line}");
        }
    }

    #[test]
    fn keys_and_secrets_have_their_places() {
        let check = |line: &str, keys: &[usize], secrets: &[usize]| {
            let args = split(line);
            let mut found = Vec::new();
            MIGRATE.keys.each(&args, &mut |at, _| found.push(at));
            let secret: Vec<usize> = (0..args.len()).filter(|at| is_secret(&args, *at)).collect();
            assert_eq!((&found[..], &secret[..]), (keys, secrets), "{line}");
        };
        check("MIGRATE h 1 k 0 10 COPY", &[3], &[]);
        check("MIGRATE h 1 '' 0 10 AUTH KEYS KEYS a b", &[9, 10], &[7]);
        check("MIGRATE h 1 k 0 10 AUTH2 u p REPLACE", &[3], &[7, 8]);
        check("MIGRATE h 1 '' 0 10", &[3], &[]);
    }
}
