//! Hashes whose fields have times.
//!
//! Small ones are a [`Packed`] of field, value, time, field, value, time…, 0 for no time, as Redis's `listpackex`, and
//! keep the smallest time beside it. Large ones keep the table of fields and values as it is and put the times
//! beside it ([`Times`]). So the first time in a hash of a million fields is set as fast as any other and with
//! nothing rebuilt while others wait for the shard, fields without a time cost nothing there either, and what
//! has expired is found in its order without a walk over the rest.

use std::collections::BTreeSet;

use super::{TIME_MAX_UNIX_MS, Value, get_in, random_packed, set_in};
use crate::item::Item;
use crate::limits::Limits;
use crate::packed::{Packed, Pos};
use crate::table::{Removed, Stored, Table};

#[derive(Clone)]
pub(super) enum Timed {
    Packed(Triples),
    Table { fields: Table<Value>, times: Times },
}

impl Timed {
    pub fn of_packed(pairs: &Packed) -> Self {
        let mut items = Packed::with_capacity(pairs.bytes() + pairs.len());
        for (n, item) in pairs.iter().enumerate() {
            items.push_back(item);
            if n % 2 == 1 {
                items.push_back(Item::Int(0));
            }
        }
        Self::Packed(Triples { items, next: None })
    }

    pub fn of_table(fields: Table<Value>) -> Self {
        // With the same hashes, so that one serves for both.
        let times = Times { of: Table::with_hasher(fields.hasher().clone()), order: BTreeSet::new() };
        Self::Table { fields, times }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Packed(triples) => triples.items.len() / 3,
            Self::Table { fields, .. } => fields.len(),
        }
    }

    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Packed(_) => "listpackex",
            Self::Table { .. } => "hashtable",
        }
    }

    /// Beside the size of this itself.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Packed(triples) => triples.items.memory_bytes(),
            Self::Table { fields, times } => fields.memory_bytes() + times.memory_bytes(),
        }
    }

    pub fn next_time(&self) -> Option<u64> {
        match self {
            Self::Packed(triples) => triples.next,
            Self::Table { times, .. } => times.order.first().map(|(at, _)| *at),
        }
    }

    pub fn get(&self, field: &[u8]) -> Option<(Item<'_>, Option<u64>)> {
        match self {
            Self::Packed(triples) => {
                let value_at = triples.items.next(triples.find(field)?)?;
                Some((triples.items.get(value_at), triples.time(triples.items.next(value_at)?)))
            }
            Self::Table { fields, times } => {
                let hash = fields.hash(field);
                get_in(fields, hash, field).map(|value| (value, times.get(hash, field)))
            }
        }
    }

    /// Sets the field, whose time stays, and returns whether it is new.
    pub fn set(&mut self, field: &[u8], value: Item<'_>, limits: &Limits) -> bool {
        if let Self::Packed(triples) = self {
            let items = &mut triples.items;
            if field.len().max(value.len()) <= limits.hash_max_listpack_value {
                if let Some(at) = items.find(items.first(), field, 3) {
                    let old = items.next(at).expect("a value follows each field");
                    items.replace(old, value);
                    return false;
                }
                if items.len() / 3 < limits.hash_max_listpack_entries {
                    [Item::parse(field), value, Item::Int(0)].into_iter().for_each(|i| items.push_back(i));
                    return true;
                }
            }
            *self = triples.to_table();
        }
        match self {
            Self::Table { fields, .. } => set_in(fields, field, value),
            Self::Packed(_) => unreachable!("made a table above"),
        }
    }

    /// False where there is no such field.
    pub fn set_time(&mut self, field: &[u8], at: Option<u64>) -> bool {
        debug_assert!(at.is_none_or(|at| (1..=TIME_MAX_UNIX_MS).contains(&at)), "{at:?}");
        match self {
            Self::Packed(triples) => triples.set_time(field, at),
            Self::Table { fields, times } => {
                let hash = fields.hash(field);
                if !fields.contains_hashed(hash, field) {
                    return false;
                }
                times.set(hash, field, at);
                true
            }
        }
    }

    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            Self::Packed(triples) => triples.remove(field),
            Self::Table { fields, times } => {
                let hash = fields.hash(field);
                times.set(hash, field, None);
                fields.remove_hashed(hash, field).is_some()
            }
        }
    }

    pub fn remove_expired(&mut self, now: u64, max: usize) -> Vec<Vec<u8>> {
        match self {
            Self::Packed(triples) => triples.remove_expired(now, max),
            Self::Table { fields, times } => {
                let expired = std::iter::from_fn(|| {
                    let (hash, field) = times.pop_before(now)?;
                    fields.remove_hashed(hash, &field).expect("what has a time is there");
                    Some(field)
                });
                expired.take(max).collect()
            }
        }
    }

    /// Without `times`, none is looked up.
    pub fn iter(&self, times: bool) -> impl Iterator<Item = (Item<'_>, Item<'_>, Option<u64>)> {
        let (triples, table) = match self {
            Self::Packed(triples) => (Some(triples.iter()), None),
            Self::Table { fields, times: of } => {
                let time = move |field: &[u8]| if times { of.get(of.of.hash(field), field) } else { None };
                let all = fields.iter_tails().map(move |(f, v)| (Item::Bytes(f), Item::Bytes(v), time(f)));
                (None, Some(all))
            }
        };
        triples.into_iter().flatten().chain(table.into_iter().flatten())
    }

    pub fn scan(
        &self,
        cursor: u64,
        budget: usize,
        mut f: impl FnMut(Item<'_>, Item<'_>, Option<u64>),
    ) -> u64 {
        match self {
            Self::Packed(triples) => {
                triples.iter().for_each(|(field, value, at)| f(field, value, at));
                0
            }
            Self::Table { fields, times } => fields.scan_tails(cursor, budget, |field, value| {
                f(Item::Bytes(field), Item::Bytes(value), times.get(fields.hash(field), field));
            }),
        }
    }

    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<(Item<'_>, Item<'_>)> {
        match self {
            Self::Packed(triples) => random_packed(&triples.items, 3, rng),
            Self::Table { fields, .. } => {
                fields.random_tail(rng).map(|(f, v)| (Item::Bytes(f), Item::Bytes(v)))
            }
        }
    }
}

