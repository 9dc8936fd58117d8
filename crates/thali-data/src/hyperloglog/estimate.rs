//! From an element to its register, and from the registers to an estimate. All numbers are computed in Redis's
//! order, so that the estimates are equal to the last digit.

use super::REGISTERS;

/// Bits of the hash that name the register; the others propose its value.
const INDEX_BITS: u32 = REGISTERS.trailing_zeros();
const VALUE_BITS: u32 = 64 - INDEX_BITS;
/// SOURCE: Redis 7.2 `hyperloglog.c`, hllPatLen.
const SEED: u64 = 0xadc8_3b19;
/// 0.5 / ln 2
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// The register of an element, and the value that it proposes: how many bits of the hash it takes to see a one,
/// counted from the lowest behind the register's number.
pub(super) fn register_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur_64a(element, SEED);
    let zeros = (hash >> INDEX_BITS | 1 << VALUE_BITS).trailing_zeros();
    (hash as usize % REGISTERS, zeros as u8 + 1)
}

/// MurmurHash64A over little-endian words.
/// SOURCE: Austin Appleby's MurmurHash2, which is in the public domain.
fn murmur_64a(bytes: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let fold = |n: u64| n ^ n >> 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = fold(u64::from_le_bytes(*word).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    }
    fold(fold(hash).wrapping_mul(FACTOR))
}

/// How many registers have each value.
#[derive(Clone, Debug)]
pub(super) struct Histogram([u32; 64]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Histogram {
    pub fn add(&mut self, value: u8, registers: usize) {
        self.0[usize::from(value) % 64] += registers as u32;
    }

    /// The estimate. Values that no hash proposes, which only a forged string has, are not looked at.
    pub fn count(&self) -> u64 {
        let m = REGISTERS as f64;
        let share = |registers: f64| registers / m;
        let mut z = m * tau(share(m - f64::from(self.0[VALUE_BITS as usize + 1])));
        for value in (1..=VALUE_BITS as usize).rev() {
            z = (z + f64::from(self.0[value])) * 0.5;
        }
        z += m * sigma(share(f64::from(self.0[0])));
        let estimate = (ALPHA * m * m / z).round();
        // What C's llroundl gives on x86-64 for an infinity, which only forged registers lead to.
        if estimate.is_finite() { estimate as i64 as u64 } else { i64::MIN as u64 }
    }
}

/// SOURCE: Ertl, equation for σ.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        let before = z;
        x *= x;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// SOURCE: Ertl, equation for τ.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        let before = z;
        x = x.sqrt();
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SOURCE: SMHasher's verification value for MurmurHash2 in its 64-bit form.
    #[test]
    fn the_hash_passes_smhashers_verification() {
        let key: Vec<u8> = (0..=255).collect();
        let hashes: Vec<u8> =
            (0..256).flat_map(|len| murmur_64a(&key[..len], 256 - len as u64).to_le_bytes()).collect();
        assert_eq!(murmur_64a(&hashes, 0) as u32, 0x1F0D_3804);
    }

    #[test]
    fn nothing_seen_is_zero_and_impossible_registers_are_no_panic() {
        let count = |value, registers| {
            let mut histogram = Histogram::default();
            histogram.add(value, registers);
            histogram.count()
        };
        assert_eq!(count(0, REGISTERS), 0);
        assert_eq!(count(63, REGISTERS), 1 << 63);
        assert_eq!(count(0, 0), 1 << 63);
        assert!(count(51, REGISTERS) > 1 << 60);
    }
}
