//! BITOP: combines strings bit by bit and stores the result, as long as the longest of them.

use std::borrow::Cow;

use thali_data::{IntBuf, Item, Str, bits};
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "bitop",
    summary: "Performs bitwise operations on multiple strings, and stores the result.",
    syntax: "<AND | OR | XOR | NOT> destkey key [key ...]",
    since: "2.6.0",
    complexity: "O(N)",
    arity: -4,
    keys: Keys::Into { at: 2, access: Access::WRITE },
    ..super::WRITE
};

#[derive(Clone, Copy, Debug)]
enum Operation {
    Combine(bits::Combine),
    Not,
}

fn parse(word: &[u8], sources: usize) -> Result<Operation, ErrorReply> {
    match word {
        _ if is_word(word, "AND") => Ok(Operation::Combine(bits::Combine::And)),
        _ if is_word(word, "OR") => Ok(Operation::Combine(bits::Combine::Or)),
        _ if is_word(word, "XOR") => Ok(Operation::Combine(bits::Combine::Xor)),
        _ if is_word(word, "NOT") && sources == 1 => Ok(Operation::Not),
        _ if is_word(word, "NOT") => {
            Err(ErrorReply::new("ERR BITOP NOT must be called with a single source key."))
        }
        _ => Err(ErrorReply::SYNTAX),
    }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (target, keys) = (args[2], &args[3..]);
    let operation = parse(args[1], keys.len())?;
    let strings: Vec<Option<&Str>> = keys.iter().map(|key| cx.read::<Str>(key)).collect::<Result<_, _>>()?;
    let sources: Vec<Cow<'_, [u8]>> = strings.into_iter().map(bytes_of).collect();
    let len = sources.iter().map(|source| source.len()).max().unwrap_or_default();
    if len == 0 {
        cx.delete(target);
        reply.integer(0);
        return Ok(Flow::Done);
    }
    let mut result = Str::new();
    let out = result.bytes_mut(len);
    match operation {
        Operation::Combine(how) => {
            bits::combine(how, &sources.iter().map(AsRef::as_ref).collect::<Vec<_>>(), out);
        }
        Operation::Not => {
            out.copy_from_slice(&sources[0]);
            bits::invert(out);
        }
    }
    cx.put(target, result, None);
    cx.modified(EventClass::STRING, "set", target);
    reply.integer(len as i64);
    Ok(Flow::Done)
}

/// A string's bytes; a missing one has none.
fn bytes_of(string: Option<&Str>) -> Cow<'_, [u8]> {
    match string.map(Str::item) {
        None => Cow::Borrowed(&[]),
        Some(Item::Bytes(bytes)) => Cow::Borrowed(bytes),
        Some(Item::Int(n)) => Cow::Owned(IntBuf::new().format(n).to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn shorter_strings_go_on_with_zeroes() {
        let mut store = Store::new();
        store.check(&[
            (r#"MSET a "\x01\x02\xff" b "\x01\x02\x03\xff" n 12"#, "+OK"),
            ("BITOP AND t a b", ":4"),
            ("BITCOUNT t", ":4"),
            ("BITOP or t a b none", ":4"),
            ("BITCOUNT t", ":18"),
            ("BITOP XOR t a b", ":4"),
            ("BITCOUNT t", ":14"),
            ("BITOP NOT t a", ":3"),
            ("BITCOUNT t", ":14"),
            ("BITOP OR n n", ":2"),
            ("GET n", "$2\n12"),
            ("OBJECT ENCODING n", "$3\nraw"),
        ]);
    }

    #[test]
    fn nothing_removes_the_target() {
        let mut store = Store::new();
        store.check(&[("SET t v EX 100", "+OK"), ("BITOP NOT t t", ":1"), ("TTL t", ":-1")]);
        store.check(&[("BITOP AND t none", ":0")]);
        assert_eq!(store.events, ["del t"]);
        store.check(&[("EXISTS t", ":0"), ("BITOP AND t none", ":0")]);
        assert!(store.effects.is_empty());
    }

    #[test]
    fn wrong_arguments() {
        let mut store = Store::new();
        store.check(&[
            ("BITOP NAND t a", "-ERR syntax error"),
            ("BITOP NOT t a b", "-ERR BITOP NOT must be called with a single source key."),
            ("LPUSH l v", ":1"),
            ("BITOP OR t none l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SET a v", "+OK"),
            ("BITOP OR l a", ":1"),
        ]);
    }
}
