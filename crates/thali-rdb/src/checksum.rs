//! The checksum of files and payloads: CRC-64 with the polynomial of Jones, reflected, from 0.
//!
//! SOURCE: redis 7.0 `crc64.c`. The arithmetic is crc-fast's, which uses the CPU's carry-less products.

use crc_fast::{CrcAlgorithm, Digest};

/// A running checksum over all bytes of a file from the first one on.
#[derive(Clone)]
pub struct Checksum(Digest);

impl Checksum {
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Redis))
    }

    /// Goes on over the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of what was seen so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }

    /// The checksum of these bytes alone.
    pub fn of(bytes: &[u8]) -> u64 {
        crc_fast::checksum(CrcAlgorithm::Crc64Redis, bytes)
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_redis() {
        // SOURCE: redis 7.0 `crc64.c`, `crc64Test`.
        assert_eq!(Checksum::of(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(Checksum::of(b""), 0);
    }

    #[test]
    fn pieces_sum_up() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n * 7) as u8).collect();
        let mut running = Checksum::new();
        bytes.chunks(333).for_each(|piece| running.update(piece));
        assert_eq!(running.value(), Checksum::of(&bytes));
    }
}
