//! Sequences of commands against a plain model: strings, lists, sets, hashes with fields that expire and sorted sets
//! under a few keys, in small packed forms and in large ones. A second store is fed what the first one journals, and
//! holds the same in the end.
//!
//! Each command takes a few bytes of the input: which one, which keys, members and numbers.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libfuzzer_sys::fuzz_target;
use thali_data::Limits;
use thali_fuzz::store::Store;

#[derive(Clone, Debug)]
enum Value {
    Str(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Field>),
    Sorted(BTreeMap<Vec<u8>, i32>),
}

/// A field that expired is not there, and counts for its key until something has removed it.
#[derive(Clone, Debug)]
struct Field {
    value: Vec<u8>,
    expires_at_ms: Option<u64>,
}

impl Field {
    fn new(value: &[u8], expires_at_ms: Option<u64>) -> Self {
        Self { value: value.to_vec(), expires_at_ms }
    }

    fn lives(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at| at >= now_ms)
    }
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Value>,
    now_ms: u64,
}

/// What a reply must be.
#[derive(Debug, PartialEq)]
enum Answer {
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    /// One number, in an array.
    Numbers(i64),
    /// One string, in an array.
    Bulks(Option<Vec<u8>>),
    /// In any order.
    Many(BTreeSet<Vec<u8>>),
    List(Vec<Vec<u8>>),
    Ok,
    WrongType,
}

/// Reads a reply in RESP2 into the answer that is asked for.
fn is_answer(reply: &[u8], expected: &Answer) -> bool {
    let text = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let array = |items: &mut dyn ExactSizeIterator<Item = &Vec<u8>>| {
        let head = format!("*{}\r\n", items.len()).into_bytes();
        items.fold(head, |out, item| [out, text(item)].concat())
    };
    match expected {
        Answer::Ok => reply == b"+OK\r\n",
        Answer::WrongType => reply.starts_with(b"-WRONGTYPE "),
        Answer::Integer(n) => reply == format!(":{n}\r\n").as_bytes(),
        Answer::Numbers(n) => reply == format!("*1\r\n:{n}\r\n").as_bytes(),
        Answer::Bulks(bytes) => {
            reply.strip_prefix(b"*1\r\n").is_some_and(|item| is_answer(item, &Answer::Bulk(bytes.clone())))
        }
        Answer::Bulk(None) => reply == b"$-1\r\n",
        Answer::Bulk(Some(bytes)) => reply == text(bytes),
        Answer::List(items) => reply == array(&mut items.iter()),
        // Members are letters and digits, none of which is part of another one's frame.
        Answer::Many(items) => {
            reply.len() == array(&mut items.iter()).len()
                && items.iter().all(|item| {
                    let frame = text(item);
                    reply.windows(frame.len()).any(|window| window == frame)
                })
        }
    }
}

/// The value of a key, which begins as an empty one; where it is of another type the command is refused.
macro_rules! typed {
    ($model:expr, $key:expr, $kind:ident) => {
        match $model.keys.entry($key.to_vec()).or_insert_with(|| Value::$kind(Default::default())) {
            Value::$kind(value) => value,
            _ => return Answer::WrongType,
        }
    };
}

