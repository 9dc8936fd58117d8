//! What may follow a command's name: read from COMMAND DOCS where the table that the program carries says less,
//! matched against what was typed, and written in the manual's notation.

use thali_commands::syntax::Node;

use crate::wire::Reply;

/// Blocks inside blocks of COMMAND DOCS; deeper ones are left out.
const DEPTH_MAX: usize = 16;

/// What a match leaves.
#[derive(Debug)]
struct Match {
    /// Words that fit.
    used: usize,
    /// What may or must still come.
    left: Vec<Node>,
}

/// Reads the `arguments` of COMMAND DOCS.
pub(crate) fn from_docs(arguments: &Reply, depth: usize) -> Vec<Node> {
    if depth > DEPTH_MAX {
        return Vec::new();
    }
    arguments.items().iter().map(|argument| argument_of(argument, depth)).collect()
}

fn argument_of(argument: &Reply, depth: usize) -> Node {
    let text = |key: &str| {
        argument.field(key).and_then(Reply::text).map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let flags = argument.field("flags").map(Reply::items).unwrap_or_default();
    let has = |flag: &str| flags.iter().any(|item| item.text() == Some(flag.as_bytes()));
    let inner = || argument.field("arguments").map(|inner| from_docs(inner, depth + 1)).unwrap_or_default();
    let token =
        text("token").map(|token| Node::Word(if token.is_empty() { "\"\"".to_owned() } else { token }));
    let body = match text("type").as_deref() {
        Some("pure-token") => None,
        Some("block") => Some(Node::Seq(inner())),
        Some("oneof") => Some(Node::OneOf(inner())),
        _ => Some(Node::Value(text("display_text").or_else(|| text("name")).unwrap_or_default())),
    };
    let repeat = |node: Node| Node::Repeat(Box::new(node));
    let node = match (token, body) {
        (Some(token), None) if has("multiple") => repeat(token),
        (Some(token), None) => token,
        (None, Some(body)) if has("multiple") => repeat(body),
        (None, Some(body)) => body,
        (Some(token), Some(body)) if has("multiple_token") => repeat(Node::Seq(vec![token, body])),
        (Some(token), Some(body)) if has("multiple") => Node::Seq(vec![token, repeat(body)]),
        (Some(token), Some(body)) => Node::Seq(vec![token, body]),
        (None, None) => Node::Seq(Vec::new()),
    };
    if has("optional") { Node::Optional(Box::new(node)) } else { node }
}

/// What may follow the words typed so far; `None` where they don't fit.
pub(crate) fn left_after(syntax: &[Node], words: &[Vec<u8>]) -> Option<Vec<Node>> {
    let matched = match_all(syntax, words)?;
    (matched.used == words.len()).then_some(matched.left)
}

fn match_all(nodes: &[Node], words: &[Vec<u8>]) -> Option<Match> {
    let mut used = 0;
    let mut left = Vec::new();
    let mut at = 0;
    while at < nodes.len() {
        if used == words.len() {
            left.extend_from_slice(&nodes[at..]);
            break;
        }
        if let Node::Optional(_) = &nodes[at] {
            let end = at + nodes[at..].iter().take_while(|node| matches!(node, Node::Optional(_))).count();
            let options = match_options(&nodes[at..end], &words[used..]);
            used += options.used;
            // What is still open counts while nothing else was typed behind it.
            if used == words.len() {
                left.extend(options.left);
            }
            at = end;
        } else {
            // What repeats ends where a word comes that begins what follows it.
            let mut stops = Vec::new();
            next_words(&nodes[at + 1..], &mut stops);
            let is_stop =
                |word: &Vec<u8>| stops.iter().any(|stop| stop.as_bytes().eq_ignore_ascii_case(word));
            let repeats = matches!(nodes[at], Node::Repeat(_));
            let own =
                words[used..].iter().position(is_stop).filter(|_| repeats).unwrap_or(words.len() - used);
            let matched = match_one(&nodes[at], &words[used..used + own])?;
            used += matched.used;
            if used == words.len() {
                left.extend(matched.left);
            }
            at += 1;
        }
    }
    Some(Match { used, left })
}

/// Options in a row come in any order.
fn match_options(options: &[Node], words: &[Vec<u8>]) -> Match {
    let mut open: Vec<&Node> = options.iter().collect();
    let mut used = 0;
    let mut unfinished = Vec::new();
    while used < words.len() {
        let found = open.iter().enumerate().find_map(|(at, option)| {
            let Node::Optional(inner) = option else { return None };
            match_one(inner, &words[used..]).filter(|matched| matched.used > 0).map(|matched| (at, matched))
        });
        let Some((at, matched)) = found else { break };
        used += matched.used;
        unfinished = matched.left;
        open.remove(at);
    }
    unfinished.extend(open.into_iter().cloned());
    Match { used, left: unfinished }
}

fn match_one(node: &Node, words: &[Vec<u8>]) -> Option<Match> {
    let Some(word) = words.first() else { return Some(Match { used: 0, left: vec![node.clone()] }) };
    match node {
        Node::Word(token) => {
            let is_it = token.as_bytes().eq_ignore_ascii_case(word) || token == "\"\"" && word.is_empty();
            is_it.then_some(Match { used: 1, left: Vec::new() })
        }
        Node::Value(_) => Some(Match { used: 1, left: Vec::new() }),
        Node::Seq(nodes) => match_all(nodes, words),
        // A word that is one of the choices is meant; only then it may be a value.
        Node::OneOf(choices) => {
            let is_value = |node: &&Node| matches!(node, Node::Value(_) | Node::Repeat(_));
            let (values, others): (Vec<&Node>, Vec<&Node>) = choices.iter().partition(is_value);
            others
                .into_iter()
                .chain(values)
                .find_map(|choice| match_one(choice, words).filter(|m| m.used > 0))
        }
        Node::Optional(_) => Some(match_options(std::slice::from_ref(node), words)),
        Node::Repeat(inner) => {
            let mut matched = match_one(inner, words)?;
            while matched.left.is_empty() && matched.used < words.len() {
                match match_one(inner, &words[matched.used..]) {
                    Some(next) if next.used > 0 => {
                        matched = Match { used: matched.used + next.used, left: next.left };
                    }
                    _ => break,
                }
            }
            matched.left.push(Node::Optional(Box::new(Node::Seq(vec![(**inner).clone(), dots()]))));
            Some(matched)
        }
    }
}

fn dots() -> Node {
    Node::Value("...".to_owned())
}

/// The notation, as redis-cli writes it.
pub(crate) fn text(nodes: &[Node]) -> String {
    nodes.iter().map(node_text).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

fn node_text(node: &Node) -> String {
    match node {
        Node::Word(text) | Node::Value(text) => text.clone(),
        Node::Seq(nodes) => text(nodes),
        Node::OneOf(nodes) => nodes.iter().map(node_text).collect::<Vec<_>>().join("|"),
        Node::Optional(inner) => format!("[{}]", node_text(inner)),
        Node::Repeat(inner) => {
            let text = node_text(inner);
            format!("{text} [{text} ...]")
        }
    }
}

/// The words that may come next as they are.
pub(crate) fn next_words(nodes: &[Node], found: &mut Vec<String>) {
    for node in nodes {
        match node {
            Node::Word(word) => return found.push(word.clone()),
            Node::Value(_) => return,
            Node::Seq(nodes) => return next_words(nodes, found),
            Node::OneOf(choices) => {
                return choices.iter().for_each(|choice| next_words(choice.as_slice(), found));
            }
            Node::Repeat(inner) => return next_words(inner.as_slice(), found),
            Node::Optional(inner) => next_words(inner.as_slice(), found),
        }
    }
}

#[cfg(test)]
mod tests {
    use thali_commands::syntax::parse;

    use super::*;

    const SET: &str = "key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]";

    fn left(syntax: &str, typed: &str) -> Option<String> {
        let words: Vec<_> = typed.split_ascii_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        left_after(&parse(syntax), &words).map(|nodes| text(&nodes))
    }

    #[test]
    fn what_is_left_shrinks_as_words_are_typed() {
        for (syntax, typed, expected) in [
            (SET, "", Some("key value [NX|XX] [GET] [EX seconds|PX milliseconds|KEEPTTL]")),
            (SET, "k", Some("value [NX|XX] [GET] [EX seconds|PX milliseconds|KEEPTTL]")),
            (SET, "k v get", Some("[NX|XX] [EX seconds|PX milliseconds|KEEPTTL]")),
            (SET, "k v EX", Some("seconds [NX|XX] [GET]")),
            (SET, "k v EX 5 nx", Some("[GET]")),
            (SET, "k v nosuch", None),
            ("key [key ...]", "a", Some("[key ...]")),
            ("key [key ...]", "a b", Some("[key ...]")),
            ("key value [key value ...]", "a", Some("value [key value ...]")),
            (
                "key [NX | XX] [CH] score member [score member ...]",
                "k",
                Some("[NX|XX] [CH] score member [score member ...]"),
            ),
            (
                "key [NX | XX] [CH] score member [score member ...]",
                "k XX 1",
                Some("member [score member ...]"),
            ),
            (
                "numkeys key [key ...] [WEIGHTS weight [weight ...]]",
                "1 k",
                Some("[key ...] [WEIGHTS weight [weight ...]]"),
            ),
            (
                "numkeys key [key ...] [WEIGHTS weight [weight ...]]",
                "1 k WEIGHTS",
                Some("weight [weight ...]"),
            ),
            ("[COUNT n] STREAMS key [key ...] id [id ...]", "STREAMS a", Some("[key ...] id [id ...]")),
            ("key [key ...] timeout", "a", Some("[key ...] timeout")),
            ("<a | ID id> x", "ID", Some("id x")),
            ("", "x", None),
        ] {
            assert_eq!(left(syntax, typed).as_deref(), expected, "{syntax} after {typed}");
        }
    }

    #[test]
    fn words_that_may_come_next_are_named() {
        let words = [b"k".to_vec(), b"v".to_vec()];
        let mut found = Vec::new();
        next_words(&left_after(&parse(SET), &words).unwrap(), &mut found);
        assert_eq!(found, ["NX", "XX", "GET", "EX", "PX", "KEEPTTL"]);
    }

    #[test]
    fn command_docs_say_the_same() {
        let item = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
        let argument = |fields: &[(&str, Reply)]| {
            Reply::Map(fields.iter().map(|(key, value)| (item(key), value.clone())).collect())
        };
        let docs = Reply::Array(vec![
            argument(&[("name", item("key")), ("type", item("key"))]),
            argument(&[
                ("name", item("weight")),
                ("type", item("integer")),
                ("token", item("WEIGHTS")),
                ("flags", Reply::Array(vec![item("optional"), item("multiple")])),
            ]),
        ]);
        assert_eq!(text(&from_docs(&docs, 0)), "key [WEIGHTS weight [weight ...]]");
        assert_eq!(from_docs(&docs, 0), parse("key [WEIGHTS weight [weight ...]]"));
    }
}
