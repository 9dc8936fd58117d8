//! Sequences of commands over streams and their groups against a plain model, with small nodes. A second store is
//! fed what the first one journals, and holds the same in the end; now and then a stream is dumped and restored.
//!
//! Each command takes a few bytes of the input: which one, which stream, and where about in what it holds.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use thali_data::Limits;
use thali_fuzz::store::Store;

type Id = (u64, u64);

#[derive(Clone, Debug, Default)]
struct Stream {
    /// In order, with names and values in turn.
    entries: Vec<(Id, Vec<Vec<u8>>)>,
    last: Id,
    max_deleted: Id,
    groups: BTreeMap<Vec<u8>, Group>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    delivered: Id,
    /// Entries that wait for XACK, each with its consumer.
    pending: BTreeMap<Id, Vec<u8>>,
}

#[derive(Default)]
struct Model {
    streams: BTreeMap<Vec<u8>, Stream>,
    now_ms: u64,
}

/// What a trim keeps.
#[derive(Clone, Copy, Debug)]
enum Keep {
    Newest(usize),
    From(Id),
}

fn integer(number: impl std::fmt::Display) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

fn bulk(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

fn text(id: Id) -> Vec<u8> {
    format!("{}-{}", id.0, id.1).into_bytes()
}

fn entry((id, fields): &(Id, Vec<Vec<u8>>)) -> Vec<u8> {
    array([bulk(text(*id)), array(fields.iter().map(bulk))])
}

/// Words of a request.
macro_rules! words {
    ($($word:expr),*) => { Vec::from([$(AsRef::<[u8]>::as_ref(&$word).to_vec()),*]) };
}

/// The store and its model.
struct Run<'a> {
    store: &'a Store,
    model: &'a mut Model,
    is_traced: bool,
}

