//! The same arguments and the same input give the same bytes and the same exit code as Debian's redis-cli, on Thali
//! and on redis-server.

use std::path::Path;

use thali_testkit::{Running, start_redis, start_thali};

use crate::{port, redis_cli, run, text, thali_cli};

const SEED: &[u8] = b"FLUSHALL\nSET s hello\nSET n 41\nRPUSH l a b c\nSADD set m\nHSET h f1 v1 f2 v2\n\
    ZADD z 1 a 2.5 b inf c\nXADD x 1-1 f v\nXADD x 1-2 g w\nSET bin \"a\\x00\\xff\\n\\t\\\"\\\\ \xc3\xa9\\x1b\"\n";

const FORMS: [&str; 11] = [
    "",
    "--no-raw",
    "--csv",
    "--json",
    "--quoted-json",
    "-3",
    "-3 --no-raw",
    "-3 --csv",
    "-3 --json",
    "-2 --json",
    "-d , -D |",
];

/// Commands, each in every form.
const COMMANDS: [&str; 27] = [
    "get s",
    "get bin",
    "get none",
    "get l",
    "lrange l 0 -1",
    "lrange none 0 -1",
    "lpop none",
    "hgetall h",
    "hgetall none",
    "smembers set",
    "smembers none",
    "zrange z 0 -1 withscores",
    "zscore z b",
    "zadd z incr 1.5 a",
    "incr n",
    "exists s",
    "type s",
    "ping",
    "nosuch",
    "xrange x - +",
    "xread streams x 0",
    "config get maxmemory-samples",
    "object encoding s",
    "client getname",
    "geopos none a",
    "select 99",
    "command count x",
];

/// Lines from stdin, each in some forms.
const LINES: [&[u8]; 30] = [
    b"ping\n",
    b"",
    b"\n\n",
    b"   \nping",
    b"set a 1\nget a\nincr a\n",
    b"get \"open\nping\n",
    b"set q 'a\\'b'\nget q\n",
    b"set q \"\\x41\\n\"\nget q\n",
    b"get bin\nnosuch\nlrange l 0 -1\n",
    b"echo \xff\xfe\n",
    b"get s x\r\nget s\r\n",
    b"3 incr n\n",
    b"0 ping\n",
    b"-1 ping\n",
    b"99999999999999999999 ping\n",
    b"multi\nset a 1\nget a\nexec\n",
    b"multi\nselect 3\ndiscard\nset a 1\n",
    b"select 4\nset b 1\ndbsize\n",
    b"select 99\nping\n",
    b"quit\nping\n",
    b"EXIT\n",
    b":set hints\n:set nosuch\n:nosuch\n",
    b"info nosuch\n",
    b"hello 9\nping\n",
    b"auth bad\nping\n",
    b"clear\nping\n",
    b"connect 127.0.0.1 1\nping\n",
    b"reset\nping\n",
    b"eval \"return {1,{2,{3,'x'}},'y'}\" 0\n",
    b"eval 'redis.setresp(3); return {double=3.25}' 0\n",
];

struct Judge<'a> {
    server: &'a Running,
    differences: Vec<String>,
    cases: usize,
}

impl Judge<'_> {
    /// Both clients, each on the same data.
    fn compare(&mut self, args: &[&str], input: &[u8]) {
        let port = port(&self.server.store);
        let args = [&["-p", port], args].concat();
        let judged = [redis_cli(), thali_cli()].map(|client| {
            run(redis_cli(), &["-p", port], SEED).unwrap();
            let output = run(client, &args, input).unwrap();
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            (text(&output.stdout), text(&output.stderr), output.status.code())
        });
        self.cases += 1;
        if judged[0] != judged[1] {
            let line = format!("{args:?} < {}", input.escape_ascii());
            self.differences
                .push(format!("{line}\n  redis-cli {:?}\n  thali cli {:?}", judged[0], judged[1]));
        }
    }

    fn compare_line(&mut self, line: &str) {
        let args: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        self.compare(&args, b"");
    }
}

