//! Damaged bytes: found, with their place; never a panic, never other data than was written.

use thali_data::list::End;
use thali_data::stream::{Pending, StreamId};
use thali_data::{Hash, Item, Limits, List, Set, SortedSet, Str, Stream};
use thali_keyspace::{Typed, Value};
use thali_rdb::{Checksum, Encoder, Error, KeyMeta, Reader, Record, Version, inspect, restore};

mod support;
use support::text_of;

/// Small values of every form.
fn values() -> Vec<Value> {
    let limits = Limits::default();
    let tight = Limits {
        hash_max_listpack_entries: 1,
        set_max_intset_entries: 1,
        set_max_listpack_entries: 1,
        zset_max_listpack_entries: 1,
        list_max_listpack_size: 2,
        ..Limits::default()
    };
    let mut values: Vec<Value> = ["text", "12", "-300", "70000", "5000000000", &"long ".repeat(20)]
        .map(|s| Str::from(s.as_bytes()).into_value())
        .into();
    for limits in [&limits, &tight] {
        let (mut list, mut set, mut hash) = (List::new(), Set::new(), Hash::new());
        let (mut ints, mut sorted_set) = (Set::new(), SortedSet::new());
        for (n, text) in ["a", "17", "-70000", "a longer text"].into_iter().enumerate() {
            list.push(End::Back, text.as_bytes(), limits);
            set.add(text.as_bytes(), limits);
            hash.set(text.as_bytes(), Item::parse(b"value"), limits);
            ints.add_item(Item::Int(n as i64 * 40_000), limits);
            sorted_set.insert(text.as_bytes(), n as f64 * 1.5, limits);
        }
        values.extend([list.into_value(), set.into_value(), hash.into_value(), ints.into_value()]);
        values.push(sorted_set.into_value());
    }
    let mut stream = Stream::new();
    for n in 1..4 {
        let name = if n == 2 { "other" } else { "name" };
        stream.log.append(StreamId::new(5, n), &[name, "value"], &limits);
    }
    stream.create_group(b"g", StreamId::new(5, 2), Some(2));
    let group = stream.groups.get_mut(&b"g"[..]).unwrap();
    let consumer = group.create_consumer(b"alice", 1000).unwrap();
    let pending = Pending { consumer, delivered_at_unix_ms: 999, deliveries: 1 };
    group.assign(StreamId::new(5, 1), pending);
    values.push(stream.into_value());
    values
}

fn sample(with_checksum: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(Version::V11);
    let (mut file, mut checksum) = (Vec::new(), Checksum::new());
    encoder.header(&mut file);
    encoder.aux(&mut file, b"redis-ver", b"7.2.0");
    encoder.select_db(&mut file, 3);
    encoder.resize_db(&mut file, 17, 1);
    for (n, value) in values().iter().enumerate() {
        let expire_at_unix_ms = (n == 0).then_some(33_000_000_000_000);
        let meta = KeyMeta { expire_at_unix_ms, idle_seconds: Some(n as u64), freq: Some(5) };
        encoder.key(&mut file, format!("key {n}").as_bytes(), value, meta);
    }
    checksum.update(&file);
    encoder.end(&mut file, with_checksum.then_some(checksum));
    file
}

