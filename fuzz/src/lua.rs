//! A plain model of what Lua makes of values from outside, and of what cjson and cmsgpack write of Lua's.
//!
//! Known losses, which Redis has, too:
//! - an empty array and an empty map are the same empty table: `{}` in JSON (where arrays are not marked), an array
//!   in MessagePack;
//! - of a name that comes twice the last value stays; in MessagePack a pair whose value is nil vanishes;
//! - JSON has 14 digits of a number, and none of those that are infinite or not a number;
//! - in JSON a table with numbers for names becomes an array with nulls, or where the gaps are large an object with
//!   the numbers as texts (if that is allowed, else nothing);
//! - in MessagePack −0 becomes 0, and what is nested deeper than 16 levels nil, which as a key no
//!   Lua takes back.

use std::collections::BTreeMap;
use std::ffi::c_char;

use crate::plain::Plain;

const PACK_DEPTH_MAX: usize = 16;
/// Entries of an array whose half may be gaps; beyond, it is too sparse.
const SPARSE_SAFE: f64 = 10.0;

#[derive(Clone, Debug)]
pub enum Lua {
    Nil,
    /// `cjson.null`.
    Null,
    Bool(bool),
    Number(f64),
    Text(Vec<u8>),
    Table(Table),
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    pairs: BTreeMap<Key, Lua>,
    /// Tables as keys: each is one of its own.
    by_table: Vec<(Lua, Lua)>,
    /// Known to be an array even when it is empty.
    is_marked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Bool(bool),
    /// The bits of a number that is not −0.
    Number(u64),
    Text(Vec<u8>),
}

/// What a script has set.
#[derive(Clone, Copy, Debug)]
pub struct JsonOptions {
    pub marks_arrays: bool,
    /// Arrays with too large gaps become objects.
    pub converts_sparse: bool,
}

impl Lua {
    /// What `cjson.decode` gives.
    pub fn from_json(value: Plain, options: JsonOptions) -> Self {
        match value {
            Plain::Null => Self::Null,
            Plain::Bool(value) => Self::Bool(value),
            Plain::Number(value) => Self::Number(value),
            Plain::Text(text) => Self::Text(text),
            Plain::Array(items) => {
                let items = items.into_iter().map(|item| Self::from_json(item, options));
                let table = Table::from_items(items);
                Self::Table(Table { is_marked: options.marks_arrays, ..table })
            }
            Plain::Map(pairs) => {
                let mut table = Table::default();
                for (name, value) in pairs {
                    table.set(Self::from_json(name, options), Self::from_json(value, options));
                }
                Self::Table(table)
            }
        }
    }

    /// What `cmsgpack.unpack` gives; `None` where a map has a key that is none in Lua.
    pub fn from_msgpack(value: Plain) -> Option<Self> {
        Some(match value {
            Plain::Null => Self::Nil,
            Plain::Bool(value) => Self::Bool(value),
            Plain::Number(value) => Self::Number(value),
            Plain::Text(text) => Self::Text(text),
            Plain::Array(items) => {
                let items: Option<Vec<Self>> = items.into_iter().map(Self::from_msgpack).collect();
                Self::Table(Table::from_items(items?.into_iter()))
            }
            Plain::Map(pairs) => {
                let mut table = Table::default();
                for (name, value) in pairs {
                    let (name, value) = (Self::from_msgpack(name)?, Self::from_msgpack(value)?);
                    match name {
                        Self::Nil => return None,
                        Self::Number(name) if name.is_nan() => return None,
                        _ => table.set(name, value),
                    }
                }
                Self::Table(table)
            }
        })
    }

    /// What `cmsgpack.pack` writes.
    pub fn as_msgpack(&self) -> Plain {
        self.as_msgpack_at(0)
    }

    fn as_msgpack_at(&self, depth: usize) -> Plain {
        match self {
            Self::Nil | Self::Null => Plain::Null,
            Self::Bool(value) => Plain::Bool(*value),
            Self::Number(value) => Plain::Number(value + 0.0),
            Self::Text(text) => Plain::Text(text.clone()),
            Self::Table(_) if depth == PACK_DEPTH_MAX => Plain::Null,
            Self::Table(table) => {
                let written = |value: &Self| value.as_msgpack_at(depth + 1);
                match table.last_index() {
                    Some(last) if last == table.pairs.len() as f64 => {
                        Plain::Array(table.pairs.values().map(written).collect())
                    }
                    _ => {
                        Plain::Map(table.iter().map(|(key, value)| (written(&key), written(value))).collect())
                    }
                }
            }
        }
    }

