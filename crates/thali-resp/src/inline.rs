//! Inline requests: one line, words split by blanks, with the quoting that redis-cli users know.

/// Splits a line into words. `"…"` knows `\n \r \t \b \a \xHH \" \\`, `'…'` knows only `\'`.
/// `None` where a quote stays open or a closing quote is followed by anything but a blank.
pub fn split_inline(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0x0b).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, used) = word(rest)?;
        words.push(word);
        rest = &rest[used..];
    }
}

fn word(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    let mut at = 0;
    while at < input.len() {
        match input[at] {
            b'"' => at = double_quoted(input, at + 1, &mut word)?,
            b'\'' => at = single_quoted(input, at + 1, &mut word)?,
            b if b.is_ascii_whitespace() || b == 0 => break,
            b => {
                word.push(b);
                at += 1;
                continue;
            }
        }
        // A closing quote ends the word.
        if input.get(at).is_some_and(|b| !b.is_ascii_whitespace()) {
            return None;
        }
        break;
    }
    // A stray NUL would otherwise be looked at for ever.
    let used = if input.get(at) == Some(&0) { at + 1 } else { at };
    Some((word, used))
}

fn double_quoted(input: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *input.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                let escaped = *input.get(at + 1)?;
                let hex = input.get(at + 2..at + 4).filter(|_| escaped == b'x').and_then(hex_byte);
                if let Some(byte) = hex {
                    word.push(byte);
                    at += 4;
                    continue;
                }
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            b => {
                word.push(b);
                at += 1;
            }
        }
    }
}

fn single_quoted(input: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *input.get(at)? {
            b'\'' => return Some(at + 1),
            b'\\' if input.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            b => {
                word.push(b);
                at += 1;
            }
        }
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&[&str]>) {
        let words = split_inline(line.as_bytes());
        let expected = expected.map(|words| words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(words, expected, "{line:?}");
    }

    #[test]
    fn words_and_quotes() {
        check("  GET  k ", Some(&["GET", "k"]));
        check("", Some(&[]));
        check(r#"SET k "a b\n\x41""#, Some(&["SET", "k", "a b\nA"]));
        check(r"SET k 'a\'b'", Some(&["SET", "k", "a'b"]));
        check(r#"SET k """#, Some(&["SET", "k", ""]));
        check(r#"SET k "open"#, None);
        check(r#"SET "k"x"#, None);
    }
}
