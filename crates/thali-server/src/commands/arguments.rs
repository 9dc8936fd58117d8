//! COMMAND DOCS' `arguments`: a command's syntax as a tree, for clients that check or complete what is typed.
//!
//! A word of the syntax is a token. It stands on the argument that follows it, or on a block of them where several
//! do. A value's type is the one Redis gives to that name, and `string` for all others.
//! SOURCE: Redis 7.2.4, `addReplyCommandArgList` in `src/server.c` and the types in `src/commands/*.json`.

use thali_commands::syntax::{Node, parse};
use thali_commands::{Flags, Group, Keys, Spec};
use thali_resp::Reply;

use super::key_specs;

/// One element of the tree.
#[derive(Debug)]
struct Argument {
    name: String,
    kind: Kind,
    token: Option<String>,
    is_optional: bool,
    is_multiple: bool,
    /// The token comes again with each value.
    is_token_multiple: bool,
}

#[derive(Debug)]
enum Kind {
    /// A word that is typed as it is.
    Token,
    OneOf(Vec<Argument>),
    Block(Vec<Argument>),
    Value {
        kind: &'static str,
        /// For keys, the place in COMMAND INFO's key specifications, where there is one.
        key_spec: Option<usize>,
    },
}

/// The field `arguments` of a command that has some; the number of fields written.
pub(super) fn write(name: &str, spec: &Spec, reply: &mut Reply<'_>) -> usize {
    if spec.syntax.is_empty() {
        return 0;
    }
    let mut reader = Reader { spec, key_specs: key_specs::count(name, spec), keys: 0 };
    let arguments = reader.sequence(&parse(spec.syntax));
    reply.bulk(b"arguments");
    write_all(&arguments, reply);
    1
}

fn write_all(arguments: &[Argument], reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| argument.write(reply));
}

impl Argument {
    fn new(name: impl Into<String>, kind: Kind) -> Self {
        let (is_optional, is_multiple, is_token_multiple) = (false, false, false);
        Self { name: name.into(), kind, token: None, is_optional, is_multiple, is_token_multiple }
    }

    /// A block, or the one argument that it would be made of.
    fn block(mut inner: Vec<Argument>) -> Self {
        if inner.len() == 1 {
            return inner.remove(0);
        }
        let name = match inner.first().and_then(|first| first.token.as_ref()) {
            Some(token) => named_by(token),
            None => inner.iter().map(|argument| argument.name.as_str()).collect::<Vec<_>>().join("-"),
        };
        Self::new(name, Kind::Block(inner))
    }

    fn write(&self, reply: &mut Reply<'_>) {
        reply.map_of(|reply| {
            let mut fields = 2;
            let text = |field: &str, value: &str, reply: &mut Reply<'_>| {
                reply.bulk(field.as_bytes());
                reply.bulk(value.as_bytes());
            };
            text("name", &self.name, reply);
            text("type", self.kind.word(), reply);
            if !matches!(self.kind, Kind::OneOf(_) | Kind::Block(_)) {
                text("display_text", &self.name, reply);
                fields += 1;
            }
            if let Kind::Value { key_spec: Some(spec), .. } = self.kind {
                reply.bulk(b"key_spec_index");
                reply.integer(spec as i64);
                fields += 1;
            }
            if let Some(token) = &self.token {
                text("token", token, reply);
                fields += 1;
            }
            let flags = [
                (self.is_optional, "optional"),
                (self.is_multiple, "multiple"),
                (self.is_token_multiple, "multiple_token"),
            ];
            let set = flags.iter().filter(|(is_set, _)| *is_set);
            if set.clone().count() > 0 {
                reply.bulk(b"flags");
                reply.set(set.clone().count());
                set.for_each(|(_, word)| reply.simple(word));
                fields += 1;
            }
            if let Kind::OneOf(inner) | Kind::Block(inner) = &self.kind {
                reply.bulk(b"arguments");
                write_all(inner, reply);
                fields += 1;
            }
            fields
        });
    }
}

impl Kind {
    fn word(&self) -> &'static str {
        match self {
            Self::Token => "pure-token",
            Self::OneOf(_) => "oneof",
            Self::Block(_) => "block",
            Self::Value { kind, .. } => kind,
        }
    }
}

struct Reader<'s> {
    spec: &'s Spec,
    key_specs: usize,
    /// Arguments so far that are keys.
    keys: usize,
}

