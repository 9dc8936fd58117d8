//! The notation of [`Spec::syntax`](crate::Spec::syntax), read: what COMMAND DOCS and the prompt's hints are made of.
//!
//! `UPPER` words are typed as they are, `lower` ones stand for values, `[…]` may be left out, `a | b` is a choice,
//! `<…>` groups one, and `[x …]` with three dots behind repeats the same x before it.

/// Brackets inside brackets; deeper ones are left out.
const DEPTH_MAX: usize = 16;

/// A part of what may follow a command's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Word(String),
    Value(String),
    Seq(Vec<Node>),
    OneOf(Vec<Node>),
    Optional(Box<Node>),
    Repeat(Box<Node>),
}

impl Node {
    /// The parts of a sequence; of anything else, itself.
    pub fn as_slice(&self) -> &[Node] {
        match self {
            Self::Seq(nodes) => nodes,
            other => std::slice::from_ref(other),
        }
    }
}

/// Reads the manual's notation.
pub fn parse(text: &str) -> Vec<Node> {
    let mut spaced = String::new();
    for letter in text.chars() {
        match letter {
            '[' | ']' | '<' | '>' | '|' => spaced.extend([' ', letter, ' ']),
            other => spaced.push(other),
        }
    }
    let mut tokens = spaced.split_ascii_whitespace();
    sequence(&mut tokens, 0).0
}

/// One sequence up to its closing bracket; whether three dots were its end.
fn sequence<'a>(tokens: &mut impl Iterator<Item = &'a str>, depth: usize) -> (Vec<Node>, bool) {
    let (mut choices, mut seq, mut dots) = (Vec::new(), Vec::new(), false);
    while let Some(token) = tokens.next() {
        match token {
            "]" | ">" => break,
            "|" => choices.push(one(std::mem::take(&mut seq))),
            "..." => dots = true,
            "[" | "<" if depth >= DEPTH_MAX => break,
            "[" => match sequence(tokens, depth + 1) {
                (inner, true) => repeat_last(&mut seq, inner.len()),
                (inner, false) => seq.push(Node::Optional(Box::new(one(inner)))),
            },
            "<" => seq.push(one(sequence(tokens, depth + 1).0)),
            word if word.bytes().any(|b| b.is_ascii_lowercase()) => seq.push(Node::Value(word.to_owned())),
            word => seq.push(Node::Word(word.to_owned())),
        }
    }
    if !choices.is_empty() {
        choices.push(one(seq));
        seq = vec![Node::OneOf(choices)];
    }
    (seq, dots)
}

fn repeat_last(seq: &mut Vec<Node>, len: usize) {
    let repeated = seq.split_off(seq.len().saturating_sub(len));
    seq.push(Node::Repeat(Box::new(one(repeated))));
}

fn one(mut nodes: Vec<Node>) -> Node {
    if nodes.len() == 1 { nodes.remove(0) } else { Node::Seq(nodes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_read() {
        let (word, value) =
            (|text: &str| Node::Word(text.to_owned()), |text: &str| Node::Value(text.to_owned()));
        for (text, expected) in [
            ("key", vec![value("key")]),
            ("key [key ...]", vec![Node::Repeat(Box::new(value("key")))]),
            ("[NX | XX]", vec![Node::Optional(Box::new(Node::OneOf(vec![word("NX"), word("XX")])))]),
            ("a b [a b ...]", vec![Node::Repeat(Box::new(Node::Seq(vec![value("a"), value("b")])))]),
            ("<ID id>", vec![Node::Seq(vec![word("ID"), value("id")])]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn brackets_without_end_do_no_harm() {
        assert_eq!(parse("a [b").len(), 2);
        assert_eq!(parse("<a |").len(), 1);
        parse(&"[".repeat(10_000));
    }
}
