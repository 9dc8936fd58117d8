//! What a key of the table costs: nanoseconds for each operation and bytes for each key.
//! `cargo run --release -p thali-data --example table_cost [keys]`

use std::hint::black_box;
use std::time::Instant;

use thali_data::{Stored, Table};

#[expect(dead_code, reason = "only its size counts")]
struct Value([u64; 3]);

impl Stored for Value {}

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let digits = format!("{n:012}");
    key[4..].copy_from_slice(digits.as_bytes());
    key
}

/// A random order without a list: an odd multiplier permutes a power of two.
fn shuffled(i: u64, len: u64) -> u64 {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & (len - 1)
}

fn main() {
    let keys: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1 << 22);
    let keys = keys.next_power_of_two();
    let mut table: Table<Value> = Table::new();
    let mut longest = std::time::Duration::ZERO;
    let timed = |name: &str, f: &mut dyn FnMut(u64)| {
        let start = Instant::now();
        for i in 0..keys {
            f(i);
        }
        println!("{name:10} {:6.1} ns", start.elapsed().as_nanos() as f64 / keys as f64);
    };
    timed("key", &mut |i| {
        black_box(key(shuffled(i, keys)));
    });
    timed("insert", &mut |i| {
        let k = key(shuffled(i, keys));
        let start = Instant::now();
        table.insert(&k, Value([i; 3]));
        longest = longest.max(start.elapsed());
    });
    println!("longest insert {longest:?}");
    let entries = keys as usize * (24 + 1 + 16);
    println!(
        "bytes a key beside value, key and length: {:.1}",
        (table.memory_bytes() - entries) as f64 / keys as f64
    );
    timed("hit", &mut |i| {
        black_box(table.get(&key(shuffled(i * 3, keys))).expect("inserted"));
    });
    timed("miss", &mut |i| {
        black_box(table.get(&key(i + keys)).is_none());
    });
    timed("replace", &mut |i| {
        table.insert(&key(shuffled(i * 5, keys)), Value([i; 3]));
    });
    let start = Instant::now();
    let (mut cursor, mut seen) = (0, 0u64);
    loop {
        cursor = table.scan(cursor, 100, |_, _| seen += 1);
        if cursor == 0 {
            break;
        }
    }
    println!("{:10} {:6.1} ns", "scan", start.elapsed().as_nanos() as f64 / seen as f64);
    timed("remove", &mut |i| {
        table.remove(&key(shuffled(i * 7, keys))).expect("inserted");
    });
}
