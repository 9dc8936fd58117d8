//! BITFIELD and BITFIELD_RO: integers of any width at any bit.
//!
//! All arguments are read before anything is written. Where every write fails by `OVERFLOW FAIL`, the string may
//! still have grown, as in Redis; that is journaled, but no event is told.

use smallvec::SmallVec;
use thali_data::bits::{Field, Overflow};
use thali_data::{IntBuf, Str};
use thali_resp::Reply;

use crate::{
    Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec, integer, is_word, parse_i64,
};

pub const BITFIELD: Spec = Spec {
    name: "bitfield",
    summary: "Performs arbitrary bitfield integer operations on strings.",
    syntax: "key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY \
             encoding offset increment>> [operation ...]]",
    since: "3.2.0",
    complexity: "O(1) for each subcommand specified",
    arity: -2,
    keys: Keys::Varying { access: Access::READ_WRITE, of: access },
    ..super::WRITE
};

/// Only SET and INCRBY change anything.
fn access(args: &[&[u8]]) -> Access {
    let mut rest = args.get(2..).unwrap_or_default();
    loop {
        rest = match *rest {
            [word, _, _, ref rest @ ..] if is_word(word, "GET") => rest,
            [word, _, ref rest @ ..] if is_word(word, "OVERFLOW") => rest,
            [] => return Access::READ,
            _ => return Access::READ_WRITE,
        }
    }
}

pub const BITFIELD_RO: Spec = Spec {
    name: "bitfield_ro",
    summary: "Performs arbitrary read-only bitfield integer operations on strings.",
    syntax: "key [GET encoding offset [GET encoding offset ...]]",
    since: "6.0.0",
    complexity: BITFIELD.complexity,
    arity: -2,
    flags: super::READ.flags.union(Flags::FAST),
    ..super::READ
};

#[derive(Clone, Copy, Debug)]
enum Verb {
    Get,
    Set(i64),
    Add(i64),
}

/// One subcommand.
#[derive(Clone, Copy, Debug)]
struct Step {
    verb: Verb,
    field: Field,
    at: u64,
    overflow: Overflow,
}

impl Step {
    /// The number that is replied, and the one to be written; `None` = neither.
    fn result(&self, bytes: &[u8]) -> Option<(i64, i64)> {
        let old = self.field.read(bytes, self.at);
        match self.verb {
            Verb::Get => Some((old, old)),
            Verb::Set(value) => self.field.admit(value, self.overflow).map(|new| (old, new)),
            Verb::Add(by) => self.field.add(old, by, self.overflow).map(|new| (new, new)),
        }
    }

    fn writes(&self) -> bool {
        !matches!(self.verb, Verb::Get)
    }
}

type Steps = SmallVec<[Step; 4]>;

