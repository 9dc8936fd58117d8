//! cjson, cmsgpack, struct, bit, random numbers: the bytes and errors of redis-server 7.

mod common;

use common::{error_of, eval, text_of};

fn json(value: &str) -> String {
    text_of(format!("return cjson.encode({value})"))
}

/// Decodes and encodes again.
fn rejson(text: &str) -> String {
    text_of(format!("return cjson.encode(cjson.decode([==[{text}]==]))"))
}

fn decode_error(text: &str) -> String {
    let error = error_of(&format!("local v = cjson.decode([==[{text}]==])"));
    error.strip_prefix("ERR user_script:1: ").unwrap_or(&error).to_owned()
}

fn hex(expression: &str) -> String {
    let hex =
        "local function hex(s) return (s:gsub('.', function(c) return ('%02x'):format(c:byte()) end)) end";
    text_of(format!("{hex} return hex({expression})"))
}

#[test]
fn cjson_writes_what_redis_writes() {
    for (value, text) in [
        ("{}", "{}"),
        ("{1, 2, 3}", "[1,2,3]"),
        ("{[1] = 1, [3] = 3}", "[1,null,3]"),
        ("{[10] = 2}", "[null,null,null,null,null,null,null,null,null,2]"),
        ("{a = 1}", r#"{"a":1}"#),
        ("{[1.5] = 1}", r#"{"1.5":1}"#),
        ("{[0] = 1}", r#"{"0":1}"#),
        ("{[2^40] = 2}", r#"{"1099511627776":2}"#),
        (r#""a/b\"\\\1\127\n\t""#, r#""a\/b\"\\\u0001\u007f\n\t""#),
        ("1/3", "0.33333333333333"),
        ("1e15", "1e+15"),
        ("100000000000000", "1e+14"),
        ("99999999999999", "99999999999999"),
        ("-0", "-0"),
        ("1755000000123", "1755000000123"),
        ("{true, false, cjson.null}", "[true,false,null]"),
        ("nil", "null"),
        ("{{}, {{}}}", "[{},[{}]]"),
    ] {
        assert_eq!(json(value), text, "{value}");
    }
    assert_eq!(eval(b"return cjson.encode('\\200')").as_bytes(), "$3\r\n\"\u{fffd}\"\r\n".as_bytes());
}

#[test]
fn cjson_refuses_what_redis_refuses() {
    for (value, error) in [
        ("{[1] = 1, [30] = 3}", "Cannot serialise table: excessively sparse array"),
        ("1/0", "Cannot serialise number: must not be NaN or Inf"),
        ("{0/0}", "Cannot serialise number: must not be NaN or Inf"),
        ("function() end", "Cannot serialise function: type not supported"),
        ("{[true] = 1}", "Cannot serialise boolean: table key must be a number or string"),
        ("true, 1", "bad argument #1 to 'encode' (expected 1 argument)"),
        ("", "bad argument #1 to 'encode' (expected 1 argument)"),
    ] {
        let body = format!("local v = cjson.encode({value})");
        assert_eq!(error_of(&body), format!("ERR user_script:1: {error}"), "{value}");
    }
    let nested = error_of("local a = {} a[1] = a local v = cjson.encode(a)");
    assert_eq!(nested, "ERR user_script:1: Cannot serialise, excessive nesting (1001)");
}

#[test]
fn cjson_reads_what_redis_reads() {
    for (text, again) in [
        ("[]", "{}"),
        ("{}", "{}"),
        (" [ 1 , 2 ] ", "[1,2]"),
        (r#""x\u00e9\ud83d\ude00\/\n""#, "\"x\u{e9}\u{1f600}\\/\\n\""),
        (r#""a\u0000b""#, r#""a\u0000b""#),
        ("[null,true,false]", "[null,true,false]"),
        ("1.5e3", "1500"),
        ("-12.25", "-12.25"),
        ("+1", "1"),
        ("01", "1"),
        ("0x10", "16"),
        ("5.", "5"),
        ("123456789012345678", "1.2345678901235e+17"),
        (r#"{"a":{"b":[1,{"c":"d"}]}}"#, r#"{"a":{"b":[1,{"c":"d"}]}}"#),
    ] {
        assert_eq!(rejson(text), again, "{text}");
    }
    assert_eq!(eval("return cjson.decode('null') == cjson.null"), ":1\r\n");
    assert_eq!(eval("return cjson.decode('1e400') == math.huge"), ":1\r\n");
    assert_eq!(eval("return cjson.decode(5)"), ":5\r\n");
    assert_eq!(eval("return cjson.decode('1755000000123.5') == 1755000000123.5"), ":1\r\n");
}

#[test]
fn cjson_words_its_errors_as_redis_does() {
    for (text, error) in [
        ("", "Expected value but found T_END at character 1"),
        ("{", "Expected object key string but found T_END at character 2"),
        ("[1,", "Expected value but found T_END at character 4"),
        ("[1 2]", "Expected comma or array end but found T_NUMBER at character 4"),
        (r#"{"a" 1}"#, "Expected colon but found T_NUMBER at character 6"),
        (r#"{"a":1 "b":2}"#, "Expected comma or object end but found T_STRING at character 8"),
        ("{a:1}", "Expected object key string but found invalid token at character 2"),
        (r#""abc"#, "Expected value but found unexpected end of string at character 5"),
        (r#""\x""#, "Expected value but found invalid escape code at character 2"),
        (r#""\ud800""#, "Expected value but found invalid unicode escape code at character 2"),
        (r#""\udc00""#, "Expected value but found invalid unicode escape code at character 2"),
        ("nul", "Expected value but found invalid token at character 1"),
        ("-", "Expected value but found invalid number at character 1"),
        (".5", "Expected value but found invalid token at character 1"),
        ("1e", "Expected the end but found invalid token at character 2"),
        ("1 2", "Expected the end but found T_NUMBER at character 3"),
        ("[1]]", "Expected the end but found T_ARR_END at character 4"),
        ("[1,2,]", "Expected value but found T_ARR_END at character 6"),
        (r#"{"a":1,}"#, "Expected object key string but found T_OBJ_END at character 8"),
        ("@", "Expected value but found invalid token at character 1"),
    ] {
        assert_eq!(decode_error(text), error, "{text}");
    }
    let deep = error_of("local v = cjson.decode(string.rep('[', 1001))");
    assert_eq!(deep, "ERR user_script:1: Found too many nested data structures (1001) at character 1001");
    let wide = error_of("local v = cjson.decode('a\\0b')");
    assert_eq!(wide, "ERR user_script:1: JSON parser does not support UTF-16 or UTF-32");
}

#[test]
fn cjson_options_work_and_last_for_one_run() {
    for (body, text) in [
        ("cjson.encode_sparse_array(true) return cjson.encode({[30] = 3})", r#"{"30":3}"#),
        (
            "cjson.encode_sparse_array(false, 0) return cjson.encode({[1] = 1, [5] = 3})",
            "[1,null,null,null,3]",
        ),
        ("cjson.encode_number_precision(3) return cjson.encode({1/3, 12345})", "[0.333,1.23e+04]"),
        ("cjson.encode_invalid_numbers(true) return cjson.encode({1/0, -1/0, 0/0})", "[inf,-inf,nan]"),
        ("cjson.encode_invalid_numbers('null') return cjson.encode({1/0})", "[null]"),
        ("cjson.decode_array_with_array_mt(true) return cjson.encode(cjson.decode('[[],{}]'))", "[[],{}]"),
        ("return tostring(cjson.encode_keep_buffer())", "true"),
        ("return tostring(cjson.decode_invalid_numbers())", "true"),
    ] {
        assert_eq!(text_of(body), text, "{body}");
    }
    for (body, error) in [
        (
            "cjson.encode_max_depth(0)",
            "bad argument #1 to 'encode_max_depth' (expected integer between 1 and 2147483647)",
        ),
        ("cjson.encode_max_depth(1, 2)", "bad argument #2 to 'encode_max_depth' (found too many arguments)"),
        (
            "cjson.encode_invalid_numbers('zz')",
            "bad argument #1 to 'encode_invalid_numbers' (invalid option 'zz')",
        ),
        (
            "cjson.encode_number_precision(17)",
            "bad argument #1 to 'encode_number_precision' (expected integer between 1 and 14)",
        ),
        (
            "cjson.decode_max_depth(2) local v = cjson.decode('[[[1]]]')",
            "Found too many nested data structures (3) at character 3",
        ),
        (
            "cjson.decode_invalid_numbers(false) local v = cjson.decode('0x10')",
            "Expected value but found invalid number at character 1",
        ),
        (
            "cjson.decode_invalid_numbers(false) local v = cjson.decode('nan')",
            "Expected value but found invalid token at character 1",
        ),
    ] {
        assert_eq!(error_of(body), format!("ERR user_script:1: {error}"), "{body}");
    }
    let mut lua = common::interpreter();
    let mut host = common::MockHost::default();
    common::run_on(&mut lua, &mut host, "cjson.encode_number_precision(3)", false).unwrap();
    assert_eq!(
        common::run_on(&mut lua, &mut host, "return cjson.encode(1/3)", false).unwrap(),
        b"$16\r\n0.33333333333333\r\n"
    );
}

#[test]
fn cmsgpack_packs_what_redis_packs() {
    for (values, bytes) in [
        ("nil", "c0"),
        ("true, false", "c3c2"),
        (
            "127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296",
            "7fcc80ccffcd0100cdffffce00010000ceffffffffcf0000000100000000",
        ),
        ("2^53, 2^63, 2^64, 1e300", "cf0020000000000000ca5f000000ca5f800000cb7e37e43c8800759c"),
        (
            "-1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649",
            "ffe0d0dfd080d1ff7fd18000d2ffff7fffd280000000d3ffffffff7fffffff",
        ),
        ("-2^63, -2^64", "d38000000000000000cadf800000"),
        ("1.5, 0.1, 1/0, -1/0", "ca3fc00000cb3fb999999999999aca7f800000caff800000"),
        ("{}", "90"),
        ("{1, 2, 3}", "93010203"),
        ("{a = 1}", "81a16101"),
        ("{[2] = 1}", "810201"),
        ("{{}, {}}", "929090"),
        ("'abc'", "a3616263"),
        ("function() end, cjson.null", "c0c0"),
        ("{[1.5] = 2}", "81ca3fc0000002"),
        ("{['1'] = 2}", "81a13102"),
        ("{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}", "dc00100102030405060708090a0b0c0d0e0f10"),
    ] {
        assert_eq!(hex(&format!("cmsgpack.pack({values})")), bytes, "{values}");
    }
    assert!(hex("cmsgpack.pack(string.rep('a', 32))").starts_with("d92061"));
    assert!(hex("cmsgpack.pack(string.rep('a', 256))").starts_with("da010061"));
    assert!(hex("cmsgpack.pack(string.rep('a', 65536))").starts_with("db0001000061"));
    assert_eq!(
        hex("(function() local a = {} a[1] = a return cmsgpack.pack(a) end)()"),
        format!("{}c0", "91".repeat(16))
    );
    assert_eq!(
        error_of("local v = cmsgpack.pack()"),
        "ERR user_script:1: bad argument #0 to 'pack' (MessagePack pack needs input.)"
    );
}

#[test]
fn cmsgpack_unpacks_what_redis_unpacks() {
    let unhex = "local function un(h) return (h:gsub('..', function(x) return string.char(tonumber(x, 16)) end)) end
        local function show(v) return type(v) == 'table' and cjson.encode(v) or type(v) .. ':' .. tostring(v) end";
    for (bytes, shown) in [
        ("01", "number:1"),
        ("e0", "number:-32"),
        ("0102", "number:1 number:2"),
        ("93010203", "[1,2,3]"),
        ("81a16101", r#"{"a":1}"#),
        ("cbc004000000000000", "number:-2.5"),
        ("ca3fc00000", "number:1.5"),
        ("ccff", "number:255"),
        ("d0ff", "number:-1"),
        ("cdffff", "number:65535"),
        ("d1fffe", "number:-2"),
        ("ceffffffff", "number:4294967295"),
        ("d2ffffffff", "number:-1"),
        ("cfffffffffffffffff", "number:-1"),
        ("d3fffffffffffffffe", "number:-2"),
        ("d903616263", "string:abc"),
        ("da0003616263", "string:abc"),
        ("db00000003616263", "string:abc"),
        ("dd00000001c3", "[true]"),
        ("de0001a16101", r#"{"a":1}"#),
        ("df00000001a16101", r#"{"a":1}"#),
    ] {
        let body = format!(
            "{unhex} local r = {{cmsgpack.unpack(un('{bytes}'))}} for i = 1, #r do r[i] = show(r[i]) end return table.concat(r, ' ')"
        );
        assert_eq!(text_of(&body), shown, "{bytes}");
    }
    for (bytes, error) in [
        ("c403616263", "user_script:2: Bad data format in input."),
        ("c1", "user_script:2: Bad data format in input."),
        ("a3", "user_script:2: Missing bytes in input."),
        ("93", "user_script:2: Missing bytes in input."),
        ("dd7fffffff", "user_script:2: Missing bytes in input."),
        ("81c001", "table index is nil"),
    ] {
        let body = format!("{unhex} local v = cmsgpack.unpack(un('{bytes}'))");
        assert_eq!(error_of(&body), format!("ERR {error}"), "{bytes}");
    }
    let deep = error_of("local v = cmsgpack.unpack(string.rep('\\145', 100000))");
    assert_eq!(deep, "ERR user_script:1: too many values to unpack");
}

#[test]
fn cmsgpack_unpacks_in_steps() {
    for (body, reply) in [
        (r"return {cmsgpack.unpack_one('\1\2\3')}", vec![1, 1]),
        (r"return {cmsgpack.unpack_one('\1\2\3', 1)}", vec![2, 2]),
        (r"return {cmsgpack.unpack_one('\1\2\3', 2)}", vec![-1, 3]),
        (r"return {cmsgpack.unpack_one('\1\2\3', 3)}", vec![-1]),
        (r"return {cmsgpack.unpack_limit('\1\2\3', 2)}", vec![2, 1, 2]),
        (r"return {cmsgpack.unpack_limit('\1\2\3', 2, 1)}", vec![-1, 2, 3]),
        (r"return {cmsgpack.unpack_limit('\1\2\3', 0)}", vec![1, 2, 3]),
        (r"return {cmsgpack.unpack_limit('\1\2\3', 5)}", vec![-1, 1, 2, 3]),
    ] {
        let expected: String = reply.iter().map(|n| format!(":{n}\r\n")).collect();
        assert_eq!(eval(body), format!("*{}\r\n{expected}", reply.len()), "{body}");
    }
    for (call, error) in [
        ("unpack_one('abc', 4)", "Start offset 4 greater than input length 3."),
        ("unpack_one('abc', -1)", "Invalid request to unpack with offset of -1 and limit of 3."),
        ("unpack_limit('abc')", "bad argument #2 to 'unpack_limit' (number expected, got no value)"),
        ("unpack({})", "bad argument #1 to 'unpack' (string expected, got table)"),
    ] {
        assert_eq!(error_of(&format!("local v = cmsgpack.{call}")), format!("ERR user_script:1: {error}"));
    }
}

#[test]
fn struct_packs_what_redis_packs() {
    for (arguments, bytes) in [
        ("'>I4', 1", "00000001"),
        ("'<I4', 1", "01000000"),
        ("'bBhHlL', -1, 255, -2, 65535, -3, 4", "fffffefffffffdffffffffffffff0400000000000000"),
        ("'>h', -2", "fffe"),
        ("'i8', -2", "feffffffffffffff"),
        ("'>I8', 2^63", "8000000000000000"),
        ("'>I3', 2", "000002"),
        ("'>I16', 2", "00000000000000000000000000000002"),
        ("'c3', 'abcd'", "616263"),
        ("'c0', 'abcd'", "61626364"),
        ("'c', 'abcd'", "61"),
        ("'s', 'abcd'", "6162636400"),
        ("'s', 12", "313200"),
        ("'f', 1.5", "0000c03f"),
        ("'>d', 1.5", "3ff8000000000000"),
        ("'!4bi', 1, 2", "0100000002000000"),
        ("'!bd', 1, 2", "01000000000000000000000000000040"),
        ("'I4', 3.7", "03000000"),
        ("'I4', 2^40", "00000000"),
        ("' < I2 > I2', 1, 2", "01000002"),
        ("'bxb', 1, 2", "010002"),
    ] {
        assert_eq!(hex(&format!("struct.pack({arguments})")), bytes, "{arguments}");
    }
    for (arguments, error) in [
        ("'>I64', 2", "integral size 64 is larger than limit of 32"),
        ("'c5', 'abcd'", "bad argument #3 to 'pack' (string too short)"),
        ("'!3bd', 1, 2", "alignment 3 is not a power of 2"),
        ("'z', 1", "bad argument #1 to 'pack' (invalid format option 'z')"),
        ("'i', 'x'", "bad argument #2 to 'pack' (number expected, got string)"),
        ("'I99999999999', 1", "integral size overflow"),
        ("'c2147483648', 'a'", "integral size overflow"),
    ] {
        assert_eq!(
            error_of(&format!("local v = struct.pack({arguments})")),
            format!("ERR user_script:1: {error}")
        );
    }
}

#[test]
fn struct_unpacks_what_redis_unpacks() {
    for (arguments, shown) in [
        (r"'>I2', '\1\2'", "258 3"),
        (r"'>I2I2', '\1\2\3\4'", "258 772 5"),
        (r"'<I2', '\1\2\3', 2", "770 4"),
        (r"'b', '\255'", "-1 2"),
        (r"'s', 'abc\0d'", "abc 5"),
        (r"'Bc0', '\3abcd'", "abc 5"),
        (r"'xb', '\1\2'", "2 3"),
        (r"'>i8', '\255\255\255\255\255\255\255\254'", "-2 9"),
        (r"'>i16', '\0\0\0\0\0\0\0\0\255\255\255\255\255\255\255\254'", "-2 17"),
        (r"'>d', struct.pack('>d', 1.5)", "1.5 9"),
        ("'', 'abc', -1", "-1"),
        ("'', 'abc', 9", "9"),
        ("'', 'abc', 1e300", "-9.2233720368548e+18"),
        ("'b', 'abc', 1.9", "97 2"),
    ] {
        assert_eq!(
            text_of(format!("return table.concat({{struct.unpack({arguments})}}, ' ')")),
            shown,
            "{arguments}"
        );
    }
    for (arguments, error) in [
        ("'s', 'abc'", "unfinished string in data"),
        ("'c0', 'abc'", "format 'c0' needs a previous size"),
        ("'I4', 'abc'", "bad argument #2 to 'unpack' (data string too short)"),
        ("'I4', 'abc', -1", "bad argument #2 to 'unpack' (data string too short)"),
        ("'I4', 'abc', 2147483648", "bad argument #2 to 'unpack' (data string too short)"),
        ("'I4', 'abc', 0", "bad argument #3 to 'unpack' (offset must be 1 or greater)"),
        ("'', 'abc', 0.5", "bad argument #3 to 'unpack' (offset must be 1 or greater)"),
        ("' ', 'abc', 9", "bad argument #2 to 'unpack' (data string too short)"),
    ] {
        assert_eq!(
            error_of(&format!("local v = struct.unpack({arguments})")),
            format!("ERR user_script:1: {error}")
        );
    }
    assert_eq!(
        eval("return {struct.size('bhi'), struct.size('!bhi'), struct.size('c10'), struct.size('!8bd')}"),
        "*4\r\n:7\r\n:8\r\n:10\r\n:16\r\n"
    );
    assert_eq!(eval("return struct.size('z')"), ":0\r\n");
    assert_eq!(
        error_of("local v = struct.size('?')"),
        "ERR user_script:1: bad argument #1 to 'size' (invalid format option '?')"
    );
}

#[test]
fn random_numbers_are_those_of_redis_and_go_on_from_run_to_run() {
    assert_eq!(
        text_of("return tostring(math.random()) .. ' ' .. tostring(math.random())"),
        "0.17082803611217 0.74990198051087"
    );
    assert_eq!(
        eval("math.randomseed(7) return {math.random(1000000), math.random(1000000)}"),
        "*2\r\n:266445\r\n:682036\r\n"
    );
    let mut lua = common::interpreter();
    let mut host = common::MockHost::default();
    let mut next = || common::show(common::run_on(&mut lua, &mut host, "return math.random(1000000)", false));
    assert_eq!([next(), next()], [":170829\r\n", ":749902\r\n"]);
    lua.seed(7);
    let seeded = common::show(common::run_on(&mut lua, &mut host, "return math.random(1000000)", false));
    assert_eq!(seeded, ":266445\r\n");
    assert_eq!(
        error_of("local v = math.random(0)"),
        "ERR user_script:1: bad argument #1 to 'random' (interval is empty)"
    );
    assert_eq!(error_of("local v = math.random(1, 2, 3)"), "ERR user_script:1: wrong number of arguments");
}

#[test]
fn bit_operations_behave() {
    assert_eq!(
        eval("return {bit.band(0xff, 0x0f), bit.bor(1, 2), bit.lshift(1, 31), bit.bnot(0)}"),
        "*4\r\n:15\r\n:3\r\n:-2147483648\r\n:-1\r\n"
    );
    assert_eq!(text_of("return bit.tohex(255, 4)"), "00ff");
    assert_eq!(text_of("return bit.tohex(65535, -4)"), "FFFF");
    assert_eq!(text_of("return bit.tohex(1, 20)"), "00000001");
    assert_eq!(text_of("return bit.tohex(-1, -2147483648)"), "FFFFFFFF");
    for (digits, text) in
        [("0", ""), ("0/0", ""), ("2.7", "0ff"), ("2^32 + 3", "0ff"), ("1e300", "000000FF"), ("-1/0", "")]
    {
        assert_eq!(text_of(format!("return bit.tohex(255, {digits})")), text, "{digits}");
    }
}
