//! `cjson.decode`. Null becomes `cjson.null`, `{}` and `[]` both become an empty table.

use crate::cjson::{ARRAY_METATABLE, Config};
use crate::lua::{Outcome, REGISTRY, Raise, Stack};

pub(super) fn decode(stack: Stack<'_>) -> Outcome {
    if stack.top() != 1 {
        return Err(stack.argument_error(1, "expected 1 argument"));
    }
    let text = stack.check_bytes(1)?;
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(stack.error("JSON parser does not support UTF-16 or UTF-32"));
    }
    let config = stack.context().json.get();
    let mut decoder = Decoder { stack, config, text, at: 0, start: 0 };
    let token = decoder.next();
    decoder.value(token, 0)?;
    match decoder.next() {
        Token::End => Ok(1),
        token => Err(decoder.unexpected("the end", token)),
    }
}

#[derive(Clone, Copy)]
enum Token<'a> {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(&'a [u8]),
    /// A string with escapes; its value waits in the scratch buffer.
    Unescaped,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Bad(&'static str),
}

/// Plain data throughout, because pushing values may raise.
struct Decoder<'a> {
    stack: Stack<'a>,
    config: Config,
    text: &'a [u8],
    at: usize,
    /// Where the last token started, or went wrong.
    start: usize,
}

impl<'a> Decoder<'a> {
    /// Pushes the value that starts with `token`. May raise.
    fn value(&mut self, token: Token<'a>, depth: i32) -> Result<(), Raise> {
        let stack = self.stack;
        match token {
            Token::String(text) => stack.push_bytes(text),
            Token::Unescaped => stack.push_scratch(),
            Token::Number(value) => stack.push_number(value),
            Token::Boolean(value) => stack.push_boolean(value),
            Token::Null => stack.push_null_pointer(),
            Token::ObjectBegin => self.object(depth + 1)?,
            Token::ArrayBegin => self.array(depth + 1)?,
            _ => return Err(self.unexpected("value", token)),
        }
        Ok(())
    }

    fn descend(&self, depth: i32) -> Result<(), Raise> {
        if depth > self.config.decode_depth_max || !self.stack.try_descend(4) {
            let message =
                format_args!("Found too many nested data structures ({depth}) at character {}", self.at);
            return Err(self.stack.error(message));
        }
        Ok(())
    }

    fn object(&mut self, depth: i32) -> Result<(), Raise> {
        self.descend(depth)?;
        let stack = self.stack;
        stack.push_table(0, 0);
        let mut token = self.next();
        if matches!(token, Token::ObjectEnd) {
            return Ok(());
        }
        loop {
            match token {
                Token::String(_) | Token::Unescaped => self.value(token, depth)?,
                _ => return Err(self.unexpected("object key string", token)),
            }
            token = self.next();
            if !matches!(token, Token::Colon) {
                return Err(self.unexpected("colon", token));
            }
            token = self.next();
            self.value(token, depth)?;
            stack.raw_set(-3);
            token = self.next();
            match token {
                Token::ObjectEnd => return Ok(()),
                Token::Comma => token = self.next(),
                _ => return Err(self.unexpected("comma or object end", token)),
            }
        }
    }

    fn array(&mut self, depth: i32) -> Result<(), Raise> {
        self.descend(depth)?;
        let stack = self.stack;
        stack.push_table(0, 0);
        if self.config.mark_arrays {
            stack.raw_get_index(REGISTRY, ARRAY_METATABLE);
            stack.set_metatable(-2);
        }
        let mut token = self.next();
        if matches!(token, Token::ArrayEnd) {
            return Ok(());
        }
        let mut index = 1;
        loop {
            self.value(token, depth)?;
            stack.raw_set_index(-2, index);
            index += 1;
            token = self.next();
            match token {
                Token::ArrayEnd => return Ok(()),
                Token::Comma => token = self.next(),
                _ => return Err(self.unexpected("comma or array end", token)),
            }
        }
    }