/// Arguments that are no matter of forms.
fn arguments(judge: &mut Judge<'_>, folder: &Path) {
    for line in [
        "-r 3 incr n",
        "-r 0 ping",
        "-r 2 -i 0.01 ping",
        "-n 2 set a b",
        "-n 99 ping",
        "-n x ping",
        "-e nosuch",
        "-e get s",
        "-e --no-raw lpush s x",
        "-a bad ping",
        "-a bad --no-auth-warning ping",
        "--user u --pass p ping",
        "-u http://x ping",
        "-u redis://127.0.0.1/3 set u 1",
        "-u redis://u:p@127.0.0.1/0 ping",
        "-h 127.0.0.1 ping",
        "-h nosuch.invalid ping",
        "-p 1 ping",
        "-p 1 --scan",
        "-s /nonexistent ping",
        "-p",
        "--nosuch",
        "-2 -3 ping",
        "-c -s /x ping",
        "-x -X t get",
        "--rdb a --functions-rdb b",
        "--show-pushes maybe ping",
        "--quoted-input get \"bad",
        "--quoted-input set \"k\\x00\" v",
        "--scan --pattern l*",
        "--scan --no-raw --pattern bin",
        "--scan --quoted-pattern \"b\\x69n\"",
        "--scan --quoted-pattern \"b",
        // All keys: redis-cli's order of types depends on how often its table was asked.
        "--bigkeys",
        "--memkeys",
        "--memkeys-samples 5",
        "--hotkeys",
        "--eval /nonexistent",
    ] {
        judge.compare_line(line);
    }
    judge.compare(&["--quoted-input", "set", "a", "\"x y\""], b"");
    judge.compare(&["-d", "--", "-D", "\n\n", "-3", "hgetall", "h"], b"");
    judge.compare(&["-x", "set", "k"], b"from stdin\n");
    judge.compare(&["-X", "TAG", "set", "TAG", "v"], b"k\x00k");
    judge.compare(&["-X", "TAG", "set", "other", "v"], b"kk");
    judge.compare(&["-e"], b"nosuch\nping\n");
    judge.compare(&["-p", "1"], b"ping\nping\n");
    judge.compare(&["--pipe"], b"set a b\r\n*1\r\n$4\r\nPING\r\nnosuch\r\n");
    judge.compare(&["--pipe"], b"");
    judge.compare(&["--pipe"], "SET k v\r\n".repeat(20_000).as_bytes());
    let script = folder.join("script.lua");
    std::fs::write(&script, "return {KEYS[1], ARGV[1], {1, {3}}, redis.error_reply('My err'), false}")
        .unwrap();
    for form in ["--no-raw", "--json"] {
        judge.compare(&[form, "--eval", &text(&script), "a", "b", ",", "c"], b"");
    }
}

fn judge(server: &Running) {
    let mut judge = Judge { server, differences: Vec::new(), cases: 0 };
    for form in FORMS {
        COMMANDS.iter().for_each(|command| judge.compare_line(&format!("{form} {command}")));
    }
    for form in ["", "--no-raw", "-3 --no-raw", "--json"] {
        let args: Vec<&str> = form.split(' ').filter(|word| !word.is_empty()).collect();
        LINES.iter().for_each(|lines| judge.compare(&args, lines));
    }
    let folder = tempfile::tempdir().unwrap();
    arguments(&mut judge, folder.path());
    let Judge { differences, cases, .. } = judge;
    assert!(differences.is_empty(), "{} of {cases} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn output_and_exit_codes_are_those_of_redis_cli_on_redis() {
    judge(&start_redis(&[]).unwrap());
}

#[test]
fn output_and_exit_codes_are_those_of_redis_cli_on_thali() {
    judge(&start_thali(Default::default()).unwrap());
}

#[test]
fn every_type_of_resp3_is_shown_as_redis_cli_shows_it() {
    let server = start_redis(&["--enable-debug-command", "yes"]).unwrap();
    let mut judge = Judge { server: &server, differences: Vec::new(), cases: 0 };
    let types =
        ["string", "integer", "double", "null", "array", "set", "map", "push", "verbatim", "true", "false"];
    for form in FORMS {
        types.iter().for_each(|name| judge.compare_line(&format!("{form} debug protocol {name}")));
    }
    assert!(judge.differences.is_empty(), "{}", judge.differences.join("\n"));
}

#[test]
fn passwords_come_from_the_environment_and_the_arguments_rule() {
    let server = start_redis(&["--requirepass", "secret"]).unwrap();
    let port = port(&server.store);
    for (args, environment, stdout) in [
        (&["ping"][..], "secret", "PONG\n"),
        (&["ping"], "wrong", "NOAUTH Authentication required.\n\n"),
        (&["--no-auth-warning", "-a", "secret", "ping"], "wrong", "PONG\n"),
        (&["--no-auth-warning", "--user", "default", "--pass", "secret", "ping"], "", "PONG\n"),
    ] {
        for client in [redis_cli(), thali_cli()] {
            let mut client = client;
            client.args(["-p", port]).args(args).env("REDISCLI_AUTH", environment);
            let output = crate::run_as_it_is(client, b"").unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{args:?} {environment}");
        }
    }
    let output = run(thali_cli(), &["-p", port, "--askpass", "ping"], b"secret\n").unwrap();
    assert_eq!(output.stdout, b"PONG\n");
}
