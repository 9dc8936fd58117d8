//! What scripts may touch, and the errors they meet: the wording of redis-server 7.

mod common;

use common::{MockHost, error_of, eval, interpreter, run_on, show, text_of};
use thali_script::LogLevel;

const READ_ONLY: &str = "Attempt to modify a readonly table";

#[test]
fn errors_name_the_script_and_the_line() {
    for (body, error) in [
        ("local x = nil; local y = x.y", "ERR user_script:1: attempt to index local 'x' (a nil value)"),
        ("error('boom')", "ERR user_script:1: boom"),
        ("return error('boom')", "ERR user_script:1: boom"),
        ("error(5)", "ERR user_script:1: 5"),
        ("error('a\\nb')", "ERR user_script:1: a b"),
        ("error({err = 'My Err'})", "My Err"),
        ("error({err = 'A\\nB'})", "A B"),
        ("error({foo = 1})", "ERR unknown error"),
        ("error()", "ERR nil"),
        ("error(true)", "ERR true"),
        ("error(redis.error_reply('X y'))", "X y"),
        ("return foo", "ERR user_script:1: Script attempted to access nonexistent global variable 'foo'"),
        ("x = 1", &format!("ERR user_script:1: {READ_ONLY}")),
        ("local function f() return f() + 1 end local y = f()", "ERR stack overflow"),
        ("return redis.call('foo')", "ERR Unknown Redis command called from script"),
        ("return redis.call()", "ERR Please specify at least one argument for this redis lib call"),
        ("return redis.call({})", "ERR Lua redis lib command arguments must be strings or integers"),
        ("return redis.call('get', true)", "ERR Lua redis lib command arguments must be strings or integers"),
        ("return coroutine.wrap(function() error('x') end)()", "ERR user_script:1: user_script:1: x"),
        ("local v = unpack({1, 2, 3}, -2, 2147483647)", "ERR user_script:1: too many results to unpack"),
        (
            "local v = string.gsub('x')",
            "ERR user_script:1: bad argument #2 to 'gsub' (string expected, got no value)",
        ),
        (
            "local v = string.format('%d', 'x')",
            "ERR user_script:1: bad argument #2 to 'format' (number expected, got string)",
        ),
    ] {
        assert_eq!(error_of(body), error, "{body}");
    }
    assert_eq!(
        eval("return redis.call(\"foo\")"),
        "-ERR Unknown Redis command called from script script: 6c6a69ca11192f3d524585b5d65b8e08d2d8dcc6, on @user_script:1.\r\n"
    );
    assert!(eval("\n\n local x = nil\n x.y = 1").ends_with(", on @user_script:4.\r\n"));
    assert!(eval("#!lua\nlocal x = nil\nx.y = 1").ends_with(", on @user_script:3.\r\n"));
}

#[test]
fn what_does_not_compile_is_refused() {
    assert_eq!(
        eval("return 1 +").trim_end(),
        "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'"
    );
    assert!(eval("\u{1b}LJ\u{2}").contains("Error compiling script"));
}

#[test]
fn caught_errors_are_values() {
    assert_eq!(eval("return {pcall(function() error('x') end)}"), "*2\r\n$-1\r\n$16\r\nuser_script:1: x\r\n");
    assert_eq!(eval("return redis.pcall('foo')"), "-ERR Unknown Redis command called from script\r\n");
    assert_eq!(
        eval("return redis.pcall()"),
        "-ERR Please specify at least one argument for this redis lib call\r\n"
    );
    assert_eq!(
        text_of("local ok, e = pcall(redis.call, 'foo') return e"),
        "ERR Unknown Redis command called from script"
    );
    assert_eq!(
        text_of(
            "local ok, e = xpcall(function() error('x') end, function(e) return 'handled ' .. e end) return e"
        ),
        "handled user_script:1: x"
    );
    assert_eq!(
        eval("return {xpcall(function(a, b) return a + b end, print_nothing or error, 1, 2)}").chars().next(),
        Some('-')
    );
    assert_eq!(eval("return select('#', xpcall(function(...) return ... end, error, 1, 2, 3))"), ":4\r\n");
    assert_eq!(eval("return select('#', pcall(error, nil))"), ":2\r\n");
    assert_eq!(text_of("return select(2, pcall(error, {err = 'x'}))"), "x");
    assert_eq!(text_of("return select(2, pcall(error, {other = 'x'})).other"), "x");
}

