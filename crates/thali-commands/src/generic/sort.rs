//! SORT and SORT_RO: the elements of a list, set or sorted set in another order, or what keys named after
//! them hold.
//!
//! BY and GET patterns with a `*` reach keys that the request does not name. No plan can know them before the
//! elements are read, so such a request is given every shard ([`Spec::looks_beyond`]): the result is of one
//! moment, and nothing is waited for while shards are held.
//!
//! ALPHA compares bytes, whatever the locale; elements that compare equal (they can with BY) keep the order in
//! which the collection gives them. Because a set gives them in any order, SORT with STORE is journaled as the
//! list that it made.

use std::cmp::Ordering;

use thali_data::double::parse_double;
use thali_data::list::End;
use thali_data::{Item, List, SortedSet};
use thali_keyspace::Value;
use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{
    Access, Categories, Context, ErrorReply, EventClass, Flags, Flow, Keys, Origin, Outcome, Spec, integer,
    is_word,
};

pub const SORT: Spec = Spec {
    name: "sort",
    summary: "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
    syntax: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] \
             [STORE destination]",
    complexity: "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of \
                 returned elements. When the elements are not sorted, complexity is O(N).",
    arity: -2,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLE_KEYS),
    keys: Keys::Found(|args, push| {
        if args.len() > 1 {
            push(1, Access::READ);
        }
        if let Some(at) = operands(args, &["STORE"]).last() {
            push(at, Access::WRITE);
        }
    }),
    looks_beyond: Some(|args| operands(args, &["BY", "GET"]).find(|at| args[*at].contains(&b'*'))),
    categories: Categories::SET
        .union(Categories::SORTEDSET)
        .union(Categories::LIST)
        .union(Categories::DANGEROUS),
    ..super::BASE
};

pub const SORT_RO: Spec = Spec {
    name: "sort_ro",
    summary: "Returns the sorted elements of a list, a set, or a sorted set.",
    syntax: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
    since: "7.0.0",
    flags: Flags::READONLY.union(Flags::MOVABLE_KEYS),
    keys: Keys::one(Access::READ),
    ..SORT
};

/// How many arguments belong to an option's word.
fn operands_len(word: &[u8]) -> usize {
    match word {
        _ if is_word(word, "LIMIT") => 2,
        _ if ["BY", "GET", "STORE"].iter().any(|option| is_word(word, option)) => 1,
        _ => 0,
    }
}

/// The places of what stands behind any of `words`, each of which takes one argument.
fn operands<'a>(args: &'a [&'a [u8]], words: &'static [&'static str]) -> impl Iterator<Item = usize> + 'a {
    let mut next = 2;
    std::iter::from_fn(move || {
        let at = next;
        next += 1 + operands_len(args.get(at)?);
        Some(at)
    })
    .filter(move |at| at + 1 < args.len() && words.iter().any(|word| is_word(args[*at], word)))
    .map(|at| at + 1)
}

struct Options<'a> {
    descending: bool,
    alpha: bool,
    offset: i64,
    /// Negative: no limit.
    limit: i64,
    by: Option<&'a [u8]>,
    /// A BY pattern without `*` was given: the collection's own order.
    unsorted: bool,
    get: Vec<Pattern<'a>>,
    destination: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a [u8]], may_store: bool) -> Result<Self, ErrorReply> {
        let mut options = Self {
            descending: false,
            alpha: false,
            offset: 0,
            limit: -1,
            by: None,
            unsorted: false,
            get: Vec::new(),
            destination: None,
        };
        let mut rest = words;
        while let Some((word, tail)) = rest.split_first() {
            match tail {
                _ if is_word(word, "ASC") => options.descending = false,
                _ if is_word(word, "DESC") => options.descending = true,
                _ if is_word(word, "ALPHA") => options.alpha = true,
                [offset, limit, ..] if is_word(word, "LIMIT") => {
                    (options.offset, options.limit) = (integer(offset)?, integer(limit)?);
                }
                [key, ..] if may_store && is_word(word, "STORE") => options.destination = Some(key),
                [pattern, ..] if is_word(word, "BY") => {
                    options.by = Some(pattern);
                    options.unsorted |= !pattern.contains(&b'*');
                }
                [pattern, ..] if is_word(word, "GET") => options.get.push(Pattern::parse(pattern)),
                _ => return Err(ErrorReply::SYNTAX),
            }
            rest = &tail[operands_len(word)..];
        }
        Ok(options)
    }

    /// The range of `len` elements that LIMIT leaves.
    fn range(&self, len: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0).min(len);
        let count = usize::try_from(self.limit).unwrap_or(len).min(len - start);
        start..start + count
    }
}

