//! Commands as templates: one line of text makes endless commands over small key spaces.
//!
//! A template is words. `a|b` chooses, `[…]` may be left out, `{…}` stands one to three times,
//! `$x` is filled in:
//!
//! | | |
//! |---|---|
//! | `$k` | a key, one of few, so that commands meet |
//! | `$v` `$m` | a value; a member or field, one of few |
//! | `$n` `$f` | an integer, an increment with fraction: edges included |
//! | `$i` `$c` | an index from -6 to 6, a count from 0 to 5 |
//! | `$s` `$b` `$l` | a score, a score bound, a lexical bound |
//! | `$t` `$T` | a fixed far time in seconds, in milliseconds |
//! | `$d` `$D` | a stream id, a range end of a stream |
//! | `$p` | a glob pattern |
//! | `$h` `$e` | a key of a HyperLogLog; an element, one of many |
//! | `$o` `$O` `$w` | a bit offset from 0 to 69, one that mostly is wrong; a bit field's type |
//! | `$B` | bytes with long runs of equal bits |
//! | `$F` | a library of functions, one of few names and functions |
//!
//! `-$o` and `#$c` put a sign before what is filled in.

use fastrand::Rng;

pub type Command = Vec<Vec<u8>>;

const KEYS: [&str; 6] = ["k1", "k2", "k3", "k4", "k5", "{k}6"];
const MEMBERS: [&str; 7] = ["a", "b", "c", "d", "10", "-3", "long member with spaces"];
const SCORES: [&str; 9] = ["0", "1", "-1", "2.5", "1e20", "3.0000000000000004", "inf", "-inf", "17179869184"];
const NUMBERS: [&str; 7] =
    ["0", "1", "-1", "42", "9223372036854775807", "-9223372036854775808", "notanumber"];
const FRACTIONS: [&str; 6] = ["0.1", "-2.5", "3", "1e3", "5.0e-3", "nan"];
const PATTERNS: [&str; 6] = ["*", "k*", "k[1-3]", "?1", "k[^2]", "\\*"];
/// Far enough that nothing expires within a run; one lies in the past, which deletes.
const TIMES_S: [&str; 3] = ["33177117420", "33177117421", "1"];
/// Not one that both engines would take 512 MB for.
const OFFSETS: [&str; 8] =
    ["-1", "4294967296", "9223372036854775807", "#1", "#-1", "#9223372036854775807", "x", "1000"];
/// The widest unsigned one is no type.
const WIDTHS: [&str; 8] = ["1", "2", "5", "8", "13", "32", "63", "64"];
const REPEAT_MAX: usize = 3;

/// Fills in `template`.
pub fn generate(template: &str, rng: &mut Rng) -> Command {
    let words: Vec<&str> = template.split_whitespace().collect();
    let mut command = Command::new();
    expand(&words, rng, &mut command);
    command
}

fn expand(words: &[&str], rng: &mut Rng, command: &mut Command) {
    let mut at = 0;
    while at < words.len() {
        let (times, close) = match words[at] {
            "[" => (rng.usize(0..2), "]"),
            "{" => (rng.usize(1..=REPEAT_MAX), "}"),
            word => {
                let options: Vec<&str> = word.split('|').collect();
                command.push(fill(options[rng.usize(0..options.len())], rng));
                at += 1;
                continue;
            }
        };
        let end = matching(words, at, close);
        for _ in 0..times {
            expand(&words[at + 1..end], rng, command);
        }
        at = end + 1;
    }
}