impl Run<'_> {
    fn ask(&self, request: &[Vec<u8>]) -> Vec<u8> {
        let reply = self.store.run(request);
        if self.is_traced {
            eprintln!("{} -> {}", show(request), reply.escape_ascii());
        }
        reply
    }

    /// Runs a request; of an error only its code must be the expected one.
    fn expect(&self, request: &[Vec<u8>], expected: &[u8]) {
        let reply = self.ask(request);
        let is_right =
            if expected.starts_with(b"-") { reply.starts_with(expected) } else { reply == expected };
        assert!(is_right, "{}: {} is not {}", show(request), reply.escape_ascii(), expected.escape_ascii());
    }

    fn step(&mut self, [name, key, one, two]: [u8; 4]) {
        let key = vec![b's', b'0' + key % 2];
        match name % 20 {
            0..6 => self.add(&key, name % 6, one, two),
            6 | 7 => self.delete(&key, one, two),
            8 => self.trim_alone(&key, one, two),
            9 => self.range(&key, one, two, false),
            10 => self.range(&key, one, two, true),
            11 => self.set_id(&key, one),
            12 => self.group(&key, one, two),
            13 | 14 => self.read(&key, one, two),
            15 | 16 => self.acknowledge(&key, one, two),
            17 => self.restore(&key),
            18 => {
                let was_there = one < 16 && self.model.streams.remove(&key).is_some();
                if one < 16 {
                    self.expect(&words!["DEL", key], &integer(u8::from(was_there)));
                }
            }
            _ => {
                self.model.now_ms += u64::from(one);
                self.store.now_ms.set(self.model.now_ms);
            }
        }
    }

    /// An ID near those of the stream: of an entry, or one below or above.
    fn near(&self, key: &[u8], one: u8, two: u8) -> Id {
        let stream = self.model.streams.get(key);
        let ids: Vec<Id> = stream.map_or(Vec::new(), |s| s.entries.iter().map(|(id, _)| *id).collect());
        let id = ids.get(usize::from(one) % ids.len().max(1)).copied();
        let (ms, seq) = id.unwrap_or((u64::from(one), u64::from(two) / 3));
        match two % 4 {
            0 => (ms, seq.saturating_sub(1)),
            1 => (ms, seq + 1),
            _ => (ms, seq),
        }
    }

    fn add(&mut self, key: &[u8], kind: u8, one: u8, two: u8) {
        let now_ms = self.model.now_ms;
        let last = self.model.streams.get(key).map_or((0, 0), |stream| stream.last);
        let (id, word) = match kind {
            0 => (if now_ms > last.0 { (now_ms, 0) } else { (last.0, last.1 + 1) }, b"*".to_vec()),
            1 => {
                let ms = last.0 + u64::from(one % 3);
                let id = if ms == last.0 { (ms, last.1 + 1) } else { (ms, 0) };
                (id, format!("{ms}-*").into_bytes())
            }
            2 => {
                let id = (u64::from(one), u64::from(two));
                (id, text(id))
            }
            _ => {
                let id = (last.0, last.1 + 1 + u64::from(one % 4));
                (id, text(id))
            }
        };
        let mut fields = vec![b"f".to_vec(), vec![b'v'; usize::from(two)]];
        if one.is_multiple_of(5) {
            fields.extend([vec![b'g', one], two.to_string().into_bytes()]);
        }
        let keep = (kind == 5).then(|| self.keep(key, two, one));
        let mut request = words!["XADD", key];
        request.extend(keep.iter().flat_map(|keep| keep_words(*keep, two & 1 == 0, two)));
        request.push(word);
        request.extend(fields.iter().cloned());
        if id <= last {
            return self.expect(&request, b"-ERR The ID specified in XADD");
        }
        self.expect(&request, &bulk(text(id)));
        let stream = self.model.streams.entry(key.to_vec()).or_default();
        stream.entries.push((id, fields));
        stream.last = id;
        if let Some(keep) = keep {
            let before = stream.entries.len();
            let after = number(&self.ask(&words!["XLEN", key]));
            let limit = (two & 1 == 0 && two & 2 != 0).then_some(two / 4);
            self.trim(key, keep, two & 1 == 0, limit, before - after);
        }
        let len = self.model.streams[key].entries.len();
        self.expect(&words!["XLEN", key], &integer(len));
    }

    fn keep(&self, key: &[u8], one: u8, two: u8) -> Keep {
        if one & 4 == 0 { Keep::Newest(usize::from(two) % 24) } else { Keep::From(self.near(key, two, one)) }
    }

    fn trim_alone(&mut self, key: &[u8], one: u8, two: u8) {
        let keep = self.keep(key, two, one);
        let is_approximate = two & 1 == 0;
        let mut request = words!["XTRIM", key];
        request.extend(keep_words(keep, is_approximate, two));
        let removed = number(&self.ask(&request));
        if self.model.streams.contains_key(key) {
            let limit = (is_approximate && two & 2 != 0).then_some(two / 4);
            self.trim(key, keep, is_approximate, limit, removed);
        } else {
            assert_eq!(removed, 0);
        }
    }

    /// The store has removed so many: all that it should, or where it may leave some, none that it should not.
    fn trim(&mut self, key: &[u8], keep: Keep, is_approximate: bool, limit: Option<u8>, removed: usize) {
        let stream = self.model.streams.get_mut(key).expect("it is there");
        let exact = match keep {
            Keep::Newest(len) => stream.entries.len().saturating_sub(len),
            Keep::From(min) => stream.entries.iter().filter(|(id, _)| *id < min).count(),
        };
        assert!(removed <= exact && (is_approximate || removed == exact), "{removed} of {exact} at {keep:?}");
        let limit = limit.filter(|limit| *limit > 0).map_or(usize::MAX, usize::from);
        assert!(removed <= limit, "{removed} of {limit}");
        stream.entries.drain(..removed);
    }

    fn delete(&mut self, key: &[u8], one: u8, two: u8) {
        let id = self.near(key, one, two);
        let mut removed = 0;
        if let Some(stream) = self.model.streams.get_mut(key) {
            let before = stream.entries.len();
            stream.entries.retain(|(other, _)| *other != id);
            removed = before - stream.entries.len();
            if removed > 0 {
                stream.max_deleted = stream.max_deleted.max(id);
            }
        }
        self.expect(&words!["XDEL", key, text(id)], &integer(removed));
    }

    fn range(&mut self, key: &[u8], one: u8, two: u8, is_reversed: bool) {
        let mut bounds = [self.near(key, one, two), self.near(key, one.wrapping_add(two), two / 4)];
        bounds.sort();
        let [start, end] = bounds;
        let is_open = two & 16 != 0;
        let count = if two & 32 != 0 { usize::from(one % 8) + 1 } else { usize::MAX };
        let entries = self.model.streams.get(key).map(|stream| stream.entries.clone()).unwrap_or_default();
        let mut found: Vec<_> = entries
            .into_iter()
            .filter(|(id, _)| if is_open { *id > start && *id < end } else { *id >= start && *id <= end })
            .collect();
        if is_reversed {
            found.reverse();
        }
        let bound = |id: Id| [if is_open { &b"("[..] } else { b"" }, &text(id)].concat();
        // Nothing is below 0-0.
        if is_open && end == (0, 0) {
            return;
        }
        let mut request = match is_reversed {
            false => words!["XRANGE", key, bound(start), bound(end)],
            true => words!["XREVRANGE", key, bound(end), bound(start)],
        };
        if count < usize::MAX {
            request.extend(words!["COUNT", count.to_string()]);
        }
        self.expect(&request, &array(found.iter().take(count).map(entry)));
    }

    fn set_id(&mut self, key: &[u8], one: u8) {
        let Some(stream) = self.model.streams.get_mut(key) else { return };
        let id = (stream.last.0, (stream.last.1 + u64::from(one % 8)).saturating_sub(3));
        let top = stream.entries.last().map_or((0, 0), |(id, _)| *id);
        let is_taken = id >= stream.max_deleted && id >= top;
        if is_taken {
            stream.last = id;
        }
        self.expect(&words!["XSETID", key, text(id)], if is_taken { b"+OK\r\n" } else { b"-ERR " });
    }

    fn group(&mut self, key: &[u8], one: u8, two: u8) {
        let (name, from) = (vec![b'g', b'0' + one % 2], self.near(key, one / 2, two));
        let Some(stream) = self.model.streams.get_mut(key) else {
            return self.expect(&words!["XGROUP", "CREATE", key, name, "0"], b"-ERR The XGROUP subcommand");
        };
        if two % 8 == 7 {
            let was_there = stream.groups.remove(&name).is_some();
            return self.expect(&words!["XGROUP", "DESTROY", key, name], &integer(u8::from(was_there)));
        }
        let expected: &[u8] = if stream.groups.contains_key(&name) { b"-BUSYGROUP " } else { b"+OK\r\n" };
        stream.groups.entry(name.clone()).or_insert(Group { delivered: from, ..Group::default() });
        self.expect(&words!["XGROUP", "CREATE", key, name, text(from)], expected);
    }

    fn read(&mut self, key: &[u8], one: u8, two: u8) {
        let (name, consumer) = (vec![b'g', b'0' + one % 2], vec![b'c', b'0' + two % 3]);
        let count = usize::from(two / 3 % 6) + 1;
        let count_word = count.to_string();
        let request = words!["XREADGROUP", "GROUP", name, consumer, "COUNT", count_word, "STREAMS", key, ">"];
        let Some(stream) = self.model.streams.get_mut(key) else {
            return self.expect(&request, b"-NOGROUP ");
        };
        let Some(group) = stream.groups.get_mut(&name) else { return self.expect(&request, b"-NOGROUP ") };
        let new = stream.entries.iter().filter(|(id, _)| *id > group.delivered).take(count).cloned();
        let new: Vec<_> = new.collect();
        group.delivered = new.last().map_or(group.delivered, |(id, _)| *id);
        group.pending.extend(new.iter().map(|(id, _)| (*id, consumer.clone())));
        let expected = match new.is_empty() {
            true => b"*-1\r\n".to_vec(),
            false => array([array([bulk(key), array(new.iter().map(entry))])]),
        };
        self.expect(&request, &expected);
        self.pending(key, &name);
    }

    fn acknowledge(&mut self, key: &[u8], one: u8, two: u8) {
        let name = vec![b'g', b'0' + one % 2];
        let group = self.model.streams.get_mut(key).and_then(|stream| stream.groups.get_mut(&name));
        let ids: Vec<Id> = group.iter().flat_map(|group| group.pending.keys().copied()).collect();
        let id = ids.get(usize::from(two) % (ids.len() + 1)).copied().unwrap_or((1, u64::from(two)));
        let removed = group.is_some_and(|group| group.pending.remove(&id).is_some());
        self.expect(&words!["XACK", key, name, text(id)], &integer(u8::from(removed)));
        self.pending(key, &name);
    }

    /// XPENDING's summary.
    fn pending(&self, key: &[u8], name: &[u8]) {
        let request = words!["XPENDING", key, name];
        let Some(group) = self.model.streams.get(key).and_then(|stream| stream.groups.get(name)) else {
            return self.expect(&request, b"-NOGROUP ");
        };
        let (Some((first, _)), Some((last, _))) =
            (group.pending.first_key_value(), group.pending.last_key_value())
        else {
            return self.expect(&request, b"*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n");
        };
        let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
        group.pending.values().for_each(|consumer| *counts.entry(consumer).or_default() += 1);
        let counts = counts.iter().map(|(name, count)| array([bulk(name), bulk(count.to_string())]));
        let len = integer(group.pending.len());
        self.expect(&request, &array([len, bulk(text(*first)), bulk(text(*last)), array(counts)]));
    }

    fn restore(&self, key: &[u8]) {
        if !self.model.streams.contains_key(key) {
            return self.expect(&words!["DUMP", key], b"$-1\r\n");
        }
        let dump = self.ask(&words!["DUMP", key]);
        let start = dump.windows(2).position(|window| window == b"\r\n").expect("a string") + 2;
        let payload = &dump[start..dump.len() - 2];
        self.expect(&words!["RESTORE", key, "0", payload, "REPLACE"], b"+OK\r\n");
    }

    /// Asks for all that is there.
    fn check_all(&self) {
        for key in [b"s0", b"s1"] {
            let empty = Stream::default();
            let stream = self.model.streams.get(&key[..]).unwrap_or(&empty);
            self.expect(&words!["XLEN", key], &integer(stream.entries.len()));
            self.expect(&words!["XRANGE", key, "-", "+"], &array(stream.entries.iter().map(entry)));
            let backwards = array(stream.entries.iter().rev().map(entry));
            self.expect(&words!["XREVRANGE", key, "+", "-"], &backwards);
            [b"g0", b"g1"].iter().for_each(|name| self.pending(key, *name));
            if stream.last > (0, 0) {
                self.expect(
                    &words!["XADD", key, text(stream.last), "f", "v"],
                    b"-ERR The ID specified in XADD",
                );
            }
        }
    }
}

