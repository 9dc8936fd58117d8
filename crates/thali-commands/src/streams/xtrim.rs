//! XTRIM, and the trimming options that XADD shares with it.
//!
//! `~` removes whole nodes of the log only, so what it removes depends on how the log was built: it is
//! journaled as the exact length that it left.

use thali_data::stream::{Keep, Stream, Trim};
use thali_resp::Reply;

use super::{WRITE_ONE, stream_id};
use crate::{Context, ErrorReply, EventClass, Flags, Flow, Origin, Outcome, Spec, integer, is_word};

pub const SPEC: Spec = Spec {
    name: "xtrim",
    summary: "Deletes messages from the beginning of a stream.",
    syntax: "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]",
    complexity: "O(N), with N being the number of evicted entries. Constant times are very small however, since entries are organized in macro nodes containing multiple entries that can be released with a single deallocation.",
    arity: -4,
    flags: Flags::WRITE,
    ..WRITE_ONE
};

/// What `~` removes at most where no LIMIT is given: so many nodes, and never more than so many entries.
const NODES_TRIMMED_MAX: u64 = 100;
const ENTRIES_TRIMMED_MAX: u64 = 1_000_000;

/// Trimming options as they were given.
#[derive(Default)]
pub(super) struct TrimOptions {
    keep: Option<Keep>,
    approximate: bool,
    limit: Option<u64>,
}

impl TrimOptions {
    /// Takes one option off the front; false where there is none.
    pub fn take(&mut self, rest: &mut &[&[u8]]) -> Result<bool, ErrorReply> {
        let [word, value, ..] = *rest else { return Ok(false) };
        let (is_max_len, is_min_id) = (is_word(word, "MAXLEN"), is_word(word, "MINID"));
        if is_max_len || is_min_id {
            if self.keep.is_some() {
                return Err(ErrorReply::new(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            let marked = rest.len() >= 3 && matches!(*value, b"~" | b"=");
            self.approximate = marked && *value == b"~";
            let at = if marked { 2 } else { 1 };
            self.keep = Some(if is_max_len { max_len(rest[at])? } else { Keep::From(stream_id(rest[at])?) });
            *rest = &rest[at + 1..];
        } else if is_word(word, "LIMIT") {
            let limit = u64::try_from(integer(value)?)
                .map_err(|_| ErrorReply::new("ERR The LIMIT argument must be >= 0."))?;
            self.limit = Some(limit);
            *rest = &rest[2..];
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The trim that was asked for, if any.
    pub fn finish(self, cx: &Context<'_>) -> Result<Option<Trim>, ErrorReply> {
        let Some(keep) = self.keep else {
            if self.limit.unwrap_or(0) > 0 {
                return Err(ErrorReply::new(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                ));
            }
            return Ok(None);
        };
        let limit = match self.limit {
            // Journals of Redis keep LIMIT beside the exact length; it means nothing there.
            _ if cx.origin == Origin::Replay => 0,
            Some(_) if !self.approximate => {
                return Err(ErrorReply::new(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
            Some(limit) => limit,
            None if self.approximate => match cx.limits.stream_node_max_entries as u64 {
                0 => 100 * NODES_TRIMMED_MAX,
                entries => entries.saturating_mul(NODES_TRIMMED_MAX).min(ENTRIES_TRIMMED_MAX),
            },
            None => 0,
        };
        Ok(Some(Trim { keep, approximate: self.approximate, limit }))
    }
}

fn max_len(text: &[u8]) -> Result<Keep, ErrorReply> {
    match u64::try_from(integer(text)?) {
        Ok(len) => Ok(Keep::Newest(len)),
        Err(_) => Err(ErrorReply::new("ERR The MAXLEN argument must be >= 0.")),
    }
}

/// The words that make a copy of a log `len` long.
pub(super) fn exact_trim(len: u64, digits: &mut itoa::Buffer) -> [&[u8]; 3] {
    [b"MAXLEN", b"=", digits.format(len).as_bytes()]
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let mut options = TrimOptions::default();
    let mut rest = &args[2..];
    while !rest.is_empty() {
        if !options.take(&mut rest)? {
            return Err(ErrorReply::SYNTAX);
        }
    }
    let trim = options
        .finish(cx)?
        .ok_or(ErrorReply::new("ERR syntax error, XTRIM must be called with a trimming strategy"))?;
    let key = args[1];
    let Some(stream) = cx.write::<Stream>(key)? else {
        reply.integer(0);
        return Ok(Flow::Done);
    };
    let removed = stream.log.trim(trim);
    let len = stream.log.len();
    if removed > 0 {
        cx.modified(EventClass::STREAM, "xtrim", key);
        if trim.approximate {
            let mut digits = itoa::Buffer::new();
            let [strategy, operator, threshold] = exact_trim(len, &mut digits);
            cx.effect(&[b"XTRIM", key, strategy, operator, threshold]);
        }
    }
    reply.integer(removed as i64);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    fn store() -> Store {
        let mut store = Store::new();
        for ms in 1..=250 {
            store.run(&format!("XADD s {ms}-0 f v"));
        }
        store
    }

    #[test]
    fn exact_trims_are_journaled_as_they_came() {
        let mut store = store();
        store.check(&[("XTRIM s MAXLEN 245", ":5")]);
        assert_eq!(store.effects, ["XTRIM s MAXLEN 245"]);
        assert_eq!(store.events, ["xtrim s"]);
        store.check(&[
            ("XTRIM s MINID = 11", ":5"),
            ("XTRIM s MAXLEN 500", ":0"),
            ("XTRIM none MAXLEN 0", ":0"),
        ]);
        assert!(store.effects.is_empty());
        store.check(&[("XTRIM s MAXLEN 0", ":240"), ("XLEN s", ":0")]);
    }

    #[test]
    fn approximate_trims_are_journaled_as_what_they_left() {
        let mut store = store();
        store.check(&[("XTRIM s MAXLEN ~ 120", ":100")]);
        assert_eq!(store.effects, ["XTRIM s MAXLEN = 150"]);
        store.check(&[("XTRIM s MINID ~ 240 LIMIT 50", ":0"), ("XTRIM s MINID ~ 240 LIMIT 100", ":100")]);
        assert_eq!(store.effects, ["XTRIM s MAXLEN = 50"]);
    }

    #[test]
    fn faults() {
        Store::new().check(&[
            ("XTRIM s MAXLEN -1", "-ERR The MAXLEN argument must be >= 0."),
            ("XTRIM s MAXLEN x", "-ERR value is not an integer or out of range"),
            ("XTRIM s MINID x", "-ERR Invalid stream ID specified as stream command argument"),
            (
                "XTRIM s MAXLEN 5 LIMIT 3",
                "-ERR syntax error, LIMIT cannot be used without the special ~ option",
            ),
            (
                "XTRIM s LIMIT 3",
                "-ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ),
            ("XTRIM s LIMIT 0", "-ERR syntax error, XTRIM must be called with a trimming strategy"),
            ("XTRIM s MAXLEN 5 x", "-ERR syntax error"),
            (
                "XTRIM s MAXLEN 5 MINID 3",
                "-ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ),
        ]);
    }
}
