//! `Hash`: fields and values, packed in insertion order while small, a table when large.
//!
//! The packed form is a [`Packed`] of field, value, field, value… and is searched from the front. It
//! turns into a table when a field or value is longer than `hash-max-listpack-value` or when there are
//! more than `hash-max-listpack-entries` fields, and never back. Expiry of single fields has no place
//! here yet: it will be a third form, so that hashes without it pay nothing.

use crate::item::Item;
use crate::limits::Limits;
use crate::packed::Packed;
use crate::str::Str;
use crate::table::{self, Table};

#[derive(Clone)]
pub struct Hash(Form);

#[derive(Clone)]
enum Form {
    Packed(Packed),
    Table(Box<Table<Str>>),
}

impl Hash {
    pub const fn new() -> Self {
        Hash(Form::Packed(Packed::new()))
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(p) => p.len() / 2,
            Form::Table(t) => t.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack" or "hashtable".
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Form::Packed(p) => p.memory_bytes(),
            Form::Table(t) => {
                let values: usize = t.iter().map(|(_, v)| v.memory_bytes()).sum();
                size_of::<Table<Str>>() + t.memory_bytes() + values
            }
        }
    }

    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match &self.0 {
            Form::Packed(p) => {
                let at = p.find(p.first(), field, 2)?;
                p.next(at).map(|v| p.get(v))
            }
            Form::Table(t) => t.get(field).map(Str::item),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        match &self.0 {
            Form::Packed(p) => p.find(p.first(), field, 2).is_some(),
            Form::Table(t) => t.contains(field),
        }
    }

    /// Sets the field and returns whether it is new.
    pub fn set(&mut self, field: &[u8], value: Item<'_>, limits: &Limits) -> bool {
        if let Form::Packed(p) = &mut self.0 {
            let longest = field.len().max(value.len());
            if longest <= limits.hash_max_listpack_value {
                if let Some(at) = p.find(p.first(), field, 2) {
                    let old = p.next(at).expect("a value follows each field");
                    p.replace(old, value);
                    return false;
                }
                if p.len() / 2 < limits.hash_max_listpack_entries {
                    p.push_back(Item::parse(field));
                    p.push_back(value);
                    return true;
                }
            }
        }
        self.table().insert(field, Str::from(value)).is_none()
    }

    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Form::Packed(p) => match p.find(p.first(), field, 2) {
                Some(at) => {
                    p.remove_run(at, 2);
                    true
                }
                None => false,
            },
            Form::Table(t) => t.remove(field).is_some(),
        }
    }

    /// Fields with their values; in insertion order while packed.
    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        let (packed, table) = match &self.0 {
            Form::Packed(p) => (Some(p.iter()), None),
            Form::Table(t) => (None, Some(t.iter())),
        };
        let mut packed = packed.into_iter().flatten();
        let pairs = std::iter::from_fn(move || Some((packed.next()?, packed.next()?)));
        pairs.chain(table.into_iter().flatten().map(|(f, v)| (Item::Bytes(f), v.item())))
    }

    /// As [`Table::scan`]; a packed hash comes whole.
    pub fn scan(&self, cursor: u64, budget: usize, mut f: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        match &self.0 {
            Form::Packed(_) => {
                self.iter().for_each(|(field, value)| f(field, value));
                0
            }
            Form::Table(t) => t.scan(cursor, budget, |field, value| f(Item::Bytes(field), value.item())),
        }
    }

    /// A field drawn at random, with its value.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<(Item<'_>, Item<'_>)> {
        match &self.0 {
            Form::Packed(p) => {
                let pairs = p.len() as u64 / 2;
                if pairs == 0 {
                    return None;
                }
                let at = p.seek(2 * (rng() % pairs) as usize)?;
                Some((p.get(at), p.get(p.next(at)?)))
            }
            Form::Table(t) => t.random(rng).map(|(f, v)| (Item::Bytes(f), v.item())),
        }
    }

    fn table(&mut self) -> &mut Table<Str> {
        if let Form::Packed(p) = &self.0 {
            let mut table = Table::new();
            let mut items = p.iter();
            while let (Some(field), Some(value)) = (items.next(), items.next()) {
                field.with_bytes(|f| table.insert(f, Str::from(value)));
            }
            self.0 = Form::Table(Box::new(table));
        }
        match &mut self.0 {
            Form::Table(t) => t,
            Form::Packed(_) => unreachable!("made a table above"),
        }
    }
}

