//! What clients do in a history, and a plain model of it: numbers under a few keys, and lists.

use thali_testkit::{Reply, RespClient};

const NUMBERS: usize = 3;
const LISTS: usize = 2;
/// How long a pop waits for an element.
const PATIENCE_S: &str = "0.02";

/// All data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    numbers: [Option<i64>; NUMBERS],
    lists: [Vec<usize>; LISTS],
}

/// Keys are numbers here: `n0` to `n2` and `l0` to `l1`, each in another shard.
#[derive(Clone, Debug)]
pub enum Operation {
    Get(usize),
    Set(usize, i64),
    Incr(usize),
    SetIfMissing(usize, i64),
    GetDel(usize),
    /// MGET of all.
    GetAll,
    /// MSET of all.
    SetAll(i64),
    /// MULTI: INCR of one, DECRBY of another, GET of the third, EXEC.
    Transaction(usize),
    /// The same by a script, with its keys declared or not.
    Script {
        first: usize,
        declares: bool,
    },
    Push(usize, usize),
    Pop(usize),
    /// BLPOP.
    PopOrWait(usize),
    /// BLMOVE to the other list.
    MoveOrWait(usize),
    /// LRANGE of both lists in a transaction.
    Lists,
}

impl Operation {
    /// One of all; `unique` is pushed by nobody else.
    pub fn choose(rng: &mut fastrand::Rng, unique: usize) -> Self {
        let (number, list) = (rng.usize(0..NUMBERS), rng.usize(0..LISTS));
        match rng.u8(0..18) {
            0 | 1 => Self::Get(number),
            2 => Self::Set(number, rng.i64(0..5)),
            3 | 4 => Self::Incr(number),
            5 => Self::SetIfMissing(number, 50),
            6 => Self::GetDel(number),
            7 => Self::GetAll,
            8 => Self::SetAll(rng.i64(10..15)),
            9 => Self::Transaction(number),
            10 | 11 => Self::Script { first: number, declares: rng.bool() },
            12 | 13 => Self::Push(list, unique),
            14 => Self::Pop(list),
            15 => Self::PopOrWait(list),
            16 => Self::MoveOrWait(list),
            _ => Self::Lists,
        }
    }

    /// Runs it; a transaction's outcome is EXEC's.
    pub fn run(&self, client: &mut RespClient) -> Reply {
        let mut ask = |words: &[&str]| client.command(words).unwrap();
        let (n, l) = (|number: usize| format!("n{number}"), |list: usize| format!("l{list}"));
        match *self {
            Self::Get(number) => ask(&["GET", &n(number)]),
            Self::Set(number, value) => ask(&["SET", &n(number), &value.to_string()]),
            Self::Incr(number) => ask(&["INCR", &n(number)]),
            Self::SetIfMissing(number, value) => ask(&["SETNX", &n(number), &value.to_string()]),
            Self::GetDel(number) => ask(&["GETDEL", &n(number)]),
            Self::GetAll => ask(&["MGET", "n0", "n1", "n2"]),
            Self::SetAll(value) => {
                let value = value.to_string();
                ask(&["MSET", "n0", &value, "n1", &value, "n2", &value])
            }
            Self::Transaction(first) => {
                let [a, b, c] = in_turn(first).map(n);
                ask(&["MULTI"]);
                ask(&["INCR", &a]);
                ask(&["DECRBY", &b, "2"]);
                ask(&["GET", &c]);
                ask(&["EXEC"])
            }
            Self::Script { first, declares } => {
                let [a, b, c] = in_turn(first).map(n);
                let script = "local k = #KEYS > 0 and KEYS or ARGV \
                              return {redis.call('INCR', k[1]), redis.call('DECRBY', k[2], 2), redis.call('GET', k[3])}";
                ask(&["EVAL", script, if declares { "3" } else { "0" }, &a, &b, &c])
            }
            Self::Push(list, element) => ask(&["RPUSH", &l(list), &element.to_string()]),
            Self::Pop(list) => ask(&["LPOP", &l(list)]),
            Self::PopOrWait(list) => match ask(&["BLPOP", &l(list), PATIENCE_S]) {
                Reply::Array(pair) => pair[1].clone(),
                other => other,
            },
            Self::MoveOrWait(list) => ask(&["BLMOVE", &l(list), &l(1 - list), "LEFT", "RIGHT", PATIENCE_S]),
            Self::Lists => {
                ask(&["MULTI"]);
                ask(&["LRANGE", "l0", "0", "-1"]);
                ask(&["LRANGE", "l1", "0", "-1"]);
                ask(&["EXEC"])
            }
        }
    }

    /// Does it to the model; whether that answers the same.
    pub fn explains(&self, state: &mut State, outcome: &Reply) -> bool {
        let answer = match *self {
            Self::Get(number) => text(state.numbers[number]),
            Self::Set(number, value) => {
                state.numbers[number] = Some(value);
                Reply::Status("OK".into())
            }
            Self::Incr(number) => state.add(number, 1),
            Self::SetIfMissing(number, value) => {
                let is_missing = state.numbers[number].is_none();
                state.numbers[number].get_or_insert(value);
                Reply::Integer(i64::from(is_missing))
            }
            Self::GetDel(number) => text(state.numbers[number].take()),
            Self::GetAll => Reply::Array(state.numbers.map(text).to_vec()),
            Self::SetAll(value) => {
                state.numbers = [Some(value); NUMBERS];
                Reply::Status("OK".into())
            }
            Self::Transaction(first) | Self::Script { first, .. } => {
                let [a, b, c] = in_turn(first);
                Reply::Array(vec![state.add(a, 1), state.add(b, -2), text(state.numbers[c])])
            }
            Self::Push(list, element) => {
                state.lists[list].push(element);
                Reply::Integer(state.lists[list].len() as i64)
            }
            Self::Pop(list) | Self::PopOrWait(list) => element(state.pop(list)),
            Self::MoveOrWait(list) => {
                let moved = state.pop(list);
                state.lists[1 - list].extend(moved);
                element(moved)
            }
            Self::Lists => {
                let shown = |list: &Vec<usize>| list.iter().map(|one| element(Some(*one))).collect();
                Reply::Array(state.lists.iter().map(|list| Reply::Array(shown(list))).collect())
            }
        };
        answer == *outcome
    }
}

impl State {
    fn add(&mut self, number: usize, by: i64) -> Reply {
        let value = self.numbers[number].unwrap_or(0) + by;
        self.numbers[number] = Some(value);
        Reply::Integer(value)
    }

    fn pop(&mut self, list: usize) -> Option<usize> {
        (!self.lists[list].is_empty()).then(|| self.lists[list].remove(0))
    }
}

fn in_turn(first: usize) -> [usize; NUMBERS] {
    [first, (first + 1) % NUMBERS, (first + 2) % NUMBERS]
}

fn text(number: Option<i64>) -> Reply {
    number.map_or(Reply::Nil, |number| Reply::Bulk(number.to_string().into_bytes()))
}

fn element(element: Option<usize>) -> Reply {
    element.map_or(Reply::Nil, |element| Reply::Bulk(element.to_string().into_bytes()))
}
