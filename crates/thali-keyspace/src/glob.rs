//! Patterns of KEYS, SCAN, PSUBSCRIBE and CONFIG GET: `*`, `?`, `[a-z]`, `[^…]` and `\` as Redis reads them.

/// Work one match may do before it counts as no match: a pattern like `*a*a*a*b` is exponential
/// in a matcher that backtracks, so this one remembers only its last star and stays below
/// pattern × text steps.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    find(pattern, text, |a, b| a == b)
}

/// As [`matches`], with ASCII letters equal to their other case.
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    find(pattern, text, |a, b| a.eq_ignore_ascii_case(&b))
}

fn find(pattern: &[u8], text: &[u8], equal: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the part after the last star failed: one text byte further.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        match one(&pattern[p..], text[t], &equal) {
            Some(used) => {
                p += used;
                t += 1;
            }
            None => match retry {
                Some((after_star, from)) => {
                    p = after_star;
                    t = from + 1;
                    retry = Some((after_star, t));
                }
                None => return false,
            },
        }
    }
}

/// Matches one byte of text; gives the length of the pattern's element.
fn one(pattern: &[u8], byte: u8, equal: &impl Fn(u8, u8) -> bool) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => class(pattern, byte, equal),
        b'\\' if pattern.len() > 1 => equal(pattern[1], byte).then_some(2),
        literal => equal(literal, byte).then_some(1),
    }
}

fn class(pattern: &[u8], byte: u8, equal: &impl Fn(u8, u8) -> bool) -> Option<usize> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern.get(at) {
            // An open class ends with the pattern.
            None => break,
            Some(b']') => {
                at += 1;
                break;
            }
            Some(b'\\') if at + 1 < pattern.len() => {
                found |= equal(pattern[at + 1], byte);
                at += 2;
            }
            Some(&from) if pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len() => {
                let to = pattern[at + 2];
                let (low, high) = if from <= to { (from, to) } else { (to, from) };
                let within = |b: u8| (low..=high).contains(&b);
                found |= within(byte)
                    || (equal(b'a', b'A')
                        && (within(byte.to_ascii_lowercase()) || within(byte.to_ascii_uppercase())));
                at += 3;
            }
            Some(&literal) => {
                found |= equal(literal, byte);
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        };
        check("*", "", true);
        check("h?llo", "hello", true);
        check("h*llo", "heeeello", true);
        check("h[ae]llo", "hillo", false);
        check("h[^e]llo", "hallo", true);
        check("h[a-c]llo", "hbllo", true);
        check("h[c-a]llo", "hbllo", true);
        check("a\\*b", "a*b", true);
        check("a\\*b", "axb", false);
        check("*a*b*c", "xxaxxbxxc", true);
        check("foo", "foobar", false);
        check("[a-", "a", true);
        check("a*", "", false);
        assert!(matches_ignore_case(b"MAX*", b"maxmemory"));
    }

    #[test]
    fn a_hostile_pattern_is_not_exponential() {
        let pattern = b"a*".repeat(2_000);
        let text = vec![b'a'; 20_000];
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }
}
