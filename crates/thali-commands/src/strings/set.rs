//! SET: puts a string, under conditions and with a time to live.
//!
//! Journaled with an absolute PXAT, so that a replay at another time means the same.

use thali_data::{IntBuf, Str};
use thali_keyspace::Typed;
use thali_resp::Reply;

use crate::{
    Access, Categories, Context, ErrorReply, EventClass, Flags, Flow, Group, Keys, Outcome, Spec, is_word,
    parse_i64,
};

pub const SPEC: Spec = Spec {
    name: "set",
    summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
    syntax: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT \
             unix-time-milliseconds | KEEPTTL]",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::Varying { access: Access::READ_WRITE, of: access },
    categories: Categories::STRING,
    ..Spec::BASE
};

/// GET reads what SET overwrites.
fn access(args: &[&[u8]]) -> Access {
    if args.iter().skip(3).any(|arg| is_word(arg, "GET")) { Access::READ_WRITE } else { Access::WRITE }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    Missing,
    Present,
}

/// What becomes of the key's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Clear,
    Keep,
    At(u64),
}

#[derive(Debug)]
struct Args {
    condition: Condition,
    expiry: Expiry,
    /// Reply the old value.
    get: bool,
}

fn parse(options: &[&[u8]], now_ms: u64) -> Result<Args, ErrorReply> {
    let mut args = Args { condition: Condition::Always, expiry: Expiry::Clear, get: false };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if is_word(option, "NX") && args.condition != Condition::Present {
            args.condition = Condition::Missing;
        } else if is_word(option, "XX") && args.condition != Condition::Missing {
            args.condition = Condition::Present;
        } else if is_word(option, "GET") {
            args.get = true;
        } else if args.expiry != Expiry::Clear {
            return Err(ErrorReply::SYNTAX);
        } else if is_word(option, "KEEPTTL") {
            args.expiry = Expiry::Keep;
        } else {
            let value = rest.next().ok_or(ErrorReply::SYNTAX)?;
            args.expiry = Expiry::At(expire_at(option, value, now_ms, "set")?);
        }
    }
    Ok(args)
}

/// Reads `EX s`, `PX ms`, `EXAT s` or `PXAT ms` as a moment in Unix milliseconds.
pub(crate) fn expire_at(unit: &[u8], value: &[u8], now_ms: u64, command: &str) -> Result<u64, ErrorReply> {
    let (seconds, relative) = match unit {
        _ if is_word(unit, "EX") => (true, true),
        _ if is_word(unit, "PX") => (false, true),
        _ if is_word(unit, "EXAT") => (true, false),
        _ if is_word(unit, "PXAT") => (false, false),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let invalid = || ErrorReply::owned(format!("ERR invalid expire time in '{command}' command"));
    let value = parse_i64(value).ok_or(ErrorReply::NOT_INTEGER)?;
    if value <= 0 {
        return Err(invalid());
    }
    let ms = if seconds { value.checked_mul(1000).ok_or_else(invalid)? } else { value };
    let at = if relative { ms.checked_add(now_ms as i64).ok_or_else(invalid)? } else { ms };
    Ok(at as u64)
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (args[1], args[2]);
    // Nothing asks what is there; but a look at it counts as a use, where uses are counted.
    if args.len() == 3 && !cx.uses.are_counted() {
        super::put(cx, key, value);
        reply.ok();
        return Ok(Flow::Done);
    }
    let options = parse(&args[3..], cx.now_ms)?;
    let (exists, old_expire_at) = match cx.entry_kept(key) {
        Some(entry) => {
            if options.get {
                let old = Str::of(&entry.value).ok_or(ErrorReply::WRONG_TYPE)?;
                reply.bulk(old.bytes(&mut IntBuf::new()));
            }
            (true, entry.expire_at())
        }
        None => {
            if options.get {
                reply.null();
            }
            (false, None)
        }
    };
    let refused = match options.condition {
        Condition::Always => false,
        Condition::Missing => exists,
        Condition::Present => !exists,
    };
    if refused {
        if !options.get {
            reply.null();
        }
        return Ok(Flow::Done);
    }
    let expire_at = match options.expiry {
        Expiry::Clear => None,
        Expiry::Keep => old_expire_at,
        Expiry::At(at) => Some(at),
    };
    cx.put_text(key, value, expire_at);
    cx.modified(EventClass::STRING, "set", key);
    if let Expiry::At(at) = options.expiry {
        cx.event(EventClass::GENERIC, "expire", key);
        cx.effect(&[&b"SET"[..], key, value, b"PXAT", itoa::Buffer::new().format(at).as_bytes()]);
    }
    if !options.get {
        reply.ok();
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn conditions() {
        let mut store = Store::new();
        store.check(&[
            ("SET k v XX", "$-1"),
            ("SET k v NX", "+OK"),
            ("SET k w NX", "$-1"),
            ("SET k w XX GET", "$1\nv"),
            ("SET k x NX XX", "-ERR syntax error"),
            ("GET k", "$1\nw"),
        ]);
    }

    #[test]
    fn a_time_to_live_is_journaled_as_a_moment() {
        let mut store = Store::new();
        store.check(&[("SET k v EX 10", "+OK")]);
        assert_eq!(store.effects, ["SET k v PXAT 1700000010000"]);
        store.now_ms += 10_001;
        store.check(&[("GET k", "$-1")]);
        assert_eq!(store.effects, ["DEL k"]);
        store.check(&[
            ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET k v EX x", "-ERR value is not an integer or out of range"),
            ("SET k v EX 1 PX 1", "-ERR syntax error"),
        ]);
    }

    /// SOURCE: redis 7.0.15, asked.
    #[test]
    fn wherever_a_string_stands_it_is_the_same_to_its_users() {
        let mut store = Store::new();
        let text = |len: usize| "x".repeat(len);
        for (len, encoding) in
            [(3, "embstr"), (14, "embstr"), (44, "embstr"), (45, "raw"), (192, "raw"), (193, "raw")]
        {
            let get = format!("${len}\n{}", text(len));
            let raw = "$3\nraw";
            let encoding = format!("${}\n{encoding}", encoding.len());
            store.check(&[
                (&format!("SET k {}", text(len)), "+OK"),
                ("EXPIRE k 100", ":1"),
                ("PERSIST k", ":1"),
                ("OBJECT ENCODING k", &encoding),
                ("RENAME k l", "+OK"),
                ("COPY l k REPLACE", ":1"),
                ("GET k", &get),
                ("OBJECT ENCODING k", &encoding),
                ("GETDEL l", &get),
                ("SETRANGE k 0 x", &format!(":{len}")),
                ("OBJECT ENCODING k", raw),
                ("RENAME k l", "+OK"),
                ("COPY l k REPLACE", ":1"),
                ("OBJECT ENCODING k", raw),
                ("GET k", &get),
                ("GETSET k 12", &get),
                (&format!("SET k {} GET", text(len + 1)), "$2\n12"),
                (&format!("SET k {} GET", text(len)), &format!("${}\n{}", len + 1, text(len + 1))),
                ("STRLEN k", &format!(":{len}")),
                ("DEL k l", ":2"),
            ]);
        }
    }
}
