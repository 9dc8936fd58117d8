//! The `cjson` library: JSON for scripts, byte for byte as Redis's lua-cjson 2.1 writes it, except that the
//! keys of an object come in LuaJIT's order.
//!
//! Options last for one run: what a script sets does not reach the next one. `cjson.new` is not there.
//! SOURCE: the lua-cjson 2.1 manual; corner cases checked against redis-server 7.0.

mod decode;
mod encode;

use std::ffi::c_int;

use crate::lua::{Outcome, REGISTRY, Raise, Stack, Type, native};

/// Registry slot of the metatable that marks decoded arrays, if a script wants them marked.
const ARRAY_METATABLE: c_int = 3;

/// What happens to numbers that JSON cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InvalidNumbers {
    Refuse,
    Allow,
    Null,
}

/// The options of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    sparse_convert: bool,
    /// 0 allows any gap.
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth_max: i32,
    decode_depth_max: i32,
    /// Significant digits, 1 to 14.
    precision: i32,
    keep_buffer: bool,
    encode_invalid: InvalidNumbers,
    decode_invalid: bool,
    mark_arrays: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: 1_000,
            decode_depth_max: 1_000,
            precision: 14,
            keep_buffer: true,
            encode_invalid: InvalidNumbers::Refuse,
            decode_invalid: true,
            mark_arrays: false,
        }
    }
}

/// Puts everything into the table on top. May raise.
pub(crate) fn register(stack: Stack<'_>) {
    for (name, function) in [
        ("encode", native(encode::encode)),
        ("decode", native(decode::decode)),
        ("encode_sparse_array", native(sparse_array)),
        ("encode_max_depth", native(encode_max_depth)),
        ("decode_max_depth", native(decode_max_depth)),
        ("encode_number_precision", native(number_precision)),
        ("encode_keep_buffer", native(keep_buffer)),
        ("encode_invalid_numbers", native(encode_invalid_numbers)),
        ("decode_invalid_numbers", native(decode_invalid_numbers)),
        ("decode_array_with_array_mt", native(mark_arrays)),
    ] {
        stack.set_function(name, function);
    }
    stack.push_null_pointer();
    stack.set_field(-2, "null");
    stack.push_bytes(b"cjson");
    stack.set_field(-2, "_NAME");
    stack.push_bytes(b"2.1.0");
    stack.set_field(-2, "_VERSION");
    // Sealed, because all scripts share it.
    stack.push_table(0, 1);
    stack.push_boolean(false);
    stack.set_field(-2, "__metatable");
    stack.raw_set_index(REGISTRY, ARRAY_METATABLE);
}

/// Changes the run's options by `change`, which reads the arguments.
fn configure(
    stack: Stack<'_>,
    arguments_max: c_int,
    change: impl FnOnce(&mut Config) -> Result<(), Raise>,
) -> Result<Config, Raise> {
    if stack.top() > arguments_max {
        return Err(stack.argument_error(arguments_max + 1, "found too many arguments"));
    }
    let mut config = stack.context().json.get();
    change(&mut config)?;
    stack.context().json.set(config);
    Ok(config)
}

/// Reads an optional integer argument into `value`.
fn read_integer(stack: Stack<'_>, index: c_int, low: i32, high: i32, value: &mut i32) -> Result<(), Raise> {
    if matches!(stack.kind(index), Type::None | Type::Nil) {
        return Ok(());
    }
    let number = stack.check_i32(index)?;
    if !(low..=high).contains(&number) {
        let message = format_args!("expected integer between {low} and {high}");
        return Err(stack.argument_error(index, message));
    }
    *value = number;
    Ok(())
}

/// Reads an optional boolean argument, or the words on and off.
fn read_boolean(stack: Stack<'_>, index: c_int, value: &mut bool) -> Result<(), Raise> {
    match stack.kind(index) {
        Type::None | Type::Nil => {}
        Type::Boolean => *value = stack.boolean(index),
        _ => match stack.check_bytes(index)? {
            b"on" => *value = true,
            b"off" => *value = false,
            other => return Err(invalid_option(stack, index, other)),
        },
    }
    Ok(())
}

fn invalid_option(stack: Stack<'_>, index: c_int, option: &[u8]) -> Raise {
    stack.argument_error(index, format_args!("invalid option '{}'", option.escape_ascii()))
}

fn sparse_array(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 3, |config| {
        read_boolean(stack, 1, &mut config.sparse_convert)?;
        read_integer(stack, 2, 0, i32::MAX, &mut config.sparse_ratio)?;
        read_integer(stack, 3, 0, i32::MAX, &mut config.sparse_safe)
    })?;
    stack.push_boolean(config.sparse_convert);
    stack.push_number(f64::from(config.sparse_ratio));
    stack.push_number(f64::from(config.sparse_safe));
    Ok(3)
}

fn encode_max_depth(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 1, |c| read_integer(stack, 1, 1, i32::MAX, &mut c.encode_depth_max))?;
    stack.push_number(f64::from(config.encode_depth_max));
    Ok(1)
}

fn decode_max_depth(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 1, |c| read_integer(stack, 1, 1, i32::MAX, &mut c.decode_depth_max))?;
    stack.push_number(f64::from(config.decode_depth_max));
    Ok(1)
}

fn number_precision(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 1, |c| read_integer(stack, 1, 1, 14, &mut c.precision))?;
    stack.push_number(f64::from(config.precision));
    Ok(1)
}

/// Accepted and remembered; the buffer is the interpreter's and bounded by it.
fn keep_buffer(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 1, |c| read_boolean(stack, 1, &mut c.keep_buffer))?;
    stack.push_boolean(config.keep_buffer);
    Ok(1)
}

fn encode_invalid_numbers(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 1, |config| {
        if stack.bytes(1) == Some(b"null") {
            config.encode_invalid = InvalidNumbers::Null;
            return Ok(());
        }
        let mut allowed = config.encode_invalid == InvalidNumbers::Allow;
        let kept = config.encode_invalid == InvalidNumbers::Null && stack.top() == 0;
        read_boolean(stack, 1, &mut allowed)?;
        if !kept {
            config.encode_invalid = if allowed { InvalidNumbers::Allow } else { InvalidNumbers::Refuse };
        }
        Ok(())
    })?;
    match config.encode_invalid {
        InvalidNumbers::Null => stack.push_bytes(b"null"),
        other => stack.push_boolean(other == InvalidNumbers::Allow),
    }
    Ok(1)
}

fn decode_invalid_numbers(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 1, |c| read_boolean(stack, 1, &mut c.decode_invalid))?;
    stack.push_boolean(config.decode_invalid);
    Ok(1)
}

fn mark_arrays(stack: Stack<'_>) -> Outcome {
    let config = configure(stack, 1, |c| read_boolean(stack, 1, &mut c.mark_arrays))?;
    stack.push_boolean(config.mark_arrays);
    Ok(1)
}
