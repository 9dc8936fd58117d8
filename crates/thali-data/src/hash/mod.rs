//! `Hash`: fields and values, packed in insertion order while small, a table when large, and either with times
//! at which single fields vanish.
//!
//! The packed form is a [`Packed`] of field, value, field, value… and is searched from the front. It
//! turns into a table when a field or value is longer than `hash-max-listpack-value` or when there are
//! more than `hash-max-listpack-entries` fields, and never back. There a value stands behind its field, in one
//! allocation with it: it is only ever read or replaced.
//!
//! A hash whose fields got times is in a third form ([`timed`]), one of the [`Large`] ones. So a hash without
//! times is as large as before, and knows by the look at its form, which it needs anyhow, that there is nothing
//! to ask. Here times are numbers: what has expired is decided by who has a clock, and until
//! somebody removes such a field, it counts.

mod timed;

use crate::form::{Form, Mut, Ref};
use crate::item::Item;
use crate::limits::Limits;
use crate::packed::Packed;
use crate::table::{self, New, Stored, Table, Tail};
use timed::Timed;

/// The latest time of a field, in Unix milliseconds. SOURCE: redis 7.4 `ebuckets.h`, `EB_EXPIRE_TIME_MAX`.
pub const TIME_MAX_UNIX_MS: u64 = (1 << 48) - 1;

#[derive(Clone)]
pub struct Hash(Form<Packed, Large>);

#[derive(Clone)]
enum Large {
    Table(Table<Value>),
    Timed(Box<Timed>),
}

impl Large {
    /// Beside the size of this itself.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Table(t) => t.memory_bytes(),
            Self::Timed(t) => size_of::<Timed>() + t.memory_bytes(),
        }
    }
}

/// A field's value in a table: bytes behind the field, an integer's decimal form, too.
#[derive(Clone, Copy)]
struct Value;

impl Stored for Value {
    const TAIL: Tail<Self> = Tail::Bytes;
}

/// Sets a field in a table and returns whether it is new.
fn set_in(table: &mut Table<Value>, field: &[u8], value: Item<'_>) -> bool {
    let hash = table.hash(field);
    value.with_bytes(|value| table.put(hash, field, New::with_bytes(Value, value), |_| ())).is_nothing()
}

/// As [`Table::get_hashed`].
fn get_in<'t>(table: &'t Table<Value>, hash: u64, field: &[u8]) -> Option<Item<'t>> {
    table.tail_hashed(hash, field).map(Item::Bytes)
}

impl Hash {
    pub const fn new() -> Self {
        Hash(Form::small(Packed::new()))
    }

    pub fn len(&self) -> usize {
        match self.0.get() {
            Ref::Small(p) => p.len() / 2,
            Ref::Large(Large::Table(t)) => t.len(),
            Ref::Large(Large::Timed(t)) => t.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack", "listpackex" or "hashtable".
    pub fn encoding(&self) -> &'static str {
        match self.0.get() {
            Ref::Small(_) => "listpack",
            Ref::Large(Large::Table(_)) => "hashtable",
            Ref::Large(Large::Timed(t)) => t.encoding(),
        }
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        match self.0.get() {
            Ref::Small(p) => p.memory_bytes(),
            Ref::Large(large) => size_of::<Large>() + large.memory_bytes(),
        }
    }

    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match self.0.get() {
            Ref::Small(p) => {
                let at = p.find(p.first(), field, 2)?;
                p.next(at).map(|v| p.get(v))
            }
            Ref::Large(Large::Table(t)) => get_in(t, t.hash(field), field),
            Ref::Large(Large::Timed(t)) => t.get(field).map(|(value, _)| value),
        }
    }

