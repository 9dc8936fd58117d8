use proptest::prelude::*;

use super::*;

const SPARSE_BYTES_MAX: usize = 3000;

fn string_of(elements: &[u32], sparse_bytes_max: usize) -> Str {
    let mut string = new_string();
    let mut hll = HyperLogLogMut::of(&mut string).unwrap().unwrap();
    for element in elements {
        hll.add(element.to_string().as_bytes(), sparse_bytes_max);
    }
    string
}

fn registers_of(string: &Str) -> Registers {
    let mut registers = Registers::new();
    HyperLogLog::of(string).unwrap().merge_into(&mut registers).unwrap();
    registers
}

fn model_of(elements: &[u32]) -> Registers {
    let mut registers = Registers::new();
    for element in elements {
        let (at, value) = estimate::register_of(element.to_string().as_bytes());
        registers.0[at] = registers.0[at].max(value);
    }
    registers
}

fn string(bytes: &[u8]) -> Str {
    let mut string = Str::new();
    string.append(bytes);
    string
}

#[test]
fn estimates_stay_near_while_sparse_becomes_dense() {
    let (mut string, mut n) = (new_string(), 0u32);
    for checkpoint in [1u32, 10, 100, 1000, 10_000, 100_000] {
        let mut hll = HyperLogLogMut::of(&mut string).unwrap().unwrap();
        while n < checkpoint {
            n += 1;
            hll.add(n.to_string().as_bytes(), SPARSE_BYTES_MAX);
        }
        let view = hll.view();
        assert_eq!(view.encoding() == Encoding::Dense, checkpoint >= 10_000);
        let count = view.count().unwrap();
        assert!(count.abs_diff(checkpoint.into()) <= u64::from(checkpoint) / 25, "{count} of {checkpoint}");
    }
}

#[test]
fn the_kept_count_ends_with_a_change() {
    let mut string = new_string();
    let kept = |string: &Str| HyperLogLog::of(string).unwrap().kept_count();
    assert_eq!(kept(&string), Some(0));
    let mut hll = HyperLogLogMut::of(&mut string).unwrap().unwrap();
    assert!(hll.add(b"a", SPARSE_BYTES_MAX));
    assert_eq!(hll.view().kept_count(), None);
    hll.keep_count(1);
    assert!(!hll.add(b"a", SPARSE_BYTES_MAX));
    assert_eq!(hll.view().kept_count(), Some(1));
    assert!(hll.make_dense());
    assert_eq!(kept(&string), Some(1));
}

#[test]
fn other_strings_are_no_hyperloglogs() {
    let empty = new_string().to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = empty.clone();
        bytes[at] = byte;
        bytes
    };
    let dense = [b"HYLL\0".as_slice(), &[0; DENSE_BYTES - 5]].concat();
    for (bytes, is_one) in [
        (empty.clone(), true),
        (dense.clone(), true),
        (dense[1..].to_vec(), false),
        ([&dense[..], b"x"].concat(), false),
        (empty[..15].to_vec(), false),
        (with(0, b'h'), false),
        (with(4, 2), false),
        (with(4, 0), false),
        (b"12".to_vec(), false),
        (Vec::new(), false),
    ] {
        assert_eq!(
            HyperLogLog::of(&string(&bytes)).is_some(),
            is_one,
            "{}",
            bytes[..5.min(bytes.len())].escape_ascii()
        );
    }
    assert!(HyperLogLog::of(&Str::from_int(7)).is_none());
}

#[test]
fn runs_that_do_not_add_up_are_corrupt() {
    let header = &new_string().to_vec()[..HEADER_BYTES];
    for (runs, is_whole) in [
        (&b"\x7f\xff"[..], true),
        (b"\x7f\xfe", false),
        (b"\x7f\xfe\x00", true),
        (b"\x7f\xfe\x84", true),
        (b"\x7f\xfe\x85", false),
        (b"\x7f\xff\x00", false),
        (b"\x7f\xff\x80", false),
        (b"\x7f", false),
        (b"", false),
    ] {
        let mut string = string(&[header, runs].concat());
        let view = HyperLogLog::of(&string).unwrap();
        assert_eq!(view.count().is_ok(), is_whole, "{runs:?}");
        assert_eq!(view.merge_into(&mut Registers::new()).is_ok(), is_whole, "{runs:?}");
        assert_eq!(view.decode().unwrap().is_ok(), is_whole, "{runs:?}");
        assert_eq!(HyperLogLogMut::of(&mut string).unwrap().is_ok(), is_whole, "{runs:?}");
    }
}

