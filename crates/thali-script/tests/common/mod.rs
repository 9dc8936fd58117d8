//! A small host with strings and lists, and one-line ways to run a script against it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use thali_script::{
    Abort, Call, Host, Interpreter, Limits, LogLevel, Resp, Script, ScriptError, Verdict, Watchdog,
};

/// Runs longer than this are busy in tests.
pub const THRESHOLD: Duration = Duration::from_millis(30);

#[derive(Default)]
pub struct MockHost {
    pub strings: HashMap<Vec<u8>, Vec<u8>>,
    pub calls: Vec<Vec<Vec<u8>>>,
    pub logged: Vec<(LogLevel, Vec<u8>)>,
    pub resp: Resp,
    pub replication: Option<u8>,
    pub verdict: Option<Verdict>,
    pub asked: usize,
}

impl Host for MockHost {
    fn call(&mut self, args: &[&[u8]], reply: &mut Vec<u8>) -> Result<(), Abort> {
        assert!(reply.is_empty());
        self.calls.push(args.iter().map(|arg| arg.to_vec()).collect());
        match (args[0].to_ascii_uppercase().as_slice(), &args[1..]) {
            (b"PING", []) => reply.extend_from_slice(b"+PONG\r\n"),
            (b"ECHO", [text]) => bulk(reply, text),
            (b"SET", [key, value]) => {
                self.strings.insert(key.to_vec(), value.to_vec());
                reply.extend_from_slice(b"+OK\r\n");
            }
            (b"GET", [key]) => match self.strings.get(*key) {
                Some(value) => bulk(reply, value),
                None if self.resp == Resp::V3 => reply.extend_from_slice(b"_\r\n"),
                None => reply.extend_from_slice(b"$-1\r\n"),
            },
            // Answers with its argument as the reply itself.
            (b"RAW", [text]) => reply.extend_from_slice(text),
            (b"ABORT", []) => return Err(Abort),
            (b"PANIC", []) => panic!("the host panicked on purpose"),
            _ => reply.extend_from_slice(b"-ERR Unknown Redis command called from script\r\n"),
        }
        Ok(())
    }

    fn set_resp(&mut self, resp: Resp) {
        self.resp = resp;
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        self.logged.push((level, message.to_vec()));
    }

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        match args[0] {
            b"get" => Some(true),
            b"set" => Some(false),
            _ => None,
        }
    }

    fn set_replication(&mut self, flags: u8) {
        self.replication = Some(flags);
    }

    fn busy(&mut self) -> Verdict {
        self.asked += 1;
        self.verdict.unwrap_or(Verdict::Kill)
    }
}

fn bulk(reply: &mut Vec<u8>, text: &[u8]) {
    reply.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
    reply.extend_from_slice(text);
    reply.extend_from_slice(b"\r\n");
}

pub fn watchdog() -> &'static Arc<Watchdog> {
    static WATCHDOG: OnceLock<Arc<Watchdog>> = OnceLock::new();
    WATCHDOG.get_or_init(|| Watchdog::start(THRESHOLD).unwrap())
}

pub fn interpreter() -> Interpreter {
    Interpreter::new(Limits { memory_bytes_max: 32 << 20, ..Limits::default() }, watchdog()).unwrap()
}

pub fn script(body: impl AsRef<[u8]>) -> Script {
    Script::new(body.as_ref()).unwrap()
}

pub fn run_on(
    interpreter: &mut Interpreter,
    host: &mut MockHost,
    body: impl AsRef<[u8]>,
    resp3: bool,
) -> Result<Vec<u8>, ScriptError> {
    let mut out = Vec::new();
    let keys: [&[u8]; 2] = [b"k1", b"k2"];
    let args: [&[u8]; 2] = [b"a1", b"a2"];
    interpreter.run(&script(body), Call { keys: &keys, args: &args, resp3 }, host, &mut out)?;
    Ok(out)
}

/// The reply of a script on a fresh interpreter, in RESP2; errors as `-text`.
pub fn eval(body: impl AsRef<[u8]>) -> String {
    eval_as(body, false)
}

pub fn eval3(body: impl AsRef<[u8]>) -> String {
    eval_as(body, true)
}

fn eval_as(body: impl AsRef<[u8]>, resp3: bool) -> String {
    show(run_on(&mut interpreter(), &mut MockHost::default(), body, resp3))
}

pub fn show(result: Result<Vec<u8>, ScriptError>) -> String {
    match result {
        Ok(reply) => String::from_utf8_lossy(&reply).into_owned(),
        Err(error) => format!("-{}\r\n", String::from_utf8_lossy(error.reply().unwrap_or(b"(aborted)"))),
    }
}

/// The error of a script without ` script: <sha>, on …`.
pub fn error_of(body: &str) -> String {
    let reply = eval(body);
    let text = reply.strip_prefix('-').unwrap_or_else(|| panic!("no error: {reply}")).trim_end();
    text.split(" script: ").next().unwrap_or_default().to_owned()
}

/// The string that a script returns.
pub fn text_of(body: impl AsRef<[u8]>) -> String {
    let reply = eval(body);
    let Some((header, text)) = reply.split_once("\r\n") else { panic!("no reply: {reply}") };
    assert!(header.starts_with('$'), "no string: {reply}");
    text.strip_suffix("\r\n").unwrap_or(text).to_owned()
}
