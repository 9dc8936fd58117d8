//! What the encoder writes, the reader reads back: every type, every form, with and without compression.

use proptest::prelude::*;
use thali_data::hash::TIME_MAX_UNIX_MS;
use thali_data::list::End;
use thali_data::stream::{Pending, StreamId};
use thali_data::{Hash, Item, Limits, List, Set, SortedSet, Str, Stream};
use thali_keyspace::{Typed, Value};
use thali_rdb::{Batch, Checksum, ChecksumVerdict, Encoder, KeyMeta, Reader, Record, Version, restore};

mod support;
use support::text_of;

/// A value that a failing test can print.
#[derive(Clone)]
struct Shown(Value);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&text_of(&self.0))
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..40),
        2 => (any::<u8>(), 0usize..300).prop_map(|(byte, len)| vec![byte; len]),
        2 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        2 => any::<i16>().prop_map(|n| n.to_string().into_bytes()),
        1 => (any::<u8>(), 60_000usize..70_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn short() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        any::<i32>().prop_map(|n| n.to_string().into_bytes())
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<i32>().prop_map(f64::from),
        any::<f64>().prop_filter("a number", |score| !score.is_nan()),
        Just(f64::INFINITY),
        Just(-0.0),
    ]
}

fn list() -> impl Strategy<Value = Shown> {
    prop::collection::vec(bytes(), 1..60).prop_map(|elements| {
        let mut list = List::new();
        elements.iter().for_each(|element| list.push(End::Back, element, &Limits::default()));
        Shown(list.into_value())
    })
}

fn set() -> impl Strategy<Value = Shown> {
    let integers = prop::collection::vec(any::<i64>().prop_map(|n| n.to_string().into_bytes()), 1..600);
    prop_oneof![prop::collection::vec(short(), 1..200), integers].prop_map(|members| {
        let mut set = Set::new();
        members.iter().for_each(|member| {
            set.add(member, &Limits::default());
        });
        Shown(set.into_value())
    })
}

fn hash() -> impl Strategy<Value = Shown> {
    let time = prop_oneof![2 => Just(None), 1 => (1..=TIME_MAX_UNIX_MS).prop_map(Some)];
    let fields = |value| prop::collection::vec((short(), value, time.clone()), 1..200);
    (prop_oneof![fields(bytes().boxed()), fields(short().boxed())], any::<bool>()).prop_map(
        |(fields, has_times)| {
            let mut hash = Hash::new();
            for (field, value, at) in fields {
                hash.set(&field, Item::parse(&value), &Limits::default());
                hash.set_time(&field, at.filter(|_| has_times));
            }
            Shown(hash.into_value())
        },
    )
}

fn sorted_set() -> impl Strategy<Value = Shown> {
    prop::collection::vec((short(), score()), 1..200).prop_map(|members| {
        let mut sorted_set = SortedSet::new();
        members.iter().for_each(|(member, score)| {
            sorted_set.insert(member, *score, &Limits::default());
        });
        Shown(sorted_set.into_value())
    })
}

fn stream() -> impl Strategy<Value = Shown> {
    let entry = (0u64..3, 0u64..5, prop::collection::vec(bytes(), 2..4), any::<bool>(), any::<bool>());
    let delivery = (0usize..50, 0u8..3, any::<u32>(), 0u64..4);
    (prop::collection::vec(entry, 0..250), prop::collection::vec(delivery, 0..40)).prop_map(
        |(entries, deliveries)| {
            let mut stream = Stream::new();
            let mut ids = Vec::new();
            for (ms, seq, values, same, deleted) in entries {
                let last = stream.log.last_id();
                let id = StreamId::new(last.ms + ms, if ms == 0 { last.seq + 1 + seq } else { seq });
                let id = id.max(last.next().unwrap());
                let name: &[u8] = if same { b"name" } else { &values[0] };
                stream.log.append(id, &[name, &values[1]], &Limits::default());
                ids.push(id);
                if deleted {
                    stream.log.delete(id);
                }
            }
            stream.create_group(b"idle", StreamId::MIN, None);
            stream.create_group(b"busy", StreamId::new(1, 2), Some(7));
            let group = stream.groups.get_mut(&b"busy"[..]).unwrap();
            for (at, consumer, time, count) in deliveries {
                let name = [b'a' + consumer];
                let number = group.create_consumer(&name, 5).or(group.consumer_no(&name)).unwrap();
                group.consumer_mut(number).active_at_unix_ms = (count > 1).then_some(u64::from(time));
                if let Some(id) = ids.get(at) {
                    let pending =
                        Pending { consumer: number, delivered_at_unix_ms: time.into(), deliveries: count };
                    group.assign(*id, pending);
                }
            }
            Shown(stream.into_value())
        },
    )
}

