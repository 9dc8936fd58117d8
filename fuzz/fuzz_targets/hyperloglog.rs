//! PFADD, PFCOUNT, PFMERGE and PFDEBUG over strings of any bytes: answered or refused, and what a command takes
//! the next one takes too.
//!
//! The first byte chooses the encoding that the string claims and whether it gets the length of a dense one; the
//! second one, how long a sparse one may become.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thali_data::{Limits, Str};
use thali_fuzz::store::Store;

const DENSE_BYTES: usize = 12_304;

fn hostile(choice: u8, registers: &[u8]) -> Str {
    let mut bytes = [b"HYLL", &[choice & 3; 1][..], &[0; 11], registers].concat();
    if choice & 4 != 0 {
        bytes.resize(DENSE_BYTES, choice);
    }
    let mut string = Str::new();
    string.append(&bytes);
    string
}

fuzz_target!(|input: &[u8]| {
    let [choice, sparse_kib, registers @ ..] = input else { return };
    let limits = Limits { hll_sparse_max_bytes: usize::from(*sparse_kib) * 64, ..Limits::default() };
    let store = Store::new(limits);
    store.context(|cx| cx.put(b"h", hostile(*choice, registers), None));
    assert!(store.takes(&[b"PFADD", b"sound", b"a", b"b"]));

    let counts = store.takes(&[b"PFCOUNT", b"h"]);
    let is_whole = store.takes(&[b"PFCOUNT", b"h", b"sound"]);
    assert!(counts || !is_whole);
    store.takes(&[b"PFDEBUG", b"DECODE", b"h"]);
    let mut request = vec![&b"PFADD"[..], b"h"];
    request.extend(registers.chunks(3).take(64));
    assert_eq!(store.takes(&request), is_whole);
    assert_eq!(store.takes(&[b"PFMERGE", b"sound", b"h"]), is_whole);
    assert_eq!(store.takes(&[b"PFMERGE", b"h", b"sound"]), is_whole);
    assert_eq!(store.takes(&[b"PFDEBUG", b"GETREG", b"h"]), is_whole);
    assert_eq!(store.takes(&[b"PFCOUNT", b"h"]), is_whole || counts);
    assert!(store.takes(&[b"PFCOUNT", b"sound"]));
});