/// The small form.
#[derive(Clone)]
pub(super) struct Triples {
    items: Packed,
    /// INVARIANT: the smallest time of all.
    next: Option<u64>,
}

impl Triples {
    fn find(&self, field: &[u8]) -> Option<Pos> {
        self.items.find(self.items.first(), field, 3)
    }

    fn time(&self, at: Pos) -> Option<u64> {
        time_of(self.items.get(at))
    }

    fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>, Option<u64>)> {
        let mut items = self.items.iter();
        std::iter::from_fn(move || Some((items.next()?, items.next()?, time_of(items.next()?))))
    }

    fn set_time(&mut self, field: &[u8], at: Option<u64>) -> bool {
        let Some(field_at) = self.find(field) else { return false };
        let value_at = self.items.next(field_at).expect("a value follows each field");
        let time_at = self.items.next(value_at).expect("a time follows each value");
        let old = self.time(time_at);
        self.items.replace(time_at, Item::Int(at.unwrap_or(0) as i64));
        self.note_change(old, at);
        true
    }

    fn remove(&mut self, field: &[u8]) -> bool {
        let Some(field_at) = self.find(field) else { return false };
        let value_at = self.items.next(field_at).expect("a value follows each field");
        let old = self.items.next(value_at).and_then(|at| self.time(at));
        self.items.remove_run(field_at, 3);
        self.note_change(old, None);
        true
    }

    fn remove_expired(&mut self, now: u64, max: usize) -> Vec<Vec<u8>> {
        let mut removed = Vec::new();
        let mut next = self.items.first();
        while let Some(field_at) = next {
            let value_at = self.items.next(field_at).expect("a value follows each field");
            let time_at = self.items.next(value_at).expect("a time follows each value");
            next = if removed.len() < max && self.time(time_at).is_some_and(|at| at < now) {
                removed.push(self.items.get(field_at).to_vec());
                self.items.remove_run(field_at, 3)
            } else {
                self.items.next(time_at)
            };
        }
        self.note_next();
        removed
    }

    /// One of the times was `old` and is `new` now.
    fn note_change(&mut self, old: Option<u64>, new: Option<u64>) {
        if old.is_some() && old == self.next {
            return self.note_next();
        }
        self.next = self.next.into_iter().chain(new).min();
    }

    fn note_next(&mut self) {
        self.next = self.iter().filter_map(|(_, _, at)| at).min();
    }

    fn to_table(&self) -> Timed {
        let mut timed = Timed::of_table(Table::new());
        if let Timed::Table { fields, times } = &mut timed {
            for (field, value, at) in self.iter() {
                field.with_bytes(|field| {
                    set_in(fields, field, value);
                    times.set(fields.hash(field), field, at);
                });
            }
        }
        timed
    }
}