impl Model {
    /// Does a command.
    fn apply(&mut self, args: &[Vec<u8>]) -> Answer {
        let (name, key) = (&*args[0], &args[1]);
        let answer = match name {
            b"SET" => {
                self.keys.insert(key.clone(), Value::Str(args[2].clone()));
                return Answer::Ok;
            }
            b"DEL" => return Answer::Integer(self.keys.remove(key).is_some().into()),
            b"GET" => match self.keys.get(key) {
                None => return Answer::Bulk(None),
                Some(Value::Str(value)) => return Answer::Bulk(Some(value.clone())),
                Some(_) => return Answer::WrongType,
            },
            b"APPEND" => {
                let value = typed!(self, key, Str);
                value.extend_from_slice(&args[2]);
                return Answer::Integer(value.len() as i64);
            }
            b"RPUSH" | b"LPUSH" | b"LPOP" | b"RPOP" | b"LRANGE" => self.list(args),
            b"SADD" => Answer::Integer(typed!(self, key, Set).insert(args[2].clone()).into()),
            b"SREM" => Answer::Integer(typed!(self, key, Set).remove(&args[2]).into()),
            b"SMEMBERS" => Answer::Many(typed!(self, key, Set).clone()),
            b"ZADD" | b"ZREM" | b"ZRANGE" => self.sorted_set(args),
            _ => self.hash(args),
        };
        // What is empty is not there.
        let is_empty = match self.keys.get(key) {
            Some(Value::List(list)) => list.is_empty(),
            Some(Value::Set(set)) => set.is_empty(),
            Some(Value::Hash(hash)) => hash.is_empty(),
            Some(Value::Sorted(sorted)) => sorted.is_empty(),
            _ => false,
        };
        if is_empty {
            self.keys.remove(key);
        }
        answer
    }

    /// Removes what has expired in a hash.
    fn expire(&mut self, key: &[u8]) {
        let Some(Value::Hash(hash)) = self.keys.get_mut(key) else { return };
        hash.retain(|_, field| field.lives(self.now_ms));
        if hash.is_empty() {
            self.keys.remove(key);
        }
    }

    fn list(&mut self, args: &[Vec<u8>]) -> Answer {
        let list = typed!(self, args[1], List);
        match &*args[0] {
            b"LPOP" => return Answer::Bulk(list.pop_front()),
            b"RPOP" => return Answer::Bulk(list.pop_back()),
            b"LRANGE" => return Answer::List(list.iter().cloned().collect()),
            b"RPUSH" => list.push_back(args[2].clone()),
            _ => list.push_front(args[2].clone()),
        }
        Answer::Integer(list.len() as i64)
    }

    fn sorted_set(&mut self, args: &[Vec<u8>]) -> Answer {
        let sorted = typed!(self, args[1], Sorted);
        match &*args[0] {
            b"ZADD" => Answer::Integer(sorted.insert(args[3].clone(), number(&args[2])).is_none().into()),
            b"ZREM" => Answer::Integer(sorted.remove(&args[2]).is_some().into()),
            _ => {
                let mut order: Vec<_> = sorted.iter().map(|(member, score)| (*score, member)).collect();
                order.sort();
                Answer::List(order.into_iter().map(|(_, member)| member.clone()).collect())
            }
        }
    }

