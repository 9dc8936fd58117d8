//! Runs that must end: too long, too deep, too large, aborted; and the host's panic.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use common::{MockHost, THRESHOLD, error_of, eval, interpreter, run_on, script, show, watchdog};
use thali_script::{Call, Interpreter, Limits, ScriptError, Verdict};

const EMPTY: Call<'static> = Call { keys: &[], args: &[], resp3: false };

/// Scripts that never end by themselves, with every way to hide from an error.
const ENDLESS: [&str; 9] = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "local function f() pcall(f) return f() end f()",
    "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "while true do pcall(coroutine.wrap(function() while true do pcall(function() while true do end end) end end)) end",
    "while true do redis.pcall('ping') end",
    "local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(function() return t.x end) end",
    "while true do pcall(string.gsub, 'x', 'x', function() while true do end end) end",
];

#[test]
fn a_killed_script_ends_whatever_it_catches() {
    for body in ENDLESS {
        let (mut lua, mut host) = (interpreter(), MockHost::default());
        let error = run_on(&mut lua, &mut host, body, false).unwrap_err();
        let ScriptError::Killed(text) = &error else { panic!("{body}: {error:?}") };
        let sha = *script(body).sha();
        let expected =
            format!("ERR Script killed by user with SCRIPT KILL... script: {sha}, on @user_script:1.");
        assert_eq!(text, &expected, "{body}");
        assert_eq!(host.asked, 1, "{body}");
        assert_eq!(show(run_on(&mut lua, &mut host, "return 1", false)), ":1\r\n", "after {body}");
    }
}

#[test]
fn the_host_is_asked_until_it_says_stop() {
    struct Patient(usize);
    impl thali_script::Host for Patient {
        fn call(&mut self, _: &[&[u8]], reply: &mut Vec<u8>) -> Result<(), thali_script::Abort> {
            reply.extend_from_slice(b"+OK\r\n");
            Ok(())
        }
        fn busy(&mut self) -> Verdict {
            self.0 += 1;
            if self.0 < 100 { Verdict::Continue } else { Verdict::Abort }
        }
    }
    let mut host = Patient(0);
    let begun = Instant::now();
    let ended = interpreter().run(&script("while true do end"), EMPTY, &mut host, &mut Vec::new());
    assert_eq!(ended, Err(ScriptError::Aborted));
    assert_eq!(host.0, 100);
    assert!(begun.elapsed() >= THRESHOLD);
}

#[test]
fn fast_scripts_are_never_asked() {
    let (mut lua, mut host) = (interpreter(), MockHost::default());
    let begun = Instant::now();
    while begun.elapsed() < THRESHOLD * 5 {
        run_on(&mut lua, &mut host, "for i = 1, 100 do redis.call('ping') end", false).unwrap();
        host.calls.clear();
    }
    assert_eq!(host.asked, 0);
}

#[test]
fn a_sleeping_watchdog_wakes_for_the_next_script() {
    let (mut lua, mut host) = (interpreter(), MockHost::default());
    run_on(&mut lua, &mut host, "return 1", false).unwrap();
    // Longer than the watchdog stays awake without work; it is correct whether it sleeps by then or not.
    std::thread::sleep(std::time::Duration::from_millis(1300));
    let ended = run_on(&mut lua, &mut host, "while true do end", false);
    assert!(matches!(ended, Err(ScriptError::Killed(_))));
}

#[test]
fn an_abort_cannot_be_caught() {
    for body in [
        "redis.call('abort')",
        "redis.pcall('abort') return 1",
        "pcall(redis.call, 'abort') return 1",
        "pcall(pcall, redis.call, 'abort') return 1",
        "xpcall(redis.call, function() return 1 end, 'abort') redis.call('set', 'k', 'v')",
        "coroutine.resume(coroutine.create(function() redis.call('abort') end)) redis.call('set', 'k', 'v')",
        "pcall(coroutine.wrap(function() redis.call('abort') end)) redis.call('set', 'k', 'v')",
        "string.gsub('x', 'x', function() pcall(redis.call, 'abort') end) redis.call('set', 'k', 'v')",
        "table.sort({3, 2, 1}, function() redis.call('abort') end)",
        "local t = setmetatable({}, {__index = function() redis.call('abort') end}) local v = pcall(function() return t.x end) redis.call('set', 'k', 'v')",
        "while true do pcall(redis.pcall, 'abort') end",
    ] {
        let (mut lua, mut host) = (interpreter(), MockHost::default());
        let mut out = b"before".to_vec();
        let ended = lua.run(&script(body), EMPTY, &mut host, &mut out);
        assert_eq!(ended, Err(ScriptError::Aborted), "{body}");
        assert_eq!(out, b"before", "{body}");
        assert!(host.strings.is_empty(), "{body}");
        assert_eq!(host.calls.len(), 1, "{body}");
        assert_eq!(
            show(run_on(&mut lua, &mut host, "return redis.call('ping')", false)),
            "+PONG\r\n",
            "after {body}"
        );
    }
}