/// What is looked up for an element.
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// Without a `*` there is nothing to look up.
    Nothing,
    /// A key, its name the element between two texts, and perhaps a field of the hash there.
    Key { before: &'a [u8], behind: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Self {
        if text == b"#" {
            return Self::Element;
        }
        let Some(star) = text.iter().position(|byte| *byte == b'*') else { return Self::Nothing };
        let (before, behind) = (&text[..star], &text[star + 1..]);
        let arrow = behind.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < behind.len());
        match arrow {
            Some(at) => Self::Key { before, behind: &behind[..at], field: Some(&behind[at + 2..]) },
            None => Self::Key { before, behind, field: None },
        }
    }

    fn look_up<'c>(&self, cx: &'c Context<'_>, element: Item<'c>) -> Option<Item<'c>> {
        let (before, behind, field) = match *self {
            Self::Element => return Some(element),
            Self::Nothing => return None,
            Self::Key { before, behind, field } => (before, behind, field),
        };
        let mut key = before.to_vec();
        element.write_to(&mut key);
        key.extend_from_slice(behind);
        let entry = cx.entry(&key)?;
        match (&entry.value, field) {
            (Value::Str(value), None) => Some(value.item()),
            (Value::Hash(_), Some(field)) => cx.fields_of(&key, entry)?.get(field),
            _ => None,
        }
    }
}

pub fn sort(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let options = Options::parse(&args[2..], true)?;
    let Some(destination) = options.destination else {
        write(cx, args[1], &options, reply)?;
        return Ok(Flow::Done);
    };
    let mut list = List::new();
    for element in sorted(cx, args[1], &options)? {
        if options.get.is_empty() {
            list.push_item(End::Back, element, cx.limits);
        }
        for pattern in &options.get {
            let value = pattern.look_up(cx, element).unwrap_or(Item::Bytes(b""));
            list.push_item(End::Back, value, cx.limits);
        }
    }
    reply.integer(list.len() as i64);
    store(cx, destination, list);
    Ok(Flow::Done)
}

pub fn sort_ro(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    write(cx, args[1], &Options::parse(&args[2..], false)?, reply)?;
    Ok(Flow::Done)
}

fn write(
    cx: &Context<'_>,
    key: &[u8],
    options: &Options<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), ErrorReply> {
    let elements = sorted(cx, key, options)?;
    reply.array(elements.len() * options.get.len().max(1));
    for element in elements {
        if options.get.is_empty() {
            reply.item(element);
        }
        for pattern in &options.get {
            match pattern.look_up(cx, element) {
                Some(value) => reply.item(value),
                None => reply.null(),
            }
        }
    }
    Ok(())
}

/// Puts the list under a key, or removes the key where the list is empty.
fn store(cx: &mut Context<'_>, destination: &[u8], list: List) {
    if list.is_empty() {
        if cx.delete(destination) {
            cx.effect(&[b"DEL", destination]);
        }
        return;
    }
    if cx.exists(destination) {
        cx.effect(&[b"DEL", destination]);
    }
    let mut request = vec![b"RPUSH".to_vec(), destination.to_vec()];
    request.extend(list.iter().map(|element| element.to_vec()));
    cx.effect(&request);
    cx.put(destination, list, None);
    cx.modified(EventClass::LIST, "sortstore", destination);
}

/// The elements that are wanted, in their order.
fn sorted<'c>(cx: &'c Context<'_>, key: &[u8], options: &Options<'_>) -> Result<Vec<Item<'c>>, ErrorReply> {
    let (elements, is_set) = match cx.entry(key).map(|entry| &entry.value) {
        None => return Ok(Vec::new()),
        Some(Value::List(list)) if options.unsorted => return Ok(list_part(list, options)),
        Some(Value::SortedSet(set)) if options.unsorted => return Ok(sorted_set_part(set, options)),
        Some(Value::List(list)) => (list.iter().collect(), false),
        Some(Value::SortedSet(set)) => (set.iter().map(|(member, _)| Item::Bytes(member)).collect(), false),
        Some(Value::Set(set)) => (set.iter().collect::<Vec<_>>(), true),
        Some(_) => return Err(ErrorReply::WRONG_TYPE),
    };
    // Where a set's own order would be seen by scripts or kept, it is put in one that is always the same.
    let is_seen = options.destination.is_some() || cx.origin == Origin::Unit;
    let (mut by, mut alpha) = (options.by.map(Pattern::parse), options.alpha);
    if options.unsorted {
        if !(is_set && is_seen) {
            return Ok(elements[options.range(elements.len())].to_vec());
        }
        (by, alpha) = (None, true);
    }
    let mut elements = match (alpha, by) {
        (true, None) => by_bytes(elements, options.descending),
        (true, Some(by)) => by_text(cx, elements, &by, options.descending),
        (false, by) => by_number(cx, elements, by.as_ref(), options.descending)?,
    };
    let range = options.range(elements.len());
    elements.truncate(range.end);
    elements.drain(..range.start);
    Ok(elements)
}