    fn hash(&mut self, args: &[Vec<u8>]) -> Answer {
        let now_ms = self.now_ms;
        let hash = typed!(self, args[1], Hash);
        // The field stands last, but where a value follows.
        let has_value = matches!(&*args[0], b"HSET" | b"HSETEX");
        let field = &args[args.len() - 1 - usize::from(has_value)];
        let value = args.last().expect("there are some");
        match &*args[0] {
            // As in Redis, it counts what has expired.
            b"HDEL" => return Answer::Integer(hash.remove(field).is_some().into()),
            // What looks at the whole hash or at times leaves what has expired.
            b"HLEN" => return Answer::Integer(hash.len() as i64),
            b"HKEYS" => {
                let living = hash.iter().filter(|(_, field)| field.lives(now_ms));
                return Answer::Many(living.map(|(name, _)| name.clone()).collect());
            }
            b"HPTTL" | b"HTTL" => {
                let unit = if args[0] == b"HPTTL" { 1 } else { 1000 };
                return Answer::Numbers(match hash.get(field).filter(|field| field.lives(now_ms)) {
                    None => -2,
                    Some(Field { expires_at_ms: None, .. }) => -1,
                    Some(Field { expires_at_ms: Some(at), .. }) => (at - now_ms).div_ceil(unit) as i64,
                });
            }
            _ => {}
        }
        if hash.get(field).is_some_and(|field| !field.lives(now_ms)) {
            hash.remove(field);
        }
        match &*args[0] {
            b"HSET" => Answer::Integer(hash.insert(field.clone(), Field::new(value, None)).is_none().into()),
            b"HGET" => Answer::Bulk(hash.get(field).map(|field| field.value.clone())),
            b"HGETDEL" => Answer::Bulks(hash.remove(field).map(|field| field.value)),
            b"HPERSIST" => Answer::Numbers(match hash.get_mut(field) {
                None => -2,
                Some(field) => {
                    if field.expires_at_ms.take().is_some() {
                        1
                    } else {
                        -1
                    }
                }
            }),
            b"HPEXPIRE" | b"HEXPIRE" => {
                let unit = if args[0] == b"HPEXPIRE" { 1 } else { 1000 };
                Answer::Numbers(expire(
                    hash,
                    field,
                    now_ms,
                    now_ms + unit * number(&args[2]) as u64,
                    &args[3],
                ))
            }
            b"HSETEX" => {
                let options = &args[2..args.len() - 4];
                let option = |word: &[u8]| options.iter().position(|option| option == word);
                let is_there = hash.contains_key(field);
                if (option(b"FNX").is_some() && is_there) || (option(b"FXX").is_some() && !is_there) {
                    return Answer::Integer(0);
                }
                let old = hash.remove(field).and_then(|field| field.expires_at_ms);
                let relative = option(b"PX").map(|at| now_ms + number(&options[at + 1]) as u64);
                let time = if option(b"KEEPTTL").is_some() { old } else { relative };
                if relative != Some(now_ms) {
                    hash.insert(field.clone(), Field::new(value, time));
                }
                Answer::Integer(1)
            }
            other => unreachable!("{}", other.escape_ascii()),
        }
    }
}

/// HPEXPIRE of one field at a moment, under a condition if the word is one.
fn expire(hash: &mut BTreeMap<Vec<u8>, Field>, name: &[u8], now_ms: u64, at_ms: u64, word: &[u8]) -> i64 {
    let Some(field) = hash.get_mut(name) else { return -2 };
    // Without a time it stays for ever.
    let old = field.expires_at_ms.unwrap_or(u64::MAX);
    let is_met = match word {
        b"NX" => field.expires_at_ms.is_none(),
        b"XX" => field.expires_at_ms.is_some(),
        b"GT" => at_ms > old,
        b"LT" => at_ms < old,
        _ => true,
    };
    if !is_met {
        return 0;
    }
    if at_ms == now_ms {
        hash.remove(name);
        return 2;
    }
    field.expires_at_ms = Some(at_ms);
    1
}

fn number(text: &[u8]) -> i32 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

/// CLOCK moves the clock by some milliseconds, CYCLE removes what has expired in a hash, as a loop does by itself.
const NAMES: [&str; 31] = [
    "SET", "DEL", "GET", "APPEND", "RPUSH", "LPUSH", "LPOP", "RPOP", "LRANGE", "SADD", "SREM", "SMEMBERS",
    "HSET", "HDEL", "HGET", "HKEYS", "ZADD", "ZREM", "ZRANGE", "HLEN", "HPTTL", "HTTL", "HPERSIST",
    "HGETDEL", "HPEXPIRE", "HEXPIRE", "HSETEX", "HSETEX", "HPEXPIRE", "CLOCK", "CYCLE",
];

