//! How fast records are encoded, cut and decoded on one core: `cargo run --release --example speed`.

use std::time::Instant;

use thali_data::{Hash, Item, Limits, Str};
use thali_keyspace::{Typed, Value};
use thali_rdb::{Checksum, Encoder, KeyMeta, Reader, Record, Version};

const KEYS: usize = 2_000_000;

fn main() {
    let limits = Limits::default();
    let mut hash = Hash::new();
    for n in 0..8 {
        hash.set(format!("field{n}").as_bytes(), Item::parse(format!("some value {n}").as_bytes()), &limits);
    }
    let values: [(&str, Value); 3] = [
        ("strings of 16 bytes", Str::from(&b"0123456789abcdef"[..]).into_value()),
        ("strings of 1 KiB", Str::from(&[b"{\"a\":1,\"b\":", &[b'x'; 1000][..]].concat()[..]).into_value()),
        ("hashes of 8 fields", hash.into_value()),
    ];
    for (name, value) in &values {
        for mut encoder in [Encoder::uncompressed(Version::V10), Encoder::new(Version::V10)] {
            run(name, value, &mut encoder, &limits);
        }
    }
}

fn run(name: &str, value: &Value, encoder: &mut Encoder, limits: &Limits) {
    let (mut file, mut checksum) = (Vec::new(), Checksum::new());
    let start = Instant::now();
    encoder.header(&mut file);
    encoder.select_db(&mut file, 0);
    for n in 0..KEYS {
        encoder.key(&mut file, format!("key:{n:012}").as_bytes(), value, KeyMeta::default());
    }
    let encoded = start.elapsed();
    checksum.update(&file);
    encoder.end(&mut file, Some(checksum));
    let cut = read(&file, |_| {});
    let decoded = read(&file, |record| drop(record.value(limits).expect("was just written")));
    let rate = |elapsed: std::time::Duration| KEYS as f64 / elapsed.as_secs_f64() / 1e6;
    println!(
        "{name}, {} MB: encoded {:.2}, cut {:.2}, cut and decoded {:.2} million keys a second",
        file.len() >> 20,
        rate(encoded),
        rate(cut),
        rate(decoded)
    );
}

fn read(file: &[u8], mut see: impl FnMut(&thali_rdb::KeyRecord<'_>)) -> std::time::Duration {
    let start = Instant::now();
    let mut reader = Reader::new(file).expect("was just written");
    loop {
        match reader.next().expect("was just written") {
            Record::Key(record) => see(&record),
            Record::End { .. } => return start.elapsed(),
            _ => {}
        }
    }
}
