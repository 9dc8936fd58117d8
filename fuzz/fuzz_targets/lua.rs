//! The libraries that scripts have for bytes from outside: cjson, cmsgpack, struct and bit.tohex. Any bytes give a
//! value or an error; what decodes is what a plain reader reads, and survives encoding, decoding and encoding; see
//! `thali_fuzz::lua` for what is lost on the way.
//!
//! The first byte chooses the library, the second one what the script sets.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use thali_fuzz::lua::{JsonOptions, Lua};
use thali_fuzz::plain::{self, Plain};
use thali_script::{Abort, Call, Host, Interpreter, Limits, Script, Watchdog};

/// Deeper values may be refused: the C stack is bounded, too.
const DEPTH_TAKEN: usize = 100;
const DEPTH_DEFAULT: usize = 1_000;
const MEMORY_BYTES_MAX: usize = 64 << 20;

struct NoCommands;

impl Host for NoCommands {
    fn call(&mut self, _: &[&[u8]], _: &mut Vec<u8>) -> Result<(), Abort> {
        unreachable!("the scripts run no command")
    }
}

struct Lab {
    interpreter: Interpreter,
    json: Script,
    msgpack: Script,
    steps: Script,
    structs: Script,
    hex: Script,
}

impl Lab {
    fn new() -> Self {
        let script = |body: &str| Script::new(body.as_bytes()).expect("no header");
        // No run lasts so long.
        let watchdog = Watchdog::start(Duration::from_secs(3_600)).expect("a thread");
        let limits = Limits { memory_bytes_max: MEMORY_BYTES_MAX, ..Limits::default() };
        Self {
            interpreter: Interpreter::new(limits, &watchdog).expect("memory"),
            json: script(include_str!("lua/json.lua")),
            msgpack: script(include_str!("lua/msgpack.lua")),
            steps: script(include_str!("lua/steps.lua")),
            structs: script(include_str!("lua/struct.lua")),
            hex: script(include_str!("lua/hex.lua")),
        }
    }

    /// The strings that a script replies.
    fn run(&mut self, script: impl Fn(&Self) -> Script, args: &[&[u8]]) -> Vec<Vec<u8>> {
        let (script, mut out) = (script(self), Vec::new());
        let call = Call { keys: &[], args, resp3: false };
        if let Err(error) = self.interpreter.run(&script, call, &mut NoCommands, &mut out) {
            panic!("{error}");
        }
        assert!(self.interpreter.memory_bytes() <= MEMORY_BYTES_MAX);
        strings(&out)
    }

    fn json(&mut self, choice: u8, text: &[u8]) {
        let options = JsonOptions { marks_arrays: choice & 1 != 0, converts_sparse: false };
        let (marks, is_unbounded) = (flag(choice, 1), flag(choice, 2));
        let reply = self.run(|lab| lab.json.clone(), &[text, marks, is_unbounded]);
        let read = plain::json(text);
        let depth_max = if choice & 2 != 0 { usize::MAX } else { DEPTH_DEFAULT };
        let may_be_refused = |why: &[u8], value: &Plain| contains(why, "nest") && value.depth() > DEPTH_TAKEN;
        match (&*reply[0], read) {
            (b"ok", read) => {
                let written = json(&reply[1]);
                assert!(written.depth() <= depth_max);
                if let Some(read) = read {
                    let expected = Lua::from_json(read, options).as_json(options).expect("it was written");
                    assert_same(&expected, &written);
                }
                assert_same(&written, &json(&reply[2]));
            }
            // What C's library reads as a number and JSON does not have.
            (b"encode", None) => {
                assert!(contains(&reply[1], "must not be NaN or Inf"), "{}", show(&reply[1]))
            }
            (b"encode", Some(value)) => {
                let is_written = Lua::from_json(value.clone(), options).as_json(options).is_some();
                assert!(!is_written || may_be_refused(&reply[1], &value), "{}", show(&reply[1]));
            }
            (_, Some(value)) => {
                assert!(
                    value.depth() > depth_max || may_be_refused(&reply[1], &value),
                    "{}",
                    show(&reply[1])
                );
            }
            (_, None) => {}
        }
    }

