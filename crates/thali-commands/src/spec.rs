//! What a command is: the facts that dispatch, COMMAND, ACLs and the documentation read.

use crate::{Context, ErrorReply, Wait};
use thali_resp::Reply;

bitflags::bitflags! {
    /// COMMAND's flags, with Redis's meanings.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        const WRITE = 1;
        const READONLY = 1 << 1;
        const DENYOOM = 1 << 2;
        const ADMIN = 1 << 3;
        const PUBSUB = 1 << 4;
        const NOSCRIPT = 1 << 5;
        const BLOCKING = 1 << 6;
        const LOADING = 1 << 7;
        const STALE = 1 << 8;
        const SKIP_MONITOR = 1 << 9;
        const FAST = 1 << 10;
        const NO_AUTH = 1 << 11;
        const MAY_REPLICATE = 1 << 12;
        const MOVABLE_KEYS = 1 << 13;
        const NO_MULTI = 1 << 14;
        const ALLOW_BUSY = 1 << 15;
        /// Needs every shard: it looks at keys that it does not name. See also [`Spec::looks_beyond`].
        const ALL_SHARDS = 1 << 16;
        /// Looks at every shard, one after the other, and holds none meanwhile. In a transaction or a
        /// script it finds all of them held.
        const EACH_SHARD = 1 << 19;
        const SKIP_SLOWLOG = 1 << 17;
        const NO_ASYNC_LOADING = 1 << 18;
    }

    /// ACL categories beyond those that follow from the flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Categories: u32 {
        const KEYSPACE = 1;
        const STRING = 1 << 1;
        const LIST = 1 << 2;
        const SET = 1 << 3;
        const SORTEDSET = 1 << 4;
        const HASH = 1 << 5;
        const STREAM = 1 << 6;
        const BITMAP = 1 << 7;
        const HYPERLOGLOG = 1 << 8;
        const GEO = 1 << 9;
        const PUBSUB = 1 << 10;
        const CONNECTION = 1 << 11;
        const TRANSACTION = 1 << 12;
        const SCRIPTING = 1 << 13;
        const DANGEROUS = 1 << 14;
        const ADMIN = 1 << 15;
        const BLOCKING = 1 << 16;
        const FAST = 1 << 17;
        const SLOW = 1 << 18;
        const READ = 1 << 19;
        const WRITE = 1 << 20;
    }

    /// What a command does with a key.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        const READ = 1;
        const WRITE = 2;
        const READ_WRITE = 3;
    }

    /// The letters of notify-keyspace-events.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventClass: u32 {
        const KEYSPACE = 1;         // K
        const KEYEVENT = 1 << 1;    // E
        const GENERIC = 1 << 2;     // g
        const STRING = 1 << 3;      // $
        const LIST = 1 << 4;        // l
        const SET = 1 << 5;         // s
        const HASH = 1 << 6;        // h
        const SORTED_SET = 1 << 7;  // z
        const EXPIRED = 1 << 8;     // x
        const EVICTED = 1 << 9;     // e
        const STREAM = 1 << 10;     // t
        const KEY_MISS = 1 << 11;   // m
        const MODULE = 1 << 12;     // d
        const NEW = 1 << 13;        // n
        const ALL = Self::GENERIC.bits() | Self::STRING.bits() | Self::LIST.bits() | Self::SET.bits()
            | Self::HASH.bits() | Self::SORTED_SET.bits() | Self::EXPIRED.bits() | Self::EVICTED.bits()
            | Self::STREAM.bits() | Self::MODULE.bits(); // A
    }
}

impl Access {
    /// Only whether the key is there, its type or its length: what writing commands tell, too, so that any
    /// right to the key will do.
    pub const PRESENCE: Access = Access::empty();
}

/// COMMAND DOCS' groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
    Bitmap,
    HyperLogLog,
    Geo,
    PubSub,
    Transactions,
    Scripting,
    Connection,
    Server,
    Cluster,
}

impl Group {
    /// COMMAND DOCS' word.
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
            Group::HyperLogLog => "hyperloglog",
            Group::Geo => "geo",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Scripting => "scripting",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Cluster => "cluster",
        }
    }
}