#[test]
fn a_panic_of_the_host_passes_through_in_order() {
    let (mut lua, mut host) = (interpreter(), MockHost::default());
    let body = "pcall(redis.call, 'panic') redis.call('set', 'k', 'v')";
    let caught = catch_unwind(AssertUnwindSafe(|| run_on(&mut lua, &mut host, body, false))).unwrap_err();
    assert_eq!(caught.downcast_ref::<&str>(), Some(&"the host panicked on purpose"));
    assert!(host.strings.is_empty());
    assert_eq!(show(run_on(&mut lua, &mut host, "return 1", false)), ":1\r\n");
}

#[test]
fn memory_is_bounded() {
    for body in [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
        "local s = string.rep('x', 2^30)",
        "local t = {} for i = 1, 1e9 do t['k' .. i] = 'v' .. i end",
        "local t = {} for i = 1, 1e6 do t[i] = coroutine.create(function() end) coroutine.resume(t[i]) end",
        "local t = {} while true do t[#t + 1] = cjson.encode({string.rep('x', 100000), #t}) end",
        // Few tables, endless texts.
        "local t = {1} for i = 1, 60 do t = {t, t} end return cjson.encode(t)",
        "local t = {} for i = 1, 40 do t[i] = t end return cmsgpack.pack(t)",
        "local t = {} while true do t[#t + 1] = redis.call('echo', string.rep('x', 100000) .. #t) end",
    ] {
        let (mut lua, mut host) = (interpreter(), MockHost::default());
        host.verdict = Some(Verdict::Continue);
        let error = show(run_on(&mut lua, &mut host, body, false));
        assert!(error.contains("not enough memory"), "{body}: {error}");
        assert!(lua.memory_bytes() < 16 << 20, "{body}: {} bytes left", lua.memory_bytes());
        assert_eq!(show(run_on(&mut lua, &mut host, "return #('x'):rep(1000000)", false)), ":1000000\r\n");
    }
}

#[test]
fn a_full_unpack_leaves_room_for_the_reply() {
    let (mut lua, mut host) = (interpreter(), MockHost::default());
    let body = "local t = {'unknown'} for i = 2, 7999 do t[i] = i end return redis.pcall(unpack(t))";
    let reply = show(run_on(&mut lua, &mut host, body, false));
    assert_eq!(reply, "-ERR Unknown Redis command called from script\r\n");
    assert_eq!(host.calls[0].len(), 7999);
}

#[test]
fn a_script_may_catch_the_lack_of_memory_and_go_on() {
    let (mut lua, mut host) = (interpreter(), MockHost::default());
    let body = "local ok, e = pcall(string.rep, 'x', 2^30) return {tostring(ok), e}";
    let reply = show(run_on(&mut lua, &mut host, body, false));
    assert_eq!(reply, "*2\r\n$5\r\nfalse\r\n$17\r\nnot enough memory\r\n");
}

#[test]
fn recursion_is_bounded_in_every_form() {
    for body in [
        "local function f() return 1 + f() end return f()",
        "local function f() pcall(f) end f() return 1",
        "local function f() local ok, e = pcall(f) if not ok then error(e, 0) end end f()",
        "local function f() xpcall(f, f) end f() return 1",
        "local function f() string.gsub('x', 'x', f) end f()",
        "local function f() table.sort({2, 1}, f) end f()",
        "local function f() coroutine.wrap(f)() end f()",
        "local function f() coroutine.resume(coroutine.create(f)) end f() return 1",
        "local function f() load(f) end f()",
        "local t = {} setmetatable(t, {__tostring = function() return string.format('%s', t) end}) local s = tostring(t)",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k .. 'x'] end local v = t.x",
        "local t = setmetatable({}, {}) getmetatable(t).__eq = function(a, b) return a == b end local v = t == setmetatable({}, getmetatable(t))",
        "local s = string.rep('(', 100000) local f, e = loadstring('return ' .. s) error(e, 0)",
        "local s = string.rep('{', 100000) local f, e = loadstring('return ' .. s) error(e, 0)",
        "local f, e = loadstring(string.rep('function() return ', 100000)) error(e, 0)",
        "local v = string.find(string.rep('a', 300000), string.rep('a?', 300000) .. 'b')",
        "cjson.decode_max_depth(1000000) local v = cjson.decode(string.rep('[', 1000000))",
        "cjson.decode_max_depth(1000000) local v = cjson.decode(string.rep('{\"a\":', 1000000))",
        "cjson.encode_max_depth(1000000) local t = {} for i = 1, 100000 do t = {t} end local v = cjson.encode(t)",
        "local v = cmsgpack.unpack(string.rep('\\145', 1000000))",
        "local t = {} for i = 1, 100000 do t = {t} end return t",
    ] {
        let (mut lua, mut host) = (interpreter(), MockHost::default());
        // Whatever the answer is, there is one, and the interpreter is whole.
        let _ = run_on(&mut lua, &mut host, body, false);
        assert_eq!(show(run_on(&mut lua, &mut host, "return 1", false)), ":1\r\n", "after {body}");
    }
    assert!(error_of("local function f() string.gsub('x', 'x', f) end f()").contains("C stack overflow"));
}

