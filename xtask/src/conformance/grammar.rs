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
//! | `$L` `$J` `$P` | a script on Lua's libraries; a JSON text, some broken; a format of `struct` |
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
        "$L" => pick(&SCRIPTS, rng),
        "$J" => json(rng, 0),
        "$P" => struct_format(rng),
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

/// Scripts over two or three arguments. None iterates over a table with several keys, whose order is open, or asks for
/// `%q`, which LuaJIT writes otherwise.
const SCRIPTS: [&str; 40] = [
    "return cjson.encode(cjson.decode(ARGV[1]))",
    "return cjson.encode({cjson.decode(ARGV[1]), ARGV[2]})",
    "return {pcall(cjson.decode, ARGV[1])}",
    "local v = cjson.decode(ARGV[1]) return {type(v), tostring(v == cjson.null), type(v) == 'table' and #v or -1}",
    "return cjson.decode(ARGV[1])",
    "return cjson.encode(tonumber(ARGV[2]) or ARGV[2])",
    "cjson.encode_number_precision(3) local t = cjson.encode(tonumber(ARGV[2]) or 0.12345) cjson.encode_number_precision(14) return t",
    "cjson.decode_max_depth(3) local r = {pcall(cjson.decode, ARGV[1])} cjson.decode_max_depth(1000) return r",
    "cjson.encode_max_depth(2) local ok, v = pcall(cjson.decode, ARGV[1]) local r = {pcall(cjson.encode, ok and v)} cjson.encode_max_depth(1000) return r",
    "return cjson.encode({[1] = 1, [2] = 2, [4] = ARGV[2]})",
    "return {pcall(cjson.encode, {[1] = 1, [100] = 2})}",
    "return {pcall(cjson.encode, print)}",
    "return {pcall(cjson.encode, 0/0)}",
    "return cmsgpack.pack(cjson.decode(ARGV[1]))",
    "return cmsgpack.pack(ARGV[1], tonumber(ARGV[2]) or ARGV[2], true, nil)",
    "return cmsgpack.unpack(cmsgpack.pack(cjson.decode(ARGV[1])))",
    "return {pcall(cmsgpack.unpack, ARGV[2])}",
    "return {pcall(cmsgpack.unpack_one, ARGV[2], tonumber(ARGV[3]) or 0)}",
    "return {pcall(cmsgpack.unpack_limit, ARGV[2], 2)}",
    "return {pcall(struct.pack, ARGV[3], tonumber(ARGV[2]) or 7, 258, 3)}",
    "return {pcall(struct.unpack, ARGV[3], ARGV[2] .. '0123456789abcdef')}",
    "return {pcall(struct.size, ARGV[3])}",
    "local n = tonumber(ARGV[2]) or 305419896 return {bit.tobit(n), bit.bnot(n), bit.bswap(n), bit.tohex(n), bit.tohex(n, -4)}",
    "local n = tonumber(ARGV[2]) or 5 return {bit.lshift(n, 3), bit.rshift(n, 1), bit.arshift(-n, 1), bit.rol(n, 4), bit.ror(n, 4), bit.band(n, 255, 7), bit.bor(n, 8), bit.bxor(n, 1)}",
    "return tonumber(ARGV[2])",
    "return tostring(tonumber(ARGV[2]))",
    "return {1, 2, nil, 4}",
    "return {3.99, -3.99, 2^53, false, true, {ok = 'x'}, {err = 'MINE x'}}",
    "return {ok = ARGV[2]}",
    "return redis.error_reply(ARGV[2])",
    "return redis.status_reply(ARGV[2])",
    "return string.format('%s %5.2f %d %x %g', #ARGV[2], 1.005, 42, 255, tonumber(ARGV[2]) or 0.1)",
    "return {string.byte(ARGV[2], 1, 3), #ARGV[2], string.rep(ARGV[2], 2), string.reverse(ARGV[2]), string.upper(ARGV[2])}",
    "return {string.gsub(ARGV[2], '%w', '<%0>')}",
    "return {string.find(ARGV[2], '(%a+)'), select('#', unpack(ARGV)), table.concat(ARGV, ',')}",
    "return redis.sha1hex(ARGV[2])",
    "local t = {3, 1, 2, tonumber(ARGV[2])} table.sort(t) return t",
    "redis.setresp(3) redis.call('DEL', KEYS[1]) redis.call('HSET', KEYS[1], 'f', ARGV[2]) return redis.call('HGETALL', KEYS[1])",
    "return redis.call('SET', KEYS[1], tonumber(ARGV[2]) or 1.5)",
    "x = 1",
];

/// A JSON value: arrays and objects of one member, so that their order says nothing; now and then broken.
fn json(rng: &mut Rng, depth: u8) -> String {
    const SCALARS: [&str; 22] = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "-12",
        "1.5",
        "1e3",
        "1E-2",
        "123456789012345678",
        "0.1",
        "\"\"",
        "\"a\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\n\\t\\/\\\\\\\"\"",
        "\"\u{e9}\"",
        "\"\u{7f}\"",
        "-",
        "nul",
        "\"\\ud83d\"",
    ];
    let good = SCALARS.len() - 3;
    match rng.u8(0..10) {
        0 | 1 if depth < 4 => {
            let items: Vec<String> = (0..rng.usize(0..4)).map(|_| json(rng, depth + 1)).collect();
            format!("[{}]", items.join(if rng.bool() { "," } else { " , " }))
        }
        2 | 3 if depth < 4 => format!("{{\"k\" : {}}}", json(rng, depth + 1)),
        4 if rng.u8(0..4) == 0 => SCALARS[rng.usize(good..SCALARS.len())].to_owned(),
        5 if rng.u8(0..8) == 0 => "[1,]".to_owned(),
        _ => SCALARS[rng.usize(0..good)].to_owned(),
    }
}

fn struct_format(rng: &mut Rng) -> String {
    const PARTS: [&str; 16] =
        ["b", "B", "h", "H", "l", "i4", "I2", "i8", ">", "<", "!4", "x", "d", "f", "s", "c3"];
    (0..rng.usize(0..4)).map(|_| PARTS[rng.usize(0..PARTS.len())]).collect()
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