#[test]
fn nothing_shared_can_be_changed() {
    for body in [
        "_G = nil",
        "_G.x = 1",
        "KEYS = {}",
        "redis.call = 1",
        "string.len = nil",
        "string.x = 1",
        "coroutine.wrap = 1",
        "cjson.encode = 1",
        "local function f() x = 1 end f()",
        "getmetatable('').__index = 1",
        "getmetatable('').__index.len = 1",
        "getmetatable(_G).__index = 1",
        "getmetatable(redis).__newindex = nil",
        "rawset(_G, 'a', 1)",
        "rawset(redis, 'call', 1)",
        "rawset(getmetatable(_G), '__index', 1)",
        "rawset(getmetatable(''), '__index', 1)",
        "setmetatable(_G, {})",
        "setmetatable(string, {})",
        "setmetatable(getmetatable(_G), {})",
        "table.insert(_G, 1)",
        "table.insert(redis, 1)",
        "loadstring('x = 1')()",
        "coroutine.wrap(function() x = 1 end)()",
    ] {
        let error = error_of(body);
        assert!(error.ends_with(READ_ONLY), "{body}: {error}");
    }
}

#[test]
fn a_script_leaves_nothing_for_the_next() {
    let (mut lua, mut host) = (interpreter(), MockHost::default());
    for body in [
        "for k, v in pairs(_G) do if type(v) == 'table' then pcall(rawset, v, 'leak', 1) end end",
        "for k, v in pairs(redis) do v = 1 end",
        "local lib = {} for k, v in pairs(string) do lib[k] = v end lib.len = nil",
        "local n, t = pairs(string) t.leak = 1 t.len = nil",
        "KEYS.leak = 1 KEYS[1] = 'other'",
        "pcall(table.sort, _G, function() end) pcall(table.remove, _G)",
        "local mt = getmetatable(cjson.decode('[]')) if mt then mt.leak = 1 end",
    ] {
        let _ = run_on(&mut lua, &mut host, body, false);
    }
    let check = "return {tostring(rawget(_G, 'leak')), tostring(string.leak), tostring(KEYS.leak), KEYS[1], ('x'):len()}";
    let reply = run_on(&mut lua, &mut host, check, false);
    assert_eq!(show(reply), "*5\r\n$3\r\nnil\r\n$3\r\nnil\r\n$3\r\nnil\r\n$2\r\nk1\r\n:1\r\n");
}

