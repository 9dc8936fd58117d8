//! What one user may do: a switch, passwords, selectors. Words in, the canonical description out.

use sha2::{Digest, Sha256};
use thali_commands::Spec;

use super::selector::{KeysOf, Selector};
use super::{Denial, selector};
use crate::table::Row;

/// SHA-256 of a password.
type Hash = [u8; 32];

/// Why a word is no rule, in Redis's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("Syntax error")]
    Syntax,
    #[error("Unknown command or category name in ACL")]
    UnknownCommand,
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
         Try 'resetkeys' to start with an empty list of patterns"
    )]
    KeysAfterAll,
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
         effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    ChannelsAfterAll,
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    BadHash,
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
}

/// A user without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    is_on: bool,
    /// Any password will do.
    no_pass: bool,
    skips_sanitizing: bool,
    passwords: Vec<Hash>,
    first: Selector,
    more: Vec<Selector>,
}

impl Rules {
    /// A new user: off, without a password, and nothing allowed but what `acl-pubsub-default` says.
    pub fn new(all_channels: bool) -> Self {
        Self {
            is_on: false,
            no_pass: false,
            skips_sanitizing: false,
            passwords: Vec::new(),
            first: Selector::new(all_channels),
            more: Vec::new(),
        }
    }

    /// The user `default` as long as nobody says otherwise. An empty password is none.
    pub fn of_default(password: &str) -> Self {
        let mut rules = Self { is_on: true, first: Selector::all(), ..Self::new(true) };
        rules.set_only_password(password);
        rules
    }

    /// `requirepass`: this password and no other; an empty one lets everybody in.
    pub fn set_only_password(&mut self, password: &str) {
        self.no_pass = password.is_empty();
        self.passwords.clear();
        if !self.no_pass {
            self.passwords.push(hash(password.as_bytes()));
        }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether any password will do.
    pub fn has_no_pass(&self) -> bool {
        self.no_pass
    }

    /// Whether whoever names this user is let in.
    pub fn lets_everybody_in(&self) -> bool {
        self.is_on && self.no_pass
    }

    /// Whether the user may do all there is.
    pub fn is_all(&self) -> bool {
        self.selectors().any(Selector::is_all)
    }

    /// Compares with every password in a time that does not depend on what they are.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let given = hash(password);
        let differs = |known: &Hash| known.iter().zip(&given).fold(0, |d, (a, b)| d | (a ^ b)) != 0;
        let found = self.passwords.iter().fold(false, |found, known| found | !differs(known));
        self.is_on && (self.no_pass || found)
    }

    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The first selector, and the further ones.
    pub fn parts(&self) -> (&Selector, &[Selector]) {
        (&self.first, &self.more)
    }

    pub fn password_hashes(&self) -> impl ExactSizeIterator<Item = String> {
        self.passwords.iter().map(hex)
    }

