//! A request with places that are filled anew each time.
//!
//! `__rand_int__` becomes twelve digits below the size of the key space, `__data__` the same random letters in each
//! request. Both may stand anywhere within an argument, as in redis-benchmark.

/// Digits of a filled place, and bytes of its name: the request's length never changes.
const DIGITS: usize = 12;
const PLACE: &[u8; DIGITS] = b"__rand_int__";
const DATA: &[u8] = b"__data__";
/// Numbers beyond this do not fit the place.
pub(crate) const KEYS_MAX: u64 = 1_000_000_000_000;

/// One request as bytes of the wire, and where its numbers go.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    /// From the command's words; `data_len` bytes stand for `__data__`.
    pub fn new<W: AsRef<[u8]>>(words: &[W], data_len: usize) -> Self {
        let data = letters(data_len);
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        let mut places = Vec::new();
        for word in words {
            let word = replaced(word.as_ref(), DATA, &data);
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            // `__data__` holds no underscore, so that no place stands in it.
            places.extend(memchr::memmem::find_iter(&word, PLACE).map(|at| bytes.len() + at));
            bytes.extend_from_slice(&word);
            bytes.extend_from_slice(b"\r\n");
        }
        Self { bytes, places }
    }

    /// The words of a line, split at blanks.
    pub fn of_line(line: &str, data_len: usize) -> Self {
        Self::new(&line.split_whitespace().collect::<Vec<_>>(), data_len)
    }

    /// Appends the request, with a number from `next` in each place.
    pub(crate) fn write(&self, out: &mut Vec<u8>, mut next: impl FnMut() -> u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for place in &self.places {
            write_digits(&mut out[start + place..][..DIGITS], next());
        }
    }
}

fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The same for each length, and nothing that a server could press.
fn letters(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|_| rng.alphanumeric() as u8).collect()
}

fn replaced(word: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str, data_len: usize) -> String {
        let mut out = b"before".to_vec();
        let mut numbers = [7, KEYS_MAX - 1].into_iter();
        Template::of_line(line, data_len).write(&mut out, || numbers.next().unwrap());
        String::from_utf8(out[6..].to_vec()).unwrap()
    }

    #[test]
    fn each_place_gets_its_own_number() {
        assert_eq!(
            written("SET k:__rand_int__:__rand_int__ v", 0),
            "*3\r\n$3\r\nSET\r\n$27\r\nk:000000000007:999999999999\r\n$1\r\nv\r\n"
        );
    }

    #[test]
    fn data_has_its_length_and_stays_the_same() {
        let first = written("SET k a__data__b", 5);
        assert!(
            first.starts_with("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$7\r\na") && first.ends_with("b\r\n"),
            "{first}"
        );
        assert_eq!(first, written("SET k a__data__b", 5));
    }
}