/// Cursors of `scan` have this many bits.
pub const CURSOR_BITS: u32 = table::CURSOR_BITS;

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn set(hash: &mut Hash, field: &str, value: &str) -> bool {
        hash.set(field.as_bytes(), Item::parse(value.as_bytes()), &Limits::default())
    }

    #[test]
    fn turns_into_a_table_past_128_fields_or_64_bytes_and_stays_one() {
        let mut hash = Hash::new();
        for n in 0..128 {
            assert!(set(&mut hash, &format!("f{n}"), "v"));
        }
        assert_eq!(hash.encoding(), "listpack");
        assert!(!set(&mut hash, "f5", "w"));
        assert_eq!(hash.encoding(), "listpack");
        assert!(set(&mut hash, "one more", "v"));
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 129));
        assert!(hash.remove(b"one more"));
        assert_eq!(hash.encoding(), "hashtable");

        for (field, value, want) in [
            ("f".repeat(64), "v".repeat(64), "listpack"),
            ("f".repeat(65), "v".into(), "hashtable"),
            ("f".into(), "v".repeat(65), "hashtable"),
        ] {
            let mut hash = Hash::new();
            set(&mut hash, &field, &value);
            assert_eq!(hash.encoding(), want);
        }
    }

    #[test]
    fn a_packed_hash_keeps_insertion_order() {
        let mut hash = Hash::new();
        for field in ["z", "a", "m", "10", "2"] {
            set(&mut hash, field, "1");
        }
        set(&mut hash, "a", "2");
        let fields: Vec<_> = hash.iter().map(|(f, _)| String::from_utf8(f.to_vec()).unwrap()).collect();
        assert_eq!(fields, ["z", "a", "m", "10", "2"]);
    }

    proptest! {
        #[test]
        fn acts_as_a_hash_map(
            entries_max in 0usize..20,
            ops in prop::collection::vec((0u8..4, "[a-c0-9]{1,2}", "[a-z0-9]{0,70}"), 0..200),
        ) {
            let limits = Limits { hash_max_listpack_entries: entries_max, ..Limits::default() };
            let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
            let mut hash = Hash::new();
            for (op, field, value) in ops {
                let (field, value) = (field.into_bytes(), value.into_bytes());
                if op == 0 {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                } else {
                    let new = hash.set(&field, Item::Bytes(&value), &limits);
                    prop_assert_eq!(new, model.insert(field.clone(), value).is_none());
                }
                prop_assert_eq!(hash.get(&field).map(|i| i.to_vec()), model.get(&field).cloned());
                prop_assert_eq!(hash.contains(&field), model.contains_key(&field));
                prop_assert_eq!(hash.len(), model.len());
            }
            let all: HashMap<_, _> = hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(&all, &model);
            let mut scanned = HashMap::new();
            let mut cursor = 0;
            loop {
                cursor = hash.scan(cursor, 3, |f, v| { scanned.insert(f.to_vec(), v.to_vec()); });
                if cursor == 0 { break; }
            }
            prop_assert_eq!(&scanned, &model);
            let mut seed = 1u64;
            let mut rng = || { seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); seed >> 11 };
            match hash.random(&mut rng) {
                Some((f, v)) => prop_assert_eq!(model.get(&f.to_vec()), Some(&v.to_vec())),
                None => prop_assert!(model.is_empty()),
            }
        }
    }
}