impl Reader<'_> {
    fn sequence(&mut self, nodes: &[Node]) -> Vec<Argument> {
        let mut arguments = Vec::new();
        let mut rest = nodes;
        while let Some((node, after)) = rest.split_first() {
            let Node::Word(word) = node else {
                arguments.push(self.argument(node));
                rest = after;
                continue;
            };
            // What must follow a word is its own.
            let own =
                after.iter().take_while(|node| !matches!(node, Node::Word(_) | Node::Optional(_))).count();
            arguments.push(self.with_token(word, &after[..own]));
            rest = &after[own..];
        }
        arguments
    }

    fn with_token(&mut self, word: &str, own: &[Node]) -> Argument {
        let token = if word == "\"\"" { "" } else { word };
        let mut argument = match own {
            [] => Argument::new(named_by(token), Kind::Token),
            [one] => self.argument(one),
            several => Argument::new(named_by(token), Kind::Block(self.sequence(several))),
        };
        if matches!(argument.kind, Kind::OneOf(_)) {
            argument.name = named_by(token);
        }
        argument.token = Some(token.to_owned());
        argument
    }

    fn argument(&mut self, node: &Node) -> Argument {
        match node {
            Node::Word(word) => self.with_token(word, &[]),
            Node::Value(name) => {
                let kind = self.kind_of(name);
                Argument::new(name.clone(), kind)
            }
            Node::Seq(nodes) => Argument::block(self.sequence(nodes)),
            Node::OneOf(choices) => {
                let inner: Vec<Argument> = choices.iter().map(|choice| self.argument(choice)).collect();
                Argument::new(choice_of(&inner), Kind::OneOf(inner))
            }
            Node::Optional(inner) => {
                let mut argument = self.argument(inner);
                argument.is_optional = true;
                argument
            }
            Node::Repeat(inner) => {
                let mut argument = self.argument(inner);
                argument.is_multiple = true;
                argument.is_token_multiple = argument.token.is_some();
                argument
            }
        }
    }

    fn kind_of(&mut self, name: &str) -> Kind {
        let key_spec = self.key_specs.checked_sub(1).map(|last| self.keys.min(last));
        if KEYS.contains(&name) && !matches!(self.spec.keys, Keys::None) {
            self.keys += 1;
            return Kind::Value { kind: "key", key_spec };
        }
        // SORT's patterns name keys, too, which have one specification together.
        if name == "pattern" && self.key_specs > 1 {
            self.keys = 2;
            return Kind::Value { kind: "pattern", key_spec: Some(1) };
        }
        let kind = match name {
            "pattern" => "pattern",
            name if name.starts_with("unix-time") => "unix-time",
            // Some mean another thing elsewhere.
            "timeout" if self.spec.flags.contains(Flags::BLOCKING) => "double",
            "increment" if self.spec.name.ends_with("float") => "double",
            "min" | "max" if self.spec.name.ends_with("score") || self.spec.name == "zcount" => "double",
            "start" | "stop" | "end" if COUNTS_FROM_START.contains(&self.spec.name) => "integer",
            "min-idle-time" if self.spec.name == "xpending" => "integer",
            "value" if self.spec.group == Group::Bitmap => "integer",
            name if DOUBLES.contains(&name) => "double",
            name if INTEGERS.contains(&name) => "integer",
            _ => "string",
        };
        Kind::Value { kind, key_spec: None }
    }
}

/// The name of a choice, after its first token.
fn choice_of(inner: &[Argument]) -> String {
    let first =
        inner.first().map(|argument| argument.token.as_deref().unwrap_or(&argument.name)).unwrap_or_default();
    let name = match first {
        "NX" | "FNX" => "condition",
        "GT" => "comparison",
        "EX" => "expiration",
        "ASC" => "order",
        "M" => "unit",
        "LEFT" | "MIN" | "BEFORE" => "where",
        "MAXLEN" => "strategy",
        "=" => "operator",
        "BYSCORE" => "sortby",
        "FROMMEMBER" => "from",
        "BYRADIUS" => "by",
        "ASYNC" => "flush-type",
        "ON" => "status",
        first => return named_by(first),
    };
    name.to_owned()
}

/// The name of a token.
fn named_by(token: &str) -> String {
    match token {
        "" => "empty-string".to_owned(),
        "=" => "equal".to_owned(),
        "~" => "approximately".to_owned(),
        "*" => "auto-id".to_owned(),
        "$" => "new-id".to_owned(),
        token => token.to_ascii_lowercase(),
    }
}

const KEYS: &[&str] =
    &["key", "key1", "key2", "source", "destination", "newkey", "sourcekey", "destkey", "src", "dst"];

const DOUBLES: &[&str] = &["height", "latitude", "longitude", "radius", "score", "width"];

const INTEGERS: &[&str] = &[
    "bit",
    "bits",
    "client-id",
    "cluster-bus-port",
    "config-epoch",
    "count",
    "cursor",
    "db",
    "decrement",
    "destination-db",
    "end-slot",
    "entries-added",
    "entries-read",
    "frequency",
    "increment",
    "index",
    "index1",
    "index2",
    "len",
    "limit",
    "milliseconds",
    "ms",
    "num-matches",
    "numfields",
    "numkeys",
    "numlocal",
    "numreplicas",
    "offset",
    "port",
    "protover",
    "rank",
    "seconds",
    "slot",
    "start-slot",
    "timeout",
    "ttl",
    "version",
    "weight",
];

/// Commands whose ranges count elements, bytes or bits.
const COUNTS_FROM_START: &[&str] =
    &["bitcount", "bitpos", "getrange", "lrange", "ltrim", "substr", "zremrangebyrank", "zrevrange"];
