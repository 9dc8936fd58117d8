use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::str::Str;

impl Stored for u64 {}
impl Stored for u32 {}

/// Splitmix64: a small reproducible source of randomness.
fn rng(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn key(n: u64) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

fn check_shape<V: Stored>(table: &Table<V>) {
    let bytes: usize = table.segments.iter().map(|s| s.bucket_bytes()).sum();
    assert_eq!(table.bucket_bytes, bytes);
    assert_eq!(
        table.entry_bytes,
        table.segments.iter().flat_map(|s| s.iter()).map(|e| e.memory_bytes()).sum()
    );
    assert_eq!(table.len, table.segments.iter().map(|s| s.len as usize).sum::<usize>());
    assert_eq!(table.len, table.iter().count());
    for (i, &n) in table.directory.iter().enumerate() {
        let segment = &table.segments[n as usize];
        let (from, count) = table.directory_range(segment.prefix, segment.depth);
        assert!((from..from + count).contains(&i));
    }
    for segment in &table.segments {
        assert_eq!(segment.first_hash(0), Some(segment.prefix));
        let mut shown = 0;
        for home in 0..segment.home_buckets() {
            for entry in segment.of_home(home, |key| table.hash(key)) {
                shown += 1;
                let hash = table.hash(entry.key());
                assert!(hash >= segment.first_hash(home).unwrap());
                assert!(segment.first_hash(home + 1).is_none_or(|end| hash < end));
            }
        }
        assert_eq!(shown, segment.len, "each entry has one home");
    }
}

#[test]
fn a_million_keys_come_and_go() {
    let mut table = Table::with_hasher(KeyHasher::fixed(1));
    let mut per_key_sum = 0.0;
    for n in 0..1_000_000u64 {
        assert_eq!(table.insert(&key(n), n), None);
        if n >= 500_000 && n % 1_000 == 0 {
            let per_key = table.bucket_bytes as f64 / table.len() as f64;
            assert!(per_key < 18.0, "{per_key} bucket bytes a key at {n} keys");
            per_key_sum += per_key;
        }
    }
    check_shape(&table);
    // Over a whole doubling.
    let per_key = per_key_sum / 500.0;
    assert!(per_key < 15.0, "{per_key} bucket bytes a key");
    for n in 0..1_000_000u64 {
        assert_eq!(table.get(&key(n)), Some(&n));
    }
    assert_eq!(table.get(b"absent"), None);
    for n in 0..1_000_000u64 {
        assert_eq!(table.remove(&key(n)).map(Removed::into_value), Some(n));
        if n == 999_000 {
            check_shape(&table);
            assert!(table.memory_bytes() < 200_000, "{} bytes for 999 keys", table.memory_bytes());
        }
    }
    assert!(table.is_empty());
    assert_eq!(table.segments.len(), 1);
}

#[test]
fn a_table_with_room_is_like_any_other() {
    for len in [1usize, 6, 7, 100, 5000, 100_000] {
        let mut table = Table::with_hasher(KeyHasher::fixed(len as u64));
        table.reserve(len);
        check_shape(&table);
        let before = table.bucket_bytes;
        for n in 0..len as u64 {
            table.touch(table.hash(&key(n)));
            assert_eq!(table.insert(&key(n), n), None);
        }
        check_shape(&table);
        assert!(
            table.bucket_bytes <= before * 5 / 4,
            "{len} elements: {before} bytes grew to {}",
            table.bucket_bytes
        );
        for n in 0..len as u64 {
            assert_eq!(table.remove(&key(n)).map(Removed::into_value), Some(n));
        }
        check_shape(&table);
        table.reserve(10);
        assert_eq!(table.insert(b"k", 1), None);
        check_shape(&table);
    }
}

#[test]
fn scan_returns_every_element_once_when_nothing_changes() {
    for count in [0u64, 1, 7, 8, 100, 1000, 100_000] {
        let mut table = Table::with_hasher(KeyHasher::fixed(count));
        for n in 0..count {
            table.insert(&key(n), ());
        }
        let mut seen = HashMap::new();
        let mut cursor = 0;
        loop {
            cursor = table.scan(cursor, 10, |k, _| *seen.entry(k.to_vec()).or_insert(0) += 1);
            assert!(cursor < 1 << CURSOR_BITS);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len() as u64, count);
        assert!(seen.values().all(|&times| times == 1));
    }
}

#[test]
fn scan_steps_stay_near_their_budget() {
    let mut table = Table::with_hasher(KeyHasher::fixed(3));
    for n in 0..50_000 {
        table.insert(&key(n), ());
    }
    let (mut cursor, mut steps) = (0, 0);
    loop {
        let mut shown = 0;
        cursor = table.scan(cursor, 10, |_, _| shown += 1);
        assert!(shown < 40, "{shown} elements in one step");
        steps += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!(steps > 2000, "{steps}");
}

#[test]
fn what_is_removed_on_the_way_leaves_the_rest() {
    let mut table = Table::with_hasher(KeyHasher::fixed(5));
    for n in 0..20_000u64 {
        table.insert(&key(n), n);
    }
    let mut cursor = 0;
    loop {
        let mut gone = Vec::new();
        cursor = table.scan(cursor, 50, |k, v| {
            if !v.is_multiple_of(10) {
                gone.push(k.to_vec());
            }
        });
        assert!(gone.iter().all(|k| table.remove(k).is_some()));
        if cursor == 0 {
            break;
        }
    }
    check_shape(&table);
    assert_eq!(table.len(), 2000);
    assert!((0..2000).all(|n| table.contains(&key(n * 10))));
}

#[test]
fn random_reaches_all_about_equally() {
    for count in [1u64, 3, 30, 3000] {
        let mut table = Table::with_hasher(KeyHasher::fixed(9));
        for n in 0..count {
            table.insert(&key(n), n);
        }
        let mut rng = rng(count);
        let mut hits = vec![0u32; count as usize];
        for _ in 0..count * 200 {
            hits[*table.random(&mut rng).unwrap().1 as usize] += 1;
        }
        let (min, max) = (hits.iter().min().unwrap(), hits.iter().max().unwrap());
        assert!(*min > 60 && *max < 500, "{count}: {min}..{max}");
    }
}

#[test]
fn random_finds_the_last_elements_of_a_once_large_table() {
    let mut table = Table::with_hasher(KeyHasher::fixed(11));
    for n in 0..10_000u64 {
        table.insert(&key(n), n);
    }
    let mut rng = rng(1);
    while !table.is_empty() {
        let k = table.random(&mut rng).unwrap().0.to_vec();
        assert!(table.remove(&k).is_some());
    }
    assert!(table.random(&mut rng).is_none());
}

#[test]
fn foreign_cursors_do_no_harm() {
    let mut table = Table::with_hasher(KeyHasher::fixed(2));
    assert_eq!(table.scan(77, 10, |_, _: &()| {}), 0);
    for n in 0..100 {
        table.insert(&key(n), ());
    }
    for cursor in [1, 12345, (1 << 40) - 1, 1 << 40, u64::MAX] {
        table.scan(cursor, 10, |_, _| {});
    }
}

/// The SCAN promise: elements present during the whole iteration come at least once, whatever else
/// happens meanwhile.
fn scan_promise(seed: u64, kept: u64, churn: &[(bool, u16)], step: usize) {
    let mut table = Table::with_hasher(KeyHasher::fixed(seed));
    for n in 0..kept {
        table.insert(&key(n), ());
    }
    let mut seen = HashSet::new();
    let (mut cursor, mut next_extra) = (0, kept);
    let mut first_extra = kept;
    let mut churn = churn.iter().cycle();
    loop {
        cursor = table.scan(cursor, step, |k, _| {
            seen.insert(k.to_vec());
        });
        if cursor == 0 {
            break;
        }
        let &(grow, amount) = churn.next().unwrap();
        for _ in 0..amount {
            if grow {
                table.insert(&key(next_extra), ());
                next_extra += 1;
            } else if first_extra < next_extra {
                table.remove(&key(first_extra));
                first_extra += 1;
            }
        }
        if next_extra > kept + 100_000 {
            break;
        }
    }
    check_shape(&table);
    if cursor == 0 {
        for n in 0..kept {
            assert!(seen.contains(&key(n)), "key {n} was missed");
        }
    }
}

/// Changes in one case; Miri takes a second for a few.
const OPS_MAX: usize = if cfg!(miri) { 30 } else { 300 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn scan_promise_holds_under_growth_and_shrinking(
        seed: u64,
        kept in 1u64..3000,
        churn in prop::collection::vec((any::<bool>(), 0u16..2000), 1..20),
        step in 1usize..100,
    ) {
        scan_promise(seed, kept, &churn, step);
    }

    #[test]
    fn scan_promise_holds_while_a_large_table_empties(seed: u64, kept in 1u64..500, step in 1usize..50) {
        let mut table = Table::with_hasher(KeyHasher::fixed(seed));
        for n in 0..kept + 20_000 {
            table.insert(&key(n), n);
        }
        let mut seen = HashSet::new();
        let (mut cursor, mut extra) = (0, kept);
        loop {
            cursor = table.scan(cursor, step, |_, v| { seen.insert(*v); });
            if cursor == 0 { break; }
            for _ in 0..500 {
                table.remove(&key(extra));
                extra += 1;
            }
        }
        prop_assert!((0..kept).all(|n| seen.contains(&n)));
        check_shape(&table);
    }

    #[test]
    fn acts_as_a_hash_map(
        seed: u64,
        ops in prop::collection::vec((0u8..6, 0u64..600, any::<u32>()), 0..2000),
    ) {
        let mut model: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut table = Table::with_hasher(KeyHasher::fixed(seed));
        for (op, n, value) in ops {
            let k = key(n);
            match op {
                0..=2 => prop_assert_eq!(table.insert(&k, value), model.insert(k, value)),
                3 => prop_assert_eq!(table.remove(&k).map(Removed::into_value), model.remove(&k)),
                4 => {
                    let (got, made) = table.get_or_insert_with(&k, || value);
                    prop_assert_eq!(made, !model.contains_key(&k));
                    prop_assert_eq!(got, model.entry(k).or_insert(value));
                }
                _ => prop_assert_eq!(table.get(&k), model.get(&k)),
            }
            prop_assert_eq!(table.len(), model.len());
        }
        check_shape(&table);
        let mut got: Vec<_> = table.clone().iter().map(|(k, v)| (k.to_vec(), *v)).collect();
        let mut want: Vec<_> = model.into_iter().collect();
        got.sort();
        want.sort();
        prop_assert_eq!(got, want);
    }

    /// Strings of all lengths, put as bytes or whole, changed in place, moved out.
    #[test]
    fn strings_beside_their_keys_act_as_a_hash_map(
        seed: u64,
        ops in prop::collection::vec((0u8..9, 0u64..(OPS_MAX as u64 / 8), prop::collection::vec(any::<u8>(), 0..300)), 0..OPS_MAX),
    ) {
        let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut table: Table<Str> = Table::with_hasher(KeyHasher::fixed(seed));
        for (op, n, bytes) in ops {
            let k = key(n);
            let old = model.get(&k).cloned();
            match op {
                0..=2 => {
                    let is_beside = table.get(&k).is_some_and(Str::is_beside);
                    let before = table.put(table.hash(&k), &k, New::with_bytes(Str::new(), &bytes), |seen| {
                        assert_eq!(seen.map(|(string, _)| string.to_vec()), old);
                    });
                    match before {
                        Before::Nothing => prop_assert_eq!(old, None),
                        Before::Gone => prop_assert!(is_beside),
                        Before::Value(string) => prop_assert_eq!(Some(string.to_vec()), old),
                    }
                    let is_beside = (14..=BESIDE_BYTES_MAX).contains(&bytes.len());
                    prop_assert_eq!(table.get(&k).map(Str::is_beside), Some(is_beside));
                    model.insert(k.clone(), bytes);
                }
                3 => {
                    let replaced = table.insert(&k, Str::from_bytes(&bytes));
                    prop_assert_eq!(replaced.map(|string| string.to_vec()), model.insert(k.clone(), bytes));
                }
                4 => {
                    let removed = table.remove(&k).map(|string| (string.to_vec(), string.into_value().to_vec()));
                    prop_assert_eq!(removed, model.remove(&k).map(|string| (string.clone(), string)));
                }
                5 => prop_assert_eq!(table.remove(&k).is_some(), model.remove(&k).is_some()),
                6 => {
                    let (string, is_new) = table.get_or_insert_with(&k, || Str::from_bytes(&bytes));
                    prop_assert_eq!(is_new, old.is_none());
                    string.append(b"more");
                    model.entry(k.clone()).or_insert(bytes).extend(b"more");
                }
                7 => {
                    if let Some(string) = table.get_mut(&k) {
                        let taken = std::mem::replace(string, Str::from_bytes(&bytes));
                        prop_assert_eq!(taken.to_vec(), model.insert(k.clone(), bytes).unwrap());
                    }
                }
                _ => {
                    // Nothing is changed: the string has room of its own from then on.
                    let encoding = table.get(&k).map(Str::encoding);
                    prop_assert_eq!(table.get_mut(&k).map(|string| string.encoding()), encoding);
                    prop_assert!(!table.get(&k).is_some_and(Str::is_beside));
                }
            }
            prop_assert_eq!(table.get(&k).map(Str::to_vec), model.get(&k).cloned());
            prop_assert_eq!(table.len(), model.len());
        }
        check_shape(&table);
        for table in [&table, &table.clone()] {
            let all: HashMap<Vec<u8>, Vec<u8>> = table.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(&all, &model);
        }
    }
}