/// Which arguments are keys. Positions count the command's name as 0.
#[derive(Clone, Copy)]
pub enum Keys {
    None,
    /// Keys at `first`, `first + step` … `last`; a negative `last` counts from the end (−1 = last).
    Range {
        first: usize,
        last: isize,
        step: usize,
        access: Access,
    },
    /// Argument `at` says how many keys follow from `first` on; `before` lists single keys elsewhere
    /// (the destination of ZUNIONSTORE).
    Counted {
        at: usize,
        first: usize,
        access: Access,
        before: &'static [(usize, Access)],
    },
    /// Two ranges with accesses of their own: source and destination.
    Pair {
        first: (usize, Access),
        second: (usize, Access),
    },
    /// A destination at `at`, then sources up to the last argument (BITOP, SUNIONSTORE).
    Into {
        at: usize,
        access: Access,
    },
    /// The keys behind the word STREAMS: the first half of what follows it.
    Streams {
        access: Access,
    },
    /// One key, the first argument; what is done with it depends on the others: at most `access`.
    Varying {
        access: Access,
        of: fn(args: &[&[u8]]) -> Access,
    },
    /// Written out by a function: pushes positions. Wrong arguments push what there is.
    Found(FindKeys),
}

/// Pushes the position of each key among the arguments, and what is done with it.
pub type FindKeys = fn(args: &[&[u8]], push: &mut dyn FnMut(usize, Access));

/// Finds the first argument of a request by which it looks at keys that it does not name.
pub type LooksBeyond = fn(args: &[&[u8]]) -> Option<usize>;

impl Keys {
    /// One key, the first argument.
    pub const fn one(access: Access) -> Self {
        Self::Range { first: 1, last: 1, step: 1, access }
    }

    /// Every argument is a key.
    pub const fn all(access: Access) -> Self {
        Self::Range { first: 1, last: -1, step: 1, access }
    }

    /// Calls `push` with the position of each key among `args`.
    pub fn each(&self, args: &[&[u8]], push: &mut dyn FnMut(usize, Access)) {
        match *self {
            Self::None => {}
            Self::Range { first, last, step, access } => {
                let last = if last < 0 { args.len() as isize + last } else { last };
                let mut at = first;
                while (at as isize) <= last && at < args.len() {
                    push(at, access);
                    at += step;
                }
            }
            // A count beyond the arguments is an error, as is none beside a key elsewhere, and there are no keys.
            Self::Counted { at, first, before, .. } if !count_fits(args, at, first, before.is_empty()) => {}
            Self::Counted { at, first, access, before } => {
                for &(at, access) in before {
                    if at < args.len() {
                        push(at, access);
                    }
                }
                let count = args.get(at).and_then(|n| crate::parse_i64(n)).unwrap_or(0).max(0) as usize;
                (first..first + count).for_each(|at| push(at, access));
            }
            Self::Pair { first, second } => {
                for (at, access) in [first, second] {
                    if at < args.len() {
                        push(at, access);
                    }
                }
            }
            Self::Into { at, access } => {
                for position in at..args.len() {
                    push(position, if position == at { access } else { Access::READ });
                }
            }
            Self::Streams { access } => {
                // XREADGROUP's group and consumer may themselves be called "streams".
                let mut at =
                    if args.get(1).is_some_and(|a| a.eq_ignore_ascii_case(b"GROUP")) { 4 } else { 1 };
                while at < args.len() && !args[at].eq_ignore_ascii_case(b"STREAMS") {
                    let has_value =
                        [&b"COUNT"[..], b"BLOCK"].iter().any(|w| args[at].eq_ignore_ascii_case(w));
                    at += 1 + usize::from(has_value);
                }
                let first = at + 1;
                let count = args.len().saturating_sub(first) / 2;
                (first..first + count).for_each(|at| push(at, access));
            }
            Self::Varying { of, .. } => {
                if args.len() > 1 {
                    push(1, of(args));
                }
            }
            Self::Found(find) => find(args, push),
        }
    }
}

fn count_fits(args: &[&[u8]], at: usize, first: usize, may_be_none: bool) -> bool {
    let count = args.get(at).and_then(|n| crate::parse_i64(n)).unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(0);
    (count > 0 || may_be_none) && count <= args.len().saturating_sub(first)
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Range { .. } => "Range",
            Self::Counted { .. } => "Counted",
            Self::Pair { .. } => "Pair",
            Self::Into { .. } => "Into",
            Self::Streams { .. } => "Streams",
            Self::Varying { .. } => "Varying",
            Self::Found(_) => "Found",
        })
    }
}

/// Which arguments name channels. Whoever only leaves channels needs no right to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    None,
    /// The first argument.
    First,
    All,
    /// All, and they are patterns.
    Patterns,
}

