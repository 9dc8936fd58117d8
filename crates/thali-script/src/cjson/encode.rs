//! `cjson.encode`.

use crate::cjson::{ARRAY_METATABLE, Config, InvalidNumbers};
use crate::lua::{Outcome, REGISTRY, Raise, Stack, Type};
use crate::number::write_significant;

pub(super) fn encode(stack: Stack<'_>) -> Outcome {
    if stack.top() != 1 {
        return Err(stack.argument_error(1, "expected 1 argument"));
    }
    let config = stack.context().json.get();
    stack.context().scratch.with(|out| {
        out.clear();
        Encoder { stack, config, out }.value(0)
    })?;
    stack.push_scratch();
    Ok(1)
}

/// Writes values while only reading from Lua, so that nothing raises while the buffer is lent.
struct Encoder<'a, 'c> {
    stack: Stack<'c>,
    config: Config,
    out: &'a mut Vec<u8>,
}

impl Encoder<'_, '_> {
    /// Writes the value on top and leaves it there.
    fn value(&mut self, depth: i32) -> Result<(), Raise> {
        let stack = self.stack;
        stack.check_text_len(self.out.len())?;
        match stack.kind(-1) {
            Type::String => self.string(stack.bytes(-1).unwrap_or_default()),
            Type::Number => self.number(-1)?,
            Type::Boolean => self.out.extend_from_slice(if stack.boolean(-1) { b"true" } else { b"false" }),
            Type::Nil => self.out.extend_from_slice(b"null"),
            Type::LightUserdata if stack.is_null_pointer(-1) => self.out.extend_from_slice(b"null"),
            Type::Table => self.table(depth + 1)?,
            _ => return Err(self.refuse(-1, "type not supported")),
        }
        Ok(())
    }

    fn refuse(&self, index: i32, reason: &str) -> Raise {
        let kind = self.stack.type_name(index);
        self.stack.error(format_args!("Cannot serialise {kind}: {reason}"))
    }

    fn table(&mut self, depth: i32) -> Result<(), Raise> {
        if depth > self.config.encode_depth_max || !self.stack.try_descend(4) {
            return Err(self.stack.error(format_args!("Cannot serialise, excessive nesting ({depth})")));
        }
        let marked = self.is_marked_array();
        match self.array_len()? {
            Some(len) if len > 0 || marked => self.array(len, depth),
            _ => self.object(depth),
        }
    }

    /// Whether the table on top was decoded from an array and marked so.
    fn is_marked_array(&self) -> bool {
        let stack = self.stack;
        if !stack.push_metatable(-1) {
            return false;
        }
        stack.raw_get_index(REGISTRY, ARRAY_METATABLE);
        let marked = stack.address(-1) == stack.address(-2);
        stack.pop(2);
        marked
    }

    /// Length of the table on top if all its keys are positive integers, not too far apart.
    fn array_len(&self) -> Result<Option<i32>, Raise> {
        let stack = self.stack;
        let table = stack.top();
        let (mut max, mut items) = (0i64, 0i64);
        stack.push_nil();
        while stack.next(table) {
            stack.pop(1);
            let key = if stack.kind(-1) == Type::Number { stack.number(-1) } else { 0.0 };
            if key < 1.0 || key.floor() != key || key > f64::from(i32::MAX) {
                stack.pop(1);
                return Ok(None);
            }
            max = max.max(key as i64);
            items += 1;
        }
        let ratio = i64::from(self.config.sparse_ratio);
        if ratio > 0 && max > items * ratio && max > i64::from(self.config.sparse_safe) {
            if !self.config.sparse_convert {
                return Err(self.refuse(table, "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok(Some(max as i32))
    }

    fn array(&mut self, len: i32, depth: i32) -> Result<(), Raise> {
        self.out.push(b'[');
        for index in 1..=len {
            if index > 1 {
                self.out.push(b',');
            }
            self.stack.raw_get_index(-1, index);
            self.value(depth)?;
            self.stack.pop(1);
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: i32) -> Result<(), Raise> {
        let stack = self.stack;
        let table = stack.top();
        self.out.push(b'{');
        let mut first = true;
        stack.push_nil();
        while stack.next(table) {
            if !first {
                self.out.push(b',');
            }
            first = false;
            match stack.kind(-2) {
                Type::String => self.string(stack.bytes(-2).unwrap_or_default()),
                Type::Number => {
                    self.out.push(b'"');
                    self.number(-2)?;
                    self.out.push(b'"');
                }
                _ => return Err(self.refuse(-2, "table key must be a number or string")),
            }
            self.out.push(b':');
            self.value(depth)?;
            stack.pop(1);
        }
        self.out.push(b'}');
        Ok(())
    }

    fn number(&mut self, index: i32) -> Result<(), Raise> {
        let value = self.stack.number(index);
        if !value.is_finite() {
            match self.config.encode_invalid {
                InvalidNumbers::Refuse => return Err(self.refuse(index, "must not be NaN or Inf")),
                InvalidNumbers::Null => self.out.extend_from_slice(b"null"),
                InvalidNumbers::Allow if value.is_nan() => self.out.extend_from_slice(b"nan"),
                InvalidNumbers::Allow => {
                    self.out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" })
                }
            }
            return Ok(());
        }
        write_significant(value, self.config.precision as usize, self.out);
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.out.push(b'"');
        let mut plain_from = 0;
        for (at, &byte) in text.iter().enumerate() {
            if !matches!(byte, 0..=31 | b'"' | b'/' | b'\\' | 127) {
                continue;
            }
            self.out.extend_from_slice(&text[plain_from..at]);
            plain_from = at + 1;
            let short = match byte {
                b'"' | b'/' | b'\\' => byte,
                8 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                12 => b'f',
                b'\r' => b'r',
                _ => {
                    let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                    self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                    continue;
                }
            };
            self.out.extend_from_slice(&[b'\\', short]);
        }
        self.out.extend_from_slice(&text[plain_from..]);
        self.out.push(b'"');
    }
}