    fn msgpack(&mut self, choice: u8, bytes: &[u8]) {
        let options = JsonOptions { marks_arrays: false, converts_sparse: choice & 1 != 0 };
        let reply = self.run(|lab| lab.msgpack.clone(), &[bytes, flag(choice, 1)]);
        let read = plain::msgpack(bytes);
        if reply[0] != b"ok" {
            let Some(read) = read else { return };
            let is_deep = read.iter().any(|value| value.depth() > DEPTH_TAKEN);
            let is_lua = read.into_iter().all(|value| Lua::from_msgpack(value).is_some());
            assert!(!is_lua || (is_deep && contains(&reply[1], "too many values")), "{}", show(&reply[1]));
            return;
        }
        let lua = |values: Vec<Plain>| values.into_iter().map(Lua::from_msgpack).collect::<Option<Vec<_>>>();
        let values = read.and_then(lua).expect("cmsgpack took it");
        let written: Vec<Plain> = values.iter().map(Lua::as_msgpack).collect();
        assert_same(&Plain::Array(written.clone()), &packed(&reply[1]));
        let again = lua(written).unwrap_or_default().iter().map(Lua::as_msgpack).collect();
        assert_same(&Plain::Array(again), &packed(&reply[2]));
        assert_eq!(reply.len(), 3 + 2 * values.len());
        for (value, [text, again]) in values.iter().zip(reply[3..].as_chunks().0) {
            match value.as_json(options) {
                Some(expected) if !text.is_empty() => {
                    let written = json(text);
                    assert_same(&expected, &written);
                    let expected = Lua::from_json(written, options).as_json(options).expect("it was written");
                    assert_same(&expected, &json(again));
                }
                Some(expected) => {
                    let is_deep = expected.depth() > DEPTH_TAKEN;
                    assert!(is_deep && contains(again, "nest"), "{}", show(again));
                }
                None => assert!(text.is_empty(), "{}", show(text)),
            }
        }
    }
}

/// A script's flag.
fn flag(choice: u8, bit: u8) -> &'static [u8] {
    if choice & bit == 0 { b"0" } else { b"1" }
}

fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

fn show(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

fn assert_same(expected: &Plain, found: &Plain) {
    assert!(expected.canonical() == found.canonical(), "{found:?} is not {expected:?}");
}

/// What cjson has written.
fn json(text: &[u8]) -> Plain {
    plain::json(text).expect("cjson writes JSON")
}

/// Values that cmsgpack has written.
fn packed(bytes: &[u8]) -> Plain {
    Plain::Array(plain::msgpack(bytes).expect("cmsgpack writes MessagePack"))
}

/// The bulk strings of a RESP2 reply, an array of them or something without.
fn strings(mut reply: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(end) = reply.windows(2).position(|window| window == b"\r\n") {
        let (line, rest) = (&reply[..end], &reply[end + 2..]);
        reply = rest;
        if let Some(len) = line.strip_prefix(b"$").and_then(|len| std::str::from_utf8(len).ok()?.parse().ok())
        {
            let (text, rest): (&[u8], &[u8]) = reply.split_at(len);
            found.push(text.to_vec());
            reply = &rest[2..];
        }
    }
    found
}

fuzz_target!(|input: &[u8]| {
    thread_local!(static LAB: std::cell::RefCell<Lab> = Lab::new().into());
    let [library, choice, bytes @ ..] = input else { return };
    LAB.with_borrow_mut(|lab| match library % 5 {
        0 => lab.json(*choice, bytes),
        1 => lab.msgpack(*choice, bytes),
        2 => {
            let Some((numbers, bytes)) = bytes.split_first_chunk::<16>() else { return };
            let [limit, offset] = numbers_of(numbers);
            let reply = lab.run(|lab| lab.steps.clone(), &[bytes, limit.as_bytes(), offset.as_bytes()]);
            if let [together, one_by_one] = &*reply {
                assert_same(&packed(together), &packed(one_by_one));
            }
        }
        3 => {
            let Some((start, bytes)) = bytes.split_first_chunk::<8>() else { return };
            let (format, bytes) = bytes.split_at(usize::from(*choice).min(bytes.len()));
            let start = f64::from_le_bytes(*start).to_string();
            lab.run(|lab| lab.structs.clone(), &[format, bytes, start.as_bytes()]);
        }
        _ => {
            let Some(numbers) = bytes.first_chunk::<16>() else { return };
            let [number, digits] = numbers_of(numbers);
            let reply = lab.run(|lab| lab.hex.clone(), &[number.as_bytes(), digits.as_bytes()]);
            if let (Some(number), Some(digits)) = (bits(&number), bits(&digits)) {
                let hex = format!("{number:08x}");
                let hex = &hex[8 - digits.unsigned_abs().min(8) as usize..];
                let expected = if digits < 0 { hex.to_uppercase() } else { hex.into() };
                assert_eq!(show(&reply[0]), expected);
            }
        }
    });
});

/// The 32 bits of a number that is not too large for the rule to be plain.
fn bits(number: &str) -> Option<i32> {
    let number: f64 = number.parse().ok()?;
    (number.abs() < 2f64.powi(51)).then(|| number.round_ties_even() as i64 as i32)
}

/// Two numbers as Lua reads them.
fn numbers_of(bytes: &[u8; 16]) -> [String; 2] {
    let (a, b) = bytes.split_at(8);
    [a, b].map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes")).to_string())
}