fn command(bytes: &[u8; 4]) -> Vec<Vec<u8>> {
    let [name, key, one, two] = *bytes;
    let name = NAMES[usize::from(name) % NAMES.len()];
    // Numbers and words, some too long to be packed.
    let member = |byte: u8| match byte % 4 {
        0 => format!("{}", i64::from(byte) - 40).into_bytes(),
        3 if byte > 250 => vec![byte; 80],
        _ => format!("m{byte}").into_bytes(),
    };
    let text = |number: u8| number.to_string().into_bytes();
    let fields = || [b"FIELDS".to_vec(), b"1".to_vec(), member(one)];
    let mut args: Vec<Vec<u8>> = vec![name.into(), vec![b'k', b'0' + key % 4]];
    match name {
        "DEL" | "GET" | "LPOP" | "RPOP" | "SMEMBERS" | "HKEYS" | "HLEN" | "CYCLE" => {}
        "CLOCK" => args.push(text(one)),
        "LRANGE" | "ZRANGE" => args.extend([b"0".to_vec(), b"-1".to_vec()]),
        "HSET" => args.extend([member(one), member(two)]),
        "ZADD" => args.extend([(i32::from(two) - 128).to_string().into_bytes(), member(one)]),
        "HPTTL" | "HTTL" | "HPERSIST" | "HGETDEL" => args.extend(fields()),
        "HPEXPIRE" | "HEXPIRE" => {
            args.push(text(if name == "HEXPIRE" { two / 5 % 2 } else { two / 5 }));
            args.extend(
                [&b"NX"[..], b"XX", b"GT", b"LT"].get(usize::from(two % 5)).map(|word| word.to_vec()),
            );
            args.extend(fields());
        }
        "HSETEX" => {
            args.extend([&b"FNX"[..], b"FXX"].get(usize::from(two % 3)).map(|word| word.to_vec()));
            match two / 3 % 3 {
                0 => {}
                1 => args.push(b"KEEPTTL".to_vec()),
                _ => args.extend([b"PX".to_vec(), text(two / 9)]),
            }
            args.extend(fields());
            args.push(member(two));
        }
        _ => args.push(member(one)),
    }
    args
}

fn show(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// Runs a command on both.
fn check(store: &Store, model: &mut Model, args: &[Vec<u8>]) {
    let reply = store.run(args);
    let expected = model.apply(args);
    assert!(is_answer(&reply, &expected), "{}: {} is not {expected:?}", show(args), reply.escape_ascii());
}

/// Asks for all that is there.
fn check_all(store: &Store, model: &mut Model) {
    let request = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
    for key in [b"k0", b"k1", b"k2", b"k3"] {
        if let Some(Value::Hash(hash)) = model.keys.get(&key[..]).cloned() {
            check(store, model, &request(&[b"HLEN", key]));
            for field in hash.keys() {
                check(store, model, &request(&[b"HPTTL", key, b"FIELDS", b"1", field]));
                check(store, model, &request(&[b"HGET", key, field]));
            }
        }
        for name in [&b"GET"[..], b"SMEMBERS", b"HKEYS"] {
            check(store, model, &request(&[name, key]));
        }
        for name in [&b"LRANGE"[..], b"ZRANGE"] {
            check(store, model, &request(&[name, key, b"0", b"-1"]));
        }
    }
}

fuzz_target!(|input: &[u8]| {
    // Small limits, so that packed forms turn into large ones.
    let limits = Limits {
        hash_max_listpack_entries: 8,
        zset_max_listpack_entries: 8,
        set_max_intset_entries: 8,
        set_max_listpack_entries: 8,
        ..Limits::default()
    };
    let (store, copy) = (Store::new(limits.clone()), Store::new(limits));
    let mut model = Model { now_ms: store.now_ms.get(), ..Model::default() };
    let is_traced = std::env::var_os("THALI_FUZZ_TRACE").is_some();
    for bytes in input.as_chunks().0 {
        let args = command(bytes);
        if is_traced {
            eprintln!("{}", show(&args));
        }
        match &*args[0] {
            b"CLOCK" => {
                model.now_ms += number(&args[2]) as u64;
                [&store, &copy].iter().for_each(|store| store.now_ms.set(model.now_ms));
                continue;
            }
            b"CYCLE" => {
                store.context(|cx| cx.expire_any_fields(0, &args[1], usize::MAX));
                model.expire(&args[1]);
            }
            _ => check(&store, &mut model, &args),
        }
        copy.follow(&store);
    }
    check_all(&copy, &mut model);
});
