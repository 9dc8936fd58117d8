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

type Timed = HashMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn all_of(hash: &Hash) -> Timed {
    hash.iter_timed().map(|(f, v, at)| (f.to_vec(), (v.to_vec(), at))).collect()
}

#[test]
fn the_first_time_brings_the_form_with_times_and_the_last_one_leaves_it() {
    for (len, before, after) in [(3, "listpack", "listpackex"), (200, "hashtable", "hashtable")] {
        let mut hash = Hash::new();
        (0..len).for_each(|n| assert!(set(&mut hash, &format!("f{n}"), "v")));
        assert!(hash.set_time(b"f1", None) && !hash.set_time(b"missing", Some(5)));
        assert_eq!((hash.encoding(), hash.next_time()), (before, None));
        assert!(hash.set_time(b"f1", Some(5)) && hash.set_time(b"f2", Some(3)));
        assert_eq!((hash.encoding(), hash.next_time(), hash.len()), (after, Some(3), len));
        assert!(hash.remove(b"f2"));
        assert_eq!(hash.next_time(), Some(5));
        assert!(hash.set_time(b"f1", None));
        assert_eq!((hash.encoding(), hash.next_time()), (after, None));
    }
}

#[test]
fn a_small_hash_with_times_turns_into_a_table_past_the_same_bounds() {
    let limits = Limits { hash_max_listpack_entries: 4, ..Limits::default() };
    for (field, value) in [("f4", "v".to_owned()), ("f0", "v".repeat(65))] {
        let mut hash = Hash::new();
        (0..4).for_each(|n| assert!(hash.set(format!("f{n}").as_bytes(), Item::parse(b"v"), &limits)));
        hash.set_time(b"f0", Some(9));
        hash.set_time(b"f1", Some(7));
        assert_eq!(hash.encoding(), "listpackex");
        hash.set_keeping_time(field.as_bytes(), Item::parse(value.as_bytes()), &limits);
        assert_eq!((hash.encoding(), hash.next_time()), ("hashtable", Some(7)));
        assert_eq!(hash.get_timed(b"f0").map(|(_, at)| at), Some(Some(9)));
    }
}

#[test]
fn a_hash_is_one_pointer_and_a_small_one_is_its_buffer() {
    assert_eq!(size_of::<Hash>(), size_of::<usize>());
    let mut hash = Hash::new();
    assert_eq!(hash.memory_bytes(), 0);
    for (field, value) in [("name", "x".repeat(32)), ("age", "42".into()), ("city", "Helsinki".into())] {
        hash.set(field.as_bytes(), Item::parse(value.as_bytes()), &Limits::default());
    }
    assert_eq!(hash.memory_bytes(), 64);
}

proptest! {
    #[test]
    fn acts_as_a_hash_map_with_times(
        entries_max in 0usize..20,
        ops in prop::collection::vec((0u8..8, "[a-c0-9]{1,2}", "[a-z0-9]{0,70}", 1u64..30), 0..300),
    ) {
        let limits = Limits { hash_max_listpack_entries: entries_max, ..Limits::default() };
        let mut model = Timed::new();
        let mut hash = Hash::new();
        for (op, field, value, at) in ops {
            let (field, value) = (field.into_bytes(), value.into_bytes());
            match op {
                0 => prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                1 | 2 => {
                    let new = hash.set(&field, Item::Bytes(&value), &limits);
                    prop_assert_eq!(new, model.insert(field.clone(), (value, None)).is_none());
                }
                3 => {
                    let new = hash.set_keeping_time(&field, Item::Bytes(&value), &limits);
                    let at = model.get(&field).and_then(|(_, at)| *at);
                    prop_assert_eq!(new, model.insert(field.clone(), (value, at)).is_none());
                }
                4..7 => {
                    let at = (op < 6).then_some(at);
                    let found = model.get_mut(&field).map(|(_, time)| *time = at).is_some();
                    prop_assert_eq!(hash.set_time(&field, at), found);
                }
                _ => {
                    let expired = model.values().filter(|(_, time)| time.is_some_and(|time| time < at)).count();
                    let removed = hash.remove_expired(at, 3);
                    prop_assert_eq!(removed.len(), expired.min(3));
                    for field in removed {
                        let (_, time) = model.remove(&field).expect("what was removed was there");
                        prop_assert!(time.is_some_and(|time| time < at));
                    }
                }
            }
            let expected = model.get(&field).cloned();
            prop_assert_eq!(hash.get_timed(&field).map(|(value, at)| (value.to_vec(), at)), expected);
            prop_assert_eq!(hash.contains(&field), model.contains_key(&field));
            prop_assert_eq!(hash.len(), model.len());
            prop_assert_eq!(hash.next_time(), model.values().filter_map(|(_, at)| *at).min());
        }
        prop_assert_eq!(&all_of(&hash), &model);
        prop_assert_eq!(&all_of(&hash.clone()), &model);
        let mut scanned = Timed::new();
        let mut cursor = 0;
        loop {
            cursor = hash.scan_timed(cursor, 3, |f, v, at| { scanned.insert(f.to_vec(), (v.to_vec(), at)); });
            if cursor == 0 { break; }
        }
        prop_assert_eq!(&scanned, &model);
        match hash.random(&mut || 5) {
            Some((f, v)) => prop_assert_eq!(model.get(&f.to_vec()).map(|(v, _)| v), Some(&v.to_vec())),
            None => prop_assert!(model.is_empty()),
        }
    }
}
