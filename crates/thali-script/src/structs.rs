//! The `struct` library: `pack`, `unpack` and `size` over C-like formats.
//!
//! Formats: `>` `<` byte order, `![n]` alignment, `x` padding, `b B h H l L` integers of 1, 2 and 8 bytes,
//! `i[n] I[n]` of n bytes (4), `c[n]` n characters (`c0`: all of them, or as many as the number just read),
//! `s` up to a zero byte, `f d` floats, spaces.
//! SOURCE: Roberto Ierusalimschy's struct 0.2 manual; corner cases checked against redis-server 7.0.

use std::ffi::c_int;

use crate::lua::{Outcome, Raise, Stack, Type, native};
use crate::number::{truncate, write_significant};

/// Largest integer, in bytes.
const INTEGER_LEN_MAX: usize = 32;
/// Alignment of a bare `!`.
const ALIGNMENT_DEFAULT: usize = 8;

/// Puts everything into the table on top. May raise.
pub(crate) fn register(stack: Stack<'_>) {
    stack.set_function("pack", native(pack));
    stack.set_function("unpack", native(unpack));
    stack.set_function("size", native(size));
}

/// One option of a format, with its size and the padding before it.
#[derive(Clone, Copy)]
struct Item {
    option: u8,
    size: usize,
    padding: usize,
}

/// Reads a format; plain data, because its users push values.
struct Format<'a> {
    stack: Stack<'a>,
    rest: &'a [u8],
    big_endian: bool,
    alignment: usize,
}

impl<'a> Format<'a> {
    fn new(stack: Stack<'a>) -> Result<Self, Raise> {
        let rest = stack.check_bytes(1)?;
        Ok(Self { stack, rest, big_endian: cfg!(target_endian = "big"), alignment: 1 })
    }

    /// The next option, at `offset` of the data; `None` at the end.
    fn next(&mut self, offset: usize) -> Result<Option<Item>, Raise> {
        let Some((&option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'l' | b'L' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_LEN_MAX {
                    let limit = INTEGER_LEN_MAX;
                    let message = format_args!("integral size {size} is larger than limit of {limit}");
                    return Err(self.stack.error(message));
                }
                size
            }
            _ => 0,
        };
        let padding = match size.min(self.alignment) {
            0 => 0,
            _ if option == b'c' => 0,
            align => (align - (offset & (align - 1))) & (align - 1),
        };
        match option {
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let alignment = self.number(ALIGNMENT_DEFAULT)?;
                if !alignment.is_power_of_two() {
                    return Err(self.stack.error(format_args!("alignment {alignment} is not a power of 2")));
                }
                self.alignment = alignment;
            }
            _ => {}
        }
        Ok(Some(Item { option, size, padding }))
    }

    /// Digits after an option.
    fn number(&mut self, default: usize) -> Result<usize, Raise> {
        let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let value = self.rest[..digits]
            .iter()
            .try_fold(0i32, |value, &digit| value.checked_mul(10)?.checked_add(i32::from(digit - b'0')));
        self.rest = &self.rest[digits..];
        value.map(|value| value as usize).ok_or_else(|| self.stack.error("integral size overflow"))
    }

    /// Options that stand for no data: known ones pass, others are an error.
    fn check_control(&self, option: u8) -> Result<(), Raise> {
        if matches!(option, b' ' | b'<' | b'>' | b'!') {
            return Ok(());
        }
        Err(self.stack.argument_error(1, format_args!("invalid format option '{}'", option.escape_ascii())))
    }
}

fn pack(stack: Stack<'_>) -> Outcome {
    let mut format = Format::new(stack)?;
    stack.context().scratch.with(|out| {
        out.clear();
        let mut index = 2;
        while let Some(item) = format.next(out.len())? {
            out.resize(out.len() + item.padding, 0);
            pack_item(&format, item, &mut index, out)?;
        }
        Ok(())
    })?;
    stack.push_scratch();
    Ok(1)
}

