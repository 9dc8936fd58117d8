//! Any bytes as a value behind a right footer: refused, or a value that survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thali_data::Limits;
use thali_rdb::{Checksum, Encoder, Version, restore};

fuzz_target!(|value: &[u8]| {
    let mut payload = value.to_vec();
    payload.extend_from_slice(&11u16.to_le_bytes());
    payload.extend_from_slice(&Checksum::of(&payload).to_le_bytes());
    let Ok(value) = restore(&payload, &Limits::default()) else { return };
    let dump = Encoder::new(Version::V11).dump(&value);
    let again = restore(&dump, &Limits::default()).expect("what was written reads back");
    assert_eq!(value.type_name(), again.type_name());
    assert_eq!(Encoder::new(Version::V11).dump(&again).len(), dump.len());
});
