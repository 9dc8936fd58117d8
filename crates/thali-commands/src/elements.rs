//! What commands over collections share: elements into replies, random samples, SCAN's options.

use std::collections::HashSet;

use thali_data::Item;
use thali_keyspace::glob;
use thali_resp::Reply;

use crate::{Context, ErrorReply, Random, integer, is_word};

/// Elements of a collection as replies.
pub(crate) trait ReplyElements {
    /// An element as a bulk string.
    fn item(&mut self, item: Item<'_>);
}

impl ReplyElements for Reply<'_> {
    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Int(n) => self.bulk_integer(n),
            Item::Bytes(bytes) => self.bulk(bytes),
        }
    }
}

impl Context<'_> {
    /// A generator of its own, for commands that draw while they read from the context.
    pub(crate) fn fork_random(&mut self) -> Random {
        Random::new(self.random.next_u64())
    }
}

/// Below this many elements a sample is drawn from a list of all.
const SAMPLE_ALL_LEN_MAX: usize = 256;

/// `count` different ones of `len` elements, with `count < len`: from a list of `all` where most are
/// wanted, else one by one with `draw`, which may give an element twice; `id` tells them apart.
pub(crate) fn sample<T>(
    count: usize,
    len: usize,
    random: &mut Random,
    all: impl FnOnce() -> Vec<T>,
    mut draw: impl FnMut(&mut Random) -> Option<T>,
    id: impl Fn(&T) -> Vec<u8>,
) -> Vec<T> {
    if len <= SAMPLE_ALL_LEN_MAX || count > len / 3 {
        let mut elements = all();
        for i in 0..count {
            elements.swap(i, i + random.below(len - i));
        }
        elements.truncate(count);
        return elements;
    }
    let (mut sample, mut seen) = (Vec::with_capacity(count), HashSet::with_capacity(count));
    while sample.len() < count {
        let Some(element) = draw(random) else { break };
        if seen.insert(id(&element)) {
            sample.push(element);
        }
    }
    sample
}

/// How many elements a random command is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draws {
    /// So many different ones, or all where there are fewer.
    Distinct(usize),
    /// So many, each from all.
    Repeated(usize),
}

impl Draws {
    /// Reads a count: positive for different elements, negative for repeated ones.
    pub fn parse(arg: &[u8]) -> Result<Self, ErrorReply> {
        let count = integer_but_min(arg)?;
        let len = count.unsigned_abs() as usize;
        Ok(if count < 0 { Draws::Repeated(len) } else { Draws::Distinct(len) })
    }
}

/// An integer whose negation is one too.
pub(crate) fn integer_but_min(arg: &[u8]) -> Result<i64, ErrorReply> {
    match integer(arg)? {
        i64::MIN => Err(ErrorReply::new(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        n => Ok(n),
    }
}

/// An integer of at least `min`; anything else is `error`.
pub(crate) fn integer_from(arg: &[u8], min: i64, error: ErrorReply) -> Result<usize, ErrorReply> {
    match crate::parse_i64(arg) {
        Some(n) if n >= min => Ok(n as usize),
        _ => Err(error),
    }
}

const NAMES_ONLY: [(&str, &str); 2] = [("NOVALUES", "HSCAN"), ("NOSCORES", "ZSCAN")];

/// Elements that one SCAN call looks at where the client does not say.
const SCAN_COUNT_DEFAULT: usize = 10;

/// `[MATCH pattern] [COUNT count]` of HSCAN, SSCAN and ZSCAN, and of Valkey 8 on `NOVALUES` and `NOSCORES`.
pub(crate) struct ScanOptions<'a> {
    pub count: usize,
    /// Fields without values, members without scores.
    pub names_only: bool,
    pattern: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// `names_only` is this command's word for names alone.
    pub fn parse(args: &[&'a [u8]], names_only: Option<&str>) -> Result<Self, ErrorReply> {
        let mut options = ScanOptions { count: SCAN_COUNT_DEFAULT, names_only: false, pattern: None };
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            if let Some((option, command)) = NAMES_ONLY.iter().find(|(option, _)| is_word(word, option)) {
                if names_only != Some(option) {
                    let text = format!("ERR {option} option can only be used in {command}");
                    return Err(ErrorReply::owned(text));
                }
                options.names_only = true;
                continue;
            }
            let value = *rest.next().ok_or(ErrorReply::SYNTAX)?;
            if is_word(word, "COUNT") {
                options.count = usize::try_from(integer(value)?).unwrap_or(0);
                if options.count == 0 {
                    return Err(ErrorReply::SYNTAX);
                }
            } else if is_word(word, "MATCH") {
                options.pattern = Some(value).filter(|p| *p != b"*");
            } else {
                return Err(ErrorReply::SYNTAX);
            }
        }
        Ok(options)
    }

    pub fn matches(&self, element: Item<'_>) -> bool {
        self.pattern.is_none_or(|pattern| element.with_bytes(|bytes| glob::matches(pattern, bytes)))
    }
}

/// SCAN's reply: the cursor to go on with, then the elements that `scan` writes; it returns the cursor
/// and their number.
pub(crate) fn reply_scan(reply: &mut Reply<'_>, scan: impl FnOnce(&mut Reply<'_>) -> (u64, usize)) {
    let mut elements = Vec::new();
    let (cursor, len) = scan(&mut Reply::new(&mut elements, reply.protocol()));
    reply.array(2);
    reply.bulk_integer(cursor as i64);
    reply.array(len);
    reply.raw(&elements);
}
