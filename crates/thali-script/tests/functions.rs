//! Libraries of functions: what they see, what they may register, and the errors they meet, in the wording of
//! redis-server 7.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{MockHost, show, watchdog};
use thali_script::{Call, Flags, Libraries, Library, LibraryText, Limits, LogLevel, Verdict};

const LOAD_TIME_MAX: Duration = Duration::from_millis(200);

fn libraries() -> Libraries {
    Libraries::new(Limits { memory_bytes_max: 32 << 20, ..Limits::default() }, watchdog()).unwrap()
}

fn load_on(libraries: &mut Libraries, name: &str, code: &str) -> Result<Arc<Library>, String> {
    let text = LibraryText::new(format!("#!lua name={name}\n{code}").as_bytes()).unwrap();
    libraries.load(text, LOAD_TIME_MAX, &mut |_, _| {}).map_err(|error| error.to_string())
}

fn load(code: &str) -> Result<Arc<Library>, String> {
    load_on(&mut libraries(), "lib", code)
}

/// What a function of the library replies; errors as `-text`.
fn call(libraries: &mut Libraries, library: &Arc<Library>, function: &str) -> String {
    let at = library.functions().iter().position(|f| f.name == function).expect("the function is there");
    let mut out = Vec::new();
    let arguments = Call { keys: &[b"k1"], args: &[b"a1", b"a2"], resp3: false };
    let result = libraries.run(library, at, arguments, &mut MockHost::default(), &mut out);
    show(result.map(|()| out))
}

/// The reply of a function with this body, on the second line of its library.
fn reply_of(body: &str) -> String {
    let mut libraries = libraries();
    let code = format!("redis.register_function('f', function(keys, args) {body} end)");
    let library = load_on(&mut libraries, "lib", &code).unwrap();
    call(&mut libraries, &library, "f")
}