/// CVE-2025-46817: an integer overflow in `unpack` crashed or ran code.
#[test]
fn cve_2025_46817_unpack_refuses_huge_ranges() {
    for arguments in [
        "{1, 2, 3}, -2, 2147483647",
        "{1, 2, 3}, 0, 2147483647",
        "{1, 2, 3}, -2147483648, 2147483647",
        "{}, 1, 8001",
    ] {
        let error = error_of(&format!("local v = unpack({arguments})"));
        assert_eq!(error, "ERR user_script:1: too many results to unpack", "{arguments}");
    }
    assert_eq!(eval("return select('#', unpack({}, 2147483640, 2147483647))"), ":8\r\n");
}

/// CVE-2025-46818: scripts could plant functions in the metatables of basic types and have others run them.
#[test]
fn cve_2025_46818_metatables_of_basic_types_are_out_of_reach() {
    for value in
        ["''", "nil", "1", "true", "function() end", "coroutine.create(function() end)", "cjson.null"]
    {
        let (mut lua, mut host) = (interpreter(), MockHost::default());
        let body = format!("local v = {value} getmetatable(v).__index = function() return 'planted' end");
        assert!(run_on(&mut lua, &mut host, &body, false).is_err(), "{value}");
        let body =
            format!("local v = {value} rawset(getmetatable(v), '__index', function() return 'planted' end)");
        assert!(run_on(&mut lua, &mut host, &body, false).is_err(), "{value}");
        let probe =
            format!("local v = {value} local ok, r = pcall(function() return v.planted end) return {{r}}");
        let reply = show(run_on(&mut lua, &mut host, &probe, false));
        assert!(!reply.contains("\r\nplanted\r\n"), "{value}: {reply}");
    }
}

/// CVE-2025-46819: a long bracket with many levels made the lexer read out of bounds.
#[test]
fn cve_2025_46819_long_brackets_of_many_levels_are_read_in_bounds() {
    for level in [1, 1000, 100_000, 3_000_000] {
        let bars = "=".repeat(level);
        assert_eq!(eval(format!("return [{bars}[x]{bars}]")), "$1\r\nx\r\n");
        assert!(error_of(&format!("return [{bars}[x")).contains("unfinished long string"));
        assert!(eval(format!("return [{bars}")).starts_with("-ERR Error compiling script"));
        assert!(eval(format!("--[{bars}[ x")).starts_with("-ERR Error compiling script"));
    }
}

/// CVE-2025-49844: the name of a chunk was freed by the collector while the parser still used it.
#[test]
fn cve_2025_49844_chunk_names_survive_the_collector() {
    let body = "for i = 1, 200 do
            local name = '@' .. string.rep('n', 1000) .. i
            local f, e = loadstring('local x = ' .. string.rep('{', 150) .. string.rep('}', 150) .. ' return +', name)
            collectgarbage()
            assert(not f and e:find('nnn', 1, true), e)
            local g = loadstring('error(\"x\")', name .. 'g')
            name = nil collectgarbage()
            local ok, m = pcall(g)
            assert(not ok and m:find('nnn', 1, true), m)
            local n = 0
            load(function() n = n + 1 collectgarbage() return n < 50 and 'local a' .. n .. ' = ' .. n .. ' ' or nil end, '@' .. string.rep('m', 500) .. i)
        end return 1";
    let (mut lua, mut host) =
        (interpreter(), MockHost { verdict: Some(Verdict::Continue), ..MockHost::default() });
    assert_eq!(show(run_on(&mut lua, &mut host, body, false)), ":1\r\n");
}

#[test]
fn compiled_scripts_are_kept_up_to_a_bound() {
    let limits = Limits { memory_bytes_max: 32 << 20, compiled_len_max: 8 };
    let mut lua = Interpreter::new(limits, watchdog()).unwrap();
    let mut host = MockHost::default();
    for round in 0..3 {
        for n in 0..50 {
            let reply = run_on(&mut lua, &mut host, format!("return {n}"), false).unwrap();
            assert_eq!(reply, format!(":{n}\r\n").as_bytes(), "round {round}");
            assert!(lua.compiled_len() <= 8);
        }
    }
    lua.forget();
    assert_eq!(lua.compiled_len(), 0);
    assert_eq!(show(run_on(&mut lua, &mut host, "return 5", false)), ":5\r\n");
    assert!(lua.compile(&script("return 1 +")).is_err());
    assert_eq!(lua.compiled_len(), 1);
}