fn keep_words(keep: Keep, is_approximate: bool, choice: u8) -> Vec<Vec<u8>> {
    let mut words = match keep {
        Keep::Newest(len) => words!["MAXLEN", "=", len.to_string()],
        Keep::From(id) => words!["MINID", "=", text(id)],
    };
    if is_approximate {
        words[1] = b"~".to_vec();
        if choice & 2 != 0 {
            words.extend(words!["LIMIT", (choice / 4).to_string()]);
        }
    }
    words
}

fn number(reply: &[u8]) -> usize {
    let text = std::str::from_utf8(reply).ok().and_then(|text| text.strip_prefix(':'));
    text.and_then(|text| text.trim_end().parse().ok()).unwrap_or_else(|| panic!("{}", reply.escape_ascii()))
}

fn show(request: &[Vec<u8>]) -> String {
    request.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

fuzz_target!(|input: &[u8]| {
    let limits = Limits { stream_node_max_entries: 4, ..Limits::default() };
    let (store, copy) = (Store::new(limits.clone()), Store::new(limits));
    let mut model = Model { now_ms: store.now_ms.get(), ..Model::default() };
    // Shows what the input stands for.
    let is_traced = std::env::var_os("THALI_FUZZ_TRACE").is_some();
    for bytes in input.as_chunks().0 {
        Run { store: &store, model: &mut model, is_traced }.step(*bytes);
        copy.follow(&store);
        copy.now_ms.set(model.now_ms);
    }
    Run { store: &copy, model: &mut model, is_traced }.check_all();
});