#[test]
fn the_way_out_is_shut() {
    for name in [
        "io", "require", "package", "module", "debug", "ffi", "jit", "print", "dofile", "loadfile",
        "getfenv", "setfenv", "newproxy",
    ] {
        let error =
            format!("ERR user_script:1: Script attempted to access nonexistent global variable '{name}'");
        assert_eq!(error_of(&format!("local v = {name}")), error);
    }
    assert_eq!(
        text_of("local t = {} for k in pairs(os) do t[#t + 1] = k end return table.concat(t)"),
        "clock"
    );
    assert_eq!(text_of("return type(os.clock())"), "number");
    assert_eq!(eval("return {loadstring(string.dump(function() return 1 end))}"), "*0\r\n");
    assert_eq!(
        text_of("return select(2, loadstring(string.dump(function() return 1 end)))"),
        "attempt to load a binary chunk"
    );
    assert_eq!(text_of("return select(2, load('\\27LJ', 'x', 'b'))"), "attempt to load a binary chunk");
    let pieces = "local i, d = 0, string.dump(function() end)
        return select(2, load(function() i = i + 1 if i <= #d then return d:sub(i, i) end end))";
    assert_eq!(text_of(pieces), "attempt to load a binary chunk");
}

#[test]
fn what_redis_gives_is_there() {
    let names = text_of(
        "local t = {} for k in pairs(_G) do t[#t + 1] = k end table.sort(t) return table.concat(t, ' ')",
    );
    assert_eq!(
        names,
        "ARGV KEYS _G _VERSION assert bit cjson cmsgpack collectgarbage coroutine error gcinfo getmetatable ipairs load \
         loadstring math next os pairs pcall rawequal rawget rawset redis select server setmetatable string struct \
         table \
         tonumber tostring type unpack xpcall"
    );
    for (body, reply) in [
        ("return redis.sha1hex('a')", "$40\r\n86f7e437faa5a7fce15d1ddcb9eaeaea377667b8\r\n"),
        ("return redis.status_reply('fine')", "+fine\r\n"),
        ("return redis.status_reply('hi\\nho')", "+hi ho\r\n"),
        ("return redis.status_reply()", "-ERR wrong number or type of arguments\r\n"),
        ("return redis.error_reply('hello')", "-ERR hello\r\n"),
        ("return redis.error_reply('-hello')", "-ERR hello\r\n"),
        ("return redis.error_reply('MY hello')", "-MY hello\r\n"),
        ("return redis.error_reply(1)", "-ERR wrong number or type of arguments\r\n"),
        ("return redis.replicate_commands()", ":1\r\n"),
        ("return redis.breakpoint()", "$-1\r\n"),
        ("return redis.REDIS_VERSION", "$5\r\n7.2.4\r\n"),
        ("return redis.REDIS_VERSION_NUM", ":459268\r\n"),
        ("return server.call('ping')", "+PONG\r\n"),
        ("return server.REDIS_VERSION", "$5\r\n7.2.4\r\n"),
        (
            "return {redis.LOG_DEBUG, redis.LOG_WARNING, redis.REPL_NONE, redis.REPL_ALL}",
            "*4\r\n:0\r\n:3\r\n:0\r\n:3\r\n",
        ),
        ("return redis.acl_check_cmd('get', 'k')", ":1\r\n"),
        ("return redis.acl_check_cmd('set', 'k', 'v')", "$-1\r\n"),
        ("return rawget(_G, 'redis') == redis", ":1\r\n"),
        ("return rawget(_G, 'nosuch') == nil", ":1\r\n"),
        ("return getmetatable('').__index == string", ":1\r\n"),
        ("return loadstring('return 7')()", ":7\r\n"),
        ("local i = 0 return load(function() i = i + 1 return ({'return ', '8'})[i] end)()", ":8\r\n"),
        ("return rawset({}, 'a', 1).a", ":1\r\n"),
        ("return setmetatable({}, {__index = function() return 5 end}).x", ":5\r\n"),
        (
            "local t = {} table.insert(t, 'b') table.insert(t, 1, 'a') return t",
            "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        ),
        ("local n = 0 for k, v in pairs({1, 2, a = 3}) do n = n + v end return n", ":6\r\n"),
        ("return math.mod(7, 4)", ":3\r\n"),
    ] {
        assert_eq!(eval(body), reply, "{body}");
    }
}

#[test]
fn mistakes_in_calls_are_worded_as_redis_words_them() {
    for (body, error) in [
        ("redis.sha1hex()", "ERR wrong number of arguments"),
        ("redis.log(1)", "ERR redis.log() requires two arguments or more."),
        ("redis.log('a', 'b')", "ERR First argument must be a number (log level)."),
        ("redis.log(9, 'b')", "ERR Invalid debug level."),
        ("redis.setresp()", "ERR redis.setresp() requires one argument."),
        ("redis.setresp(4)", "ERR RESP version must be 2 or 3."),
        ("redis.set_repl()", "ERR redis.set_repl() requires two arguments."),
        (
            "redis.set_repl(9)",
            "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ),
        ("redis.acl_check_cmd('foo')", "ERR Invalid command passed to redis.acl_check_cmd()"),
        ("server.acl_check_cmd('foo')", "ERR Invalid command passed to server.acl_check_cmd()"),
        ("server.setresp()", "ERR server.setresp() requires one argument."),
        ("table.insert({}, 1, 2, 3)", "ERR user_script:1: wrong number of arguments to 'insert'"),
        ("table.insert(nil, 1)", "ERR user_script:1: bad argument #1 to 'insert' (table expected, got nil)"),
        (
            "setmetatable(1, {})",
            "ERR user_script:1: bad argument #1 to 'setmetatable' (table expected, got number)",
        ),
        ("coroutine.resume(1)", "ERR user_script:1: bad argument #1 to 'resume' (coroutine expected)"),
    ] {
        assert_eq!(error_of(body), error, "{body}");
    }
}

#[test]
fn coroutines_work() {
    for (body, text) in [
        ("local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
          local _, x = coroutine.resume(co, 1) local _, y = coroutine.resume(co, 10) return x .. ' ' .. y .. ' ' .. coroutine.status(co)", "2 20 dead"),
        ("local co = coroutine.create(function() end) coroutine.resume(co) return select(2, coroutine.resume(co))", "cannot resume dead coroutine"),
        ("return select(2, coroutine.resume(coroutine.create(function() error('x') end)))", "user_script:1: x"),
        ("local t = {} for v in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do t[#t + 1] = v end return table.concat(t, ',')", "1,2,3"),
        ("local co co = coroutine.create(function() return select(2, coroutine.resume(co)) end) return select(2, coroutine.resume(co))", "cannot resume running coroutine"),
        ("return coroutine.wrap(function() return redis.call('ping').ok end)()", "PONG"),
    ] {
        assert_eq!(text_of(body), text, "{body}");
    }
}

#[test]
fn the_host_hears_log_replication_and_protocol() {
    let (mut lua, mut host) = (interpreter(), MockHost::default());
    let body = "redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b') redis.set_repl(redis.REPL_AOF) redis.setresp(3)
                return redis.call('get', 'nosuch')";
    assert_eq!(run_on(&mut lua, &mut host, body, true).unwrap(), b"_\r\n");
    assert_eq!(host.logged, [(LogLevel::Warning, b"a 1 b".to_vec())]);
    assert_eq!(host.replication, Some(1));
}