/// All keys as text.
fn load(file: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(file)?;
    let mut keys = Vec::new();
    loop {
        match reader.next()? {
            Record::Key(key) => {
                let value = key.value(&Limits::default())?;
                let value = value.as_ref().map(text_of);
                keys.push(format!("{:?} in {}: {:?} {value:?}", key.key, key.db, key.meta));
            }
            Record::End { .. } => return Ok(keys),
            _ => {}
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_is_refused_with_the_place() {
    let file = sample(true);
    assert_eq!(load(&file).unwrap().len(), values().len());
    for len in 0..file.len() {
        let error = load(&file[..len]).unwrap_err();
        assert!(error.offset <= len as u64, "{error}");
        if let Ok(summary) = inspect(&file[..len], &Limits::default()) {
            let damage = summary.damage.unwrap();
            assert_eq!(damage.offset, error.offset);
            // What was whole before the cut is whole in the copy.
            let mut copy = file[..summary.intact_bytes as usize].to_vec();
            copy.extend_from_slice(&summary.tail);
            assert!(load(&file).unwrap().starts_with(&load(&copy).unwrap()));
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_never_other_data() {
    let file = sample(true);
    let whole = load(&file).unwrap();
    let mut unnoticed = Vec::new();
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            match load(&damaged) {
                Ok(keys) => {
                    assert_eq!(keys, whole, "byte {at}, bit {bit}");
                    unnoticed.push((at, bit));
                }
                Err(error) => assert!(error.offset <= file.len() as u64, "{error}"),
            }
        }
    }
    // Version 11 as version 1, which had no checksums yet: the data is the same.
    assert_eq!(unnoticed, [(7, 0)]);
}

#[test]
fn mutations_without_a_checksum_are_read_or_refused() {
    let seed = 20_261_120;
    let mut random = fastrand::Rng::with_seed(seed);
    let file = sample(false);
    let payloads: Vec<Vec<u8>> =
        values().iter().map(|value| Encoder::uncompressed(Version::V11).dump(value)).collect();
    for _ in 0..30_000 {
        let mut damaged = file.clone();
        mutate(&mut damaged, &mut random);
        let _ = load(&damaged);
        let mut payload = payloads[random.usize(..payloads.len())].clone();
        payload.truncate(payload.len() - 8);
        let footer = payload.split_off(payload.len() - 2);
        mutate(&mut payload, &mut random);
        payload.extend(footer);
        payload.extend(Checksum::of(&payload).to_le_bytes());
        if let Ok(value) = restore(&payload, &Limits::default()) {
            // Whatever it is now, it is sound: it survives a round trip.
            let again = Encoder::new(Version::V11).dump(&value);
            let again = restore(&again, &Limits::default()).unwrap();
            assert_eq!(text_of(&again), text_of(&value), "seed {seed}");
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..bytes.len());
        match random.u8(..6) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes[at] = [0, 1, 0x7F, 0x80, 0x81, 0xC3, 0xFE, 0xFF][random.usize(..8)],
            3 if bytes.len() > 1 => drop(bytes.remove(at)),
            4 => bytes.insert(at, random.u8(..)),
            _ => {
                let end = (at + random.usize(1..20)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

#[test]
fn what_cannot_be_held_is_refused_by_name() {
    let file = |version: &str, body: &[u8]| {
        let mut file = version.as_bytes().to_vec();
        file.extend_from_slice(body);
        file.extend_from_slice(b"\xFF\0\0\0\0\0\0\0\0");
        load(&file).unwrap_err().to_string()
    };
    for (version, body, expected) in [
        (
            "REDIS0099",
            &b""[..],
            "at byte 5: version 99 of the format is not known; known are 1 to 12 and Valkey's 80",
        ),
        ("RUBIS0010", b"", "at byte 0: expected the magic and version of an RDB file"),
        (
            "REDIS0012",
            b"\x18\x01k\x05\0\0\0\0\0\0\0\x02\x01\x01f\x01v\0\x01f\x01v",
            "at byte 26: expected a field that the hash does not have yet",
        ),
        (
            "REDIS0012",
            b"\x18\x01k\xFF\xFF\xFF\xFF\xFF\xFF\0\0\x01\x02\x01f\x01v",
            "at byte 21: expected the time of a hash's field, below 2^48",
        ),
        (
            "REDIS0012",
            b"\x17\x01k\x10\x10\0\0\0\x03\0\x81f\x02\x81v\x02\x81t\x02\xFF",
            "at byte 12: damaged listpack: at its byte 6, expected the time of a hash's field, below 2^48",
        ),
        (
            "REDIS0012",
            b"\x17\x01k\x0D\x0D\0\0\0\x02\0\x81f\x02\x81v\x02\xFF",
            "at byte 12: damaged listpack: at its byte 12, expected three elements that belong together",
        ),
        (
            "VALKEY080",
            b"\x16\x01k\x01\x01f\x01v\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            "at byte 13: expected the time of a hash's field, below 2^48",
        ),
        (
            "REDIS0012",
            b"\x80\x01k\0",
            "at byte 9: expected a type of value or an opcode that is known, not 128",
        ),
        (
            "VALKEY080",
            b"\x1A\x01k\0",
            "at byte 9: expected a type of value or an opcode that is known, not 26",
        ),
        (
            "REDIS0010",
            b"\x07\x01k\x81\x81\x76\x40\x53\x20\xB7\x50\x00\0",
            "at byte 9: a value of the module type",
        ),
        ("REDIS0010", b"\xF6\x01x", "at byte 9: functions in the form of a release candidate"),
        ("REDIS0010", b"\xF3", "at byte 9: expected a type of value or an opcode that is known, not 243"),
        (
            "REDIS0010",
            b"\x05\x01k\x01\x01m\0\0\0\0\0\0\xF8\x7F",
            "at byte 15: expected a score that is a number",
        ),
        (
            "REDIS0010",
            b"\x02\x01k\x02\x01m\x01m",
            "at byte 15: expected a member that the set does not have yet",
        ),
        ("REDIS0010", b"\xFC\0\0\0\0\0\0\0\0\xFE\0", "at byte 18: expected the key that expiry"),
    ] {
        let message = file(version, body);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn what_modules_and_clusters_write_beside_the_keys_is_passed_over() {
    let mut file = b"REDIS0011".to_vec();
    // A module's data: number, moment, then one of each part.
    file.extend_from_slice(
        b"\xF7\x81\0\0\0\0\0\0\0\x01\x02\x01\x01\x05\x02\x06\x03abcd\x04abcdefgh\x05\x02hi\0",
    );
    file.extend_from_slice(b"\xFE\0\xF4\x05\x01\0\0\x01k\x01v\xF4\x06\x01\0");
    file.extend_from_slice(b"\xFA\x01a\x01b\xFF\0\0\0\0\0\0\0\0");
    let keys = load(&file).unwrap();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("[107] in 0"), "{keys:?}");
}

#[test]
fn old_files_end_without_a_checksum_and_empty_collections_are_left_out() {
    let file = b"REDIS0003\xFE\0\xFD\0\0\0\x70\0\x01k\x01v\x01\x05empty\0\xFF";
    let mut reader = Reader::new(&file[..]).unwrap();
    assert!(matches!(reader.next().unwrap(), Record::SelectDb(0)));
    let Record::Key(key) = reader.next().unwrap() else { panic!("a key follows") };
    assert_eq!(key.meta.expire_at_unix_ms, Some(0x7000_0000 * 1000));
    let Record::Key(key) = reader.next().unwrap() else { panic!("a key follows") };
    assert!(key.value(&Limits::default()).unwrap().is_none());
    assert!(matches!(reader.next().unwrap(), Record::End { .. }));
}

#[test]
fn what_follows_the_end_stays_with_the_caller() {
    let mut file = sample(true);
    let len = file.len() as u64;
    file.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let mut reader = Reader::new(&file[..]).unwrap();
    while !matches!(reader.next().unwrap(), Record::End { .. }) {}
    assert_eq!(reader.offset(), len);
    let (ahead, rest) = reader.into_rest();
    assert_eq!([&ahead[..], rest].concat(), b"*1\r\n$4\r\nPING\r\n");
}