fn value() -> impl Strategy<Value = Shown> {
    prop_oneof![
        bytes().prop_map(|bytes| Shown(Value::Str(Str::from_bytes(&bytes)))),
        list(),
        set(),
        hash(),
        sorted_set(),
        stream(),
    ]
}

fn meta() -> impl Strategy<Value = KeyMeta> {
    let expire = prop::option::of(0u64..1 << 60);
    (expire, prop::option::of(any::<u64>()), prop::option::of(any::<u8>()))
        .prop_map(|(expire_at_unix_ms, idle_seconds, freq)| KeyMeta { expire_at_unix_ms, idle_seconds, freq })
}

#[derive(Clone)]
struct Key(Vec<u8>, u32, KeyMeta, Value);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} in {}: {:?} {}", self.0, self.1, self.2, text_of(&self.3))
    }
}

fn key() -> impl Strategy<Value = Key> {
    (bytes(), 0u32..20_000, meta(), value()).prop_map(|(name, db, meta, value)| Key(name, db, meta, value.0))
}

fn write(encoder: &mut Encoder, keys: &[Key]) -> Vec<u8> {
    let (mut file, mut checksum) = (Vec::new(), Checksum::new());
    encoder.header(&mut file);
    encoder.aux(&mut file, b"ctime", b"1700000000");
    encoder.function(&mut file, b"#!lua name=l\n");
    for Key(name, db, meta, value) in keys {
        encoder.select_db(&mut file, *db);
        encoder.resize_db(&mut file, 1 << 33, 5);
        encoder.key(&mut file, name, value, *meta);
    }
    checksum.update(&file);
    encoder.end(&mut file, Some(checksum));
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn files_read_back(keys in prop::collection::vec(key(), 0..6), compress: bool) {
        let limits = Limits::default();
        let needed = keys.iter().map(|Key(_, _, _, value)| Version::needed_by(value)).max();
        let version = needed.unwrap_or_default().max(Version::V11);
        let mut encoder = if compress { Encoder::new(version) } else { Encoder::uncompressed(version) };
        let file = write(&mut encoder, &keys);
        let mut reader = Reader::new(&file[..]).unwrap();
        prop_assert_eq!(reader.version(), version.number());
        let mut batch = Batch::new();
        let (mut notes, mut libraries) = (0, 0);
        loop {
            match reader.next().unwrap() {
                Record::Key(key) => batch.push(&key),
                Record::Aux { name, value } => {
                    prop_assert_eq!((&name[..], &value[..]), (&b"ctime"[..], &b"1700000000"[..]));
                    notes += 1;
                }
                Record::Function(code) => {
                    prop_assert_eq!(&code[..], &b"#!lua name=l\n"[..]);
                    libraries += 1;
                }
                Record::SelectDb(_) => {}
                Record::ResizeDb { keys, expiring } => prop_assert_eq!((keys, expiring), (1 << 33, 5)),
                Record::End { checksum } => {
                    prop_assert_eq!(checksum, ChecksumVerdict::Verified);
                    break;
                }
            }
        }
        prop_assert_eq!((notes, libraries, batch.len()), (1, 1, keys.len()));
        prop_assert_eq!(reader.offset(), file.len() as u64);
        for (read, Key(name, db, meta, value)) in batch.iter().zip(&keys) {
            prop_assert_eq!((&read.key[..], read.db, read.meta), (&name[..], *db, *meta));
            prop_assert_eq!(read.type_name(), value.type_name());
            let read = read.value(&limits).unwrap().unwrap();
            prop_assert_eq!(text_of(&read), text_of(value));
        }
    }

    #[test]
    fn dumps_restore(Shown(value) in value()) {
        let payload = Encoder::new(Version::V11).dump(&value);
        let restored = restore(&payload, &Limits::default()).unwrap();
        prop_assert_eq!(text_of(&restored), text_of(&value));
        // Version 10 keeps all but active times.
        let payload = Encoder::new(Version::V10).dump(&value);
        let restored = restore(&payload, &Limits::default()).unwrap();
        if !matches!(value, Value::Stream(_)) {
            prop_assert_eq!(text_of(&restored), text_of(&value));
        }
    }
}