    fn unexpected(&self, expected: &str, token: Token<'_>) -> Raise {
        let found = match token {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) | Token::Unescaped => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Bad(reason) => reason,
        };
        let at = self.start + 1;
        self.stack.error(format_args!("Expected {expected} but found {found} at character {at}"))
    }

    /// The byte at an offset; 0 past the end, as if the text were a C string.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Token<'a> {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.start = self.at;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let (token, len) = match self.byte(self.at) {
            0 => (Token::End, 0),
            b'{' => (Token::ObjectBegin, 1),
            b'}' => (Token::ObjectEnd, 1),
            b'[' => (Token::ArrayBegin, 1),
            b']' => (Token::ArrayEnd, 1),
            b',' => (Token::Comma, 1),
            b':' => (Token::Colon, 1),
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' if self.config.decode_invalid || !is_lax_number(rest) => number(rest),
            b'-' | b'0'..=b'9' => (Token::Bad("invalid number"), 0),
            _ if rest.starts_with(b"true") => (Token::Boolean(true), 4),
            _ if rest.starts_with(b"false") => (Token::Boolean(false), 5),
            _ if rest.starts_with(b"null") => (Token::Null, 4),
            _ if self.config.decode_invalid && is_lax_number(rest) => number(rest),
            _ => (Token::Bad("invalid token"), 0),
        };
        self.at += len;
        token
    }

    /// Reads a string; without escapes it is a slice of the text.
    fn string(&mut self) -> Token<'a> {
        self.at += 1;
        let begin = self.at;
        loop {
            match self.byte(self.at) {
                b'"' => {
                    self.at += 1;
                    return Token::String(&self.text[begin..self.at - 1]);
                }
                b'\\' => break,
                0 => return self.bad("unexpected end of string"),
                _ => self.at += 1,
            }
        }
        let stack = self.stack;
        stack.context().scratch.with(|out| {
            out.clear();
            out.extend_from_slice(&self.text[begin..self.at]);
            loop {
                match self.byte(self.at) {
                    b'"' => {
                        self.at += 1;
                        return Token::Unescaped;
                    }
                    0 => return self.bad("unexpected end of string"),
                    b'\\' => {
                        if let Err(reason) = self.escape(out) {
                            return self.bad(reason);
                        }
                    }
                    byte => {
                        out.push(byte);
                        self.at += 1;
                    }
                }
            }
        })
    }

    fn bad(&mut self, reason: &'static str) -> Token<'a> {
        self.start = self.at;
        Token::Bad(reason)
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let byte = match self.byte(self.at + 1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'u' => {
                let (code, len) = self.code_point().ok_or("invalid unicode escape code")?;
                out.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += len;
                return Ok(());
            }
            _ => return Err("invalid escape code"),
        };
        out.push(byte);
        self.at += 2;
        Ok(())
    }

    /// The character that `\uXXXX`, or a pair of them, spells, and its length in the text.
    fn code_point(&self) -> Option<(char, usize)> {
        let unit = |at: usize| {
            let digits = self.text.get(at + 2..at + 6).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
            u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let high = unit(self.at)?;
        if let Some(code) = char::from_u32(high) {
            return Some((code, 6));
        }
        let is_pair = high < 0xDC00 && self.byte(self.at + 6) == b'\\' && self.byte(self.at + 7) == b'u';
        let low = unit(self.at + 6).filter(|low| is_pair && (0xDC00..0xE000).contains(low))?;
        char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)).map(|code| (code, 12))
    }
}

/// Whether the text starts like a number that JSON forbids: a plus, a leading zero, hexadecimal, inf, nan.
fn is_lax_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'+', ..] => text.len() == digits.len(),
        [b'0', next, ..] => next.eq_ignore_ascii_case(&b'x') || next.is_ascii_digit(),
        [a, b, c, ..] => [b"inf", b"nan"].iter().any(|word| word.eq_ignore_ascii_case(&[*a, *b, *c])),
        _ => false,
    }
}

/// Reads as much as C's `strtod` would.
fn number(text: &[u8]) -> (Token<'static>, usize) {
    let sign_len = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let sign = if text.first() == Some(&b'-') { -1.0 } else { 1.0 };
    let digits = &text[sign_len..];
    let digits_from =
        |at: usize| digits[at.min(digits.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let has_word = |word: &[u8]| digits.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));

    for (word, value) in [(&b"infinity"[..], f64::INFINITY), (b"inf", f64::INFINITY), (b"nan", f64::NAN)] {
        if has_word(word) {
            return (Token::Number(sign * value), sign_len + word.len());
        }
    }
    if has_word(b"0x") && digits.get(2).is_some_and(u8::is_ascii_hexdigit) {
        let hex = digits[2..].iter().take_while(|b| b.is_ascii_hexdigit());
        let (value, len) = hex.fold((0.0, 0), |(value, len), &digit| {
            (value * 16.0 + f64::from(char::from(digit).to_digit(16).unwrap_or(0)), len + 1)
        });
        return (Token::Number(sign * value), sign_len + 2 + len);
    }
    let whole = digits_from(0);
    // Short integers, which are most numbers, need no parser.
    if (1..=15).contains(&whole) && !matches!(digits.get(whole), Some(b'.' | b'e' | b'E')) {
        let value = digits[..whole].iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        return (Token::Number(sign * value as f64), sign_len + whole);
    }
    let mut len = whole;
    if digits.get(len) == Some(&b'.') {
        len += 1 + digits_from(len + 1);
    }
    if whole == 0 && len <= 1 {
        return (Token::Bad("invalid number"), 0);
    }
    if matches!(digits.get(len), Some(b'e' | b'E')) {
        let exponent = len + 1 + usize::from(matches!(digits.get(len + 1), Some(b'-' | b'+')));
        let count = digits_from(exponent);
        if count > 0 {
            len = exponent + count;
        }
    }
    let value = std::str::from_utf8(&digits[..len]).ok().and_then(|digits| digits.parse::<f64>().ok());
    value.map_or((Token::Bad("invalid number"), 0), |value| (Token::Number(sign * value), sign_len + len))
}