fn time_of(item: Item<'_>) -> Option<u64> {
    item.as_int().and_then(|at| u64::try_from(at).ok()).filter(|at| *at != 0)
}

/// The times of a table's fields: by field, and in their order. The order names a field by its hash, 16 bytes
/// however long it is, and which one is meant is looked up in the other. A field of 12 bytes with a time
/// costs about 60 bytes more than one without.
#[derive(Clone)]
pub(super) struct Times {
    of: Table<Time>,
    /// INVARIANT: time and hash of each of the above. Two fields stand as one here where both are alike.
    order: BTreeSet<(u64, u64)>,
}

/// Milliseconds below 2^48.
#[derive(Clone, Copy)]
struct Time([u8; 6]);

impl Stored for Time {}

impl Time {
    fn new(at: u64) -> Self {
        let [bytes @ .., _, _] = at.to_le_bytes();
        Self(bytes)
    }

    fn get(self) -> u64 {
        let Self([a, b, c, d, e, f]) = self;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// Of an element of the order: 16, in nodes that are about two thirds full.
const ORDERED_BYTES: usize = 24;

impl Times {
    fn get(&self, hash: u64, field: &[u8]) -> Option<u64> {
        self.of.get_hashed(hash, field).map(|time| time.get())
    }

    fn set(&mut self, hash: u64, field: &[u8], at: Option<u64>) {
        let old = match at {
            Some(at) => self.of.insert_hashed(hash, field, Time::new(at)),
            None => self.of.remove_hashed(hash, field).map(Removed::into_value),
        };
        if let Some(old) = old {
            self.forget(old.get(), hash);
        }
        self.order.extend(at.map(|at| (at, hash)));
    }

    /// Takes out a field whose time lies before `now`, the earliest first; gives its hash as well.
    fn pop_before(&mut self, now: u64) -> Option<(u64, Vec<u8>)> {
        let (at, hash) = *self.order.first().filter(|(at, _)| *at < now)?;
        let mut same = self.of.with_hash(hash).filter(|(_, time)| time.get() == at);
        let field = same.next().expect("the order holds what is there").0.to_vec();
        drop(same);
        self.of.remove_hashed(hash, &field);
        self.forget(at, hash);
        Some((hash, field))
    }

    /// Takes a time out of the order, of a field that does not have it any more.
    fn forget(&mut self, at: u64, hash: u64) {
        if !self.of.with_hash(hash).any(|(_, time)| time.get() == at) {
            self.order.remove(&(at, hash));
        }
    }

    fn memory_bytes(&self) -> usize {
        self.of.memory_bytes() + self.order.len() * ORDERED_BYTES
    }
}
