//! Hash slots: where a key lives, as Redis Cluster counts them.
//!
//! SOURCE: Redis cluster specification, "Key distribution model" and "Hash tags".

use memchr::memchr;

/// Slots in a keyspace.
pub const SLOT_COUNT: u16 = 16_384;

/// Bytes of a key that are taken at once.
const STRIDE: usize = 8;

/// CRC-16/XMODEM: `CRC16[zeros][byte]` is that of `byte` and so many zero bytes behind it. So the bytes of
/// a stride need not wait for one another.
static CRC16: [[u16; 256]; STRIDE] = {
    let mut tables = [[0u16; 256]; STRIDE];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < STRIDE {
        let mut byte = 0;
        while byte < 256 {
            let shorter = tables[zeros - 1][byte];
            tables[zeros][byte] = (shorter << 8) ^ tables[0][(shorter >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
};

fn crc16(bytes: &[u8]) -> u16 {
    let (strides, rest) = bytes.as_chunks::<STRIDE>();
    let mut crc = 0u16;
    for [a, b, others @ ..] in strides {
        let [high, low] = crc.to_be_bytes();
        crc = CRC16[7][usize::from(a ^ high)] ^ CRC16[6][usize::from(b ^ low)];
        for (zeros, byte) in others.iter().rev().enumerate() {
            crc ^= CRC16[zeros][usize::from(*byte)];
        }
    }
    rest.iter().fold(crc, |crc, b| (crc << 8) ^ CRC16[0][usize::from((crc >> 8) as u8 ^ b)])
}

/// Whether a byte may be in the key; where it says no, it is not. Keys are short, and nearly all are without a brace: a
/// call of `memchr` takes four times as long.
fn may_hold(byte: u8, key: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    // One of the eight bytes is zero where taking one away borrows from its highest bit.
    let has_it = |stride: &[u8; STRIDE]| {
        let zero_where_equal = u64::from_ne_bytes(*stride) ^ (ONES * u64::from(byte));
        zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & (ONES << 7) != 0
    };
    let Some(last) = key.last_chunk() else { return key.contains(&byte) };
    key.as_chunks().0.iter().any(has_it) || has_it(last)
}

/// The slot of a key: of the part between its first `{` and the next `}` where that is not empty,
/// else of the whole.
pub fn slot_of(key: &[u8]) -> u16 {
    if !may_hold(b'{', key) {
        return crc16(key) % SLOT_COUNT;
    }
    let hashed = match memchr(b'{', key) {
        Some(open) => match memchr(b'}', &key[open + 1..]) {
            Some(len) if len > 0 => &key[open + 1..open + 1 + len],
            _ => key,
        },
        None => key,
    };
    crc16(hashed) % SLOT_COUNT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // The check value of CRC-16/XMODEM, and two slots from the cluster specification's examples.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), slot_of(b"foo{}{bar}"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }

    #[test]
    fn a_brace_is_seen_wherever_it_stands() {
        let key: Vec<u8> = (0..40).map(|at| [0, b'z', b'|', b'}', 0xff, 0x80, 0xfb][at % 7]).collect();
        for len in 0..key.len() {
            assert!(!may_hold(b'{', &key[..len]), "{len} bytes");
            for at in 0..len {
                let mut with = key[..len].to_vec();
                with[at] = b'{';
                assert!(may_hold(b'{', &with), "{at} of {len} bytes");
            }
        }
    }

    #[test]
    fn strides_count_as_single_bytes_do() {
        let bytes: Vec<u8> = (0..100u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 0..bytes.len() {
            let one_by_one = bytes[..len]
                .iter()
                .fold(0u16, |crc, b| (crc << 8) ^ CRC16[0][usize::from((crc >> 8) as u8 ^ b)]);
            assert_eq!(crc16(&bytes[..len]), one_by_one, "{len} bytes");
        }
    }
}