/// The facts about one command, or one subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In lower case; a subcommand's own name only (`create`, not `xgroup|create`).
    pub name: &'static str,
    /// One sentence for COMMAND DOCS.
    pub summary: &'static str,
    /// What follows the name, in the notation of Redis's manual: `key value [NX | XX]`. Hints and help show it.
    pub syntax: &'static str,
    /// The Redis version that brought it.
    pub since: &'static str,
    pub group: Group,
    /// How the cost grows, in Redis's words.
    pub complexity: &'static str,
    /// Arguments with the name; negative = at least so many. A subcommand counts its container too.
    pub arity: i32,
    pub flags: Flags,
    pub keys: Keys,
    /// Which arguments are channels that a user must have the right to.
    pub channels: Channels,
    /// For commands of which some requests look at keys that they do not name (SORT's BY and GET): those are
    /// given all shards.
    pub looks_beyond: Option<LooksBeyond>,
    /// Beyond what [`Spec::all_categories`] derives from the flags.
    pub categories: Categories,
    /// Where not empty, the second argument must be one of these and its facts rule.
    pub subcommands: &'static [Spec],
}

impl Spec {
    /// A base to write specs from: `Spec { name: …, ..Spec::BASE }`.
    pub const BASE: Spec = Spec {
        name: "",
        summary: "",
        syntax: "",
        since: "1.0.0",
        group: Group::Generic,
        complexity: "O(1)",
        arity: 1,
        flags: Flags::empty(),
        keys: Keys::None,
        channels: Channels::None,
        looks_beyond: None,
        categories: Categories::empty(),
        subcommands: &[],
    };

    /// Whether a request with so many arguments (the name included) may run.
    pub fn arity_fits(&self, len: usize) -> bool {
        let len = len as i32;
        if self.arity >= 0 { len == self.arity } else { len >= -self.arity }
    }

    /// Whether a request must hold every shard.
    pub fn needs_all_shards(&self, args: &[&[u8]]) -> bool {
        self.flags.contains(Flags::ALL_SHARDS) || self.looks_beyond(args).is_some()
    }

    /// Whether a data command changes nothing that its shards hold, so that it may share them with others that do not.
    pub fn shares_shards(&self) -> bool {
        const NOT: Flags =
            Flags::BLOCKING.union(Flags::MAY_REPLICATE).union(Flags::ALL_SHARDS).union(Flags::EACH_SHARD);
        self.flags.contains(Flags::READONLY) && !self.flags.intersects(NOT) && self.looks_beyond.is_none()
    }

    /// The place of an argument by which a request looks at keys that it does not name.
    pub fn looks_beyond(&self, args: &[&[u8]]) -> Option<usize> {
        self.looks_beyond.and_then(|looks| looks(args))
    }

    /// The categories, those that follow from the flags included, as Redis derives them. A container that
    /// does nothing by itself is in no others.
    pub fn all_categories(&self) -> Categories {
        let does_nothing = !self.subcommands.is_empty() && self.arity < -1;
        let mut all = if does_nothing { Categories::empty() } else { self.categories };
        let mut add = |flag: Flags, category: Categories| {
            if self.flags.contains(flag) {
                all |= category;
            }
        };
        add(Flags::WRITE, Categories::WRITE);
        if !self.categories.contains(Categories::SCRIPTING) {
            add(Flags::READONLY, Categories::READ);
        }
        add(Flags::ADMIN, Categories::ADMIN | Categories::DANGEROUS);
        add(Flags::PUBSUB, Categories::PUBSUB);
        add(Flags::FAST, Categories::FAST);
        add(Flags::BLOCKING, Categories::BLOCKING);
        if !self.flags.contains(Flags::FAST) {
            all |= Categories::SLOW;
        }
        all
    }

    /// The subcommand that `args` names, where this is a container.
    pub fn subcommand(&self, args: &[&[u8]]) -> Option<&'static Spec> {
        let name = args.get(1)?;
        self.subcommands.iter().find(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// How a command ended that did not fail.
#[derive(Debug)]
pub enum Flow {
    /// The reply is written.
    Done,
    /// Nothing to give yet: the client waits.
    Park(Wait),
    /// It takes long and goes on in steps, with other requests in between: only for [`crate::Origin::Client`].
    Steps(Box<dyn Steps>),
}

/// A command that has begun and looks at one shard after the other ([`Flags::EACH_SHARD`]).
pub trait Steps: Send + std::fmt::Debug {
    /// Does some of it, holding nothing when it is called; true once all is done.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, ErrorReply>;

    /// The reply, which is the same in both protocols, from the given byte on.
    fn reply(self: Box<Self>) -> (Vec<u8>, usize);

    /// Bytes that it holds meanwhile.
    fn memory_bytes(&self) -> usize;
}

/// What a command gives back. An error undoes whatever reply was begun.
pub type Outcome = Result<Flow, ErrorReply>;

/// A command's function. `args[0]` is its name as the client wrote it; the arity was checked.
pub type Run = fn(&mut Context<'_>, &[&[u8]], &mut Reply<'_>) -> Outcome;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    pub spec: &'static Spec,
    pub run: Run,
}
