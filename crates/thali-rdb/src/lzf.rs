//! LZF, the compression of long strings in RDB: literals and references to what stands up to 8 KiB back.
//!
//! ```text
//! 000nnnnn                     n + 1 literal bytes follow
//! nnnooooo oooooooo            n = 1 to 6: copy n + 2 bytes from o + 1 bytes back
//! 111ooooo nnnnnnnn oooooooo   copy n + 9 bytes from o + 1 bytes back
//! ```
//! SOURCE: liblzf 3.6 `lzf.h` and `lzf_d.c`, for the format.

use crate::error::PartFault;

const LITERALS_MAX: usize = 32;
const COPY_MIN: usize = 3;
const COPY_MAX: usize = 264;
const DISTANCE_MAX: usize = 1 << 13;
/// Slots that remember where three bytes were last seen: 64 KiB.
const SLOTS_LOG2: u32 = 14;

/// Compresses strings, and keeps its table from one to the next.
#[derive(Clone)]
pub(crate) struct Compressor {
    /// Positions, counted over all strings since the table was cleared; those below `base` are of older
    /// strings. INVARIANT: no position reaches `base` + the length of the string in hand.
    slots: Box<[u32]>,
    base: u32,
}

impl Compressor {
    pub fn new() -> Self {
        Self { slots: vec![0; 1 << SLOTS_LOG2].into_boxed_slice(), base: 1 }
    }

    /// Appends the compressed form if that saves at least four bytes; else appends nothing and says false.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(saved) = input.len().checked_sub(4) else { return false };
        let Ok(len) = u32::try_from(input.len()) else { return false };
        let base = match self.base.checked_add(len) {
            Some(next) => std::mem::replace(&mut self.base, next),
            None => {
                self.slots.fill(0);
                self.base = 1u32.saturating_add(len);
                1
            }
        };
        let start = out.len();
        if self.run(input, base, out, start + saved) {
            return true;
        }
        out.truncate(start);
        false
    }

    fn run(&mut self, input: &[u8], base: u32, out: &mut Vec<u8>, out_len_max: usize) -> bool {
        let mut literals_at = 0;
        let mut at = 0;
        while at + COPY_MIN <= input.len() {
            let slot = slot_of(&input[at..at + COPY_MIN]);
            let seen = std::mem::replace(&mut self.slots[slot], base + at as u32);
            let copied = seen.checked_sub(base).and_then(|seen| copy_len(input, seen as usize, at));
            let Some((distance, len)) = copied else {
                at += 1;
                if out.len() + (at - literals_at) > out_len_max {
                    return false;
                }
                continue;
            };
            push_literals(out, &input[literals_at..at]);
            push_copy(out, distance, len);
            if out.len() > out_len_max {
                return false;
            }
            at += len;
            literals_at = at;
        }
        push_literals(out, &input[literals_at..]);
        out.len() <= out_len_max
    }
}

fn slot_of(bytes: &[u8]) -> usize {
    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    (word.wrapping_mul(0x9E37_79B1) >> (32 - SLOTS_LOG2)) as usize
}

/// Distance and length of the match, where `seen` is close enough and at least three bytes are alike.
fn copy_len(input: &[u8], seen: usize, at: usize) -> Option<(usize, usize)> {
    let distance = at - seen;
    if distance > DISTANCE_MAX || input[seen..seen + COPY_MIN] != input[at..at + COPY_MIN] {
        return None;
    }
    let most = (input.len() - at).min(COPY_MAX);
    let alike = (COPY_MIN..most).take_while(|n| input[seen + n] == input[at + n]).count();
    Some((distance, COPY_MIN + alike))
}

fn push_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn push_copy(out: &mut Vec<u8>, distance: usize, len: usize) {
    let (offset, len) = (distance - 1, len - 2);
    let high = (offset >> 8) as u8;
    if len < 7 {
        out.push((len as u8) << 5 | high);
    } else {
        out.extend_from_slice(&[7 << 5 | high, (len - 7) as u8]);
    }
    out.push(offset as u8);
}

