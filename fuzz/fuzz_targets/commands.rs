//! Sequences of commands against a plain model: strings, lists, sets, hashes and sorted sets under a few keys, with
//! small packed forms and large ones.
//!
//! Each command takes a few bytes of the input: which one, which keys, members and numbers.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libfuzzer_sys::fuzz_target;
use thali_commands::{Context, Effects, Random, TABLE};
use thali_data::Limits;
use thali_keyspace::{ENDLESS, Keyspace, Uses};
use thali_resp::{Protocol, Reply};

#[derive(Clone, Debug)]
enum Value {
    Str(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, i32>),
}

type Model = BTreeMap<Vec<u8>, Value>;

/// What a reply must be.
#[derive(Debug, PartialEq)]
enum Answer {
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    /// In any order.
    Many(BTreeSet<Vec<u8>>),
    List(Vec<Vec<u8>>),
    Ok,
    WrongType,
}

struct Store {
    keyspace: Keyspace,
    limits: Limits,
}

impl Store {
    fn run(&self, args: &[Vec<u8>]) -> Vec<u8> {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let name = String::from_utf8_lossy(args[0]).to_lowercase();
        let command = TABLE.iter().flat_map(|group| group.iter()).find(|command| command.spec.name == name);
        let run = command.expect("the target knows its commands").run;
        let (mut random, mut effects) = (Random::new(1), Effects::default());
        let locked = self.keyspace.lock_all(ENDLESS).expect("nobody else is there");
        let mut cx = Context::new(locked, 0, 0, Uses::new(0, None), &self.limits, &mut random, &mut effects);
        let mut out = Vec::new();
        let outcome = run(&mut cx, &args, &mut Reply::new(&mut out, Protocol::Resp2));
        if let Err(error) = outcome {
            out.clear();
            Reply::new(&mut out, Protocol::Resp2).error(error.text());
        }
        out
    }
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

macro_rules! typed {
    ($model:expr, $key:expr, $kind:ident, $new:expr) => {
        match $model.entry($key.clone()).or_insert_with(|| Value::$kind($new)) {
            Value::$kind(value) => value,
            _ => return Answer::WrongType,
        }
    };
}

/// Does a command to the model.
fn apply(model: &mut Model, args: &[Vec<u8>]) -> Answer {
    let key = args[1].clone();
    let answer = match &*args[0] {
        b"SET" => {
            model.insert(key, Value::Str(args[2].clone()));
            return Answer::Ok;
        }
        b"DEL" => return Answer::Integer(i64::from(model.remove(&key).is_some())),
        b"GET" => match model.get(&key) {
            None => Answer::Bulk(None),
            Some(Value::Str(value)) => Answer::Bulk(Some(value.clone())),
            Some(_) => Answer::WrongType,
        },
        b"APPEND" => {
            let value = typed!(model, key, Str, Vec::new());
            value.extend_from_slice(&args[2]);
            Answer::Integer(value.len() as i64)
        }
        b"RPUSH" | b"LPUSH" => {
            let list = typed!(model, key, List, VecDeque::new());
            match &*args[0] {
                b"RPUSH" => list.push_back(args[2].clone()),
                _ => list.push_front(args[2].clone()),
            }
            Answer::Integer(list.len() as i64)
        }
        b"LPOP" | b"RPOP" => {
            let list = typed!(model, key, List, VecDeque::new());
            Answer::Bulk(if args[0] == b"LPOP" { list.pop_front() } else { list.pop_back() })
        }
        b"LRANGE" => Answer::List(typed!(model, key, List, VecDeque::new()).iter().cloned().collect()),
        b"SADD" => Answer::Integer(typed!(model, key, Set, BTreeSet::new()).insert(args[2].clone()).into()),
        b"SREM" => Answer::Integer(typed!(model, key, Set, BTreeSet::new()).remove(&args[2]).into()),
        b"SMEMBERS" => Answer::Many(typed!(model, key, Set, BTreeSet::new()).clone()),
        b"HSET" => {
            let old = typed!(model, key, Hash, BTreeMap::new()).insert(args[2].clone(), args[3].clone());
            Answer::Integer(old.is_none().into())
        }
        b"HDEL" => {
            Answer::Integer(typed!(model, key, Hash, BTreeMap::new()).remove(&args[2]).is_some().into())
        }
        b"HGET" => Answer::Bulk(typed!(model, key, Hash, BTreeMap::new()).get(&args[2]).cloned()),
        b"HKEYS" => Answer::Many(typed!(model, key, Hash, BTreeMap::new()).keys().cloned().collect()),
        b"ZADD" => {
            let score = std::str::from_utf8(&args[2]).unwrap().parse().unwrap();
            let old = typed!(model, key, Sorted, BTreeMap::new()).insert(args[3].clone(), score);
            Answer::Integer(old.is_none().into())
        }
        b"ZREM" => {
            Answer::Integer(typed!(model, key, Sorted, BTreeMap::new()).remove(&args[2]).is_some().into())
        }
        b"ZRANGE" => {
            let sorted = typed!(model, key, Sorted, BTreeMap::new());
            let mut order: Vec<(i32, &Vec<u8>)> = sorted.iter().map(|(member, score)| (*score, member)).collect();
            order.sort();
            Answer::List(order.into_iter().map(|(_, member)| member.clone()).collect())
        }
        other => unreachable!("{}", other.escape_ascii()),
    };
    // What is empty is not there.
    let is_empty = match model.get(&args[1]) {
        Some(Value::List(list)) => list.is_empty(),
        Some(Value::Set(set)) => set.is_empty(),
        Some(Value::Hash(hash)) => hash.is_empty(),
        Some(Value::Sorted(sorted)) => sorted.is_empty(),
        _ => false,
    };
    if is_empty {
        model.remove(&args[1]);
    }
    answer
}

const NAMES: [&str; 19] = [
    "SET", "DEL", "GET", "APPEND", "RPUSH", "LPUSH", "LPOP", "RPOP", "LRANGE", "SADD", "SREM", "SMEMBERS",
    "HSET", "HDEL", "HGET", "HKEYS", "ZADD", "ZREM", "ZRANGE",
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
    let mut args: Vec<Vec<u8>> = vec![name.into(), vec![b'k', b'0' + key % 4]];
    match name {
        "DEL" | "GET" | "LPOP" | "RPOP" | "SMEMBERS" | "HKEYS" => {}
        "LRANGE" | "ZRANGE" => args.extend([b"0".to_vec(), b"-1".to_vec()]),
        "HSET" => args.extend([member(one), member(two)]),
        "ZADD" => args.extend([(i32::from(two) - 128).to_string().into_bytes(), member(one)]),
        _ => args.push(member(one)),
    }
    args
}

fuzz_target!(|input: &[u8]| {
    // Small limits, so that packed forms turn into large ones.
    let mut limits = Limits::default();
    limits.hash_max_listpack_entries = 8;
    limits.zset_max_listpack_entries = 8;
    limits.set_max_intset_entries = 8;
    limits.set_max_listpack_entries = 8;
    let store = Store { keyspace: Keyspace::new(2), limits };
    let mut model = Model::new();
    for bytes in input.chunks_exact(4) {
        let args = command(bytes.try_into().expect("four bytes"));
        let reply = store.run(&args);
        let expected = apply(&mut model, &args);
        assert!(
            is_answer(&reply, &expected),
            "{:?}: {} is not {expected:?}",
            args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>(),
            reply.escape_ascii()
        );
    }
});