/// Values in every large form, made with a seed.
fn large_values(seed: u64) -> Vec<Value> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let limits = Limits::default();
    let text =
        |rng: &mut fastrand::Rng, n: usize| format!("{n} {}", "x".repeat(rng.usize(..60))).into_bytes();
    let len = rng.usize(4000..9000);
    let (mut list, mut set, mut hash) = (List::default(), Set::default(), Hash::default());
    let (mut sorted_set, mut stream) = (SortedSet::new(), Stream::new());
    for n in 0..len {
        list.push_back(&text(&mut rng, n), &limits);
        set.add(&text(&mut rng, n), &limits);
        hash.set(&text(&mut rng, n), Item::Bytes(&text(&mut rng, n)), &limits);
        sorted_set.insert(&text(&mut rng, n), rng.f64(), &limits);
        let id = thali_data::stream::StreamId::new(n as u64 / 3 + 1, n as u64);
        stream.log.append(id, &[b"field".as_slice(), &text(&mut rng, n)], &limits);
    }
    // What is removed leaves holes.
    for n in (0..len).step_by(3) {
        stream.log.delete(thali_data::stream::StreamId::new(n as u64 / 3 + 1, n as u64));
    }
    let mut timed_hash = hash.clone();
    for (field, _) in hash.iter() {
        timed_hash.set_time(&field.to_vec(), rng.bool().then(|| rng.u64(1..1 << 48)));
    }
    let hashes = [hash.into_value(), timed_hash.into_value()];
    let others = [list.into_value(), set.into_value(), sorted_set.into_value(), stream.into_value()];
    hashes.into_iter().chain(others).collect()
}

#[test]
fn a_value_in_parts_has_the_same_bytes_as_a_whole_one() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        for value in large_values(seed) {
            assert!(thali_rdb::is_large(&value));
            let mut encoder = Encoder::new(Version::default());
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            encoder.key(&mut whole, b"key", &value, KeyMeta::default());
            let mut place = Some(encoder.begin_key(&mut parts, b"key", &value, KeyMeta::default()));
            let mut count = 0;
            while let Some(from) = place {
                place = encoder.part(&mut parts, &value, from, rng.usize(1..700));
                count += 1;
            }
            assert!(count > 2 && whole == parts, "{}, seed {seed}, {count} parts", value.type_name());
            let back = thali_rdb::restore(&encoder.dump(&value), &Limits::default()).unwrap();
            assert_eq!(back.elements_len(), value.elements_len(), "{}, seed {seed}", value.type_name());
        }
    }
}

/// A payload with this version, value and a checksum.
fn payload(version: u16, value: &[u8]) -> Vec<u8> {
    let mut out = [value, &version.to_le_bytes()].concat();
    out.extend_from_slice(&Checksum::of(&out).to_le_bytes());
    out
}

/// SOURCE: redis 7.4 `rdb.c`, `rdbSaveObject` and `rdbLoadObject`; valkey 9.0 `rdb.c`.
#[test]
fn hashes_with_times_read_in_each_form_that_there_is() {
    let listpack = b"\x19\x19\0\0\0\x06\0\x81a\x02\x81v\x02\xF1\x88\x13\x03\x81b\x02\x81w\x02\0\x01\xFF";
    let smallest = 5000u64.to_le_bytes();
    let never = u64::MAX.to_le_bytes();
    let forms: [(u16, Vec<u8>); 6] = [
        (12, [b"\x19", &smallest[..], listpack].concat()),
        (11, [b"\x17", &listpack[..]].concat()),
        (12, [b"\x18", &smallest[..], b"\x02\x01\x01a\x01v\0\x01b\x01w"].concat()),
        (11, b"\x16\x02\x53\x88\x01a\x01v\0\x01b\x01w".to_vec()),
        (12, b"\x16\x02\x53\x88\x01a\x01v\0\x01b\x01w".to_vec()),
        (80, [b"\x16\x02\x01a\x01v", &smallest[..], b"\x01b\x01w", &never].concat()),
    ];
    for (version, form) in forms {
        let value = restore(&payload(version, &form), &Limits::default()).unwrap();
        let mut expected = Hash::new();
        expected.set(b"a", Item::Bytes(b"v"), &Limits::default());
        expected.set(b"b", Item::Bytes(b"w"), &Limits::default());
        expected.set_time(b"a", Some(5000));
        assert_eq!(text_of(&value), text_of(&expected.into_value()), "type {} of {version}", form[0]);
        // What is written is Redis's own form.
        let written = Encoder::uncompressed(Version::V10).dump(&value);
        assert_eq!(written, payload(12, &[b"\x19", &smallest[..], listpack].concat()));
    }
}

#[test]
fn a_hash_that_has_no_times_any_more_is_written_as_any_other() {
    for len in [3, 300] {
        let mut plain = Hash::new();
        for n in 0..len {
            plain.set(format!("f{n}").as_bytes(), Item::Int(n), &Limits::default());
        }
        let mut had_times = plain.clone();
        had_times.set_time(b"f1", Some(5));
        let with_times = Encoder::new(Version::V10).dump(&had_times.clone().into_value());
        assert_eq!(with_times[with_times.len() - 10], 12);
        had_times.set_time(b"f1", None);
        let (had_times, plain) = (had_times.into_value(), plain.into_value());
        let written = Encoder::new(Version::V10).dump(&had_times);
        let expected = Encoder::new(Version::V10).dump(&plain);
        assert_eq!((written[0], written[written.len() - 10]), (expected[0], 10));
        assert_eq!(text_of(&restore(&written, &Limits::default()).unwrap()), text_of(&plain));
    }
}
