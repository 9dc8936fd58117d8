//! The parser of requests: the same bytes give the same requests, however they are cut on their way, and what is
//! claimed takes no memory before it has come.
//!
//! The first byte chooses the limits, the second one where the pieces end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thali_resp::{Limits, Parser, Step};

/// The requests in `bytes`, which come in pieces of these sizes in turn; then how the parser ended.
fn requests(bytes: &[u8], pieces: &[usize], limits: &Limits) -> (Vec<Vec<Vec<u8>>>, String) {
    let (mut parser, mut found, mut buffer, mut arrived) = (Parser::default(), Vec::new(), Vec::new(), 0);
    let mut sizes = pieces.iter().cycle();
    loop {
        let mut at = 0;
        loop {
            match parser.parse(&buffer, at, limits) {
                Ok(Step::Request { end }) => {
                    assert!(end > at && end <= buffer.len());
                    found.push(parser.args(&buffer).iter().map(|arg| arg.to_vec()).collect());
                    at = end;
                }
                Ok(Step::Incomplete { total_len_min }) => {
                    assert!(total_len_min > buffer.len());
                    break;
                }
                Err(error) => return (found, error.to_string()),
            }
        }
        buffer.drain(..at);
        parser.rebase(at);
        if arrived == bytes.len() {
            return (found, "incomplete".into());
        }
        let len = (*sizes.next().expect("it repeats")).clamp(1, bytes.len() - arrived);
        buffer.extend_from_slice(&bytes[arrived..arrived + len]);
        arrived += len;
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, piece, bytes @ ..] = input else { return };
    let limits = if choice & 1 == 0 { Limits::OPEN } else { Limits::UNAUTHENTICATED };
    let whole = requests(bytes, &[usize::MAX], &limits);
    assert_eq!(whole, requests(bytes, &[1], &limits));
    assert_eq!(whole, requests(bytes, &[usize::from(*piece), 3], &limits));
});
