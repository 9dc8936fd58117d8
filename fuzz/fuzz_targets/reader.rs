//! Any bytes as an RDB file: read or refused with a place within them.
//!
//! The first byte says which version's header stands before the others, or that they bring their own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thali_data::Limits;
use thali_rdb::inspect;

fuzz_target!(|input: &[u8]| {
    let [choice, bytes @ ..] = input else { return };
    let header = match choice % 16 {
        version @ 1..=13 => format!("REDIS00{version:02}"),
        _ => String::new(),
    };
    let file = &[header.as_bytes(), bytes].concat()[..];
    if let Ok(summary) = inspect(file, &Limits::default()) {
        assert!(summary.intact_bytes <= file.len() as u64);
        if let Some(damage) = summary.damage {
            assert!(damage.offset <= file.len() as u64);
            return;
        }
        assert!(summary.bytes <= file.len() as u64);
    }
});