    /// What `cjson.encode` writes; `None` where it refuses.
    pub fn as_json(&self, options: JsonOptions) -> Option<Plain> {
        Some(match self {
            Self::Nil | Self::Null => Plain::Null,
            Self::Bool(value) => Plain::Bool(*value),
            Self::Number(value) => Plain::Number(json_number(*value)?.parse().ok()?),
            Self::Text(text) => Plain::Text(text.clone()),
            Self::Table(table) => {
                let last = table.last_index().filter(|last| *last <= f64::from(i32::MAX));
                let is_sparse = |last: f64| last > SPARSE_SAFE && last > 2.0 * table.pairs.len() as f64;
                match last {
                    Some(0.0) if table.is_marked => Plain::Array(Vec::new()),
                    Some(last) if last > 0.0 && !is_sparse(last) => {
                        let mut items = vec![Plain::Null; last as usize];
                        for (key, value) in &table.pairs {
                            let Key::Number(index) = key else { unreachable!("all keys are numbers") };
                            items[f64::from_bits(*index) as usize - 1] = value.as_json(options)?;
                        }
                        Plain::Array(items)
                    }
                    Some(last) if is_sparse(last) && !options.converts_sparse => return None,
                    _ => {
                        let pair = |(key, value): (Self, &Self)| {
                            let name = match key {
                                Self::Text(text) => text,
                                Self::Number(value) => json_number(value)?.into_bytes(),
                                _ => return None,
                            };
                            Some((Plain::Text(name), value.as_json(options)?))
                        };
                        Plain::Map(table.iter().map(pair).collect::<Option<_>>()?)
                    }
                }
            }
        })
    }
}

impl Table {
    fn from_items(items: impl Iterator<Item = Lua>) -> Self {
        let mut table = Self::default();
        for (index, item) in items.enumerate() {
            table.set(Lua::Number((index + 1) as f64), item);
        }
        table
    }

    fn set(&mut self, key: Lua, value: Lua) {
        let key = match key {
            Lua::Bool(key) => Key::Bool(key),
            Lua::Number(key) => Key::Number((key + 0.0).to_bits()),
            Lua::Text(key) => Key::Text(key),
            Lua::Table(_) => {
                if !matches!(value, Lua::Nil) {
                    self.by_table.push((key, value));
                }
                return;
            }
            Lua::Nil | Lua::Null => unreachable!("{key:?} is no key"),
        };
        match value {
            Lua::Nil => self.pairs.remove(&key),
            value => self.pairs.insert(key, value),
        };
    }

    fn iter(&self) -> impl Iterator<Item = (Lua, &Lua)> {
        let lua = |key: &Key| match key {
            Key::Bool(key) => Lua::Bool(*key),
            Key::Number(key) => Lua::Number(f64::from_bits(*key)),
            Key::Text(key) => Lua::Text(key.clone()),
        };
        let scalars = self.pairs.iter().map(move |(key, value)| (lua(key), value));
        scalars.chain(self.by_table.iter().map(|(key, value)| (key.clone(), value)))
    }

    /// The greatest of the keys if all of them are whole and positive; 0 where there is none.
    fn last_index(&self) -> Option<f64> {
        let index = |key: &Key| match key {
            Key::Number(key) => Some(f64::from_bits(*key)).filter(|key| *key >= 1.0 && key.floor() == *key),
            _ => None,
        };
        let last = self.pairs.keys().try_fold(0.0, |last: f64, key| Some(last.max(index(key)?)));
        last.filter(|_| self.by_table.is_empty())
    }
}

/// `%.14g`, as C's library writes it; `None` for what is not finite.
fn json_number(value: f64) -> Option<String> {
    let mut text = [0u8; 32];
    // SAFETY: the length of the buffer is given, and the format takes one double.
    let len =
        unsafe { libc::snprintf(text.as_mut_ptr().cast::<c_char>(), text.len(), c"%.14g".as_ptr(), value) };
    value.is_finite().then(|| String::from_utf8_lossy(&text[..len as usize]).into_owned())
}