/// The place of the bracket that closes the one at `open`.
fn matching(words: &[&str], open: usize, close: &str) -> usize {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate().skip(open) {
        if *word == words[open] {
            depth += 1;
        } else if *word == close {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    panic!("a template with an open bracket: {}", words.join(" "));
}

fn fill(word: &str, rng: &mut Rng) -> Vec<u8> {
    let pick = |from: &[&str], rng: &mut Rng| from[rng.usize(0..from.len())].to_owned();
    let text = match word {
        "$k" => pick(&KEYS, rng),
        "$m" => pick(&MEMBERS, rng),
        "$v" => return value(rng),
        "$B" => return bits(rng),
        "$n" => pick(&NUMBERS, rng),
        "$f" => pick(&FRACTIONS, rng),
        "$i" => rng.i32(-6..=6).to_string(),
        "$c" => rng.i32(0..=5).to_string(),
        "$s" => pick(&SCORES, rng),
        "$b" => format!("{}{}", pick(&["", "("], rng), pick(&SCORES, rng)),
        "$l" => match rng.u8(0..4) {
            0 => "-".to_owned(),
            1 => "+".to_owned(),
            _ => format!("{}{}", pick(&["[", "("], rng), pick(&MEMBERS, rng)),
        },
        "$t" => pick(&TIMES_S, rng),
        "$T" => pick(&["33177117420000", "33177117421999"], rng),
        "$d" => format!("{}-{}", rng.u8(0..6), rng.u8(0..3)),
        "$D" => match rng.u8(0..5) {
            0 => "-".to_owned(),
            1 => "+".to_owned(),
            2 => format!("({}-{}", rng.u8(0..6), rng.u8(0..3)),
            _ => rng.u8(0..6).to_string(),
        },
        "$p" => pick(&PATTERNS, rng),
        "$o" => rng.u32(0..70).to_string(),
        "-$o" => format!("-{}", rng.u32(1..70)),
        "#$c" => format!("#{}", rng.u32(0..=5)),
        "$O" => pick(&OFFSETS, rng),
        "$w" => format!("{}{}", pick(&["i", "u"], rng), pick(&WIDTHS, rng)),
        "$h" => format!("h{}", rng.u8(1..=5)),
        "$e" => rng.u32(0..20_000).to_string(),
        "$F" => library(rng),
        plain => plain.to_owned(),
    };
    text.into_bytes()
}

/// Short texts, numbers, empty, binary, and now and then one too long to be packed.
fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(0..12) {
        0 => Vec::new(),
        1 => vec![0, 255, b'\r', b'\n', 128],
        2 => vec![b'x'; 200],
        3..=6 => rng.i32(-100..100).to_string().into_bytes(),
        7 => b"3.14".to_vec(),
        _ => MEMBERS[rng.usize(0..MEMBERS.len())].as_bytes().to_vec(),
    }
}

/// Up to four runs of zeroes, ones or noise, some longer than a machine's word.
fn bits(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.u8(0..4) {
        let (kind, len) = (rng.u8(0..3), rng.usize(1..40));
        bytes.extend((0..len).map(|_| match kind {
            0 => 0,
            1 => 0xff,
            _ => rng.u8(..),
        }));
    }
    bytes
}

/// What functions do; the last ones are mistakes, seen when they are called or when the library is loaded.
const BODIES: [&str; 14] = [
    "return {keys, args}",
    "return redis.call('SET', keys[1], args[1])",
    "return redis.call('GET', keys[1])",
    "return redis.pcall('INCR', keys[1])",
    "local n = 0 for _, arg in ipairs(args) do n = n + redis.call('RPUSH', keys[1], arg) end return n",
    "redis.setresp(3) return {map = {a = 1}}",
    "return redis.status_reply('fine')",
    "return {pcall(redis.call, 'INCR', keys[1])}",
    "return redis.call('INCR', keys[1])",
    "return redis.call('NOSUCHCOMMAND')",
    "return error({err = 'MINE it is'})",
    "local x\n x.y = 1",
    "return KEYS[1]",
    "return",
];

fn library(rng: &mut Rng) -> String {
    let pick = |from: &[&str], rng: &mut Rng| from[rng.usize(0..from.len())].to_owned();
    let header = pick(
        &[
            "#!lua name=lib1",
            "#!LUA name=lib2",
            "#!lua name='lib3'",
            "#!lua",
            "#!py name=lib1",
            "#!lua name=a-b",
        ],
        rng,
    );
    let mut text = header;
    for _ in 0..rng.usize(0..3) {
        let function = pick(&["f1", "f2", "f3", "f4", "f 5"], rng);
        let body = pick(&BODIES, rng);
        text += &match rng.u8(0..4) {
            0 => {
                let flags = pick(&["", "'no-writes'", "'no-writes', 'allow-oom'", "'none'"], rng);
                format!(
                    "\nredis.register_function{{function_name = '{function}', description = 'of {function}', \
                     callback = function(keys, args) {body} end, flags = {{{flags}}}}}"
                )
            }
            _ => format!("\nredis.register_function('{function}', function(keys, args) {body} end)"),
        };
    }
    text + &pick(&["", "\n", "\nlocal x = math", "\nx = 1"], rng)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_commands() {
        let make = || {
            let mut rng = Rng::with_seed(7);
            (0..50).map(|_| generate("SET $k $v [ EX|PX $n ]", &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn brackets_nest_and_repeat() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..100 {
            let command = generate("A { b [ c ] } [ d ]", &mut rng);
            let count = |word: &[u8]| command.iter().filter(|arg| *arg == word).count();
            assert!(
                (1..=REPEAT_MAX).contains(&count(b"b")) && count(b"c") <= count(b"b") && count(b"d") <= 1
            );
        }
    }
}
