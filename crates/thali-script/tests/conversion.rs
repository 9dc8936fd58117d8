//! Lua values into replies and replies into Lua values, by Redis's rules.

mod common;

use common::{MockHost, eval, eval3, interpreter, run_on, show, text_of};

#[test]
fn lua_values_become_replies() {
    for (body, reply) in [
        ("return 1", ":1\r\n"),
        ("return 3.99", ":3\r\n"),
        ("return -3.99", ":-3\r\n"),
        ("return 1e300", ":-9223372036854775808\r\n"),
        ("return 'hi'", "$2\r\nhi\r\n"),
        ("return ''", "$0\r\n\r\n"),
        ("return true", ":1\r\n"),
        ("return false", "$-1\r\n"),
        ("return nil", "$-1\r\n"),
        ("return", "$-1\r\n"),
        ("return {}", "*0\r\n"),
        ("return {1, 2, nil, 4}", "*2\r\n:1\r\n:2\r\n"),
        ("return {1, {2, 'x'}}", "*2\r\n:1\r\n*2\r\n:2\r\n$1\r\nx\r\n"),
        ("return {ok = 'fine'}", "+fine\r\n"),
        ("return {ok = 'a\\r\\nb'}", "+a  b\r\n"),
        ("return {err = 'MY bad'}", "-MY bad\r\n"),
        ("return {ok = 1}", "*0\r\n"),
        ("return {double = 3.5}", "$3\r\n3.5\r\n"),
        ("return {map = {a = 1}}", "*2\r\n$1\r\na\r\n:1\r\n"),
        ("return {set = {a = true}}", "*1\r\n$1\r\na\r\n"),
        ("return {big_number = '123'}", "$3\r\n123\r\n"),
        ("return {big_number = '1\\r\\n2'}", "$4\r\n1  2\r\n"),
        ("return {verbatim_string = {format = 'txt', string = 'hi'}}", "$2\r\nhi\r\n"),
        (
            "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2]}",
            "*4\r\n$2\r\nk1\r\n$2\r\nk2\r\n$2\r\na1\r\n$2\r\na2\r\n",
        ),
        ("local t = {} for i = 1, 12 do t[i] = i % 10 end return t", &format!("*12\r\n{}", ones(12))),
    ] {
        assert_eq!(eval(body), reply, "{body}");
    }
}

fn ones(count: usize) -> String {
    (1..=count).map(|i| format!(":{}\r\n", i % 10)).collect()
}

#[test]
fn resp3_clients_get_resp3_types() {
    for (body, reply) in [
        ("return nil", "_\r\n"),
        ("return true", ":1\r\n"),
        ("return false", "_\r\n"),
        ("redis.setresp(3) return {true, false}", "*2\r\n#t\r\n#f\r\n"),
        ("return {double = 1.5}", ",1.5\r\n"),
        ("return {map = {a = 1}}", "%1\r\n$1\r\na\r\n:1\r\n"),
        ("return {set = {a = true}}", "~1\r\n$1\r\na\r\n"),
        ("return {big_number = '12'}", "(12\r\n"),
        ("return {verbatim_string = {format = 'txt', string = 'hi'}}", "=6\r\ntxt:hi\r\n"),
    ] {
        assert_eq!(eval3(body), reply, "{body}");
    }
    assert_eq!(eval("redis.setresp(3) return {true, false}"), "*2\r\n:1\r\n:0\r\n");
}

#[test]
fn replies_become_lua_values() {
    for (raw, code, text) in [
        (":42", "return type(r) .. r", "number42"),
        ("$2\\r\\nhi", "return type(r) .. r", "stringhi"),
        ("$-1", "return tostring(r)", "false"),
        ("*-1", "return tostring(r)", "false"),
        ("+OK", "return r.ok", "OK"),
        ("*2\\r\\n:1\\r\\n$-1", "return r[1] .. tostring(r[2])", "1false"),
        ("_", "return tostring(r)", "nil"),
        ("#t", "return tostring(r)", "true"),
        ("#f", "return tostring(r)", "false"),
        (",1.5", "return tostring(r.double)", "1.5"),
        (",inf", "return tostring(r.double)", "inf"),
        ("(123", "return r.big_number", "123"),
        ("=6\\r\\ntxt:hi", "return r.verbatim_string.format .. r.verbatim_string.string", "txthi"),
        ("%1\\r\\n+k\\r\\n:1", "local k, v = next(r.map) return k.ok .. v", "k1"),
        ("~1\\r\\n$1\\r\\nk", "return tostring(r.set.k)", "true"),
        ("|1\\r\\n+a\\r\\n+b\\r\\n:7", "return type(r) .. r", "number7"),
    ] {
        let body = format!("local r = redis.call('raw', '{raw}\\r\\n') {code}");
        assert_eq!(text_of(&body), text, "{raw}");
    }
}

#[test]
fn malformed_replies_are_errors_and_nothing_worse() {
    for raw in [
        "",
        ":1",
        ":x\\r\\n",
        "$5\\r\\nhi\\r\\n",
        "*2\\r\\n:1\\r\\n",
        ":1\\r\\n:2\\r\\n",
        "?\\r\\n",
        "%-1\\r\\n",
    ] {
        let reply = eval(format!("return redis.call('raw', '{raw}')"));
        assert!(reply.starts_with("-ERR the command's reply is malformed script: "), "{raw}: {reply}");
    }
    let deep = eval("return redis.call('raw', string.rep('*1\\r\\n', 100000) .. ':1\\r\\n')");
    assert!(deep.starts_with("-ERR the command's reply is malformed"), "{deep}");
}

#[test]
fn numbers_reach_commands_as_redis_writes_them() {
    let mut host = MockHost::default();
    let body =
        "redis.call('echo', 0.1) redis.call('echo', 2^53) redis.call('echo', 1e20) redis.call('echo', -7)
                return redis.call('nope', 1, 2, 3, 4, 5, 6.5)";
    let _ = run_on(&mut interpreter(), &mut host, body, false);
    let last: Vec<_> = host.calls.iter().map(|call| String::from_utf8_lossy(&call[1]).into_owned()).collect();
    assert_eq!(last, ["0.10000000000000001", "9007199254740992", "1e+20", "-7", "1"]);
    assert_eq!(host.calls[4][6], b"6.5");
}

#[test]
fn many_arguments_reach_the_command() {
    let mut host = MockHost::default();
    let body = "local t = {} for i = 1, 7000 do t[i] = i end redis.pcall('nope', unpack(t))";
    run_on(&mut interpreter(), &mut host, body, false).unwrap();
    assert_eq!(host.calls[0].len(), 7001);
    assert_eq!(host.calls[0][7000], b"7000");
}

#[test]
fn a_table_inside_itself_is_cut() {
    let reply = eval("local t = {} t[1] = t return t");
    assert!(reply.starts_with("*1\r\n*1\r\n"));
    assert!(reply.ends_with("-ERR reached lua stack limit\r\n"));
}

#[test]
fn binary_data_passes_through() {
    let mut host = MockHost::default();
    let body = b"return redis.call('echo', '\\0\\255\\r\\n')";
    let reply = run_on(&mut interpreter(), &mut host, body, false).unwrap();
    assert_eq!(reply, b"$4\r\n\0\xff\r\n\r\n");
    assert_eq!(show(run_on(&mut interpreter(), &mut host, "return #KEYS[1]", false)), ":2\r\n");
}