fn list_part<'c>(list: &'c List, options: &Options<'_>) -> Vec<Item<'c>> {
    let range = options.range(list.len());
    if !options.descending {
        return list.range(range.start, range.len()).collect();
    }
    let mut elements: Vec<_> = list.range(list.len() - range.end, range.len()).collect();
    elements.reverse();
    elements
}

fn sorted_set_part<'c>(set: &'c SortedSet, options: &Options<'_>) -> Vec<Item<'c>> {
    let range = options.range(set.len());
    let item = |(member, _): (&'c [u8], f64)| Item::Bytes(member);
    match options.descending {
        false => set.range(range).map(item).collect(),
        true => set.range(set.len() - range.end..set.len() - range.start).rev().map(item).collect(),
    }
}

fn by_bytes(mut elements: Vec<Item<'_>>, descending: bool) -> Vec<Item<'_>> {
    elements.sort_by(|a, b| directed(compare(*a, *b), descending));
    elements
}

/// Elements for which there is no text come first.
fn by_text<'c>(
    cx: &'c Context<'_>,
    elements: Vec<Item<'c>>,
    by: &Pattern<'_>,
    descending: bool,
) -> Vec<Item<'c>> {
    let mut keyed: Vec<_> = elements.into_iter().map(|element| (by.look_up(cx, element), element)).collect();
    keyed.sort_by(|(a, _), (b, _)| {
        let order = match (a, b) {
            (Some(a), Some(b)) => compare(*a, *b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        directed(order, descending)
    });
    keyed.into_iter().map(|(_, element)| element).collect()
}

/// Elements for which there is no number count as 0; equal numbers are told apart by the elements' bytes.
fn by_number<'c>(
    cx: &'c Context<'_>,
    elements: Vec<Item<'c>>,
    by: Option<&Pattern<'_>>,
    descending: bool,
) -> Result<Vec<Item<'c>>, ErrorReply> {
    let weight = |element: Item<'c>| {
        let found = by.map_or(Some(element), |by| by.look_up(cx, element));
        let weight = found.map_or(Some(0.0), number);
        weight.ok_or(ErrorReply::new("ERR One or more scores can't be converted into double"))
    };
    let keyed = elements.into_iter().map(|element| Ok((weight(element)?, element)));
    let mut keyed = keyed.collect::<Result<Vec<_>, ErrorReply>>()?;
    keyed.sort_by(|(a, a_element), (b, b_element)| {
        let order = a.partial_cmp(b).expect("no weight is NaN");
        directed(order.then_with(|| compare(*a_element, *b_element)), descending)
    });
    Ok(keyed.into_iter().map(|(_, element)| element).collect())
}

/// The number of an element as `strtod` reads it: the empty text is 0, blanks may lead.
fn number(item: Item<'_>) -> Option<f64> {
    match item {
        Item::Int(n) => Some(n as f64),
        Item::Bytes(b"") => Some(0.0),
        Item::Bytes(bytes) => parse_double(bytes.trim_ascii_start()),
    }
}

fn compare(a: Item<'_>, b: Item<'_>) -> Ordering {
    match (a, b) {
        (Item::Bytes(a), Item::Bytes(b)) => a.cmp(b),
        _ => a.with_bytes(|a| b.with_bytes(|b| a.cmp(b))),
    }
}

