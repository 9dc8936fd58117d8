//! PFADD, PFCOUNT, PFMERGE and PFDEBUG over strings of any bytes: answered or refused, and what a command takes
//! the next one takes too.
//!
//! The first byte chooses the encoding that the string claims and whether it gets the length of a dense one; the
//! second one, how long a sparse one may become.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thali_commands::{Context, Effects, Random, TABLE};
use thali_data::{Limits, Str};
use thali_keyspace::{ENDLESS, Keyspace, Uses};
use thali_resp::{Protocol, Reply};

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

struct Store {
    keyspace: Keyspace,
    limits: Limits,
}

impl Store {
    fn context<R>(&self, run: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let (mut random, mut effects) = (Random::new(1), Effects::default());
        let locked = self.keyspace.lock_all(ENDLESS).expect("nobody else is there");
        run(&mut Context::new(locked, 0, 0, Uses::new(0, None), &self.limits, &mut random, &mut effects))
    }

    /// Whether the command took it.
    fn run(&self, args: &[&[u8]]) -> bool {
        let name = String::from_utf8_lossy(args[0]).to_lowercase();
        let mut commands = TABLE.iter().flat_map(|group| group.iter());
        let command = commands.find(|command| command.spec.name == name).expect("a command");
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        self.context(|cx| (command.run)(cx, args, &mut reply).is_ok())
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, sparse_kib, registers @ ..] = input else { return };
    let limits = Limits { hll_sparse_max_bytes: usize::from(*sparse_kib) * 64, ..Limits::default() };
    let store = Store { keyspace: Keyspace::new(1), limits };
    store.context(|cx| cx.put(b"h", hostile(*choice, registers), None));
    assert!(store.run(&[b"PFADD", b"sound", b"a", b"b"]));

    let counts = store.run(&[b"PFCOUNT", b"h"]);
    let is_whole = store.run(&[b"PFCOUNT", b"h", b"sound"]);
    assert!(counts || !is_whole);
    store.run(&[b"PFDEBUG", b"DECODE", b"h"]);
    let mut request = vec![&b"PFADD"[..], b"h"];
    request.extend(registers.chunks(3).take(64));
    assert_eq!(store.run(&request), is_whole);
    assert_eq!(store.run(&[b"PFMERGE", b"sound", b"h"]), is_whole);
    assert_eq!(store.run(&[b"PFMERGE", b"h", b"sound"]), is_whole);
    assert_eq!(store.run(&[b"PFDEBUG", b"GETREG", b"h"]), is_whole);
    assert_eq!(store.run(&[b"PFCOUNT", b"h"]), is_whole || counts);
    assert!(store.run(&[b"PFCOUNT", b"sound"]));
});