/// Writes one item from the argument at `index`. Only reads from Lua.
fn pack_item(format: &Format<'_>, item: Item, index: &mut c_int, out: &mut Vec<u8>) -> Result<(), Raise> {
    let stack = format.stack;
    let mut number = || {
        *index += 1;
        stack.check_number(*index - 1)
    };
    let ordered = |bytes: &mut [u8]| {
        if format.big_endian {
            bytes.reverse();
        }
    };
    match item.option {
        b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'i' | b'I' => {
            let value = number()?;
            let value =
                if value < 9_223_372_036_854_775_808.0 { truncate(value) as u64 } else { value as u64 };
            let mut bytes = [0; INTEGER_LEN_MAX];
            bytes[..8].copy_from_slice(&value.to_le_bytes());
            let bytes = &mut bytes[..item.size];
            ordered(bytes);
            out.extend_from_slice(bytes);
        }
        b'x' => out.push(0),
        b'f' => {
            let mut bytes = (number()? as f32).to_le_bytes();
            ordered(&mut bytes);
            out.extend_from_slice(&bytes);
        }
        b'd' => {
            let mut bytes = number()?.to_le_bytes();
            ordered(&mut bytes);
            out.extend_from_slice(&bytes);
        }
        b'c' | b's' => {
            let start = out.len();
            match stack.bytes(*index) {
                Some(text) => out.extend_from_slice(text),
                // What tostring gives, without making a Lua string while the buffer is lent.
                None => write_significant(stack.check_number(*index)?, 14, out),
            }
            *index += 1;
            let len = out.len() - start;
            let size = if item.size == 0 { len } else { item.size };
            if len < size {
                return Err(stack.argument_error(*index, "string too short"));
            }
            out.truncate(start + size);
            if item.option == b's' {
                out.push(0);
            }
        }
        option => format.check_control(option)?,
    }
    Ok(())
}

fn unpack(stack: Stack<'_>) -> Outcome {
    let mut format = Format::new(stack)?;
    let data = stack.check_bytes(2)?;
    let start = match stack.kind(3) {
        Type::None | Type::Nil => 1,
        _ => truncate(stack.check_number(3)?),
    };
    if start == 0 {
        return Err(stack.argument_error(3, "offset must be 1 or greater"));
    }
    stack.set_top(2);
    let short = || stack.argument_error(2, "data string too short");
    // Negative and huge offsets end beyond the data; an empty format gives them back.
    let mut at = start.wrapping_sub(1) as usize;
    while let Some(mut item) = format.next(at)? {
        at = at.checked_add(item.padding).ok_or_else(short)?;
        if item.option == b'c' && item.size == 0 {
            if stack.top() < 3 || !stack.looks_like_number(-1) {
                return Err(stack.error("format 'c0' needs a previous size"));
            }
            item.size = stack.number(-1).max(0.0) as usize;
            stack.pop(1);
        }
        let rest = data.get(at..).ok_or_else(short)?;
        let bytes = rest.get(..item.size).ok_or_else(short)?;
        stack.reserve(2)?;
        at += unpack_item(&format, item, bytes, rest)?;
    }
    stack.reserve(1)?;
    stack.push_number(at.wrapping_add(1) as i64 as f64);
    Ok(stack.top() - 2)
}

/// Pushes the value of one item and says how many bytes it took. May raise.
fn unpack_item(format: &Format<'_>, item: Item, bytes: &[u8], rest: &[u8]) -> Result<usize, Raise> {
    let stack = format.stack;
    match item.option {
        b'b' | b'h' | b'l' | b'i' => stack.push_number(signed(bytes, format.big_endian) as f64),
        b'B' | b'H' | b'L' | b'I' => stack.push_number(unsigned(bytes, format.big_endian) as f64),
        b'x' => {}
        b'f' => stack.push_number(f64::from(f32::from_bits(unsigned(bytes, format.big_endian) as u32))),
        b'd' => stack.push_number(f64::from_bits(unsigned(bytes, format.big_endian))),
        b'c' => stack.push_bytes(bytes),
        b's' => {
            let Some(len) = rest.iter().position(|&b| b == 0) else {
                return Err(stack.error("unfinished string in data"));
            };
            stack.push_bytes(&rest[..len]);
            return Ok(len + 1);
        }
        option => format.check_control(option)?,
    }
    Ok(item.size)
}

/// The low 64 bits.
fn unsigned(bytes: &[u8], big_endian: bool) -> u64 {
    let add = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
    let len = bytes.len();
    if big_endian {
        bytes[len.saturating_sub(8)..].iter().fold(0, add)
    } else {
        bytes[..len.min(8)].iter().rev().fold(0, add)
    }
}

fn signed(bytes: &[u8], big_endian: bool) -> i64 {
    let unused = 64 - 8 * bytes.len().clamp(1, 8) as u32;
    ((unsigned(bytes, big_endian) << unused) as i64) >> unused
}

fn size(stack: Stack<'_>) -> Outcome {
    let mut format = Format::new(stack)?;
    let mut total = 0usize;
    while let Some(item) = format.next(total)? {
        if item.option == b's' {
            return Err(stack.argument_error(1, "option 's' has no fixed size"));
        }
        if item.option == b'c' && item.size == 0 {
            return Err(stack.argument_error(1, "option 'c0' has no fixed size"));
        }
        // Letters that are no option pass, as in Redis.
        if !item.option.is_ascii_alphanumeric() {
            format.check_control(item.option)?;
        }
        total += item.padding + item.size;
    }
    stack.push_number(total as f64);
    Ok(1)
}