#[test]
fn functions_are_registered_in_both_forms() {
    let library = load(
        "redis.register_function('plain', function() end)
         server.register_function{
             FUNCTION_NAME = 'named', callback = function() end, description = 'what it does',
             flags = {'no-writes', 'ALLOW-OOM', 'allow-stale', 'no-cluster', 'allow-cross-slot-keys'},
         }
         redis.register_function(1, function() end)",
    )
    .unwrap();
    let [plain, named, number] = library.functions() else { panic!("{library:?}") };
    assert_eq!((&*plain.name, &plain.description), ("plain", &None));
    assert_eq!(plain.flags, Flags { declared: true, ..Flags::default() });
    assert_eq!((&*named.name, named.description.as_deref()), ("named", Some(&b"what it does"[..])));
    let names: Vec<_> = named.flags.names().collect();
    assert_eq!(names, ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"]);
    assert_eq!(number.name, "1");
}

#[test]
fn what_cannot_be_registered_is_refused_in_redis_words() {
    let bad_name = "Library names can only contain letters, numbers, or underscores(_) and must be at least one \
                    character long";
    for (code, error) in [
        ("redis.register_function()", "wrong number of arguments to redis.register_function"),
        ("redis.register_function(1, 2, 3)", "wrong number of arguments to redis.register_function"),
        (
            "server.register_function('f')",
            "calling server.register_function with a single argument is only applicable to Lua table (representing \
             named arguments).",
        ),
        (
            "redis.register_function(nil, function() end)",
            "first argument to redis.register_function must be a string",
        ),
        (
            "redis.register_function('f', 'g')",
            "second argument to redis.register_function must be a function",
        ),
        ("redis.register_function('a b', function() end)", bad_name),
        ("redis.register_function('', function() end)", bad_name),
        ("redis.register_function('a\\0', function() end)", bad_name),
        (
            "redis.register_function('f', function() end) redis.register_function('f', function() end)",
            "Function already exists in the library",
        ),
        (
            "redis.register_function('f', function() end) redis.register_function('F', function() end)",
            "Function already exists in the library",
        ),
        (
            "redis.register_function{callback = function() end}",
            "redis.register_function must get a function name argument",
        ),
        (
            "redis.register_function{function_name = 'f'}",
            "redis.register_function must get a callback argument",
        ),
        ("redis.register_function{some = 1}", "unknown argument given to redis.register_function"),
        ("redis.register_function{1}", "unknown argument given to redis.register_function"),
        (
            "redis.register_function{[true] = 1}",
            "named argument key given to redis.register_function is not a string",
        ),
        (
            "redis.register_function{function_name = {}}",
            "function_name argument given to redis.register_function must be a string",
        ),
        (
            "redis.register_function{description = {}}",
            "description argument given to redis.register_function must be a string",
        ),
        (
            "redis.register_function{callback = 'f'}",
            "callback argument given to redis.register_function must be a function",
        ),
        (
            "redis.register_function{flags = 'no-writes'}",
            "flags argument to redis.register_function must be a table representing function flags",
        ),
        ("redis.register_function{flags = {'no-reads'}}", "unknown flag given"),
        ("redis.register_function{flags = {function() end}}", "unknown flag given"),
        ("redis.log()", "redis.log() requires two arguments or more."),
        (
            "redis.register_function{function_name = 'f', callback = function() end, description = ('x'):rep(2^20)}",
            "the library's functions have too many bytes of names and descriptions",
        ),
        ("while true do end", "FUNCTION LOAD timeout"),
        ("local x = nil x.y = 1", "user_function:2: attempt to index local 'x' (a nil value)"),
        ("a = 1", "user_function:2: Attempt to modify a readonly table"),
        ("redis.x = 1", "user_function:2: Attempt to modify a readonly table"),
    ] {
        assert_eq!(
            load(code).unwrap_err(),
            format!("ERR Error registering functions: ERR {error}"),
            "{code}"
        );
    }
    assert_eq!(load("return 1").unwrap_err(), "ERR No functions registered");
    assert!(load("bad script").unwrap_err().starts_with("ERR Error compiling function: user_function:2: "));
    assert!(load("\u{1b}LJ\u{2}").unwrap_err().starts_with("ERR Error compiling function: "));
}

#[test]
fn a_library_sees_little_while_it_is_loaded() {
    for name in
        ["math", "string", "pairs", "error", "getmetatable", "_G", "KEYS", "os", "cjson", "loadstring"]
    {
        let error =
            format!("user_function:2: Script attempted to access nonexistent global variable '{name}'");
        let loaded = load(&format!("local v = {name}"));
        assert_eq!(loaded.unwrap_err(), format!("ERR Error registering functions: ERR {error}"));
    }
    for name in ["call", "pcall", "setresp", "set_repl", "acl_check_cmd", "sha1hex", "REPL_ALL"] {
        let error =
            format!("user_function:2: Script attempted to access nonexistent global variable '{name}'");
        let loaded = load(&format!("local v = redis.{name}"));
        assert_eq!(loaded.unwrap_err(), format!("ERR Error registering functions: ERR {error}"));
    }
    let mut logged = Vec::new();
    let code =
        "redis.log(redis.LOG_WARNING, redis.REDIS_VERSION) redis.register_function('f', function() end)";
    let text = LibraryText::new(format!("#!lua name=lib\n{code}").as_bytes()).unwrap();
    let mut log = |level: LogLevel, message: &[u8]| logged.push((level, message.to_vec()));
    libraries().load(text, LOAD_TIME_MAX, &mut log).unwrap();
    assert_eq!(logged, [(LogLevel::Warning, b"7.2.4".to_vec())]);
}

#[test]
fn functions_see_what_scripts_see_but_keys_and_argv() {
    assert_eq!(reply_of("return {keys, args}"), "*2\r\n*1\r\n$2\r\nk1\r\n*2\r\n$2\r\na1\r\n$2\r\na2\r\n");
    assert_eq!(reply_of("return redis.call('ping')"), "+PONG\r\n");
    assert_eq!(reply_of("return cjson.encode({math.floor(1.5)})"), "$3\r\n[1]\r\n");
    assert_eq!(
        reply_of(
            "local t = {} for k in pairs(_G) do t[#t + 1] = k end table.sort(t) return table.concat(t, ' ')"
        ),
        "$249\r\n_G _VERSION assert bit cjson cmsgpack collectgarbage coroutine error gcinfo getmetatable ipairs load \
         loadstring math next os pairs pcall rawequal rawget rawset redis select server setmetatable string struct \
         table tonumber tostring type unpack xpcall\r\n"
    );
    assert_eq!(
        reply_of(
            "return {tostring(redis.breakpoint), tostring(redis.debug), tostring(redis.register_function)}"
        ),
        "*3\r\n$3\r\nnil\r\n$3\r\nnil\r\n$3\r\nnil\r\n"
    );
}

#[test]
fn errors_name_the_function_and_the_line() {
    for (body, error) in [
        ("local x = nil x.y = 1", "ERR user_function:2: attempt to index local 'x' (a nil value)"),
        ("return redis.call('foo')", "ERR Unknown Redis command called from script"),
        ("return error('x')", "ERR user_function:2: x"),
        ("error({err = 'My x'})", "My x"),
        (
            "return KEYS[1]",
            "ERR user_function:2: Script attempted to access nonexistent global variable 'KEYS'",
        ),
        ("x = 1", "ERR user_function:2: Attempt to modify a readonly table"),
        (
            "redis.register_function('g', function() end)",
            "ERR user_function:2: attempt to call field 'register_function' (a nil value)",
        ),
    ] {
        assert_eq!(reply_of(body), format!("-{error} script: f, on @user_function:2.\r\n"), "{body}");
    }
    let tail = reply_of("\n\n return redis.call('foo')\n");
    assert!(tail.ends_with(" script: f, on @user_function:4.\r\n"), "{tail}");
}

#[test]
fn what_loading_gave_is_of_no_use_later() {
    let mut libraries = libraries();
    let code = "local lib = redis
        redis.register_function('register', function() lib.register_function('x', function() end) end)
        redis.register_function('write', function() lib.call = 1 end)
        redis.register_function('missing', function() return lib.call end)";
    let library = load_on(&mut libraries, "lib", code).unwrap();
    for (function, error) in [
        ("register", "ERR redis.register_function can only be called on FUNCTION LOAD command"),
        ("write", "ERR user_function:4: Attempt to modify a readonly table"),
        ("missing", "ERR user_function:5: Script attempted to access nonexistent global variable 'call'"),
    ] {
        let reply = call(&mut libraries, &library, function);
        assert!(reply.starts_with(&format!("-{error} script: ")), "{reply}");
    }
}

#[test]
fn libraries_share_nothing() {
    let mut libraries = libraries();
    let leak = "local own = 1
        redis.register_function('leak', function()
            own = own + 1
            for _, t in pairs({_G, redis, string, math, cjson}) do pcall(rawset, t, 'leak', own) end
            pcall(function() leak = own end)
            local lib = {} for k, v in pairs(string) do lib[k] = v end lib.len = nil
            return own
        end)";
    let look = "local own = 10
        redis.register_function('look', function()
            return {own, tostring(rawget(_G, 'leak')), tostring(string.leak), ('x'):len()}
        end)";
    let leak = load_on(&mut libraries, "one", leak).unwrap();
    let look = load_on(&mut libraries, "two", look).unwrap();
    assert_eq!(call(&mut libraries, &leak, "leak"), ":2\r\n");
    assert_eq!(call(&mut libraries, &leak, "leak"), ":3\r\n", "its own locals stay");
    assert_eq!(call(&mut libraries, &look, "look"), "*4\r\n:10\r\n$3\r\nnil\r\n$3\r\nnil\r\n:1\r\n");
}

#[test]
fn bytecode_cannot_be_loaded() {
    for body in [
        "return select(2, loadstring(string.dump(function() return 1 end)))",
        "return select(2, load('\\27LJ', 'x', 'b'))",
    ] {
        assert_eq!(reply_of(body), "$30\r\nattempt to load a binary chunk\r\n");
    }
}

#[test]
fn a_library_is_loaded_where_it_was_not_and_forgotten_where_it_was_replaced() {
    let (mut here, mut there) = (libraries(), libraries());
    let code = |n: u32| format!("redis.register_function('f', function() return {n} end)");
    let old = load_on(&mut here, "lib", &code(1)).unwrap();
    assert_eq!(call(&mut there, &old, "f"), ":1\r\n");
    let new = load_on(&mut here, "lib", &code(2)).unwrap();
    assert_eq!(call(&mut there, &new, "f"), ":2\r\n");
    assert_eq!(call(&mut there, &old, "f"), ":1\r\n", "who began with the old one ends with it");
    assert_eq!((here.loaded_len(), there.loaded_len()), (1, 1));
    there.retain(|library| Arc::ptr_eq(library, &new));
    assert_eq!(there.loaded_len(), 0);
    assert_eq!(call(&mut there, &new, "f"), ":2\r\n");
}

#[test]
fn replaced_libraries_leave_no_memory_behind() {
    let mut libraries = libraries();
    let big =
        format!("local t = '{}' redis.register_function('f', function() return #t end)", "x".repeat(1 << 20));
    let mut last = None;
    for _ in 0..100 {
        last = Some(load_on(&mut libraries, "lib", &big).unwrap());
    }
    assert_eq!(call(&mut libraries, &last.unwrap(), "f"), ":1048576\r\n");
    for n in 0..100 {
        load_on(&mut libraries, &format!("lib{n}"), &big.replace("'f'", &format!("'f{n}'"))).unwrap();
    }
    assert!(libraries.memory_bytes() < 32 << 20);
}

#[test]
fn a_failed_load_keeps_what_was_there() {
    let mut libraries = libraries();
    let library =
        load_on(&mut libraries, "lib", "redis.register_function('f', function() return 1 end)").unwrap();
    for code in ["while true do end", "bad script", "local x = math", "return 1", "local t = ('x'):rep(2^28)"]
    {
        load_on(&mut libraries, "lib", code).unwrap_err();
        assert_eq!(call(&mut libraries, &library, "f"), ":1\r\n", "{code}");
        assert_eq!(libraries.loaded_len(), 1);
    }
}

#[test]
fn a_busy_function_is_killed() {
    let mut libraries = libraries();
    let code = "redis.register_function('f', function() while true do pcall(function() while true do end end) end end)";
    let library = load_on(&mut libraries, "lib", code).unwrap();
    let reply = call(&mut libraries, &library, "f");
    assert_eq!(reply, "-ERR Script killed by user with SCRIPT KILL... script: f, on @user_function:2.\r\n");
    let mut host = MockHost { verdict: Some(Verdict::Abort), ..MockHost::default() };
    let mut out = Vec::new();
    let arguments = Call { keys: &[], args: &[], resp3: false };
    assert!(libraries.run(&library, 0, arguments, &mut host, &mut out).unwrap_err().reply().is_none());
}
