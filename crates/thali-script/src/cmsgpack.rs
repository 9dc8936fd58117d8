//! The `cmsgpack` library: MessagePack for scripts, byte for byte as Redis's lua-cmsgpack 0.4 writes it.
//!
//! Numbers that are whole and fit 64 bits become integers, of the shortest form; others become floats when
//! nothing is lost, else doubles. A table is an array when its keys are exactly 1 to n (an empty one too), a
//! map otherwise; tables nested deeper than 16 become nil. Binary and extension types are not read.
//! SOURCE: the MessagePack specification; corner cases checked against redis-server 7.0.

use std::ffi::c_int;

use crate::lua::{Outcome, Raise, Stack, Type, native};

/// Tables nested deeper are written as nil.
const PACK_DEPTH_MAX: u32 = 16;

/// Stack slots that one value of nested input takes at most.
const UNPACK_SLOTS: c_int = 4;

/// Puts everything into the table on top. May raise.
pub(crate) fn register(stack: Stack<'_>) {
    for (name, function) in [
        ("pack", native(pack)),
        ("unpack", native(unpack)),
        ("unpack_one", native(unpack_one)),
        ("unpack_limit", native(unpack_limit)),
    ] {
        stack.set_function(name, function);
    }
    for (name, value) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        stack.push_bytes(value.as_bytes());
        stack.set_field(-2, name);
    }
}

fn pack(stack: Stack<'_>) -> Outcome {
    let arguments = stack.top();
    if arguments == 0 {
        return Err(stack.argument_error(0, "MessagePack pack needs input."));
    }
    // Two slots a level for the walk, and the copy of the argument.
    stack.reserve(4 * PACK_DEPTH_MAX as c_int)?;
    stack.context().scratch.with(|out| {
        out.clear();
        for index in 1..=arguments {
            stack.push_copy(index);
            pack_value(stack, out, 0)?;
        }
        Ok(())
    })?;
    stack.push_scratch();
    Ok(1)
}

/// Writes the value on top and pops it. Only reads from Lua.
fn pack_value(stack: Stack<'_>, out: &mut Vec<u8>, depth: u32) -> Result<(), Raise> {
    stack.check_text_len(out.len())?;
    match stack.kind(-1) {
        Type::String => {
            let bytes = stack.bytes(-1).unwrap_or_default();
            match bytes.len() {
                len @ 0..32 => out.push(0xa0 | len as u8),
                len => write_length(out, len, [Some(0xd9), Some(0xda), Some(0xdb)]),
            }
            out.extend_from_slice(bytes);
        }
        Type::Number => pack_number(stack.number(-1), out),
        Type::Boolean => out.push(if stack.boolean(-1) { 0xc3 } else { 0xc2 }),
        Type::Table if depth < PACK_DEPTH_MAX => pack_table(stack, out, depth)?,
        _ => out.push(0xc0),
    }
    stack.pop(1);
    Ok(())
}

