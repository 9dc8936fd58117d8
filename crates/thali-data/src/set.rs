//! `Set`: integers in a sorted array, a packed sequence, or a table.
//!
//! Forms and their changes are those of Redis 7.2: "intset" while all members are integers and at most
//! `set-max-intset-entries`; "listpack" up to `set-max-listpack-entries` members of at most
//! `set-max-listpack-value` bytes; else "hashtable". There is no way back by removal.
//! SOURCE: redis 7.2 `t_set.c`, `setTypeAddAux`, `setTypeCreate`, `setTypeMaybeConvert`.

mod intset;

use crate::form::{Form, Mut, Ref};
use crate::item::{Item, int_len, parse_canonical_int};
use crate::limits::Limits;
use crate::packed::Packed;
use crate::str::Str;
use crate::table::Table;
use intset::IntSet;

#[derive(Clone)]
pub struct Set(Form<Packed, Large>);

#[derive(Clone)]
enum Large {
    Ints(IntSet),
    Table(Box<Table<()>>),
}

/// So that the box of integers is of the smallest class.
const _: () = assert!(size_of::<Large>() == 16);

impl Set {
    /// An empty set that takes the smallest form for what comes.
    pub fn new() -> Self {
        Set(Form::large(Large::Ints(IntSet::new())))
    }

    /// An empty set in the form that suits about `count` members of which `first` is one.
    pub fn with_hint(first: &[u8], count: usize, limits: &Limits) -> Self {
        let form = if parse_canonical_int(first).is_some() && count <= limits.set_max_intset_entries {
            Form::large(Large::Ints(IntSet::new()))
        } else if count <= limits.set_max_listpack_entries {
            Form::small(Packed::new())
        } else {
            Form::large(Large::Table(Box::default()))
        };
        Set(form)
    }

