//! Any bytes as an RDB file: read or refused with a place within them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thali_data::Limits;
use thali_rdb::inspect;

fuzz_target!(|file: &[u8]| {
    if let Ok(summary) = inspect(file, &Limits::default()) {
        assert!(summary.intact_bytes <= file.len() as u64);
        if let Some(damage) = summary.damage {
            assert!(damage.offset <= file.len() as u64);
            return;
        }
        assert!(summary.bytes <= file.len() as u64);
    }
});