/// Writes a header with its length in 8, 16 or 32 bits.
fn write_length(out: &mut Vec<u8>, len: usize, codes: [Option<u8>; 3]) {
    match codes {
        [Some(code), _, _] if len <= 0xff => out.extend_from_slice(&[code, len as u8]),
        [_, Some(code), _] if len <= 0xffff => {
            out.push(code);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        [_, _, code] => {
            out.extend(code);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn pack_number(value: f64, out: &mut Vec<u8>) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if value.floor() == value && (-LIMIT..LIMIT).contains(&value) {
        return pack_integer(value as i64, out);
    }
    let single = value as f32;
    if f64::from(single) == value {
        out.push(0xca);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn pack_integer(value: i64, out: &mut Vec<u8>) {
    let (code, width) = match value {
        0..=0x7f => (None, 1),
        0x80..=0xff => (Some(0xcc), 1),
        0x100..=0xffff => (Some(0xcd), 2),
        0x1_0000..=0xffff_ffff => (Some(0xce), 4),
        0x1_0000_0000.. => (Some(0xcf), 8),
        -32..=-1 => (None, 1),
        -0x80..=-33 => (Some(0xd0), 1),
        -0x8000..=-0x81 => (Some(0xd1), 2),
        -0x8000_0000..=-0x8001 => (Some(0xd2), 4),
        _ => (Some(0xd3), 8),
    };
    out.extend(code);
    out.extend_from_slice(&value.to_be_bytes()[8 - width..]);
}

fn pack_table(stack: Stack<'_>, out: &mut Vec<u8>, depth: u32) -> Result<(), Raise> {
    let table = stack.top();
    let (mut count, mut max, mut is_array) = (0usize, 0.0f64, true);
    stack.push_nil();
    while stack.next(table) {
        stack.pop(1);
        let key = if stack.kind(-1) == Type::Number { stack.number(-1) } else { 0.0 };
        is_array &= key >= 1.0 && key.floor() == key;
        max = max.max(key);
        count += 1;
    }
    if is_array && max == count as f64 {
        match count {
            0..16 => out.push(0x90 | count as u8),
            _ => write_length(out, count, [None, Some(0xdc), Some(0xdd)]),
        }
        for index in 1..=count {
            stack.raw_get_index(table, index as c_int);
            pack_value(stack, out, depth + 1)?;
        }
        return Ok(());
    }
    match count {
        0..16 => out.push(0x80 | count as u8),
        _ => write_length(out, count, [None, Some(0xde), Some(0xdf)]),
    }
    stack.push_nil();
    while stack.next(table) {
        stack.push_copy(-2);
        pack_value(stack, out, depth + 1)?;
        pack_value(stack, out, depth + 1)?;
    }
    Ok(())
}

fn unpack(stack: Stack<'_>) -> Outcome {
    unpack_values(stack, None, 0).map(|(values, _)| values)
}

fn unpack_one(stack: Stack<'_>) -> Outcome {
    let offset = optional_integer(stack, 2)?;
    unpack_from(stack, 1.0, offset)
}

fn unpack_limit(stack: Stack<'_>) -> Outcome {
    stack.check_bytes(1)?;
    let limit = stack.check_number(2)?;
    let offset = optional_integer(stack, 3)?;
    unpack_from(stack, limit, offset)
}

fn optional_integer(stack: Stack<'_>, index: c_int) -> Result<f64, Raise> {
    match stack.kind(index) {
        Type::None | Type::Nil => Ok(0.0),
        _ => stack.check_number(index).map(f64::trunc),
    }
}

/// Returns the offset where the next call goes on (-1 at the end), then up to `limit` values.
fn unpack_from(stack: Stack<'_>, limit: f64, offset: f64) -> Outcome {
    let len = stack.check_bytes(1)?.len();
    if limit < 0.0 || offset < 0.0 {
        let message = format_args!("Invalid request to unpack with offset of {offset} and limit of {len}.");
        return Err(stack.error(message));
    }
    if offset > len as f64 {
        return Err(stack.error(format_args!("Start offset {offset} greater than input length {len}.")));
    }
    let limit = limit as usize;
    let (values, end) = unpack_values(stack, (limit > 0).then_some(limit), offset as usize)?;
    if limit > 0 || offset > 0.0 {
        stack.reserve(1)?;
        stack.push_number(if end == len { -1.0 } else { end as f64 });
        stack.insert(-values - 1);
        return Ok(values + 1);
    }
    Ok(values)
}

/// Pushes the values at `offset`, up to the limit or the end; says how many and where it stopped.
fn unpack_values(stack: Stack<'_>, limit: Option<usize>, offset: usize) -> Result<(c_int, usize), Raise> {
    let text = stack.check_bytes(1)?;
    let mut reader = Reader { rest: &text[offset..] };
    let mut count = 0;
    while !reader.rest.is_empty() && limit.is_none_or(|limit| (count as usize) < limit) {
        if let Err(fault) = push_value(stack, &mut reader) {
            return Err(match fault {
                Fault::Missing => stack.error("Missing bytes in input."),
                Fault::Format => stack.error("Bad data format in input."),
                Fault::Stack => stack.error("too many values to unpack"),
                Fault::NilKey => stack.plain_error("table index is nil"),
            });
        }
        count += 1;
    }
    Ok((count, text.len() - reader.rest.len()))
}

#[derive(Clone, Copy)]
enum Fault {
    Missing,
    Format,
    Stack,
    NilKey,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    fn unsigned(&mut self, width: usize) -> Result<u64, Fault> {
        Ok(self.take(width)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn signed(&mut self, width: usize) -> Result<i64, Fault> {
        let shift = 64 - 8 * width as u32;
        Ok(((self.unsigned(width)? << shift) as i64) >> shift)
    }
}

/// Pushes one value. May raise.
fn push_value(stack: Stack<'_>, reader: &mut Reader<'_>) -> Result<(), Fault> {
    if !stack.try_descend(UNPACK_SLOTS) {
        return Err(Fault::Stack);
    }
    let code = reader.take(1)?[0];
    let length_width = |first: u8| 1usize << (code - first);
    match code {
        0x00..=0x7f => stack.push_number(f64::from(code)),
        0x80..=0x8f => push_map(stack, reader, usize::from(code & 15))?,
        0x90..=0x9f => push_array(stack, reader, usize::from(code & 15))?,
        0xa0..=0xbf => stack.push_bytes(reader.take(usize::from(code & 31))?),
        0xc0 => stack.push_nil(),
        0xc2 | 0xc3 => stack.push_boolean(code == 0xc3),
        0xca => stack.push_number(f64::from(f32::from_bits(reader.unsigned(4)? as u32))),
        0xcb => stack.push_number(f64::from_bits(reader.unsigned(8)?)),
        // Redis reads 64 unsigned bits as signed ones.
        0xcc..=0xcf => stack.push_number(reader.unsigned(length_width(0xcc))? as i64 as f64),
        0xd0..=0xd3 => stack.push_number(reader.signed(length_width(0xd0))? as f64),
        0xd9..=0xdb => {
            let len = reader.unsigned(length_width(0xd9))? as usize;
            stack.push_bytes(reader.take(len)?);
        }
        0xdc | 0xdd => {
            let len = reader.unsigned(length_width(0xdb))? as usize;
            push_array(stack, reader, len)?;
        }
        0xde | 0xdf => {
            let len = reader.unsigned(length_width(0xdd))? as usize;
            push_map(stack, reader, len)?;
        }
        0xe0..=0xff => stack.push_number(f64::from(code as i8)),
        _ => return Err(Fault::Format),
    }
    Ok(())
}

fn push_array(stack: Stack<'_>, reader: &mut Reader<'_>, len: usize) -> Result<(), Fault> {
    // An element takes a byte at least, so a lying header cannot ask for much memory.
    stack.push_table(len.min(reader.rest.len()), 0);
    for index in 1..=len {
        push_value(stack, reader)?;
        stack.raw_set_index(-2, index as c_int);
    }
    Ok(())
}

fn push_map(stack: Stack<'_>, reader: &mut Reader<'_>, len: usize) -> Result<(), Fault> {
    stack.push_table(0, len.min(reader.rest.len() / 2));
    for _ in 0..len {
        push_value(stack, reader)?;
        push_value(stack, reader)?;
        match stack.kind(-2) {
            Type::Nil => return Err(Fault::NilKey),
            Type::Number if stack.number(-2).is_nan() => return Err(Fault::NilKey),
            _ => stack.raw_set(-3),
        }
    }
    Ok(())
}