fn directed(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Store;

    fn list(items: &[&str]) -> String {
        let items: String = items.iter().map(|item| format!("\n${}\n{item}", item.len())).collect();
        format!("*{}{items}", items.matches("\n$").count())
    }

    #[test]
    fn numbers_texts_and_limits() {
        let mut store = Store::new();
        store.run("RPUSH l 3 10 -1.5 2");
        store.run("SADD s b a c");
        store.run("ZADD z 1 x 2 y 3 w");
        for (line, expected) in [
            ("SORT l", &["-1.5", "2", "3", "10"][..]),
            ("SORT l DESC LIMIT 1 2", &["3", "2"]),
            ("SORT l ALPHA", &["-1.5", "10", "2", "3"]),
            ("SORT l LIMIT -5 2", &["-1.5", "2"]),
            ("SORT l LIMIT 9 2", &[]),
            ("SORT l LIMIT 1 -1", &["2", "3", "10"]),
            ("SORT_RO s ALPHA DESC", &["c", "b", "a"]),
            ("SORT z ALPHA", &["w", "x", "y"]),
            ("SORT z BY nosort", &["x", "y", "w"]),
            ("SORT z BY nosort DESC LIMIT 1 1", &["y"]),
            ("SORT l BY nosort", &["3", "10", "-1.5", "2"]),
            ("SORT l BY nosort DESC LIMIT 0 2", &["2", "-1.5"]),
            ("SORT none", &[]),
        ] {
            store.check(&[(line, &list(expected))]);
        }
    }

    #[test]
    fn patterns_reach_other_keys() {
        let mut store = Store::new();
        for line in [
            "RPUSH l 1 2 3",
            "MSET w_1 30 w_3 10 name_1 one name_2 two",
            "HSET h_1 w 3 n first",
            "HSET h_2 w 2 n second",
            "SET h_3 text",
        ] {
            store.run(line);
        }
        store.check(&[
            ("SORT l BY w_*", &list(&["2", "3", "1"])),
            ("SORT l BY h_*->w DESC", &list(&["1", "2", "3"])),
            ("SORT l BY name_* ALPHA", &list(&["3", "1", "2"])),
            (
                "SORT l GET # GET name_* GET nothing",
                "*9\n$1\n1\n$3\none\n$-1\n$1\n2\n$3\ntwo\n$-1\n$1\n3\n$-1\n$-1",
            ),
            ("SORT l GET h_*->n GET h_*->", "*6\n$5\nfirst\n$-1\n$6\nsecond\n$-1\n$-1\n$-1"),
            ("SORT l GET l*", "*3\n$-1\n$-1\n$-1"),
            ("SORT l BY name_*", "-ERR One or more scores can't be converted into double"),
        ]);
    }

    #[test]
    fn a_stored_result_is_journaled_as_the_list_that_it_is() {
        let mut store = Store::new();
        store.run("SADD s 2 1 3");
        store.check(&[("SORT s STORE d", ":3")]);
        assert_eq!(store.effects, ["RPUSH d 1 2 3"]);
        assert_eq!(store.events, ["new d", "sortstore d"]);
        store.check(&[("SORT s BY nosort GET x_* STORE d", ":3"), ("LRANGE d 0 -1", "*3\n$0\n\n$0\n\n$0")]);
        store.check(&[("SORT s DESC STORE d", ":3")]);
        assert_eq!(store.effects, ["DEL d", "RPUSH d 3 2 1"]);
        store.check(&[("SORT none STORE d", ":0")]);
        assert_eq!((&store.effects[..], &store.events[..]), (&["DEL d".into()][..], &["del d".into()][..]));
        store.check(&[("SORT none STORE d", ":0")]);
        assert!(store.effects.is_empty());
    }

    #[test]
    fn scripts_see_a_sets_elements_in_one_order() {
        let mut store = Store::new();
        store.run("SADD s b 10 a c 9");
        store.origin = crate::Origin::Unit;
        store.check(&[("SORT s BY nosort", &list(&["10", "9", "a", "b", "c"]))]);
    }

    #[test]
    fn faults() {
        let mut store = Store::new();
        store.run("RPUSH l a b");
        store.run("SET s v");
        store.check(&[
            ("SORT l", "-ERR One or more scores can't be converted into double"),
            ("SORT l LIMIT 1", "-ERR syntax error"),
            ("SORT l LIMIT x 1", "-ERR value is not an integer or out of range"),
            ("SORT l BY", "-ERR syntax error"),
            ("SORT_RO l ALPHA STORE d", "-ERR syntax error"),
            ("SORT s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SORT s WHAT", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn keys_that_are_named_and_keys_that_are_not() {
        let check = |line: &str, keys: &[usize], beyond: bool| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let mut found = Vec::new();
            SORT.keys.each(&args, &mut |at, _| found.push(at));
            assert_eq!((&found[..], SORT.needs_all_shards(&args)), (keys, beyond), "{line}");
        };
        check("SORT k", &[1], false);
        check("SORT k BY nosort GET # STORE d", &[1, 7], false);
        check("SORT k STORE a STORE b", &[1, 5], false);
        check("SORT k BY STORE GET store STORE d", &[1, 7], false);
        check("SORT k BY w_*", &[1], true);
        check("SORT k LIMIT 1 2 get x*->y", &[1], true);
        check("SORT k BY", &[1], false);
        check("SORT k STORE", &[1], false);
    }
}
