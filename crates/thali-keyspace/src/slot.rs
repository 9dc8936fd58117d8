//! Hash slots: where a key lives, as Redis Cluster counts them.
//!
//! SOURCE: Redis cluster specification, "Key distribution model" and "Hash tags".

use memchr::memchr;

/// Slots in a keyspace.
pub const SLOT_COUNT: u16 = 16_384;

/// CRC-16/XMODEM, one table step a byte.
const CRC16: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The slot of a key: of the part between its first `{` and the next `}` where that is not empty,
/// else of the whole.
pub fn slot_of(key: &[u8]) -> u16 {
    let hashed = match memchr(b'{', key) {
        Some(open) => match memchr(b'}', &key[open + 1..]) {
            Some(len) if len > 0 => &key[open + 1..open + 1 + len],
            _ => key,
        },
        None => key,
    };
    let crc = hashed.iter().fold(0u16, |crc, &b| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ b)]);
    crc % SLOT_COUNT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // The check value of CRC-16/XMODEM, and two slots from the cluster specification's examples.
        assert_eq!(slot_of(b"123456789"), 0x31c3 % SLOT_COUNT);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), slot_of(b"foo{}{bar}"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }
}