    pub fn len(&self) -> usize {
        match self.0.get() {
            Ref::Large(Large::Ints(s)) => s.len(),
            Ref::Small(p) => p.len(),
            Ref::Large(Large::Table(t)) => t.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "intset", "listpack" or "hashtable".
    pub fn encoding(&self) -> &'static str {
        match self.0.get() {
            Ref::Large(Large::Ints(_)) => "intset",
            Ref::Small(_) => "listpack",
            Ref::Large(Large::Table(_)) => "hashtable",
        }
    }

    /// As [`Table::touch`], for a member's place; gives what [`Set::touch_likely`] goes on with. `None` where there is
    /// nothing to wait for that was not waited for already.
    pub fn touch(&self, member: &[u8]) -> Option<u64> {
        let Ref::Large(Large::Table(table)) = self.0.get() else { return None };
        let hash = table.hash(member);
        table.touch(hash);
        Some(hash)
    }

    /// As [`Table::touch_likely`].
    pub fn touch_likely(&self, hash: u64) {
        if let Ref::Large(Large::Table(table)) = self.0.get() {
            table.touch_likely(hash);
        }
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        match self.0.get() {
            Ref::Small(p) => p.memory_bytes(),
            Ref::Large(Large::Ints(s)) => size_of::<Large>() + s.memory_bytes(),
            Ref::Large(Large::Table(t)) => size_of::<Large>() + size_of::<Table<()>>() + t.memory_bytes(),
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match self.0.get() {
            Ref::Large(Large::Ints(s)) => parse_canonical_int(member).is_some_and(|n| s.contains(n)),
            Ref::Small(p) => p.contains(member),
            Ref::Large(Large::Table(t)) => t.contains(member),
        }
    }

    pub fn contains_item(&self, member: Item<'_>) -> bool {
        match (self.0.get(), member) {
            (Ref::Large(Large::Ints(s)), Item::Int(n)) => s.contains(n),
            _ => member.with_bytes(|b| self.contains(b)),
        }
    }

    /// Adds a member and returns whether it is new.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        self.add_item(Item::parse(member), limits)
    }

    pub fn add_item(&mut self, member: Item<'_>, limits: &Limits) -> bool {
        match self.0.get_mut() {
            Mut::Large(Large::Ints(s)) => {
                if let Some(n) = member.as_int() {
                    let added = s.add(n);
                    if added && s.len() > limits.set_max_intset_entries {
                        self.table();
                    }
                    return added;
                }
                let longest = s.ends().map_or(0, |(min, max)| int_len(min).max(int_len(max)));
                let value_max = limits.set_max_listpack_value;
                if s.len() < limits.set_max_listpack_entries && longest.max(member.len()) <= value_max {
                    let mut packed: Packed = s.iter().map(Item::Int).collect();
                    packed.push_back(member);
                    self.0 = Form::small(packed);
                    return true;
                }
            }
            Mut::Small(p) => {
                if member.with_bytes(|b| p.contains(b)) {
                    return false;
                }
                if p.len() < limits.set_max_listpack_entries && member.len() <= limits.set_max_listpack_value
                {
                    p.push_back(member);
                    return true;
                }
            }
            Mut::Large(Large::Table(t)) => return member.with_bytes(|b| t.insert(b, ()).is_none()),
        }
        let table = self.table();
        member.with_bytes(|b| table.insert(b, ()).is_none())
    }

    /// Takes the table form at once where `count` more members would lead to it anyway.
    pub fn anticipate(&mut self, count: usize, limits: &Limits) {
        let max = match self.0.get() {
            Ref::Large(Large::Ints(_)) => limits.set_max_intset_entries,
            Ref::Small(_) => limits.set_max_listpack_entries,
            Ref::Large(Large::Table(_)) => return,
        };
        if count > max {
            self.table();
        }
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.0.get_mut() {
            Mut::Large(Large::Ints(s)) => parse_canonical_int(member).is_some_and(|n| s.remove(n)),
            Mut::Small(p) => match p.find(p.first(), member, 1) {
                Some(at) => {
                    p.remove(at);
                    true
                }
                None => false,
            },
            Mut::Large(Large::Table(t)) => t.remove(member).is_some(),
        }
    }

    /// All members; integers in ascending order, packed ones in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        let (ints, packed, table) = match self.0.get() {
            Ref::Large(Large::Ints(s)) => (Some(s.iter()), None, None),
            Ref::Small(p) => (None, Some(p.iter()), None),
            Ref::Large(Large::Table(t)) => (None, None, Some(t.iter())),
        };
        let ints = ints.into_iter().flatten().map(Item::Int);
        let packed = packed.into_iter().flatten();
        let table = table.into_iter().flatten().map(|(k, _)| Item::Bytes(k));
        ints.chain(packed).chain(table)
    }

    /// As [`Table::scan`]; a small set comes whole.
    pub fn scan(&self, cursor: u64, budget: usize, mut f: impl FnMut(Item<'_>)) -> u64 {
        match self.0.get() {
            Ref::Large(Large::Table(t)) => t.scan(cursor, budget, |k, _| f(Item::Bytes(k))),
            _ => {
                self.iter().for_each(f);
                0
            }
        }
    }

    /// A member drawn at random.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<Item<'_>> {
        if self.is_empty() {
            return None;
        }
        let mut index = |len: usize| (rng() % len as u64) as usize;
        match self.0.get() {
            Ref::Large(Large::Ints(s)) => Some(Item::Int(s.get(index(s.len())))),
            Ref::Small(p) => p.get_index(index(p.len())),
            Ref::Large(Large::Table(t)) => t.random(rng).map(|(k, _)| Item::Bytes(k)),
        }
    }

    /// Takes out a member drawn at random.
    pub fn pop(&mut self, rng: &mut impl FnMut() -> u64) -> Option<Str> {
        let member = Str::from(self.random(rng)?);
        let removed = member.with_bytes(|b| self.remove(b));
        debug_assert!(removed, "a drawn member is there");
        Some(member)
    }

    fn table(&mut self) -> &mut Table<()> {
        if !matches!(self.0.get(), Ref::Large(Large::Table(_))) {
            let mut table = Table::new();
            for member in self.iter() {
                member.with_bytes(|b| table.insert(b, ()));
            }
            self.0 = Form::large(Large::Table(Box::new(table)));
        }
        match self.0.get_mut() {
            Mut::Large(Large::Table(t)) => t,
            _ => unreachable!("made a table above"),
        }
    }
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(members: impl IntoIterator<Item = String>) -> Set {
        let mut set = Set::new();
        for m in members {
            set.add(m.as_bytes(), &Limits::default());
        }
        set
    }

    #[test]
    fn forms_change_at_the_thresholds_of_redis() {
        assert_eq!(of((0..512).map(|n| n.to_string())).encoding(), "intset");
        assert_eq!(of((0..513).map(|n| n.to_string())).encoding(), "hashtable");
        assert_eq!(of((0..127).map(|n| n.to_string()).chain(["x".into()])).encoding(), "listpack");
        assert_eq!(of((0..128).map(|n| n.to_string()).chain(["x".into()])).encoding(), "hashtable");
        assert_eq!(of((0..128).map(|n| format!("m{n}"))).encoding(), "listpack");
        assert_eq!(of((0..129).map(|n| format!("m{n}"))).encoding(), "hashtable");
        assert_eq!(of(["x".repeat(64)]).encoding(), "listpack");
        assert_eq!(of(["x".repeat(65)]).encoding(), "hashtable");
        let hinted = |first: &[u8], count| Set::with_hint(first, count, &Limits::default()).encoding();
        assert_eq!(hinted(b"1", 512), "intset");
        assert_eq!(hinted(b"1", 513), "hashtable");
        assert_eq!(hinted(b"a", 128), "listpack");
        assert_eq!(hinted(b"a", 129), "hashtable");
    }

    #[test]
    fn removal_keeps_the_form() {
        let mut set = of((0..513).map(|n| n.to_string()));
        for n in 1..513 {
            assert!(set.remove(n.to_string().as_bytes()));
        }
        assert_eq!((set.encoding(), set.len()), ("hashtable", 1));
    }

    proptest! {
        #[test]
        fn acts_as_a_set(
            entries_max in 0usize..20,
            letters: bool,
            ops in prop::collection::vec((0u8..5, -40i64..40, any::<i64>()), 0..200),
        ) {
            let limits = Limits { set_max_listpack_entries: entries_max, set_max_intset_entries: 3 * entries_max, ..Limits::default() };
            let mut model: BTreeSet<Vec<u8>> = BTreeSet::new();
            let mut set = Set::new();
            let mut seed = 7u64;
            let mut rng = || { seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); seed >> 11 };
            for (op, small, any) in ops {
                let member = match op {
                    0 => any.to_string(),
                    1 if letters => format!("m{small}"),
                    _ => small.to_string(),
                }.into_bytes();
                if op == 3 {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                } else if op == 4 && small > 30 {
                    let popped = set.pop(&mut rng).map(|s| s.to_vec());
                    prop_assert_eq!(popped.is_some(), !model.is_empty());
                    if let Some(m) = popped { prop_assert!(model.remove(&m)); }
                } else {
                    prop_assert_eq!(set.add(&member, &limits), model.insert(member.clone()));
                }
                prop_assert_eq!(set.contains(&member), model.contains(&member));
                prop_assert_eq!(set.contains_item(Item::parse(&member)), model.contains(&member));
                prop_assert_eq!(set.len(), model.len());
            }
            let all: BTreeSet<_> = set.iter().map(|m| m.to_vec()).collect();
            prop_assert_eq!(&all, &model);
            let mut scanned = BTreeSet::new();
            let mut cursor = 0;
            loop {
                cursor = set.scan(cursor, 3, |m| { scanned.insert(m.to_vec()); });
                if cursor == 0 { break; }
            }
            prop_assert_eq!(&scanned, &model);
        }
    }
}