    /// In the order of the description.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.is_on { "on" } else { "off" }];
        flags.extend(self.no_pass.then_some("nopass"));
        flags.push(if self.skips_sanitizing { "skip-sanitize-payload" } else { "sanitize-payload" });
        flags
    }

    /// Applies words of ACL SETUSER, a `user` line or the ACL file, all or none; the error for a reply.
    pub fn apply_all(&mut self, words: &[&[u8]], all_channels: bool) -> Result<(), String> {
        let mut rules = self.clone();
        let words = merged(words).map_err(|open| {
            let open = String::from_utf8_lossy(open);
            format!("Unmatched parenthesis in acl selector starting at '{open}'.")
        })?;
        for word in words {
            rules.apply(&word, all_channels).map_err(|error| {
                format!("Error in ACL SETUSER modifier '{}': {error}", String::from_utf8_lossy(&word))
            })?;
        }
        *self = rules;
        Ok(())
    }

    /// Applies one word. `all_channels`: what new users and selectors begin with.
    pub fn apply(&mut self, word: &[u8], all_channels: bool) -> Result<(), RuleError> {
        match (word.to_ascii_lowercase().as_slice(), word) {
            (b"", _) => {}
            (b"on", _) => self.is_on = true,
            (b"off", _) => self.is_on = false,
            (b"skip-sanitize-payload", _) => self.skips_sanitizing = true,
            (b"sanitize-payload", _) => self.skips_sanitizing = false,
            (b"nopass", _) => (self.no_pass, self.passwords) = (true, Vec::new()),
            (b"resetpass", _) => (self.no_pass, self.passwords) = (false, Vec::new()),
            (b"clearselectors", _) => self.more.clear(),
            (b"reset", _) => *self = Self::new(all_channels),
            (_, [b'>', password @ ..]) => self.add_password(hash(password)),
            (_, [b'#', hex @ ..]) => self.add_password(parse_hex(hex)?),
            (_, [b'<', password @ ..]) => self.remove_password(hash(password))?,
            (_, [b'!', hex @ ..]) => self.remove_password(parse_hex(hex)?)?,
            (_, [b'(', inner @ .., b')']) => {
                let mut selector = Selector::new(all_channels);
                for word in thali_resp::split_inline(inner).ok_or(RuleError::Syntax)? {
                    selector.apply(&word)?;
                }
                self.more.push(selector);
            }
            _ => self.first.apply(word)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: Hash) {
        self.no_pass = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: Hash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| *known == hash).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    /// The words that make a new user the same as this one.
    pub fn describe(&self) -> Vec<u8> {
        let mut out = self.flags().join(" ").into_bytes();
        out.push(b' ');
        for hash in self.password_hashes() {
            out.extend([b"#", hash.as_bytes(), b" "].concat());
        }
        self.first.describe(&mut out);
        for selector in &self.more {
            out.extend(b" (");
            selector.describe(&mut out);
            out.push(b')');
        }
        out
    }

    /// Whether a command may run: some selector must allow all of it. Where several refuse, the one that
    /// came furthest tells why.
    pub fn check(&self, row: &Row, spec: &Spec, args: &[&[u8]]) -> Result<(), Denial> {
        let mut keys = KeysOf::new();
        spec.keys.each(args, &mut |at, access| keys.push((at, access)));
        let mut why = Denial::Command;
        for selector in self.selectors() {
            match selector.check(row, spec, args, &keys) {
                Ok(()) => return Ok(()),
                Err(denial) => why = why.max(denial),
            }
        }
        Err(why)
    }

    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors().any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// Whether each channel pattern of `old` is here, too: then no subscriber has lost anything.
    pub fn covers_channels_of(&self, old: &Self) -> bool {
        let has = |pattern| self.selectors().any(|selector| selector.channel_patterns().contains(pattern));
        self.selectors().any(Selector::has_all_channels)
            || old
                .selectors()
                .all(|selector| !selector.has_all_channels() && selector.channel_patterns().iter().all(has))
    }
}

/// Joins selectors that were split into several words: `(~a`, `+get)`. The error is the word that opens one
/// that is never closed.
pub(super) fn merged<'a>(words: &[&'a [u8]]) -> Result<Vec<Vec<u8>>, &'a [u8]> {
    let mut merged: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<&[u8]> = None;
    for word in words {
        match merged.last_mut().filter(|_| open.is_some()) {
            Some(selector) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
            }
            None => merged.push(word.to_vec()),
        }
        if word.ends_with(b")") {
            open = None;
        } else if open.is_none() && word.starts_with(b"(") {
            open = Some(word);
        }
    }
    open.map_or(Ok(merged), Err)
}

/// Whether a user may be called so.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !selector::has_blank(name)
}

fn hash(password: &[u8]) -> Hash {
    Sha256::digest(password).into()
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(hex: &[u8]) -> Result<Hash, RuleError> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Ok(b - b'0'),
        b'a'..=b'f' => Ok(b - b'a' + 10),
        _ => Err(RuleError::BadHash),
    };
    let mut hash = Hash::default();
    if hex.len() != hash.len() * 2 {
        return Err(RuleError::BadHash);
    }
    for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(hash)
}