    /// As [`Hash::get`], with the time at which the field vanishes, in Unix milliseconds.
    pub fn get_timed(&self, field: &[u8]) -> Option<(Item<'_>, Option<u64>)> {
        match self.0.get() {
            Ref::Large(Large::Timed(t)) => t.get(field),
            _ => self.get(field).map(|value| (value, None)),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        match self.0.get() {
            Ref::Small(p) => p.find(p.first(), field, 2).is_some(),
            Ref::Large(Large::Table(t)) => t.contains(field),
            Ref::Large(Large::Timed(t)) => t.get(field).is_some(),
        }
    }

    /// As [`Table::touch`], for a field's place; gives what [`Hash::touch_likely`] goes on with. `None` where there is
    /// nothing to wait for that was not waited for already.
    pub fn touch(&self, field: &[u8]) -> Option<u64> {
        let Ref::Large(Large::Table(table)) = self.0.get() else { return None };
        let hash = table.hash(field);
        table.touch(hash);
        Some(hash)
    }

    /// As [`Table::touch_likely`].
    pub fn touch_likely(&self, hash: u64) {
        if let Ref::Large(Large::Table(table)) = self.0.get() {
            table.touch_likely(hash);
        }
    }

    /// The smallest time of a field; `None`: none has one.
    pub fn next_time(&self) -> Option<u64> {
        match self.0.get() {
            Ref::Small(_) | Ref::Large(Large::Table(_)) => None,
            Ref::Large(Large::Timed(t)) => t.next_time(),
        }
    }

    /// Sets the field, which loses its time, and returns whether it is new.
    pub fn set(&mut self, field: &[u8], value: Item<'_>, limits: &Limits) -> bool {
        let is_new = self.set_keeping_time(field, value, limits);
        if !is_new && let Mut::Large(Large::Timed(t)) = self.0.get_mut() {
            t.set_time(field, None);
        }
        is_new
    }

    /// As [`Hash::set`], of a field that keeps its time.
    pub fn set_keeping_time(&mut self, field: &[u8], value: Item<'_>, limits: &Limits) -> bool {
        match self.0.get_mut() {
            Mut::Large(Large::Timed(t)) => return t.set(field, value, limits),
            Mut::Small(p) if field.len().max(value.len()) <= limits.hash_max_listpack_value => {
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
            Mut::Large(Large::Table(t)) => return set_in(t, field, value),
            Mut::Small(_) => {}
        }
        set_in(self.table(), field, value)
    }

    /// Sets or clears the time of a field, at most [`TIME_MAX_UNIX_MS`]; false where there is no such field.
    pub fn set_time(&mut self, field: &[u8], at_unix_ms: Option<u64>) -> bool {
        if let Mut::Large(Large::Timed(t)) = self.0.get_mut() {
            return t.set_time(field, at_unix_ms);
        }
        if !self.contains(field) {
            return false;
        }
        if at_unix_ms.is_some() {
            let mut timed = match self.0.get_mut() {
                Mut::Small(packed) => Timed::of_packed(packed),
                Mut::Large(Large::Table(table)) => Timed::of_table(std::mem::take(table)),
                Mut::Large(Large::Timed(_)) => unreachable!("looked at above"),
            };
            timed.set_time(field, at_unix_ms);
            self.0 = Form::large(Large::Timed(Box::new(timed)));
        }
        true
    }

    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self.0.get_mut() {
            Mut::Small(p) => match p.find(p.first(), field, 2) {
                Some(at) => {
                    p.remove_run(at, 2);
                    true
                }
                None => false,
            },
            Mut::Large(Large::Table(t)) => t.remove(field).is_some(),
            Mut::Large(Large::Timed(t)) => t.remove(field),
        }
    }

    /// Removes up to `max` fields whose times lie before `now_unix_ms`, and gives their names.
    pub fn remove_expired(&mut self, now_unix_ms: u64, max: usize) -> Vec<Vec<u8>> {
        match self.0.get_mut() {
            Mut::Small(_) | Mut::Large(Large::Table(_)) => Vec::new(),
            Mut::Large(Large::Timed(t)) => t.remove_expired(now_unix_ms, max),
        }
    }

    /// Fields with their values; in insertion order while packed.
    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        self.iter_with(false).map(|(field, value, _)| (field, value))
    }

    /// As [`Hash::iter`], with their times.
    pub fn iter_timed(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>, Option<u64>)> {
        self.iter_with(true)
    }

    fn iter_with(&self, times: bool) -> impl Iterator<Item = (Item<'_>, Item<'_>, Option<u64>)> {
        let (packed, table, timed) = match self.0.get() {
            Ref::Small(p) => (Some(p.iter()), None, None),
            Ref::Large(Large::Table(t)) => (None, Some(t.iter_tails()), None),
            Ref::Large(Large::Timed(t)) => (None, None, Some(t.iter(times))),
        };
        let mut packed = packed.into_iter().flatten();
        let pairs = std::iter::from_fn(move || Some((packed.next()?, packed.next()?, None)));
        let table = table.into_iter().flatten().map(|(f, v)| (Item::Bytes(f), Item::Bytes(v), None));
        pairs.chain(table).chain(timed.into_iter().flatten())
    }

    /// As [`Table::scan`]; a packed hash comes whole.
    pub fn scan(&self, cursor: u64, budget: usize, mut f: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        match self.0.get() {
            Ref::Large(Large::Table(t)) => {
                t.scan_tails(cursor, budget, |field, value| f(Item::Bytes(field), Item::Bytes(value)))
            }
            _ => self.scan_timed(cursor, budget, |field, value, _| f(field, value)),
        }
    }

    /// As [`Hash::scan`], with the fields' times.
    pub fn scan_timed(
        &self,
        cursor: u64,
        budget: usize,
        mut f: impl FnMut(Item<'_>, Item<'_>, Option<u64>),
    ) -> u64 {
        match self.0.get() {
            Ref::Small(_) => {
                self.iter().for_each(|(field, value)| f(field, value, None));
                0
            }
            Ref::Large(Large::Table(t)) => {
                t.scan_tails(cursor, budget, |field, value| f(Item::Bytes(field), Item::Bytes(value), None))
            }
            Ref::Large(Large::Timed(t)) => t.scan(cursor, budget, f),
        }
    }

    /// A field drawn at random, with its value.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<(Item<'_>, Item<'_>)> {
        match self.0.get() {
            Ref::Small(p) => random_packed(p, 2, rng),
            Ref::Large(Large::Table(t)) => t.random_tail(rng).map(|(f, v)| (Item::Bytes(f), Item::Bytes(v))),
            Ref::Large(Large::Timed(t)) => t.random(rng),
        }
    }

    fn table(&mut self) -> &mut Table<Value> {
        if let Ref::Small(p) = self.0.get() {
            let mut table = Table::new();
            let mut items = p.iter();
            while let (Some(field), Some(value)) = (items.next(), items.next()) {
                field.with_bytes(|f| set_in(&mut table, f, value));
            }
            self.0 = Form::large(Large::Table(table));
        }
        match self.0.get_mut() {
            Mut::Large(Large::Table(t)) => t,
            Mut::Small(_) | Mut::Large(Large::Timed(_)) => {
                unreachable!("a packed hash was made a table above")
            }
        }
    }
}

/// The first two of `stride` items that stand together.
fn random_packed<'p>(
    packed: &'p Packed,
    stride: usize,
    rng: &mut impl FnMut() -> u64,
) -> Option<(Item<'p>, Item<'p>)> {
    let len = packed.len() / stride;
    if len == 0 {
        return None;
    }
    let at = packed.seek(stride * (rng() % len as u64) as usize)?;
    Some((packed.get(at), packed.get(packed.next(at)?)))
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
mod tests;
