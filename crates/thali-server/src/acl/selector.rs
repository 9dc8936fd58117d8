//! One set of rules about commands, keys and channels. A user has a first one, and may have further ones,
//! each of which is enough by itself to let a command run.

use smallvec::SmallVec;
use thali_commands::{Access, Channels, Flags, Spec};
use thali_keyspace::glob;

use super::Denial;
use super::command_rules::CommandRules;
use super::user::RuleError;
use crate::table::Row;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    commands: CommandRules,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Box<[u8]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    access: Access,
    pattern: Box<[u8]>,
}

/// A request's keys: positions and what is done with them.
pub(super) type KeysOf = SmallVec<[(usize, Access); 8]>;

impl Selector {
    /// Nothing is allowed, but for channels under `acl-pubsub-default allchannels`.
    pub fn new(all_channels: bool) -> Self {
        Self {
            commands: CommandRules::none(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// One that lets everything happen.
    pub fn all() -> Self {
        let mut all = Self::new(true);
        all.commands.set_all(true);
        all.all_keys = true;
        all
    }

    /// Whether nothing is held back.
    pub fn is_all(&self) -> bool {
        self.all_keys && self.all_channels && self.commands.are_all()
    }

    pub fn apply(&mut self, word: &[u8]) -> Result<(), RuleError> {
        match (word.to_ascii_lowercase().as_slice(), word) {
            (b"allkeys" | b"~*", _) => self.set_keys(true),
            (b"resetkeys", _) => self.set_keys(false),
            (b"allchannels" | b"&*", _) => self.set_channels(true),
            (b"resetchannels", _) => self.set_channels(false),
            (b"allcommands", _) => self.commands.set_all(true),
            (b"nocommands", _) => self.commands.set_all(false),
            (_, [b'~', pattern @ ..]) => self.add_key(Access::READ_WRITE, pattern)?,
            (_, [b'%', rest @ ..]) => {
                let (access, pattern) = access_of(rest)?;
                self.add_key(access, pattern)?;
            }
            (_, [b'&', pattern @ ..]) => self.add_channel(pattern)?,
            (_, [b'+' | b'-', ..]) => self.commands.apply(word)?,
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn set_keys(&mut self, all: bool) {
        self.all_keys = all;
        self.keys.clear();
    }

    fn set_channels(&mut self, all: bool) {
        self.all_channels = all;
        self.channels.clear();
    }

    fn add_key(&mut self, access: Access, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAfterAll);
        }
        if has_blank(pattern) {
            return Err(RuleError::Syntax);
        }
        let access = match self.keys.iter_mut().find(|known| *known.pattern == *pattern) {
            Some(known) => {
                known.access |= access;
                known.access
            }
            None => {
                self.keys.push(KeyPattern { access, pattern: pattern.into() });
                access
            }
        };
        // `%RW~*` is `~*`: the description has no other word for it, and nothing may follow that one.
        if pattern == b"*" && access == Access::READ_WRITE {
            self.set_keys(true);
        }
        Ok(())
    }

    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::ChannelsAfterAll);
        }
        if has_blank(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| **known == *pattern) {
            self.channels.push(pattern.into());
        }
        Ok(())
    }

    /// Whether a command may run. `keys` are its keys.
    pub(super) fn check(&self, row: &Row, spec: &Spec, args: &[&[u8]], keys: &KeysOf) -> Result<(), Denial> {
        if !spec.flags.contains(Flags::NO_AUTH) && !self.commands.allows(row, spec, args) {
            return Err(Denial::Command);
        }
        if let Some((at, _)) = keys.iter().find(|(at, access)| !self.allows_key(args[*at], *access)) {
            return Err(Denial::Key(*at));
        }
        if let Some(at) = spec.looks_beyond(args).filter(|_| !self.reads_all_keys()) {
            return Err(Denial::Beyond(at));
        }
        let (channels, are_patterns) = match spec.channels {
            Channels::None => (0..0, false),
            Channels::First => (1..args.len().min(2), false),
            Channels::All => (1..args.len(), false),
            Channels::Patterns => (1..args.len(), true),
        };
        match channels.into_iter().find(|at| !self.allows_channel(args[*at], are_patterns)) {
            Some(at) => Err(Denial::Channel(at)),
            None => Ok(()),
        }
    }

    /// Some pattern alone must let happen all that is done with the key. What only asks whether a key is
    /// there (TYPE, STRLEN) needs any pattern that fits.
    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        let fits = |known: &KeyPattern| known.access.contains(access) && glob::matches(&known.pattern, key);
        self.all_keys || self.keys.iter().any(fits)
    }

    fn reads_all_keys(&self) -> bool {
        let is_all = |known: &KeyPattern| known.access.contains(Access::READ) && *known.pattern == *b"*";
        self.all_keys || self.keys.iter().any(is_all)
    }

    /// A pattern to subscribe to must be one of those allowed, letter by letter.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let fits = |known: &[u8]| match is_pattern {
            true => known == channel,
            false => glob::matches(known, channel),
        };
        self.all_channels || self.channels.iter().any(|known| fits(known))
    }

    pub fn has_all_channels(&self) -> bool {
        self.all_channels
    }

    pub fn channel_patterns(&self) -> &[Box<[u8]>] {
        &self.channels
    }

    pub fn describe(&self, out: &mut Vec<u8>) {
        self.describe_keys(out);
        if self.all_keys || !self.keys.is_empty() {
            out.push(b' ');
        }
        if !self.all_channels {
            out.extend(b"resetchannels ");
        }
        self.describe_channels(out);
        if self.all_channels || !self.channels.is_empty() {
            out.push(b' ');
        }
        self.commands.describe(out);
    }

    pub fn describe_commands(&self, out: &mut Vec<u8>) {
        self.commands.describe(out);
    }

    pub fn describe_keys(&self, out: &mut Vec<u8>) {
        if self.all_keys {
            out.extend(b"~*");
        }
        for (i, KeyPattern { access, pattern }) in self.keys.iter().enumerate() {
            out.extend(if i > 0 { &b" "[..] } else { b"" });
            out.extend(match *access {
                Access::READ => &b"%R~"[..],
                Access::WRITE => b"%W~",
                _ => b"~",
            });
            out.extend_from_slice(pattern);
        }
    }

    pub fn describe_channels(&self, out: &mut Vec<u8>) {
        if self.all_channels {
            out.extend(b"&*");
        }
        for (i, pattern) in self.channels.iter().enumerate() {
            out.extend(if i > 0 { &b" &"[..] } else { b"&" });
            out.extend_from_slice(pattern);
        }
    }
}

/// The letters before the `~`, each at most once, and the pattern behind it.
fn access_of(rest: &[u8]) -> Result<(Access, &[u8]), RuleError> {
    let mut access = Access::empty();
    for (i, letter) in rest.iter().enumerate() {
        let more = match letter.to_ascii_uppercase() {
            b'R' => Access::READ,
            b'W' => Access::WRITE,
            b'~' if !access.is_empty() => return Ok((access, &rest[i + 1..])),
            _ => return Err(RuleError::Syntax),
        };
        if access.contains(more) {
            return Err(RuleError::Syntax);
        }
        access |= more;
    }
    // Without a `~` the pattern is the empty one, as in Redis.
    if access.is_empty() { Err(RuleError::Syntax) } else { Ok((access, b"")) }
}

/// What would be read as two words, or end a C string.
pub(crate) fn has_blank(bytes: &[u8]) -> bool {
    bytes.iter().any(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0))
}