/// The original of `len` bytes. Memory is taken as the input justifies it: three bytes give at most 264.
pub(crate) fn decompress(input: &[u8], len: u64) -> Result<Vec<u8>, PartFault> {
    let fault = |at, expected| PartFault { part: "compressed string", at, expected };
    let most = (input.len() as u64).saturating_mul(COPY_MAX as u64 / 3);
    if len > most {
        return Err(fault(0, "a length that so few bytes can unfold to"));
    }
    let len = len as usize;
    let mut out = Vec::with_capacity(len);
    let mut at = 0;
    while at < input.len() {
        let here = at;
        let control = input[at];
        at += 1;
        if control < LITERALS_MAX as u8 {
            let run = input.get(at..at + control as usize + 1);
            let run = run.ok_or(fault(here, "as many literal bytes as announced"))?;
            if out.len() + run.len() > len {
                return Err(fault(here, "no more bytes than the length announced"));
            }
            out.extend_from_slice(run);
            at += run.len();
            continue;
        }
        let mut next = || {
            let byte = input.get(at).copied().ok_or(fault(here, "the rest of a reference"));
            at += 1;
            byte
        };
        let count = match control >> 5 {
            7 => 9 + next()? as usize,
            count => 2 + count as usize,
        };
        let distance = ((control as usize & 0x1F) << 8 | next()? as usize) + 1;
        let from = out.len().checked_sub(distance);
        let from = from.ok_or(fault(here, "a reference to bytes that were there"))?;
        if out.len() + count > len {
            return Err(fault(here, "no more bytes than the length announced"));
        }
        if distance >= count {
            out.extend_from_within(from..from + count);
        } else {
            (0..count).for_each(|n| out.push(out[from + n]));
        }
    }
    if out.len() < len {
        return Err(fault(at, "as many bytes as the length announced"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(compressor: &mut Compressor, input: &[u8]) -> Option<usize> {
        let mut out = b"before".to_vec();
        if !compressor.compress(input, &mut out) {
            assert_eq!(out, b"before");
            return None;
        }
        let packed = &out[6..];
        assert!(packed.len() + 4 <= input.len());
        assert_eq!(decompress(packed, input.len() as u64).unwrap(), input);
        Some(packed.len())
    }

    #[test]
    fn repetition_shrinks_and_noise_stays() {
        let mut compressor = Compressor::new();
        assert!(round_trip(&mut compressor, &[b'a'; 10_000]).unwrap() < 150);
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        assert_eq!(round_trip(&mut compressor, &noise), None);
        assert_eq!(round_trip(&mut compressor, b"abc"), None);
    }

    #[test]
    fn positions_of_older_strings_are_not_taken_for_new_ones() {
        let mut compressor = Compressor::new();
        compressor.base = u32::MAX - 100;
        for _ in 0..10 {
            round_trip(&mut compressor, b"abcabcabcabcabcabcabcabcabcabc").unwrap();
        }
    }

    #[test]
    fn hostile_lengths_are_refused() {
        for (input, len) in [(&b""[..], 1), (b"\0a", 1 << 40), (b"\0a", 2), (b"\x05a", 6), (b"\xE0\xFF", 300)]
        {
            assert!(decompress(input, len).is_err(), "{input:?} {len}");
        }
        assert!(decompress(b"\0a\x20\x05", 4).is_err(), "a reference to before the start");
        assert_eq!(decompress(b"\0a\x20\x00", 4).unwrap(), b"aaaa");
    }

    proptest! {
        #[test]
        fn whatever_shrinks_unfolds(
            seeds in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), 1usize..30), 0..20),
        ) {
            let input: Vec<u8> = seeds.iter().flat_map(|(bytes, times)| bytes.repeat(*times)).collect();
            round_trip(&mut Compressor::new(), &input);
        }

        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..200), len in 0u64..3000) {
            if let Ok(out) = decompress(&input, len) {
                prop_assert_eq!(out.len() as u64, len);
            }
        }
    }
}
