//! What PFSELFTEST does: registers beside plain bytes, and estimates beside exact counts.

use super::{Encoding, HyperLogLogMut, REGISTERS, Registers, dense, new_string};

/// How much is tested. Redis's measure takes about a second.
#[derive(Clone, Copy, Debug)]
pub struct SelfTest {
    /// How often all registers are written and read.
    pub rounds: usize,
    /// Elements that are added.
    pub elements: u64,
    /// `hll-sparse-max-bytes`
    pub sparse_bytes_max: usize,
}

impl SelfTest {
    /// SOURCE: Redis 7.2 `hyperloglog.c`, pfselftestCommand.
    pub fn of_redis(sparse_bytes_max: usize) -> Self {
        Self { rounds: 1000, elements: 10_000_000, sparse_bytes_max }
    }
}

/// Runs the test on random numbers from `random`; an error says what failed, in Redis's words.
pub fn self_test(how: SelfTest, mut random: impl FnMut() -> u64) -> Result<(), String> {
    (0..how.rounds).try_for_each(|_| registers_keep_values(&mut random))?;
    estimates_are_near(how, random())
}

fn registers_keep_values(random: &mut impl FnMut() -> u64) -> Result<(), String> {
    let mut registers = [0; dense::BYTES];
    let mut expected = Registers::new();
    for (at, value) in expected.0.iter_mut().enumerate() {
        *value = (random() & 63) as u8;
        dense::raise(&mut registers, at, *value);
    }
    let mut wrong = None;
    dense::each(&registers, |at, value| {
        if value != expected.0[at] {
            wrong = Some((at, value));
        }
    });
    match wrong {
        None => Ok(()),
        Some((at, value)) => {
            Err(format!("TESTFAILED Register {at} should be {} but is {value}", expected.0[at]))
        }
    }
}

/// Sparse and dense agree at 1, 10, 100 … elements, and are off by no more than six standard errors.
fn estimates_are_near(how: SelfTest, seed: u64) -> Result<(), String> {
    let standard_error = 1.04 / (REGISTERS as f64).sqrt();
    let (mut first, mut second) = (new_string(), new_string());
    let corrupt = || "TESTFAILED corrupt".to_owned();
    let mut sparse = HyperLogLogMut::of(&mut first).and_then(Result::ok).ok_or_else(corrupt)?;
    let mut dense = HyperLogLogMut::of(&mut second).and_then(Result::ok).ok_or_else(corrupt)?;
    dense.make_dense();
    let mut checkpoint = 1;
    for n in 1..=how.elements {
        let element = (n ^ seed).to_le_bytes();
        dense.add(&element, how.sparse_bytes_max);
        sparse.add(&element, how.sparse_bytes_max);
        if n < checkpoint {
            continue;
        }
        if n < how.sparse_bytes_max as u64 / 2 && sparse.view().encoding() == Encoding::Dense {
            return Err("TESTFAILED sparse encoding not used".into());
        }
        let count = dense.view().count().map_err(|_| corrupt())?;
        if sparse.view().count() != Ok(count) {
            return Err("TESTFAILED dense/sparse disagree".into());
        }
        // Among ten elements a collision is likely enough to be allowed.
        let most = if n == 10 { 1 } else { (standard_error * 6.0 * n as f64).ceil() as u64 };
        let error = n.abs_diff(count);
        if error > most {
            return Err(format!("TESTFAILED Too big error. card:{n} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    Ok(())
}