#[test]
fn a_register_beyond_32_makes_it_dense() {
    let mut string = new_string();
    let mut hll = HyperLogLogMut::of(&mut string).unwrap().unwrap();
    assert!(hll.raise(7, 32, SPARSE_BYTES_MAX, &mut sparse::Place::start()));
    assert_eq!(hll.view().encoding(), Encoding::Sparse);
    assert!(hll.raise(7, 33, SPARSE_BYTES_MAX, &mut sparse::Place::start()));
    assert_eq!((hll.view().encoding(), registers_of(&string).0[7]), (Encoding::Dense, 33));
}

#[test]
fn a_short_self_test_passes() {
    let how = SelfTest { rounds: 3, elements: 10_000, sparse_bytes_max: SPARSE_BYTES_MAX };
    let mut n = 7u64;
    let random = || {
        n = n.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        n >> 20
    };
    assert_eq!(self_test(how, random), Ok(()));
}

proptest! {
    #[test]
    fn both_encodings_hold_the_highest_values(elements in prop::collection::vec(0u32..5000, 0..600)) {
        let model = model_of(&elements);
        for sparse_bytes_max in [0, 200, SPARSE_BYTES_MAX] {
            let string = string_of(&elements, sparse_bytes_max);
            prop_assert!(registers_of(&string).0 == model.0);
            let view = HyperLogLog::of(&string).unwrap();
            prop_assert_eq!(view.count(), Ok(model.count()));
            prop_assert!(view.encoding() == Encoding::Dense || string.len() <= sparse_bytes_max.max(18));
            let dense = view.encoding() == Encoding::Dense;
            prop_assert_eq!(dense, sparse_bytes_max < 18 && !elements.is_empty() || string.len() == DENSE_BYTES);
        }
    }

    /// A merge goes on where it was; registers raised one by one begin anew each time.
    #[test]
    fn merging_writes_the_bytes_of_single_steps(
        a in prop::collection::vec(0u32..3000, 0..300),
        b in prop::collection::vec(any::<u32>(), 0..300),
        sparse_bytes_max in prop_oneof![Just(300usize), Just(3000)],
    ) {
        let mut merged = string_of(&a, sparse_bytes_max);
        let mut stepwise = merged.clone();
        let mut registers = model_of(&b);
        HyperLogLog::of(&merged).unwrap().merge_into(&mut registers).unwrap();
        HyperLogLogMut::of(&mut merged).unwrap().unwrap().merge(&registers, sparse_bytes_max);
        let mut hll = HyperLogLogMut::of(&mut stepwise).unwrap().unwrap();
        for (at, value) in registers.iter().enumerate().filter(|(_, value)| *value > 0) {
            hll.raise(at, value, sparse_bytes_max, &mut sparse::Place::start());
        }
        hll.forget_count();
        prop_assert!(merged.to_vec() == stepwise.to_vec());
        prop_assert!(registers_of(&merged).0 == registers.0);
    }

    #[test]
    fn no_bytes_panic(
        encoding in 0u8..3,
        runs in prop::collection::vec(any::<u8>(), 0..200),
        fill in any::<bool>(),
        elements in prop::collection::vec(any::<u32>(), 1..20),
    ) {
        let mut bytes = [b"HYLL", &[encoding; 1][..], &[0; 11], &runs].concat();
        if encoding == 0 {
            bytes.resize(DENSE_BYTES, 0xff);
        } else if fill {
            // Whole runs: what is missing follows as zeroes.
            let mut len = 0;
            let _ = sparse::each(&bytes[HEADER_BYTES..], |run| len += run.len);
            if (1..REGISTERS).contains(&len) {
                let rest = REGISTERS - len - 1;
                bytes.extend([0x40 | (rest >> 8) as u8, rest as u8]);
            }
        }
        let mut string = string(&bytes);
        if let Some(view) = HyperLogLog::of(&string) {
            let counted = view.count();
            prop_assert_eq!(view.merge_into(&mut Registers::new()).is_ok(), counted.is_ok());
            let _ = view.decode();
            let changing = HyperLogLogMut::of(&mut string).unwrap();
            prop_assert_eq!(changing.is_ok(), counted.is_ok());
            if let Ok(mut hll) = changing {
                for element in elements {
                    hll.add(&element.to_le_bytes(), 300);
                    prop_assert!(hll.view().count().is_ok());
                }
            }
        }
    }
}