fn parse(cx: &Context<'_>, args: &[&[u8]]) -> Result<Steps, ErrorReply> {
    let mut steps = Steps::new();
    let mut overflow = Overflow::Wrap;
    let mut rest = args;
    loop {
        rest = match *rest {
            [] => return Ok(steps),
            [word, kind, ref rest @ ..] if is_word(word, "OVERFLOW") => {
                overflow = parse_overflow(kind)?;
                rest
            }
            [word, field, at, ref rest @ ..] if is_word(word, "GET") => {
                let (field, at) = parse_place(cx, field, at)?;
                steps.push(Step { verb: Verb::Get, field, at, overflow });
                rest
            }
            [word, field, at, value, ref rest @ ..] if is_word(word, "SET") || is_word(word, "INCRBY") => {
                let (field, at) = parse_place(cx, field, at)?;
                let value = integer(value)?;
                let verb = if is_word(word, "SET") { Verb::Set(value) } else { Verb::Add(value) };
                steps.push(Step { verb, field, at, overflow });
                rest
            }
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, ErrorReply> {
    match word {
        _ if is_word(word, "WRAP") => Ok(Overflow::Wrap),
        _ if is_word(word, "SAT") => Ok(Overflow::Saturate),
        _ if is_word(word, "FAIL") => Ok(Overflow::Fail),
        _ => Err(ErrorReply::new("ERR Invalid OVERFLOW type specified")),
    }
}

/// A type, `i5` or `u8`, and a place: in bits, or with `#` in fields of that type.
fn parse_place(cx: &Context<'_>, field: &[u8], at: &[u8]) -> Result<(Field, u64), ErrorReply> {
    const INVALID: ErrorReply = ErrorReply::new(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    let (is_signed, bits) = match field {
        [b'i', bits @ ..] => (true, bits),
        [b'u', bits @ ..] => (false, bits),
        _ => return Err(INVALID),
    };
    let bits = parse_i64(bits).and_then(|bits| u32::try_from(bits).ok());
    let field = bits.and_then(|bits| Field::new(is_signed, bits)).ok_or(INVALID)?;
    let at = match at {
        [b'#', at @ ..] => super::offset_in_units(cx, at, field.bits())?,
        _ => super::offset(cx, at)?,
    };
    Ok((field, at))
}

pub fn bitfield(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let steps = parse(cx, &args[2..])?;
    match steps.iter().filter(|step| step.writes()).map(|step| step.at + u64::from(step.field.bits())).max() {
        Some(end) => write(cx, args[1], &steps, end.div_ceil(8) as usize, reply),
        None => read(cx, args[1], &steps, reply),
    }
}

pub fn bitfield_ro(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let steps = parse(cx, &args[2..])?;
    if steps.iter().any(Step::writes) {
        return Err(ErrorReply::new("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read(cx, args[1], &steps, reply)
}

fn read(cx: &Context<'_>, key: &[u8], steps: &[Step], reply: &mut Reply<'_>) -> Outcome {
    let mut scratch = IntBuf::new();
    let bytes = cx.read::<Str>(key)?.map_or(&[][..], |string| string.bytes(&mut scratch));
    reply.array(steps.len());
    for step in steps {
        reply.integer(step.field.read(bytes, step.at));
    }
    Ok(Flow::Done)
}

/// `len`: bytes that the written fields need.
fn write(cx: &mut Context<'_>, key: &[u8], steps: &[Step], len: usize, reply: &mut Reply<'_>) -> Outcome {
    let string = cx.write_or_insert(key, Str::new)?;
    let grows = string.len() < len;
    let bytes = string.bytes_mut(len);
    let mut changes = 0;
    reply.array(steps.len());
    for step in steps {
        let Some((shown, new)) = step.result(bytes) else {
            reply.null();
            continue;
        };
        reply.integer(shown);
        if step.writes() {
            changes += u64::from(grows || step.field.read(bytes, step.at) != new);
            step.field.write(bytes, step.at, new);
        }
    }
    if changes > 0 {
        cx.modified(EventClass::STRING, "setbit", key);
        cx.dirty += changes - 1;
    } else if grows {
        cx.dirty += 1;
        cx.changed_in(cx.db, key);
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn fields_are_set_read_and_counted() {
        let mut store = Store::new();
        store.check(&[
            ("BITFIELD k", "*0"),
            ("BITFIELD k GET u8 0", "*1\n:0"),
            ("EXISTS k", ":0"),
            ("BITFIELD k SET i8 0 -100 GET i8 0 GET u8 0", "*3\n:0\n:-100\n:156"),
            ("BITFIELD k SET u8 #1 65 INCRBY u8 8 1", "*2\n:0\n:66"),
            ("STRLEN k", ":2"),
            ("BITFIELD k GET i64 0 GET u63 4294967295", "*2\n:-7187182055329890304\n:0"),
            ("BITFIELD_RO k GET u4 0 OVERFLOW SAT GET u4 #1", "*2\n:9\n:12"),
        ]);
        store.check(&[("SET k 1", "+OK"), ("BITFIELD k GET u8 0", "*1\n:49")]);
    }

    #[test]
    fn overflow_holds_for_what_follows() {
        let mut store = Store::new();
        store.check(&[
            ("BITFIELD k SET u2 0 3 INCRBY u2 0 1", "*2\n:0\n:0"),
            ("BITFIELD k OVERFLOW sat INCRBY u2 0 9 OVERFLOW fail INCRBY u2 0 1", "*2\n:3\n$-1"),
            ("BITFIELD k OVERFLOW SAT SET u2 0 -1 GET u2 0", "*2\n:3\n:3"),
            ("BITFIELD k OVERFLOW FAIL SET i3 #1 4", "*1\n$-1"),
        ]);
        store.protocol = thali_resp::Protocol::Resp3;
        store.check(&[("BITFIELD k OVERFLOW FAIL SET i3 #1 4", "*1\n_")]);
    }

    #[test]
    fn events_tell_of_changes_and_effects_of_growth() {
        let mut store = Store::new();
        for (line, events, is_journaled) in [
            ("BITFIELD k SET u8 0 5 SET u8 8 0", &["new k", "setbit k"][..], true),
            ("BITFIELD k SET u8 0 5", &[], false),
            ("BITFIELD k GET u8 0", &[], false),
            ("BITFIELD k OVERFLOW FAIL SET u2 30 9", &[], true),
            ("BITFIELD k SET u8 0 6", &["setbit k"], true),
        ] {
            store.run(line);
            assert_eq!(store.events, events, "{line}");
            assert_eq!(!store.effects.is_empty(), is_journaled, "{line}");
        }
        store.check(&[("STRLEN k", ":4")]);
    }

    #[test]
    fn wrong_arguments_leave_everything() {
        let mut store = Store::new();
        let no_type = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but \
                       i64 is.";
        let no_offset = "-ERR bit offset is not an integer or out of range";
        store.check(&[
            ("BITFIELD k GET u64 0", no_type),
            ("BITFIELD k GET i65 0", no_type),
            ("BITFIELD k GET u 0", no_type),
            ("BITFIELD k GET U8 0", no_type),
            ("BITFIELD k SET u8 0 1 GET i0 0", no_type),
            ("BITFIELD k GET u8 -1", no_offset),
            ("BITFIELD k GET u8 #-1", no_offset),
            ("BITFIELD k GET u8 #", no_offset),
            ("BITFIELD k GET u8 #536870912", no_offset),
            ("BITFIELD k GET u8 #1152921504606846976", no_offset),
            ("BITFIELD k SET u8 0 x", "-ERR value is not an integer or out of range"),
            ("BITFIELD k SET u8 0", "-ERR syntax error"),
            ("BITFIELD k OVERFLOW maybe", "-ERR Invalid OVERFLOW type specified"),
            ("BITFIELD k OVERFLOW", "-ERR syntax error"),
            ("BITFIELD_RO k SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
            ("EXISTS k", ":0"),
            ("LPUSH k v", ":1"),
            ("BITFIELD k", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("BITFIELD k SET u8 0 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
