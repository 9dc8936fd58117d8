//! `math.random` and `math.randomseed` as Redis gives them: the same numbers after the same seed, which go on from
//! run to run.
//!
//! SOURCE: POSIX `drand48(3)`: x' = 0x5DEECE66D · x + 0xB modulo 2^48. An interpreter starts at the state that
//! seed 0 gives, unless it is seeded; `lrand48` takes the upper 31 bits.

use crate::lua::{Outcome, Stack, native};

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
const MAX: f64 = i32::MAX as f64;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl Random {
    pub fn seeded(seed: i32) -> Self {
        Self(u64::from(seed as u32) << 16 | 0x330E)
    }

    fn next(&mut self) -> i32 {
        self.0 = (self.0.wrapping_mul(MULTIPLIER) + INCREMENT) & MASK;
        (self.0 >> 17) as i32
    }
}

/// Puts `random` and `randomseed` into the table on top.
pub(crate) fn register(stack: Stack<'_>) {
    stack.set_function("random", native(random));
    stack.set_function("randomseed", native(seed));
}

fn random(stack: Stack<'_>) -> Outcome {
    let mut state = stack.context().random.get();
    let unit = f64::from(state.next() % i32::MAX) / MAX;
    stack.context().random.set(state);
    let value = match stack.top() {
        0 => unit,
        1 => {
            let high = stack.check_i32(1)?;
            if high < 1 {
                return Err(stack.argument_error(1, "interval is empty"));
            }
            (unit * f64::from(high)).floor() + 1.0
        }
        2 => {
            let (low, high) = (stack.check_i32(1)?, stack.check_i32(2)?);
            if low > high {
                return Err(stack.argument_error(2, "interval is empty"));
            }
            (unit * (f64::from(high) - f64::from(low) + 1.0)).floor() + f64::from(low)
        }
        _ => return Err(stack.error("wrong number of arguments")),
    };
    stack.push_number(value);
    Ok(1)
}

fn seed(stack: Stack<'_>) -> Outcome {
    let seed = stack.check_i32(1)?;
    stack.context().random.set(Random::seeded(seed));
    Ok(0)
}
