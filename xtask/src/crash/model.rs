//! A store so small that one can see that it is right: what the data must be after the commands that clients
//! of the crash harness send. Knows nothing of time: a key that expires keeps its moment beside its value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thali_testkit::Reply;

pub type Args = Vec<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// With the moment at which it vanishes.
    Text(Vec<u8>, Option<u64>),
    List(VecDeque<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Scores(BTreeMap<Vec<u8>, i64>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub keys: BTreeMap<Vec<u8>, Value>,
}

impl Model {
    /// Runs one of the commands that `workload` makes; gives the reply that is due.
    pub fn apply(&mut self, args: &[Vec<u8>]) -> Reply {
        if args[0] == b"FLUSHDB" {
            self.keys.clear();
            return Reply::Status("OK".into());
        }
        let key = &args[1];
        let count = |n: usize| Reply::Integer(n as i64);
        match (args[0].as_slice(), &args[2..]) {
            (b"SET", [value]) => self.set(key, value, None),
            (b"SET", [value, _pxat, at]) => self.set(key, value, Some(number(at) as u64)),
            (b"DEL", []) => count(usize::from(self.keys.remove(key).is_some())),
            (b"COPY", [to, _replace]) => {
                let copied = self.keys.get(key).cloned();
                let is_there = copied.is_some();
                if let Some(value) = copied {
                    self.keys.insert(to.clone(), value);
                }
                count(usize::from(is_there))
            }
            (b"LMOVE", [to, _left, _right]) => {
                let Reply::Bulk(moved) = self.apply(&[b"LPOP".to_vec(), key.clone()]) else {
                    return Reply::Nil;
                };
                self.apply(&[b"RPUSH".to_vec(), to.clone(), moved.clone()]);
                Reply::Bulk(moved)
            }
            (b"INCRBY", [by]) => {
                let Value::Text(text, _) = self.value(key, || Value::Text(b"0".to_vec(), None)) else {
                    panic!("of another type")
                };
                let sum = number(text) + number(by);
                *text = sum.to_string().into_bytes();
                Reply::Integer(sum)
            }
            (b"RPUSH", values) => {
                let Value::List(list) = self.value(key, || Value::List(VecDeque::new())) else {
                    panic!("of another type")
                };
                list.extend(values.iter().cloned());
                count(list.len())
            }
            (b"LPOP", []) => {
                let popped = match self.keys.get_mut(key) {
                    Some(Value::List(list)) => list.pop_front(),
                    _ => None,
                };
                self.drop_empty(key);
                popped.map_or(Reply::Nil, Reply::Bulk)
            }
            (b"HSET", [field, value]) => {
                let Value::Hash(hash) = self.value(key, || Value::Hash(BTreeMap::new())) else {
                    panic!("of another type")
                };
                count(usize::from(hash.insert(field.clone(), value.clone()).is_none()))
            }
            (b"HDEL", [field]) => {
                let removed = match self.keys.get_mut(key) {
                    Some(Value::Hash(hash)) => hash.remove(field).is_some(),
                    _ => false,
                };
                self.drop_empty(key);
                count(usize::from(removed))
            }
            (b"SADD", [member]) => {
                let Value::Set(set) = self.value(key, || Value::Set(BTreeSet::new())) else {
                    panic!("of another type")
                };
                count(usize::from(set.insert(member.clone())))
            }
            (b"SREM", [member]) => {
                let removed = match self.keys.get_mut(key) {
                    Some(Value::Set(set)) => set.remove(member),
                    _ => false,
                };
                self.drop_empty(key);
                count(usize::from(removed))
            }
            (b"ZINCRBY", [by, member]) => {
                let Value::Scores(scores) = self.value(key, || Value::Scores(BTreeMap::new())) else {
                    panic!("of another type")
                };
                let score = scores.entry(member.clone()).or_default();
                *score += number(by);
                Reply::Bulk(score.to_string().into_bytes())
            }
            other => panic!("the model does not know {other:?}"),
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8], expire_at_ms: Option<u64>) -> Reply {
        self.keys.insert(key.to_vec(), Value::Text(value.to_vec(), expire_at_ms));
        Reply::Status("OK".into())
    }

    fn value(&mut self, key: &[u8], make: impl FnOnce() -> Value) -> &mut Value {
        self.keys.entry(key.to_vec()).or_insert_with(make)
    }

    fn drop_empty(&mut self, key: &[u8]) {
        let is_empty = match self.keys.get(key) {
            Some(Value::List(list)) => list.is_empty(),
            Some(Value::Hash(hash)) => hash.is_empty(),
            Some(Value::Set(set)) => set.is_empty(),
            _ => false,
        };
        if is_empty {
            self.keys.remove(key);
        }
    }

    /// Keys whose values differ from those of `actual`, read from `begun_ms` to `ended_ms`. One that expires
    /// meanwhile may be there or not.
    pub fn differences(&self, actual: &Model, begun_ms: u64, ended_ms: u64) -> Vec<Vec<u8>> {
        let differs = |key: &Vec<u8>| {
            let expected = match self.keys.get(key) {
                Some(Value::Text(_, Some(at))) if *at < begun_ms => None,
                Some(value @ Value::Text(_, Some(at))) if *at <= ended_ms => {
                    return actual.keys.get(key).is_some_and(|found| found != value);
                }
                other => other,
            };
            expected != actual.keys.get(key)
        };
        let keys: BTreeSet<&Vec<u8>> = self.keys.keys().chain(actual.keys.keys()).collect();
        keys.into_iter().filter(|key| differs(key)).cloned().collect()
    }
}

pub fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number")
}
