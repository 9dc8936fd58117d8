//! `--eval file key… , arg…`: EVAL with the script from a file.

use std::path::Path;

use crate::client::{Client, Went};
use crate::stop::Stop;
use crate::wire::io_words;

pub(crate) fn run(client: &mut Client, file: &Path) -> Result<Went, Stop> {
    let script = std::fs::read(file).map_err(|error| {
        Stop::failure(format_args!("Can't open file '{}': {}", file.display(), io_words(&error)))
    })?;
    let request = request(script, &client.options.words);
    client.issue(&request, client.options.repeat)
}

/// What stands before the first `,` is keys, what follows is arguments.
fn request(script: Vec<u8>, words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let comma = words.iter().position(|word| word == b",");
    let keys = comma.unwrap_or(words.len());
    let mut request = vec![b"EVAL".to_vec(), script, keys.to_string().into_bytes()];
    request
        .extend(words.iter().enumerate().filter(|(at, _)| Some(*at) != comma).map(|(_, word)| word.clone()));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_divides_keys_and_arguments() {
        let words = |text: &str| {
            text.split(' ').filter(|word| !word.is_empty()).map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>()
        };
        for (line, expected) in [
            ("a b , c , d", "EVAL s 2 a b c , d"),
            ("a b", "EVAL s 2 a b"),
            (", c", "EVAL s 0 c"),
            ("", "EVAL s 0"),
        ] {
            assert_eq!(request(b"s".to_vec(), &words(line)), words(expected), "{line}");
        }
    }
}
